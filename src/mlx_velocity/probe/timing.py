"""Time a workload without asv: so many runs to warm up, so many that count."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from mlx_velocity.probe import compat
from mlx_velocity.probe.workloads import Workload


def seconds(work: Workload) -> float:
    """One timed run in seconds: prepared, nothing else running, the garbage collector off in the run."""
    work.prepare()
    compat.synchronize()
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        work.run()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


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
