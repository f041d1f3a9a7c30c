"""What is wrong with stored files is found, named and explained; and nothing in a file can break the finding."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fixtures_site as made
import pytest
from conftest import Office
from fixtures_site import Done
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import mlx_velocity
from mlx_velocity import (
    bisections,
    cases,
    cli,
    comparison,
    comparisons,
    findings,
    history,
    problems,
    profiles,
    readings,
    records,
    scheduler,
    schemas,
    tracks,
)
from mlx_velocity.commands import doctor
from mlx_velocity.problems import Checked, Problem
from mlx_velocity.report import validation as written
from mlx_velocity.validation import files, walk

BY_NAME = {item["name"]: item for item in made.BENCHMARKS}
PREFILL = "prefill.Prefill.time_prefill"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a track whose newest two commits the real scheduler measured with fake workers."""
    folder = tmp_path_factory.mktemp("measured")
    track = made.make_track(folder)
    cases.save(track, made.BENCHMARKS)
    listed = cases.every(made.BENCHMARKS, None, 60.0)
    for commit in made.commits_of(track)[-2:]:
        stored = made.open_results(track, commit)
        plan = scheduler.plan(stored, history.one(track.conf.repo, commit.hexsha), listed, None)
        office = Office({f"{PREFILL}3": {"skipped": "needs 16 GB"}})
        environment = records.Environment(made.ENV_NAME, "cpu", "3.11", ["mlx"], {"mlx": "0.26.0"})
        with pytest.MonkeyPatch.context() as patch:
            prepared = scheduler.Prepared(made.ENV_NAME, folder, environment)
            patch.setattr(scheduler.environments, "prepare", lambda *_, prepared=prepared: prepared)
            scheduler.run_plans(track, "repo", [plan], BY_NAME, profile="tiny", start_worker=office)
    side = comparison.Side("main", "", "main", environment, {})
    header = comparison.Header(
        "made-up", "box", "cpu", "tiny", "2026-01-02T03:04:05Z", 0.02, 0.01, 7, side, dataclasses.replace(side, name=".")
    )  # fmt: skip
    pair = comparison.PairReading(
        1, PREFILL, "1", ["'tiny-float32'", "32"], "seconds", "ABBA", [[1.0], [1.0]], [[2.0], [2.0]],
        "2026-01-02T03:04:05Z", 1.0,
    )  # fmt: skip
    path = comparisons.path_for(track.results_dir / "box" / "comparisons", header)
    comparisons.append(path, [header, pair, comparison.End(1.0, False)])
    return folder


@dataclasses.dataclass(frozen=True)
class Copy:
    """A copy of it that a test may spoil."""

    track: tracks.Track

    @property
    def box(self) -> Path:
        """The machine's folder."""
        return self.track.results_dir / "box"

    @property
    def readings(self) -> Path:
        """The readings of the first of the two commits."""
        return sorted(self.box.glob(f"*{readings.SUFFIX}"))[0]

    @property
    def result(self) -> Path:
        """asv's file beside them."""
        return self.readings.with_name(self.readings.name.removesuffix(readings.SUFFIX) + ".json")

    @property
    def comparison(self) -> Path:
        """The comparison."""
        return next(self.box.glob(f"comparisons/*{comparisons.SUFFIX}"))

    def check(self) -> Checked:
        """All that is wrong with it."""
        return walk.everything(self.track, self.track.root / "asv.conf.json")

    def edit(self, path: Path, change: Callable[[Any], Any]) -> None:
        """Change a JSON document."""
        data = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(change(data) or data), "utf-8")

    def edit_line(self, path: Path, kind: str, change: Callable[[Any], Any]) -> int:
        """Change the first line of a kind; returns its number."""
        lines = path.read_text("utf-8").splitlines()
        number = next(n for n, line in enumerate(lines) if json.loads(line)["kind"] == kind)
        data = json.loads(lines[number])
        lines[number] = json.dumps(change(data) or data)
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return number + 1


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Copy:
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    return Copy(made.make_track(tmp_path))


def only(checked: Checked) -> Problem:
    """The one thing that is wrong, with all that a reader needs."""
    assert len(checked.wrong) == 1, checked.wrong
    (found,) = checked.wrong
    assert checked.exit_code == 2
    assert found.reason
    assert found.advice
    return found


# What is right


def test_what_the_scheduler_stores_is_right(copy: Copy) -> None:
    """Readings, results, comparison, machine, benchmarks and configuration as they are written: nothing is wrong."""
    checked = copy.check()
    assert checked.problems == []
    assert checked.unchecked == []
    assert checked.files == {
        "benchmarks": 1, "comparison": 1, "configuration": 1, "machine": 1, "readings": 2, "result": 2,
    }  # fmt: skip
    assert checked.exit_code == 0


def test_committed_results_are_right(tmp_path: Path) -> None:
    """The results of this repository, its configurations and its lists hold nothing wrong."""
    stored = made.ROOT / "results"
    if not made.has_results(stored / "releases"):
        pytest.skip("this checkout holds no results")
    track = made.make_track(
        tmp_path, repo="releases:mlx,mlx-lm", dvcs="releases", results_dir=str(stored / "releases")
    )
    checked = walk.everything(track, made.ROOT / "asv.conf.json")
    assert checked.wrong == []
    assert checked.unchecked == []
    assert checked.files["releases"] == checked.files["eras"] == 1
    configurations = sorted((made.ROOT / "tracks").glob("*.json"))
    assert walk.named(configurations, None).problems == []


def test_killed_before_the_first_case(copy: Copy) -> None:
    """Readings without a case have no result beside them, and need none."""
    lines = copy.readings.read_text("utf-8").splitlines(keepends=True)
    copy.readings.write_text("".join(lines[:2]), "utf-8")
    copy.result.unlink()
    assert copy.check().problems == []


def test_failed_environment(copy: Copy) -> None:
    """A commit whose environment failed is stored without a number, and nothing is wrong with that."""
    commit = made.commits_of(copy.track)[0]
    failure = records.Failure("incompatible", "no wheel", started="2026-01-02T03:04:05Z")
    made.open_results(copy.track, commit).fail_all(failure, BY_NAME)
    assert copy.check().problems == []


def test_stock_asv(copy: Copy) -> None:
    """A result without readings is stock asv's: worth a note, and no fault."""
    result = copy.result
    copy.readings.unlink()
    (found,) = copy.check().problems
    assert (found.severity, found.file) == ("note", str(result.relative_to(copy.track.root)))
    assert "stock asv measured it" in found.reason


# What is wrong


def spoil_sample(value: Any) -> Callable[[Any], None]:
    return lambda data: data["samples"].__setitem__(0, value)


LINES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a negative time": ("measurement", spoil_sample(-1.0), "a sample of -1 seconds"),
    "no time at all": ("measurement", spoil_sample(0), "a sample of 0 seconds"),
    "no number": ("measurement", spoil_sample(float("nan")), "NaN is no number"),
    "infinity": ("measurement", spoil_sample(float("inf")), "Infinity is no number"),
    "a huge number": ("measurement", spoil_sample(10**400), "no number that can be stored"),
    "words for a number": ("measurement", spoil_sample("fast"), "samples[0]: 'fast' is not of type 'number'"),
    "no samples": ("measurement", lambda data: data.update(samples=[]), "samples:"),
    "a kind of the future": ("measurement", lambda data: data.update(kind="mood"), "unknown kind 'mood'"),
    "a format of the future": ("measurement", lambda data: data.update(format=99), "format 99 is newer"),
    "a field too many": ("launch", lambda data: data.update(mood=1), "Additional properties"),
    "a field too few": ("environment", lambda data: data.pop("packages") and data, "'packages' is a required"),
    "a launch that nobody opened": ("launch", lambda data: data.update(launch="another"), "which no line before it opens"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(LINES))
def test_line_that_is_wrong(what: str, copy: Copy) -> None:
    """A wrong line of the readings is named with file, number, reason and advice."""
    kind, change, reason = LINES[what]
    line = copy.edit_line(copy.readings, kind, change)
    wrong = [item for item in copy.check().wrong if item.file.endswith(readings.SUFFIX)]
    assert any(reason in item.reason for item in wrong), wrong
    assert {item.file for item in wrong} == {str(copy.readings.relative_to(copy.track.root))}
    if what != "a launch that nobody opened":
        assert line in {item.line for item in wrong}
    assert all(item.advice for item in wrong)


def test_half_a_line(copy: Copy) -> None:
    """A line that was cut off is named, and its neighbours are looked at all the same."""
    text = copy.readings.read_bytes()
    copy.readings.write_bytes(text + b'{"format":1,"ki')
    found = only(copy.check())
    assert found.line == text.count(b"\n") + 1


def test_bytes_that_are_no_text(copy: Copy) -> None:
    """Bytes that are no UTF-8 are named with their line."""
    copy.readings.write_bytes(copy.readings.read_bytes().replace(b"0.26.0", b"0.\xff6.0"))
    found = only(copy.check())
    assert (found.line, "is no UTF-8" in found.reason) == (1, True)


def test_the_same_launch_twice(copy: Copy) -> None:
    """A measurement that stands there twice is named with both lines, and so is a launch opened twice."""
    lines = copy.readings.read_text("utf-8").splitlines(keepends=True)
    copy.readings.write_text("".join([*lines, lines[1], lines[2]]), "utf-8")
    reasons = [item.reason for item in copy.check().wrong]
    assert any("launch" in reason and "stands in line 2 already" in reason for reason in reasons)
    assert any(
        f"{PREFILL}(tiny-float32, 32) of launch" in reason and "line 3" in reason for reason in reasons
    )
    # The samples count twice now, so asv's file no longer follows from the readings.
    assert any("has other samples than its readings" in reason for reason in reasons)


def test_a_copy_under_another_name(copy: Copy) -> None:
    """The readings of one commit copied to another are found by their launches."""
    first, second = sorted(copy.box.glob(f"*{readings.SUFFIX}"))
    second.write_bytes(first.read_bytes())
    wrong = copy.check().wrong
    assert {item.file for item in wrong} == {str(second.relative_to(copy.track.root))}
    assert all(f"stands in {first.name} too" in item.reason for item in wrong)


RESULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another number": (
        lambda data: data["results"][PREFILL][0].__setitem__(0, 7.0),
        "prefill.Prefill.time_prefill(tiny-float32, 32) is 7, and by its readings 2",
    ),
    "a failure that was none": (
        lambda data: data["results"][PREFILL][0].__setitem__(0, None),
        "is a failure",
    ),
    "a number that was a skip": (
        lambda data: data["results"][PREFILL][0].__setitem__(3, 7.0),
        "by its readings not measured",
    ),
    "other samples": (lambda data: data["results"][PREFILL][11][0].__setitem__(0, 1.5), "has other samples"),
    "a benchmark too few": (lambda data: data["results"].pop(PREFILL) and data, "it lacks prefill"),
    "a negative time": (
        lambda data: data["results"][PREFILL][0].__setitem__(0, -7.0),
        "a time of -7 seconds",
    ),
    "too short a column": (lambda data: data["results"][PREFILL][0].pop() and data, "3 entries for 4 sets"),
    "another commit": (lambda data: data.update(commit_hash="0" * 40), "its name should be 00000000-"),
    "another machine": (
        lambda data: data["params"].update(machine="moon"),
        "of machine 'moon' in the folder of 'box'",
    ),
    "a column that asv does not know": (
        lambda data: data["result_columns"].append("mood"),
        "result_columns:",
    ),
    "an older version": (lambda data: data.update(version=1), "version: 2 was expected"),
    "a list": (lambda data: [1], "is not of type 'object'"),
}


@pytest.mark.parametrize("what", list(RESULTS))
def test_result_that_is_wrong(what: str, copy: Copy) -> None:
    """A result that contradicts its readings, its name or its schema is named with what to do."""
    change, reason = RESULTS[what]
    copy.edit(copy.result, change)
    wrong = copy.check().wrong
    assert any(reason in item.reason for item in wrong), wrong
    assert {item.file for item in wrong} == {str(copy.result.relative_to(copy.track.root))}


def test_truncated_result(copy: Copy) -> None:
    """A result that was cut off is no JSON, and the readings beside it stay right."""
    copy.result.write_bytes(copy.result.read_bytes()[:100])
    found = only(copy.check())
    assert found.reason.startswith("no JSON")
    assert found.line == 1


def test_readings_without_a_result(copy: Copy) -> None:
    """Readings whose result is gone say that it can be made again."""
    copy.result.unlink()
    found = only(copy.check())
    assert found.file.endswith(readings.SUFFIX)
    assert "asv's file is missing" in found.reason
    assert "mlx-velocity run" in found.advice


def test_commit_that_the_repository_lacks(copy: Copy) -> None:
    """Results of a commit that does not exist are named, both files of them."""
    for path in (copy.readings, copy.result):
        renamed = path.with_name("0" * 8 + path.name[8:])
        path.rename(renamed)
    copy.edit(copy.box / f"00000000-{made.ENV_NAME}.json", lambda data: data.update(commit_hash="0" * 40))
    wrong = copy.check().wrong
    assert len(wrong) == 2
    assert {item.reason for item in wrong} == {"the repository has no commit 00000000"}


DOCUMENTS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a machine of another folder": ("box/machine.json", lambda data: data.update(machine="moon"), "describes machine 'moon'"),
    "a machine with a list": ("box/machine.json", lambda data: data.update(cpu=[1]), "cpu: [1] is not of type 'string'"),
    "benchmarks without parameters": ("benchmarks.json", lambda data: data[PREFILL].pop("params") and data, "'params' is a required"),
    "a benchmark with another name": ("benchmarks.json", lambda data: data[PREFILL].update(name="x"), "is called x"),
    "a benchmark that counts by nothing": ("benchmarks.json", lambda data: data[PREFILL].update(tokens_from="x"), "no parameter of it"),
    "names that are missing": ("benchmarks.json", lambda data: data[PREFILL].update(param_names=[]), "2 lists of parameters and 0 names"),
    "our key misspelt": ("../../asv.conf.json", lambda data: data["mlx_velocity"].update(overlays=[]), "mlx_velocity: Additional"),
    "our key of another kind": ("../../asv.conf.json", lambda data: data["mlx_velocity"].update(modules="mlx"), "mlx_velocity.modules"),
    "no benchmarks": ("../../asv.conf.json", lambda data: data.update(benchmark_dir="nowhere"), "names no benchmarks"),
    "another asv": ("../../asv.conf.json", lambda data: data.update(version=2), "its version is 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(DOCUMENTS))
def test_document_that_is_wrong(what: str, copy: Copy) -> None:
    """Machine, benchmarks and configuration are checked against their schemas and against themselves."""
    name, change, reason = DOCUMENTS[what]
    path = (copy.track.results_dir / name).resolve()
    copy.edit(path, change)
    found = only(copy.check())
    assert reason in found.reason
    assert found.file == str(path.relative_to(copy.track.root))


def test_configuration_is_not_run(copy: Copy) -> None:
    """A configuration is read and not run: the plugins that it names are not imported."""
    (copy.track.root / "spoiled_plugin.py").write_text("raise SystemExit('imported')\n", "utf-8")
    path = copy.track.root / "asv.conf.json"
    copy.edit(path, lambda data: data.update(plugins=[".spoiled_plugin"]))
    assert files.check(path, "asv.conf.json").problems == []
    path.write_text('{// a comment\n "version": 1,,}', "utf-8")
    assert files.check(path, "asv.conf.json").problems


def test_lists(tmp_path: Path) -> None:
    """A release that stands there twice and constraints that are missing are found."""
    listed = {"date": "2025-01-01T00:00:00Z", "package": "mlx", "version": "0.25.0"}
    (tmp_path / "releases.json").write_text(json.dumps({"format": 1, "releases": [listed, listed]}), "utf-8")
    assert "mlx 0.25.0 twice" in only(walk.named([tmp_path / "releases.json"], None)).reason
    eras = {"format": 1, "eras": [{"from": "0.0", "constraints": "gone.txt"}]}
    (tmp_path / "eras.json").write_text(json.dumps(eras), "utf-8")
    assert "gone.txt is missing" in only(walk.named([tmp_path / "eras.json"], None)).reason


COMPARISONS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "no header": (lambda lines: lines[1:], "does not say what was compared"),
    "a second header": (lambda lines: [lines[0], *lines], "a second header"),
    "a negative time": (lambda lines: [line.replace("[[1.0]", "[[-1.0]") for line in lines], "-1.0 is less than the minimum"),
    "a time of nothing": (lambda lines: [line.replace("[[1.0]", "[[0]") for line in lines], "0 is less than or equal to the minimum"),
    "more turns than drawn": (lambda lines: [line.replace("[1.0],", "[1.0],[1.0],[1.0],") for line in lines], "an order for 4"),
    "another machine": (lambda lines: [line.replace('"box"', '"moon"') for line in lines], "of machine 'moon'"),
    "nothing": (lambda lines: [], "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(COMPARISONS))
def test_comparison_that_is_wrong(what: str, copy: Copy) -> None:
    """A comparison is checked line by line and as a whole."""
    change, reason = COMPARISONS[what]
    lines = copy.comparison.read_text("utf-8").splitlines()
    copy.comparison.write_text("".join(f"{line}\n" for line in change(lines)), "utf-8")
    assert any(reason in item.reason for item in copy.check().wrong), copy.check().wrong


def test_comparison_that_was_killed(copy: Copy) -> None:
    """A comparison without its end is worth a note."""
    lines = copy.comparison.read_text("utf-8").splitlines(keepends=True)
    copy.comparison.write_text("".join(lines[:-1]), "utf-8")
    (found,) = copy.check().problems
    assert found.severity == "note"


def test_a_clone_that_is_not_here(copy: Copy) -> None:
    """A repository that would have to be cloned is not: that commits were not looked for is said."""
    track = made.make_track(copy.track.root, repo="https://example.invalid/x.git")
    checked = walk.everything(track, track.root / "asv.conf.json")
    assert checked.wrong == []
    assert checked.unchecked == [
        "Whether the commits exist: https://example.invalid/x.git is not cloned here."
    ]
    assert not (track.work_dir / "repos").exists()


def test_one_file(copy: Copy) -> None:
    """A file by itself is looked at together with the one beside it, which says what it should hold."""
    copy.edit(copy.result, lambda data: data["results"][PREFILL][0].__setitem__(0, 7.0))
    for path in (copy.result, copy.readings):
        checked = walk.named([path], None)
        assert sum(checked.files.values()) == 2
        assert "is 7, and by its readings 2" in only(checked).reason
    assert walk.named([copy.box / "machine.json"], None).problems == []


def test_what_was_set_aside_is_passed_over(copy: Copy) -> None:
    """A broken file that a run moved out of the way is not complained of again, nor a killed writer's rest."""
    shutil.copy(copy.result, copy.result.with_name(copy.result.name + ".corrupt-20260101T000000"))
    copy.result.with_name(f".{copy.result.name}.123.new").write_text("{", "utf-8")
    assert copy.check().problems == []


# Whatever a file holds

NAMES = [
    "machine.json", "benchmarks.json", "releases.json", "eras.json", "asv.conf.json", "c0ffee00-env.json",
    f"c0ffee00-env{readings.SUFFIX}", f"a{comparisons.SUFFIX}", f"a{profiles.SUFFIX}", f"a{bisections.SUFFIX}",
    "regressions.jsonl", "notes.txt",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
)
DEEP = b"[" * 100_000
NESTED = b'{"kind":"measurement","format":1,"notes":' + b'{"a":' * 900 + b"1" + b"}" * 901


@given(
    name=st.sampled_from(NAMES),
    data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
)
@example(name="machine.json", data=DEEP)
@example(name="asv.conf.json", data=DEEP)
@example(name=f"c0ffee00-env{readings.SUFFIX}", data=DEEP)
@example(name=f"c0ffee00-env{readings.SUFFIX}", data=NESTED)
@example(name="benchmarks.json", data=b'{"version":2,"a":' * 400 + b"1" + b"}" * 400)
@example(name="machine.json", data=b'{"machine":"a","x":' + b"9" * 5000 + b"}")
@example(name="machine.json", data=b'{"machine":"\\ud800"}')
@example(name="machine.json", data=b"\xff\xfe\x00")
@example(name="machine.json", data=b"")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_random_files(name: str, data: bytes, tmp_path: Path) -> None:
    """Whatever bytes a file holds, it is said what is wrong with them, in words that can be printed."""
    path = tmp_path / name
    path.write_bytes(data)
    checked = walk.named([path], None)
    for item in checked.problems:
        assert item.reason.strip()
        assert item.advice.strip()
    if checked.problems:
        Draft202012Validator(schemas.load("validate-output.schema.json")).validate(
            json.loads(written.document(checked))
        )
        rows = written.table(checked.problems)
        assert rows.row_count == len(checked.problems)
    path.unlink()


@cache
def originals(folder: Path) -> list[tuple[Path, bytes]]:
    """The stored files of the measured track."""
    paths = [*walk.below(folder / "results"), folder / "asv.conf.json"]
    return [(path, path.read_bytes()) for path in paths]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Bytes with something cut, doubled, flipped or replaced by what JSON can hold."""
    odd = [
        b"null",
        b"-1",
        b"NaN",
        b"1e999",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"true",
        b"9" * 400,
        b"[" * 200,
        b"\xff",
        b'"x"',
    ]
    spoiled = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        kind = draw.randrange(4)
        start = draw.randrange(len(spoiled) + 1)
        if kind == 0:
            del spoiled[start : start + draw.randint(1, 200)]
        elif kind == 1:
            spoiled[start:start] = spoiled[start : start + draw.randint(1, 400)]
        elif kind == 2 and start < len(spoiled):
            spoiled[start] ^= 1 << draw.randrange(8)
        else:
            # In the place of a value, so that the document stays JSON and its types do not.
            values = list(
                re.finditer(rb"(?<=[:\[,])\s*(-?[\d.]+|\"[^\"]*\"|null|NaN)(?=[,\]}])", bytes(spoiled))
            )
            if values:
                span = draw.choice(values).span()
                spoiled[span[0] : span[1]] = draw.choice(odd)
    return bytes(spoiled)


@given(place=st.integers(0, 100), seed=st.integers(0, 2**32))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_mutated_files(place: int, seed: int, measured: Path) -> None:
    """A stored file with anything changed in it never breaks the check of all the others."""
    path, data = originals(measured)[place % len(originals(measured))]
    try:
        path.write_bytes(mutated(data, random.Random(seed)))
        checked = walk.named([measured / "results", measured / "asv.conf.json"], None)
        assert all(item.reason and item.advice for item in checked.problems)
        assert json.loads(written.document(checked))["exit_code"] == checked.exit_code
    finally:
        path.write_bytes(data)


# The schemas


@pytest.mark.parametrize(
    "path",
    sorted((Path(mlx_velocity.__file__).parent / "schemas").glob("*.json")),
    ids=lambda path: path.name,
)
def test_every_schema(path: Path) -> None:
    """Every schema is a valid one, says what it is of, and knows the version of its format."""
    assert path.name.endswith(schemas.SUFFIX)
    schema = schemas.load(path.name)
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    lines = [schema["$defs"][item["$ref"].rpartition("/")[2]] for item in schema.get("oneOf", [])]
    versions = [
        document["properties"].get("format", document["properties"].get("version", {})).get("const")
        for document in (lines or [schema])
    ]
    # What we use of asv's configuration has asv's version, which asv itself checks.
    assert all(isinstance(version, int) for version in versions) or path.name == tracks.SCHEMA


def test_what_doctor_writes() -> None:
    """The JSON of `doctor` is as its schema says."""
    finding = findings.Finding("swap", "warning", "2 GiB lie in swap", "restart")
    clock = {"repetitions": 15, "median_s": 0.02, "spread": 1.01, "drift": 1.0, "cpu_share": 1.0}
    text = doctor.document({"cores": 2}, clock, [finding], "fit with care")
    Draft202012Validator(schemas.load("doctor-output.schema.json")).validate(json.loads(text))


def test_schemas_lie_in_one_folder() -> None:
    """No schema lies elsewhere in the package, and docs/formats.md names each."""
    package = Path(mlx_velocity.__file__).parent
    found = {path.relative_to(package).parent.as_posix() for path in package.rglob(f"*{schemas.SUFFIX}")}
    assert found == {"schemas"}
    text = (made.ROOT / "docs" / "formats.md").read_text("utf-8")
    for path in (package / "schemas").glob("*.json"):
        assert path.name in text, f"docs/formats.md does not name {path.name}"


def test_every_format_is_looked_at() -> None:
    """Every kind of file that a name can mean has its check."""
    assert {files.kind_of(Path(name)) for name in NAMES} - {""} == set(files.CHECKS)


# The program


@pytest.fixture
def here(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs the program in the folder of the copy, in a window wide enough for its lines."""
    monkeypatch.chdir(copy.track.root)
    monkeypatch.setattr(cli.console, "_width", 300)

    def run(*arguments: str) -> Done:
        return made.in_process(monkeypatch, capsys, *arguments)

    return run


def test_green(here: Callable[..., Done]) -> None:
    """Where nothing is wrong one line says how much was looked at; with --quiet none does."""
    done = here("validate")
    assert (done.code, done.err) == (0, "")
    assert "8 files" in done.out
    assert "nothing is wrong" in done.out
    assert len(done.out.strip().splitlines()) == 1
    assert here("validate", "--quiet") == Done(0, "", "")


def test_table(copy: Copy, here: Callable[..., Done]) -> None:
    """What is wrong is a table of file, line, reason and advice, and the exit code is 2."""
    copy.edit_line(copy.readings, "measurement", spoil_sample(-1.0))
    done = here("validate", "--quiet")
    assert done.code == 2
    for word in ("what is wrong", "what to do", "a sample of -1 seconds", "remove that line"):
        assert word in done.out
    assert "Traceback" not in done.out + done.err


def test_notes_are_shown_on_demand(copy: Copy, here: Callable[..., Done]) -> None:
    """A note breaks nothing: it is counted, and shown with --notes."""
    copy.readings.unlink()
    assert "1 note" in here("validate").out
    done = here("validate", "--notes")
    assert done.code == 0
    assert "stock asv measured it" in " ".join(done.out.split())


def test_json_output(copy: Copy, here: Callable[..., Done]) -> None:
    """The JSON is as its schema says, which names every field."""
    copy.edit_line(copy.readings, "measurement", spoil_sample("\ud800"))
    done = here("validate", "--json", "-")
    data = json.loads(done.out)
    schema = schemas.load("validate-output.schema.json")
    Draft202012Validator(schema).validate(data)
    assert (done.code, data["exit_code"], data["format"]) == (2, 2, problems.FORMAT)
    assert set(schema["properties"]["problems"]["items"]["properties"]) == {
        item.name for item in dataclasses.fields(Problem)
    }
    here("validate", "--json", "out/problems.json")
    assert json.loads((copy.track.root / "out" / "problems.json").read_text("utf-8")) == data


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere", "nowhere does not exist"), ("benchmarks", "holds no stored file")],
)
def test_wrong_path(path: str, words: str, here: Callable[..., Done]) -> None:
    """A path that does not exist or holds nothing is one line that says so."""
    done = here("validate", path)
    assert done.code == 2
    assert re.fullmatch(r"mlx-velocity: \S.*; \S.*\n", done.err), done.err
    assert words in done.err


def test_without_a_track(
    copy: Copy,
    here: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Files can be looked at anywhere; without a path and without a track there is nothing to look at."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert here("validate", str(copy.box)).code == 0
    done = here("validate")
    assert done.code == 2
    assert "there is no asv.conf.json" in done.err
