"""Weighted medians of ranges of a series, with the numbers that asv's own extension gives, for many ranges at once.

Every sum is added up from the left, as asv adds: its rounding decides between fits that are equally good.
"""

from __future__ import annotations

import numpy as np
from asv import step_detect
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 20
"""Points of the widest window: asv's `max_size` in solve_potts_approx."""
LONG_RANGE = 200
"""Above it, a range's median is computed faster here than by asv's extension, which sorts pairs."""
BLOCK = 64


class Ranges:
    """Weighted medians of ranges of a series, and the weighted distances from them; both ends are inclusive."""

    # It must not be part of a cycle: what asv's extension holds is freed twice when the collector finds it.
    def __init__(self, y: Floats, w: Floats) -> None:
        self.y, self.w = y, w
        order = np.lexsort((w, y))
        self.rank = np.empty(len(order), np.int32)
        self.rank[order] = np.arange(len(order), dtype=np.int32)
        self.y_sorted, self.w_sorted = y[order], w[order]
        self.short = step_detect.get_mu_dist(y.tolist(), w.tolist())
        self.long: dict[tuple[int, int], tuple[float, float]] = {}

    def mu(self, left: int, right: int) -> float:
        """The median of a range."""
        if right - left < LONG_RANGE:
            return float(self.short.mu(left, right))
        return self._long(left, right)[0]

    def dist(self, left: int, right: int) -> float:
        """The distance of a range from its median."""
        if right - left < LONG_RANGE:
            return float(self.short.dist(left, right))
        return self._long(left, right)[1]

    def windows(self) -> Floats:
        """Distances from the weighted median, by (right end, window); the last window is one point wide."""
        size = len(self.y)
        table = np.full((size, WINDOW), np.inf)
        ranks = np.empty((WINDOW, size), np.int32)
        for width in range(1, WINDOW + 1):
            count = size - width + 1
            # Windows that end at width - 1 and later: put the point that joins on the left among the sorted ones.
            held, joining = ranks[:, width - 1 :], self.rank[:count].copy()
            for row in range(width - 1):
                least = np.minimum(held[row], joining)
                np.maximum(held[row], joining, out=joining)
                held[row] = least
            held[width - 1] = joining
            inside = held[:width]
            total = self.w_sorted[inside]
            for row in range(1, width):
                np.add(total[row - 1], total[row], out=total[row])
            middle = total[-1] / 2
            at = np.add.reduce(total < middle, axis=0, dtype=np.intp)
            column = np.arange(count)
            median = self.y_sorted[inside[at, column]]
            tied = np.flatnonzero((total[at, column] == middle) & (at + 1 < width))
            median[tied] = (self.y_sorted[inside[at[tied] + 1, tied]] + median[tied]) / 2
            distances = np.abs(sliding_window_view(self.y, count) - median)
            distances *= sliding_window_view(self.w, count)
            # Rows are added one after the other, as asv adds.
            table[width - 1 :, WINDOW - width] = np.add.reduce(distances, axis=0)
        return table

    def many(self, left: int, right: int, ends: NDArray[np.intp]) -> Floats:
        """What it costs to split the range before each of `ends`: the distances of both sides together."""
        span = np.argsort(self.rank[left : right + 1])
        before = np.arange(right - left + 1)[:, None] < ends - left
        inside = np.concatenate([before, ~before], axis=1)
        y, w = self.y[left : right + 1, None], self.w[left : right + 1, None]
        # A zero for what is not in a range leaves every sum as it is.
        total = np.add.accumulate(np.where(inside[span], w[span], 0.0), axis=0)
        middle = total[-1] / 2
        at = np.add.reduce(total < middle, axis=0, dtype=np.intp)
        median = y[span[at], 0]
        after = np.add.reduce(total <= middle, axis=0, dtype=np.intp)
        tied = np.flatnonzero((after > at) & (total[at, np.arange(len(at))] == middle) & (after < len(span)))
        median[tied] = (y[span[after[tied]], 0] + median[tied]) / 2
        distances = np.abs(y - median)
        distances *= w
        distances[~inside] = 0.0
        sums: Floats = np.add.reduce(distances, axis=0)
        return sums[: len(ends)] + sums[len(ends) :]

    def _long(self, left: int, right: int) -> tuple[float, float]:
        found = self.long.get((left, right))
        if found is None:
            inside = np.sort(self.rank[left : right + 1])
            at, tied = _middle(self.w_sorted[inside])
            median = self.y_sorted[inside[at]]
            if tied and at + 1 < len(inside):
                median = (self.y_sorted[inside[at + 1]] + median) / 2
            distances = np.abs(self.y[left : right + 1] - median)
            distances *= self.w[left : right + 1]
            found = float(median), float(np.add.accumulate(distances)[-1])
            self.long[left, right] = found
        return found


def _middle(weights: Floats) -> tuple[int, bool]:
    """Where the sum of weights, added from the left, reaches half of them all, and whether it is exactly half."""
    # Sums of blocks are quick and nearly right. Where that leaves no doubt, the slow sum in order is not needed.
    blocks = np.add.accumulate(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK)))
    middle = blocks[-1] / 2
    start = int(np.searchsorted(blocks, middle)) * BLOCK
    reached = np.add.accumulate(weights[start : start + BLOCK])
    if start:
        reached += blocks[start // BLOCK - 1]
    at = int(np.searchsorted(reached, middle))
    doubt = blocks[-1] * 1e-9
    if (
        at < len(reached)
        and middle + doubt < reached[at]
        and reached[at] - weights[start + at] + doubt < middle
    ):
        return start + at, False
    total = np.add.accumulate(weights)
    middle = total[-1] / 2
    at = int(np.searchsorted(total, middle))
    return at, bool(total[at] == middle)
