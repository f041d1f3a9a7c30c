"""One long look at the machine, for `doctor`: who computes, memory, power, heat, clocks and the GPU.

What a machine does not show is absent from the look, never zero. Nothing needs special rights.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mlx_velocity import macos
from mlx_velocity.probe import nvidia

LOOK_S = 1.0
"""How long others are watched: long enough for ticks of 10 ms."""
SPIN_S = 0.1
"""How long a core is kept busy before clocks are read: an idle core is slow on purpose."""
COMMAND_TIMEOUT_S = 5.0
BUSIEST = 3
BUSY_ENOUGH = 0.02
"""Cores of a process below which its name helps nobody."""
LOW_POWER_PROFILES = ("low-power", "quiet")
NVIDIA = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
Look = dict[str, Any]
Run = Callable[[list[str]], str]


def look(root: Path = Path("/"), platform: str = sys.platform, run: Run | None = None) -> Look:
    """The state of this machine now, in about two seconds; see findings.of_state for what it means.

    `root` is where Linux shows its files, `run` gives a command's output: a test sets both.
    """
    ask = run or command
    found: Look = {"cores": psutil.cpu_count() or 1}
    if hasattr(os, "getloadavg"):
        found["load_1m"] = round(os.getloadavg()[0], 2)
    found |= of_battery()
    seen = nvidia.health()
    own = {process.pid for process in _family()}
    if "gpu_processes" in seen:
        # Through a container's border a process has no name, and may be another one's number.
        seen["gpu_processes"] = [{"name": _name(item["pid"]), **item} for item in seen["gpu_processes"]]
    elif shutil.which(NVIDIA[0]) or run:
        seen["gpu_processes"] = gpu_processes(ask(NVIDIA))
    found |= seen
    if "gpu_processes" in found:
        found["gpu_processes"] = [item for item in found["gpu_processes"] if item["pid"] not in own]
    # The clocks while a core computes, which must be over before others are watched.
    _spin()
    found |= of_linux(root) if platform == "linux" else {}
    before = _counters(root)
    found |= watch(LOOK_S)
    found |= growth(before, _counters(root))
    memory = psutil.virtual_memory()
    found |= {"memory_total_bytes": memory.total, "memory_available_bytes": memory.available}
    found["swap_used_bytes"] = psutil.swap_memory().used
    return found | (of_mac(ask) if platform == "darwin" else {})


def command(words: list[str]) -> str:
    """A command's standard output; nothing where it is missing or takes too long."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    # sysctl fails for one unknown name, and still tells the others.
    return done.stdout


# Who computes


def watch(seconds: float) -> Look:
    """Cores that others keep busy, the busiest of them by name, and time stolen by a host."""
    own = _family()
    before, mine, each = psutil.cpu_times(), _seconds(own), _process_seconds()
    start = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - start
    after, mine_after, each_after = psutil.cpu_times(), _seconds(own), _process_seconds()
    busy = _busy(after) - _busy(before) - (mine_after - mine)
    ours = {process.pid for process in own}
    shares = [
        {"pid": pid, "name": name, "cores": round((spent - each[pid][1]) / elapsed, 2)}
        for pid, (name, spent) in each_after.items()
        if pid in each and pid not in ours
    ]
    found: Look = {
        "others_busy_cores": round(max(0.0, busy / elapsed), 2),
        "busiest": busiest(shares),
    }
    if hasattr(after, "steal"):
        found["stolen_cores"] = round(max(0.0, (after.steal - before.steal) / elapsed), 3)
    return found


def busiest(shares: list[Look]) -> list[Look]:
    """The few processes that compute most."""
    found = [item for item in shares if item["cores"] >= BUSY_ENOUGH]
    return sorted(found, key=lambda item: -item["cores"])[:BUSIEST]


def _family() -> list[psutil.Process]:
    """This process and those that it started."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a program of somebody else"


def _seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _process_seconds() -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of every process that lets itself be asked."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            found[process.pid] = (process.info["name"] or "?", times.user + times.system)
    return found


def _busy(times: Any) -> float:
    # A guest's time is counted within user already, and what a host stole was computed by nobody here.
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def _spin() -> None:
    end = time.perf_counter() + SPIN_S
    while time.perf_counter() < end:
        pass


# Linux


def of_battery() -> Look:
    """Power source and charge, where there is a battery."""
    try:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    except (OSError, psutil.Error):
        battery = None
    if battery is None:
        return {}
    found: Look = {"battery_percent": round(battery.percent)}
    if battery.power_plugged is not None:
        found["on_battery"] = not battery.power_plugged
    return found


def of_linux(root: Path) -> Look:
    """Clocks in MHz, governors, temperature in °C, and where the system runs, from the files of Linux."""
    clocks = root / "sys/devices/system/cpu"
    found: Look = {}
    now, most = (
        [int(text) for text in _texts(clocks, f"cpu[0-9]*/cpufreq/{name}") if text.isdecimal()]
        for name in ("scaling_cur_freq", "cpuinfo_max_freq")
    )
    if now and most:
        found |= {"cpu_mhz": max(now) / 1000, "cpu_max_mhz": max(most) / 1000}
    if governors := sorted(set(_texts(clocks, "cpu[0-9]*/cpufreq/scaling_governor"))):
        found["governors"] = governors
    if _text(root / "sys/firmware/acpi/platform_profile") in LOW_POWER_PROFILES:
        found["low_power_mode"] = True
    degrees = [
        float(text) / 1000
        for name in sorted((root / "sys/class/hwmon").glob("hwmon*/name"))
        if _text(name) in ("coretemp", "k10temp", "zenpower", "cpu_thermal")
        for text in _texts(name.parent, "temp*_input")
        if text.isdecimal()
    ]
    if degrees:
        found["temperature_c"] = round(max(degrees), 1)
    return found | _place(root)


def _place(root: Path) -> Look:
    """Whether this is a guest or a container, and how many cores it may use on average."""
    found: Look = {}
    if re.search(r"^flags\s*:.*\bhypervisor\b", _text(root / "proc/cpuinfo"), re.MULTILINE):
        vendor = _text(root / "sys/class/dmi/id/sys_vendor") or _text(root / "sys/hypervisor/type")
        found["virtual"] = vendor or "hypervisor"
    marks = {"Docker": ".dockerenv", "Podman": "run/.containerenv"}
    names = [name for name, mark in marks.items() if (root / mark).exists()]
    hosts = re.findall(r"docker|kubepods|lxc|containerd", _text(root / "proc/1/cgroup"))
    if names or hosts:
        found["container"] = (names or hosts)[0]
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        found["cpu_quota_cores"] = int(quota) / int(period)
    return found


def _counters(root: Path) -> dict[str, float]:
    """What only ever grows: seconds that somebody waited for memory, throttles, bytes in swap."""
    found = {"monotonic_s": time.monotonic(), "swap_bytes": float(psutil.swap_memory().used)}
    waited = re.match(r"some .*total=(\d+)", _text(root / "proc/pressure/memory"))
    if waited:
        found["memory_stall_s"] = int(waited[1]) / 1e6
    counts = _texts(root / "sys/devices/system/cpu", "cpu[0-9]*/thermal_throttle/core_throttle_count")
    if counts:
        found["cpu_throttles"] = sum(int(text) for text in counts if text.isdecimal())
    return found


def growth(before: dict[str, float], after: dict[str, float]) -> Look:
    """What grew between two looks."""
    found: Look = {"swap_growth_bytes": int(after["swap_bytes"] - before["swap_bytes"])}
    elapsed = after["monotonic_s"] - before["monotonic_s"]
    if "memory_stall_s" in before and "memory_stall_s" in after and elapsed > 0:
        found["memory_stall_share"] = round((after["memory_stall_s"] - before["memory_stall_s"]) / elapsed, 4)
    if "cpu_throttles" in before and "cpu_throttles" in after:
        found["cpu_throttles"] = int(after["cpu_throttles"] - before["cpu_throttles"])
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _texts(folder: Path, pattern: str) -> list[str]:
    return [text for path in sorted(folder.glob(pattern)) if (text := _text(path))]


# Output of commands


def of_mac(ask: Run) -> Look:
    """What macOS tells through its own programs."""
    said = {name: ask(words) for name, words in macos.DOCTOR.items()}
    found = (
        macos.power_source(said["battery"])
        | macos.thermal_limits(said["therm"])
        | macos.power_mode(said["settings"])
    )
    found |= macos.free_memory(said["pressure"]) | macos.system_values(said["sysctl"])
    found |= macos.thermal_level(said["level"]) | macos.gpu_share(said["gpu"])
    # psutil may not look at the processes of others there, and ps may: its shares are of the last minute.
    own = {process.pid for process in _family()}
    processes = [item for item in macos.process_shares(said["processes"]) if item["pid"] not in own]
    return found | ({"busiest": busiest(processes)} if processes else {})


def gpu_processes(text: str) -> list[Look]:
    """`nvidia-smi`: "4242, /usr/bin/python3, 1024 MiB"; memory is "[N/A]" where it is not known."""
    found = []
    for pid, name, memory in re.findall(r"^\s*(\d{1,9}),\s*(.+),\s*([^,\n]*)$", text, re.MULTILINE):
        item: Look = {"pid": int(pid), "name": name.strip().rpartition("/")[2]}
        if size := re.fullmatch(r"(\d{1,9}) MiB", memory.strip()):
            item["memory_bytes"] = int(size[1]) << 20
        found.append(item)
    return found
