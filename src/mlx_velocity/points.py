"""The points of a series and the gaps between them, kept in columns: a history has millions of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64] | NDArray[np.int32]
NOT_MEASURED = "not measured"
COLUMNS = ("place", "value", "error", "launches", "samples", "control", "why")


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


@dataclass(frozen=True, eq=False)
class Points(Sequence[Point]):
    """Points as a sequence of Point, each made when it is asked for. Columns of n numbers each."""

    line: Sequence[str]
    """Full hashes of commits, shared by many series."""
    place: Whole
    """(n,): where each point's commit stands on the line."""
    value: Numbers
    error: Numbers
    """Not a number where there is none."""
    launches: Whole
    samples: Whole
    control: Numbers
    """Not a number where there is none."""
    why: NDArray[np.int8]
    """0, or where the reason of a disturbed point stands among the reasons."""
    reasons: tuple[str, ...] = ("",)

    @staticmethod
    def of(points: Iterable[Point]) -> Points:
        """The same points in columns."""
        if isinstance(points, Points):
            return points
        listed = list(points)
        reasons = tuple(dict.fromkeys(["", *(point.disturbed for point in listed)]))
        return Points(
            [point.commit for point in listed],
            np.arange(len(listed)),
            np.array([point.value for point in listed], float),
            _numbers(point.error for point in listed),
            np.array([point.launches for point in listed], np.int64),
            np.array([point.samples for point in listed], np.int64),
            _numbers(point.control for point in listed),
            np.array([reasons.index(point.disturbed) for point in listed], np.int8),
            reasons,
        )

    @cached_property
    def disturbed(self) -> NDArray[np.bool_]:
        """(n,): which points say nothing about their commit."""
        found: NDArray[np.bool_] = self.why != 0
        return found

    @property
    def commits(self) -> list[str]:
        """The full hash of each point's commit."""
        return list(map(self.line.__getitem__, self.place.tolist()))

    def __len__(self) -> int:
        return len(self.value)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Points: ...
    def __getitem__(self, index: int | slice) -> Point | Points:
        if isinstance(index, slice):
            return replace(self, **{name: getattr(self, name)[index] for name in COLUMNS})
        return self._point(*(getattr(self, name)[index].item() for name in COLUMNS))

    def __iter__(self) -> Iterator[Point]:
        return map(self._point, *(getattr(self, name).tolist() for name in COLUMNS))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _point(
        self, place: int, value: float, error: float, launches: int, samples: int, control: float, why: int
    ) -> Point:
        return Point(
            self.line[place], value, None if math.isnan(error) else error, launches, samples,
            None if math.isnan(control) else control, self.reasons[why],
        )  # fmt: skip


def _numbers(values: Iterable[float | None]) -> Numbers:
    return np.array([math.nan if value is None else value for value in values], float)


@dataclass(frozen=True, eq=False)
class Gaps(Sequence[Gap]):
    """Gaps as a sequence of Gap, each made when it is asked for. Columns of n numbers each."""

    line: Sequence[str]
    """Full hashes of commits, shared by many series."""
    place: Whole
    """(n,): where each gap's commit stands on the line, rising."""
    why: NDArray[np.int32]
    """(n,): which of the reasons."""
    reasons: tuple[str, ...] = (NOT_MEASURED,)

    @property
    def tried(self) -> Gaps:
        """Those that somebody tried to measure."""
        tried = self.why != self.reasons.index(NOT_MEASURED)
        return replace(self, place=self.place[tried], why=self.why[tried])

    def __len__(self) -> int:
        return len(self.place)

    @overload
    def __getitem__(self, index: int) -> Gap: ...
    @overload
    def __getitem__(self, index: slice) -> Gaps: ...
    def __getitem__(self, index: int | slice) -> Gap | Gaps:
        if isinstance(index, slice):
            return replace(self, place=self.place[index], why=self.why[index])
        return Gap(self.line[self.place[index]], self.reasons[self.why[index]])

    def __iter__(self) -> Iterator[Gap]:
        return (
            Gap(self.line[place], self.reasons[why])
            for place, why in zip(self.place.tolist(), self.why.tolist(), strict=True)
        )

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def no_gaps() -> Gaps:
    """Of a series that lacks nothing."""
    return Gaps((), np.zeros(0, np.int32), np.zeros(0, np.int32))
