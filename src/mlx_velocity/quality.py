"""Whether the machine disturbed a measurement, judged by the probe's sensors and control beside it.

Where a look lacks something, nothing is said about it. What is looked at before measuring stands in findings.py.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_velocity import units

Look = dict[str, Any]

FIT_CORES = 0.9
"""A CPU series computes on one core without waiting: with less of it, it stood in a queue."""
BUSY_CORES = 0.5
"""What others must compute meanwhile, so that a benchmark that sleeps is not taken for a disturbed one."""
BUSY_ON_CORE = 0.15
"""What others must compute on the very core that a process may use; ticks of 10 ms hide less."""
OF_A_TURN = ("own_busy_cores", "others_busy_cores", "others_on_core")
BUSY_SHARE = 0.6
"""With most of the cores busy, clocks, caches and memory are no longer ours; one of two is not most."""
SWAP_GROWTH_BYTES = 64 << 20
"""A few pages always move; this much means that something measured had to make room."""
STALLED_SHARE, STALLED_UNFIT = 0.01, 0.1
"""Time in which somebody waited for memory: none of it on a machine with enough."""
HOT_C = 95.0
"""Within some degrees of where processors begin to throttle."""
CONTROL_SLOWER = 1.15
"""Several times what the control varied on a quiet core (3 % between the ends of a few readings)."""
CONTROL_LEAST = 3
"""Readings of the control before one of them is called unusual: of two, either may be the odd one."""
DRIFT = 0.03
"""Pairs cancel slow drift, but more than a threshold's worth of it should be known."""
CLEAN = "clean"


def flags(sensors: Look) -> list[str]:
    """What a look around a case says about its numbers: `clean`, or how the machine degraded them.

    `sensors` are those of probe.sensors.between, as readings store them. Nothing for a look that holds nothing,
    as of a result of stock asv: what is not known is not clean. Derived each time, never stored.
    """
    if not sensors:
        return []
    cores, others = sensors.get("allowed_cores", 1), sensors.get("others_busy_cores", 0.0)
    elapsed, stalled = sensors.get("elapsed_s", 0.0), sensors.get("memory_stall_s", 0.0)
    wrong = {
        "degraded_swap": sensors.get("swap_growth_bytes", 0) > SWAP_GROWTH_BYTES,
        "degraded_pressure": elapsed > 0 and stalled > STALLED_SHARE * elapsed,
        "degraded_thermal": sensors.get("cpu_throttles", 0) > 0
        or sensors.get("temperature_c", 0.0) > HOT_C
        or hot_gpu(sensors),
        # A power limit is part of a card; a brake that somebody else pulls, or a fault, is not.
        "degraded_clocks": "hardware" in sensors.get("gpu_slowed", "") and not hot_gpu(sensors),
        # One core is waited for; of several, or beside a GPU, most must be taken before it shows.
        "degraded_load": in_queue(sensors) or (cores > 1 and others > BUSY_SHARE * cores),
    }
    return [name for name, holds in wrong.items() if holds] or [CLEAN]


def hot_gpu(sensors: Look) -> bool:
    """Whether heat held an NVIDIA GPU's clocks down, for more than a moment of a case or at its end."""
    throttled, elapsed = sensors.get("gpu_thermal_throttle_s", 0.0), sensors.get("elapsed_s", 0.0)
    return "heat" in sensors.get("gpu_slowed", "") or (elapsed > 0 and throttled > STALLED_SHARE * elapsed)


def in_queue(sensors: Look) -> bool:
    """Whether a process that may use one core got less than that while others computed."""
    own, others = sensors.get("own_busy_cores"), sensors.get("others_busy_cores")
    if own is None or others is None or sensors.get("allowed_cores", 1) != 1:
        # With several cores, or a GPU to wait for, less than a core's worth of time is no queue.
        return False
    if float(own) >= FIT_CORES:
        return False
    # Of many cores some are always busy; what counts is the one that was waited for, where the system tells.
    if "others_on_core" in sensors:
        return float(sensors["others_on_core"]) > BUSY_ON_CORE
    return float(others) > BUSY_CORES


def worst(looks: Sequence[Look]) -> Look:
    """The looks around the turns of one pair as one: growth added up, states at their worst.

    The time that was had is that of a turn which a quarter of them did worse than: a pair bears a few slow turns.
    """
    if not looks:
        return {}
    merged: Look = {}
    for key in dict.fromkeys(key for look in looks for key in look):
        values = [look[key] for look in looks if key in look]
        if key.endswith(("_growth_bytes", "_stall_s", "_throttles", "_throttle_s", "elapsed_s", "energy_j")):
            merged[key] = sum(values)
        else:
            merged[key] = (
                min(values)
                if key in ("available_bytes", "allowed_cores") or key.endswith("_mhz")
                else max(values)
            )
    # Own and others' time belong together: of one turn, not the least of one and the most of another.
    waiting = sorted(looks, key=lambda look: (not in_queue(look), look.get("own_busy_cores", 1.0)))
    turn = waiting[len(waiting) // 4]
    return {**merged, **{key: turn[key] for key in OF_A_TURN if key in turn}}


def usual(controls: Iterable[dict[str, float]]) -> dict[str, float]:
    """The control's median times in seconds so far; empty before there are enough of them."""
    readings = list(controls)
    if len(readings) < CONTROL_LEAST:
        return {}
    return {key: statistics.median(item[key] for item in readings) for key in _common(readings)}


def of_pair(sensors: Look, control: dict[str, float], usual_control: dict[str, float]) -> str:
    """Why one pair of launches must not be used, or nothing; the same words for the same reason.

    `sensors` are those of `worst`, `usual_control` is that of `usual`.
    """
    if in_queue(sensors):
        return "another program computed on the same core"
    if sensors.get("swap_growth_bytes", 0) > SWAP_GROWTH_BYTES:
        return "memory was moved to swap"
    for key, seconds in control.items():
        if seconds > CONTROL_SLOWER * usual_control.get(key, float("inf")):
            return (
                f"the fixed probe's {key} was more than {(CONTROL_SLOWER - 1) * 100:.0f} % slower than usual"
            )
    return ""


def of_comparison(sensors_list: Sequence[Look], controls: Sequence[dict[str, float]]) -> list[str]:
    """Sentences about the machine during a whole comparison; none where nothing was wrong.

    `controls` may repeat a reading that served several pairs. It counts once.
    """
    readings = [
        item for before, item in zip([None, *controls], controls, strict=False) if item and item != before
    ]
    said = []
    reasons = Counter(filter(None, (of_pair(look, {}, {}) for look in sensors_list)))
    for reason, count in reasons.items():
        said.append(f"{_sentence(reason)} during {count} of {len(sensors_list)} measurements.")
    unusual = Counter(filter(None, (of_pair({}, item, usual(readings)) for item in readings)))
    for reason, count in unusual.items():
        said.append(f"{_sentence(reason)} in {count} of {len(readings)} readings.")
    for key, ratio in drift(readings).items():
        if abs(ratio - 1) > DRIFT:
            how = "slower" if ratio > 1 else "faster"
            said.append(
                f"The machine became {how}: the fixed probe's {key} changed by {units.percent_change(ratio)} "
                "from the first third to the last."
            )
    if throttles := sum(look.get("cpu_throttles", 0) for look in sensors_list):
        said.append(f"The processor was throttled {throttles:,.0f} times because it was hot.")
    if hot := sum(map(hot_gpu, sensors_list)):
        said.append(
            f"The GPU was slowed because it was hot during {hot} of {len(sensors_list)} measurements."
        )
    return said


def drift(readings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Last third over first third of each time, by medians; empty for fewer than six readings."""
    third = len(readings) // 3
    if third < 2:
        return {}
    return {
        key: statistics.median(item[key] for item in readings[-third:])
        / statistics.median(item[key] for item in readings[:third])
        for key in _common(readings)
    }


def _common(readings: Sequence[dict[str, float]]) -> list[str]:
    return [key for key in readings[0] if all(key in item for item in readings)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
