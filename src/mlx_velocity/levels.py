"""The level that a noisy series follows, and which points follow it.

Outliers, a second mode and a step all lie far from the rest; what tells them apart is how they come. So the noise
is learned from the series itself: the path through the levels and the density of what is left around it in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

FEWEST = 8
"""Points below which nothing is called an outlier: too few agree on anything."""
JUMP = 20.0
"""What a change of level costs, in units of -2 log density: more than a few outliers in a row save."""
REACH = 3.0
"""Scales around its level within which a point follows it."""
PASSES = 3
"""Turns of path and density; more change nothing."""
BANDWIDTH = 0.4
"""Of the density, in scales: it must not blur two modes into one."""
RUN = 3
"""Points far off in a row that may be a level of their own."""
RESOLUTION = 1e-6
"""No scale is below this share: a clock that counts coarsely makes equal times."""


@dataclass(frozen=True)
class Path:
    """A series taken apart, point by point."""

    levels: Numbers
    rest: Numbers
    """Distance of each point from its level."""
    scale: float
    """Standard deviation of the points that follow."""
    follows: Flags
    steps: Whole
    """The points at which a new level begins."""


def follow(logs: Numbers, weights: Numbers | None = None) -> Path:
    """The path through the levels of a series of logarithms; `weights` are relative standard errors around 1."""
    return follow_many([(logs, weights)])[0]


def follow_many(many: Sequence[tuple[Numbers, Numbers | None]]) -> list[Path]:
    """The paths of several series and their weights, each by itself.

    A path costs least by dynamic programming over all values as levels: a robust Potts functional, as in
    Fearnhead and Rigaill (2019), first with their biweight loss, then with -2 log of the density of the rest
    (Stone 1975 for estimates that learn their own loss).
    """
    lines = {
        number: _Line(logs, np.ones(len(logs)) if weights is None else weights)
        for number, (logs, weights) in enumerate(many)
        if len(logs) >= FEWEST
    }
    for turn in range(PASSES):
        for line, path in zip(lines.values(), _cheapest([line.loss for line in lines.values()]), strict=True):
            line.follow(path, learn=turn < PASSES - 1)
    return [lines[number].path if number in lines else _short(logs) for number, (logs, _) in enumerate(many)]


def _short(logs: Numbers) -> Path:
    """Of a series with fewer than FEWEST points."""
    size = len(logs)
    rest = logs - float(np.median(logs)) if size else logs
    scale = max(float(rest.std()) if size else 0.0, RESOLUTION)
    return Path(logs - rest, rest, scale, np.ones(size, dtype=bool), np.empty(0, dtype=int))


class _Line:
    """A series between two turns: what each point loses at each level, and the path found last."""

    def __init__(self, logs: Numbers, spread: Numbers) -> None:
        self.logs, self.spread = logs, spread
        self.away = (logs[:, None] - np.unique(logs)[None, :]) / spread[:, None]
        # Differences between neighbours know nothing of levels.
        scale = max(1.4826 * float(np.median(np.abs(np.diff(logs)))) / 2**0.5, RESOLUTION)
        self.loss = np.minimum((self.away / scale) ** 2, REACH**2)

    def follow(self, levels: Whole, learn: bool) -> None:
        """Take a path through the levels, and learn the losses around it."""
        rest, scale = _around(self.logs, self.spread, levels)
        if learn:
            self.loss = _learned(rest / self.spread, scale, self.away)
            return
        follows = np.abs(rest) <= REACH * scale * self.spread
        self.path = Path(self.logs - rest, rest, scale, follows, np.flatnonzero(np.diff(levels)) + 1)


def _cheapest(losses: Sequence[Numbers]) -> list[Whole]:
    """For each table of losses the column of each row on the cheapest path, where a change of column costs JUMP
    (Viterbi 1967)."""
    if not losses:
        return []
    everyone, size = np.arange(len(losses)), max(len(loss) for loss in losses)
    # A row more costs nothing, a column more too much: neither changes a path.
    table = np.zeros((size, len(losses), max(loss.shape[1] for loss in losses)))
    for number, loss in enumerate(losses):
        table[: len(loss), number, : loss.shape[1]] = loss
        table[:, number, loss.shape[1] :] = np.inf
    best = np.empty((size, len(losses)), dtype=int)
    jumps = np.zeros(table.shape, dtype=bool)
    total = table[0].copy()
    for row in range(1, size):
        total.argmin(axis=1, out=best[row])
        other = total.min(axis=1, keepdims=True) + JUMP
        np.greater(total, other, out=jumps[row])
        np.minimum(total, other, out=total)
        total += table[row]
    paths = np.empty((size, len(losses)), dtype=int)
    column = total.argmin(axis=1)
    for row in range(size - 1, -1, -1):
        paths[row] = column
        column = np.where(jumps[row, everyone, column], best[row], column)
    return [paths[: len(loss), number] for number, loss in enumerate(losses)]


def _around(logs: Numbers, spread: Numbers, path: Whole) -> tuple[Numbers, float]:
    """The rest around the core of each piece of the path, and the scale of the cores."""
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(logs)]
    pieces = [slice(start, end) for start, end in pairwise(edges)]
    centres = np.empty_like(logs)
    for piece in pieces:
        centres[piece] = np.median(logs[piece])
    scale = _lesser_half(((logs - centres) / spread)[logs != centres])
    for _ in range(3):
        inside = np.abs(logs - centres) <= REACH * scale * spread
        for piece in pieces:
            core = logs[piece][inside[piece]]
            if len(core):
                centres[piece] = core.mean()
        rest = (logs - centres) / spread
        core = rest[np.abs(rest) <= REACH * scale]
        freedom = max(1, len(core) - len(pieces))
        # 1.015 makes up for what REACH cuts off a Gaussian.
        scale = max(1.015 * float(np.sqrt((core**2).sum() / freedom)), RESOLUTION)
    return logs - centres, scale


def _lesser_half(rest: Numbers) -> float:
    """The smaller of the scales below and above: what disturbs a time works on one side."""
    halves: Sequence[Numbers] = (-rest[rest < 0], rest[rest > 0])
    scales = [1.4826 * float(np.median(half)) for half in halves if len(half) > 2]
    return max(min(scales, default=0.0), RESOLUTION)


def _learned(rest: Numbers, scale: float, away: Numbers) -> Numbers:
    """-2 log of the density of the rest, read off at `away`; a kernel estimate on a grid.

    A run of points far off says nothing of how usual it is: its own loss is learned from the others.
    """
    low, high = float(rest.min()) - 3 * scale, float(rest.max()) + 3 * scale
    step = max(scale / 5, (high - low) / 4000)
    bins = ((rest - low) / step + 0.5).astype(int)
    places = low + np.arange(int((high - low) / step) + 2) * step
    half = int(4 * BANDWIDTH * scale / step) + 1
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * step / (BANDWIDTH * scale)) ** 2)
    kernel /= kernel.sum() * step
    # Half a point may lie anywhere: what has not been seen is not impossible.
    floor = 0.5 / len(rest) / (40 * scale)
    farthest = -2 * np.log(floor)

    def read(others: Whole, where: Numbers) -> Numbers:
        histogram = np.bincount(bins[others], minlength=len(places))
        density = np.convolve(histogram, kernel)[half : half + len(places)] / len(rest)
        found: Numbers = np.interp(where, places, -2 * np.log(density + floor), left=farthest, right=farthest)
        return found

    everyone = np.arange(len(rest))
    losses = read(everyone, away)
    sides = np.where(np.abs(rest) > REACH * scale, np.sign(rest), 0)
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(sides)) + 1).tolist(), len(rest)]):
        if end - start >= RUN and sides[start]:
            losses[start:end] = read(np.delete(everyone, slice(start, end)), away[start:end])
    return losses
