"""What NVIDIA's driver says of its GPUs, through NVML; some 30 µs each. Its count of joules takes 4 ms: not here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Reading = dict[str, Any]


def open_all() -> tuple[list[Any], str]:
    """A handle of each GPU; none, and why, where there is a driver that can't be asked."""
    try:
        import pynvml
    except ImportError:
        there = os.path.exists("/dev/nvidiactl")
        return [], "no GPU: install NVIDIA's library with: pip install mlx-velocity[nvidia]" if there else ""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)], ""
    except pynvml.NVMLError as error:
        # A machine without the driver is no matter; a driver that fails is.
        return [], f"no GPU: {error}" if os.path.exists("/dev/nvidiactl") else ""


def read(handles: list[Any]) -> Reading:
    """Shares of time, bytes, °C and W of each GPU; what one does not tell is absent."""
    return {"gpus": [_one(handle) for handle in handles]}


def _one(handle: Any) -> Reading:
    import pynvml

    found: Reading = {}

    def ask(take: Callable[[], Reading]) -> None:
        try:
            found.update(take())
        except pynvml.NVMLError:
            # Each chip lacks something else; a part of a GPU (MIG) has no utilization.
            return

    def busy() -> Reading:
        rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
        return {"device_share": rates.gpu / 100, "memory_busy_share": rates.memory / 100}

    def memory() -> Reading:
        held = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {"memory_used_bytes": int(held.used), "memory_total_bytes": int(held.total)}

    ask(busy)
    ask(memory)
    ask(
        lambda: {"temperature_c": float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))}
    )
    ask(lambda: {"power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000})
    return found


def names(handles: list[Any]) -> list[str]:
    """What the GPUs are called."""
    import pynvml

    return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
