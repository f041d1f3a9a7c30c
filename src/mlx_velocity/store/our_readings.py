"""Our readings files as columns: per case and launch its median and what the sensors saw."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlx_velocity import readings, records
from mlx_velocity.store.columns import Columns, Keys, encodable, number

CALL_J = "call_j"
"""Joules of one sample, where they were counted beside the samples alone."""
SENSORS = (
    "allowed_cores", "own_busy_cores", "others_busy_cores", "others_on_core", "elapsed_s", "memory_stall_s",
    "swap_growth_bytes", "cpu_throttles", "temperature_c", "load_1m", "energy_j", records.CONTROL, CALL_J,
)  # fmt: skip
"""What quality.py and the pages ask of the sensors beside a measurement."""
BROKEN_LINE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def read(data: bytes, keys: Keys) -> tuple[dict[str, Any], Columns]:
    """Head (environment, launches, order, failures, set_aside, bad_lines) and columns of a readings file.

    Raises NewerFormat where a later mlx-velocity wrote it; lines that can't be read are counted.
    """
    head: dict[str, Any] = {
        "environment": None,
        "launches": [],
        "failures": [],
        "set_aside": [],
        "bad_lines": 0,
    }
    launches: dict[str, int] = {}
    rows: list[tuple[int, int, float, int]] = []
    sensors: list[list[float]] = []
    # A last line without an end is being written.
    for line in data.split(b"\n")[:-1]:
        if not line.strip():
            continue
        try:
            kind, held = _line(line)
            if kind == "measurement":
                case = (
                    encodable(held["benchmark"]),
                    encodable(held["version"]),
                    json.dumps(held["params"]),
                )
                launch = launches.setdefault(held["launch"], len(launches))
                samples = held["samples"]
                middle = statistics.median(samples)
                if not math.isfinite(middle):
                    raise ValueError("a sample is no number")
                seen = dict(held.get("sensors") or {})
                joules = number((held.get("notes") or {}).get("sampled_energy_j"))
                seen[CALL_J] = joules / len(samples)
                rows.append((keys.setdefault(case, len(keys)), launch, middle, len(samples)))
                sensors.append([number(seen.get(name)) for name in SENSORS])
            elif kind == "launch":
                launches.setdefault(held["launch"], len(launches))
                head["launches"].append(
                    {key: held[key] for key in ("launch", "started", "affinity", "modules", "startup_s")}
                )
            elif kind == "failure":
                head["failures"].append({key: held[key] for key in _FAILURE})
            elif kind == "environment":
                head["environment"] = {key: held[key] for key in ("name", "backend", "python", "packages")}
            else:
                head["set_aside"].append({"file": held["file"], "reason": held["reason"]})
        except readings.NewerFormat:
            raise
        except BROKEN_LINE:
            head["bad_lines"] += 1
    table = np.array(sensors, np.float32).reshape(len(rows), len(SENSORS))
    columns: Columns = {
        "case": np.array([row[0] for row in rows], np.int32),
        "launch": np.array([row[1] for row in rows], np.int32),
        "median": np.array([row[2] for row in rows], np.float64),
        "samples": np.array([row[3] for row in rows], np.int32),
        # What no measurement of the file has is not kept.
        **{key: table[:, i] for i, key in enumerate(SENSORS) if not np.isnan(table[:, i]).all()},
    }
    return {**head, "order": list(launches)}, columns


def measured(data: bytes) -> Iterator[dict[str, Any]]:
    """The measurements of a readings file as they are stored; lines that can't be read are passed over."""
    for line in data.split(b"\n")[:-1]:
        try:
            kind, held = _line(line)
            if kind == "measurement":
                yield held
        except BROKEN_LINE:
            continue


_FAILURE = ("outcome", "reason", "benchmark", "version", "params", "exit_code", "started")


def _line(line: bytes) -> tuple[str, dict[str, Any]]:
    """A line whose used fields are of the right kind. `validate` checks against the schema, at ten times the cost."""
    held = json.loads(line)
    if not isinstance(held, dict):
        raise ValueError("not an object")
    if held.get("format") != records.FORMAT:
        if isinstance(held.get("format"), int) and held["format"] > records.FORMAT:
            raise readings.NewerFormat(
                f"format {held['format']} is newer than {records.FORMAT}: upgrade mlx-velocity"
            )
        raise ValueError("no format")
    kind = held["kind"]
    if kind == "measurement":
        texts = (held["launch"], held["benchmark"], held["version"], *held["params"])
        fine = all(isinstance(text, str) for text in texts) and isinstance(held["params"], list)
        if not fine or not isinstance(held["samples"], list) or not isinstance(held.get("sensors", {}), dict):
            raise TypeError("a measurement of another kind")
    elif kind not in records.KINDS:
        raise ValueError("unknown kind")
    return kind, held
