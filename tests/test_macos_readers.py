"""What macOS's own programs print is read as it is meant, whatever has become of it on the way.

The captures were written after the formats that these programs document; none was taken on a Mac. The first
line of each says where its format comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity import findings, macos

FOLDER = Path(__file__).parent / "captures"
M2 = {
    "name": "Apple M2 Max",
    "device_share": 0.37,
    "renderer_share": 0.31,
    "tiler_share": 0.07,
    "memory_used_bytes": 1_202_913_280,
}
PAGE = 16384
MEMORY = {
    "free_bytes": 123456 * PAGE,
    "speculative_bytes": 12345 * PAGE,
    "inactive_bytes": 345678 * PAGE,
    "purgeable_bytes": 56789 * PAGE,
    "wired_bytes": 234567 * PAGE,
    "compressed_bytes": 45678 * PAGE,
    "available_bytes": (123456 + 12345 + 345678 + 56789) * PAGE,
}
CASES: list[tuple[Callable[[str], Any], str, Any]] = [
    (macos.power_source, "pmset-batt-battery", {"on_battery": True, "battery_percent": 85}),
    (macos.power_source, "pmset-batt-ac", {"on_battery": False, "battery_percent": 100}),
    (macos.power_source, "pmset-batt-desktop", {"on_battery": False}),
    (macos.thermal_limits, "pmset-therm-limited", {"cpu_speed_limit_percent": 62}),
    (macos.thermal_limits, "pmset-therm-quiet", {}),
    (macos.thermal_limits, "pmset-therm-warning", {"thermal_warning_level": 2}),
    (macos.power_mode, "pmset-low-power", {"low_power_mode": True}),
    (macos.power_mode, "pmset-normal-power", {"low_power_mode": False}),
    (macos.power_mode, "pmset-powermode-low", {"low_power_mode": True}),
    (macos.power_mode, "pmset-powermode-high", {"low_power_mode": False}),
    (macos.free_memory, "memory_pressure", {"memory_free_percent": 54}),
    (macos.system_values, "sysctl-warn", {"swap_used_bytes": 1_156_841_472, "memory_pressure_level": 2,
                                          "memory_total_bytes": 16 << 30, "virtual": "hypervisor"}),
    (macos.system_values, "sysctl-quiet", {"swap_used_bytes": 0, "memory_pressure_level": 1, "memory_total_bytes": 64 << 30}),
    (macos.thermal_level, "notifyutil", {"thermal_level": 2}),
    (macos.gpu_share, "ioreg-m2", {"gpu_busy_share": 0.37}),
    (macos.gpu_share, "ioreg-two", {"gpu_busy_share": 0.64}),
    (macos.gpus, "ioreg-m2", [M2]),
    (macos.gpus, "ioreg-two", [{"device_share": 0.03}, {"device_share": 0.64, "memory_used_bytes": 32 << 20}]),
    (macos.memory_pages, "vm_stat", MEMORY),
    (macos.power, "powermetrics", {"power_w": {"cpu": 0.823, "gpu": 0.027, "ane": 0.0, "total": 0.849}, "thermal_level": 1}),
    (macos.power, "powermetrics-intel", {"thermal_level": 0}),
    (macos.power, "powermetrics-refused", {}),
    (macos.process_shares, "ps", [
        {"pid": 1, "name": "launchd", "cores": 0.0},
        {"pid": 412, "name": "WindowServer", "cores": 0.12},
        {"pid": 655, "name": "Google Chrome Helper (Renderer)", "cores": 1.01},
    ]),
]  # fmt: skip
BROKEN = [
    "",
    "\n\n",
    "zsh: command not found: pmset",
    "Now drawing from ''\n -InternalBattery-0 (no battery)%",
    "CPU_Speed_Limit = fast",
    "CPU_Speed_Limit \t= " + "9" * 5000,
    " lowpowermode\n powermode fast",
    "System-wide memory free percentage: ?%",
    "vm.swapusage: total = 0.00M  used = lots\nkern.memorystatus_vm_pressure_level: \nhw.memsize: "
    + "9" * 99,
    "sysctl: unknown oid 'kern.memorystatus_vm_pressure_level'",
    "com.apple.system.thermalpressurelevel Failed",
    '"Device Utilization %"=, "Device Utilization %"=' + "1" * 5000,
    '+-o X\n "Device Utilization %"=400,"In use system memory"=' + "1" * 5000,
    "Mach Virtual Memory Statistics: (page size of  bytes)\nPages free:   12.",
    "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:   lots.\nPages inactive: "
    + "1" * 99,
    "CPU Power: mW\nGPU Power: " + "1" * 5000 + " mW\nCurrent pressure level: Fine\n",
    "  PID  %CPU COMM\n    x   y   z\n" + "1" * 5000 + " 1 a",
]
PARSERS = list(dict.fromkeys(parser for parser, _, _ in CASES))


def capture(name: str) -> str:
    """The output in a capture, without the line that says where its format comes from."""
    note, _, text = (FOLDER / f"{name}.txt").read_text("utf-8").partition("\n")
    assert note.startswith("# Written after the documented format")
    return text


@pytest.mark.parametrize(("parser", "name", "expected"), CASES)
def test_capture(parser: Callable[[str], Any], name: str, expected: Any) -> None:
    """What a program prints is read as it is meant."""
    assert parser(capture(name)) == expected


def test_every_capture_is_read() -> None:
    """No capture lies there unused."""
    assert {name for _, name, _ in CASES} == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("parser", PARSERS)
def test_broken_output(parser: Callable[[str], Any], text: str) -> None:
    """What a program does not say is left out, and nothing is raised."""
    found = parser(text)
    assert not found or parser is macos.power_source


def test_a_missing_kind_of_pages_leaves_the_sum_out() -> None:
    """Available memory is no sum of what happened to be printed."""
    text = capture("vm_stat").replace("Pages purgeable", "Pages of some kind")
    found = macos.memory_pages(text)
    assert "available_bytes" not in found
    assert found["free_bytes"] == MEMORY["free_bytes"]


@given(st.sampled_from(CASES), st.integers(0, 1500), st.text(max_size=20), st.integers(0, 40))
def test_mutilated_output(
    case: tuple[Callable[[str], Any], str, Any], place: int, inserted: str, left_out: int
) -> None:
    """No parser raises, whatever has become of the output; what it reads can be judged and stored."""
    parser, name, _ = case
    text = capture(name)
    found = parser(text[:place] + inserted + text[place + left_out :])
    json.dumps(found, allow_nan=False)
    if isinstance(found, dict):
        findings.of_state(found, "darwin")
