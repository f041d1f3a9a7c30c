"""The comparison file: what was compared, each pair as it was measured, one checked JSON object a line."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from mlx_velocity import readings, units
from mlx_velocity.comparison import FORMAT, Break, End, Header, PairReading, Side
from mlx_velocity.errors import InputError
from mlx_velocity.records import Environment

FOLDER = "comparisons"
"""In a machine's folder."""
SUFFIX = ".comparison.jsonl"
"""Not `.json`: asv loads every file with that ending as one of its own."""
SCHEMA = "comparison.schema.json"
SLUG_LENGTH = 40

Record: TypeAlias = Header | PairReading | Break | End
KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Header, PairReading, Break, End)}


_TIME = "%Y%m%dT%H%M%SZ"


def path_for(folder: Path, header: Header) -> Path:
    """A file in `folder` that is not there yet, named after the time and the sides.

    The names say the order in which comparisons were begun. Where a clock was set back, or two began within a second,
    the name's time is the second behind the newest name's; the header has what the clock said.
    """
    time = units.instant(header.started).astimezone(UTC)
    for named in sorted((path.name[:16] for path in folder.glob(f"*{SUFFIX}")), reverse=True):
        with contextlib.suppress(ValueError, OverflowError):
            time = max(time, datetime.strptime(named, _TIME).replace(tzinfo=UTC) + timedelta(seconds=1))
            break
    stem = f"{time:{_TIME}}-{slug(header.base.name)}-{slug(header.head.name)}"
    path, number = folder / f"{stem}{SUFFIX}", 1
    while path.exists():
        # An underscore sorts behind the dot, so the later one stays the newest.
        number += 1
        path = folder / f"{stem}_{number}{SUFFIX}"
    return path


def newest_first(folder: Path, base: str | None, head: str | None) -> list[Path]:
    """The files whose names allow these sides (None: any), those that were begun last first; none is opened."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        sides = re.sub(r"_\d+$", "", path.name.removesuffix(SUFFIX).partition("-")[2])
        if (base is None or sides.startswith(f"{slug(base)}-")) and (
            head is None or sides.endswith(f"-{slug(head)}")
        ):
            found.append(path)
    return found


def of_equal_sides(path: Path) -> bool:
    """Whether a file's header says that a commit, or a version, was compared with itself; False where it can't be read."""
    try:
        with path.open(encoding="utf-8") as stream:
            header = parse(stream.readline())
    except (OSError, ValueError):
        return False
    if not isinstance(header, Header):
        return False
    base, head = (side.commit or side.name for side in (header.base, header.head))
    return base == head


def slug(name: str) -> str:
    """A user's name for a side as part of a file name: ASCII letters and digits, no separators."""
    if name == ".":
        return "worktree"
    words = re.sub(r"[^A-Za-z0-9.]+|\.{2,}", "-", name)[:SLUG_LENGTH]
    return words.strip("-.") or "side"


def dump(record: Record) -> str:
    """The line of a record, checked against the schema; raises ValueError where it would not be readable."""
    return readings.line_of(
        {"format": FORMAT, "kind": record.kind, **dataclasses.asdict(record)}, SCHEMA
    )  # fmt: skip


def parse(line: str) -> Record:
    """The record on a line; raises ValueError that says what is wrong with it."""
    data = readings.load(line, SCHEMA, FORMAT)
    kind = data.pop("kind")
    del data["format"]
    if kind == Header.kind:
        data |= {name: _side(data[name]) for name in ("base", "head")}
    record: Record = KINDS[kind](**data)
    return record


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file and wait until they are on the disk.

    Raises InputError where the disk refuses; what was there stays.
    """
    readings.append_lines(path, [dump(record) for record in records])


@dataclass(frozen=True)
class Stored:
    """What a comparison file holds."""

    header: Header
    pairs: list[PairReading]
    breaks: list[Break]
    end: End | None
    """None where the comparison was killed, or is under way."""
    bad: list[tuple[str, str]]
    """Each unreadable line with its reason."""


def read(path: Path) -> Stored:
    """What a file holds, and each unreadable line with its reason.

    Raises InputError where it can't be read, has no header, or was written by a later mlx-velocity.
    """
    try:
        records, bad = readings.read_lines(path, parse)
    except OSError as error:
        raise InputError(
            f"{path.name} can't be read: {error.strerror or error}", "mend its rights, or compare again"
        ) from error
    header = records[0] if records else None
    if not isinstance(header, Header):
        reason = (
            "it does not exist" if not path.exists() else bad[0][1] if bad else "its first line is missing"
        )
        raise InputError(
            f"{path.name} does not say what was compared: {reason}", "remove the file, and compare again"
        )
    rest = records[1:]
    # Lines behind a second header belong to another comparison: they are not this one's evidence.
    end = next((place for place, record in enumerate(rest) if isinstance(record, Header)), len(rest))
    bad += [(dump(record), "behind a second header") for record in rest[end:]]
    pairs = [record for record in rest[:end] if isinstance(record, PairReading)]
    breaks = [record for record in rest[:end] if isinstance(record, Break)]
    ends = [record for record in rest[:end] if isinstance(record, End)]
    return Stored(header, pairs, breaks, ends[-1] if ends else None, bad)


def _side(data: dict[str, Any]) -> Side:
    return Side(**{**data, "environment": Environment(**data["environment"])})
