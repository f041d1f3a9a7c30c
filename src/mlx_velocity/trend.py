"""Whether a series of numbers rises, how fast, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_velocity import stats

FEWEST = 3
"""Points that a slope with an error needs."""


@dataclass(frozen=True)
class Slope:
    """How fast a series rises: in units of y for each unit of x, with an interval that holds it at `confidence`."""

    value: float
    low: float
    high: float
    confidence: float


def slope(xs: Sequence[float], ys: Sequence[float], confidence: float = 0.95) -> Slope | None:
    """Ordinary least squares with Student's interval for the slope (Draper and Smith, 3rd edition, section 1.4).

    None with fewer than three points, or all at one x. The interval supposes that points scatter
    independently around the line.
    """
    if len(xs) < FEWEST or max(xs) == min(xs):
        return None
    x, y = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    squares = float(x @ x)
    value = float(x @ y) / squares
    freedom = len(xs) - 2
    error = math.sqrt(float(((y - value * x) ** 2).sum()) / freedom / squares)
    reach = stats.student_reach(freedom, confidence) * error
    return Slope(value, value - reach, value + reach, confidence)


def keeps_rising(xs: Sequence[float], ys: Sequence[float], confidence: float = 0.95) -> bool:
    """Whether the slope is surely above zero, and each half rises by itself.

    A single jump makes a slope that looks certain; but then one half is flat.
    """
    whole = slope(xs, ys, confidence)
    middle = len(xs) // 2
    halves = [slope(xs[:middle], ys[:middle]), slope(xs[middle:], ys[middle:])]
    rises = all(half is not None and half.value > 0 for half in halves)
    return whole is not None and whole.low > 0 and rises
