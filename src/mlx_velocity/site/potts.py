"""The loops of asv's step detection, compiled: a piecewise constant fit with a penalty for each piece.

asv solves the problem over windows of 20 points (Friedrich et al., 2008), joins pieces where that costs less, and moves
their borders. Sums are added in asv's order, since their rounding decides between fits that are equally good. What differs is how a
weighted median is found: asv sorts each range anew, here a tree of sums over the ranks follows the range as it grows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW = 20
"""Points of the widest window: asv's `max_size` in solve_potts_approx."""
DOUBT = 1e-9
"""Share of a sum that its order of addition can't change; where less decides, the sum is made in asv's order."""
KEPT_BITS = 14
"""Of the number of ranges whose distance is kept."""
SPREAD = 11400714819323
"""Odd and large: keys that differ a little come to places far apart."""
GOLDEN = 2 / (1 + math.sqrt(5))


def compiled(function: Any) -> Any:
    """The function compiled, once for all later processes where a folder for that can be written."""
    try:
        return njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:
        return njit(function, nogil=True, error_model="numpy")


class Points(NamedTuple):
    """A series of n points, and what is kept of its ranges while it is fitted."""

    y: Floats
    w: Floats
    rank: Ints
    """Where each point stands among all, by value, then by weight."""
    y_sorted: Floats
    w_sorted: Floats
    equal: bool
    """All weights are 1: sums of them are exact."""
    table: Floats
    """Distances of ranges of up to WINDOW points, (n, WINDOW): by last point and number of points less one."""
    trees: Floats
    """Two trees of sums of weights over the ranks, (2, n + 1): for a left and for a right neighbour."""
    held: Ints
    """Which points each tree holds: from where to before which one, (2, 2)."""
    ranges: Ints
    found: Floats
    """Distances of wider ranges; which ones, `ranges` says. A later range may take an earlier one's place."""


def points(y: Floats, w: Floats) -> Points:
    """A series made ready: values and weights, two points or more, all finite."""
    order = np.lexsort((w, y))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    table = windows(y, w, rank, y[order], w[order])
    return Points(
        y, w, rank, y[order], w[order], bool((w == 1.0).all()), table, np.zeros((2, len(y) + 1)),
        np.zeros((2, 2), np.int64), np.full(1 << KEPT_BITS, -1), np.empty(1 << KEPT_BITS),
    )  # fmt: skip


@compiled
def _add(tree: Floats, place: int, weight: float) -> None:
    place += 1
    while place < len(tree):
        tree[place] += weight
        place += place & -place


@compiled
def _follow(points: Points, side: int, left: int, end: int) -> None:
    """Let a tree hold the points from `left` to before `end`."""
    tree, held, rank, w = points.trees[side], points.held[side], points.rank, points.w
    kept = min(held[1], end) - max(held[0], left)
    if kept < (end - left) // 2:
        # Mostly others: begin again.
        if held[1] - held[0] > len(tree) // 8:
            tree[:] = 0.0
        else:
            for at in range(held[0], held[1]):
                place = rank[at] + 1
                while place < len(tree):
                    tree[place] = 0.0
                    place += place & -place
        held[0] = held[1] = left
    while held[0] > left:
        held[0] -= 1
        _add(tree, rank[held[0]], w[held[0]])
    while held[1] < end:
        _add(tree, rank[held[1]], w[held[1]])
        held[1] += 1
    while held[0] < left:
        _add(tree, rank[held[0]], -w[held[0]])
        held[0] += 1
    while held[1] > end:
        held[1] -= 1
        _add(tree, rank[held[1]], -w[held[1]])


@compiled
def _reached(tree: Floats, target: float) -> tuple[int, float]:
    """The first rank up to which the sum is `target` or more, and the sum before it."""
    place, before, step = 0, 0.0, 1
    while 2 * step < len(tree):
        step *= 2
    while step:
        after = place + step
        if after < len(tree) and before + tree[after] < target:
            place, before = after, before + tree[after]
        step //= 2
    return place, before


@compiled
def _sorted_median(inside: Ints, y_sorted: Floats, w_sorted: Floats) -> float:
    """The weighted median of the points of these sorted ranks, with sums in asv's order."""
    total = 0.0
    for place in inside:
        total += w_sorted[place]
    middle, reached = total / 2, 0.0
    for at in range(len(inside)):
        reached += w_sorted[inside[at]]
        if reached >= middle:
            median: float = y_sorted[inside[at]]
            if reached == middle and at + 1 < len(inside):
                median = (y_sorted[inside[at + 1]] + median) / 2
            return median
    last: float = y_sorted[inside[-1]]
    return last


@compiled
def _away(y: Floats, w: Floats, left: int, end: int, median: float) -> float:
    """The weighted distance of a range from its median."""
    total = 0.0
    for at in range(left, end):
        total += w[at] * abs(y[at] - median)
    return total


@compiled
def median(points: Points, side: int, left: int, end: int) -> float:
    """The weighted median of the points from `left` to before `end`, by the tree of one side."""
    if end - left <= WINDOW:
        return float(_sorted_median(np.sort(points.rank[left:end]), points.y_sorted, points.w_sorted))
    _follow(points, side, left, end)
    tree, y_sorted, w_sorted = points.trees[side], points.y_sorted, points.w_sorted
    total = _total(tree)
    place, before = _reached(tree, total / 2)
    if points.equal:
        if before + 1.0 == total / 2:
            after, _ = _reached(tree, total / 2 + 1.0)
            return float((y_sorted[after] + y_sorted[place]) / 2)
        return float(y_sorted[place])
    doubt = total * DOUBT
    if place < len(y_sorted) and before + doubt < total / 2 and total / 2 + doubt < before + w_sorted[place]:
        return float(y_sorted[place])
    return float(_sorted_median(np.sort(points.rank[left:end]), y_sorted, w_sorted))


@compiled
def _total(tree: Floats) -> float:
    place, total = len(tree) - 1, 0.0
    while place:
        total += tree[place]
        place -= place & -place
    return total


@compiled
def distance(points: Points, side: int, left: int, end: int) -> float:
    """The weighted distance of the points from `left` to before `end` from their median."""
    if end - left <= WINDOW:
        return float(points.table[end - 1, end - left - 1])
    key = left * (len(points.y) + 1) + end
    # Neighbouring penalties ask for much of the same.
    slot = (key * SPREAD >> 20) & (len(points.ranges) - 1)
    if points.ranges[slot] != key:
        points.ranges[slot] = key
        points.found[slot] = _away(points.y, points.w, left, end, median(points, side, left, end))
    return float(points.found[slot])


@compiled
def levels(points: Points, ends: Ints) -> Floats:
    """The median of each piece."""
    found = np.empty(len(ends) - 1)
    for at in range(len(found)):
        found[at] = median(points, 0, ends[at], ends[at + 1])
    return found


@compiled
def windows(y: Floats, w: Floats, rank: Ints, y_sorted: Floats, w_sorted: Floats) -> Floats:
    """Distances from the weighted median, (points, WINDOW): by last point and number of points less one."""
    table = np.full((len(y), WINDOW), np.inf)
    inside = np.empty(WINDOW, np.int64)
    for last in range(len(y)):
        for count in range(1, min(WINDOW, last + 1) + 1):
            joining, at = rank[last - count + 1], count - 1
            while at > 0 and inside[at - 1] > joining:
                inside[at] = inside[at - 1]
                at -= 1
            inside[at] = joining
            median = _sorted_median(inside[:count], y_sorted, w_sorted)
            table[last, count - 1] = _away(y, w, last - count + 1, last + 1, median)
    return table


@compiled
def partition(table: Floats, gamma: float) -> Ints:
    """Ends of the pieces of at most WINDOW points that cost least together, first one 0, with `gamma` a piece."""
    size = len(table)
    least = np.empty(size + 1)
    before = np.empty(size, np.int64)
    least[0] = -gamma
    for last in range(size):
        least[last + 1] = np.inf
        for left in range(max(last + 1 - WINDOW, 0), last + 1):
            cost = least[left] + gamma + table[last, last - left]
            if cost <= least[last + 1]:
                least[last + 1] = cost
                before[last] = left
    pieces, end = 1, size
    while end > 0:
        end = before[end - 1]
        pieces += 1
    ends = np.empty(pieces, np.int64)
    end = size
    for at in range(pieces - 1, -1, -1):
        ends[at] = end
        end = before[end - 1] if end > 0 else 0
    return ends


@compiled
def join(points: Points, ends: Ints, gamma: float) -> Ints:
    """The ends after neighbours were joined wherever that costs less, first come first served as in asv.

    asv looks at all pairs again after each joining; here only at those that changed.
    """
    ends = ends.copy()
    count = len(ends) - 1
    single, together = np.empty(count), np.full(count, np.nan)
    for at in range(count):
        single[at] = distance(points, 0, ends[at], ends[at + 1])
    start = 1
    while True:
        best, best_at, first = 0.0, count, 0
        for pair in range(start, count):
            if best_at < pair - 2:
                break
            if math.isnan(together[pair]):
                together[pair] = distance(points, 0, ends[pair - 1], ends[pair + 1])
            change = together[pair] - (single[pair - 1] + single[pair] + gamma)
            if change <= best:
                best, best_at = change, pair - 1
                if first == 0:
                    first = pair
        if best_at == count:
            return ends[: count + 1].copy()
        single[best_at] = together[best_at + 1]
        for at in range(best_at + 1, count - 1):
            single[at], together[at] = single[at + 1], together[at + 1]
            ends[at] = ends[at + 1]
        ends[count - 1] = ends[count]
        count -= 1
        together[best_at] = np.nan
        if best_at + 1 < count:
            together[best_at + 1] = np.nan
        start = max(1, min(first, best_at))


@compiled
def move(points: Points, ends: Ints) -> Ints:
    """The ends after each was moved by up to WINDOW points to where it costs least, from left to right as in asv."""
    ends = ends.copy()
    for at in range(1, len(ends) - 1):
        left, now, end = ends[at - 1], ends[at], ends[at + 1]
        best = distance(points, 0, left, now) + distance(points, 1, now, end)
        for place in range(max(now - WINDOW, left + 1), min(now + WINDOW, end - 1) + 1):
            if place != now:
                cost = distance(points, 0, left, place) + distance(points, 1, place, end)
                if cost < best:
                    best, ends[at] = cost, place
    return ends


@compiled
def spread(error: Floats, w: Floats, rho: float) -> float:
    """What is left of the errors when each is told from the one before it by `rho`: asv's sigma_star."""
    total = abs(error[0]) * w[0]
    for at in range(1, len(error)):
        total += abs(error[at] - rho * error[at - 1]) * w[at]
    return float(total)


@compiled
def least_spread(error: Floats, w: Floats) -> float:
    """The least spread that asv's golden section search over `rho` from -1 to 1 ends with."""
    low, high = -1.0, 1.0
    x0 = (GOLDEN * low - (1 - GOLDEN) * high) / (2 * GOLDEN - 1)
    x3 = (GOLDEN * high - (1 - GOLDEN) * low) / (2 * GOLDEN - 1)
    x1 = GOLDEN * x0 + (1 - GOLDEN) * x3
    x2 = (1 - GOLDEN) * x0 + GOLDEN * x3
    f1, f2 = spread(error, w, x1), spread(error, w, x2)
    enough = 1e-8 * max(abs(f1), abs(f2))
    while not (abs(x0 - x3) < 0.05 or abs(f1 - f2) < enough):
        if f2 < f1:
            x0, x1 = x1, x2
            x2 = GOLDEN * x1 + (1 - GOLDEN) * x3
            f1, f2 = f2, spread(error, w, x2)
        else:
            x3, x2 = x2, x1
            x1 = GOLDEN * x2 + (1 - GOLDEN) * x0
            f2, f1 = f1, spread(error, w, x1)
    return float(min(f1, f2))
