"""Numbers about numbers. Lists in, numbers out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    before, after = (
        Side(statistics.fmean(side), math.sqrt(statistics.variance(side) / len(side)), len(side))
        for side in logs
    )
    return welch(before, after, confidence)


@dataclass(frozen=True)
class Side:
    """What is left of some launches: the mean of their logarithms, its standard error, and how many there are."""

    mean: float
    error: float
    launches: int


def welch(base: Side, head: Side, confidence: float) -> Ratio:
    """Welch's interval (1947) of the ratio head / base; each side has at least two launches."""
    parts, sides = (base.error**2, head.error**2), (base, head)
    difference, error = head.mean - base.mean, math.sqrt(sum(parts))
    if error == 0:
        value = math.exp(difference)
        return Ratio(value, value, value, confidence)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (side.launches - 1) for part, side in zip(parts, sides, strict=True)
    )
    reach = student_reach(freedom, confidence) * error
    return Ratio(_exp(difference), _exp(difference - reach), _exp(difference + reach), confidence)


def student_reach(freedom: float, confidence: float) -> float:
    """How many standard errors an interval of Student's t at `confidence` goes to either side; of ∞ the normal's."""
    # Loading it takes a fifth of a second, and whoever only shows what is known asks for none.
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, (1 - confidence) / 2))


def student_beyond(distance: float, freedom: float) -> float:
    """The chance that Student's t lies more than `distance` (> 0) standard errors from zero, on either side."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -distance))


def exact(base: float, head: float) -> Ratio | None:
    """The ratio of two counted numbers, which is certain; None where it has no meaning."""
    return Ratio(head / base, head / base, head / base, 1.0) if base > 0 and head > 0 else None


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Location:
    """Where a few independent numbers lie, and how sure that is."""

    value: float
    error: float
    """Standard error."""
    freedom: int
    """Degrees of freedom of Student's t."""

    @property
    def p(self) -> float:
        """Two-sided chance of a value so far from zero where the truth is zero."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return student_beyond(abs(self.value) / self.error, self.freedom)

    def reach(self, confidence: float) -> float:
        """How far an interval at `confidence` goes to either side of the value."""
        return student_reach(self.freedom, confidence) * self.error

    def ratio(self, confidence: float) -> Ratio:
        """The location of logarithms as a ratio with its interval."""
        reach = self.reach(confidence)
        return Ratio(_exp(self.value), _exp(self.value - reach), _exp(self.value + reach), confidence)


def adjusted(chances: Sequence[float]) -> list[float]:
    """Values of p for several questions at once, by Benjamini and Hochberg (1995): the share of false yeses."""
    if not chances:
        return []
    given = np.asarray(chances, dtype=float)
    order, count = np.argsort(given), len(given)
    scaled = given[order] * (count / np.arange(1, count + 1))
    found = np.empty(count)
    # Who is less sure of one question may not be surer of all.
    found[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    answers: list[float] = np.clip(found, 0, 1).tolist()
    return answers


CLIP = 2.5
"""Scales beyond which a number counts no further: 99 % as efficient as the mean for Gaussian numbers."""


def location(numbers: Sequence[float]) -> Location:
    """Huber's M-estimate of location (Huber 1964) with its standard error; at least 3 numbers.

    The scale is the median absolute deviation times 1.4826, as usual. The error is Huber's own
    (Robust Statistics, 1981, section 6.6) with his correction for few numbers.
    """
    values = np.asarray(numbers, dtype=float)
    size = len(values)
    middle = float(np.median(values))
    deviations = np.abs(values - middle)
    # A majority that agrees by chance must not make outliers of the rest: 0.39 is 0.5 / 1.2816, so for
    # Gaussian numbers this floor is half of the usual scale.
    scale = max(1.4826 * float(np.median(deviations)), 0.39 * float(np.quantile(deviations, 0.8)))
    if scale == 0:
        # More than half are equal: nothing to be robust against.
        return Location(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(size), size - 1)
    for _ in range(30):
        step = float(np.clip((values - middle) / scale, -CLIP, CLIP).mean()) * scale
        middle += step
        if abs(step) < 1e-9 * scale:
            break
    distances = (values - middle) / scale
    clipped = np.clip(distances, -CLIP, CLIP)
    inside = max(0.5, float((np.abs(distances) <= CLIP).mean()))
    correction = 1 + (1 - inside) / (size * inside)
    error = correction * scale * math.sqrt(float((clipped**2).sum()) / (size - 1)) / inside / math.sqrt(size)
    return Location(middle, error, size - 1)
