"""Numbers about numbers. Lists in, numbers out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student


@dataclass(frozen=True)
class Ratio:
    """How a case changed: `value` = head / base, with an interval that holds it at `confidence`."""

    value: float
    low: float
    high: float
    confidence: float


def launch_medians(launches: Sequence[Sequence[float]]) -> list[float]:
    """The median of each launch: the launch, not the sample, carries the noise."""
    return [statistics.median(samples) for samples in launches if samples]


def ratio(base: Sequence[float], head: Sequence[float], confidence: float) -> Ratio | None:
    """The ratio of the typical launch of `head` to that of `base`, both medians of launches (> 0).

    Welch's interval for the difference of two means (Welch 1947), taken on logarithms, so that it
    bounds the ratio of geometric means. None with fewer than two launches a side: one launch says
    nothing about the noise between launches.
    """
    if len(base) < 2 or len(head) < 2 or min(*base, *head) <= 0:
        return None
    logs = [[math.log(value) for value in side] for side in (base, head)]
    means = [statistics.fmean(side) for side in logs]
    parts = [statistics.variance(side) / len(side) for side in logs]
    difference, error = means[1] - means[0], math.sqrt(sum(parts))
    if error == 0:
        value = math.exp(difference)
        return Ratio(value, value, value, confidence)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
    reach = float(student.ppf((1 + confidence) / 2, freedom)) * error
    return Ratio(_exp(difference), _exp(difference - reach), _exp(difference + reach), confidence)


def exact(base: float, head: float) -> Ratio | None:
    """The ratio of two counted numbers, which is certain; None where it has no meaning."""
    return Ratio(head / base, head / base, head / base, 1.0) if base > 0 and head > 0 else None


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
