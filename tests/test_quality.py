"""What is made of looks at the machine: findings before measuring, reasons beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity import findings, quality
from mlx_velocity.findings import Finding

QUIET = {
    "cores": 8, "load_1m": 0.3, "others_busy_cores": 0.1, "busiest": [], "stolen_cores": 0.0,
    "memory_total_bytes": 16 << 30, "memory_available_bytes": 12 << 30, "swap_used_bytes": 0,
    "swap_growth_bytes": 0, "memory_stall_share": 0.0, "memory_pressure_level": 1, "memory_free_percent": 70,
    "on_battery": False, "battery_percent": 100, "low_power_mode": False, "cpu_mhz": 3000.0,
    "cpu_max_mhz": 3500.0, "governors": ["performance"], "cpu_speed_limit_percent": 100, "thermal_level": 0,
    "temperature_c": 50.0, "cpu_throttles": 0, "gpu_processes": [], "gpu_busy_share": 0.02,
}  # fmt: skip
FIREFOX = {"pid": 4242, "name": "firefox", "cores": 1.5}
STEADY = {"median_s": 0.02, "spread": 1.01, "drift": 1.0, "cpu_share": 1.0}


def test_quiet_machine() -> None:
    """Nothing is said of a quiet machine, nor of one that shows nothing."""
    for platform in ("linux", "darwin"):
        assert findings.of_state(QUIET, platform) == []
        assert findings.of_state({}, platform) == []
    assert findings.of_clock(STEADY) == []
    assert findings.fitness([]) == "fit"


TROUBLES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"others_busy_cores": 1.5, "busiest": [FIREFOX]}, "others-busy", "warning", "firefox"),
    ({"others_busy_cores": 1.5}, "others-busy", "warning", "1.5 of 8 cores"),
    ({"others_busy_cores": 7.0, "busiest": [FIREFOX]}, "others-busy", "unfit", "7.0 of 8 cores"),
    ({"load_1m": 9.0}, "load", "warning", "9.0 on 8 cores"),
    ({"stolen_cores": 0.1}, "stolen", "warning", "0.10"),
    ({"stolen_cores": 0.5}, "stolen", "unfit", "0.50"),
    ({"cpu_throttles": 3}, "throttled", "unfit", "hot"),
    ({"cpu_speed_limit_percent": 95}, "throttled", "warning", "to 95 %"),
    ({"cpu_speed_limit_percent": 60}, "throttled", "unfit", "to 60 %"),
    ({"thermal_level": 1}, "throttled", "warning", "hot"),
    ({"thermal_level": 2}, "throttled", "unfit", "hot"),
    ({"thermal_warning_level": 1}, "throttled", "warning", "hot"),
    ({"temperature_c": 97.0}, "hot", "warning", "97 °C"),
    ({"governors": ["performance", "powersave"]}, "governor", "warning", "powersave"),
    ({"cpu_mhz": 1200.0}, "slow-clock", "warning", "1,200 of 3,500 MHz"),
    ({"swap_growth_bytes": 5 << 20}, "swapping", "unfit", "5 MiB"),
    ({"swap_used_bytes": 3 << 30}, "swap", "warning", "3 GiB"),
    ({"memory_stall_share": 0.05}, "memory-pressure", "warning", "short of memory"),
    ({"memory_stall_share": 0.5}, "memory-pressure", "unfit", "short of memory"),
    ({"memory_pressure_level": 2}, "memory-pressure", "warning", "short of memory"),
    ({"memory_pressure_level": 4}, "memory-pressure", "unfit", "short of memory"),
    ({"memory_available_bytes": 1 << 30}, "little-memory", "warning", "1 GiB"),
    ({"memory_free_percent": 6}, "little-memory", "warning", "6 %"),
    ({"low_power_mode": True}, "low-power-mode", "unfit", "saves power"),
    ({"on_battery": True}, "battery", "warning", "100 %"),
    ({"gpu_processes": [{"pid": 7, "name": "python3"}]}, "gpu-shared", "warning", "1 other program"),
    ({"gpu_busy_share": 0.3}, "gpu-busy", "warning", "30 %"),
    ({"gpu_busy_share": 0.8}, "gpu-busy", "unfit", "80 %"),
    ({"cpu_quota_cores": 1.5}, "quota", "warning", "1.5 of 8"),
    ({"virtual": "QEMU"}, "virtual", "note", "QEMU"),
]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize(("trouble", "code", "severity", "words"), TROUBLES)
def test_trouble(
    trouble: dict[str, Any], code: str, severity: str, words: str, platform: findings.Platform
) -> None:
    """Each trouble is one finding with its gravity, its number or name, and an advice in one line."""
    (found,) = findings.of_state({**QUIET, **trouble}, platform)
    assert (found.code, found.severity) == (code, severity)
    assert words in found.text
    assert found.advice
    assert "\n" not in found.text + found.advice


def test_advice_suits_the_system() -> None:
    """A Mac and a Linux machine get the commands that they have."""
    state = {
        **QUIET,
        "others_busy_cores": 2.0,
        "busiest": [FIREFOX],
        "low_power_mode": True,
        "on_battery": True,
    }
    linux, mac = (
        " ".join(item.advice for item in findings.of_state(state, name)) for name in ("linux", "darwin")
    )
    assert "taskset -acp 0 4242" in linux
    assert "pmset" not in linux
    assert "caffeinate" not in linux
    assert "pmset" not in linux
    assert "caffeinate" not in linux
    assert "sudo pmset -a lowpowermode 0" in mac
    assert "caffeinate" in mac
    assert "taskset" not in mac


@pytest.mark.parametrize(
    ("clock", "codes"),
    [
        ({"spread": 1.06}, [("unsteady", "warning")]),
        ({"spread": 1.5}, [("unsteady", "unfit")]),
        ({"drift": 1.04}, [("drifting", "warning")]),
        ({"drift": 0.96}, [("drifting", "warning")]),
        ({"drift": 1.2}, [("drifting", "unfit")]),
        ({"cpu_share": 0.8}, [("core-shared", "warning")]),
        ({"cpu_share": 0.5}, [("core-shared", "unfit")]),
    ],
)
def test_clock(clock: dict[str, float], codes: list[tuple[str, str]]) -> None:
    """A loop that takes longer at times, that drifts, or that shares its core is a finding."""
    assert [(item.code, item.severity) for item in findings.of_clock({**STEADY, **clock})] == codes


def test_fitness() -> None:
    """The gravest finding decides, and stands first; a note does not count."""
    note, warning, unfit = (Finding(name, name, "text", "advice") for name in ("note", "warning", "unfit"))  # type: ignore[arg-type]
    assert findings.fitness([note]) == "fit"
    assert findings.fitness([note, warning]) == "fit with care"
    assert findings.fitness([warning, unfit]) == "not fit"
    assert findings.gravest_first([note, warning, unfit]) == [unfit, warning, note]


# Beside a measurement

CONTROL = {"copy": 0.030, "product": 0.015}
QUEUE = {"own_busy_cores": 0.5, "others_busy_cores": 0.9, "allowed_cores": 1}


def test_undisturbed_pair() -> None:
    """A pair on a quiet machine is used; so is one of which nothing is known."""
    look = {"own_busy_cores": 1.0, "others_busy_cores": 0.9, "swap_growth_bytes": 0}
    assert quality.of_pair(look, {"copy": 0.033, "product": 0.016}, CONTROL) == ""
    assert quality.of_pair({}, {}, {}) == ""
    assert quality.of_pair({}, CONTROL, {}) == ""


@pytest.mark.parametrize(
    ("look", "control", "words"),
    [
        (QUEUE, CONTROL, "same core"),
        ({"own_busy_cores": 0.5, "others_busy_cores": 0.9}, CONTROL, "same core"),
        ({"swap_growth_bytes": 65 << 20}, CONTROL, "swap"),
        ({}, {**CONTROL, "copy": 0.036}, "copy"),
        ({}, {**CONTROL, "product": 0.018}, "product"),
    ],
)
def test_disturbed_pair(look: dict[str, Any], control: dict[str, float], words: str) -> None:
    """A pair that stood in a queue, that was swapped or that ran on a slowed machine is named as such."""
    assert words in quality.of_pair(look, control, CONTROL)


def test_a_process_with_many_cores_stands_in_no_queue() -> None:
    """Waiting for a GPU or sleeping beside busy programs is no queue for a core."""
    assert quality.of_pair({**QUEUE, "allowed_cores": 8}, CONTROL, CONTROL) == ""
    assert quality.of_pair({**QUEUE, "others_busy_cores": 0.2}, CONTROL, CONTROL) == ""


def test_a_process_with_its_core_to_itself_stands_in_no_queue() -> None:
    """What others compute on other cores of a large machine makes no queue; on the same core it does, however little."""
    waits = {**QUEUE, "own_busy_cores": 0.85, "others_busy_cores": 13.0}
    assert quality.of_pair({**waits, "others_on_core": 0.05}, CONTROL, CONTROL) == ""
    assert "same core" in quality.of_pair({**waits, "others_on_core": 0.3}, CONTROL, CONTROL)
    assert "same core" in quality.of_pair(
        {**waits, "others_busy_cores": 0.3, "others_on_core": 0.3}, CONTROL, CONTROL
    )
    assert quality.worst([{**waits, "others_on_core": 0.3}])["others_on_core"] == 0.3


def test_worst_of_several_turns() -> None:
    """Growth adds up, states count at their worst, and the cores are those of the turn that waited."""
    looks = [
        {**QUEUE, "own_busy_cores": 0.7, "others_busy_cores": 0.1, "available_bytes": 5, "swap_growth_bytes": 40 << 20,
         "memory_stall_s": 0.5, "cpu_throttles": 1, "load_1m": 1.0},
        {**QUEUE, "own_busy_cores": 0.8, "others_busy_cores": 0.9, "available_bytes": 9, "swap_growth_bytes": 30 << 20,
         "memory_stall_s": 0.25, "cpu_throttles": 2, "load_1m": 2.0, "temperature_c": 70.0},
    ]  # fmt: skip
    assert quality.worst(looks) == {
        "own_busy_cores": 0.8, "others_busy_cores": 0.9, "allowed_cores": 1, "available_bytes": 5,
        "swap_growth_bytes": 70 << 20, "memory_stall_s": 0.75, "cpu_throttles": 3, "load_1m": 2.0,
        "temperature_c": 70.0,
    }  # fmt: skip
    assert quality.worst([]) == {}
    # One turn that waited for something else, and one beside busy programs: neither stood in a queue.
    apart = [{**QUEUE, "others_busy_cores": 0.1}, {**QUEUE, "own_busy_cores": 1.0}]
    assert not quality.in_queue(quality.worst(apart))


def test_usual() -> None:
    """The usual reading is the median, and there is none before three of them."""
    slow = {"copy": 9.0, "product": 9.0}
    assert quality.usual([CONTROL, slow]) == {}
    assert quality.usual([CONTROL, slow, CONTROL]) == CONTROL
    assert quality.usual([CONTROL, {"copy": 0.030}, CONTROL]) == {"copy": 0.030}


def test_quiet_comparison() -> None:
    """Nothing is said of a comparison on a quiet machine, nor of one without a look."""
    assert quality.of_comparison([{"own_busy_cores": 1.0}] * 9, [CONTROL] * 9) == []
    assert quality.of_comparison([], []) == []


def test_disturbed_comparison() -> None:
    """Each kind of trouble is one sentence with its share; a control that served several pairs counts once."""
    slow = {"copy": 0.040, "product": 0.015}
    controls = [dict(CONTROL, product=0.015 + number * 1e-6) for number in range(8)]
    said = quality.of_comparison(
        [QUEUE, {"swap_growth_bytes": 1 << 30}, {"cpu_throttles": 4}, {}],
        [*controls[:4], slow, slow, *controls[4:]],
    )
    assert said == [
        "Another program computed on the same core during 1 of 4 measurements.",
        "Memory was moved to swap during 1 of 4 measurements.",
        "The fixed probe's copy was more than 15 % slower than usual in 1 of 9 readings.",
        "The processor was throttled 4 times because it was hot.",
    ]


def test_drift() -> None:
    """A machine that becomes slower or faster is said to; the medians of thirds are compared."""
    rising = [{"copy": 0.030 * (1 + number / 100), "product": 0.015} for number in range(12)]
    (said,) = quality.of_comparison([], rising)
    assert said.startswith("The machine became slower: the fixed probe's copy changed by +7.9 %")
    (said,) = quality.of_comparison([], rising[::-1])
    assert "faster" in said
    assert quality.drift(rising[:5]) == {}


READING = st.fixed_dictionaries({}, optional={name: st.floats(1e-6, 1e3) for name in ("copy", "product")})
NUMBER = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False))
LOOK = st.dictionaries(st.sampled_from([*QUEUE, "swap_growth_bytes", "cpu_throttles", "cpu_mhz"]), NUMBER)


@given(st.lists(LOOK, max_size=12), st.lists(READING, max_size=12))
def test_any_looks(looks: list[dict[str, Any]], controls: list[dict[str, float]]) -> None:
    """Whatever sensors a machine has or lacks, an answer comes."""
    assert all(sentence.endswith(".") for sentence in quality.of_comparison(looks, controls))
    assert isinstance(
        quality.of_pair(quality.worst(looks), *controls[:1] or [{}], quality.usual(controls)), str
    )


FLAGS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"load_1m": 9.0, "available_bytes": 1 << 30, "swap_growth_bytes": 0}, ["clean"]),
    ({"swap_growth_bytes": 65 << 20}, ["degraded_swap"]),
    ({"swap_growth_bytes": 64 << 20}, ["clean"]),
    ({"memory_stall_s": 0.05, "elapsed_s": 2.0}, ["degraded_pressure"]),
    ({"memory_stall_s": 0.01, "elapsed_s": 2.0}, ["clean"]),
    ({"memory_stall_s": 5.0}, ["clean"]),
    ({"cpu_throttles": 1}, ["degraded_thermal"]),
    ({"temperature_c": 96.0}, ["degraded_thermal"]),
    ({"own_busy_cores": 0.5, "others_busy_cores": 1.0, "allowed_cores": 1}, ["degraded_load"]),
    ({"own_busy_cores": 0.5, "others_busy_cores": 1.0, "allowed_cores": 8}, ["clean"]),
    ({"own_busy_cores": 0.5, "others_busy_cores": 6.0, "allowed_cores": 8}, ["degraded_load"]),
    (
        {"swap_growth_bytes": 1 << 30, "temperature_c": 99.0, "memory_stall_s": 1.0, "elapsed_s": 1.0},
        ["degraded_swap", "degraded_pressure", "degraded_thermal"],
    ),
]


@pytest.mark.parametrize(("sensors", "flags"), FLAGS)
def test_flags(sensors: dict[str, Any], flags: list[str]) -> None:
    """A look says that the machine was clean, or how it degraded the numbers; what is not known is not called clean."""
    assert quality.flags(sensors) == flags
