"""What of the machine is sampled, and where it is read from. What a machine does not show is absent, never zero.

Each source is a function that returns what it read now. Those that start a program of macOS cost more, and are
read less often: see sampler.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from mlx_velocity import macos, state
from mlx_velocity.monitor import nvidia
from mlx_velocity.monitor.powermetrics import Powermetrics
from mlx_velocity.probe import energy, sensors, thermometers

Reading = dict[str, Any]
Read = Callable[[], Reading]
Run = Callable[[list[str]], str]

HOW_TO_POWER = (
    "let powermetrics run without a password (docs/monitor.md), or: pip install mlx-velocity[apple]"
)


class Sources:
    """The sources of this machine: `reads` by name, `missing`, a sentence for each that it lacks, and its GPUs."""

    def __init__(self, platform: str = sys.platform, run: Run = state.command) -> None:
        self.missing: list[str] = []
        self.gpu_names: list[str] = []
        self._powermetrics: Powermetrics | None = None
        self.reads: dict[str, Read] = {"cpu": Cpu(), "memory": memory}
        if platform == "darwin":
            self.gpu_names = [item.get("name", "GPU") for item in macos.gpus(run(macos.GPU))]
            self.reads |= {
                "vm_stat": lambda: pages(run(macos.VM_STAT)),
                "sysctl": lambda: pressure(run(macos.SYSCTL)),
                "ioreg": lambda: gpus(run(macos.GPU)),
            }
        elif sensors.stalled_s("memory") is not None:
            self.reads["pressure"] = Stalled()
        else:
            self.missing.append("no memory pressure: this system has no /proc/pressure")
        self._heat(platform)
        self._power(platform)

    def _heat(self, platform: str) -> None:
        read = thermometers.macmon if platform == "darwin" else thermometers.processor
        try:
            read()
        except thermometers.NoThermometer as reason:
            self.missing.append(f"no temperature of the processor: {reason}")
        else:
            self.reads["heat"] = lambda: heat(read)

    def _power(self, platform: str) -> None:
        if platform == "darwin":
            self._powermetrics = Powermetrics()
            if self._powermetrics.start():
                self.reads["powermetrics"] = self._powermetrics.read
            elif energy.read() is not None:
                self.reads["energy"] = Watts()
            else:
                self.missing.append(f"no power: {HOW_TO_POWER}")
            return
        found, problem = nvidia.open_all()
        if found:
            self.gpu_names = nvidia.names(found)
            self.reads["nvidia"] = lambda: nvidia.read(found)
        elif problem:
            self.missing.append(problem)

    def close(self) -> None:
        """End what was started to be read from."""
        if self._powermetrics is not None:
            self._powermetrics.stop()


def machine() -> Reading:
    """What does not change: cores, and bytes of memory."""
    return {"cores": psutil.cpu_count() or 1, "memory_total_bytes": int(psutil.virtual_memory().total)}


class Cpu:
    """Shares of all cores' time since the last look: user, system, idle; and the load of the last minute."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self) -> Reading:
        """The shares, from 0 to 1; absent at the first look."""
        now = psutil.cpu_times()
        found: Reading = {}
        if self._last is not None:
            grown = {name: max(0.0, getattr(now, name) - getattr(self._last, name)) for name in now._fields}
            # A guest's time is within user already.
            total = sum(seconds for name, seconds in grown.items() if not name.startswith("guest"))
            if total > 0:
                idle = grown["idle"] + grown.get("iowait", 0.0)
                user = grown["user"] + grown.get("nice", 0.0)
                found = {
                    "cpu_user": round(user / total, 4),
                    "cpu_idle": round(idle / total, 4),
                    "cpu_system": round((total - idle - user) / total, 4),
                }
        self._last = now
        if hasattr(os, "getloadavg"):
            found["load_1m"] = round(os.getloadavg()[0], 2)
        return found


def memory() -> Reading:
    """Bytes that are free, that a program can have without swap, and that lie in swap."""
    now = psutil.virtual_memory()
    return {
        "available_bytes": now.available,
        "free_bytes": now.free,
        "swap_used_bytes": psutil.swap_memory().used,
    }


class Stalled:
    """Linux: the share of time since the last look in which somebody waited for memory."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def __call__(self) -> Reading:
        """The share, from 0 to 1; absent at the first look."""
        stalled, now = sensors.stalled_s("memory"), time.monotonic()
        if stalled is None:
            return {}
        last, self._last = self._last, (stalled, now)
        if last is None or now <= last[1]:
            return {}
        return {"memory_stall_share": round(min(1.0, max(0.0, stalled - last[0]) / (now - last[1])), 4)}


def heat(read: Callable[[], dict[str, float]]) -> Reading:
    """Temperatures in °C by place; nothing where there is none at this moment."""
    try:
        return {"temperature_c": read()}
    except thermometers.NoThermometer:
        return {}


class Watts:
    """Power in W since the last look, from whoever counts joules."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def __call__(self) -> Reading:
        """The power of the chip; absent at the first look."""
        joules, now = energy.read(), time.monotonic()
        if joules is None:
            return {}
        last, self._last = self._last, (joules, now)
        if last is None or now <= last[1] or joules < last[0]:
            return {}
        return {"power_w": {"total": round((joules - last[0]) / (now - last[1]), 3)}}


# macOS


def pages(text: str) -> Reading:
    """Memory as vm_stat counts it: what psutil lacks, and available memory with what can be purged."""
    names = ("available_bytes", "free_bytes", "purgeable_bytes", "compressed_bytes")
    found = macos.memory_pages(text)
    return {name: found[name] for name in names if name in found}


def pressure(text: str) -> Reading:
    """The system's own word on its memory: 1 normal, 2 warning, 4 critical; and what lies in swap."""
    found = macos.system_values(text)
    return {name: found[name] for name in ("memory_pressure_level", "swap_used_bytes") if name in found}


def gpus(text: str) -> Reading:
    """Shares of each GPU's time, and its memory; their names stand in the header."""
    found = [{key: value for key, value in item.items() if key != "name"} for item in macos.gpus(text)]
    return {"gpus": found} if found else {}
