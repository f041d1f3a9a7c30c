"""Memory of a stage: its workload, run a few times and looked at from four sides."""

from __future__ import annotations

from collections.abc import Hashable

from mlx_velocity.probe import compat
from mlx_velocity.probe.workloads import Workload

RUNS = 3
"""Runs to take the highest of: MLX allocates ahead of the stream that frees, and one run in ten
shows a peak that is up to 4 % lower (measured on CPU)."""

_measured: dict[Hashable, dict[str, int | None]] = {}


def of_runs(key: Hashable, work: Workload) -> dict[str, int | None]:
    """`peak`, `active`, `cache` and `resident` bytes: the highest of `RUNS` runs of a workload.

    The first three are MLX's allocator's: the most in use during a run, and what is in use and
    what is cached for reuse after it (a peak leaves the cache out); None where MLX does not count.
    `resident` is the process's, after a run. Measured once per `key` and process.
    """
    if key not in _measured:
        looks = [_look(work) for _ in range(RUNS)]
        _measured[key] = {name: _highest([look[name] for look in looks]) for name in looks[0]}
    return _measured[key]


def _look(work: Workload) -> dict[str, int | None]:
    import psutil

    work.prepare()
    compat.clear_cache()
    compat.reset_peak_memory()
    work.run()
    compat.synchronize()
    resident = int(psutil.Process().memory_info().rss)
    return {**compat.memory(), "resident": resident}


def _highest(values: list[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
