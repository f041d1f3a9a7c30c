"""The words of history: one case on one machine over many commits, and where it changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlx_velocity.points import Gaps, Points, no_gaps


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
    points: Points
    borders: tuple[int, ...] = ()
    """Indexes of points before which something else than the commit changed: machine, OS, affinity, Python. A
    border is never a change point."""
    gaps: Gaps = field(default_factory=no_gaps)
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
