"""Results from elsewhere: united with what is here, twice is once, and what does not belong is refused and named."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import STARTED, MakeTrack, Toy, benchmark, case_of, failed, measured, one_line
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlx_velocity import comparison, comparisons, environments, machine, readings, records, results, tracks
from mlx_velocity.commands import importing
from mlx_velocity.commands.importing import ImportOptions
from mlx_velocity.errors import InputError
from mlx_velocity.offline import merge

TOY = benchmark("toy.time_it")
CASE = case_of(TOY)
LAUNCH = records.Launch("first", STARTED, [1], {"toy": "2.0"}, 0.1)
GPU = {
    "machine": "gpu",
    "os": "Linux 6",
    "arch": "x86_64",
    "cpu": "x",
    "num_cpu": "8",
    "ram": "1",
    "gpu": "H200",
}


@dataclasses.dataclass
class Elsewhere:
    """Results on another machine: a track's folder, whose machine is called `gpu`."""

    track: tracks.Track
    folder: Path
    commit: str

    @property
    def file(self) -> Path:
        name = environments.name_of(self.track, "3.12", "cuda")
        return self.folder / "gpu" / f"{self.commit[:8]}-{name}{readings.SUFFIX}"

    def write(self, *lines: records.Reading) -> None:
        self.file.unlink(missing_ok=True)
        readings.append(self.file, lines)

    @property
    def here(self) -> Path:
        return self.track.results_dir / "gpu" / self.file.name

    def import_(self, **options: Any) -> tuple[int, str]:
        console = Console(file=io.StringIO(), width=200)
        given = ImportOptions(
            **{"folder": self.folder, "machine": None, "dry_run": False, "quiet": False, **options}
        )
        code = importing.import_all(lambda _: self.track, None, given, console)
        assert isinstance(console.file, io.StringIO)
        return code, console.file.getvalue()


@pytest.fixture
def elsewhere(make_track: MakeTrack, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """One measurement of a commit that the track has."""
    monkeypatch.setattr(importing, "_benchmarks", lambda _: {"toy.time_it": TOY})
    track = dataclasses.replace(make_track(), name="toy")
    track.conf.repo = toy.path
    found = Elsewhere(track, tmp_path / "from" / "toy", toy.commits["two"])
    (found.folder / "gpu").mkdir(parents=True)
    (found.folder / "gpu" / "machine.json").write_text(machine.text_of(GPU), "utf-8")
    found.write(LAUNCH, measured(CASE, [2.0, 4.0]))
    return found


def test_results_come_and_twice_is_once(elsewhere: Elsewhere) -> None:
    """Readings come as they are, asv's file is derived from them, and a second time changes nothing and says so."""
    code, said = elsewhere.import_()
    assert (code, "2 lines came" in said) == (0, True)
    assert readings.read(elsewhere.here) == readings.read(elsewhere.file)
    derived = elsewhere.here.with_name(elsewhere.here.name.replace(readings.SUFFIX, ".json"))
    found = json.loads(derived.read_text("utf-8"))
    assert found["params"]["gpu"] == "H200"
    assert found["commit_hash"] == elsewhere.commit
    assert found["results"]["toy.time_it"][0] == [3.0]
    before = {path: path.stat().st_mtime_ns for path in elsewhere.track.results_dir.rglob("*")}
    code, said = elsewhere.import_()
    assert (code, "Nothing new" in said) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in elsewhere.track.results_dir.rglob("*")} == before


def test_a_dry_run_changes_nothing(elsewhere: Elsewhere) -> None:
    """A dry run says what would come, and leaves no file behind."""
    code, said = elsewhere.import_(dry_run=True)
    assert (code, "2 lines would come" in said) == (0, True)
    assert not elsewhere.track.results_dir.exists()


def test_more_is_added(elsewhere: Elsewhere) -> None:
    """What was measured since the last import joins it, and the median is of both launches."""
    elsewhere.import_()
    elsewhere.write(
        LAUNCH,
        measured(CASE, [2.0, 4.0]),
        dataclasses.replace(LAUNCH, launch="second"),
        measured(CASE, [9.0], "second"),
    )
    code, said = elsewhere.import_()
    assert (code, "2 lines came" in said, "1 that grew" in said) == (0, True, True)
    assert len(readings.read(elsewhere.here)[0]) == 4


def test_a_failure_that_was_tried_again(elsewhere: Elsewhere) -> None:
    """A failure is no failure any more once the case was measured later, there or here."""
    failure = dataclasses.replace(failed(CASE), started="2026-01-01T00:00:00.000Z")
    elsewhere.write(records.Failure("failed", "no wheel", started="2026-01-01T00:00:00.000Z"), failure)
    elsewhere.import_()
    assert len(readings.read(elsewhere.here)[0]) == 2
    elsewhere.write(LAUNCH, measured(CASE, [2.0]))
    elsewhere.import_()
    assert [item.kind for item in readings.read(elsewhere.here)[0]] == ["launch", "measurement"]


def test_nothing_is_overwritten(elsewhere: Elsewhere) -> None:
    """The same launch with other samples is refused, and what is here stays."""
    elsewhere.import_()
    before = elsewhere.here.read_bytes()
    elsewhere.write(LAUNCH, measured(CASE, [7.0]))
    code, said = elsewhere.import_()
    assert (code, "says something else here" in said) == (2, True)
    assert elsewhere.here.read_bytes() == before


def test_what_does_not_belong_is_refused(elsewhere: Elsewhere) -> None:
    """Unknown commits, other pins, results without readings and names that say nothing are counted, each with its reason."""
    good = elsewhere.file
    for name in (
        good.name.replace(elsewhere.commit[:8], "deadbeef"),
        good.name.replace("backendcuda", "backendcuda-mlx0.31.2"),
        f"notes{readings.SUFFIX}",
        "stock-virtualenv.json",
    ):
        shutil.copy(good, good.with_name(name))
    code, said = elsewhere.import_()
    assert (code, "4 refused" in said, "2 lines came" in said) == (2, True, True)
    for reason in ("has no commit deadbeef", "other packages", "its name says no commit", "no readings"):
        assert reason in said
    assert [path.name for path in elsewhere.here.parent.glob(f"*{readings.SUFFIX}")] == [good.name]


def test_a_line_that_is_none(elsewhere: Elsewhere) -> None:
    """A corrupt line stays where it was, is named, and the rest of its file comes."""
    with elsewhere.file.open("a", encoding="utf-8") as file:
        file.write('{"format": 1, "kind"\n')
    code, said = elsewhere.import_()
    assert (code, "left out" in said, "1 unreadable line" in said) == (2, True, True)
    assert len(readings.read(elsewhere.here)[0]) == 2


def test_another_machine_of_that_name(elsewhere: Elsewhere) -> None:
    """A machine of the same name that is another one is refused as a whole, and can have another name."""
    elsewhere.import_()
    described = elsewhere.folder / "gpu" / "machine.json"
    described.write_text(machine.text_of({**GPU, "gpu": "H100"}), "utf-8")
    with pytest.raises(InputError) as error:
        elsewhere.import_()
    assert "--machine NAME" in one_line(error)
    assert elsewhere.import_(machine="other")[0] == 0
    found = machine.load(elsewhere.track.results_dir / "other")
    assert found is not None
    assert (found["machine"], found["gpu"]) == ("other", "H100")


def test_comparisons_travel(elsewhere: Elsewhere) -> None:
    """A comparison comes under the machine's name here; one of another track or commit is refused."""
    environment = records.Environment("e", "cuda", "3.12", [], {})
    side = comparison.Side("main", elsewhere.commit, "toy", environment, {})
    header = comparison.Header("toy", "gpu", "cuda", "tiny", STARTED, 0.02, 0.05, 1, side, side)
    folder = elsewhere.folder / "gpu" / "comparisons"
    unknown = dataclasses.replace(side, name="gone", commit="d" * 40)
    for item in (
        header,
        dataclasses.replace(header, track="other", started="2026-01-02T04:00:00.000Z"),
        dataclasses.replace(header, base=unknown),
    ):
        comparisons.append(comparisons.path_for(folder, item), [item, comparison.End(1.0, False)])
    code, said = elsewhere.import_(machine="renamed")
    assert (code, "track other" in said, "no commit dddddddd" in said) == (2, True, True)
    (path,) = (elsewhere.track.results_dir / "renamed" / "comparisons").iterdir()
    assert comparisons.read(path).header.machine == "renamed"


@pytest.mark.parametrize(
    "make", [lambda folder: folder / "none", lambda folder: folder, lambda folder: folder.parent]
)
def test_a_folder_without_results(elsewhere: Elsewhere, make: Callable[[Path], Path]) -> None:
    """A path that holds no machine's results, or those that lie here already, is one line with an advice."""
    elsewhere.import_()
    shutil.rmtree(elsewhere.folder / "gpu")
    for folder in (make(elsewhere.folder), elsewhere.track.results_dir):
        with pytest.raises(InputError) as error:
            elsewhere.import_(folder=folder)
        one_line(error)


def test_two_imports_at_once(elsewhere: Elsewhere) -> None:
    """While somebody writes the results of a machine, nobody imports into them."""
    with (
        results.lock(elsewhere.track.work_dir, "toy", "gpu"),
        pytest.raises(InputError, match="being written"),
    ):
        elsewhere.import_()


READINGS = st.lists(
    st.one_of(
        st.sampled_from("abc").map(lambda name: dataclasses.replace(LAUNCH, launch=name)),
        st.sampled_from("abc").map(lambda name: measured(CASE, [float(ord(name))], name)),
        st.sampled_from(["2025", "2027"]).map(lambda year: dataclasses.replace(failed(CASE), started=f"{year}{STARTED[4:]}")),
    ),
    unique_by=readings.dump,
)  # fmt: skip


@given(READINGS, READINGS)
def test_uniting_is_a_union(here: list[records.Reading], coming: list[records.Reading]) -> None:
    """Whatever is united: nothing measured is lost, the order of two imports does not matter, and again changes nothing."""
    whole = merge.united(here, coming)
    assert {readings.dump(item) for item in whole} == {
        readings.dump(item) for item in merge.united(coming, here)
    }
    assert merge.united(whole, coming) == merge.united(whole, here) == whole
    kept = {readings.dump(item) for item in whole}
    assert all(
        readings.dump(item) in kept for item in (*here, *coming) if not isinstance(item, records.Failure)
    )
