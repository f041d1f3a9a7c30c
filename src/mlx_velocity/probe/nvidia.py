"""What NVIDIA's driver says of the GPU that is measured on, through NVML (nvidia-ml-py); nothing without it.

The GPU is the first one that CUDA_VISIBLE_DEVICES names. What a GPU does not tell is absent, never zero.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

Look = dict[str, Any]

REASONS = {
    "HwThermalSlowdown": "hardware, heat",
    "SwThermalSlowdown": "driver, heat",
    "HwPowerBrakeSlowdown": "hardware, power brake",
    "HwSlowdown": "hardware",
    "SwPowerCap": "power limit",
}
"""Why clocks are held down, in NVML's names (nvmlClocksEventReasons); idle and chosen clocks are no reason."""


def look() -> Look:
    """The GPU's state now, cheap enough to take around every case; never raises.

    `gpu_temperature_c`, `gpu_power_w`, `gpu_mhz`, `gpu_memory_mhz`, `gpu_slowed` (why, where it is), and seconds
    since the driver was started in which heat or the power limit held the clocks down: `gpu_thermal_throttle_s`
    and `gpu_power_throttle_s`.
    """
    nvml, device = _open()
    if nvml is None:
        return {}
    return _ask(
        nvml,
        {
            "gpu_temperature_c": lambda: float(
                nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            ),
            "gpu_power_w": lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            "gpu_mhz": lambda: int(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
            "gpu_memory_mhz": lambda: int(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
            "gpu_slowed": lambda: _slowed(nvml, device),
            "gpu_thermal_throttle_s": lambda: _throttled_s(nvml, device, nvml.NVML_PERF_POLICY_THERMAL),
            "gpu_power_throttle_s": lambda: _throttled_s(nvml, device, nvml.NVML_PERF_POLICY_POWER),
        },
    )


def health() -> Look:
    """What is worth knowing before measuring: `look`, and memory, load, limits, driver and who else is there.

    `gpu_processes` have `pid` and, where the driver tells, `memory_bytes`; this process is among them where it computes.
    """
    nvml, device = _open()
    if nvml is None:
        return {}
    return look() | _ask(
        nvml,
        {
            "gpu_memory_used_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(device).used),
            "gpu_memory_total_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(device).total),
            "gpu_busy_share": lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
            "gpu_max_mhz": lambda: int(nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_SM)),
            "gpu_power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1000,
            "gpu_usual_power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(device) / 1000,
            "gpu_mig": lambda: nvml.nvmlDeviceGetMigMode(device)[0] == 1 or None,
            "gpu_driver": lambda: str(nvml.nvmlSystemGetDriverVersion()),
            "cuda_of_driver": lambda: _dotted(nvml.nvmlSystemGetCudaDriverVersion()),
            "gpu_processes": lambda: [
                _process(item) for item in nvml.nvmlDeviceGetComputeRunningProcesses(device)
            ],
        },
    )


def device_of(nvml: Any) -> Any:
    """NVML's handle of the GPU that is measured on; raises NVMLError without one."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
    get = nvml.nvmlDeviceGetHandleByIndex if first.isdecimal() else nvml.nvmlDeviceGetHandleByUUID
    return get(int(first) if first.isdecimal() else first)


@functools.cache
def _open() -> tuple[Any, Any]:
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, device_of(pynvml)
    except Exception:
        # Not installed, no driver, or no such GPU: nobody tells.
        return None, None


def _ask(nvml: Any, questions: dict[str, Callable[[], Any]]) -> Look:
    found: Look = {}
    for name, question in questions.items():
        try:
            answer = question()
        except (nvml.NVMLError, AttributeError, TypeError, ValueError):
            # Each GPU, driver and container lacks something else.
            continue
        if answer is not None:
            found[name] = answer
    return found


def _slowed(nvml: Any, device: Any) -> str | None:
    """Why the clocks are held down now; None where they are not."""
    try:
        mask = nvml.nvmlDeviceGetCurrentClocksEventReasons(device)
        prefix = "nvmlClocksEventReason"
    except AttributeError:  # before nvidia-ml-py 12.535
        mask, prefix = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device), "nvmlClocksThrottleReason"
    found = [said for name, said in REASONS.items() if mask & getattr(nvml, f"{prefix}{name}", 0)]
    return "; ".join(found) or None


def _throttled_s(nvml: Any, device: Any, policy: int) -> float:
    return float(nvml.nvmlDeviceGetViolationStatus(device, policy).violationTime) / 1e9


def _process(item: Any) -> Look:
    found: Look = {"pid": int(item.pid)}
    if item.usedGpuMemory:
        found["memory_bytes"] = int(item.usedGpuMemory)
    return found


def _dotted(version: int) -> str:
    """NVML's 13010 is CUDA 13.1."""
    return f"{version // 1000}.{version % 1000 // 10}"
