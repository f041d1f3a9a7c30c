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
    """The path through the levels of a series of logarithms; `weights` are relative standard errors around 1.

    The path costs least by dynamic programming over all values as levels: a robust Potts functional, as in
    Fearnhead and Rigaill (2019), first with their biweight loss, then with -2 log of the density of the rest
    (Stone 1975 for estimates that learn their own loss).
    """
    size = len(logs)
    spread = np.ones(size) if weights is None else weights
    if size < FEWEST:
        rest = logs - float(np.median(logs)) if size else logs
        scale = float(rest.std()) if size else 0.0
        return Path(
            logs - rest, rest, max(scale, RESOLUTION), np.ones(size, dtype=bool), np.empty(0, dtype=int)
        )
    grid = np.unique(logs)
    away = (logs[:, None] - grid[None, :]) / spread[:, None]
    # Differences between neighbours know nothing of levels.
    scale = max(1.4826 * float(np.median(np.abs(np.diff(logs)))) / 2**0.5, RESOLUTION)
    loss = np.minimum((away / scale) ** 2, REACH**2)
    rest, path = logs, np.zeros(size, dtype=int)
    for turn in range(PASSES):
        path = _cheapest(loss)
        rest, scale = _around(logs, spread, path)
        if turn < PASSES - 1:
            loss = _learned(rest / spread, scale, away)
    follows = np.abs(rest) <= REACH * scale * spread
    return Path(logs - rest, rest, scale, follows, np.flatnonzero(np.diff(path)) + 1)


def _cheapest(loss: Numbers) -> Whole:
    """The column of each row on the cheapest path, where a change of column costs JUMP (Viterbi 1967)."""
    size, count = loss.shape
    best = np.empty(size, dtype=int)
    jumps = np.zeros((size, count), dtype=bool)
    total = loss[0].copy()
    for row in range(1, size):
        best[row] = int(total.argmin())
        other = total[best[row]] + JUMP
        jumps[row] = total > other
        total = np.minimum(total, other) + loss[row]
    path = np.empty(size, dtype=int)
    column = int(total.argmin())
    for row in range(size - 1, -1, -1):
        path[row] = column
        if jumps[row, column]:
            column = int(best[row])
    return path


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
