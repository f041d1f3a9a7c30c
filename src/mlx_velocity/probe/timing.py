"""Time a workload without asv: so many runs to warm up, so many that count."""

from __future__ import annotations

from collections.abc import Callable

from mlx_velocity.probe import compat, measure
from mlx_velocity.probe.workloads import Workload


def seconds(work: Workload) -> float:
    """One timed run in seconds: prepared, and nothing else running."""
    work.prepare()
    compat.synchronize()
    return measure.seconds_of(work.run)


def runs(
    work: Workload, warmup: int, samples: int, after: Callable[[], None] = lambda: None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of `warmup` runs that do not count and of `samples` that do; `after` is called after each of these."""
    warm = tuple(seconds(work) for _ in range(warmup))
    taken = []
    for _ in range(samples):
        taken.append(seconds(work))
        after()
    return warm, tuple(taken)
