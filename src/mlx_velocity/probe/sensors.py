"""One look at the machine's state, cheap enough to take around every case."""

from __future__ import annotations

import os
import time
from typing import Any


def read() -> dict[str, Any]:
    """Load, swap and clocks now. A sensor that the machine lacks is absent, never zero."""
    import psutil

    reading: dict[str, Any] = {"monotonic_s": time.monotonic()}
    if hasattr(os, "getloadavg"):
        reading["load_1m"] = os.getloadavg()[0]
    swap = psutil.swap_memory()
    reading["swap_used_bytes"] = swap.used
    reading["available_bytes"] = psutil.virtual_memory().available
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    if frequency and frequency.current:
        reading["cpu_mhz"] = round(frequency.current)
    times = psutil.cpu_times()
    reading["busy_s"] = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    own = psutil.Process().cpu_times()
    reading["own_s"] = own.user + own.system + own.children_user + own.children_system
    return reading


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What the machine did between two looks: cores kept busy by others, and the state at the end."""
    elapsed = after["monotonic_s"] - before["monotonic_s"]
    summary: dict[str, Any] = {
        key: after[key] for key in ("load_1m", "cpu_mhz", "available_bytes") if key in after
    }
    summary["swap_growth_bytes"] = after["swap_used_bytes"] - before["swap_used_bytes"]
    if elapsed > 0:
        busy = after["busy_s"] - before["busy_s"]
        own = after["own_s"] - before["own_s"]
        summary["own_busy_cores"] = round(own / elapsed, 3)
        summary["others_busy_cores"] = round(max(0.0, busy - own) / elapsed, 3)
    return summary


def pin(cores: list[int]) -> list[int]:
    """Pin this process to `cores` where the system can, and return where it may run now.

    Empty where affinity does not exist (macOS). Pinning is the strongest lever against launch
    noise on a CPU, and it changes what is measured: so it is recorded with every launch.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    if cores:
        os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0)) if cores else []
