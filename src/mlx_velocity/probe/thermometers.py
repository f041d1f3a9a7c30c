"""Temperatures of the processor and the GPUs in °C, from whatever this machine offers without root.

- Linux: the processor's own sensors (`probe/sensors.py`), and NVML through `nvidia-ml-py` for NVIDIA's GPUs.
- macOS: `macmon`, in this process where its Python bindings (`macmon-lib`) are installed, else the program.
  `powermetrics` is of no use here: on Apple silicon it tells the thermal pressure and no temperature, root or not.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from mlx_velocity.probe import sensors

MACMON = ("macmon", "pipe", "--samples", "1", "--interval", "100")
"""One line of JSON after 100 ms, which is how long it looks at the power; temperatures are of the moment."""
MACMON_TIMEOUT_S = 5.0
COLDEST_C, HOTTEST_C = 10.0, 150.0
"""What a sensor of a running Apple chip can say. macmon gives 0 without sensors, and some chips give
-2 to 10 °C now and then (issues 12 and 68, pull request 50 of vladkens/macmon)."""

_lock = threading.Lock()


class NoThermometer(Exception):
    """A source gives nothing; the message says why, and what would help."""


def read() -> dict[str, float]:
    """°C by place (`cpu`, `gpu0`, `gpu1` …). Empty where there is no source; `missing` says why.

    Takes about a millisecond, but more than 0.1 s where the program `macmon` has to be started.
    """
    found: dict[str, float] = {}
    for source in sources():
        try:
            found |= source()
        except NoThermometer:
            continue
    return found


def missing() -> str:
    """Why `read` finds nothing, one reason for each source; empty where it finds something."""
    reasons = []
    for source in sources():
        try:
            if source():
                return ""
        except NoThermometer as reason:
            reasons.append(str(reason))
    return "; ".join(reasons)


def sources(system: str = sys.platform) -> list[Callable[[], dict[str, float]]]:
    """What may know a temperature under this system. Each gives °C by place or raises NoThermometer."""
    if system == "darwin":
        return [macmon]
    return [processor, nvidia] if system == "linux" else [_nowhere]


def _nowhere() -> dict[str, float]:
    raise NoThermometer(f"no source of temperatures is known for {sys.platform}")


def processor(root: str = "/") -> dict[str, float]:
    """Linux: the processor's hottest own sensor."""
    temperature = sensors.temperature_c(root)
    if temperature is None:
        raise NoThermometer("Linux shows no sensor of the processor here, as is usual in a virtual machine")
    return {"cpu": temperature}


# NVIDIA


def nvidia() -> dict[str, float]:
    """Every NVIDIA GPU that NVML sees, in NVML's order."""
    try:
        nvml, handles = _nvml()
    except ImportError:
        driver = os.path.exists("/proc/driver/nvidia")
        reason = "NVIDIA's GPUs need nvidia-ml-py: pip install it" if driver else "there is no NVIDIA driver"
        raise NoThermometer(reason) from None
    except Exception as error:
        raise NoThermometer(f"NVML does not start: {error}") from None
    found = {}
    for index, handle in enumerate(handles):
        temperature = nvml_temperature(nvml, handle)
        if temperature is not None:
            found[f"gpu{index}"] = temperature
    if not found:
        raise NoThermometer("NVML gives no temperature of any GPU")
    return found


@functools.cache
def _nvml() -> tuple[Any, tuple[Any, ...]]:
    """NVML, started once a process, and a handle for each GPU."""
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    return nvml, tuple(nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount()))


def nvml_temperature(nvml: Any, handle: Any) -> float | None:
    """°C of one GPU; None where it does not tell. Older drivers know the older call alone."""
    for name in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"):
        try:
            return float(getattr(nvml, name)(handle, nvml.NVML_TEMPERATURE_GPU))
        except (AttributeError, nvml.NVMLError):
            continue
    return None


# Apple silicon


def macmon() -> dict[str, float]:
    """Apple silicon: the averages of the processor's and of the GPU's sensors."""
    try:
        bindings = _macmon_bindings()
    except ImportError:
        found = of_macmon(_macmon_line())
    except Exception as error:
        raise NoThermometer(f"macmon does not start: {error}") from None
    else:
        try:
            # The bindings hold one C object without a lock of its own.
            with _lock:
                temperature = bindings.metrics().temperature
        except Exception as error:
            raise NoThermometer(f"macmon failed: {error}") from None
        found = plausible({"cpu": temperature.cpu_average, "gpu0": temperature.gpu_average})
    if not found:
        raise NoThermometer("macmon gives no temperature that can be one")
    return found


@functools.cache
def _macmon_bindings() -> Any:
    """A sampler of macmon-lib; ImportError without it. Two other packages have modules of that name."""
    module = importlib.import_module("macmon")
    if not hasattr(module, "Sampler"):
        raise ImportError("this macmon is another package")
    return module.Sampler()


def _macmon_line() -> str:
    """What the program says; NoThermometer where it is not there or fails."""
    program = shutil.which(MACMON[0])
    if program is None:
        raise NoThermometer("without root, macOS gives temperatures through macmon: brew install macmon")
    try:
        done = subprocess.run(
            [program, *MACMON[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=MACMON_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoThermometer(f"macmon failed: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise NoThermometer(f"macmon failed with exit {done.returncode} and said: {said}")
    return done.stdout


def of_macmon(text: str) -> dict[str, float]:
    """°C by place from what `macmon pipe` writes: one JSON object a line, of which the last one counts.

    Empty for anything else.
    """
    lines = text.strip().splitlines()
    try:
        said = json.loads(lines[-1])["temp"]
        return plausible({"cpu": said.get("cpu_temp_avg"), "gpu0": said.get("gpu_temp_avg")})
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def plausible(values: dict[str, Any]) -> dict[str, float]:
    """Those values that are temperatures of a running Apple chip, rounded to 0.1 °C."""
    return {
        place: round(float(value), 1)
        for place, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and COLDEST_C <= value <= HOTTEST_C
    }
