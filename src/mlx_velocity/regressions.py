"""What people decided about regressions: results/<track>/regressions.jsonl, one checked object a line, the last one counts."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_velocity import readings
from mlx_velocity.errors import InputError

FORMAT = 1
"""Version of the file. 1: first version."""
NAME = "regressions.jsonl"
"""Not `.json`: asv loads every file with that ending as a result."""
SCHEMA = "regressions.schema.json"
KIND = "regression"
ID_LENGTH = 8
"""Of 32 signs each: among 10,000 changes, two share an id once in 20,000 histories."""

MarkState = Literal["open", "accepted", "fixed"]


@dataclass(frozen=True)
class Mark:
    """What is recorded of a regression."""

    id: str
    state: MarkState
    machine: str
    environment: str
    benchmark: str
    params: list[str]
    commit: str
    """Full hash of the most likely commit when it was recorded."""
    good: str
    """The last commit that was surely of the old level then."""
    bad: str
    """The first that was surely of the new one."""
    newest: str
    """The newest measured commit then: what is measured later is news."""
    subject: str
    """Of `commit`, for whoever reads the file."""
    ratio: float
    """New level / old level, then."""
    reason: str
    fixed_by: str | None
    """Full hash of the commit that mended it."""
    at: str
    """UTC, ISO 8601."""

    @property
    def case(self) -> tuple[str, str, str, tuple[str, ...]]:
        """Machine, environment, benchmark, parameters."""
        return self.machine, self.environment, self.benchmark, tuple(self.params)


def shift_id(
    track: str, machine: str, environment: str, benchmark: str, params: tuple[str, ...], commit: str
) -> str:
    """The name of a change of a case at a commit: 8 of a–z and 2–7, the beginning of a SHA-256 in base 32."""
    text = json.dumps([track, machine, environment, benchmark, list(params), commit])
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:ID_LENGTH]


def path_in(results_dir: Path) -> Path:
    """The file of a track."""
    return results_dir / NAME


def parse(line: str) -> Mark:
    """The mark on a line; raises ValueError that says what is wrong with it."""
    data = readings.load(line, SCHEMA, FORMAT)
    fields: dict[str, Any] = {key: value for key, value in data.items() if key not in ("format", "kind")}
    return Mark(**fields)


def dump(mark: Mark) -> str:
    """The line of a mark, checked against the schema; raises ValueError where it would not be readable."""
    return readings.line_of({"format": FORMAT, "kind": KIND, **dataclasses.asdict(mark)}, SCHEMA)


def read(results_dir: Path) -> tuple[dict[str, Mark], list[tuple[str, str]]]:
    """The last mark of each id, and each unreadable line with its reason. No file: nothing.

    Raises InputError where it can't be read at all, or a later mlx-velocity wrote it.
    """
    path = path_in(results_dir)
    try:
        marks, bad = readings.read_lines(path, parse)
    except OSError as error:
        raise InputError(
            f"{path.name} can't be read: {error.strerror or error}", "mend its rights, or remove it"
        ) from error
    return {mark.id: mark for mark in marks}, bad


def append(results_dir: Path, marks: list[Mark]) -> None:
    """Record marks; raises InputError where the disk refuses."""
    path = path_in(results_dir)
    lines = [dump(mark) for mark in marks]
    if lines and _is_cut(path):
        # What an editor or a killed writer left open must not swallow the next line.
        lines[0] = f"\n{lines[0]}"
    readings.append_lines(path, lines)


def _is_cut(path: Path) -> bool:
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return bool(text) and not text.endswith(b"\n")
