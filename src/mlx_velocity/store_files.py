"""One stored file as columns of numbers: what the index keeps of it. Reads each file once, and judges nothing.

Pure but for reading the file that it is given, so it runs in any process.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from asv.results import Results
from numpy.typing import NDArray

from mlx_velocity import readings, records

Array = NDArray[Any]
Key = tuple[str, str | None, str | None]
"""Benchmark, version (None where asv wrote none), and parameters as a JSON list; None for the benchmark as a whole."""
Columns = dict[str, Array]

RESULT, READINGS = "result", "readings"
SENSORS = (
    "allowed_cores", "own_busy_cores", "others_busy_cores", "elapsed_s", "memory_stall_s", "swap_growth_bytes",
    "cpu_throttles", "temperature_c", "load_1m", "energy_j",
)  # fmt: skip
"""What quality.py and the pages ask of the sensors beside a measurement."""
BROKEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError, OSError)
"""What reading a file answers that is not what it should be."""
LONGEST_REASON = 200
MOST_CASES = 100_000
"""Parameter sets of one benchmark: a file that names more was not written by a measurement."""
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, which no date can pass."""


@dataclass
class File:
    """What is kept of a file: a few words for all of it, and columns with one row per case or per sample set."""

    path: str
    """Below the folder of results."""
    fingerprint: str
    kind: str
    problem: str = ""
    """Why it could not be read; then nothing else is known of it."""
    commit: str = ""
    environment: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    """Columns that are called `case` or `entry` count in the keys of the batch."""


def fingerprint(stat: os.stat_result) -> str:
    """What changes when a file is written or replaced: its time, its size, and which file it is."""
    return f"{stat.st_mtime_ns}:{stat.st_size}:{stat.st_ino}"


def read_batch(root: str, paths: list[str]) -> tuple[list[File], list[Key]]:
    """The files at `paths` below `root`, and the keys that their columns count in."""
    keys: dict[Key, int] = {}
    found = [_read(Path(root), path, keys) for path in paths]
    return found, list(keys)


def _read(root: Path, path: str, keys: dict[Key, int]) -> File:
    kind = READINGS if path.endswith(readings.SUFFIX) else RESULT
    mark = ""
    try:
        with (root / path).open("rb") as stream:
            # Of this very file: another one may take its place meanwhile.
            mark = fingerprint(os.fstat(stream.fileno()))
            data = stream.read(os.fstat(stream.fileno()).st_size)
        made = File(path, mark, kind)
        (_readings if kind == READINGS else _result)(made, data, keys)
        return made
    except BROKEN as error:
        reason = " ".join(str(error).split()).replace(f"{root}{os.sep}", "")
        if isinstance(error, KeyError):
            reason = f"it lacks {reason}"
        return File(path, mark, kind, (reason or type(error).__name__)[:LONGEST_REASON])


# asv's result files


def _result(made: File, data: bytes, keys: dict[Key, int]) -> None:
    """Raises ValueError and the like, as asv does, where the file is not what asv reads."""
    held = json.loads(data.decode("utf-8"))
    if not isinstance(held, dict):
        raise ValueError("it holds no result")
    if held.get("version") != Results.api_version:
        raise ValueError(f"format {held.get('version')!r} is not asv's {Results.api_version}")
    made.commit = _encodable(_text(held, "commit_hash"))
    made.environment = _encodable(str(held["env_name"]))
    made.head = {
        "params": {str(key): value for key, value in held["params"].items()},
        "env_vars": {str(key): value for key, value in held.get("env_vars", {}).items()},
        "python": held["python"],
        "requirements": held["requirements"],
        "date_ms": _date(held["date"]),
    }
    names = held["result_columns"]
    at = {name: index for index, name in enumerate(names)}
    unknown = [index for name, index in at.items() if name not in _KNOWN]
    rows = _Rows(keys)
    for name, row in held["results"].items():
        if any(index < len(row) for index in unknown):
            raise ValueError(f"{name} has a column that asv does not know")
        rows.add(name, row, at)
    made.columns = rows.columns()
    if rows.strange:
        made.head["strange"] = rows.strange


_KNOWN = {
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
    "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
}  # fmt: skip


class _Rows:
    """The rows of one result file, as they become columns."""

    def __init__(self, keys: dict[Key, int]) -> None:
        self.keys = keys
        self.entries: list[int] = []
        self.started: list[float] = []
        self.cases: list[int] = []
        self.values: list[Any] = []
        self.low: list[Any] = []
        self.high: list[Any] = []
        self.repeat: list[Any] = []
        self.strange = 0

    def add(self, name: str, row: list[Any], at: dict[str, int]) -> None:
        size = len(row)

        def column(wanted: str) -> Any:
            index = at.get(wanted, size)
            return row[index] if index < size else None

        name = _encodable(name)
        result, params, version = column("result"), column("params"), column("version")
        if not (version is None or isinstance(version, str)) or not isinstance(params, list):
            raise TypeError(f"{name} has no version or no parameters that can be read")
        if not (result is None or isinstance(result, list)):
            raise TypeError(f"{name} has no list of results")
        version = version and _encodable(version)
        keys = self.keys
        self.entries.append(keys.setdefault((name, version, None), len(keys)))
        self.started.append(_number(column("started_at")))
        if math.prod(map(len, params)) > MOST_CASES:
            raise ValueError(f"{name} has more than {MOST_CASES:,} parameter sets")
        sets = [()] if not params else list(itertools.product(*params))
        blank = [None] * len(sets)
        columns = (column("stats_ci_99_a"), column("stats_ci_99_b"), column("stats_repeat"))
        low, high, repeat = (part if isinstance(part, list) else blank for part in columns)
        for index, (case, value) in enumerate(zip(sets, blank if result is None else result, strict=False)):
            if value is not None and value != value:
                continue  # not measured
            if not (value is None or isinstance(value, (int, float))):
                self.strange += 1
                continue
            key = (name, version, json.dumps(case))
            self.cases.append(keys.setdefault(key, len(keys)))
            self.values.append(math.nan if value is None else value)
            self.low.append(_number(low[index]) if index < len(low) else math.nan)
            self.high.append(_number(high[index]) if index < len(high) else math.nan)
            self.repeat.append(_count(repeat[index]) if index < len(repeat) else 0)

    def columns(self) -> Columns:
        return {
            "entry": np.array(self.entries, np.int32),
            "started_ms": np.array(self.started, np.float64),
            "case": np.array(self.cases, np.int32),
            "value": np.array(self.values, np.float64),
            "low": np.array(self.low, np.float64),
            "high": np.array(self.high, np.float64),
            "samples": np.array(self.repeat, np.int32),
        }


def _text(held: dict[str, Any], key: str) -> str:
    value = held[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _date(value: Any) -> int:
    if not isinstance(value, (int, float)) or not 0 <= value <= LATEST_MS:
        raise ValueError(f"{str(value)[:40]} is no date")
    return int(value)


def _encodable(text: str) -> str:
    """The text, with half surrogates written out: they are no Unicode that could be stored or shown."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0


# Our readings


def _readings(made: File, data: bytes, keys: dict[Key, int]) -> None:
    head: dict[str, Any] = {"environment": None, "launches": [], "failures": [], "set_aside": [], "bad_lines": 0}
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
                case = (_encodable(held["benchmark"]), _encodable(held["version"]), json.dumps(held["params"]))
                launch = launches.setdefault(held["launch"], len(launches))
                samples = held["samples"]
                middle = statistics.median(samples)
                if not math.isfinite(middle):
                    raise ValueError("a sample is no number")
                seen = held.get("sensors") or {}
                rows.append((keys.setdefault(case, len(keys)), launch, middle, len(samples)))
                sensors.append([_number(seen.get(name)) for name in SENSORS])
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
        except BROKEN:
            head["bad_lines"] += 1
    made.head = {**head, "order": list(launches)}
    name = Path(made.path).name.removesuffix(readings.SUFFIX)
    made.commit, made.environment = name.partition("-")[0], name.partition("-")[2]
    table = np.array(sensors, np.float32).reshape(len(rows), len(SENSORS))
    made.columns = {
        "case": np.array([row[0] for row in rows], np.int32),
        "launch": np.array([row[1] for row in rows], np.int32),
        "median": np.array([row[2] for row in rows], np.float64),
        "samples": np.array([row[3] for row in rows], np.int32),
        # What no measurement of the file has is not kept.
        **{key: table[:, i] for i, key in enumerate(SENSORS) if not np.isnan(table[:, i]).all()},
    }


_FAILURE = ("outcome", "reason", "benchmark", "version", "params", "exit_code", "started")


def _line(line: bytes) -> tuple[str, dict[str, Any]]:
    """A line whose used fields are of the right kind. `validate` checks against the schema, at ten times the cost."""
    held = json.loads(line)
    if not isinstance(held, dict):
        raise ValueError("not an object")
    if held.get("format") != records.FORMAT:
        if isinstance(held.get("format"), int) and held["format"] > records.FORMAT:
            raise readings.NewerFormat(f"format {held['format']} is newer than {records.FORMAT}: upgrade mlx-velocity")
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


# Columns as bytes


def pack(columns: Columns) -> tuple[list[tuple[str, str, int]], bytes]:
    """Name, type and length of each column, and their numbers one after the other."""
    spec = [(name, array.dtype.str, len(array)) for name, array in columns.items()]
    return spec, b"".join(np.ascontiguousarray(array).tobytes() for array in columns.values())


def unpack(spec: list[tuple[str, str, int]], data: bytes) -> Columns:
    """The columns again."""
    found: Columns = {}
    start = 0
    for name, kind, length in spec:
        found[name] = np.frombuffer(data, np.dtype(kind), length, start)
        start += found[name].nbytes
    return found


def checksum(*parts: bytes) -> int:
    """What tells a damaged row of the index."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value
