"""One commit on one machine as a reader compares it: a few numbers per case, and what went with them.

A snapshot is what the site's pages load of a commit, so it is a JSON object that is as small as it can be.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlx_velocity import metrics, quality
from mlx_velocity.store.columns import Columns
from mlx_velocity.store.our_readings import CALL_J
from mlx_velocity.store.rows import Stored

Snapshot = dict[str, Any]
UNKNOWN_REASON = "no reason is stored: stock asv keeps none"
SHOWN_SENSORS = (
    "load_1m", "others_busy_cores", "own_busy_cores", "temperature_c", "cpu_throttles", "swap_growth_bytes",
    "memory_stall_s", "control_s",
)  # fmt: skip
"""What of a launch's surroundings a reader is shown, in this order."""
DIGITS = 7
"""Significant ones that are kept: more than any clock deserves."""


def timed(
    keys: Sequence[tuple[str, str | None, str | None]], benchmarks: Mapping[str, dict[str, Any]]
) -> list[bool]:
    """Whether each of an index's keys is a time, which a busy machine makes worse."""
    return [unit_of(name, benchmarks) == metrics.SECONDS.unit for name, _, _ in keys]


def unit_of(name: str, benchmarks: Mapping[str, dict[str, Any]]) -> str:
    """The unit of a benchmark; of one that is gone, what asv's naming says."""
    if name in benchmarks:
        return str(benchmarks[name].get("unit", metrics.SECONDS.unit))
    return metrics.SECONDS.unit if name.rpartition(".")[2].startswith("time_") else metrics.BYTES.unit


def counted(name: str, benchmarks: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a benchmark's numbers are the same each time, so that every difference counts."""
    noise = benchmarks.get(name, {}).get("noise") or metrics.of_unit(unit_of(name, benchmarks)).noise
    return bool(noise == "counted")


def params_of(written: str) -> tuple[str, ...]:
    """The parameters of an index's key; those of a result that is not ours may be no texts."""
    return tuple(item if isinstance(item, str) else json.dumps(item) for item in json.loads(written))


def of(
    result: tuple[Stored, Columns],
    readings: tuple[Stored, Columns] | None,
    is_time: Sequence[bool],
    numbers: Mapping[Any, int],
) -> Snapshot:
    """A commit's snapshot from its result file and the readings beside it.

    `is_time` and `numbers` are of the index's keys: by number, and from key to number. In the answer:

    - `case` (numbers of keys), `value` (base unit, median of launches), `launches`, `samples`;
    - `mean`, `error`: of the logarithms of the launches' medians and its standard error; null with one launch;
    - `flags` (place in `case` → what quality.flags found wrong), `disturbed` (places), `joules` (place → of a call);
    - `failures`: case (null: the whole environment), outcome, reason, exit code;
    - `environment`: name, backend, Python and packages; null where asv alone measured.
    """
    head, columns = result
    rows = _from_readings(readings[1], is_time) if readings else {}
    for case, value, samples in zip(
        *(columns[name].tolist() for name in ("case", "value", "samples")), strict=True
    ):
        if case not in rows and not math.isnan(value):
            rows[case] = _Row(value, None, None, 1, max(samples, 1))
    ordered = sorted(rows.items())
    made: Snapshot = {
        "commit": head.commit,
        "case": [case for case, _ in ordered],
        "value": [_round(row.value) for _, row in ordered],
        "mean": [_round(row.mean) for _, row in ordered],
        "error": [_round(row.error, 4) for _, row in ordered],
        "launches": [row.launches for _, row in ordered],
        "samples": [row.samples for _, row in ordered],
        "flags": {place: row.flags for place, (_, row) in enumerate(ordered) if row.flags},
        "disturbed": [place for place, (_, row) in enumerate(ordered) if row.disturbed],
        "joules": {
            place: _round(row.joules) for place, (_, row) in enumerate(ordered) if row.joules is not None
        },
        "failures": _failures(columns, readings[0] if readings else None, rows, numbers),
        "environment": readings[0].head["environment"] if readings else None,
    }
    return made


class _Row:
    """What is kept of a case."""

    __slots__ = ("disturbed", "error", "flags", "joules", "launches", "mean", "samples", "value")

    def __init__(
        self, value: float, mean: float | None, error: float | None, launches: int, samples: int
    ) -> None:
        self.value, self.mean, self.error, self.launches, self.samples = value, mean, error, launches, samples
        self.flags: list[str] = []
        self.disturbed = False
        self.joules: float | None = None


def _from_readings(columns: Columns, is_time: Sequence[bool]) -> dict[int, _Row]:
    order = np.argsort(columns["case"], kind="stable")
    if not len(order):
        return {}  # all of it failed
    cases, first = np.unique(columns["case"][order], return_index=True)
    medians, samples = columns["median"][order].tolist(), columns["samples"][order].tolist()
    looks = _looks(columns, order)
    made = {}
    for case, start, end in zip(
        cases.tolist(), first.tolist(), [*first[1:].tolist(), len(order)], strict=True
    ):
        places = range(start, end)
        found = {flag for place in places for flag in quality.flags(looks[place])} if is_time[case] else set()
        found.discard(quality.CLEAN)
        # As changes.fit has it: the undisturbed launches where there are two, else all.
        quiet = [place for place in places if not quality.in_queue(looks[place])] if found else places
        used = quiet if len(quiet) > 1 else places
        values = [medians[place] for place in used]
        row = made[case] = _Row(
            statistics.median(values), *_logs(values), len(values), sum(samples[place] for place in used)
        )
        row.disturbed = used is places and len(quiet) < len(places)
        row.flags = sorted(found)
        if CALL_J in columns:
            joules = [looks[place][CALL_J] for place in used if CALL_J in looks[place]]
            row.joules = statistics.median(joules) if joules else None
    return made


def _logs(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard error of the logarithms; nothing of one launch, or of what is not above zero."""
    size = len(values)
    if size < 2 or min(values) <= 0:
        return None, None
    logs = [math.log(value) for value in values]
    mean = sum(logs) / size
    # statistics.variance is exact, and fifty times as slow.
    return mean, math.sqrt(sum((log - mean) ** 2 for log in logs) / (size - 1) / size)


def _looks(columns: Columns, order: Any) -> list[dict[str, float]]:
    """The sensors of each row in this order, without what is not there."""
    names = [name for name in columns if name not in ("case", "launch", "median", "samples")]
    if not names:
        return [{}] * len(order)
    whole = not any(np.isnan(columns[name]).any() for name in names)
    rows = zip(*(columns[name][order].tolist() for name in names), strict=True)
    if whole:
        return [dict(zip(names, row, strict=True)) for row in rows]
    return [{name: value for name, value in zip(names, row, strict=True) if value == value} for row in rows]


def _failures(
    columns: Columns,
    readings: Stored | None,
    rows: Mapping[int, _Row],
    numbers: Mapping[Any, int],
) -> list[list[Any]]:
    found: dict[int | None, list[Any]] = {}
    for item in readings.head["failures"] if readings else []:
        case = None
        if item["benchmark"] is not None:
            case = numbers.get((item["benchmark"], item["version"], json.dumps(item["params"] or [])), -1)
        if case not in rows:
            found[case] = [case, str(item["outcome"]), str(item["reason"]), item["exit_code"]]
    missing = columns["case"][np.isnan(columns["value"])].tolist()
    if None not in found:
        for case in missing:
            if case not in rows:
                found.setdefault(case, [case, "failed", UNKNOWN_REASON, None])
    return [item for case, item in found.items() if case != -1]


def around(readings: Stored, columns: Columns) -> tuple[list[str], list[list[float | None]]]:
    """The sensors that were there, and the median of each in each launch, in the order of `order`."""
    sensors = [name for name in SHOWN_SENSORS if name in columns]
    rows = []
    for number in range(len(readings.head["order"])):
        inside = columns["launch"] == number
        rows.append([_middle(columns[name][inside]) for name in sensors])
    return sensors, rows


def _middle(values: Any) -> float | None:
    there = values[~np.isnan(values)]
    return _round(float(np.median(there)), 4) if len(there) else None


def _round(value: float | None, digits: int = DIGITS) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    shown = float(f"{value:.{digits}g}")
    return int(shown) if shown.is_integer() and abs(shown) < 1e15 else shown
