"""Where a framework stands at a task: its median with its spread, and its ratio to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from mlx_velocity.across import Standing, Turn


def standing(turns: Sequence[Turn], reference: Sequence[Turn] | None) -> Standing:
    """Of at least one turn; `reference` are the turns of the framework that it is compared with.

    Ratios are taken between turns of the same launch and round, which lie beside each other in time: what
    slows the machine down for longer cancels. Spreads are quartiles over turns.
    """
    own = {(turn.launch, turn.round): statistics.median(turn.samples) for turn in turns}
    low, middle, high = (float(value) for value in np.quantile(list(own.values()), (0.25, 0.5, 0.75)))
    if reference is None:
        return Standing(middle, low, high, None, None, None)
    other = {(turn.launch, turn.round): statistics.median(turn.samples) for turn in reference}
    ratios = [own[key] / other[key] for key in own if other.get(key)]
    if not ratios:
        return Standing(middle, low, high, None, None, None)
    less, ratio, more = (float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return Standing(middle, low, high, ratio, less, more)
