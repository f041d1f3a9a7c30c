"""One stored file as the index keeps it: a few words for all of it, and columns of numbers.

Reads the files that it is given and knows no others, so it runs in any process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_velocity import readings
from mlx_velocity.store import asv_results, our_readings
from mlx_velocity.store.columns import Columns, Key, Keys

RESULT, READINGS = "result", "readings"
BROKEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError, OSError)
"""What reading a file answers that is not what it should be."""
LONGEST_REASON = 200


@dataclass
class File:
    """What is kept of a file."""

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


@contextmanager
def no_garbage() -> Iterator[None]:
    """Without Python's search for cycles, which takes longer than parsing where millions of objects are made and none is a cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_batch(root: str, paths: list[str]) -> tuple[list[File], list[Key]]:
    """The files at `paths` below `root`, and the keys that their columns count in."""
    keys: Keys = {}
    known: asv_results.Known = {}
    with no_garbage():
        return [_read(Path(root), path, keys, known) for path in paths], list(keys)


def _read(root: Path, path: str, keys: Keys, known: asv_results.Known) -> File:
    kind = READINGS if path.endswith(readings.SUFFIX) else RESULT
    mark = ""
    try:
        with (root / path).open("rb") as stream:
            # Of this very file: another one may take its place meanwhile.
            stat = os.fstat(stream.fileno())
            mark = fingerprint(stat)
            data = stream.read(stat.st_size)
        if kind == RESULT:
            head, columns = asv_results.read(data, keys, known)
            return File(path, mark, kind, "", head.pop("commit"), head.pop("environment"), head, columns)
        head, columns = our_readings.read(data, keys)
        name = Path(path).name.removesuffix(readings.SUFFIX)
        commit, _, environment = name.partition("-")
        return File(path, mark, kind, "", commit, environment, head, columns)
    except BROKEN as error:
        reason = " ".join(str(error).split()).replace(f"{root}{os.sep}", "")
        if isinstance(error, KeyError):
            reason = f"it lacks {reason}"
        return File(path, mark, kind, (reason or type(error).__name__)[:LONGEST_REASON])
