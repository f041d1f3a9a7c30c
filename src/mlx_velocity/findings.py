"""Whether a machine is fit to measure, before anything is measured: findings that a person can act on.

What is looked at comes from `state.look` and from a fixed loop. Where a look lacks something, nothing is
said about it. What is made of the sensors beside each measurement stands in quality.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mlx_velocity import units
from mlx_velocity.quality import BUSY_SHARE, DRIFT, FIT_CORES, HOT_C, STALLED_SHARE, STALLED_UNFIT

Severity = Literal["note", "warning", "unfit"]
Fitness = Literal["fit", "fit with care", "not fit"]
Platform = Literal["linux", "darwin"]
Look = dict[str, Any]

OTHERS_BUSY_CORES = 0.3
"""A desktop at rest stays below it; what computes all the time is above."""
SHARED_UNFIT = 0.7
"""Share of its core that a busy loop must get: a second program on it leaves a half."""
SWAP_SHARE = 0.1
"""Of memory: old pages that nobody wants back are harmless, so much is a working set that did not fit."""
SWAP_MOVES_BYTES = 1 << 20
"""In the second of a look: more than a page now and then."""
LOW_MEMORY_BYTES, LOW_MEMORY_SHARE = 2 << 30, 0.1
"""Two sides with the largest model of the profile `small` take the first; near the second, systems swap."""
SLOW_CLOCK = 0.5
"""Of the highest clock while a core computes: without turbo most processors still reach more than half."""
STOLEN_CORES, STOLEN_UNFIT = 0.02, 0.2
"""Time that the host gave to other guests: a sample that loses it is longer for no reason of its own."""
SPEED_LIMIT_UNFIT = 90
"""Per cent, as macOS says it: a tenth is more than any change that one looks for."""
GPU_BUSY_SHARE, GPU_BUSY_UNFIT = 0.1, 0.5
"""A desktop draws with a few per cent of a GPU; a film or a browser page takes more."""
GPU_UNSEEN_BYTES = 2 << 30
"""A driver keeps some hundred MB of a card for itself, and NVML counts them as used."""
CUDA_OF_MLX = 13
"""What mlx's wheels are built for since 0.30.1 (requirements.py); NVIDIA's drivers know it from 580 on."""
POWER_LIMITED = 0.98
SPREAD, SPREAD_UNFIT = 0.05, 0.25
"""p90 over p10 of a fixed loop: about 1 % on a quiet machine."""
CLOCK_DRIFT_UNFIT = 0.1
"""Between first and last third of some seconds: a machine that is still warming up or being slowed."""


@dataclass(frozen=True)
class Finding:
    """Something about the machine, and what to do about it."""

    code: str
    """A stable name: `others-busy`."""
    severity: Severity
    text: str
    advice: str


def of_state(state: Look, platform: Platform) -> list[Finding]:
    """What a look at the machine says about measuring on it now, the gravest first."""
    memory, power, gpu = _memory(state, platform), _power(state, platform), _gpu(state, platform)
    return gravest_first(
        [
            *_processor(state, platform),
            *_clocks(state, platform),
            *memory,
            *power,
            *gpu,
            *_nvidia(state),
            *_place(state),
        ]
    )


def of_clock(clock: Look) -> list[Finding]:
    """What the repetitions of a fixed loop say: `spread` and `drift` are ratios, `cpu_share` is 0 to 1."""
    found = []
    spread, drifted, share = clock["spread"] - 1, abs(clock["drift"] - 1), clock["cpu_share"]
    if share < FIT_CORES:
        found.append(
            Finding("core-shared", _graver(share < SHARED_UNFIT), f"a busy loop got {share * 100:.0f} % of its core",
                    "find what else runs on that core, and stop it")
        )  # fmt: skip
    if spread > SPREAD:
        found.append(
            Finding("unsteady", _graver(spread > SPREAD_UNFIT),
                    f"the same work takes {spread * 100:.0f} % longer at times (p90 over p10)",
                    "close what computes now and then; on a shared machine, measure more launches")
        )  # fmt: skip
    if drifted > DRIFT:
        found.append(
            Finding("drifting", _graver(drifted > CLOCK_DRIFT_UNFIT),
                    f"the same work took {units.percent_change(clock['drift'])} at the end",
                    "wait until the machine has come to rest, or has cooled down, then look again")
        )  # fmt: skip
    return found


def fitness(findings: Iterable[Finding]) -> Fitness:
    """The verdict over all findings; notes do not count."""
    severities = {item.severity for item in findings}
    if "unfit" in severities:
        return "not fit"
    return "fit with care" if "warning" in severities else "fit"


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order in which a person should act."""
    order: tuple[Severity, ...] = ("unfit", "warning", "note")
    return sorted(findings, key=lambda item: order.index(item.severity))


def _graver(unfit: bool) -> Severity:
    return "unfit" if unfit else "warning"


def _processor(state: Look, platform: Platform) -> Iterable[Finding]:
    cores, others = state.get("cores"), state.get("others_busy_cores", 0.0)
    if others > OTHERS_BUSY_CORES:
        busiest = state.get("busiest", [])
        names = ", ".join(f"{item['name']} ({item['cores']:.1f})" for item in busiest)
        first, pid = (
            (f"{busiest[0]['name']} (process {busiest[0]['pid']})", busiest[0]["pid"])
            if busiest
            else ("it", "ID")
        )
        advice = {
            "linux": f"stop {first}, or keep it off the last core: taskset -acp 0 {pid}",
            "darwin": f"quit {first}; Spotlight (mds, mdworker) and Time Machine (backupd) end by themselves: wait",
        }[platform]
        yield Finding(
            "others-busy", _graver(bool(cores and others > BUSY_SHARE * cores)),
            f"other programs keep {others:.1f} of {cores or '?'} cores busy" + (f": {names}" if names else ""), advice,
        )  # fmt: skip
    elif cores and state.get("load_1m", 0.0) > cores:
        yield Finding(
            "load", "warning", f"the load of the last minute is {state['load_1m']:.1f} on {cores} cores",
            "something has just ended: wait a minute, and look again",
        )  # fmt: skip
    stolen = state.get("stolen_cores", 0.0)
    if stolen > STOLEN_CORES:
        yield Finding(
            "stolen", _graver(stolen > STOLEN_UNFIT),
            f"the host of this virtual machine takes {stolen:.2f} cores' worth of time for others",
            "use a machine with cores of its own, or measure at another hour",
        )  # fmt: skip


def _clocks(state: Look, platform: Platform) -> Iterable[Finding]:
    limit, level = state.get("cpu_speed_limit_percent", 100), state.get("thermal_level", 0)
    throttles = state.get("cpu_throttles", 0)
    if limit < 100 or level or throttles or state.get("thermal_warning_level"):
        what = f" to {limit} %" if limit < 100 else ""
        yield Finding(
            "throttled", _graver(limit < SPEED_LIMIT_UNFIT or level > 1 or throttles > 0),
            f"the processor is slowed{what} because it is hot", "let it cool down; free its air, or turn up its fans",
        )  # fmt: skip
    elif state.get("temperature_c", 0.0) > HOT_C:
        yield Finding(
            "hot", "warning", f"the processor is at {state['temperature_c']:.0f} °C",
            "let it cool down; it will be slowed soon",
        )  # fmt: skip
    governors = [name for name in state.get("governors", []) if name != "performance"]
    if governors:
        yield Finding(
            "governor", "warning", f"the clock follows the load (governor {', '.join(governors)})",
            "sudo cpupower frequency-set -g performance",
        )  # fmt: skip
    now, most = state.get("cpu_mhz"), state.get("cpu_max_mhz")
    if now and most and now < SLOW_CLOCK * most:
        yield Finding(
            "slow-clock", "warning", f"a busy core runs at {now:,.0f} of {most:,.0f} MHz",
            "look for a power limit: cpupower frequency-info" if platform == "linux" else "plug in the charger",
        )  # fmt: skip


def _memory(state: Look, platform: Platform) -> Iterable[Finding]:
    close = "close the browser and other large programs"
    total, available = state.get("memory_total_bytes", 0), state.get("memory_available_bytes", float("inf"))
    swap, moved = state.get("swap_used_bytes", 0), state.get("swap_growth_bytes", 0)
    stalled, level = state.get("memory_stall_share", 0.0), state.get("memory_pressure_level", 1)
    if moved > SWAP_MOVES_BYTES:
        text = f"memory is being moved to swap ({units.bytes_(moved)} in a second)"
        yield Finding("swapping", "unfit", text, close)
    elif total and swap > SWAP_SHARE * total:
        then = {"darwin": "restart", "linux": "sudo swapoff -a && sudo swapon -a"}[platform]
        yield Finding("swap", "warning", f"{units.bytes_(swap)} lie in swap", f"{close}, then {then}")
    if stalled > STALLED_SHARE or level > 1:
        grave = _graver(stalled > STALLED_UNFIT or level > 2)
        yield Finding("memory-pressure", grave, "the system is short of memory", close)
    elif available < max(LOW_MEMORY_BYTES, LOW_MEMORY_SHARE * total):
        text = f"only {units.bytes_(available)} of memory are available"
        yield Finding("little-memory", "warning", text, close)
    elif state.get("memory_free_percent", 100) < 100 * LOW_MEMORY_SHARE:
        text = f"only {state['memory_free_percent']} % of memory are free"
        yield Finding("little-memory", "warning", text, close)


def _power(state: Look, platform: Platform) -> Iterable[Finding]:
    if state.get("low_power_mode"):
        advice = {"darwin": "sudo pmset -a lowpowermode 0", "linux": "powerprofilesctl set performance"}[
            platform
        ]
        yield Finding("low-power-mode", "unfit", "the machine saves power, and computes more slowly", advice)
    if state.get("on_battery"):
        left = f" ({state['battery_percent']:.0f} % left)" if "battery_percent" in state else ""
        awake = ", and keep it awake: caffeinate -dimsu" if platform == "darwin" else ""
        yield Finding("battery", "warning", f"it runs on its battery{left}", f"plug in the charger{awake}")


def _gpu(state: Look, platform: Platform) -> Iterable[Finding]:
    processes, share = state.get("gpu_processes", []), state.get("gpu_busy_share", 0.0)
    if processes:
        names = ", ".join(map(_on_gpu, processes[:3]))
        text = f"{units.count(len(processes), 'other program')} on the GPU: {names}"
        yield Finding("gpu-shared", "warning", text, f"stop {processes[0]['name']}, or wait for it")
    if share > GPU_BUSY_SHARE:
        text = f"the GPU is {share * 100:.0f} % busy before anything is measured"
        advice = {
            "darwin": "close the browser, videos and animated wallpapers",
            "linux": "find it with nvidia-smi",
        }
        yield Finding("gpu-busy", _graver(share > GPU_BUSY_UNFIT), text, advice[platform])


def _on_gpu(item: Look) -> str:
    held = f", {units.bytes_(item['memory_bytes'])}" if "memory_bytes" in item else ""
    return f"{item['name']} (process {item['pid']}{held})"


def _nvidia(state: Look) -> Iterable[Finding]:
    seen = sum(item.get("memory_bytes", 0) for item in state.get("gpu_processes", []))
    total, unseen = state.get("gpu_memory_total_bytes", 0), state.get("gpu_memory_used_bytes", 0) - seen
    if total and unseen > GPU_UNSEEN_BYTES:
        yield Finding(
            "gpu-memory", "warning",
            f"{units.bytes_(unseen)} of the GPU's {units.bytes_(total)} are held by programs that can't be seen from here",
            "ask who else uses this GPU; a model that does not fit beside them is skipped",
        )  # fmt: skip
    slowed = state.get("gpu_slowed", "")
    # A power limit is part of a card, and what it does beside heavy work is no fault.
    if "heat" in slowed or "hardware" in slowed:
        text = f"the GPU's clocks are held down ({slowed})"
        yield Finding(
            "gpu-slowed", "unfit", text, "let it cool down; see why with nvidia-smi -q -d PERFORMANCE"
        )
    known = state.get("cuda_of_driver")
    if known and int(known.partition(".")[0]) < CUDA_OF_MLX:
        text = f"the NVIDIA driver {state.get('gpu_driver', '')} knows CUDA up to {known}, and mlx is built for {CUDA_OF_MLX}"
        yield Finding("driver", "warning", text, "update the driver to 580 or later, to measure on this GPU")
    limit, usual = state.get("gpu_power_limit_w"), state.get("gpu_usual_power_limit_w")
    if limit and usual and limit < POWER_LIMITED * usual:
        text = f"the GPU may take {limit:.0f} W, and usually {usual:.0f} W"
        yield Finding(
            "gpu-power-limit", "note", text, f"sudo nvidia-smi -pl {usual:.0f}, or keep it as it is for good"
        )
    if state.get("gpu_mig"):
        text = "this is a part of a GPU (MIG): others compute on the rest of it"
        yield Finding("gpu-part", "note", text, "compare its numbers with its own only")


def _place(state: Look) -> Iterable[Finding]:
    quota, cores = state.get("cpu_quota_cores"), state.get("cores")
    if quota and cores and quota < cores:
        text = f"this container may use {quota:.1f} of {cores} cores, and is stopped when it uses more"
        yield Finding("quota", "warning", text, "give it whole cores instead: --cpuset-cpus for Docker")
    places = [state[key] for key in ("virtual", "container") if state.get(key)]
    if places:
        text = f"this is a virtual machine or a container ({', '.join(places)})"
        yield Finding(
            "virtual", "note", text, "compare its numbers with its own only; neighbours may disturb"
        )
