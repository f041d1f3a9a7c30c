"""Two sides measured together: launch by launch in pairs, turn by turn in ABBA order, until it is decided.

A launch of each side is alive at the same time, and a third worker, the control, runs a fixed probe
beside them. Only one of the three computes at any moment. What a launch does to its samples (memory
layout, address randomisation) is averaged over pairs of launches; see docs/verdicts.md.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import markers, metrics, quality, results, scheduler, verdict
from mlx_velocity.comparison import Break, PairReading, SideName
from mlx_velocity.environments import Prepared
from mlx_velocity.launches import Control, Launches, StartWorker
from mlx_velocity.records import Case, Pair
from mlx_velocity.tracks import Track
from mlx_velocity.verdict import Rule
from mlx_velocity.workers import WorkerError

SIDES: tuple[SideName, SideName] = ("base", "head")
COUNTED_PAIRS = 3
"""Pairs of launches in which bytes are counted, where they are the same each time."""
COUNTED_MOST = 6
"""And where they are not."""
PATIENCE = 6
"""Disturbed pairs in a row after which a case is given up: who disturbs does not go away by itself."""
SPARE = 1.5
"""Launches at most, as a multiple of the pairs wanted: disturbed ones are measured again, not for ever."""
PAIR_S = 2.0
"""Turns of a case go on for this long in each pair: about what starting two launches takes."""
ROUNDS_MOST = 12
"""Times that ABBA is run through in a pair at most."""


@dataclass(frozen=True)
class Budget:
    """When to stop though nothing is decided."""

    samples: int | None = None
    """Samples a side and case, two in each pair; None for as many as the rule looks at."""
    seconds: float | None = None

    def used(self, pairs: Sequence[PairReading]) -> bool:
        """Whether these pairs are as many as there may be, however often their turns were repeated."""
        return self.samples is not None and 2 * len(pairs) >= self.samples


@dataclass(frozen=True)
class Event:
    """Something a progress line wants to know."""

    launch: int
    """Pair of launches under way, from 1."""
    decided: int
    total: int
    text: str


@dataclass
class Subject:
    """A case under comparison: the pairs that count so far, and what kept it from being measured."""

    case: Case
    pairs: list[PairReading] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    disturbed_in_a_row: int = 0

    @property
    def over(self) -> bool:
        """Whether measuring it again is pointless."""
        return is_broken(self.breaks, self.pairs) or self.disturbed_in_a_row >= PATIENCE

    def add(self, reading: PairReading | Break) -> None:
        """Take in what was measured."""
        if isinstance(reading, Break):
            self.breaks.append(reading)
        elif reading.disturbed:
            self.disturbed_in_a_row += 1
        else:
            self.pairs.append(reading)
            self.disturbed_in_a_row = 0

    @property
    def counted(self) -> bool:
        """Whether its numbers are compared exactly."""
        return is_counted(self.case.unit)

    def evidence(self, rule: Rule) -> verdict.Evidence:
        """What its times say by themselves."""
        return verdict.evidence(effects(self.pairs), rule)


def is_broken(breaks: Sequence[Break], pairs: Sequence[PairReading]) -> bool:
    """Whether a case can't be measured: it was skipped, never worked, or failed twice on one side.

    A worker may be killed once for reasons of its own; where the case worked before, it gets another launch.
    """
    if not breaks or any(item.outcome == "skipped" for item in breaks):
        return bool(breaks)
    return not pairs or max(sum(item.side == side for item in breaks) for side in SIDES) > 1


def is_counted(unit: str) -> bool:
    """Bytes are compared exactly, whatever the noise of their series; seconds never are."""
    return unit == metrics.BYTES.unit


def effects(pairs: Sequence[PairReading]) -> list[Pair]:
    """The pairs as the rule wants them: the median of each turn's samples."""
    return [
        Pair(tuple(map(statistics.median, pair.base)), tuple(map(statistics.median, pair.head)))
        for pair in pairs
        if not pair.disturbed
    ]


def undecided(subjects: Sequence[Subject], rule: Rule, budget: Budget) -> list[Subject]:
    """The subjects that another pair of launches may still decide."""
    timed = [item for item in subjects if not is_broken(item.breaks, item.pairs) and not item.counted]
    verdicts = verdict.decide({item.case.key: item.evidence(rule) for item in timed}, rule)
    left = []
    for item in subjects:
        if item.over or budget.used(item.pairs):
            continue
        if item.counted:
            wanted = COUNTED_PAIRS if _counted(item, rule) != "inconclusive" else COUNTED_MOST
            if len(item.pairs) < wanted:
                left.append(item)
        elif len(item.pairs) < rule.most_pairs and verdicts[item.case.key] == "inconclusive":
            left.append(item)
    return left


def compare(
    track: Track,
    sides: tuple[Prepared, Prepared],
    control: Prepared | None,
    subjects: list[Subject],
    rule: Rule,
    budget: Budget,
    *,
    start_worker: StartWorker,
    record: Callable[[PairReading | Break], None],
    seed: int,
    say: Callable[[Event], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure pairs of launches until every subject is decided or the budget is used.

    Each pair is handed to `record` as it comes, and added to its subject.
    A case that fails is recorded as a `Break`, and the rest goes on.
    """
    draw, began = random.Random(seed), clock()
    with Control(control, start_worker, clock) as fixed:
        for number in range(1, round(rule.most_pairs * SPARE) + 1):
            left = undecided(subjects, rule, budget)
            if not left or _over(began, budget, clock):
                break
            # Cases of one model stay together; every other launch goes backwards, against slow drift.
            order = left[:: 1 if number % 2 else -1]
            with Launches({"base": sides[0], "head": sides[1]}, start_worker) as workers:
                for subject in order:
                    if _over(began, budget, clock):
                        break
                    say(Event(number, len(subjects) - len(left), len(subjects), subject.case.label))
                    with markers.mark(subject.case.label, "case"):
                        measured = measure_pair(track, workers, subject.case, number, draw, fixed, clock)
                    for reading in measured:
                        subject.add(reading)
                        record(reading)


def measure_pair(
    track: Track,
    workers: Launches,
    case: Case,
    number: int,
    draw: random.Random,
    fixed: Control,
    clock: Callable[[], float],
) -> list[PairReading | Break]:
    """One case in one pair of launches, `base` and `head` among `workers`: ready on both sides, then turn about."""
    message = scheduler.measure_message(track, case)
    breaks: list[PairReading | Break] = []
    # By lot too: whoever is started and warmed up second finds another machine.
    for side in draw.sample(SIDES, 2):
        failed = _ask(workers, side, {**message, "op": "warm"}, case)
        if isinstance(failed, Break):
            breaks.append(failed)
    if breaks:
        return breaks
    control, usual = fixed.read()
    started, began, order = results.now(), clock(), ""
    turns: dict[SideName, list[list[float]]] = {"base": [], "head": []}
    notes: dict[str, dict[str, Any]] = {}
    sensors: list[dict[str, Any]] = []
    rounds = 1 if is_counted(case.unit) else ROUNDS_MOST
    while not order or (len(order) < 4 * rounds and clock() - began < PAIR_S):
        # Drawn anew each time: whatever the first turn costs falls on both sides alike.
        drawn = draw.choice(("ABBA", "BAAB"))
        order += drawn
        for letter in drawn[:2] if is_counted(case.unit) else drawn:
            side = SIDES[letter == "B"]
            answer = _turn(workers, side, message, case)
            if isinstance(answer, Break):
                other = SIDES[letter == "A"]
                # Failing on one side alone is a finding: the other one must have had its turn.
                second = None if turns[other] else _turn(workers, other, message, case)
                return [answer, second] if isinstance(second, Break) else [answer]
            turns[side].append(answer["samples"])
            notes[side] = answer["notes"]
            sensors.append(answer["sensors"])
    worst = quality.worst(sensors)
    reason = "" if is_counted(case.unit) else quality.of_pair(worst, control, usual)
    reading = PairReading(
        number, case.benchmark, case.version, list(case.params), case.unit, order, turns["base"], turns["head"],
        started, round(clock() - began, 6), reason, control, notes, worst,
    )  # fmt: skip
    return [reading]


def _turn(workers: Launches, side: SideName, message: dict[str, Any], case: Case) -> dict[str, Any] | Break:
    answer = _ask(workers, side, {**message, "op": "turn"}, case)
    if isinstance(answer, Break):
        return answer
    if wrong := [value for value in answer["samples"] if not _possible(value, case.unit)]:
        return _break(side, case, "failed", f"it answered {wrong[0]!r}, which can't be compared", [])
    return answer


def _ask(workers: Launches, side: SideName, message: dict[str, Any], case: Case) -> dict[str, Any] | Break:
    try:
        answer = workers.request(side, message, case.timeout_s)
    except WorkerError as error:
        return _break(side, case, error.outcome, error.reason, error.last_lines)
    if "skipped" in answer:
        return _break(side, case, "skipped", answer["skipped"], [])
    return answer


def _break(side: SideName, case: Case, outcome: str, reason: str, last_lines: list[str]) -> Break:
    return Break(
        side, case.benchmark, case.version, list(case.params), outcome, reason or outcome, last_lines
    )


def _counted(item: Subject, rule: Rule) -> str:
    if not item.pairs:
        return "inconclusive"
    return verdict.counted(*counts(item.pairs), rule)[0]


def counts(pairs: Sequence[PairReading]) -> tuple[list[float], list[float]]:
    """The numbers of both sides, one or more from each launch."""
    sides = ([pair.base for pair in pairs], [pair.head for pair in pairs])
    base, head = ([value for turns in side for turn in turns for value in turn] for side in sides)
    return base, head


def _possible(value: Any, unit: str) -> bool:
    """Whether a worker's number can be one: nothing takes no time, and no memory is possible."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return value > 0 or (value == 0 and is_counted(unit))


def _over(began: float, budget: Budget, clock: Callable[[], float]) -> bool:
    return budget.seconds is not None and clock() - began >= budget.seconds
