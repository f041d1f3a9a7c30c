"""Reads sources at a steady pace, and each so rarely that all of them cost no more than they may."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlx_velocity.monitor.sources import Read

FORMAT = 1
"""Version of a line of a monitor's file. 1: first version."""
SMOOTHING = 0.3
"""Weight of the newest cost: a source that was slow once is not slow."""


@dataclass
class Paced:
    """A source, what reading it costs (seconds of a core), and when it is due again."""

    read: Read
    cost_s: float | None = None
    due_s: float = 0.0
    is_warm: bool = False
    """Read once: the first reading finds files and fills caches, and says nothing about the cost of the next."""


class Sampler:
    """Samples of all sources that are due.

    `budget` is the share of a core that reading may cost. A source that costs more than its part of it is read less
    often than every `interval_s`, and is absent from the samples between.
    """

    def __init__(
        self,
        reads: dict[str, Read],
        interval_s: float,
        budget: float,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], tuple[float, float]] | None = None,
    ) -> None:
        self._sources = {name: Paced(read) for name, read in reads.items()}
        self._interval_s = interval_s
        self._budget = budget
        self._clock = clock
        self._spent = spent or core_seconds
        self.broken: dict[str, str] = {}
        """Sources that failed and are read no more, with the reason."""
        self.children_s = 0.0
        """Seconds of a core that the programs took that were asked."""

    def prime(self) -> None:
        """Read everything once, untimed: a first look imports, finds files, and has nothing to compare with."""
        for name, source in list(self._sources.items()):
            self._read(name, source)

    def sample(self) -> dict[str, Any]:
        """One sample: the two clocks, and what the sources that are due say."""
        now = self._clock()
        found: dict[str, Any] = {
            "format": FORMAT, "kind": "sample", "time_s": round(time.time(), 3), "monotonic_s": round(now, 3),
        }  # fmt: skip
        for name, source in list(self._sources.items()):
            # Half an interval early is in time: the pace is kept by others.
            if now < source.due_s - self._interval_s / 2:
                continue
            own, children = self._spent()
            found |= self._read(name, source)
            own_after, children_after = self._spent()
            # A program takes no more than the time it was waited for; the command that is watched may end meanwhile.
            asked = min(children_after - children, self._clock() - now)
            self.children_s += asked
            cost = own_after - own + asked
            if source.is_warm:
                last = cost if source.cost_s is None else source.cost_s
                source.cost_s = last + SMOOTHING * (cost - last)
            source.is_warm = True
            if name in self._sources:
                source.due_s = now + self._every_s()[name]
        return found

    def pace(self) -> dict[str, dict[str, float]]:
        """By source: milliseconds of a core that a reading costs, and seconds between readings."""
        every_s = self._every_s()
        return {
            name: {"cost_ms": round(1000 * source.cost_s, 3), "every_s": round(every_s[name], 3)}
            for name, source in self._sources.items()
            if source.cost_s is not None
        }

    def _every_s(self) -> dict[str, float]:
        """Seconds between readings of each source: what cheap ones leave of the budget is for the costly ones."""
        left, found = self._budget, {}
        costs = sorted((source.cost_s or 0.0, name) for name, source in self._sources.items())
        for number, (cost_s, name) in enumerate(costs):
            part = min(cost_s / self._interval_s, left / (len(costs) - number))
            found[name] = max(self._interval_s, cost_s / part) if part > 0 else self._interval_s
            left -= part
        return found

    def _read(self, name: str, source: Paced) -> dict[str, Any]:
        try:
            return source.read()
        except Exception as error:
            # Whoever is watched must not end because a watcher's source did.
            self.broken[name] = f"{type(error).__name__}: {error}"
            del self._sources[name]
            return {}


def core_seconds() -> tuple[float, float]:
    """Seconds of a core that this process spent, and those of the programs that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


def follow(
    take: Callable[[], object],
    interval_s: float,
    wait: Callable[[float], bool],
    until_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Call `take` at every tick until `wait(seconds)` says that it is over, or `until_s` of the clock is reached.

    Ticks that passed meanwhile (a sleeping or stalled machine) are not made up for; their number is returned.
    """
    start, tick, missed = clock(), 0, 0
    while True:
        take()
        passed = int((clock() - start) / interval_s)
        missed += max(0, passed - tick)
        tick = max(tick, passed) + 1
        due = start + tick * interval_s
        if until_s is not None and due >= until_s:
            wait(max(0.0, until_s - clock()))
            return missed
        if wait(max(0.0, due - clock())):
            return missed
