"""One look at the machine's state, cheap enough to take around every case."""

from __future__ import annotations

import functools
import glob
import os
import resource
import time
from typing import Any

from mlx_velocity.probe import energy, nvidia

GROWING = (
    "memory_stall_s",
    "cpu_stall_s",
    "cpu_throttles",
    "energy_j",
    "gpu_thermal_throttle_s",
    "gpu_power_throttle_s",
)
"""Counters since the machine was started: what matters is how much they grew."""
STATES = (
    "load_1m",
    "cpu_mhz",
    "available_bytes",
    "allowed_cores",
    "temperature_c",
    "batch",
    "gpu_temperature_c",
    "gpu_power_w",
    "gpu_mhz",
    "gpu_memory_mhz",
    "gpu_slowed",
)
"""What is as it is at the end of a case."""
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Names that Linux drivers give to a processor's own temperature."""
THROTTLES_MOST = 8
"""Cores whose throttle counts are read: heat hits all of a chip, and a look must stay below a millisecond."""


def read(root: str = "/") -> dict[str, Any]:
    """Load, swap, clocks and heat now. A sensor that the machine lacks is absent, never zero.

    `root` is where Linux shows its files; a test sets another.
    """
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
    # Tells a pinned process, which must get its whole core, from one that may wait for a GPU.
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    reading["allowed_cores"] = len(allowed)
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_BATCH:
        reading["batch"] = True
    reading |= _linux(root) | nvidia.look()
    joules = energy.read()
    if joules is not None:
        reading["energy_j"] = joules
    times = psutil.cpu_times()
    reading["busy_s"] = _busy_s(times)
    if len(allowed) == 1 and (core := next(iter(allowed))) < len(cores := psutil.cpu_times(percpu=True)):
        reading["core_busy_s"] = _busy_s(cores[core])
    # Of the whole machine there are only ticks of 10 ms; our own time is known exactly.
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    reading["own_s"] = time.process_time() + children.ru_utime + children.ru_stime
    return reading


def between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What the machine did between two looks: cores kept busy by others, and the state at the end."""
    elapsed = after["monotonic_s"] - before["monotonic_s"]
    summary: dict[str, Any] = {key: after[key] for key in STATES if key in after}
    summary["swap_growth_bytes"] = after["swap_used_bytes"] - before["swap_used_bytes"]
    for key in GROWING:
        if key in before and key in after:
            summary[key] = round(after[key] - before[key], 6)
    if elapsed > 0:
        summary["elapsed_s"] = round(elapsed, 6)
        busy = after["busy_s"] - before["busy_s"]
        own = after["own_s"] - before["own_s"]
        summary["own_busy_cores"] = round(own / elapsed, 3)
        summary["others_busy_cores"] = round(max(0.0, busy - own) / elapsed, 3)
        if "core_busy_s" in before and "core_busy_s" in after:
            here = after["core_busy_s"] - before["core_busy_s"]
            summary["others_on_core"] = round(max(0.0, here - own) / elapsed, 3)
    return summary


def _busy_s(times: Any) -> float:
    """Seconds since the start in which a core, or all of them together, computed."""
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


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


def run_until_waiting() -> bool:
    """Let no thread of this process interrupt another one when it wakes up; whether the system can.

    Pinned to one core, Python's thread and MLX's own interrupt each other some hundred times a token, and how
    often is chance: that was most of the noise of decode between launches. Linux's policy for batch work
    lets a thread run until it waits (sched(7)). Threads that are started later inherit it.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return False
    return True


def _linux(root: str) -> dict[str, Any]:
    """What Linux alone shows: seconds somebody waited, throttle counts, the processor's temperature in °C."""
    found: dict[str, Any] = {}
    for kind in ("memory", "cpu"):
        seconds = stalled_s(kind, root)
        if seconds is not None:
            found[f"{kind}_stall_s"] = seconds
    counts = [int(text) for path in _throttle_files(root) if (text := _text(path).strip()).isdigit()]
    if counts:
        found["cpu_throttles"] = sum(counts)
    degrees = temperature_c(root)
    if degrees is not None:
        found["temperature_c"] = degrees
    return found


def stalled_s(kind: str, root: str = "/") -> float | None:
    """Seconds since the start in which somebody waited for `memory` or `cpu`; None where Linux does not count."""
    # "some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS", then a line "full …"
    first, _, _ = _text(f"{root}proc/pressure/{kind}").partition("\n")
    total = first.rpartition("total=")[2]
    return int(total) / 1e6 if total.isdigit() else None


def temperature_c(root: str = "/") -> float | None:
    """The processor's hottest sensor in °C, as Linux shows it; None where it shows none."""
    degrees = [int(text) for path in _temperature_files(root) if (text := _text(path).strip()).isdigit()]
    return round(max(degrees) / 1000, 1) if degrees else None


@functools.cache
def _throttle_files(root: str) -> tuple[str, ...]:
    """A throttle count for each of some cores, and one for the chip: each core repeats that of its chip."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    folders = [
        f"{root}sys/devices/system/cpu/cpu{core}/thermal_throttle" for core in allowed[:THROTTLES_MOST]
    ]
    files = [f"{folder}/core_throttle_count" for folder in folders]
    files += [f"{folder}/package_throttle_count" for folder in folders[:1]]
    return tuple(path for path in files if os.path.exists(path))


@functools.cache
def _temperature_files(root: str) -> tuple[str, ...]:
    """The processor's sensors; psutil reads those of disks too, which takes milliseconds."""
    names = glob.glob(f"{root}sys/class/hwmon/hwmon*/name")
    files = [
        f"{name.removesuffix('name')}temp1_input" for name in names if _text(name).strip() in CPU_SENSORS
    ]
    return tuple(path for path in files if os.path.exists(path))


def _text(path: str) -> str:
    """A small file of the kernel; nothing where it is missing or can't be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""
