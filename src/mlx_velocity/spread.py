"""What one list of samples says about itself: middle, spread, percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Samples in their own unit. What they are too few for is None."""

    count: int
    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for a single sample."""
    minimum: float
    maximum: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None


def spread(samples: Sequence[float]) -> Spread:
    """The spread of at least one sample."""
    return Spread(
        len(samples),
        statistics.fmean(samples),
        statistics.stdev(samples) if len(samples) > 1 else None,
        min(samples),
        max(samples),
        statistics.median(samples),
        *(percentile(samples, percent) for percent in PERCENTILES[1:]),
    )


def needed(percent: int) -> int:
    """How many samples a percentile needs: with fewer, it is only another name for the largest."""
    return math.ceil(100 / (100 - percent))


def percentile(samples: Sequence[float], percent: int) -> float | None:
    """Interpolated between neighbours (Hyndman and Fan 1996, type 7); None with too few samples."""
    return float(np.percentile(samples, percent)) if len(samples) >= needed(percent) else None
