"""Columns of numbers as the index keeps them, and what their rows are named by."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = tuple[str, str | None, str | None]
"""Benchmark, version (None where asv wrote none), and parameters as a JSON list; None for the benchmark as a whole."""
Columns = dict[str, NDArray[Any]]
Keys = dict[Key, int]
"""Each key of a batch of files with its number: what the columns `case` and `entry` count in."""


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


def encodable(text: str) -> str:
    """The text, with half surrogates written out: they are no Unicode that could be stored or shown."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def number(value: Any) -> float:
    """The value where it is a number, else NaN."""
    return float(value) if isinstance(value, (int, float)) else math.nan
