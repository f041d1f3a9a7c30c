"""Noise of known kinds, for scripts that ask how often a rule of decision is wrong.

All noise is in the logarithm of a time and comes in time order: what drifts, drifts over the turns of
both sides as they were taken. A layout says which side and which launch each turn belongs to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Times = NDArray[np.float64]
Whole = NDArray[np.int64]

OUTLIER = (0.10, 0.40)
"""By how much an outlier is slower."""
RHO = 0.8
"""Correlation of the drift from one turn to the next."""
MODE = 0.06
"""By how much the second mode is slower."""
RAMP_TURNS = 40
"""The ramp rises over 20 samples a side and stays up; over the 160 turns of the longest comparison it
would be four times flatter, and so easier for every design."""


@dataclass(frozen=True)
class Noise:
    """What disturbs a time. All numbers are shares: 0.01 is 1 %."""

    name: str
    gauss: float = 0.01
    """Standard deviation of each turn by itself."""
    outliers: float = 0.0
    """Share of turns that are slower by `OUTLIER`."""
    drift: float = 0.0
    """Stationary standard deviation of an AR(1) process."""
    slow: float = 0.0
    """Share of turns that are slower by `MODE`."""
    ramp: float = 0.0
    """How much slower the machine is after `RAMP_TURNS` turns."""
    bias: float = 0.0
    """Standard deviation of what all turns of a launch have in common."""
    slow_launches: float = 0.0
    """Share of launches all of whose turns are slower by `MODE`."""


GAUSS = Noise("1 % Gaussian")
CLASSES = (
    GAUSS,
    Noise("3 % Gaussian", gauss=0.03),
    Noise("outliers", outliers=0.06),
    Noise("drift", drift=0.02),
    Noise("bimodal", slow=0.25),
    Noise("thermal ramp", ramp=0.05),
    Noise("launch bias", bias=0.02),
    Noise("all together", outliers=0.06, drift=0.02, slow=0.25, ramp=0.05, bias=0.02),
)
"""All but the second have 1 % Gaussian noise beside what their name says."""
MODES = Noise("launches of two modes", gauss=0.003, slow_launches=0.25)
"""Quiet turns in launches that are either fast or slow: the hardest for an estimate that trusts a majority."""
MIXED = Noise("outliers, drift, bimodal", outliers=0.06, drift=0.02, slow=0.25)


@dataclass(frozen=True)
class Layout:
    """Which side (0 base, 1 head) and which launch each turn belongs to: a row a comparison, in time order."""

    side: Whole
    launch: Whole


def in_pairs(runs: int, pairs: int, draw: Generator) -> Layout:
    """Pairs of launches with the turns ABBA or BAAB, drawn for each pair."""
    flip = draw.integers(0, 2, (runs, pairs, 1))
    side = (np.array([0, 1, 1, 0]) ^ flip).reshape(runs, 4 * pairs)
    return Layout(side, 2 * (np.arange(4 * pairs) // 4) + side)


def in_blocks(runs: int, rounds: int, samples: int, draw: Generator) -> Layout:
    """All samples of one launch, then all of the other side's; later rounds in the opposite order.

    Which side goes first is drawn for each comparison.
    """
    number = np.repeat(np.arange(rounds), 2 * samples)
    order = (np.repeat(np.arange(2 * rounds), samples) + number) % 2
    side = order ^ draw.integers(0, 2, (runs, 1))
    return Layout(side, 2 * number + side)


def times(noise: Noise, layout: Layout, change: float, draw: Generator) -> Times:
    """The times of all turns; those of the head take `change` more."""
    shape = layout.side.shape
    logs = draw.normal(0.0, noise.gauss, shape)
    if noise.outliers:
        hit = draw.random(shape) < noise.outliers
        logs += hit * np.log1p(draw.uniform(*OUTLIER, shape))
    if noise.drift:
        logs += _drift(shape, noise.drift, draw)
    if noise.slow:
        logs += (draw.random(shape) < noise.slow) * math.log1p(MODE)
    if noise.ramp:
        logs += np.log1p(noise.ramp * np.minimum(np.arange(shape[1]) / RAMP_TURNS, 1.0))
    launches = (shape[0], int(layout.launch.max()) + 1)
    if noise.bias:
        logs += np.take_along_axis(draw.normal(0.0, noise.bias, launches), layout.launch, axis=1)
    if noise.slow_launches:
        modes = (draw.random(launches) < noise.slow_launches) * math.log1p(MODE)
        logs += np.take_along_axis(modes, layout.launch, axis=1)
    found: Times = np.exp(logs + layout.side * math.log1p(change))
    return found


def _drift(shape: tuple[int, ...], spread: float, draw: Generator) -> Times:
    steps = draw.normal(0.0, spread, shape)
    steps[:, 1:] *= math.sqrt(1 - RHO**2)
    for turn in range(1, shape[1]):
        steps[:, turn] += RHO * steps[:, turn - 1]
    return steps
