"""Where counted numbers changed: bytes have no noise, so any step that lasts counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlx_velocity.series import ChangePoint, Found, Segment, Series

CHANGING = 0.25
"""Share of neighbours that differ above which numbers are noisy, though they were counted."""
FEWEST = 8
"""Neighbours below which that can't be said."""


def is_exact(series: Series) -> bool:
    """Whether the numbers are counted, and as steady as counted ones should be."""
    if not series.counted:
        return False
    values = series.points.value[usable(series)]
    changes = int(np.count_nonzero(np.diff(values)))
    return len(values) <= FEWEST or changes <= CHANGING * (len(values) - 1)


def usable(series: Series) -> NDArray[np.intp]:
    """Indexes of the points that say something."""
    points = series.points
    return np.flatnonzero(~points.disturbed & np.isfinite(points.value) & (points.value > 0))


def found(series: Series) -> Found:
    """Each step that lasts; a number that comes once and goes again is none, the newest one is unconfirmed."""
    edges = [*sorted(set(series.borders)), len(series.points)]
    places = usable(series).tolist()
    changes: list[ChangePoint] = []
    segments: list[Segment] = []
    for start, end in pairwise([0, *edges]):
        part = [index for index in places if start <= index < end]
        if not part:
            continue
        values = series.points.value[part].tolist()
        begins, level = 0, values[0]
        for number in _steps(values):
            value = values[number]
            ratio = min(value / level, 1e308)  # infinity is no number
            # Whatever lay between the last point of the old level and this one may be to blame.
            last = max(index for index in range(number) if values[index] == level)
            segments.append(Segment(part[begins], part[number - 1], level, level, level))
            changes.append(
                ChangePoint(
                    index=part[number],
                    first=part[last] + 1,
                    last=part[number],
                    ratio=ratio,
                    low=ratio,
                    high=ratio,
                    confidence=1.0,
                    p=0.0,
                    confirmed=number + 1 < len(values),
                )
            )
            begins, level = number, value
        segments.append(Segment(part[begins], part[-1], level, level, level))
    return Found(tuple(changes), tuple(segments))


def _steps(values: list[float]) -> list[int]:
    """Where a number begins that lasts: it comes again, or the next goes on in the same direction."""
    steps = []
    level = values[0]
    for number in range(1, len(values)):
        value = values[number]
        if value == level:
            continue
        following = values[number + 1] if number + 1 < len(values) else value
        if following == value or (following - value) * (value - level) > 0:
            steps.append(number)
            level = value
    return steps
