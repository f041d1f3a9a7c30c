"""asv's step detection with the results that `asv.step_detect.detect_steps` gives, about ten times as fast.

asv tries some ten penalties for a piece and keeps the one whose fit is best for its number of pieces. That search is
here, its loops are in potts.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from asv import step_detect
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Step = tuple[int, int, float, float, float]
"""Left (inclusive) and right (exclusive) position, median, least value, mean deviation from the median."""

WORTH_IT = 20_000
"""Points in all from which compiled loops are faster than asv's own function: loading them takes a second."""


def detect(series: Sequence[tuple[Floats, Floats]]) -> list[list[Step]]:
    """The steps of each series of values and weights, both NaN where missing, as asv's `detect_steps` gives them.

    Values must be finite: with an infinite one asv's function does not end.
    """
    many = sum(len(values) for values, _ in series) >= WORTH_IT
    return [compiled(*one) if many else by_asv(*one) for one in series]


def by_asv(values: Floats, weights: Floats) -> list[Step]:
    """The steps of one series by asv's own function."""

    def listed(numbers: Floats) -> list[float | None]:
        return [None if math.isnan(number) else number for number in numbers.tolist()]

    found: list[Step] = step_detect.detect_steps(listed(values), listed(weights))
    return found


def compiled(values: Floats, weights: Floats) -> list[Step]:
    """The steps of one series by the compiled loops."""
    # Loading the compiler takes longer than most publishes have to.
    from mlx_velocity.site import potts

    known = ~np.isnan(weights)
    with np.errstate(invalid="ignore"):
        positions = np.flatnonzero(~np.isnan(values) & ~(weights <= 0))
    y = values[positions]
    scaled = weights[positions] / ((float(np.median(weights[known])) if known.any() else 1.0) or 1.0)
    w = np.where(np.isnan(scaled), 1.0, scaled)
    if len(y) < 2 or not (np.isfinite(y).all() and np.isfinite(w).all()):
        return by_asv(values, weights)
    points = potts.points(y, w)
    fits: dict[bytes, tuple[float, NDArray[np.int64]]] = {}

    def fit(gamma: float) -> tuple[float, NDArray[np.int64]]:
        joined = potts.join(points, potts.partition(points.table, gamma), gamma)
        # Neighbouring penalties often give the same pieces.
        if (key := joined.tobytes()) not in fits:
            ends = potts.move(points, joined)
            fits[key] = score(ends), ends
        return fits[key]

    def score(ends: NDArray[np.int64]) -> float:
        """asv's measure of a fit, less is better."""
        levels = potts.levels(points, ends)
        least = 0.1 * np.abs(np.diff(levels)).min() if len(levels) > 2 else 0.001 * np.abs(levels).min()
        left = potts.least_spread(y - np.repeat(levels, np.diff(ends)), w)
        return 4 * math.log(len(y)) / len(y) * len(levels) + math.log(max(1e-300, least) + left)

    ends = _best(fit, potts.distance(points, 0, 0, len(y)) or 1.0, len(y))
    found: list[Step] = []
    for (left, end), level in zip(pairwise(ends.tolist()), potts.levels(points, ends).tolist(), strict=True):
        away = float(potts.distance(points, 0, left, end))
        least = float(y[left:end].min())
        found.append(
            (int(positions[left]), int(positions[end - 1]) + 1, level, least, abs(away / (end - left)))
        )
    return found


def _best(
    fit: Callable[[float], tuple[float, NDArray[np.int64]]], whole: float, size: int
) -> NDArray[np.int64]:
    """Ends of the pieces of the best fit which asv's golden section search over penalties comes across."""
    best, ends = math.inf, np.array([0, size])

    def score(place: float) -> float:
        nonlocal best, ends
        one, its_ends = fit(whole * math.exp(place))
        if one < best:
            best, ends = one, its_ends
        return one

    low = math.log(0.1 / size)
    step_detect.golden_search(score, low, 0.0, xatol=abs(low) * 0.1, ftol=0, expand_bounds=True)
    return ends
