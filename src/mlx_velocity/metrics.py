"""What can be measured: on-disk unit and noise class of each metric, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Noise = Literal["timing", "counted"]


@dataclass(frozen=True)
class Metric:
    """A kind of number. Lower is better for every one of them."""

    unit: str
    """Base unit as stored: seconds, bytes or joules."""
    noise: Noise
    """`timing` varies from launch to launch; `counted` is exact and compared exactly."""
    label: str
    """What a reader calls it."""


SECONDS = Metric("seconds", "timing", "time")
BYTES = Metric("bytes", "counted", "memory")
JOULES = Metric("joules", "timing", "energy")

BY_UNIT = {metric.unit: metric for metric in (SECONDS, BYTES, JOULES)}


def of_unit(unit: str) -> Metric:
    """The metric stored in `unit`; an unknown unit is taken as noisy.

    A benchmark that knows better says so with an attribute `noise`: resident memory is in bytes,
    and yet not counted.
    """
    return BY_UNIT.get(unit, Metric(unit, "timing", unit))
