"""Profiles taken in workers: of one side in some launches, or of two sides that take turns in pairs of launches."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

from mlx_velocity import profiles, quality, results, scheduler
from mlx_velocity.breakdown import Launch, Task
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.launches import StartWorker
from mlx_velocity.workers import Worker, WorkerError

TIMEOUT_S = 1800.0
"""For all repetitions of a turn, loading the model included."""
SPARE = 1.5
"""Pairs at most, as a multiple of those wanted: disturbed ones are measured again, not for ever."""
DEATHS = 1
"""Launches that may die for reasons of their own."""

Say = Callable[[int, str], None]
"""Told the number of the launch under way and what it does."""


def alone(
    prepared: Prepared, task: Task, start: StartWorker, launches: int, repetitions: int, say: Say = lambda *_: None
) -> list[Launch]:  # fmt: skip
    """Profile one side in some launches. Raises InputError and MeasurementError as `ask` does."""
    found = []
    for number in range(1, launches + 1):
        say(number, "profiling")
        with closing(start(prepared)) as worker:
            opened = _greeted(worker, prepared)
            answer = ask(worker, task, repetitions, warm=True)
            found.append(
                _launch(number, opened, [answer], quality.of_pair(answer.get("sensors", {}), {}, {}))
            )
    return found


def in_turns(
    sides: tuple[Prepared, Prepared],
    task: Task,
    start: StartWorker,
    launches: int,
    repetitions: int,
    seed: int,
    record: Callable[[Launch, Launch], None],
    say: Say = lambda *_: None,
) -> None:
    """Profile two sides in pairs of launches that are alive at once, in turns ABBA or BAAB by lot.

    Each pair is handed to `record`, base first. A disturbed one is marked as such and measured again, up
    to `SPARE` times as many as wanted. Raises InputError and MeasurementError as `ask` does; one launch
    that dies is replaced.
    """
    draw, wanted, deaths, number = random.Random(seed), launches, 0, 0
    while wanted > 0 and number < launches * SPARE:
        number += 1
        say(number, f"{wanted} to go")
        try:
            base, head = _pair(sides, task, start, repetitions, draw, number)
        except MeasurementError:
            deaths += 1
            if deaths > DEATHS or number == 1:
                raise
            continue
        record(base, head)
        wanted -= not base.disturbed


def _pair(
    sides: tuple[Prepared, Prepared], task: Task, start: StartWorker, repetitions: int, draw: random.Random, number: int
) -> tuple[Launch, Launch]:  # fmt: skip
    with closing(start(sides[0])) as first, closing(start(sides[1])) as second:
        workers = (first, second)
        opened = [_greeted(worker, side) for worker, side in zip(workers, sides, strict=True)]
        # By lot too: whoever is warmed up second finds another machine. This run counts for nothing.
        for index in draw.sample((0, 1), 2):
            ask(workers[index], task, 1, warm=True)
        answers: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for letter in draw.choice(("ABBA", "BAAB")):
            answers["AB".index(letter)].append(ask(workers["AB".index(letter)], task, repetitions, warm=False))  # fmt: skip
    looks = [answer.get("sensors", {}) for side in answers for answer in side]
    reason = quality.of_pair(quality.worst(looks), {}, {})
    base, head = (_launch(number, at, got, reason) for at, got in zip(opened, answers, strict=True))
    return base, head


def ask(worker: Worker, task: Task, repetitions: int, warm: bool) -> dict[str, Any]:
    """A worker's answer about a task.

    Raises InputError where the task means nothing or the model can't do it, MeasurementError where the
    worker dies or what it runs fails.
    """
    message = {"op": "profile", **vars(task), "repetitions": repetitions, "warm": warm}
    try:
        answer = worker.request(message, TIMEOUT_S)
    except WorkerError as error:
        raise _failed(task, error) from error
    if "refused" in answer:
        raise InputError(answer["refused"], answer["advice"])
    if "skipped" in answer:
        raise InputError(
            f"{task.label} can't be profiled: {answer['skipped']}", "choose another model or stage"
        )
    return answer


def _greeted(worker: Worker, prepared: Prepared) -> tuple[str, list[int]]:
    """When a launch began, and its cores."""
    started = results.now()
    try:
        return started, scheduler.open_launch(worker, prepared).affinity
    except WorkerError as error:
        raise MeasurementError(
            f"the worker can't begin: {error.reason}", "see that mlx and mlx_lm can be imported there"
        ) from error


def _failed(task: Task, error: WorkerError) -> MeasurementError:
    last = next((line for line in reversed(error.last_lines) if line.strip()), "")
    said = error.reason if last in error.reason else f"{error.reason} ({last})"
    missing = error.reason.startswith(("ModuleNotFoundError", "ImportError"))
    advice = "install mlx, mlx-lm and psutil there" if missing else "try a smaller model, or fewer tokens"
    return MeasurementError(f"{task.label} failed: {said}", advice)


def _launch(number: int, opened: tuple[str, list[int]], answers: list[dict[str, Any]], reason: str = "") -> Launch:  # fmt: skip
    """The turns of one side in one launch as one record."""
    started, affinity = opened
    first = answers[0]
    try:
        return profiles.launch(
            {
                "number": number,
                "started": started,
                "affinity": affinity,
                "versions": first["versions"],
                "steps": first["steps"],
                "unprofiled": [value for answer in answers for value in answer["unprofiled"]],
                "profiled": [value for answer in answers for value in answer["profiled"]],
                "parts": _joined(answers),
                "floor_s": min(answer["floor_s"] for answer in answers),
                "same_result": all(answer["same_result"] for answer in answers),
                "notes": first["notes"],
                "sensors": quality.worst([answer["sensors"] for answer in answers]),
                "disturbed": reason,
            }
        )
    except (KeyError, TypeError) as error:
        raise MeasurementError(
            f"the worker's answer can't be read: {error}", "this is a fault of mlx-velocity"
        ) from error


def _joined(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of several turns, one after the other; in a turn without a part it was called no time."""
    empty = {
        part["name"]: {**part, "self_s": [], "total_s": []} for answer in answers for part in answer["parts"]
    }
    for answer in answers:
        runs, parts = len(answer["profiled"]), {part["name"]: part for part in answer["parts"]}
        for name, joined in empty.items():
            part = parts.get(name, {"self_s": [[]] * runs, "total_s": [0.0] * runs})
            joined["self_s"] = [*joined["self_s"], *part["self_s"]]
            joined["total_s"] = [*joined["total_s"], *part["total_s"]]
    return list(empty.values())
