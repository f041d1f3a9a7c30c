"""The bisection file: what is searched, each pair as it was measured, one checked JSON object a line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mlx_velocity import comparisons, readings
from mlx_velocity.bisection import FORMAT, Blame, Effect, Halt, Header, Lost, Measured, Point, Ready
from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.errors import InputError
from mlx_velocity.records import Environment, case_label

FOLDER = "bisections"
SUFFIX = ".bisection.jsonl"
"""Not `.json`: asv loads every file with that ending as one of its own."""
SCHEMA = "bisection.schema.json"

Record: TypeAlias = Header | Ready | Lost | Measured | Halt
KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Header, Ready, Lost, Measured, Halt)}


def path_for(machine_folder: Path, header: Header) -> Path:
    """The file of a search: the same ends, case and backend give the same name, so that a later call finds it."""
    label = case_label(header.benchmark, tuple(header.params))
    what = json.dumps(
        [
            header.good.commit,
            header.bad.commit,
            header.benchmark,
            header.version,
            header.params,
            header.backend,
        ]
    )
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    stem = f"{header.good.commit[:8]}-{header.bad.commit[:8]}.{comparisons.slug(label)}-{digest}"
    return machine_folder / FOLDER / f"{stem}{SUFFIX}"


def set_aside(path: Path) -> Path | None:
    """Give the file of an earlier search another name, under which nobody goes on; None where there is none."""
    if not path.exists():
        return None
    number = 1
    while (other := path.with_name(f"{path.name.removesuffix(SUFFIX)}_{number}{SUFFIX}")).exists():
        number += 1
    try:
        path.rename(other)
    except OSError as error:
        raise readings.cannot_write(path, error) from error
    return other


def dump(record: Record) -> str:
    """The line of a record, checked against the schema; raises ValueError where it would not be readable."""
    data = {"format": FORMAT, "kind": record.kind, **dataclasses.asdict(record)}
    if isinstance(record, Measured):
        # A reading is a line of a comparison file.
        data["reading"] = json.loads(comparisons.dump(record.reading))
    return readings.line_of(data, SCHEMA)


def parse(line: str) -> Record:
    """The record on a line; raises ValueError that says what is wrong with it."""
    data = readings.load(line, SCHEMA, FORMAT)
    kind = data.pop("kind")
    del data["format"]
    if kind == Header.kind:
        data |= {end: Point(**data[end]) for end in ("good", "bad")}
    elif kind == Ready.kind:
        data["environment"] = Environment(**data["environment"])
    elif kind == Halt.kind:
        data["blamed"] = [_blame(item) for item in data.get("blamed", [])]
    elif kind == Measured.kind:
        data["reading"] = _reading(data["reading"])
    record: Record = KINDS[kind](**data)
    return record


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a file and wait until they are on the disk.

    Raises InputError where the disk refuses; what was there stays.
    """
    readings.append_lines(path, [dump(record) for record in records])


def is_begun(path: Path) -> bool:
    """Whether a file holds a whole line: a call that ended within its first one left none."""
    try:
        return b"\n" in path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # read() says what is wrong


@dataclass(frozen=True)
class Stored:
    """What a bisection file holds."""

    header: Header
    records: list[Record]
    """Without the header."""
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
            f"{path.name} can't be read: {error.strerror or error}", "mend its rights, or use --restart"
        ) from error
    header = records[0] if records else None
    if not isinstance(header, Header):
        raise InputError(f"{path.name} does not say what was searched", "remove the file, or use --restart")
    return Stored(header, [item for item in records[1:] if not isinstance(item, Header)], bad)


def answer(path: Path) -> tuple[Header, list[Blame]]:
    """What was searched, and whom the last call named; two lines are read, however long the file is.

    Raises InputError where it can't be read, or holds no search.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
        header, last = parse(lines[0]), parse(lines[-1])
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path.name} can't be read: {error}", "see: mlx-velocity validate") from error
    if not isinstance(header, Header):
        raise InputError(f"{path.name} does not say what was searched", "see: mlx-velocity validate")
    return header, last.blamed if isinstance(last, Halt) else []


def _blame(data: Any) -> Blame:
    effect = data["effect"]
    return Blame(**{**data, "effect": Effect(**effect) if effect else None})


def _reading(data: Any) -> PairReading | Break:
    record = comparisons.parse(json.dumps(data))
    if not isinstance(record, (PairReading, Break)):
        raise ValueError(f"reading: a {record.kind} is none")
    return record
