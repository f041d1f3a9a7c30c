"""Frameworks take turns at each task: all are alive in processes of their own, and only one computes at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_velocity.across import REFERENCE, Entry, Participant, Task, Turn
from mlx_velocity.workers import Worker, WorkerError

LOAD_S = 1800.0
TURN_S = 900.0
"""Wall-clock limits of loading a model, and of preparing or timing a task."""


@dataclass(frozen=True)
class Event:
    """What a progress line shows."""

    text: str
    done: int
    total: int


class Seat:
    """A framework's worker, started when it is first needed and again after it died."""

    def __init__(
        self, framework: str, start: Callable[[], Worker], kind: str, threads: int, cores: list[int]
    ) -> None:
        self.framework = framework
        self.models: dict[str, dict[str, Any]] = {}
        self.about: dict[str, Any] = {}
        self.affinity: list[int] = []
        self._start = start
        self._open = {"op": "open", "framework": framework, "kind": kind, "threads": threads}
        self._cores = cores
        self._worker: Worker | None = None
        self._loaded = ""

    def open(self) -> None:
        """Start the process and the framework in it; raises WorkerError with the reason."""
        if self._worker is not None:
            return
        self._worker = self._start()
        self._loaded = ""
        try:
            hello = self._worker.request({"op": "hello", "modules": {}, "cores": self._cores}, TURN_S)
            self.affinity = hello["affinity"]
            self.about = self._worker.request(self._open, TURN_S)["about"]
        except WorkerError:
            self.close()
            raise

    def request(self, message: dict[str, Any], timeout_s: float = TURN_S) -> dict[str, Any]:
        """The worker's answer; raises WorkerError, after which a new one is started."""
        self.open()
        assert self._worker is not None
        try:
            return self._worker.request(message, timeout_s)
        except WorkerError:
            self.close()
            raise

    def load(self, spec: str, folder: str) -> dict[str, Any]:
        """Load a model unless it is there; what is known of its weights, or `skipped` with the reason."""
        self.open()
        if self._loaded != spec:
            answer = self.request({"op": "load", "spec": spec, "folder": folder}, LOAD_S)
            self.models[spec] = answer.get("model") or {"skipped": answer["skipped"]}
            self._loaded = spec
        return self.models[spec]

    def participant(self) -> Participant:
        """What it said about itself."""
        return Participant(self.framework, self.about, self.affinity, self.models)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
        self._worker, self._loaded = None, ""


@dataclass(frozen=True)
class Plan:
    """What is done at each task."""

    rounds: int
    launches: int
    seed: int
    folders: dict[str, str]
    """Spec → the folder of its files."""


Message = Callable[[Task], dict[str, Any]]


def rotate(
    seats: Sequence[Seat], tasks: Sequence[Task], plan: Plan, message: Message,
    record: Callable[[Task, list[Entry]], None], say: Callable[[Event], None],
) -> None:  # fmt: skip
    """Measure every task in every launch, and hand its entries to `record` after each launch.

    The order of turns is drawn anew in each round. A framework that breaks at a task is left out of it,
    and starts afresh at the next one.
    """
    chance = random.Random(plan.seed)
    total, done = plan.launches * len(tasks), 0
    for launch in range(plan.launches):
        try:
            for task in tasks:
                say(Event(task.label, done, total))
                record(task, _task(seats, task, plan, message, launch, chance))
                done += 1
        finally:
            for seat in seats:
                seat.close()
    say(Event("", done, total))


def _task(
    seats: Sequence[Seat], task: Task, plan: Plan, message: Message, launch: int, chance: random.Random
) -> list[Entry]:
    entries: dict[str, Entry] = {}
    calls: int | None = None
    # The reference is asked first: it chooses how many calls a sample of all has.
    for seat in sorted(seats, key=lambda item: item.framework != REFERENCE):
        entries[seat.framework] = _ready(seat, task, plan, {**message(task), "calls": calls})
        calls = calls or entries[seat.framework].facts.get("calls")
    for number in range(plan.rounds):
        order = [seat for seat in seats if entries[seat.framework].reason is None]
        chance.shuffle(order)
        for seat in order:
            entry = entries[seat.framework]
            try:
                answer = seat.request({"op": "turn"})
            except WorkerError as error:
                entries[seat.framework] = replace(entry, reason=error.reason, failed=True, turns=[])
                continue
            fields = ("samples", "busy_cores", "waited_s", "idle_s")
            entry.turns.append(Turn(launch, number, *(answer[name] for name in fields)))
    return list(entries.values())


def _ready(seat: Seat, task: Task, plan: Plan, message: dict[str, Any]) -> Entry:
    try:
        if task.kind != "operator":
            loaded = seat.load(task.spec, plan.folders[task.spec])
            if "skipped" in loaded:
                return Entry(seat.framework, reason=loaded["skipped"])
        answer = seat.request({"op": "ready", **message})
    except WorkerError as error:
        return Entry(seat.framework, reason=error.reason, failed=True)
    if "skipped" in answer:
        return Entry(seat.framework, reason=answer["skipped"])
    return Entry(seat.framework, answer["facts"])
