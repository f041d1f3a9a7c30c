"""`mlx-velocity bisect` from end to end: real launches of a small project with planted changes, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fixtures_site as made
import git
import pytest
from conftest import MakeTrack
from fixtures_site import Done
from jsonschema import Draft202012Validator

from mlx_velocity import bisections, interleave, quality, schemas

SUITE = """
import time
import toy

def compute(seconds):
    # Sleeping would look like waiting for a core that somebody else has.
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Speed:
    repeat, warmup_time, timeout, version = 1, 0.0, 20, "1"

    def time_work(self):
        if toy.BROKEN:
            raise RuntimeError("toy is broken")
        compute(0.001 * toy.WORK)

    def time_same(self):
        compute(0.001)

    def track_bytes(self):
        return toy.BYTES
    track_bytes.unit = "bytes"

    def time_lacking(self):
        raise NotImplementedError("not in this version")

    def track_share(self):
        return 0.5
    track_share.unit = "share"
"""
SLOWER, FATTER, BROKEN = 5, 3, 4
"""Of eight commits that change the package: since which it is slow, takes more memory, and the one that is broken."""
AUTHOR = git.Actor("Somebody", "somebody@example.invalid")


@pytest.fixture
def project(toy_track: MakeTrack, tmp_path: Path) -> Path:
    """A suite beside a project of nine commits `c0` … `c8`, each followed by one that changes only the README."""
    clone = tmp_path / "toy-project"
    with git.Repo.init(clone, initial_branch="main") as repo:
        for number in range(9):
            (clone / "toy").mkdir(exist_ok=True)
            work, size = 1.0 + (number >= SLOWER), 1000 + 500 * (number >= FATTER)
            text = f'__version__ = "{number}"\nWORK, BYTES, BROKEN = {work}, {size}, {number == BROKEN}\n'
            (clone / "toy" / "__init__.py").write_text(text, "utf-8")
            commit(repo, f"work {number}")
            repo.create_tag(f"c{number}")
            (clone / "README.md").write_text(str(number), "utf-8")
            commit(repo, f"words {number}")
    toy_track(repo=str(clone))
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "speed.py").write_text(SUITE, "utf-8")
    return tmp_path


def commit(repo: git.Repo, message: str) -> None:
    repo.git.add("--all")
    repo.index.commit(message, author=AUTHOR, committer=AUTHOR)


@pytest.fixture
def bisect(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs `mlx-velocity bisect` in the project, without the control, whose environment holds all of mlx."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "160")
    # The machine that runs tests may be busy, and a doubling is seen all the same.
    monkeypatch.setattr(quality, "BUSY_CORES", 1000)
    monkeypatch.setattr(quality, "BUSY_ON_CORE", 1000)
    monkeypatch.setattr(interleave, "PAIR_S", 0.0)

    def run(*arguments: str) -> Done:
        words = ["bisect", *arguments, "--machine", "here", "--no-control"]
        return made.in_process(monkeypatch, capsys, *words)

    return run


def stored(project: Path) -> list[Path]:
    return sorted((project / "results/toy/here/bisections").glob(f"*{bisections.SUFFIX}"))


def test_the_slow_commit_is_found(bisect: Callable[..., Done], project: Path) -> None:
    """A planted slow-down is found with its effect and how to see it again, beside a commit that is broken."""
    done = bisect("c0", "c8", "--case", "time_work", "--json", "out.json", "--markdown", "out.md")
    assert done.code == 0, done.err + done.out
    found = json.loads((project / "out.json").read_text("utf-8"))
    assert list(Draft202012Validator(schemas.load("bisect-output.schema.json")).iter_errors(found)) == []
    (culprit,) = found["culprits"]
    names = [point["subject"] for point in culprit["commits"]]
    # The commit before it can't be measured, so that one may be guilty as well.
    assert (found["outcome"], names, culprit["parent"]["subject"]) == (
        "group",
        ["work 4", "work 5"],
        "work 3",
    )
    assert culprit["confirmed"]
    assert culprit["effect"]["ratio"] > 1.2
    assert [item["reason"] for item in found["lost"]] == ["failed: RuntimeError: toy is broken"]
    assert (found["counts"]["path"], found["counts"]["candidates"]) == (16, 8)
    assert "work 5" in done.out
    assert "mlx-velocity compare" in done.out
    assert "work 5" in (project / "out.md").read_text("utf-8")
    assert len(stored(project)) == 1


def test_bytes_and_going_on(bisect: Callable[..., Done], project: Path) -> None:
    """A search that ran out of samples goes on from its file; when it is over, asking again measures nothing."""
    first = bisect("c0", "c8", "--case", "track_bytes", "--max-samples", "8")
    assert (first.code, "Undecided" in first.out) == (3, True), first.out + first.err
    second = bisect("c0", "c8", "--case", "track_bytes", "--json", "out.json")
    assert second.code == 0
    assert "Going on behind 4 pairs" in second.out
    found = json.loads((project / "out.json").read_text("utf-8"))
    assert [point["subject"] for point in found["culprits"][0]["commits"]] == ["work 3"]
    assert found["culprits"][0]["effect"]["ratio"] == pytest.approx(1.5)
    path, lines = stored(project)[0], stored(project)[0].read_text("utf-8").count("\n")
    (blamed,) = bisections.answer(path)[1]
    assert blamed.commits == [found["culprits"][0]["commits"][0]["commit"]]
    assert (blamed.probability, blamed.confirmed) == (found["culprits"][0]["probability"], True)
    again = bisect("c0", "c8", "--case", "track_bytes", "--json", "again.json")
    assert again.code == 0
    assert stored(project)[0].read_text("utf-8").count("\n") == lines
    assert json.loads((project / "again.json").read_text("utf-8")) == found
    # A file of before answers were kept gets its answer without a measurement.
    *kept, last = path.read_text("utf-8").splitlines()
    halt = {key: value for key, value in json.loads(last).items() if key != "blamed"}
    path.write_text("\n".join([*kept, json.dumps(halt), ""]), "utf-8")
    assert bisections.answer(path)[1] == []
    assert bisect("c0", "c8", "--case", "track_bytes").code == 0
    assert bisections.answer(path)[1] == [blamed]
    assert path.read_text("utf-8").count("\n") == lines + 1


def test_no_difference(bisect: Callable[..., Done]) -> None:
    """Ends without a difference are said to be equal, and nothing is searched."""
    done = bisect("c0", "c2", "--case", "track_bytes")
    assert done.code == 3
    assert "nothing to find" in done.out


def test_an_improvement_and_neighbours(bisect: Callable[..., Done], project: Path) -> None:
    """Two commits next to each other are simply compared; one that made it less is as welcome."""
    with git.Repo(project / "toy-project") as repo:
        package = project / "toy-project" / "toy" / "__init__.py"
        package.write_text(package.read_text("utf-8").replace("1500", "1000"), "utf-8")
        commit(repo, "less memory")
    done = bisect("c8", "main", "--case", "track_bytes", "--json", "-")
    found = json.loads(done.out)
    assert (done.code, found["outcome"], found["counts"]["commits"]) == (0, "commit", 2)
    assert found["culprits"][0]["commits"][0]["subject"] == "less memory"
    assert found["total"]["ratio"] == pytest.approx(2 / 3)


def test_restart_keeps_what_was_measured(bisect: Callable[..., Done], project: Path) -> None:
    """--restart begins a new file, and leaves the old one aside."""
    for words in ((), ("--restart",)):
        assert bisect("c2", "c3", "--case", "track_bytes", *words).code == 0
    assert len(stored(project)) == 2
    said = bisect("c2", "c3", "--case", "track_bytes").out
    assert "Going on" in said


def test_a_file_that_ends_in_its_first_line(bisect: Callable[..., Done], project: Path) -> None:
    """A search that was killed while it wrote its first line begins anew, without advice or a flag."""
    assert bisect("c2", "c3", "--case", "track_bytes").code == 0
    (path,) = stored(project)
    path.write_bytes(path.read_bytes()[:40])
    done = bisect("c2", "c3", "--case", "track_bytes")
    assert (done.code, "Going on" in done.out) == (0, False), done.err
    assert "Going on" in bisect("c2", "c3", "--case", "track_bytes").out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("c0", "c0", "--case", "time_work"), 2, "both ends are"),
        (("c8", "c0", "--case", "time_work"), 2, "older commit first"),
        (("nothing", "c8", "--case", "time_work"), 2, "is no commit"),
        ((".", "c8", "--case", "time_work"), 2, "working tree"),
        (("c0", "c8", "--case", "no such case"), 2, "no benchmark matches"),
        (("c0", "c8", "--case", "time_"), 2, "matches 3 cases: speed.Speed.time_lacking, speed.Speed.time_same"),
        (("c0", "c8", "--case", "("), 2, "regular expression"),
        (("c0", "c8", "--case", "track_share"), 2, "measured in share"),
        (("c0", "c8", "--case", "time_work", "--profile", "huge"), 2, "profile"),
        (("c0", "c8", "--case", "time_work", "--max-time", "soon"), 2, "no duration"),
        (("c0", "c8", "--case", "time_work", "--json", "-", "--markdown", "-"), 2, "both go to the terminal"),
        (("c0", "c8", "--case", "time_work", "--json", "benchmarks"), 2, "can't be written"),
        (("c0", "c4", "--case", "time_work"), 4, "can't be measured at the bad end"),
        (("c0", "c8", "--case", "time_lacking"), 2, "skipped: not in this version"),
    ],
)  # fmt: skip
def test_bad_input(bisect: Callable[..., Done], arguments: tuple[str, ...], code: int, words: str) -> None:
    """Wrong input is one line that says what and what to do, with the right exit code."""
    done = bisect(*arguments)
    lines = done.err.strip().splitlines()
    assert (done.code, len(lines)) == (code, 1), done.err
    assert words in lines[0]
    assert "; " in lines[0]


def test_ends_that_are_no_line(bisect: Callable[..., Done], project: Path) -> None:
    """Where one end is no ancestor of the other, the commit at which they part is named."""
    with git.Repo(project / "toy-project") as repo:
        repo.git.checkout("-q", "-b", "feature", "c2")
        (project / "toy-project" / "toy" / "more.py").write_text("", "utf-8")
        commit(repo, "feature")
        parted = repo.commit("c2").hexsha[:8]
    done = bisect("feature", "c8", "--case", "track_bytes")
    assert done.code == 2
    assert f"mlx-velocity bisect {parted}" in done.err


def test_ends_between_which_nothing_changes(bisect: Callable[..., Done], project: Path) -> None:
    """Commits that change nothing that is measured are not measured."""
    with git.Repo(project / "toy-project") as repo:
        after = repo.commit("main").hexsha
    done = bisect("c8", after, "--case", "track_bytes")
    assert done.code == 2
    assert "changes toy" in done.err
