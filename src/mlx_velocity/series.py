"""The words of history: one case on one machine over many commits, and where it changed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured of a case at one commit."""

    commit: str
    """Full hash."""
    value: float
    """Median of launch medians, in the case's base unit; above zero."""
    error: float | None = None
    """Standard error of log(value) from launches; None with fewer than two."""
    launches: int = 1
    samples: int = 1
    control: float | None = None
    """What a fixed probe took in the same launches, in seconds; None where none was stored."""
    disturbed: str = ""
    """Why its time says nothing about the commit; empty where the machine was fit."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A commit between points that has no number."""

    commit: str
    reason: str
    """`failed: exit -9`, `skipped: …`, or `not measured`."""


@dataclass(frozen=True)
class Series:
    """One case on one machine: its points in the order of the graph, oldest first."""

    machine: str
    environment: str
    """asv's name of the environment: Python and backend."""
    benchmark: str
    params: tuple[str, ...]
    version: str
    """Of the workload."""
    unit: str
    points: tuple[Point, ...]
    borders: tuple[int, ...] = ()
    """Indexes of points before which something else than the commit changed: machine, OS, affinity, Python. A
    border is never a change point."""
    gaps: tuple[Gap, ...] = ()
    counted: bool = False
    """Whether the numbers are exact (bytes), so that any step counts."""
    tokens: int | None = None
    """Tokens that one call handles, where the benchmark says so."""


@dataclass(frozen=True)
class ChangePoint:
    """A place where the level of a series changed for good."""

    index: int
    """The first point of the new level."""
    first: int
    """Location interval: the change came with one of the points `first` … `last`."""
    last: int
    ratio: float
    """New level / old level."""
    low: float
    """Interval of the ratio, at `confidence`."""
    high: float
    confidence: float
    p: float
    """Chance of such a change in a series without one, all looks and all series counted."""
    confirmed: bool = True
    """Whether the new level has enough points to stand on: three of a time, two of a count."""


@dataclass(frozen=True)
class Segment:
    """Points between two change points or borders, which share one level."""

    first: int
    last: int
    level: float
    low: float
    high: float


@dataclass(frozen=True)
class Found:
    """What a detector says about one series."""

    changes: tuple[ChangePoint, ...] = ()
    segments: tuple[Segment, ...] = field(default=())
    anchored: float = 0.0
    """Share of the control's deviations that was taken off the points; 0 where that would not have helped."""
