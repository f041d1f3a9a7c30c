"""Memory growth: what each of many runs in a row leaves behind. A leak is a slope."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_velocity.probe import compat, observe
from mlx_velocity.probe.workloads import Workload

RUNS = 50
"""Runs whose memory makes the slope."""
SETTLING = 3
"""Runs before them: the first ones still fill caches and make the optimizer's state."""
GRAIN = 1024
"""Bytes that the slope is rounded to: a scalar that is still alive at one look is no leak."""


def slope(values: Sequence[float]) -> float:
    """Growth per step by ordinary least squares over steps 0, 1, 2, …; ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError(f"a slope needs two values, got {len(values)}")
    middle = (len(values) - 1) / 2
    mean = sum(values) / len(values)
    covariance = sum((step - middle) * (value - mean) for step, value in enumerate(values))
    return covariance / sum((step - middle) ** 2 for step in range(len(values)))


def of_runs(work: Workload) -> int | None:
    """Bytes per run that MLX's active memory grows by in `RUNS` runs, to the nearest KiB; shrinking counts as 0.

    `prepare` is called once: what one run leaves is there in the next, as in a training loop. The slope
    itself and the resident memory's, which takes Python's in, are noted. None where MLX does not count.
    """
    import psutil

    work.prepare()
    process = psutil.Process()
    active: list[float] = []
    resident: list[float] = []
    for run in range(SETTLING + RUNS):
        work.run()
        compat.synchronize()
        found = compat.memory()["active"]
        if found is None:
            return None
        if run >= SETTLING:
            active.append(found)
            resident.append(process.memory_info().rss)
    observe.note(active_slope=slope(active), resident_slope=slope(resident))
    return max(0, round(slope(active) / GRAIN) * GRAIN)
