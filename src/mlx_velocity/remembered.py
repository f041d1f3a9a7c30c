"""What was told of a machine, kept for the next time: its records as JSON, its points and gaps as columns of a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_velocity import history
from mlx_velocity.history_report import Border, CaseHistory, Shift
from mlx_velocity.points import Gaps, Points, Rows
from mlx_velocity.run_report import Commit
from mlx_velocity.series import Segment
from mlx_velocity.store import blocks
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import read_json

DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Told:
    """What the stored files of a machine say along a line of commits."""

    cases: list[CaseHistory]
    lost: list[str]
    """Ids that are recorded, and whose change is not found any more."""
    measured: list[int]
    """Places on the line that have results, rising."""
    others: list[str]
    """Commits with results that are not on the line, or how their hashes begin."""


def keep(index: StoreIndex, machine: str, key: str, line: Sequence[history.Commit], told: Told) -> None:
    """Keep what was told of a machine under a key of all that it depends on, beside the line.

    Raises InputError where the disk refuses.
    """
    columns: list[blocks.Column] = []

    def plain(item: Any) -> Any:
        if not isinstance(item, Rows):
            return {part.name: getattr(item, part.name) for part in dataclasses.fields(item)}
        columns.extend(getattr(item, name) for name in item.COLUMNS)
        return {"end": len(columns), "reasons": item.reasons}

    text = json.dumps(told, default=plain)
    stored = blocks.write(index.beside(machine), columns)
    held = {"key": key, "line": [len(line), _digest(line)], "columns": stored}
    index.keep_derived({f"key:{machine}": json.dumps(held).encode(), f"told:{machine}": text.encode()})


def load(index: StoreIndex, machine: str, key: str, line: Sequence[history.Commit]) -> Told | None:
    """What is kept under a key, where the line has only grown and nothing that was stored beside it is on it now."""
    try:
        held = read_json(index.derived([f"key:{machine}"])[f"key:{machine}"])
        size, digest = held["line"]
        if held["key"] != key or size > len(line) or _digest(line[:size]) != digest:
            return None
        told = read_json(index.derived([f"told:{machine}"])[f"told:{machine}"])
        if any(commit.hash.startswith(tuple(told["others"])) for commit in line[size:]):
            return None
        columns = blocks.read(index.beside(machine), held["columns"])
        if columns is None:
            return None
        order = [commit.hash for commit in line]
        return Told(
            [_case(case, order, columns) for case in told["cases"]],
            told["lost"],
            told["measured"],
            told["others"],
        )
    except DAMAGED:
        return None


def _digest(line: Sequence[history.Commit]) -> str:
    made = hashlib.sha256()
    for commit in line:
        made.update(ascii((commit.hash, commit.date_s, commit.subject, commit.tags)).encode())
    return made.hexdigest()


def _case(held: dict[str, Any], line: Sequence[str], columns: Sequence[blocks.Column]) -> CaseHistory:
    def taken(name: str, names: Sequence[str]) -> dict[str, Any]:
        end = held[name]["end"]
        found = dict(zip(names, columns[end - len(names) : end], strict=True))
        return {"line": line, **found, "reasons": tuple(held[name]["reasons"])}

    made: dict[str, Callable[[Any], Any]] = {
        "newest": _commit,
        "borders": lambda items: [Border(**item) for item in items],
        "segments": lambda items: [Segment(**item) for item in items],
        "shifts": lambda items: list(map(_shift, items)),
        "points": lambda item: Points(**taken("points", Points.COLUMNS)),
        "gaps": lambda item: Gaps(**taken("gaps", Gaps.COLUMNS)),
    }
    return CaseHistory(**{name: made[name](item) if name in made else item for name, item in held.items()})


def _shift(held: dict[str, Any]) -> Shift:
    commits = {name: _commit(held[name]) for name in ("commit", "good", "bad", "fixed_by")}
    return Shift(**{**held, **commits, "suspected": list(map(_commit, held["suspected"]))})


def _commit(held: dict[str, Any] | None) -> Any:
    return Commit(**held) if held is not None else None
