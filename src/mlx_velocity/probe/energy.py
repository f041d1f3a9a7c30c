"""Joules, where the platform counts them: NVIDIA's GPUs by NVML, Apple silicon by its energy model.

Neither needs special rights. Apple's counts processor, GPU, memory and neural engine of the whole chip, by a model
of Apple's and not by a meter; NVIDIA's counts the whole card. Where nothing counts, everything here is None.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

_PARTS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")
_sampled: float | None = None
_before: float | None = None


def read() -> float | None:
    """Joules that were spent since some moment in the past; None where nothing counts them. Never raises."""
    counter = _counter()
    if counter is None:
        return None
    try:
        return counter()
    except Exception:
        # A driver that stops to answer has no joules; the measurement goes on.
        return None


def begin() -> None:
    """Before a timed body."""
    global _before
    _before = read()


def end() -> None:
    """After it: what it spent is added to the sum."""
    global _sampled
    after = read()
    if _before is not None and after is not None:
        _sampled = (_sampled or 0.0) + after - _before


def collect() -> float | None:
    """The joules of the timed bodies since the last call, and forget them; None where none were counted."""
    global _sampled
    spent, _sampled = _sampled, None
    # A counter that did not move between its updates says nothing.
    return round(spent, 6) if spent else None


@functools.cache
def _counter() -> Callable[[], float] | None:
    for make in (_nvidia, _apple):
        try:
            counter = make()
            counter()
        except Exception:
            # Not installed, not this platform, or a chip without a counter: all mean that nobody counts.
            continue
        return counter
    return None


def _nvidia() -> Callable[[], float]:
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
    get = pynvml.nvmlDeviceGetHandleByIndex if first.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID
    handle = get(int(first) if first.isdecimal() else first)
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def _apple() -> Callable[[], float]:
    from zeus_apple_silicon import AppleEnergyMonitor

    monitor = AppleEnergyMonitor()

    def joules() -> float:
        counted = monitor.get_cumulative_energy()
        parts = [value for name in _PARTS if (value := getattr(counted, name, None)) is not None]
        if not parts:
            raise LookupError("this chip counts nothing")
        return float(sum(parts)) / 1000

    return joules
