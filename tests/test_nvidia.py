"""What NVML says of the GPU that is measured, with a made-up driver: beside each case, and before measuring."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_velocity import findings, quality, state
from mlx_velocity.probe import device, nvidia, sensors

GIB = 1 << 30


class NVMLError(Exception):
    """The driver does not tell."""


class Driver:
    """Stands for pynvml: one GPU; what is set to None is not told."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1
    nvmlClocksEventReasonHwThermalSlowdown, nvmlClocksEventReasonSwPowerCap = 0x40, 0x4

    def __init__(self, **told: Any) -> None:
        self.told: dict[str, Any] = {
            "Temperature": 61, "PowerUsage": 412_000, "ClockInfo": 1980, "CurrentClocksEventReasons": 0,
            "ViolationStatus": SimpleNamespace(violationTime=2_000_000_000), "MaxClockInfo": 1980,
            "MemoryInfo": SimpleNamespace(used=GIB, total=140 * GIB), "UtilizationRates": SimpleNamespace(gpu=0),
            "EnforcedPowerLimit": 700_000, "PowerManagementDefaultLimit": 700_000, "MigMode": [0, 0],
            "ComputeRunningProcesses": [], "CudaDriverVersion": 13_010, "DriverVersion": "580.1", **told,
        }  # fmt: skip

    def nvmlInit(self) -> None:
        if self.told.get("broken"):
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def __getattr__(self, name: str) -> Any:
        key = name.removeprefix("nvmlDeviceGet").removeprefix("nvmlSystemGet")
        if key == name or key not in self.told:
            raise AttributeError(name)

        def answer(*_: Any) -> Any:
            if self.told[key] is None:
                raise NVMLError("Not Supported")
            return self.told[key]

        return answer


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test opened is not the next one's."""
    nvidia._open.cache_clear()
    yield
    nvidia._open.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, **told: Any) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver(**told))


def test_beside_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading holds the GPU's heat, power and clocks, and how long they were held down meanwhile."""
    install(monkeypatch)
    before = sensors.read()
    nvidia._open.cache_clear()
    install(
        monkeypatch,
        CurrentClocksEventReasons=0x44,
        ViolationStatus=SimpleNamespace(violationTime=2_500_000_000),
    )
    found = sensors.between(before, sensors.read())
    assert found["gpu_temperature_c"] == 61.0
    assert found["gpu_power_w"] == 412.0
    assert (found["gpu_mhz"], found["gpu_memory_mhz"]) == (1980, 1980)
    assert found["gpu_thermal_throttle_s"] == 0.5
    assert found["gpu_slowed"] == "hardware, heat; power limit"
    assert quality.flags(found | {"elapsed_s": 1.0}) == ["degraded_thermal"]


@pytest.mark.parametrize(
    ("look", "flags"),
    [
        ({"gpu_slowed": "power limit"}, ["clean"]),
        ({"gpu_slowed": "hardware, power brake"}, ["degraded_clocks"]),
        ({"gpu_thermal_throttle_s": 0.5, "elapsed_s": 100.0}, ["clean"]),
        ({"gpu_thermal_throttle_s": 2.0, "elapsed_s": 100.0}, ["degraded_thermal"]),
        ({"gpu_power_throttle_s": 99.0, "elapsed_s": 100.0}, ["clean"]),
    ],
)
def test_flags(look: dict[str, Any], flags: list[str]) -> None:
    """Heat and a brake degrade a case; the card's own power limit, or a moment of heat, does not."""
    assert quality.flags(look) == flags


def test_a_pair_adds_up() -> None:
    """Of the looks around a pair, throttled time is added up and the lowest clock counts."""
    looks = [
        {"gpu_thermal_throttle_s": 0.1, "gpu_mhz": 1980},
        {"gpu_thermal_throttle_s": 0.2, "gpu_mhz": 1200},
    ]
    worst = quality.worst(looks)
    assert worst["gpu_mhz"] == 1200
    assert worst["gpu_thermal_throttle_s"] == pytest.approx(0.3)
    hot = {"gpu_slowed": "driver, heat"}
    assert quality.of_comparison([hot, {}], []) == [
        "The GPU was slowed because it was hot during 1 of 2 measurements."
    ]


@pytest.mark.parametrize(
    "told",
    [{"broken": True}, {"Temperature": None, "ViolationStatus": None, "CurrentClocksEventReasons": None}],
)
def test_what_is_not_told_is_absent(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    """Without a driver nothing is read, and of a GPU that tells less the rest: never a zero."""
    install(monkeypatch, **told)
    assert set(nvidia.look()) == (set() if "broken" in told else {"gpu_power_w", "gpu_mhz", "gpu_memory_mhz"})


def test_the_gpu_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first GPU of CUDA_VISIBLE_DEVICES is looked at, by number or by name."""
    for said, meant in (("1,0", 1), ("GPU-abc,GPU-d", "GPU-abc"), ("", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
        assert nvidia.device_of(Driver()) == meant


def codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **told: Any) -> dict[str, findings.Finding]:
    """What doctor finds on a Linux machine with this GPU."""
    install(monkeypatch, **told)
    monkeypatch.setattr(state, "LOOK_S", 0.01)
    monkeypatch.setattr(state, "SPIN_S", 0.01)
    found = findings.of_state(state.look(tmp_path, "linux", lambda _: ""), "linux")
    return {item.code: item for item in found if item.code.startswith(("gpu", "driver"))}


def test_a_quiet_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a GPU that nobody uses, doctor says nothing."""
    assert codes(monkeypatch, tmp_path) == {}


def test_somebody_else_is_on_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Doctor says who uses the GPU and how much of it; what it can't see, it says too."""
    other = SimpleNamespace(pid=1 << 22, usedGpuMemory=20 * GIB)
    memory = SimpleNamespace(used=30 * GIB, total=140 * GIB)
    found = codes(
        monkeypatch,
        tmp_path,
        ComputeRunningProcesses=[other],
        MemoryInfo=memory,
        UtilizationRates=SimpleNamespace(gpu=90),
    )
    assert f"process {1 << 22}, 20 GiB" in found["gpu-shared"].text
    assert "10 GiB of the GPU's 140 GiB" in found["gpu-memory"].text
    assert found["gpu-busy"].severity == "unfit"


@pytest.mark.parametrize(
    ("told", "code", "text"),
    [
        ({"CudaDriverVersion": 12_040, "DriverVersion": "550.54"}, "driver", "550.54 knows CUDA up to 12.4, and mlx is built for 13"),
        ({"CurrentClocksEventReasons": 0x40}, "gpu-slowed", "hardware, heat"),
        ({"EnforcedPowerLimit": 400_000}, "gpu-power-limit", "400 W, and usually 700 W"),
        ({"MigMode": [1, 1]}, "gpu-part", "a part of a GPU"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: dict[str, Any], code: str, text: str
) -> None:
    """An old driver, heat, a lowered power limit and a part of a card are found, each with an advice."""
    found = codes(monkeypatch, tmp_path, **told)
    assert set(found) == {code}
    assert text in found[code].text
    assert found[code].advice


# The device of a series


def test_a_series_is_of_its_device() -> None:
    """An MLX that computes on the CPU is refused for a series of a GPU: its numbers would look plausible."""
    pytest.importorskip("mlx.core", reason="what MLX computes with is asked of MLX")
    from mlx_velocity.probe import compat

    device.check(compat.backend())
    other = "cuda" if compat.backend() != "cuda" else "cpu"
    with pytest.raises(RuntimeError, match=f"and the series is of {other}"):
        device.check(other)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("libcudnn.so.9: cannot open shared object file: No such file or directory", "add --inherit"),
        ("libcuda.so.1: cannot open shared object file: No such file or directory", "no NVIDIA driver"),
        ("No module named 'mlx'", "No module named 'mlx'"),
    ],
)
def test_a_library_that_is_missing(said: str, advice: str) -> None:
    """An import that fails for a missing library says what to do about it; any other stays as it is."""
    assert advice in str(device.explained(ImportError(said)))
