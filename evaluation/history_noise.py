"""Histories of known kinds of noise, for scripts that ask how often a detector of change points is wrong.

All noise is in the logarithm of a time, one number per commit, oldest first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

Logs = NDArray[np.float64]

OUTLIER = (0.10, 0.40)
"""By how much an outlier is slower."""
MODE = 0.06
"""By how much the second mode is slower."""
BURN_IN = 200


@dataclass(frozen=True)
class Noise:
    """What disturbs a point. All numbers but `rho` are shares: 0.01 is 1 %."""

    name: str
    gauss: float = 0.0
    """Standard deviation of each point by itself."""
    outliers: float = 0.0
    """Share of points that are slower by `OUTLIER`."""
    drift: float = 0.0
    """Stationary standard deviation of an AR(1) process."""
    rho: float = 0.8
    """Correlation of the drift from one point to the next."""
    slow: float = 0.0
    """Share of points that are slower by `MODE`."""
    tails: float = 0.0
    """Scale of Student's t with 3 degrees of freedom."""
    walk: float = 0.0
    """Standard deviation of the steps of a random walk."""


CLASSES = (
    Noise("1 % Gaussian", gauss=0.01),
    Noise("3 % Gaussian", gauss=0.03),
    Noise("outliers", gauss=0.01, outliers=0.06),
    Noise("drift", drift=0.02),
    Noise("bimodal", gauss=0.01, slow=0.25),
)
OTHERS = (
    Noise("weak drift", drift=0.02, rho=0.5),
    Noise("slow drift", drift=0.02, rho=0.95),
    Noise("drift under noise", gauss=0.01, drift=0.02),
    Noise("heavy tails", tails=0.01),
    Noise("all together", gauss=0.01, outliers=0.06, drift=0.02, slow=0.25),
    Noise("random walk", walk=0.005),
)


def flat(noise: Noise, count: int, points: int, draw: Generator) -> Logs:
    """So many series without a step: (count, points)."""
    shape = (count, points)
    logs = draw.normal(0.0, 1.0, shape) * noise.gauss
    if noise.drift:
        logs += drift(shape, noise.drift, noise.rho, draw)
    if noise.outliers:
        logs += (draw.random(shape) < noise.outliers) * np.log1p(draw.uniform(*OUTLIER, shape))
    if noise.slow:
        logs += (draw.random(shape) < noise.slow) * math.log1p(MODE)
    if noise.tails:
        logs += noise.tails * draw.standard_t(3, shape)
    if noise.walk:
        logs += np.cumsum(draw.normal(0.0, noise.walk, shape), axis=1)
    found: Logs = logs
    return found


def drift(shape: tuple[int, int], spread: float, rho: float, draw: Generator) -> Logs:
    """AR(1) processes that have forgotten how they began."""
    steps = draw.normal(0.0, spread * math.sqrt(1 - rho**2), (shape[0], shape[1] + BURN_IN))
    found: Logs = lfilter([1.0], [1.0, -rho], steps, axis=1)[:, BURN_IN:]
    return found


def stepped(logs: Logs, places: NDArray[np.int64], step: float) -> Logs:
    """The same series, each slower by `step` from its place on."""
    return logs + (np.arange(logs.shape[1]) >= places[:, None]) * math.log1p(step)
