"""The launches of many cases at one commit, as the index keeps them in columns: what changes.py says, for all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import quality, results
from mlx_velocity.records import CONTROL
from mlx_velocity.store.rows import Stored

Array = NDArray[Any]
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Condensed:
    """One row per case, as stored_series.point_of has it of a single one."""

    case: Array
    value: Array
    """Median of launch medians."""
    error: Array
    """Standard error of its logarithm; not a number with one launch."""
    launches: Array
    samples: Array
    control: Array
    disturbed: Array
    least: Array
    """The smallest median of a launch."""
    last: Array
    """The largest."""


def condensed(columns: Columns, timed: Array) -> Condensed:
    """The cases of a readings file. `timed` says of each case whether it is a time, which a busy machine disturbs."""
    case, median, samples = (columns[name] for name in ("case", "median", "samples"))
    late = _in_queue(columns) & timed[case]
    # As changes.fit has it: the undisturbed launches where there are two, else all.
    quiet = np.bincount(case[~late], minlength=len(timed))
    used = ~late | (quiet[case] < 2)
    order = np.lexsort((median, case))
    order = order[used[order]]
    case, median, samples, late = case[order], median[order], samples[order], late[order]
    unique, first, count = np.unique(case, return_index=True, return_counts=True)
    if not len(unique):
        nothing = np.zeros(0)
        return Condensed(unique, nothing, nothing, nothing, nothing, nothing, nothing > 0, nothing, nothing)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(median)
        mean = np.add.reduceat(logs, first) / count
        square = np.add.reduceat((logs - np.repeat(mean, count)) ** 2, first)
        error = np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)) / np.sqrt(count), np.nan)
    value = (median[first + (count - 1) // 2] + median[first + count // 2]) / 2
    disturbed = np.add.reduceat(late.astype(np.int64), first) > 0
    taken = np.add.reduceat(samples, first)
    control = _control(columns, order, case, unique)
    last = median[first + count - 1]
    return Condensed(unique, value, error, count, taken, control, disturbed, median[first], last)


def _in_queue(columns: Columns) -> Array:
    """quality.in_queue of every row."""
    nothing = np.full(len(columns["case"]), np.nan)
    own, others = columns.get("own_busy_cores", nothing), columns.get("others_busy_cores", nothing)
    allowed = np.nan_to_num(columns.get("allowed_cores", nothing), nan=1)
    on_core = columns.get("others_on_core", nothing)
    busy = np.where(np.isnan(on_core), others > quality.BUSY_CORES, on_core > quality.BUSY_ON_CORE)
    late: Array = (allowed == 1) & (own < quality.FIT_CORES) & ~np.isnan(others) & busy
    return late


def _control(columns: Columns, order: Array, case: Array, unique: Array) -> Array:
    found = np.full(len(unique), np.nan)
    if CONTROL in columns:
        control = columns[CONTROL][order].astype(np.float64)
        for number, each in enumerate(unique):
            own = control[(case == each) & np.isfinite(control)]
            found[number] = np.median(own) if len(own) else np.nan
    return found


def pinned(reading: Stored, case: Array, launch: Array) -> dict[int, str]:
    """On how many cores the launches of each case ran."""
    affinity = {item["launch"]: len(item["affinity"]) for item in reading.head["launches"]}
    counts = [
        "measured by stock asv" if name == results.BY_ASV else str(affinity.get(name) or "free")
        for name in reading.head["order"]
    ]
    if len(set(counts)) == 1:
        return dict.fromkeys(np.unique(case).tolist(), counts[0])
    found: dict[int, set[str]] = {}
    for number, at in zip(case.tolist(), launch.tolist(), strict=True):
        found.setdefault(number, set()).add(counts[at])
    return {number: " and ".join(sorted(names)) for number, names in found.items()}
