"""The points of a series and the gaps between them, kept in columns: a history has millions of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64] | NDArray[np.int32]
NOT_MEASURED = "not measured"
Row = TypeVar("Row")


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
class Rows(Sequence[Row]):
    """A sequence whose items are made when they are asked for, from columns of n numbers each."""

    COLUMNS: ClassVar[tuple[str, ...]]
    """The fields that are columns, in the order in which `_row` takes an item's numbers."""

    line: Sequence[str]
    """Full hashes of commits, shared by many series."""
    place: Whole
    """(n,): where each item's commit stands on the line, rising."""
    reasons: tuple[str, ...] = field(kw_only=True)
    """What the column `why` counts in."""

    def __len__(self) -> int:
        return len(self.place)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Row | Self:
        if isinstance(index, slice):
            return self._taken(index)
        return self._row(*(getattr(self, name)[index].item() for name in self.COLUMNS))

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, *(getattr(self, name).tolist() for name in self.COLUMNS))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _taken(self, which: slice | NDArray[np.bool_]) -> Self:
        return replace(self, **{name: getattr(self, name)[which] for name in self.COLUMNS})

    def _row(self, *numbers: Any) -> Row:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Points(Rows[Point]):
    """Points, oldest first."""

    COLUMNS = ("place", "value", "error", "launches", "samples", "control", "why")

    value: Numbers
    error: Numbers
    """Not a number where there is none."""
    launches: Whole
    samples: Whole
    control: Numbers
    """Not a number where there is none."""
    why: NDArray[np.int8]
    """0, or where the reason of a disturbed point stands among the reasons."""

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
            reasons=reasons,
        )

    @cached_property
    def disturbed(self) -> NDArray[np.bool_]:
        """(n,): which points say nothing about their commit."""
        found: NDArray[np.bool_] = self.why != 0
        return found

    def _row(
        self, place: int, value: float, error: float, launches: int, samples: int, control: float, why: int
    ) -> Point:
        return Point(
            self.line[place], value, None if math.isnan(error) else error, launches, samples,
            None if math.isnan(control) else control, self.reasons[why],
        )  # fmt: skip


def _numbers(values: Iterable[float | None]) -> Numbers:
    return np.array([math.nan if value is None else value for value in values], float)


@dataclass(frozen=True, eq=False)
class Gaps(Rows[Gap]):
    """Gaps, oldest first."""

    COLUMNS = ("place", "why")

    why: NDArray[np.int32]
    """(n,): which of the reasons."""

    @property
    def tried(self) -> Gaps:
        """Those that somebody tried to measure."""
        return self._taken(self.why != self.reasons.index(NOT_MEASURED))

    def _row(self, place: int, why: int) -> Gap:
        return Gap(self.line[place], self.reasons[why])


def no_gaps() -> Gaps:
    """Of a series that lacks nothing."""
    return Gaps((), np.zeros(0, np.int32), np.zeros(0, np.int32), reasons=(NOT_MEASURED,))
