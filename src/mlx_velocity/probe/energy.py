"""Joules, where the platform counts them: NVIDIA's GPUs by NVML, Apple silicon by its energy model.

Neither needs special rights. Apple's counts processor, GPU, memory and neural engine of the whole chip, by a model
of Apple's and not by a meter. NVIDIA's counts the whole card, moves ten times a second, and takes 4 ms to ask
(measured on an H100): so nobody asks around a single sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mlx_velocity.probe import nvidia

_PARTS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")


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
    handle = nvidia.device_of(pynvml)
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
