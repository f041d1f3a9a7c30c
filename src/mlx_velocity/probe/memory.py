"""Memory of a stage: its workload, run a few times and looked at from four sides."""

from __future__ import annotations

from collections.abc import Hashable

from mlx_velocity.probe import compat
from mlx_velocity.probe.workloads import Workload

RUNS = 3
"""Runs to take the highest of: MLX allocates ahead of the stream that frees, and one run in ten
shows a peak that is up to 4 % lower (measured on CPU)."""

Look = dict[str, int | None]

_looks: dict[Hashable, list[Look]] = {}


def of_runs(key: Hashable, work: Workload) -> Look:
    """`peak`, `active`, `cache` and `resident` bytes: the highest of at least `RUNS` runs of a workload.

    The first three are MLX's allocator's: the most in use during a run, and what is in use and
    what is cached for reuse after it (a peak leaves the cache out); None where MLX does not count.
    `resident` is the process's, after a run. Runs that were looked at earlier in this process, as
    warm-up of a timed case with the same `key`, count.
    """
    while len(_looks.get(key, ())) < RUNS:
        work.prepare()
        begin()
        work.run()
        end(key)
    return highest(_looks[key])


def of_work(work: Workload) -> Look:
    """The same of a workload that nobody will ask about again."""
    looks = []
    for _ in range(RUNS):
        work.prepare()
        begin()
        work.run()
        looks.append(look())
    return highest(looks)


def begin() -> None:
    """Before a run that is looked at, and not timed: an empty buffer cache, and a new peak."""
    compat.clear_cache()
    compat.reset_peak_memory()


def end(key: Hashable) -> None:
    """After that run: remember what it took."""
    _looks.setdefault(key, []).append(look())


def look() -> Look:
    """`peak`, `active`, `cache` and `resident` bytes now, with nothing running."""
    import psutil

    compat.synchronize()
    return {**compat.memory(), "resident": int(psutil.Process().memory_info().rss)}


def highest(looks: list[Look]) -> Look:
    """The highest of each kind over some looks; None where none has it."""
    return {
        name: max((value for one in looks if (value := one[name]) is not None), default=None)
        for name in looks[0]
    }
