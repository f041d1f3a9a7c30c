"""asv's result files as columns: per benchmark when it ran, per case its value and interval."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import orjson
from asv.results import Results
from numpy.typing import NDArray

from mlx_velocity import parameters
from mlx_velocity.history import LATEST_S
from mlx_velocity.store.columns import Columns, Keys, encodable

Known = dict[str, tuple[Any, Any, int, list[int]]]
"""Of each benchmark in a batch what was found last: version, parameters, and the numbers of their keys."""
LARGEST = 1e100
ASV_COLUMNS = [
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
    "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
]  # fmt: skip


def read(data: bytes, keys: Keys, known: Known) -> tuple[dict[str, Any], Columns]:
    """Head (commit, environment, params, env_vars, python, requirements, date_ms) and columns of a result file.

    Raises ValueError, KeyError and the like, as asv does, where the file is not what asv reads.
    """
    held = _parsed(data)
    if not isinstance(held, dict):
        raise ValueError("it holds no result")
    if held.get("version") != Results.api_version:
        raise ValueError(f"format {held.get('version')!r} is not asv's {Results.api_version}")
    head: dict[str, Any] = {
        "commit": encodable(_text(held, "commit_hash")),
        "environment": encodable(str(held["env_name"])),
        "params": {str(key): value for key, value in held["params"].items()},
        "env_vars": {str(key): value for key, value in held.get("env_vars", {}).items()},
        "python": held["python"],
        "requirements": held["requirements"],
        "date_ms": _date(held["date"]),
    }
    names = held["result_columns"]
    rows = _Rows(keys, known)
    for name, row in held["results"].items():
        if names[: len(row)] != ASV_COLUMNS[: len(row)]:
            row = _ordered(name, dict(zip(names, row, strict=False)))
        rows.add(name, row + [None] * (len(ASV_COLUMNS) - len(row)))
    columns = rows.columns()
    if rows.strange:
        head["strange"] = rows.strange
    return head, columns


def _parsed(data: bytes) -> Any:
    """The JSON of a file. asv writes not-a-number for what was not measured, which only the slower parser reads."""
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data.decode("utf-8"))


def _ordered(name: str, row: dict[str, Any]) -> list[Any]:
    """A row that has its columns in another order."""
    if unknown := row.keys() - set(ASV_COLUMNS):
        raise ValueError(f"{name} has a column that asv does not know: {min(unknown)}")
    return [row.get(key) for key in ASV_COLUMNS]


class _Rows:
    """The rows of one result file, as they become columns."""

    def __init__(self, keys: Keys, known: Known) -> None:
        self.keys, self.known = keys, known
        self.entries: list[int] = []
        self.cases: list[int] = []
        self.held: dict[str, list[Any]] = {name: [] for name in ("started", "value", "low", "high", "repeat")}
        self.numbers = [self.held[name] for name in ("value", "low", "high", "repeat")]
        self.strange = 0

    def add(self, name: str, row: list[Any]) -> None:
        """Add a row in asv's order of columns, padded."""
        result, params, version, started, _, low, high, _, _, _, repeat, _, _ = row
        entry, cases = self._numbers(name, version, params)
        self.entries.append(entry)
        self.held["started"].append(started)
        count = len(cases)
        if result is None:
            result = [None] * count
        elif len(result) != count:
            cases, count = cases[: len(result)], min(count, len(result))
        self.cases += cases
        for held, column in zip(self.numbers, (result, low, high, repeat), strict=True):
            if not isinstance(column, list):
                held += [None] * count
            elif len(column) == count:
                held += column
            else:
                held += (column + [None] * count)[:count]

    def _numbers(self, name: str, version: Any, params: Any) -> tuple[int, list[int]]:
        """The numbers of a benchmark and its parameter sets, which are those of the file before in most cases."""
        known = self.known.get(name)
        if known is not None and known[0] == version and known[1] == params:
            return known[2], known[3]
        if not (version is None or isinstance(version, str)):
            raise TypeError(f"{name} has no version that can be read")
        parameters.check(name, params)
        keys, shown, of = self.keys, encodable(name), version and encodable(version)
        entry = keys.setdefault((shown, of, None), len(keys))
        cases = [
            keys.setdefault((shown, of, json.dumps(case)), len(keys)) for case in itertools.product(*params)
        ]
        self.known[name] = (version, params, entry, cases)
        return entry, cases

    def columns(self) -> Columns:
        values, fine = _floats(self.held["value"])
        # A number that no benchmark could give: asv's own step detection never ends with it.
        beyond = np.abs(values) > LARGEST
        values[beyond] = np.nan
        # asv writes null for a failure, and not-a-number for what was not measured.
        absent = [
            place
            for place in np.flatnonzero(np.isnan(values)).tolist()
            if self.held["value"][place] is not None
        ]
        self.strange = sum(not ok for ok in fine) + int(beyond.sum())
        kept = np.ones(len(values), bool)
        kept[absent] = False
        low, high, repeat = (_floats(self.held[key])[0][kept] for key in ("low", "high", "repeat"))
        return {
            "entry": np.array(self.entries, np.int32),
            "started_ms": _floats(self.held["started"])[0],
            "case": np.array(self.cases, np.int32)[kept],
            "value": values[kept],
            "low": low,
            "high": high,
            "samples": np.nan_to_num(repeat, nan=0.0, posinf=0.0, neginf=0.0)
            .clip(0, 1 << 30)
            .astype(np.int32),
        }


_NUMBERS = {float, int, bool, type(None)}


def _floats(values: list[Any]) -> tuple[NDArray[np.float64], list[bool]]:
    """The values as floats, NaN where there is none; and whether each was a number or null, where any was not."""
    if set(map(type, values)) <= _NUMBERS:
        return np.array(values, np.float64), []
    fine = [type(value) in _NUMBERS for value in values]
    return np.array(
        [value if ok else math.nan for value, ok in zip(values, fine, strict=True)], np.float64
    ), fine


def _text(held: dict[str, Any], key: str) -> str:
    value = held[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _date(value: Any) -> int:
    if not isinstance(value, (int, float)) or not 0 <= value <= LATEST_S * 1000:
        raise ValueError(f"{str(value)[:40]} is no date")
    return int(value)
