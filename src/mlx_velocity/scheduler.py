"""What is measured when: the missing cases of each commit, launch by launch, saved one by one."""

from __future__ import annotations

import functools
import os
import statistics
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import cases as case_list
from mlx_velocity import environments, markers, readings, results
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, MeasurementError
from mlx_velocity.history import Commit
from mlx_velocity.records import CONTROL, Case, Failure, Launch, Measurement, Outcome
from mlx_velocity.tracks import Track
from mlx_velocity.workers import LocalWorker, Worker, WorkerError

HELLO_TIMEOUT_S = 300.0
"""Importing transformers for the first time compiles hundreds of files."""

Benchmark = dict[str, Any]
StartWorker = Callable[[Prepared], Worker]


@dataclass(frozen=True)
class Event:
    """Something a progress line wants to know; `done` and `total` count case launches."""

    kind: str
    """environment, case, saved, failed, set_aside."""
    text: str
    commit: Commit
    done: int
    total: int


@dataclass
class Summary:
    """What a run has done so far."""

    total: int = 0
    """Case launches that were planned; `done` of them are stored."""
    done: int = 0
    measured: int = 0
    failed: int = 0
    skipped: int = 0
    environments_failed: int = 0
    commits: int = 0
    timed_s: float = 0.0
    """Seconds inside timed samples."""
    wall_s: float = 0.0


@dataclass
class Plan:
    """A unit of work, a plain record that could cross a network: one commit and its missing cases."""

    commit: Commit
    stored: results.CommitResults
    rounds: list[list[Case]] = field(default_factory=list)
    """The cases of each launch."""

    @property
    def size(self) -> int:
        """Case launches to do."""
        return sum(len(cases) for cases in self.rounds)


def plan(stored: results.CommitResults, commit: Commit, cases: list[Case], launches: int | None) -> Plan:
    """The launches that a commit still needs: the first launch measures what misses most."""
    missing = [
        (case, max(0, (launches or case.launches) - stored.launches_done(case)))
        for case in cases
        if not stored.settled(case)
    ]
    most = max((count for _, count in missing), default=0)
    rounds = [[case for case, count in missing if count > number] for number in range(most)]
    # Every other launch goes backwards, so that slow drift does not favour the same cases.
    return Plan(
        commit, stored, [cases[:: 1 if number % 2 == 0 else -1] for number, cases in enumerate(rounds)]
    )


def run_plans(
    track: Track,
    repo_path: str,
    plans: list[Plan],
    benchmarks: dict[str, Benchmark],
    *,
    profile: str,
    say: Callable[[Event], None] = lambda _: None,
    start_worker: StartWorker | None = None,
    control: Callable[[], dict[str, float]] = dict,
    ahead: Callable[[Prepared, list[Case], Callable[[str], None]], object] = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Measure what the plans name, newest commit first; every result is saved as it comes.

    `control` reads the seconds of the fixed probe, by its parts; they are kept with each case. `ahead` is called
    before a commit's first launch with its cases.

    An environment that can't be had and a case that fails are recorded, and the run goes on.
    Raises MeasurementError where the package index is out of reach, InputError where results
    can't be written.
    """
    summary, began = Summary(), clock()
    summary.total = sum(item.size for item in plans)
    starter = start_worker or (lambda prepared: LocalWorker(prepared, {"MLX_VELOCITY_PROFILE": profile}))
    for item in plans:
        if not item.size:
            continue
        summary.commits += 1
        item.stored.take_up()

        def tell(kind: str, text: str, item: Plan = item) -> None:
            say(Event(kind, text, item.commit, summary.done, summary.total))

        tell("environment", "environment")
        try:
            prepared = environments.prepare(
                track, repo_path, item.commit.hash, lambda text: tell("environment", text)
            )
        except EnvironmentFailure as error:
            outcome: Outcome = "incompatible" if error.incompatible else "failed"
            item.stored.fail_all(Failure(outcome, error.message, started=results.now()), benchmarks)
            summary.environments_failed += 1
            summary.total -= item.size
            tell("failed", f"{outcome}: {error.message}")
            continue
        item.stored.environment_made()
        if prepared.record not in item.stored.stored:
            item.stored.add(prepared.record)
        with markers.mark(f"{item.commit.short} {item.commit.subject}", "commit"):
            ahead(prepared, item.rounds[0], functools.partial(tell, "environment"))
            for number, planned in enumerate(item.rounds):
                # What failed in an earlier launch of this run is not tried again.
                left = [case for case in planned if not item.stored.settled(case)]
                with closing(_launch(track, prepared, left, starter, item.stored, control, tell)) as answers:
                    for case, reading in answers:
                        item.stored.add(reading, benchmarks[case.benchmark])
                        summary.done += 1
                        if isinstance(reading, Measurement):
                            summary.measured += 1
                            summary.timed_s += sum(reading.samples) if reading.unit == "seconds" else 0.0
                            tell("saved", case.label)
                            continue
                        summary.total -= sum(case in later for later in item.rounds[number + 1 :])
                        if reading.outcome == "skipped":
                            summary.skipped += 1
                            tell("skipped", f"{case.label}: {reading.reason}")
                        else:
                            summary.failed += 1
                            tell("failed", f"{case.label}: {reading.reason}")
    summary.wall_s = clock() - began
    return summary


def _launch(
    track: Track,
    prepared: Prepared,
    cases: list[Case],
    start_worker: StartWorker,
    stored: results.CommitResults,
    control: Callable[[], dict[str, float]],
    tell: Callable[[str, str], None],
) -> Generator[tuple[Case, Measurement | Failure], None, None]:
    """Measure cases in one worker; where it dies, the next case gets a new one."""
    worker: Worker | None = None
    launch: str | None = None
    broken: WorkerError | None = None
    try:
        for case in cases:
            started = results.now()
            if worker is None and broken is None:
                try:
                    worker = start_worker(prepared)
                    opened = open_launch(worker, prepared)
                except WorkerError as error:
                    worker, broken = None, error
                else:
                    launch = opened.launch
                    stored.add(opened)
            if worker is None:
                # A worker that can't even start would fail for every other case as well.
                assert broken is not None
                yield case, _failure(case, None, broken, started)
                continue
            tell("case", case.label)
            fixed = control()
            started, begin = results.now(), time.monotonic()
            try:
                with markers.mark(case.label, "case"):
                    answer = worker.request(measure_message(track, case), case.timeout_s)
            except WorkerError as error:
                worker = None
                yield case, _failure(case, launch, error, started)
                continue
            reading: Measurement | Failure
            try:
                if fixed and "sensors" in answer:
                    known = {CONTROL: statistics.geometric_mean(fixed.values())}
                    answer = {**answer, "sensors": {**answer["sensors"], **known}}
                reading = _reading(case, str(launch), answer, started, time.monotonic() - begin)
            except (ValueError, TypeError, KeyError) as error:
                worker.close()
                worker, unreadable = None, WorkerError(f"the answer can't be stored: {error}")
                reading = _failure(case, launch, unreadable, started)
            yield case, reading
    finally:
        if worker is not None:
            worker.close()


def open_launch(worker: Worker, prepared: Prepared, batch: bool = False) -> Launch:
    """Greet a new worker: it pins itself and proves that it measures what is intended.

    `batch` is for comparisons: it takes noise away, and changes what is measured, which a series must not.
    """
    answer = worker.request(
        {
            "op": "hello",
            "modules": prepared.modules,
            "cores": cores(prepared),
            "batch": batch,
            "backend": prepared.record.backend,
        },
        HELLO_TIMEOUT_S,
    )
    return Launch(
        uuid.uuid4().hex[:12], results.now(), answer["affinity"], answer["modules"], answer["startup_s"]
    )


def cores(prepared: Prepared) -> list[int]:
    """The core that a CPU series is pinned to: the last one, which the system uses least.

    GPU series run free, since their host threads are meant to overlap.
    """
    if prepared.record.backend != "cpu" or not hasattr(os, "sched_getaffinity"):
        return []
    return [max(os.sched_getaffinity(0))]


def measure_message(track: Track, case: Case) -> dict[str, Any]:
    """The request to measure a case."""
    index = case.index if case.params else None
    return {
        "op": "measure",
        "benchmark_dir": str(track.benchmark_dir),
        "benchmark": case.benchmark,
        "index": index,
    }


def discover(
    track: Track,
    repo_path: str,
    commits: list[Commit],
    start_worker: StartWorker | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Benchmark]:
    """All benchmarks of a track by name, found in the first environment that can be had.

    Raises MeasurementError where none can import the suite.
    """
    reason, suite_is_broken = "there is no commit to try", False
    for commit in commits:
        try:
            prepared = environments.prepare(track, repo_path, commit.hash, say)
            found = discover_in(prepared, track, start_worker)
        except (EnvironmentFailure, WorkerError) as error:
            reason, suite_is_broken = str(error), suite_is_broken or isinstance(error, WorkerError)
            continue
        case_list.save(track, list(found.values()))
        return found
    if not suite_is_broken and (track.results_dir / "benchmarks.json").is_file():
        # What failed is the commits' environments: each gets its reason, for the benchmarks known so far.
        return case_list.load(track)
    raise MeasurementError(f"the benchmarks can't be imported: {reason}", "run: asv check, or mend the suite")


def discover_in(
    prepared: Prepared, track: Track, start_worker: StartWorker | None = None
) -> dict[str, Benchmark]:
    """All benchmarks of a track by name, as one environment sees them; WorkerError where it can't."""
    worker = (start_worker or (lambda item: LocalWorker(item, {})))(prepared)
    try:
        answer = worker.request(
            {"op": "discover", "benchmark_dir": str(track.benchmark_dir)}, HELLO_TIMEOUT_S
        )
    finally:
        worker.close()
    return {item["name"]: item for item in answer["benchmarks"]}


def _reading(
    case: Case, launch: str, answer: dict[str, Any], started: str, duration_s: float
) -> Measurement | Failure:
    """What a worker answered; ValueError, TypeError or KeyError where it can't be stored."""
    reading: Measurement | Failure
    if "skipped" in answer:
        reading = Failure("skipped", answer["skipped"], *_identity(case), launch, started=started)
    else:
        reading = Measurement(
            launch, case.benchmark, case.version, list(case.params), case.unit, answer["samples"],
            answer["warmup"], started, round(duration_s, 6), answer["notes"], answer["sensors"],
        )  # fmt: skip
    readings.dump(reading).encode("utf-8")
    return reading


def _identity(case: Case) -> tuple[str, str, list[str]]:
    return case.benchmark, case.version, list(case.params)


def _failure(case: Case, launch: str | None, error: WorkerError, started: str) -> Failure:
    reason, *last_lines = [
        text.encode("utf-8", "replace").decode("utf-8") for text in (error.reason, *error.last_lines)
    ]
    return Failure(error.outcome, reason, *_identity(case), launch, error.exit_code, last_lines, started)
