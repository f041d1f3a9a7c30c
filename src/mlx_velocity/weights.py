"""How much each point of a series is worth beside the others, by what its launches say of its error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

UNEQUAL = 1.3
"""Largest over smallest standard error of points from which they are weighed."""


def of(errors: Numbers, launches: Numbers, logs: Numbers) -> Numbers | None:
    """Relative standard errors of points, around 1; None where they are alike, or nothing is known of them.

    A few launches know their own scatter badly, and one stray launch of five spoils it though not their median. So
    all launches are taken to scatter alike, by the median over the points, and a point of more launches counts more.
    """
    known = (errors >= 0) & (errors <= 1)  # one as large as the value says nothing
    if known.sum() < 2 or launches.min() == launches.max():
        return None
    scatter = float(np.median(errors[known] ** 2 * launches[known])) / launches
    # What launches do not explain is common to all points. 0.91 is the median of a squared difference of two.
    between = max(0.0, float(np.median(np.diff(logs) ** 2)) / 0.91 - float(np.median(scatter)))
    errors = np.sqrt(between + scatter)
    if not errors.min() > 0 or errors.max() / errors.min() < UNEQUAL:
        return None
    weights: Numbers = errors / np.median(errors)
    return weights
