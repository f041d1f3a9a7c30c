"""From stored files to series: the order, the noise, the gaps and the borders of what was measured."""

from __future__ import annotations

import dataclasses
import math
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fixtures_history as made
import pytest
from asv.results import Results
from asv.runner import BenchmarkResult
from fixtures_history import FIELDS, FIRST, PEAK, PREFILL, QUEUE, QUIET, SERIES, Lab

from mlx_velocity import archive, cases, history, indexed_series, records, told, tracks
from mlx_velocity.series import Series
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.stored_series import MachineSeries, Traced

ROOT = Path(__file__).parents[1]


def read(
    lab: Lab, benchmarks: Any = made.BENCHMARKS, name: str = "box"
) -> tuple[MachineSeries, dict[str, str]]:
    """The series, and what was not read: file → reason."""
    order = [commit.hash for commit in lab.line()]
    with StoreIndex(lab.track, undescribed=True) as index:
        unread = {item.file: item.reason for item in told.unread(index, name)}
        return indexed_series.of_machine(index, name, order, benchmarks), unread


def only(lab: Lab) -> Traced:
    (traced,) = read(lab)[0].traced
    return traced


def series(lab: Lab) -> Series:
    return only(lab).series


def fail(lab: Lab, place: int, outcome: records.Outcome, reason: str, case: bool = True) -> None:
    named: tuple[Any, ...] = (PREFILL["name"], "1", list(FIRST), "l") if case else ()
    failure = records.Failure(outcome, reason, *named, started="2026-01-02T03:04:05.000Z")
    lab.open(lab.commits[place]).add(failure)


@pytest.mark.parametrize(
    "dates",
    [[1_767_225_600] * 6, [5, 4, 3, 2, 1, 0], [0, 2**33, 7, 2**32, 1, 2]],
    ids=["equal", "backwards", "wild"],
)
def test_the_order_is_the_graphs(tmp_path: Path, dates: list[int]) -> None:
    """Points come in the order of the graph, whatever the dates of the commits say."""
    lab = Lab(tmp_path, 6, dates)
    for place in (3, 0, 5, 1):
        lab.add(place, [1.0 + place])
    assert [point.commit for point in series(lab).points] == [lab.commits[place] for place in (0, 1, 3, 5)]
    assert [point.value for point in series(lab).points] == [1.0, 2.0, 4.0, 6.0]


def test_a_point(lab: Lab) -> None:
    """A point is the median of the launches' medians, with the error of the mean of their logarithms."""
    values = [1.0, 1.02, 1.05]
    lab.add(0, values)
    (point,) = series(lab).points
    assert point.value == 1.02
    assert (point.launches, point.samples) == (3, 9)
    assert point.error == pytest.approx(statistics.stdev(map(math.log, values)) / math.sqrt(3))
    assert point.disturbed == ""
    assert point.control is None


def test_one_launch_has_no_error(lab: Lab) -> None:
    """One launch says nothing about the noise between launches."""
    lab.add(0, [1.0])
    assert series(lab).points[0].error is None


def test_what_a_series_is_of(lab: Lab) -> None:
    """A series says its machine, environment, case, version, unit, and the tokens of a call."""
    lab.add(0, [1.0])
    lab.add(0, [1e6], PEAK)
    timed, counted = (item.series for item in read(lab)[0].traced)
    assert (timed.machine, timed.environment) == ("box", made.ENV_NAME)
    assert (timed.benchmark, timed.params, timed.version) == (PREFILL["name"], FIRST, "1")
    assert (timed.unit, timed.tokens, timed.counted) == ("seconds", 32, False)
    assert (counted.unit, counted.tokens, counted.counted) == ("bytes", None, True)


def test_a_control_is_kept_where_one_is_stored(lab: Lab) -> None:
    """What a fixed probe took beside the launches comes along as their median."""
    for number, control in enumerate((0.1, 0.3, 0.2)):
        lab.add(0, [1.0 + number / 100], sensors={**QUIET, "control_s": control})
    assert series(lab).points[0].control == pytest.approx(0.2)


def test_disturbed_launches_are_not_used_where_two_others_are(lab: Lab) -> None:
    """With two launches that had their core, those that stood in a queue are left out."""
    lab.add(0, [1.0, 1.01])
    lab.add(0, [2.0], sensors=QUEUE)
    (point,) = series(lab).points
    assert (point.launches, point.value, point.disturbed) == (2, pytest.approx(1.005), "")


def test_a_disturbed_point_says_so(lab: Lab) -> None:
    """A point that rests on a launch in a queue says why its time means nothing; of bytes nothing is said."""
    lab.add(0, [1.0, 2.0], sensors=QUEUE)
    lab.add(0, [1e6], PEAK, sensors=QUEUE)
    timed, counted = (item.series for item in read(lab)[0].traced)
    assert "same core" in timed.points[0].disturbed
    assert counted.points[0].disturbed == ""


# What has no number


def test_gaps_have_reasons(lab: Lab) -> None:
    """What has no number is a gap with its reason: failed, skipped, incompatible, not measured."""
    for place in (1, 7):
        lab.add(place, [1.0])
    fail(lab, 2, "failed", "exit -9")
    fail(lab, 3, "skipped", "needs 16 GB")
    fail(lab, 4, "incompatible", "no wheel", case=False)
    lab.add(5, [1e6], PEAK)
    timed = read(lab)[0].traced[0].series
    assert [(gap.commit, gap.reason) for gap in timed.gaps] == [
        (lab.commits[2], "failed: exit -9"),
        (lab.commits[3], "skipped: needs 16 GB"),
        (lab.commits[4], "incompatible: no wheel"),
        (lab.commits[5], "not measured"),
        (lab.commits[6], "not measured"),
    ]
    assert [point.commit for point in timed.points] == [lab.commits[1], lab.commits[7]]


def test_gaps_beyond_the_points_are_those_that_were_tried(lab: Lab) -> None:
    """A case that fails at the newest commits says so; commits that nobody tried after it are not listed."""
    lab.add(2, [1.0])
    fail(lab, 5, "timeout", "120 s")
    assert [(gap.commit, gap.reason) for gap in series(lab).gaps] == [(lab.commits[5], "timeout: 120 s")]


def test_a_case_that_never_worked_is_a_series_without_points(lab: Lab) -> None:
    """A case that fails everywhere is there, with its reasons."""
    fail(lab, 0, "failed", "exit 1")
    assert series(lab).points == ()
    assert series(lab).gaps[0].reason == "failed: exit 1"


def test_nothing_is_no_number_to_compare(lab: Lab) -> None:
    """Zero bytes are a gap that says so: nothing has a ratio to nothing."""
    lab.add(0, [0.0], PEAK)
    lab.add(1, [5.0], PEAK)
    found = series(lab)
    assert len(found.points) == 1
    assert "no ratio" in found.gaps[0].reason


def test_a_failure_that_was_overcome_is_no_gap(lab: Lab) -> None:
    """What was measured after it had failed is a point."""
    fail(lab, 0, "failed", "exit -9")
    lab.add(0, [1.0])
    assert (len(series(lab).points), len(series(lab).gaps)) == (1, 0)


# Where something else changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"os": "Linux 6.8"}, "os: Linux 6.1 → Linux 6.8"),
        ({"gpu": "a card"}, "gpu: none → a card"),
        ({"ram": "17179869184"}, "ram: 7 GiB → 16 GiB"),
        ({"python": "3.12"}, "python: 3.11 → 3.12"),
        ({"cores": []}, "pinned to cores: 1 → free"),
        ({"cores": [0, 1]}, "pinned to cores: 1 → 2"),
        ({"os": "Linux 6.8", "num_cpu": "4"}, "num_cpu: 2 → 4, os: Linux 6.1 → Linux 6.8"),
    ],
)
def test_a_border(change: dict[str, Any], said: str, lab: Lab) -> None:
    """Another system, chip, memory, Python or pinning is a border before the first point that has it."""
    lab.fill([1.0, 1.0])
    lab.add(2, [1.3], **change)
    lab.add(3, [1.3], **change)
    traced = only(lab)
    assert traced.series.borders == (2,)
    assert traced.border_reasons == (said,)


@pytest.mark.parametrize("change", [{"ram": "8000100000"}, {"cores": [3]}])
def test_what_is_no_border(change: dict[str, Any], lab: Lab) -> None:
    """A few pages of memory more or less, and another one of equal cores, start nothing new."""
    lab.fill([1.0, 1.0])
    lab.add(2, [1.0], **change)
    assert only(lab).series.borders == ()


def test_what_is_counted_does_not_care_for_cores(lab: Lab) -> None:
    """Bytes are the same on one core and on all of them."""
    lab.add(0, [1e6], PEAK)
    lab.add(1, [1e6], PEAK, cores=[])
    assert only(lab).series.borders == ()


def test_readings_without_a_result_start_nothing_new(lab: Lab) -> None:
    """Where asv's file is lost the machine's fields are not known, which is no change of them."""
    lab.fill([1.0, 1.0, 1.0])
    lab.open(lab.commits[1]).path.unlink()
    assert len(series(lab).points) == 3
    assert series(lab).borders == ()


def test_stock_asv_counts_as_one_launch(lab: Lab) -> None:
    """What stock asv measured is a point of one launch, and a border: it runs benchmarks in another way."""
    lab.fill([1.0, 1.0])
    params = {"machine": "box", **FIELDS, "python": "3.11", **SERIES}
    theirs = Results(params, SERIES, lab.commits[2], 0, "3.11", made.ENV_NAME, {})
    values = [1.2, math.nan, math.nan, math.nan]
    theirs.add_result(
        PREFILL, BenchmarkResult(values, [[1.1, 1.2, 1.3], None, None, None], [1, None, None, None], None, "", None),
        datetime.now(UTC), 1.0, record_samples=True,
    )  # fmt: skip
    theirs.save(str(lab.track.results_dir))
    traced = only(lab)
    point = traced.series.points[2]
    assert (point.value, point.launches, point.samples, point.error) == (1.2, 1, 3, None)
    assert traced.series.borders == (2,)
    assert "stock asv" in traced.border_reasons[0]


# Which series there are


def test_another_version_is_another_series(lab: Lab) -> None:
    """What an older version of a benchmark measured is a series of its own, and not a present one."""
    lab.add(0, [1.0], {**PREFILL, "version": "old"})
    lab.add(1, [2.0])
    new, old = read(lab)[0].traced
    assert (new.series.version, new.current, len(new.series.points)) == ("1", True, 1)
    assert (old.series.version, old.current, len(old.series.points)) == ("old", False, 1)


def test_another_environment_is_another_series(lab: Lab) -> None:
    """Another environment, such as another Python or backend, is a series of its own."""
    lab.add(0, [1.0])
    lab.add(0, [2.0], environment="velocity-py3.12-backendcpu")
    assert [item.series.environment for item in read(lab)[0].traced] == [
        made.ENV_NAME,
        "velocity-py3.12-backendcpu",
    ]


def test_without_the_suite_the_newest_version_counts(lab: Lab) -> None:
    """Where nobody knows the suite, the version that was measured at the newest commit is the present one."""
    lab.add(0, [1.0], {**PREFILL, "version": "z-old"})
    lab.add(1, [2.0])
    assert [(item.series.version, item.current) for item in read(lab, {})[0].traced] == [
        ("1", True),
        ("z-old", False),
    ]


def test_a_benchmark_that_is_gone(lab: Lab) -> None:
    """What the suite does not have any more is read, and not a present series."""
    lab.add(0, [1.0], {**PREFILL, "name": "gone.time_it", "params": [], "param_names": []})
    assert [item.current for item in read(lab)[0].traced] == [False]


# What can't be used


def test_commits_that_the_line_lacks_are_left_out(lab: Lab) -> None:
    """Results of other commits are no points, and are named by the beginning of their hash."""
    lab.add(0, [1.0])
    stranger = "ab" * 20
    lab.open(stranger).add(records.Failure("failed", "x", started="2026-01-02T03:04:05.000Z"))
    made_, _ = read(lab)
    assert made_.others == {"abababab"}
    assert made_.commits == {lab.commits[0]}


def test_broken_files_are_named_and_skipped(lab: Lab) -> None:
    """A broken line costs that line, a broken result costs nothing that readings hold, and both are named."""
    lab.fill([1.0, 1.0, 1.0, 1.0])
    broken = lab.open(lab.commits[1]).readings_path
    with broken.open("ab") as stream:
        stream.write(b'{"format": 1, "kind": "measure\n\xff\xfe\n')
    lab.open(lab.commits[2]).path.write_text("[", "utf-8")
    newer = lab.open(lab.commits[3]).readings_path
    newer.write_text(newer.read_text("utf-8").replace('"format":1', '"format":2'), "utf-8")
    made_, named = read(lab)
    assert len(made_.traced[0].series.points) == 3
    assert "2 unreadable lines" in named[f"box/{broken.name}"]
    assert f"box/{lab.open(lab.commits[2]).path.name}" in named
    assert any("upgrade" in reason for reason in named.values())


def test_a_folder_in_the_place_of_a_file(lab: Lab) -> None:
    """What can't be read at all is named, and the rest is used."""
    lab.fill([1.0, 1.0])
    path = lab.open(lab.commits[0]).readings_path
    path.unlink()
    path.mkdir()
    made_, named = read(lab)
    assert len(made_.traced[0].series.points) == 1
    assert len(named) == 1


def test_reading_changes_nothing(lab: Lab) -> None:
    """Whoever only looks moves nothing, broken files included."""
    lab.fill([1.0, 1.0, 1.0])
    lab.open(lab.commits[2]).path.write_text("[", "utf-8")
    before = {path: path.read_bytes() for path in lab.box().iterdir()}
    read(lab)
    assert {path: path.read_bytes() for path in lab.box().iterdir()} == before


def test_machines_are_folders_with_results(lab: Lab) -> None:
    """A machine without a description counts; a folder of something else does not."""
    lab.add(0, [1.0])
    lab.add(0, [1.0], name="other")
    (lab.box("other") / "machine.json").unlink()
    (lab.track.results_dir / "notes").mkdir()
    assert archive.machines(lab.track.results_dir) == ["box", "other"]
    assert archive.machines(lab.folder / "nowhere") == []


def test_the_committed_history(tmp_path: Path) -> None:
    """The results of this repository are series without anything left out, in the order of the releases."""
    track = tracks.load(ROOT / "asv.conf.json")
    repo_path = str(tracks.open_repo(track)._path)
    order = [commit.hash for commit in history.line(repo_path, "main")]
    name = "linux-x86-2core"
    with StoreIndex(dataclasses.replace(track, root=tmp_path)) as index:
        found = indexed_series.of_machine(index, name, order, cases.load(track))
        assert list(told.unread(index, name)) == []
    assert found.others == set()
    assert len(found.traced) > 40
    for traced in found.traced:
        places = [order.index(point.commit) for point in traced.series.points]
        assert places == sorted(places)
        assert traced.series.borders == ()
        assert all(point.value > 0 for point in traced.series.points)
    decode = next(
        item.series for item in found.traced if item.series.benchmark == "decode.Decode.time_decode"
    )
    assert len(decode.points) > 50
    assert all(point.error is not None and point.launches > 1 for point in decode.points)
    assert dataclasses.asdict(decode)["tokens"] == 32
