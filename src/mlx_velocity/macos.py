"""What macOS says through its own programs: which are asked, and what their output means.

Each parser is a pure function of a program's output, and leaves out what it can't read: nothing is zero
because it was not there. Only `powermetrics` needs special rights.
"""

from __future__ import annotations

import re
from typing import Any

THERMAL_LEVEL = "com.apple.system.thermalpressurelevel"
GPU = ["ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"]
"""Apple silicon's AGXAccelerator is one of these."""
DOCTOR: dict[str, list[str]] = {
    "battery": ["pmset", "-g", "batt"],
    "therm": ["pmset", "-g", "therm"],
    "settings": ["pmset", "-g"],
    "pressure": ["memory_pressure", "-Q"],
    "sysctl": ["sysctl", "vm.swapusage", "kern.memorystatus_vm_pressure_level", "kern.hv_vmm_present"],
    "level": ["notifyutil", "-g", THERMAL_LEVEL],
    "gpu": GPU,
    # One -o each: to a BSD's ps, what follows "=" is a heading up to the end of the word.
    "processes": ["ps", "-A", "-c", "-o", "pid=", "-o", "pcpu=", "-o", "comm="],
}
"""What `doctor` asks, once."""
VM_STAT = ["vm_stat"]
SYSCTL = ["sysctl", "vm.swapusage", "kern.memorystatus_vm_pressure_level", "hw.memsize"]
POWERMETRICS = ["/usr/bin/powermetrics", "--samplers", "cpu_power,gpu_power,thermal", "--buffer-size", "1"]
POWERMETRICS_END = "*** Sampled system activity"
"""Begins the next block, and so ends the one before."""
THERMAL_LEVELS = ("Nominal", "Moderate", "Heavy", "Trapping", "Sleeping")
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


Look = dict[str, Any]


def power_source(text: str) -> Look:
    """`pmset -g batt`: "Now drawing from 'AC Power'", then " -InternalBattery-0 (id=1)  85%; charging; …"."""
    found: Look = {}
    if source := re.search(r"Now drawing from '([^']+)'", text):
        found["on_battery"] = source[1] == "Battery Power"
    if charge := re.search(r"InternalBattery.*?(\d{1,3})%", text):
        found["battery_percent"] = int(charge[1])
    return found


def thermal_limits(text: str) -> Look:
    """`pmset -g therm`: "CPU_Speed_Limit = 100", "Thermal Warning Level = 1", or notes that none was recorded."""
    names = {
        "cpu_speed_limit_percent": r"CPU_Speed_Limit\s*=\s*(\d{1,3})\b",
        "thermal_warning_level": r"Thermal Warning Level\s*=\s*(\d{1,3})\b",
    }
    return _numbers(text, names)


def power_mode(text: str) -> Look:
    """`pmset -g`: " lowpowermode 1", or " powermode 1" where there is a high-power mode (2) too."""
    modes = re.findall(r"^\s*(?:lowpowermode|powermode)\s+(\d+)\b", text, re.MULTILINE)
    return {"low_power_mode": "1" in modes} if modes else {}


def free_memory(text: str) -> Look:
    """`memory_pressure -Q`: "System-wide memory free percentage: 54%"."""
    return _numbers(text, {"memory_free_percent": r"memory free percentage:\s*(\d{1,3})%"})


def system_values(text: str) -> Look:
    """`sysctl`: swap ("vm.swapusage: total = 2048.00M  used = 1103.25M …"), memory and its pressure, guest or not."""
    found = _numbers(text, {"memory_pressure_level": r"memorystatus_vm_pressure_level:\s*(\d{1,3})\b"})
    if used := re.search(r"vm\.swapusage:.*?used = (\d{1,12}(?:\.\d{1,6})?)([KMGT]?)\b", text):
        found["swap_used_bytes"] = round(float(used[1]) * _BYTES[used[2]])
    found |= _numbers(text, {"memory_total_bytes": r"hw\.memsize:\s*(\d{1,15})\b"})
    if re.search(r"kern\.hv_vmm_present:\s*1\b", text):
        found["virtual"] = "hypervisor"
    return found


def thermal_level(text: str) -> Look:
    """`notifyutil -g`: name and level; 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping."""
    return _numbers(text, {"thermal_level": re.escape(THERMAL_LEVEL) + r"\s+(\d{1,3})\b"})


def gpu_share(text: str) -> Look:
    """The busiest GPU's share of time that it is busy, 0 to 1."""
    shares = [item["device_share"] for item in gpus(text) if "device_share" in item]
    return {"gpu_busy_share": max(shares)} if shares else {}


def gpus(text: str) -> list[Look]:
    """`ioreg -c IOAccelerator`: of each "+-o AGXAccelerator…" its name, shares of time (0 to 1) and bytes in use.

    "PerformanceStatistics" = {"Device Utilization %"=12,"Tiler Utilization %"=3,"In use system memory"=524288}.
    """
    shares = {
        "device_share": "Device Utilization %",
        "renderer_share": "Renderer Utilization %",
        "tiler_share": "Tiler Utilization %",
    }
    found = []
    for block in re.split(r"^\s*[|\s]*\+-o ", text, flags=re.MULTILINE):
        numbers = _numbers(
            block, {key: rf'"{re.escape(name)}"\s*=\s*(\d{{1,3}})\b' for key, name in shares.items()}
        )
        item: Look = {key: value / 100 for key, value in numbers.items() if value <= 100}
        item |= _numbers(block, {"memory_used_bytes": r'"In use system memory"\s*=\s*(\d{1,15})\b'})
        if item:
            model = re.search(r'"model"\s*=\s*<?"([^"\n]{1,100})"', block)
            found.append({**({"name": model[1]} if model else {}), **item})
    return found


def memory_pages(text: str) -> Look:
    """`vm_stat`: "(page size of 16384 bytes)", then "Pages free:   123456." and so on, as bytes.

    `available_bytes` is what a program can have without swap: free, speculative, inactive and purgeable pages.
    """
    size = re.search(r"page size of (\d{1,7}) bytes", text)
    names = {
        "free": "Pages free",
        "speculative": "Pages speculative",
        "inactive": "Pages inactive",
        "purgeable": "Pages purgeable",
        "wired": "Pages wired down",
        "compressed": "Pages occupied by compressor",
    }
    pages = _numbers(text, {key: rf"(?m)^{name}:\s*(\d{{1,12}})\.?\s*$" for key, name in names.items()})
    if not size or not pages:
        return {}
    found = {f"{key}_bytes": count * int(size[1]) for key, count in pages.items()}
    parts = [f"{key}_bytes" for key in ("free", "speculative", "inactive", "purgeable")]
    if all(key in found for key in parts):
        found["available_bytes"] = sum(found[key] for key in parts)
    return found


def power(text: str) -> Look:
    """`powermetrics`: one block's watts by part, and the thermal pressure as `thermal_level` has it.

    "CPU Power: 823 mW", "Combined Power (CPU + GPU + ANE): 1172 mW", "Current pressure level: Nominal".
    The last value of a block counts: with several samplers the GPU's power is printed twice.
    """
    names = {
        "cpu": "CPU Power",
        "gpu": "GPU Power",
        "ane": "ANE Power",
        "total": r"Combined Power \([^)\n]*\)",
    }
    watts = {}
    for key, name in names.items():
        if values := re.findall(rf"^{name}:\s*(\d{{1,9}}(?:\.\d{{1,6}})?)\s*(m?)W\s*$", text, re.MULTILINE):
            number, milli = values[-1]
            watts[key] = float(number) / (1000 if milli else 1)
    found: Look = {"power_w": watts} if watts else {}
    level = re.search(r"^Current pressure level:\s*(\w{1,20})\s*$", text, re.MULTILINE)
    if level and level[1] in THERMAL_LEVELS:
        found["thermal_level"] = THERMAL_LEVELS.index(level[1])
    return found


def process_shares(text: str) -> list[Look]:
    """`ps -o pid= -o pcpu= -o comm=`: "  412  12.5 WindowServer" is an eighth of a core."""
    lines = re.findall(r"^\s*(\d{1,9})\s+(\d{1,6}(?:[.,]\d{1,6})?)\s+(\S.*?)\s*$", text, re.MULTILINE)
    return [
        {"pid": int(pid), "name": name, "cores": round(float(share.replace(",", ".")) / 100, 2)}
        for pid, share, name in lines
    ]


def _numbers(text: str, patterns: dict[str, str]) -> Look:
    matches = {key: re.search(pattern, text) for key, pattern in patterns.items()}
    return {key: int(match[1]) for key, match in matches.items() if match}
