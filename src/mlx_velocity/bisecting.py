"""A search for the commit that did it, as it is carried out: asked for a step, measured, recorded, asked again.

All that is known stands in the records. So a search that was interrupted goes on from its file, and nothing is
decided here: what to measure next, and when it is over, is asked of search.py after each pair.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlx_velocity import interleave, markers, search
from mlx_velocity.bisection import Lost, Measured, Point, Ready
from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError
from mlx_velocity.launches import Control, Launches, StartWorker
from mlx_velocity.records import Case
from mlx_velocity.search import Answer, Measure, Step, Taken, Terms
from mlx_velocity.tracks import Track

Record = Ready | Lost | Measured
PATIENCE = interleave.PATIENCE
"""Disturbed pairs in a row after which the search is given up for now."""
USUAL_PAIR_S = 10.0
"""What a pair takes before one was measured; only its ratio to the time of a build matters."""


@dataclass
class Search:
    """What is known of the commits on a path, made again from records."""

    points: Sequence[Point]
    case: Case
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = {point.commit: number for number, point in enumerate(self.points)}

    @property
    def last(self) -> int:
        """The number of the bad end; the good one is 0."""
        return len(self.points) - 1

    @property
    def measured(self) -> list[Measured]:
        """All that was measured of commits on this path."""
        return [
            item for item in self.records
            if isinstance(item, Measured) and item.low in self._numbers and item.high in self._numbers
        ]  # fmt: skip

    @property
    def pairs(self) -> list[tuple[int, int, PairReading]]:
        """The pairs that count, with the numbers of their commits."""
        return [
            (self._numbers[item.low], self._numbers[item.high], item.reading)
            for item in self.measured
            if isinstance(item.reading, PairReading) and not item.reading.disturbed
        ]

    @property
    def taken(self) -> list[Taken]:
        """The same as the maths wants them."""
        return [
            Taken(low, high, pair)
            for low, high, reading in self.pairs
            for pair in interleave.effects([reading])
        ]

    @property
    def lost(self) -> dict[int, str]:
        """Commits that can't be measured, with the reason."""
        found = {
            self._numbers[item.commit]: f"{item.outcome}: {item.reason}"
            for item in self.records
            if isinstance(item, Lost) and item.commit in self._numbers
        }
        for number, breaks in self._breaks().items():
            worked = any(number in (low, high) for low, high, _ in self.pairs)
            # Who worked once may be killed once.
            if len(breaks) > worked or breaks[0].outcome == "skipped":
                found.setdefault(number, f"{breaks[0].outcome}: {breaks[0].reason}")
        return found

    @property
    def disturbed_in_a_row(self) -> int:
        """Pairs since the last one that counts."""
        readings = [item.reading for item in self.measured if isinstance(item.reading, PairReading)]
        count = 0
        for reading in reversed(readings):
            if not reading.disturbed:
                break
            count += 1
        return count

    def _breaks(self) -> dict[int, list[Break]]:
        found: dict[int, list[Break]] = {}
        for item in self.measured:
            if isinstance(item.reading, Break):
                commit = item.low if item.reading.side == "base" else item.high
                found.setdefault(self._numbers[commit], []).append(item.reading)
        return found

    def decide(self, terms: Terms) -> Step:
        """The next pair, or the answer."""
        return search.decide(self.last, self.taken, set(self.lost), terms, self.cost)

    def cost(self, low: int, high: int) -> float:
        """Seconds that a pair of two commits is expected to take, with what must be built for it."""
        times = [item.wall_s for item in self.measured]
        builds = [item.wall_s for item in self.records if isinstance(item, Ready)]
        ready = {item.commit for item in self.records if isinstance(item, Ready)}
        missing = sum(self.points[number].commit not in ready for number in (low, high))
        pair_s = statistics.median(times) if times else USUAL_PAIR_S
        # Ends are often there already, and then cost nothing; the rest has to be made.
        return max(pair_s, 0.01) + missing * (statistics.fmean(builds) if builds else 0.0)

    @property
    def pair_s(self) -> float:
        """Seconds that a pair took so far, all told."""
        times = [item.wall_s for item in self.records if isinstance(item, (Measured, Ready))]
        return sum(times) / max(1, len(self.measured))


@dataclass(frozen=True)
class Event:
    """Something a progress line wants to know."""

    text: str
    step: Measure
    pairs: int
    left_s: float | None
    """Seconds that are probably left; None where nobody can tell."""


@dataclass(frozen=True)
class Stopped:
    """How a search ended: with an answer, or before it."""

    step: Step
    reason: str = ""
    """Why it ended without an answer."""


def carry_out(
    track: Track,
    state: Search,
    terms: Terms,
    control: Prepared | None,
    *,
    prepare: Callable[[Point], Prepared],
    start_worker: StartWorker,
    record: Callable[[Record], None],
    seed: int,
    seconds: float | None = None,
    say: Callable[[Event], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Stopped:
    """Measure until there is an answer, the time is over, or the machine is too disturbed.

    Each record is handed to `record` as it comes, and added to the state. Raises InputError where an end has not got
    the case, MeasurementError where an end can't be measured.
    """
    began, ready = clock(), dict[int, Prepared]()

    def add(item: Record) -> None:
        state.records.append(item)
        record(item)

    start = len(state.measured)
    with Control(control, start_worker, clock) as fixed:
        while not isinstance(step := state.decide(terms), Answer):
            for _ in range(min(step.times, terms.most_pairs - len(state.pairs))):
                if seconds is not None and clock() - began >= seconds:
                    return Stopped(step, "the time was used up")
                if len(state.measured) > start and state.disturbed_in_a_row >= PATIENCE:
                    return Stopped(step, f"{PATIENCE} pairs in a row were disturbed")
                say(_event(state, step))
                if not _made(state, step, ready, prepare, add, clock):
                    break
                number = len(state.measured) + 1
                sides = {"base": ready[step.low], "head": ready[step.high]}
                at = clock()
                with Launches(sides, start_worker) as workers, markers.mark(state.case.label, "case"):
                    draw = random.Random(f"{seed}-{number}")
                    readings = interleave.measure_pair(track, workers, state.case, number, draw, fixed, clock)
                wall_s = round(clock() - at, 6)
                low, high = state.points[step.low].commit, state.points[step.high].commit
                for reading in readings:
                    add(Measured(low, high, step.purpose, wall_s / len(readings), reading))
                _check_ends(state)
                if any(isinstance(reading, Break) for reading in readings):
                    break
    return Stopped(step, step.reason)


def _event(state: Search, step: Measure) -> Event:
    names = " and ".join(state.points[number].commit[:8] for number in (step.low, step.high))
    left_s = None if step.left is None or step.purpose == "ends" else step.left * state.pair_s
    return Event(names, step, len(state.pairs), left_s)


def _made(
    state: Search,
    step: Measure,
    ready: dict[int, Prepared],
    prepare: Callable[[Point], Prepared],
    add: Callable[[Record], None],
    clock: Callable[[], float],
) -> bool:
    """Make what a pair needs; where a commit can't be had, it is recorded, and another pair must be chosen."""
    for number in (step.low, step.high):
        if number in ready:
            continue
        point, at = state.points[number], clock()
        try:
            ready[number] = prepare(point)
        except EnvironmentFailure as error:
            if number in (0, state.last):
                raise
            add(Lost(point.commit, "incompatible" if error.incompatible else "failed", error.message))
            return False
        known = {item.commit for item in state.records if isinstance(item, Ready)}
        if point.commit not in known:
            add(Ready(point.commit, ready[number].record, round(clock() - at, 6)))
    return True


def _check_ends(state: Search) -> None:
    for number, name in ((0, "good"), (state.last, "bad")):
        if reason := state.lost.get(number):
            point = state.points[number]
            words = f"{state.case.label} can't be measured at the {name} end, {point.commit[:8]} ({point.subject}): {reason}"
            if reason.startswith("skipped"):
                raise InputError(words, "name an end that has the case")
            raise MeasurementError(words, "name another end, or mend the case")
