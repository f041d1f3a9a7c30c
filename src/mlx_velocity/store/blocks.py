"""Columns of numbers in a file of their own, which is mapped: only what is looked at takes memory."""

from __future__ import annotations

import glob
import hashlib
import mmap
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from mlx_velocity import readings

Column = NDArray[Any]
CHUNK = 1 << 20
ALIGNED = 8


def write(path: Path, columns: Iterable[Column]) -> dict[str, Any]:
    """Put a file in place that holds the columns; returns what `read` must be given.

    What is equal is written once, and a column of one number not at all. Raises OSError where the disk refuses.
    """
    _clear(path)
    places: dict[bytes, int] = {}
    listed: list[list[Any]] = []
    size = checksum = 0
    with readings.put_in_place(path) as aside, aside.open("wb") as stream:
        for column in columns:
            kind = column.dtype.str
            if _is_one(column):
                listed.append([kind, len(column), None, column[0].item() if len(column) else 0])
                continue
            data = np.ascontiguousarray(column).tobytes()
            key = hashlib.blake2b(data).digest()
            if key not in places:
                places[key] = size
                data += bytes(-len(data) % ALIGNED)
                checksum = zlib.crc32(data, checksum)
                stream.write(data)
                size += len(data)
            listed.append([kind, len(column), places[key], None])
    return {"size": size, "checksum": checksum, "columns": listed}


def read(path: Path, held: dict[str, Any]) -> Sequence[Column] | None:
    """The columns of a file in their order; None where it is not the one that was written."""
    try:
        with path.open("rb") as stream:
            checksum = size = 0
            while chunk := stream.read(CHUNK):
                checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
            if (size, checksum) != (held["size"], held["checksum"]):
                return None
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError:
        return None
    return [
        np.broadcast_to(np.array(value, kind), length)
        if start is None
        else np.frombuffer(data, kind, length, start)
        for kind, length, start, value in held["columns"]
    ]


def _is_one(column: Column) -> bool:
    """Whether it holds one number alone; one that is no number equals itself here."""
    first = column[:1]
    return bool(((column == first) | ((column != column) & (first != first))).all())


def _clear(path: Path) -> None:
    """Remove what processes that were killed left beside a file: at once, since it may be large and the index is no other machine's."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        pid = left.name.split(".")[-2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
