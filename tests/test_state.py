"""Looks at the machine: the long one for doctor, the cheap one around every case, and what commands print.

What nvidia-smi and macOS print was written after the formats that they document; none was taken on a Mac.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from test_macos_readers import capture

from mlx_velocity import findings, macos, quality, state
from mlx_velocity.probe import sensors

NVIDIA = "4242, /usr/bin/python3, 1024 MiB\n77, C:\\a, b\\game, [N/A]\n"


def test_processes_on_an_nvidia_gpu() -> None:
    """Programs on the GPU are named, with their memory where it is known."""
    assert state.gpu_processes(NVIDIA) == [
        {"pid": 4242, "name": "python3", "memory_bytes": 1 << 30},
        {"pid": 77, "name": "C:\\a, b\\game"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "No running processes found\n, ,\n" + "1" * 5000 + ", a, b",
    ],
)
def test_no_process_on_an_nvidia_gpu(text: str) -> None:
    """What nvidia-smi does not say is left out, and nothing is raised."""
    assert state.gpu_processes(text) == []


# A look


def fill(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


CORE = "sys/devices/system/cpu/cpu{}/"
LAPTOP = {
    CORE.format(0) + "cpufreq/scaling_governor": "powersave\n",
    CORE.format(1) + "cpufreq/scaling_governor": "powersave\n",
    CORE.format(0) + "cpufreq/scaling_cur_freq": "800000\n",
    CORE.format(1) + "cpufreq/scaling_cur_freq": "2400000\n",
    CORE.format(0) + "cpufreq/cpuinfo_max_freq": "4800000\n",
    CORE.format(1) + "cpufreq/cpuinfo_max_freq": "<unknown>\n",
    CORE.format(0) + "thermal_throttle/core_throttle_count": "5\n",
    CORE.format(0) + "thermal_throttle/package_throttle_count": "7\n",
    CORE.format(1) + "thermal_throttle/core_throttle_count": "3\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
    "sys/class/hwmon/hwmon1/name": "coretemp\n",
    "sys/class/hwmon/hwmon1/temp1_input": "61000\n",
    "sys/class/hwmon/hwmon1/temp2_input": "64500\n",
    "sys/firmware/acpi/platform_profile": "low-power\n",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme de\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=9\n",
    "proc/pressure/cpu": "some avg10=1.53 avg60=0.87 avg300=0.30 total=2500000\n",
}
GUEST = {
    "proc/cpuinfo": "flags\t\t: fpu hypervisor sse\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
    "proc/1/cgroup": "0::/kubepods/besteffort/pod1\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
}


def test_linux_files(tmp_path: Path) -> None:
    """On Linux, clocks, governors, heat and the power profile come from files; a disk's heat is not the processor's."""
    assert state.of_linux(fill(tmp_path, LAPTOP)) == {
        "cpu_mhz": 2400.0,
        "cpu_max_mhz": 4800.0,
        "governors": ["powersave"],
        "low_power_mode": True,
        "temperature_c": 64.5,
    }


def test_guest(tmp_path: Path) -> None:
    """A virtual machine, a container and its share of the cores are seen."""
    found = state.of_linux(fill(tmp_path, GUEST))
    assert found == {"virtual": "QEMU", "container": "kubepods", "cpu_quota_cores": 1.5}
    fill(tmp_path, {".dockerenv": "", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    assert state.of_linux(tmp_path) == {"virtual": "QEMU", "container": "Docker"}


def test_no_files(tmp_path: Path) -> None:
    """A machine that shows no files gives nothing, and no zeros."""
    assert state.of_linux(tmp_path) == {}


def test_growth() -> None:
    """Counters are told by their growth; one that only one of the looks has is left out."""
    before = {"monotonic_s": 10.0, "swap_bytes": 100.0, "memory_stall_s": 1.0, "cpu_throttles": 8.0}
    after = {"monotonic_s": 12.0, "swap_bytes": 400.0, "memory_stall_s": 1.5, "cpu_throttles": 9.0}
    assert state.growth(before, after) == {
        "swap_growth_bytes": 300,
        "memory_stall_share": 0.25,
        "cpu_throttles": 1,
    }
    assert state.growth({"monotonic_s": 1.0, "swap_bytes": 7.0}, after) == {"swap_growth_bytes": 393}


def test_a_busy_neighbour_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that computes is named, and what we started ourselves is not."""
    monkeypatch.setattr(state, "BUSIEST", 1000)
    code = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    # Its parent ends at once: it is nobody's child of ours.
    launcher = f"""if True:
        import subprocess, sys
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        print(subprocess.Popen([sys.executable, "-c", {code!r}], **quiet).pid)"""
    printed = subprocess.run([sys.executable, "-c", launcher], stdout=subprocess.PIPE, check=True).stdout
    stranger = psutil.Process(int(printed))
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        try:
            found = state.watch(1.0)
        finally:
            child.kill()
            stranger.kill()
    pids = [item["pid"] for item in found["busiest"]]
    assert stranger.pid in pids
    assert child.pid not in pids
    assert found["others_busy_cores"] > 0


def test_busiest() -> None:
    """Three names at most, the busiest first, and none that hardly computes."""
    shares = [{"pid": pid, "name": str(pid), "cores": pid / 100} for pid in (1, 30, 20, 50, 40)]
    assert [item["pid"] for item in state.busiest(shares)] == [50, 40, 30]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOOK_S", 0.01)
    monkeypatch.setattr(state, "SPIN_S", 0.0)


@pytest.mark.usefixtures("quick")
def test_look_here() -> None:
    """A look at this machine is plain JSON that can be judged."""
    found = state.look()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["cores"] >= 1
    assert found["memory_total_bytes"] > found["memory_available_bytes"] > 0
    findings.of_state(found, "linux")


@pytest.mark.usefixtures("quick")
def test_look_at_a_mac(tmp_path: Path) -> None:
    """On macOS, its own programs are asked; processes of our own on the GPU are left out."""
    answers = {
        "notifyutil": capture("notifyutil"),
        "batt": capture("pmset-batt-battery"),
        "therm": capture("pmset-therm-limited"),
        "-g": capture("pmset-low-power"),
        "-Q": capture("memory_pressure"),
        "sysctl": capture("sysctl-warn"),
        "ioreg": capture("ioreg-m2"),
        "ps": capture("ps"),
        "nvidia-smi": f"{os.getpid()}, me, 1 MiB\n4242, other, 1 MiB\n",
    }

    def run(words: list[str]) -> str:
        return next(text for key, text in answers.items() if key in words)

    found = state.look(tmp_path, "darwin", run)
    assert found["on_battery"] is True
    assert found["cpu_speed_limit_percent"] == 62
    assert found["low_power_mode"] is True
    assert found["memory_pressure_level"] == 2
    assert found["thermal_level"] == 2
    assert found["gpu_busy_share"] == 0.37
    assert [item["name"] for item in found["busiest"]] == ["Google Chrome Helper (Renderer)", "WindowServer"]
    assert [item["name"] for item in found["gpu_processes"]] == ["other"]
    assert findings.fitness(findings.of_state(found, "darwin")) == "not fit"


@pytest.mark.usefixtures("quick")
def test_a_mac_that_says_nothing(tmp_path: Path) -> None:
    """Programs that are missing or fail leave nothing behind."""
    found = state.look(tmp_path, "darwin", lambda _: "")
    assert not {"low_power_mode", "thermal_level", "gpu_busy_share", "memory_free_percent"} & set(found)


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is missing or hangs says nothing; one that fails says what it printed."""
    assert state.command(["/no/such/program"]) == ""
    assert state.command([sys.executable, "-c", "print('so far'); raise SystemExit(1)"]) == "so far\n"
    monkeypatch.setattr(state, "COMMAND_TIMEOUT_S", 0.2)
    assert state.command([sys.executable, "-c", "import time; time.sleep(60)"]) == ""


def test_ps_here() -> None:
    """This system's own ps is understood, and knows this process."""
    text = state.command([word for word in macos.DOCTOR["processes"] if word != "-c"])
    if not text:
        pytest.skip("there is no ps")
    assert os.getpid() in [item["pid"] for item in macos.process_shares(text)]


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, {}),
        (SimpleNamespace(percent=41.7, power_plugged=False), {"battery_percent": 42, "on_battery": True}),
        (SimpleNamespace(percent=99, power_plugged=None), {"battery_percent": 99}),
    ],
)
def test_battery(monkeypatch: pytest.MonkeyPatch, battery: Any, expected: dict[str, Any]) -> None:
    """The power source is told where it is known."""
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert state.of_battery() == expected


# The cheap look around every case


def test_sensors_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting, throttling and heat are read where Linux shows them, and told by their growth."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    root = f"{fill(tmp_path, LAPTOP)}/"
    before = sensors.read(root)
    # A chip's own count is the same on each of its cores.
    assert (before["cpu_throttles"], before["memory_stall_s"], before["cpu_stall_s"]) == (5 + 7 + 3, 1.5, 2.5)
    fill(tmp_path, {CORE.format(1) + "thermal_throttle/core_throttle_count": "5\n",
                    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1750000\n"})  # fmt: skip
    found = sensors.between(before, sensors.read(root))
    assert (found["cpu_throttles"], found["memory_stall_s"], found["cpu_stall_s"]) == (2, 0.25, 0.0)
    assert (found["allowed_cores"], found["temperature_c"]) == (2, 61.0)


def test_sensors_that_are_missing(tmp_path: Path) -> None:
    """A sensor that the machine lacks, or that shows nonsense, is absent."""
    fill(tmp_path, {"proc/pressure/memory": "", "proc/pressure/cpu": "some total=soon\n"})
    root = f"{tmp_path}/"
    found = sensors.between(sensors.read(root), sensors.read(root))
    assert not {"cpu_throttles", "memory_stall_s", "cpu_stall_s", "temperature_c"} & set(found)


def test_no_queue_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be pinned, a process that waits for its GPU beside busy programs stood in no queue."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    before = sensors.read()
    after = {**before, "monotonic_s": before["monotonic_s"] + 1.0, "busy_s": before["busy_s"] + 3.0}
    found = sensors.between(before, after)
    assert (found["allowed_cores"], found["own_busy_cores"], found["others_busy_cores"]) == (10, 0.0, 3.0)
    assert quality.of_pair(quality.worst([found]), {}, {}) == ""


def test_what_others_compute_on_the_one_core_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use one core tells what others computed on that core apart from the rest of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    before = sensors.read()
    grown = {"monotonic_s": 1.0, "own_s": 0.75, "core_busy_s": 0.875, "busy_s": 1.875}
    found = sensors.between(before, {**before, **{key: before[key] + more for key, more in grown.items()}})
    assert (found["own_busy_cores"], found["others_on_core"], found["others_busy_cores"]) == (
        0.75,
        0.125,
        1.125,
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert "others_on_core" not in sensors.between(before, sensors.read())


def test_own_time_is_exact() -> None:
    """Work of less than a tick of the system's clock counts as our own."""
    before = sensors.read()
    sum(range(20_000))
    assert sensors.read()["own_s"] > before["own_s"]
