"""Raw samples: one file per commit and machine, which the page of a case loads when a reader asks for them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mlx_velocity import quality
from mlx_velocity.readings import NewerFormat
from mlx_velocity.site import places
from mlx_velocity.site.places import Place
from mlx_velocity.site.record import TrackRecord
from mlx_velocity.site.writer import Writer, data
from mlx_velocity.store import our_readings

MOST = 500
"""Commits of a machine, the newest: of ten thousand commits the samples would be a gigabyte."""
DIGITS = 6


def write(record: TrackRecord, writer: Writer) -> None:
    """Write the samples of each machine's newest commits."""
    for place in places.of(record.index, record.graph):
        for commit in list(place.files)[-MOST:]:
            readings = place.files[commit][1]
            if readings:
                name = f"{place.key}/{places.short(commit)}"
                stored = record.index.root / readings.path
                writer.deferred(f"data/{name}.samples.js", readings.fingerprint, script, name, stored)


def place_key(machine: str, environment: str) -> str:
    """The folder of a machine's samples with an environment, below `data`."""
    return Place(machine, environment, alone=True).key


@cache
def case_key(benchmark: str, version: str, params: Sequence[str]) -> str:
    """What a case is called in a file of samples."""
    text = json.dumps([benchmark, version, list(params)])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:10]


def script(name: str, stored: Path) -> str:
    """The file of a commit, from its readings."""
    return f"velocity.take({data(f'samples/{name}')}, {data(by_case(stored.read_bytes()))});\n"


def by_case(readings: bytes) -> dict[str, list[list[Any]]]:
    """Key of a case → number of each launch from 1, its samples in base units, and what disturbed the machine."""
    launches: dict[str, int] = {}
    found: dict[str, list[list[Any]]] = {}
    try:
        for held in our_readings.measured(readings):
            launch = launches.setdefault(held["launch"], len(launches) + 1)
            samples = [_short(value) for value in held["samples"] if _is_number(value)]
            flags = [flag for flag in quality.flags(held.get("sensors") or {}) if flag != quality.CLEAN]
            key = case_key(held["benchmark"], held["version"], tuple(held["params"]))
            found.setdefault(key, []).append([launch, samples, flags if held["unit"] == "seconds" else []])
    except NewerFormat:
        return {}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _short(value: float) -> float:
    shown = float(f"{value:.{DIGITS}g}")
    return int(shown) if shown.is_integer() and abs(shown) < 1e15 else shown
