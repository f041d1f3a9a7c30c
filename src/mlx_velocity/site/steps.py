"""asv's step detection for many series at once, with the results that `asv.step_detect.detect_steps` gives.

asv fits one series at a time, and spends most of that in a search over the penalty: for each of some ten penalties it
solves the same problem over windows of 20 points (Friedrich et al., 2008), joins pieces, and fits the noise. Here
the medians of all windows are computed once per series, the windows' problem is solved for a batch of series in step,
and a sum over a series is one call. The search, the joining of pieces' borders and the sums keep asv's
order of operations, so that the same numbers come out; where a batch is not worth it, asv's own function is called.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from asv import step_detect

from mlx_velocity.site.ranges import WINDOW, Floats, Ranges

Step = tuple[int, int, float, float, float]
"""Left (inclusive) and right (exclusive) position, median, least value, mean deviation from the median."""

BATCH = 64
"""Series that are fitted in step: their windows' medians take 100 MB at 10,000 points."""
WORTH_IT = 8
"""With fewer series, or shorter ones, asv's own function is as fast."""
SHORT = 64
FEW = 6
MANY_RANGE = 2500
"""From so many places to try, and up to that width, all are tried in one go."""
GOLDEN = 2 / (1 + math.sqrt(5))


def detect(series: Sequence[tuple[Floats, Floats]]) -> list[list[Step]]:
    """The steps of each series of values and weights, both NaN where missing, as asv's `detect_steps` gives them.

    Values must be finite: with an infinite one asv's function does not end.
    """
    found: list[list[Step]] = [[] for _ in series]
    prepared = {index: _Series(values, weights) for index, (values, weights) in enumerate(series)}
    suited = [index for index, item in prepared.items() if item.suited]
    suited.sort(key=lambda index: -len(prepared[index].y))
    for start in range(0, len(suited), BATCH):
        batch = suited[start : start + BATCH]
        if len(batch) >= WORTH_IT:
            _fit([prepared[index] for index in batch])
    for index, (values, weights) in enumerate(series):
        item = prepared[index]
        found[index] = (
            item.steps() if item.right else step_detect.detect_steps(_listed(values), _listed(weights))
        )
    return found


def _listed(numbers: Floats) -> list[float | None]:
    return [None if math.isnan(number) else number for number in numbers.tolist()]


class _Series:
    """One series without its missing points, and the best fit so far."""

    def __init__(self, values: Floats, weights: Floats) -> None:
        known = ~np.isnan(weights)
        with np.errstate(invalid="ignore"):
            self.positions = np.flatnonzero(~np.isnan(values) & ~(weights <= 0))
        self.y: Floats = values[self.positions]
        median = float(np.median(weights[known])) if known.any() else 1.0
        scaled = weights[self.positions] / (median or 1.0)
        self.w: Floats = np.where(np.isnan(scaled), 1.0, scaled)
        self.suited = len(self.y) >= SHORT and bool(np.isfinite(self.y).all() and np.isfinite(self.w).all())
        self.right: list[int] = []
        if self.suited:
            self.ranges = Ranges(self.y, self.w)
            self.best = math.inf
            self.known_fits: dict[tuple[int, ...], tuple[float, list[int]]] = {}

    def steps(self) -> list[Step]:
        found: list[Step] = []
        left = 0
        for right in self.right:
            value, distance = self.ranges.mu(left, right - 1), self.ranges.dist(left, right - 1)
            first, last = int(self.positions[left]), int(self.positions[right - 1])
            least = float(self.y[left:right].min())
            found.append((first, last + 1, value, least, abs(distance / (right - left))))
            left = right
        return found


def _fit(batch: list[_Series]) -> None:
    """Find the best penalty of each series, all in step; the fit stays in the series."""
    size, lengths = max(len(item.y) for item in batch), [len(item.y) for item in batch]
    table = np.zeros((size, WINDOW, len(batch)))
    for column, item in enumerate(batch):
        table[: lengths[column], :, column] = item.ranges.windows()
    scale = [item.ranges.dist(0, len(item.y) - 1) or 1.0 for item in batch]
    searches = [_search(math.log(0.1 / length)) for length in lengths]
    asked: list[float | None] = [next(search) for search in searches]
    while any(place is not None for place in asked):
        gamma = [
            scale[column] * math.exp(place) if place is not None else math.inf
            for column, place in enumerate(asked)
        ]
        pieces = _partition(table, np.array(gamma), lengths, [place is not None for place in asked])
        for column, item in enumerate(batch):
            if asked[column] is not None:
                score = _score(item, gamma[column], *pieces[column], table[:, :, column])
                try:
                    asked[column] = searches[column].send(score)
                except StopIteration:
                    asked[column] = None


def _search(low: float) -> Generator[float, float, None]:
    """The places that asv's golden section search from `low` to 0 asks for, ends included; takes their scores."""
    high = 0.0
    x0 = (GOLDEN * low - (1 - GOLDEN) * high) / (2 * GOLDEN - 1)
    x3 = (GOLDEN * high - (1 - GOLDEN) * low) / (2 * GOLDEN - 1)
    x1 = GOLDEN * x0 + (1 - GOLDEN) * x3
    x2 = (1 - GOLDEN) * x0 + GOLDEN * x3
    f1 = yield x1
    f2 = yield x2
    while abs(x0 - x3) >= abs(low) * 0.1:
        if f2 < f1:
            x0, x1 = x1, x2
            x2 = GOLDEN * x1 + (1 - GOLDEN) * x3
            f1 = f2
            f2 = yield x2
        else:
            x3, x2 = x2, x1
            x1 = GOLDEN * x2 + (1 - GOLDEN) * x0
            f2 = f1
            f1 = yield x1


def _partition(
    table: Floats, gamma: Floats, lengths: list[int], wanted: list[bool]
) -> list[tuple[list[int], list[float]]]:
    """Right ends and distances of the pieces, of at most WINDOW points, that cost each series least."""
    size, _, count = table.shape
    # Rows of `reached` are asv's B + gamma, WINDOW - 1 rows later; what lies before the first point costs infinity.
    reached = np.full((size + WINDOW, count), np.inf)
    least = np.empty((size + 1, count))
    reached[WINDOW - 1] = 0.0
    costs = np.empty((WINDOW, count))
    for right in range(size):
        np.add(reached[right : right + WINDOW], table[right], out=costs)
        np.minimum.reduce(costs, axis=0, out=least[right + 1])
        np.add(least[right + 1], gamma, out=reached[right + WINDOW])
    ends: list[list[int]] = [[] for _ in lengths]
    distances: list[list[float]] = [[] for _ in lengths]
    at = np.array([length - 1 if want else -1 for length, want in zip(lengths, wanted, strict=True)])
    offsets = np.arange(WINDOW)[:, None]
    while len(live := np.flatnonzero(at >= 0)):
        last = at[live]
        step = table[last, :, live].T
        costs = reached[last + offsets, live] + step
        # Of equal costs asv keeps the shortest piece, which it looks at last.
        window = WINDOW - 1 - np.argmax((costs == least[last + 1, live])[::-1], axis=0)
        at[live] = last - (WINDOW - window)
        distance = step[window, np.arange(len(live))]
        for column, end, far in zip(live.tolist(), last.tolist(), distance.tolist(), strict=True):
            ends[column].append(end + 1)
            distances[column].append(far)
    return [(end[::-1], far[::-1]) for end, far in zip(ends, distances, strict=True)]


def _joined(
    gamma: float, right: list[int], distances: list[float], ranges: Ranges, table: Floats
) -> list[int]:
    """The right ends after neighbours were joined wherever that costs less, first come first served as in asv.

    asv looks at all pairs again after each joining; here only at those that changed.
    """
    ends = np.array([0, *right])
    width = ends[2:] - ends[:-2]
    narrow = width <= WINDOW
    known = np.full(len(right), np.nan)
    known[1:][narrow] = table[ends[2:][narrow] - 1, WINDOW - width[narrow]]
    together: list[float | None] = [None if math.isnan(both) else both for both in known.tolist()]
    # The first pair that may be joined; those before it are not worth a look.
    alone = np.array(distances)
    kept = known[1:] - (alone[:-1] + alone[1:] + gamma) > 0
    start = int(np.argmin(kept)) + 1 if len(kept) and not kept.all() else len(right)
    right, single = list(right), list(distances)
    while True:
        best, best_at, first = 0.0, len(right), 0
        for pair in range(start, len(right)):
            if best_at < pair - 2:
                break
            both = together[pair]
            if both is None:
                both = ranges.dist(right[pair - 2] if pair > 1 else 0, right[pair] - 1)
                together[pair] = both
            change = both - (single[pair - 1] + single[pair] + gamma)
            if change <= best:
                best, best_at = change, pair - 1
                first = first or pair
        if best_at == len(right):
            return right
        merged = together[best_at + 1]
        assert merged is not None
        del right[best_at], single[best_at], together[best_at + 1]
        single[best_at], together[best_at] = merged, None
        if best_at + 1 < len(together):
            together[best_at + 1] = None
        start = max(1, min(first, best_at))


def _moved(right: list[int], ranges: Ranges, table: Floats) -> list[int]:
    """The right ends after each was moved by up to WINDOW points to where it costs least, from left to right as in asv."""
    right, left, moved = list(right), 0, False
    narrow = _narrow_moves(right, table)
    for index in range(len(right) - 1):
        end = right[index]
        # What was found for narrow neighbours holds as long as the end before them stayed.
        new = (
            narrow[index]
            if index in narrow and not moved
            else _best_end(left, end, right[index + 1] - 1, ranges)
        )
        moved = new != end
        right[index] = left = new
    return right


def _best_end(left: int, end: int, last: int, ranges: Ranges) -> int:
    first, final = max(end - WINDOW, left + 1), min(end + WINDOW, last)
    if final - first >= FEW and last - left < MANY_RANGE:
        tried = np.arange(first, final + 1)
        costs = ranges.many(left, last, tried)
        now = costs[end - first]
        costs[end - first] = np.inf
        least = int(np.argmin(costs))
        return first + least if costs[least] < now else end
    best, best_end = ranges.dist(left, end - 1) + ranges.dist(end, last), end
    for place in range(first, final + 1):
        if place != end:
            cost = ranges.dist(left, place - 1) + ranges.dist(place, last)
            if cost < best:
                best, best_end = cost, place
    return best_end


def _narrow_moves(right: list[int], table: Floats) -> dict[int, int]:
    """Where each right end goes whose two pieces together are no wider than a window, if the one before it stays."""
    ends = np.array([0, *right])
    left, end, after = ends[:-2], ends[1:-1], ends[2:]
    chosen = np.flatnonzero(after - left <= WINDOW)
    if not len(chosen):
        return {}
    left, end, after = left[chosen], end[chosen], after[chosen]
    counts = after - left - 1
    starts = np.cumsum(counts) - counts
    pair = np.repeat(np.arange(len(chosen)), counts)
    tried = np.arange(len(pair)) - starts[pair] + left[pair] + 1
    costs = (
        table[tried - 1, WINDOW - (tried - left[pair])]
        + table[after[pair] - 1, WINDOW - (after[pair] - tried)]
    )
    now = costs[starts + end - left - 1]
    least = np.minimum.reduceat(costs, starts)
    first = np.full(len(chosen), len(pair))
    np.minimum.at(first, pair, np.where(costs == least[pair], np.arange(len(pair)), len(pair)))
    new = np.where(least < now, tried[first], end)
    return dict(zip(chosen.tolist(), new.tolist(), strict=True))


def _score(item: _Series, gamma: float, right: list[int], distances: list[float], table: Floats) -> float:
    """asv's measure of a fit for one penalty, less is better; the best fit so far stays in the series."""
    joined = tuple(_joined(gamma, right, distances, item.ranges, table))
    # Neighbouring penalties often give the same pieces.
    if joined not in item.known_fits:
        ends = _moved(list(joined), item.ranges, table)
        item.known_fits[joined] = _objective(item, ends), ends
    score, ends = item.known_fits[joined]
    if score < item.best:
        item.best, item.right = score, ends
    return score


def _objective(item: _Series, ends: list[int]) -> float:
    size = len(item.y)
    values = [item.ranges.mu(left, right - 1) for left, right in zip([0, *ends], ends, strict=False)]
    error = item.y - np.repeat(values, np.diff([0, *ends]))
    now, before, weights = error[1:], error[:-1], item.w[1:]
    parts = np.empty(size)
    parts[0] = abs(error[0]) * item.w[0]

    def spread(rho: Any) -> float:
        inside = parts[1:]
        np.multiply(before, rho, out=inside)
        np.subtract(now, inside, out=inside)
        np.abs(inside, out=inside)
        np.multiply(inside, weights, out=inside)
        return float(np.add.accumulate(parts)[-1])

    rho = step_detect.golden_search(spread, -1, 1, xatol=0.05, expand_bounds=True)
    if len(values) > 2:
        floor = 0.1 * min(abs(later - earlier) for earlier, later in pairwise(values))
    else:
        floor = 0.001 * min(abs(value) for value in values)
    return 4 * math.log(size) / size * len(ends) + math.log(max(1e-300, floor) + spread(rho))
