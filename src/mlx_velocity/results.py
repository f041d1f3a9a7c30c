"""The stored results of one machine in one track: asv's own files beside our readings.

The readings are the truth and are written first; asv's file is derived from them case by case, so
it can be made again when it is lost or broken.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asv import util
from asv.results import Results, get_filename
from asv.runner import BenchmarkResult
from filelock import FileLock, Timeout

from mlx_velocity import parameters, readings, records, units
from mlx_velocity.errors import InputError

BY_ASV = "asv"
"""Stands for the launches of what stock asv measured, which does not tell them apart."""


def now() -> str:
    """The time in UTC as it is stored."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def lock(work_dir: Path, track: str, machine: str) -> Iterator[None]:
    """Hold the results of a machine for writing; a lock whose owner died is free.

    Raises InputError naming the owner where another process holds it.
    """
    path = work_dir / "locks" / f"{track}-{machine}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_suffix(".owner")
    guard = FileLock(path, timeout=0)
    try:
        guard.acquire()
    except Timeout:
        who = owner.read_text("utf-8").strip() if owner.exists() else "another process"
        raise InputError(
            f"the results of {machine} in track {track} are being written by {who}",
            "wait for it to end, or end it",
        ) from None
    try:
        owner.write_text(f"process {os.getpid()} since {units.moment(time.time())}", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        guard.release()


@dataclass
class CommitResults:
    """What is stored of one commit in one environment."""

    folder: Path
    """Folder of the machine."""
    params: dict[str, str]
    """asv's parameters of a series: the machine's fields, the Python, the backend."""
    requirements: dict[str, str]
    commit: str
    date_s: int
    env_name: str
    python: str
    read_only: bool = False
    """Look and move nothing: whoever only shows holds no lock."""
    stored: list[records.Reading] = field(default_factory=list)
    set_aside: list[records.SetAside] = field(default_factory=list)
    """What opening had to move out of the way."""

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        stored, bad = readings.read(self.readings_path)
        self.stored = stored
        if bad:
            reason = f"{len(bad)} unreadable lines, the first: {bad[0][1]}"
            self._put_aside(self.readings_path, reason)
        self._asv = self._open_asv()

    @property
    def path(self) -> Path:
        """asv's result file."""
        name: str = get_filename(self.folder.name, self.commit, self.env_name)
        return self.folder / Path(name).name

    @property
    def readings_path(self) -> Path:
        """Our readings beside it."""
        return self.path.with_name(self.path.name.removesuffix(".json") + readings.SUFFIX)

    @property
    def fields(self) -> dict[str, str]:
        """The machine's fields, the Python and the pins as asv's file has them; as given where there is none."""
        return {key: str(value) for key, value in self._asv.params.items()}

    def let_go(self) -> None:
        """Hold nothing in memory until it is taken up again: many commits may wait for their turn."""
        self.stored = []
        del self._asv

    def take_up(self) -> None:
        """Read again what was let go, as it is now."""
        if not hasattr(self, "_asv"):
            self._open()

    def settled(self, case: records.Case) -> bool:
        """Whether a case failed, was skipped, or can't be measured here at all: it is not tried again."""
        for item in self.stored:
            if not isinstance(item, records.Failure):
                continue
            if belongs(item, case) or (item.benchmark is None and item.outcome == "incompatible"):
                return True
        return False

    def launches_done(self, case: records.Case) -> int:
        """How many launches have measured a case; all of them where it is settled."""
        if self.settled(case):
            return case.launches
        measured = [item for item in self.stored if isinstance(item, records.Measurement)]
        return len({item.launch for item in measured if belongs(item, case)})

    def add(self, reading: records.Reading, benchmark: dict[str, Any] | None = None) -> None:
        """Store a reading at once; with its benchmark, asv's file as well.

        `benchmark` is asv's description of the benchmark that the reading is of. Raises InputError
        where the disk refuses.
        """
        readings.append(self.readings_path, [reading])
        self.stored.append(reading)
        if benchmark is not None:
            self._derive(benchmark)
            self._save()

    def fail_all(self, failure: records.Failure, benchmarks: dict[str, dict[str, Any]]) -> None:
        """Record that nothing could be measured: the environment failed. The same reason is not told twice."""
        if any(_same_reason(item, failure) for item in self.stored):
            return
        readings.append(self.readings_path, [failure])
        self.stored.append(failure)
        for benchmark in benchmarks.values():
            if benchmark["name"] not in self._asv.get_all_result_keys():
                self._derive(benchmark)
        self._save()

    def forget_failures(self) -> int:
        """Drop stored failures so that they are tried again; returns how many there were."""
        kept = [item for item in self.stored if not _retryable(item)]
        dropped = len(self.stored) - len(kept)
        if dropped:
            self._rewrite(kept)
        return dropped

    def _rewrite(self, kept: list[records.Reading]) -> None:
        readings.replace(self.readings_path, "".join(readings.dump(item) + "\n" for item in kept))
        self.stored = kept

    def environment_made(self) -> None:
        """Drop what no longer holds: that this commit's environment failed."""
        kept = [item for item in self.stored if not _of_environment(item)]
        if len(kept) < len(self.stored):
            self._rewrite(kept)

    def replace(self, whole: list[records.Reading], benchmarks: dict[str, dict[str, Any]]) -> None:
        """Store `whole`, which holds all that is stored and more, and derive asv's file again."""
        self._rewrite(whole)
        named = {getattr(item, "benchmark", None) for item in whole}
        for benchmark in benchmarks.values():
            # None is a failed environment: it speaks of every benchmark that nothing else is known of.
            if benchmark["name"] in named or (
                None in named and benchmark["name"] not in self._asv.get_all_result_keys()
            ):
                self._derive(benchmark)
        self._save()

    def restore(self, benchmarks: dict[str, dict[str, Any]]) -> None:
        """Derive asv's file from the readings where it is missing."""
        if self.path.exists():
            return
        named = {getattr(item, "benchmark", None) for item in self.stored}
        lost = [benchmark for benchmark in benchmarks.values() if benchmark["name"] in named]
        for benchmark in lost:
            self._derive(benchmark)
        # An empty file would tell asv that this commit is done.
        if lost:
            self._save()

    def measured_by_asv(self, benchmarks: dict[str, dict[str, Any]]) -> list[records.Measurement]:
        """What only asv's file holds: stock asv measured it, and says nothing of launches, so it is one."""
        ours = {
            (item.benchmark, tuple(item.params or ()))
            for item in self.stored
            if isinstance(item, (records.Measurement, records.Failure))
        }
        found = []
        for name in self._asv.get_result_keys(benchmarks):
            benchmark = benchmarks[name]
            values = self._asv.get_result_value(name, benchmark["params"])
            samples = self._asv.get_result_samples(name, benchmark["params"])
            for params, value, taken in zip(parameters.sets(benchmark), values, samples, strict=True):
                if not util.is_na(value) and (name, params) not in ours:
                    found.append(
                        records.Measurement(
                            BY_ASV,
                            name,
                            str(benchmark["version"]),
                            list(params),
                            str(benchmark.get("unit", "seconds")),
                            taken or [value],
                            [],
                            "",
                            0.0,
                        )
                    )
        return found

    def _open_asv(self) -> Results:
        fresh = Results(
            self.params, self.requirements, self.commit, self.date_s * 1000, self.python, self.env_name, {}
        )
        if not self.path.exists():
            return fresh
        try:
            loaded = Results.load(str(self.path), machine_name=self.folder.name)
            if loaded.commit_hash != self.commit:
                raise ValueError(f"it holds commit {str(loaded.commit_hash)[:8]}")
            for key in loaded.get_all_result_keys():
                # asv goes through all sets, of which a damaged file may name more than fit into memory.
                parameters.check(key, loaded.get_result_params(key))
                loaded.get_result_value(key, loaded.get_result_params(key))
            return loaded
        except (util.UserError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            self._put_aside(self.path, " ".join(str(error).split())[:300] or type(error).__name__)
            return fresh

    def _put_aside(self, path: Path, reason: str) -> None:
        """Keep a broken file under another name; of our readings, the good lines stay in place."""
        stem = f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        # A clock that was set back may name one that is there already.
        taken = sum(other.name.startswith(stem) for other in path.parent.glob(f"{path.name}.corrupt-*"))
        target = path.with_name(f"{stem}_{taken + 1}" if taken else stem)
        note = records.SetAside(target.name, reason, now())
        self.set_aside.append(note)
        if self.read_only:
            return
        self.stored.append(note)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise readings.cannot_write(path, error) from error
        readings.replace(self.readings_path, "".join(readings.dump(item) + "\n" for item in self.stored))
        if path != self.readings_path:
            path.unlink()

    def _derive(self, benchmark: dict[str, Any]) -> None:
        """Pool the launches of every case of a benchmark into asv's columns."""
        no_environment = any(
            isinstance(item, records.Failure) and item.benchmark is None for item in self.stored
        )
        values: list[float | None] = []
        samples: list[list[float] | None] = []
        known: set[int] = set()
        started, duration = None, 0.0
        for index, params in enumerate(parameters.sets(benchmark)):
            key = (benchmark["name"], benchmark["version"], list(params))
            own = [
                item
                for item in self.stored
                if isinstance(item, (records.Measurement, records.Failure))
                and (item.benchmark, item.version, item.params) == key
            ]
            measured = [item for item in own if isinstance(item, records.Measurement)]
            value, taken = pooled(own, no_environment)
            values.append(value)
            samples.append(taken)
            # A failed environment says nothing against what stock asv measured in one of its own.
            if own or (no_environment and benchmark["name"] not in self._asv.get_all_result_keys()):
                known.add(index)
            started = started or (measured[0].started if measured else None)
            duration += sum(item.duration_s for item in measured)
        numbers = [1 if item else None for item in samples]
        at = units.instant(started) if started else datetime.now(UTC)
        # What stock asv measured and the readings do not hold stays as it is.
        self._asv.add_result(
            benchmark, BenchmarkResult(values, samples, numbers, None, "", None), at, duration,
            record_samples=True, selected_idx=known,
        )  # fmt: skip

    def _save(self) -> None:
        # asv's own writing is not atomic: let it write elsewhere, and put the text in place at once.
        with readings.put_in_place(self.path) as aside:
            self._asv._filename = aside.name
            self._asv.save(str(self.folder))


def pooled(
    own: Sequence[records.Measurement | records.Failure], no_environment: bool
) -> tuple[float | None, list[float] | None]:
    """What asv's file holds of a case, all launches together: the median, and the samples.

    asv writes null for a failure, and not-a-number for what was not measured.
    """
    outcomes = [item.outcome for item in own if isinstance(item, records.Failure)]
    samples = [sample for item in own if isinstance(item, records.Measurement) for sample in item.samples]
    if any(outcome != "skipped" for outcome in outcomes) or (no_environment and not own):
        return None, None
    return statistics.median(samples) if samples else math.nan, samples or None


def belongs(reading: records.Measurement | records.Failure, case: records.Case) -> bool:
    """Whether a reading is of this case in its present version."""
    return (reading.benchmark, reading.version, tuple(reading.params or ())) == case.key


def _of_environment(item: records.Reading) -> bool:
    return isinstance(item, records.Failure) and item.benchmark is None


def _same_reason(item: records.Reading, failure: records.Failure) -> bool:
    return (
        isinstance(item, records.Failure)
        and _of_environment(item)
        and (item.outcome, item.reason) == (failure.outcome, failure.reason)
    )


def _retryable(item: records.Reading) -> bool:
    return isinstance(item, records.Failure) and item.outcome in ("failed", "timeout", "incompatible")
