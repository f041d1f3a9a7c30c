"""Temperatures: what each source's output means, malformed ones included, and reasons where there is none."""

from __future__ import annotations

import json
import math
import stat
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest

from mlx_velocity.probe import thermometers
from mlx_velocity.probe.thermometers import NoThermometer

# The format that macmon's readme documents for `macmon pipe`, shortened.
MACMON = json.dumps(
    {
        "timestamp": "2025-02-24T20:38:15.427569+00:00",
        "temp": {"cpu_temp_avg": 43.73614, "gpu_temp_avg": 36.95167},
        "memory": {"ram_total": 25769803776, "ram_usage": 20985479168},
        "gpu_power": 0.017451683,
        "sys_power": 5.876533,
    }
)


@pytest.fixture(autouse=True)
def _no_handles_kept():
    yield
    thermometers._nvml.cache_clear()
    thermometers._macmon_bindings.cache_clear()


def macmon_of(cpu: Any, gpu: Any) -> str:
    return json.dumps({"temp": {"cpu_temp_avg": cpu, "gpu_temp_avg": gpu}})


def test_macmons_line_gives_both_temperatures() -> None:
    """The averages of processor and GPU are read from a line of macmon."""
    assert thermometers.of_macmon(MACMON) == {"cpu": 43.7, "gpu0": 37.0}


def test_the_last_of_several_lines_counts() -> None:
    """Of several samples, the newest is taken."""
    assert thermometers.of_macmon(MACMON + "\n" + macmon_of(60.04, 50)) == {"cpu": 60.0, "gpu0": 50.0}


@pytest.mark.parametrize("cold", [0, 0.0, -1.85, 5, 9.8, 151, math.nan, math.inf, None, "43", [43], True])
def test_what_is_no_temperature_is_absent(cold: Any) -> None:
    """Zero, what no running chip can be, and what is no number are missing, and the other place stays."""
    assert thermometers.of_macmon(macmon_of(cold, 40.0)) == {"gpu0": 40.0}


@pytest.mark.parametrize(
    "text",
    ["", "\n", "{", MACMON[:60], "null", "[]", "3", '"x"', "{}", '{"temp": null}', '{"temp": 4}', '{"temp": [1]}', "Error: no SMC"],
)  # fmt: skip
def test_malformed_output_gives_nothing(text: str) -> None:
    """Truncated, empty or foreign output is no temperature, and no crash."""
    assert thermometers.of_macmon(text) == {}


def program(folder: Path, body: str) -> None:
    path = folder / "macmon"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where programs are looked for first; no bindings are installed."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(thermometers, "sources", lambda: [thermometers.macmon])
    return tmp_path


def test_the_program_is_asked_for_one_sample(path: Path) -> None:
    """macmon is started for a single sample, and its line is read."""
    program(path, f"echo \"$*\" > {path}/asked\necho '{MACMON}'")
    assert thermometers.read() == {"cpu": 43.7, "gpu0": 37.0}
    assert thermometers.missing() == ""
    assert (path / "asked").read_text().split() == ["pipe", "--samples", "1", "--interval", "100"]


def test_a_mac_without_macmon_says_what_to_install(path: Path) -> None:
    """Without the program there is no temperature, and the reason says what helps."""
    assert thermometers.read() == {}
    assert "brew install macmon" in thermometers.missing()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'Error: SMC is closed' >&2; exit 3", "exit 3 and said: Error: SMC is closed"),
        ("exit 1", "exit 1 and said: nothing"),
        ("echo nonsense", "no temperature that can be one"),
        (f"echo '{macmon_of(0, 0)}'", "no temperature that can be one"),
    ],
)
def test_a_program_that_fails_says_why(path: Path, body: str, reason: str) -> None:
    """A macmon that fails or sees no sensor gives nothing, with its own words."""
    program(path, body)
    assert thermometers.read() == {}
    assert reason in thermometers.missing()


def test_a_program_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A macmon that never answers does not hold up a measurement."""
    monkeypatch.setattr(thermometers, "MACMON_TIMEOUT_S", 0.2)
    program(path, "exec sleep 30")
    assert thermometers.read() == {}
    assert "timed out" in thermometers.missing()


def test_the_bindings_are_asked_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With macmon-lib, one sampler is made and no process is started."""
    made = []

    class Sampler:
        def __init__(self) -> None:
            made.append(self)

        def metrics(self) -> Any:
            return types.SimpleNamespace(
                temperature=types.SimpleNamespace(cpu_average=51.26, gpu_average=0.0)
            )

    monkeypatch.setitem(__import__("sys").modules, "macmon", types.SimpleNamespace(Sampler=Sampler))
    monkeypatch.setattr(subprocess, "run", None)
    assert thermometers.macmon() == thermometers.macmon() == {"cpu": 51.3}
    assert len(made) == 1


def test_another_package_of_that_name_is_not_taken_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module named macmon that is something else is passed over for the program."""
    monkeypatch.setitem(__import__("sys").modules, "macmon", types.SimpleNamespace(MacMon=object))
    program(path, f"echo '{MACMON}'")
    assert thermometers.read() == {"cpu": 43.7, "gpu0": 37.0}


# Linux


def hwmon(root: Path, *sensors: tuple[str, str]) -> str:
    for number, (name, degrees) in enumerate(sensors):
        folder = root / f"sys/class/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "temp1_input").write_text(degrees)
    return f"{root}/"


def test_the_hottest_sensor_of_the_processor_counts(tmp_path: Path) -> None:
    """Thousandths of a degree are read from the processor's own sensors, and a disk's is left out."""
    root = hwmon(tmp_path, ("nvme", "70000\n"), ("coretemp", "48500\n"), ("coretemp", "51250\n"))
    assert thermometers.processor(root) == {"cpu": 51.2}


@pytest.mark.parametrize("degrees", ["", "N/A\n", "hot"])
def test_a_sensor_that_says_nothing_is_absent(tmp_path: Path, degrees: str) -> None:
    """An unreadable sensor is no sensor."""
    with pytest.raises(NoThermometer, match="no sensor"):
        thermometers.processor(hwmon(tmp_path, ("k10temp", degrees)))


class NVMLError(Exception):
    """As of NVML."""


def nvml(*temperatures: float | None, old: bool = False, broken: bool = False) -> Any:
    """NVML with a GPU for each temperature; `old` knows the older call alone."""

    def temperature(handle: int, kind: int) -> int:
        value = temperatures[handle]
        assert kind == 0
        if value is None:
            raise NVMLError("Not Supported")
        return int(value)

    def init() -> None:
        if broken:
            raise NVMLError("Driver Not Loaded")

    name = "nvmlDeviceGetTemperature" if old else "nvmlDeviceGetTemperatureV"
    return types.SimpleNamespace(
        **{name: temperature},
        NVML_TEMPERATURE_GPU=0,
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlDeviceGetCount=lambda: len(temperatures),
        nvmlDeviceGetHandleByIndex=lambda index: index,
    )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """An NVIDIA driver is there."""
    exists = thermometers.os.path.exists
    monkeypatch.setattr(
        thermometers.os.path, "exists", lambda path: path == "/proc/driver/nvidia" or exists(path)
    )


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("old", [False, True])
def test_every_gpu_that_tells_is_named(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """NVML's GPUs are numbered as NVML does, and one that does not tell is absent."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml(61, None, 45, old=old))
    assert thermometers.nvidia() == {"gpu0": 61.0, "gpu2": 45.0}


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "need nvidia-ml-py"),
        (nvml(broken=True), "Driver Not Loaded"),
        (nvml(None), "no temperature of any GPU"),
        (nvml(), "no temperature of any GPU"),
    ],
)
def test_nvidia_without_a_temperature_says_why(
    monkeypatch: pytest.MonkeyPatch, module: Any, reason: str
) -> None:
    """Without the package, the driver or a sensor there is no temperature, and the reason is told."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", module)
    with pytest.raises(NoThermometer, match=reason):
        thermometers.nvidia()


def test_what_one_source_lacks_another_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are put together, and one that is missing takes nothing away."""

    def none() -> dict[str, float]:
        raise NoThermometer("none here")

    monkeypatch.setattr(
        thermometers, "sources", lambda: [none, lambda: {"cpu": 40.0}, lambda: {"gpu0": 50.0}]
    )
    assert thermometers.read() == {"cpu": 40.0, "gpu0": 50.0}
    assert thermometers.missing() == ""
    monkeypatch.setattr(thermometers, "sources", lambda: [none, none])
    assert thermometers.read() == {}
    assert thermometers.missing() == "none here; none here"


@pytest.mark.parametrize("system", ["darwin", "linux", "win32"])
def test_every_system_gives_temperatures_or_reasons(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system: there are temperatures, or there is a reason."""
    found = thermometers.sources(system)
    monkeypatch.setattr(thermometers, "sources", lambda: found)
    assert found
    assert bool(thermometers.read()) is not bool(thermometers.missing())
