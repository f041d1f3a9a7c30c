"""Taking off a series what a fixed probe, measured beside it, says of the machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import correlated
from mlx_velocity.levels import follow

Numbers = NDArray[np.float64]

FEWEST = 12
"""Points that can show that the probe sees what disturbs the series."""
KNOWN = 0.9
"""Share of points that need a reading."""
SURE = 3.0
"""Log of the evidence that the probe helps, below which the series stays as it is."""
MOST = 1.5
"""How much more than the probe a case may feel of what disturbs both."""


def share(logs: Numbers, readings: Numbers) -> float:
    """How much of the readings' deviation is to be taken off; 0 where that is not shown to help.

    Both are logarithms; a reading may be missing (not a number). The share is the coefficient of a generalized
    least squares fit, all kinds of noise weighed.
    """
    known = np.isfinite(readings)
    if len(logs) < FEWEST or known.mean() < KNOWN:
        return 0.0
    recent = slice(-correlated.LARGEST, None)
    follows = follow(logs[recent]).follows & known[recent]
    if follows.sum() < FEWEST:
        return 0.0
    evidence, value = correlated.covariate(logs[recent][follows], cleaned(readings)[recent][follows])
    return min(value, MOST) if evidence > SURE and value > 0 else 0.0


def cleaned(readings: Numbers) -> Numbers:
    """The readings around 0, with the probe's own outliers, and what is missing, put on their level."""
    known = np.flatnonzero(np.isfinite(readings))
    levelled = readings[known].copy()
    for start in range(0, len(known), correlated.LARGEST):
        part = slice(start, start + correlated.LARGEST)
        path = follow(levelled[part])
        levelled[part] = np.where(path.follows, levelled[part], path.levels)
    found = np.interp(np.arange(len(readings)), known, levelled)
    centred: Numbers = found - np.median(found)
    return centred
