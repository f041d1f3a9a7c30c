"""What is measured when: plans, launches, failures that are recorded, and nothing lost when workers die."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from conftest import (
    COMMITS,
    ENVIRONMENT,
    STARTED,
    MakeTrack,
    Office,
    Store,
    benchmark,
    case_of,
    failed,
    measured,
)

from mlx_velocity import markers, records, regions, scheduler
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError
from mlx_velocity.records import Case
from mlx_velocity.results import CommitResults
from mlx_velocity.scheduler import Event, Plan, Summary, plan
from mlx_velocity.workers import WorkerError, WorkerTimeout

SWEEP = benchmark("decode.time_decode", [["'a'", "'b'", "'c'"]])
PEAK = benchmark("decode.track_peak", unit="bytes", rounds=1, timeout=7.0)
BENCHMARKS = {item["name"]: item for item in (SWEEP, PEAK)}
CASES = [*(case_of(SWEEP, index) for index in range(3)), case_of(PEAK)]
A, B, C, PEAK_CASE = CASES
LABELS = ["decode.time_decode", "decode.time_decode1", "decode.time_decode2", "decode.track_peak"]


class Run:
    """Runs plans with fake workers and keeps what was said."""

    def __init__(
        self, make_track: MakeTrack, store: Store, office: Office, clock: Callable[[], float]
    ) -> None:
        self.track, self.store, self.office, self.clock = make_track(), store, office, clock
        self.events: list[Event] = []

    def plans(self, launches: int | None = None, cases: list[Case] = CASES) -> list[Plan]:
        return [plan(self.store(commit.hash), commit, cases, launches) for commit in COMMITS]

    def __call__(self, plans: list[Plan] | None = None) -> Summary:
        return scheduler.run_plans(
            self.track, "repo", self.plans()[:1] if plans is None else plans, BENCHMARKS, profile="tiny",
            say=self.events.append, start_worker=self.office, clock=self.clock,
        )  # fmt: skip

    def stored(self, number: int = 0) -> CommitResults:
        return self.store(COMMITS[number].hash)

    def failures(self, number: int = 0) -> list[records.Failure]:
        return [item for item in self.stored(number).stored if isinstance(item, records.Failure)]

    def launches_done(self, number: int = 0) -> list[int]:
        return [self.stored(number).launches_done(case) for case in CASES]


@pytest.fixture
def run(
    make_track: MakeTrack, store: Store, office: Office, clock: Callable[[], float], fake_environments: Any
) -> Run:
    return Run(make_track, store, office, clock)


# The plan


def test_plan(store: Store) -> None:
    """Every case is measured in as many launches as it asks for, every other launch backwards."""
    made = plan(store(), COMMITS[0], CASES, None)
    assert made.rounds == [[A, B, C, PEAK_CASE], [C, B, A]]
    assert made.size == 7


def test_plan_of_what_is_missing(store: Store) -> None:
    """Only missing launches are planned; a failed and a skipped case miss none."""
    stored = store()
    stored.add(measured(A, [1.0]), SWEEP)
    stored.add(failed(B), SWEEP)
    stored.add(failed(PEAK_CASE, "skipped"), PEAK)
    assert plan(stored, COMMITS[0], CASES, None).rounds == [[A, C], [C]]


@pytest.mark.parametrize("outcome", ["failed", "timeout", "skipped"])
def test_plan_of_more_launches(outcome: Any, store: Store) -> None:
    """More launches are planned for what can be measured, and none for what failed or was skipped."""
    stored = store()
    stored.add(measured(A, [1.0]), SWEEP)
    stored.add(failed(B, outcome), SWEEP)
    assert plan(stored, COMMITS[0], [A, B], 5).rounds == [[A]] * 4
    incompatible = store(COMMITS[1].hash)
    incompatible.fail_all(records.Failure("incompatible", "no wheel", started=STARTED), BENCHMARKS)
    assert plan(incompatible, COMMITS[1], CASES, 5).size == 0


# A run


def test_run(run: Run) -> None:
    """One worker a launch measures its cases in order, each is stored, and the next plan is empty."""
    summary = run()
    assert [len(worker.messages) - 1 for worker in run.office.started] == [4, 3]
    assert run.office.measured() == [*LABELS, *LABELS[2::-1]]
    assert all(worker.closed for worker in run.office.started)
    assert run.launches_done() == [2, 2, 2, 1]
    assert (summary.total, summary.done, summary.measured, summary.commits) == (7, 7, 7, 1)
    # Three samples of 1, 3 and 2 seconds for each of six launches; bytes are no time.
    assert summary.timed_s == 36.0
    assert summary.wall_s > 0
    assert [item.size for item in run.plans()[:1]] == [0]
    run.office.started.clear()
    assert run() == Summary(wall_s=1.0)
    assert run.office.started == []


def test_launches_are_told_apart(run: Run) -> None:
    """Samples are stored under the launch that took them, beside the environment, which is stored once."""
    run()
    stored = run.stored().stored
    launches = [item for item in stored if isinstance(item, records.Launch)]
    assert len({item.launch for item in launches}) == 2
    first = [
        r.launch for r in stored if isinstance(r, records.Measurement) and r.launch == launches[0].launch
    ]
    assert len(first) == 4
    assert stored.count(ENVIRONMENT) == 1
    run(run.plans(3))
    assert run.stored().stored.count(ENVIRONMENT) == 1


def test_messages(run: Run) -> None:
    """A worker is told what to prove and what to measure, in words that could cross a network."""
    run()
    hello, with_params, *_, without = run.office.started[0].messages
    assert hello["op"] == "hello"
    assert hello["modules"] == {}
    assert with_params == {
        "op": "measure", "benchmark_dir": str(run.track.benchmark_dir), "benchmark": SWEEP["name"], "index": 0,
    }  # fmt: skip
    assert without["index"] is None
    timeouts = dict(run.office.asked)
    assert (timeouts[LABELS[0]], timeouts[LABELS[3]]) == (5.0, 7.0)


def test_events(run: Run) -> None:
    """Progress names commit and case, never goes back, and ends with all of the total done."""
    run.office.answers = {LABELS[1]: {"skipped": "needs 16 GB"}, LABELS[2]: WorkerError("exit 1", 1)}
    run(run.plans()[:2])
    assert all(0 <= event.done <= event.total for event in run.events)
    done = [event.done for event in run.events]
    assert done == sorted(done)
    assert (run.events[-1].done, run.events[-1].total) == (10, 10)
    assert {event.commit for event in run.events} == set(COMMITS[:2])
    run.events.clear()
    run(run.plans(cases=[B])[2:])
    assert (run.events[-1].done, run.events[-1].total) == (1, 1)


def test_events_tell_reasons(run: Run) -> None:
    """Every case is announced, and every failure and skip gives its reason."""
    run.office.answers = {LABELS[1]: {"skipped": "needs 16 GB"}, LABELS[2]: WorkerError("exit 1", 1)}
    run()
    texts = [event.text for event in run.events]
    assert "decode.time_decode(b): needs 16 GB" in texts
    assert "decode.time_decode(c): exit 1" in texts
    assert "decode.track_peak" in texts


# What goes wrong


def test_crash(run: Run) -> None:
    """A worker that dies is a failure with exit code and last lines, and the next case gets a new one."""
    run.office.answers = {LABELS[1]: [WorkerError("exit -6 (SIGABRT)", -6, ["bf16 matmul", "Aborted"])]}
    summary = run()
    (failure,) = run.failures()
    assert (failure.outcome, failure.benchmark, failure.params) == ("failed", SWEEP["name"], ["'b'"])
    assert (failure.reason, failure.exit_code) == ("exit -6 (SIGABRT)", -6)
    assert failure.last_lines == ["bf16 matmul", "Aborted"]
    assert failure.started
    # The first launch took a second worker; the failed case is not repeated in the second launch.
    assert [[message["op"] for message in worker.messages] for worker in run.office.started] == [
        ["hello", "measure", "measure"], ["hello", "measure", "measure"], ["hello", "measure", "measure"],
    ]  # fmt: skip
    assert run.office.measured() == [*LABELS, LABELS[2], LABELS[0]]
    assert (summary.failed, summary.measured) == (1, 5)
    assert run.plans()[0].size == 0


def test_timeout(run: Run) -> None:
    """A case that takes too long is a timeout, and the rest is measured."""
    run.office.answers = {LABELS[0]: WorkerTimeout(5.0, ["still busy"])}
    assert run().failed == 1
    (failure,) = run.failures()
    assert (failure.outcome, failure.exit_code, failure.last_lines) == ("timeout", None, ["still busy"])
    assert "5 s" in failure.reason


def test_skip(run: Run) -> None:
    """A skipped case is stored with its reason, is not asked again, and costs no new worker."""
    run.office.answers = {LABELS[1]: {"skipped": "needs 16 GB"}}
    summary = run()
    (failure,) = run.failures()
    assert (failure.outcome, failure.reason) == ("skipped", "needs 16 GB")
    assert (summary.skipped, summary.failed) == (1, 0)
    assert run.office.measured().count(LABELS[1]) == 1
    assert len(run.office.started) == 2
    assert run.plans()[0].size == 0


def test_worker_that_cannot_start(run: Run) -> None:
    """Where a worker fails at its start, every case of the launch is a failure, from a single try."""
    run.office.answers = {
        "hello": WorkerError("ImportError: toy was imported from elsewhere", None, ["line"])
    }
    summary = run()
    assert len(run.office.started) == 1
    assert len(run.failures()) == len(CASES) == summary.failed
    assert {item.reason for item in run.failures()} == {"ImportError: toy was imported from elsewhere"}
    assert run.plans()[0].size == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"samples": [float("nan")], "warmup": [], "notes": {}, "sensors": {}},
        {"samples": [], "warmup": [], "notes": {}, "sensors": {}},
        {"samples": [1.0], "warmup": [], "notes": {"loss": [1, 2]}, "sensors": {}},
        {"samples": ["\ud800"], "warmup": [], "notes": {}, "sensors": {}},
        {"samples": [1.0], "warmup": [], "notes": {"digest": "\ud800"}, "sensors": {}},
        {"answer": 42},
    ],
    ids=["nan", "no samples", "notes of no shape", "words", "broken text", "another protocol"],
)
def test_answer_that_cannot_be_stored(answer: dict[str, Any], run: Run) -> None:
    """An answer that the readings can't hold is a failure of that case, and the run goes on."""
    run.office.answers = {LABELS[1]: answer}
    assert run().failed == 1
    (failure,) = run.failures()
    assert failure.params == ["'b'"]
    assert failure.reason
    assert run.launches_done() == [2, 2, 2, 1]
    assert run.plans()[0].size == 0


@pytest.mark.parametrize("incompatible", [True, False])
def test_environment_failure(incompatible: bool, run: Run, fake_environments: dict[str, Exception]) -> None:
    """An environment that can't be had is stored with its reason, and the run goes on with the next commit."""
    fake_environments[COMMITS[0].hash] = EnvironmentFailure("no wheel", incompatible=incompatible)
    summary = run(run.plans())
    (failure,) = run.failures()
    assert failure.outcome == ("incompatible" if incompatible else "failed")
    assert (failure.benchmark, failure.reason) == (None, "no wheel")
    assert (summary.environments_failed, summary.measured, summary.total) == (1, 14, 14)
    assert (run.events[-1].done, run.events[-1].total) == (14, 14)
    # Only what may succeed another time is tried again.
    assert run.plans()[0].size == (0 if incompatible else 7)
    assert run.stored().path.exists()


def test_index_out_of_reach(run: Run, fake_environments: dict[str, Exception]) -> None:
    """Where the package index can't be reached the run ends, and what was measured before is stored."""
    fake_environments[COMMITS[1].hash] = MeasurementError("the package index can't be reached", "check it")
    with pytest.raises(MeasurementError, match="can't be reached"):
        run(run.plans())
    assert run.launches_done() == [2, 2, 2, 1]
    assert run.launches_done(1) == [0, 0, 0, 0]
    # The failure is not the commit's: it is planned as before.
    assert [item.size for item in run.plans()] == [0, 7, 7]


@pytest.mark.parametrize("where", ["hello", LABELS[1]])
def test_interrupted(where: str, run: Run) -> None:
    """Ctrl-C closes the worker, and every case before it is stored."""
    run.office.answers = {where: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [worker.closed for worker in run.office.started] == [True]
    assert run.launches_done() == [int(where != "hello"), 0, 0, 0]
    run.office.answers = {}
    run()
    assert run.launches_done() == [2, 2, 2, 1]
    assert run.plans()[0].size == 0


def test_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a result can't be written the run ends at once, and its worker with it."""
    add = CommitResults.add

    def full(stored: CommitResults, reading: records.Reading, description: Any = None) -> None:
        if isinstance(reading, records.Measurement) and reading.params == ["'b'"]:
            raise InputError("the disk is full", "free some room")
        add(stored, reading, description)

    monkeypatch.setattr(CommitResults, "add", full)
    with pytest.raises(InputError, match="full") as error:
        run()
    # The error still holds the frames of the run, so that nothing is closed by chance.
    assert error.tb is not None
    assert [worker.closed for worker in run.office.started] == [True]
    assert run.launches_done() == [1, 0, 0, 0]


# Discovery


def test_discover(run: Run, fake_environments: dict[str, Exception]) -> None:
    """The benchmarks come from the first commit whose environment and suite work, and are stored as asv's."""
    fake_environments[COMMITS[0].hash] = EnvironmentFailure("no wheel")
    run.office.answers = {"discover": [WorkerError("SyntaxError"), {"benchmarks": [SWEEP, PEAK]}]}
    assert scheduler.discover(run.track, "repo", COMMITS, run.office) == BENCHMARKS
    assert [worker.closed for worker in run.office.started] == [True, True]
    assert (run.track.results_dir / "benchmarks.json").exists()


def test_nothing_to_discover(run: Run) -> None:
    """A suite that no commit can import is one line with the reason."""
    run.office.answers = {"discover": WorkerError("SyntaxError: invalid syntax")}
    with pytest.raises(MeasurementError, match="SyntaxError: invalid syntax"):
        scheduler.discover(run.track, "repo", COMMITS, run.office)


def test_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A CPU series is pinned to one core, where cores can be chosen; a GPU series runs free."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5, 3}, raising=False)
    on_cpu = Prepared("toy", tmp_path, ENVIRONMENT)
    gpu = records.Environment("toy", "cuda", "3.11", [], {})
    assert scheduler.cores(on_cpu) == [5]
    assert scheduler.cores(Prepared("toy", tmp_path, gpu)) == []
    monkeypatch.delattr(os, "sched_getaffinity")
    assert scheduler.cores(on_cpu) == []


def test_markers_of_a_run(run: Run, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a monitor, each commit and each case in each launch are marked, a failed one too."""
    file = tmp_path / "markers.jsonl"
    monkeypatch.setenv(markers.VARIABLE, str(file))
    run.office.answers = {"decode.time_decode1": WorkerError("exit -9")}
    run(run.plans(launches=1)[:2])
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    found = regions.of_markers(lines, lines[-1]["monotonic_s"])
    assert all(item.ended for item in found)
    assert [item.name for item in found if item.what == "commit"] == ["bbbbbbbb toy 11", "cccccccc toy 12"]
    assert sorted(item.name for item in found if item.what == "case") == sorted(
        2 * [case.label for case in CASES]
    )


def test_a_worker_is_told_where_markers_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Of the few variables that a worker gets, the file of markers is one."""
    monkeypatch.setenv(markers.VARIABLE, "/somewhere/markers")
    monkeypatch.setenv("SECRET", "no")
    variables = Prepared("x", tmp_path, ENVIRONMENT).variables()
    assert variables[markers.VARIABLE] == "/somewhere/markers"
    assert "SECRET" not in variables


# The fixed probe


def test_what_the_fixed_probe_took_is_kept_with_each_case(run: Run) -> None:
    """A case's sensors hold the control's reading, as one number, so that a history can tell machine from commit."""
    scheduler.run_plans(
        run.track, "repo", run.plans(1)[:1], BENCHMARKS, profile="tiny", start_worker=run.office, clock=run.clock,
        control=lambda: {"copy": 0.25, "product": 0.01},
    )  # fmt: skip
    kept = [item for item in run.stored().stored if isinstance(item, records.Measurement)]
    assert len(kept) == len(CASES)
    assert all(item.sensors[records.CONTROL] == pytest.approx(0.05) for item in kept)


def test_without_a_probe_no_reading_is_made_up(run: Run) -> None:
    run()
    kept = [item for item in run.stored().stored if isinstance(item, records.Measurement)]
    assert kept
    assert not any(records.CONTROL in item.sensors for item in kept)
