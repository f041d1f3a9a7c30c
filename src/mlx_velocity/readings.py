"""The readings file: raw samples by launch, environments and reasons, one checked JSON object a line."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mlx_velocity import records, schemas
from mlx_velocity.errors import InputError

SUFFIX = ".readings.jsonl"
"""Not `.json`: asv loads every file with that ending as one of its own."""
SCHEMA = "readings.schema.json"
LEFT_S = 86_400
"""Nobody writes one file for so long."""
_ASIDE = re.compile(r"\.(.+)\.\d+\.new", re.DOTALL)
Line = TypeVar("Line")


class NewerFormat(ValueError):
    """A line that a later mlx-velocity wrote: neither readable nor broken."""


def parse(line: str) -> records.Reading:
    """The reading on a line; raises ValueError that says what is wrong with it."""
    return records.from_dict(load(line, SCHEMA, records.FORMAT))


def dump(reading: records.Reading) -> str:
    """The line of a reading, checked against the schema; raises ValueError where it would not be readable."""
    return line_of(records.to_dict(reading), SCHEMA)


def read(path: Path) -> tuple[list[records.Reading], list[tuple[str, str]]]:
    """The readings of a file, and each unreadable line with its reason. No file: nothing.

    Raises InputError where a later mlx-velocity wrote it: that file is not broken.
    """
    return read_lines(path, parse)


def append(path: Path, readings: Iterable[records.Reading]) -> None:
    """Add readings to a file and wait until they are on the disk.

    Raises InputError where the disk refuses; what was there stays.
    """
    append_lines(path, [dump(reading) for reading in readings])


# What every file of checked lines shares


def load(line: str, schema: str, newest: int) -> dict[str, Any]:
    """The object on a line, checked against a schema of ours; raises ValueError, NewerFormat above `newest`."""
    try:
        data = strict(line)
    except ValueError:
        # A later format may hold what ours does not.
        _not_newer(json.loads(line), newest)
        raise
    if not isinstance(data, dict):
        raise ValueError("not an object")
    _not_newer(data, newest)
    _check(data, schema)
    return data


def strict(text: str) -> Any:
    """What a text of JSON holds; ValueError for it where it is none, or holds a number that is none or beyond any float."""
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)


def _not_newer(data: Any, newest: int) -> None:
    version = data.get("format") if isinstance(data, dict) else None
    if isinstance(version, int) and version > newest:
        raise NewerFormat(f"format {version} is newer than {newest}: upgrade mlx-velocity")


def line_of(data: dict[str, Any], schema: str) -> str:
    """The line of an object, checked against a schema of ours; raises ValueError."""
    _check(data, schema)
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_lines(path: Path, parse: Callable[[str], Line]) -> tuple[list[Line], list[tuple[str, str]]]:
    """What `parse` makes of each line, and each unreadable line with its reason. No file: nothing.

    Raises InputError where a later mlx-velocity wrote it.
    """
    good: list[Line] = []
    bad: list[tuple[str, str]] = []
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return good, bad
    for written in data.split(b"\n"):
        # What is no UTF-8 stays to be shown, and is not read: a mended name would be another name.
        line = written.decode("utf-8", "replace")
        if not line.strip():
            continue
        try:
            good.append(parse(written.decode("utf-8")))
        except UnicodeDecodeError:
            bad.append((line, "it is not UTF-8"))
        except NewerFormat as error:
            raise InputError(f"{path.name} can't be read: {error}", "it stays as it is") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            bad.append((line, str(error) or type(error).__name__))
    return good, bad


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add lines to a file and wait until they are on the disk.

    Raises InputError where the disk refuses; what was there stays.
    """
    # Half a surrogate, from a name that is no UTF-8, becomes JSON's own way to write it.
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    size = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            # Half a line of a call that was killed shall not spoil the next one.
            cut = size and stream.read(1) != b"\n"
            stream.write(b"\n" + data if cut else data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if size is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, size)
        raise cannot_write(path, error) from error


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part.

    Raises InputError where the disk refuses; what was there stays.
    """
    with put_in_place(path) as aside:
        aside.write_text(text, "utf-8")


@contextlib.contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A path beside it to write, which takes its place at the end, at once.

    Raises InputError where the disk refuses; what was there stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
        _remove_left(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _remove_left(path: Path) -> None:
    """Remove what a program that was killed had begun to write in its place, long ago: others may share the disk."""
    with contextlib.suppress(OSError):
        for aside in _begun(path.parent).get(path.name, ()):
            if path.stat().st_mtime - aside.stat().st_mtime > LEFT_S:
                aside.unlink()


@functools.cache
def _begun(folder: Path) -> dict[str, list[Path]]:
    """File → what put_in_place had begun to write for it when the folder was looked at first: that is done once."""
    found: dict[str, list[Path]] = {}
    for entry in os.scandir(folder):
        if named := _ASIDE.fullmatch(entry.name):
            found.setdefault(named[1], []).append(Path(entry.path))
    return found


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error for a disk that is full, read-only or gone."""
    return InputError(
        f"{path.parent.name}/{path.name} can't be written: {error.strerror or error}",
        "free some room or mend the rights, then run again: what is measured is kept",
    )


def _check(data: dict[str, Any], schema: str) -> None:
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in schemas.by_kind(schema):
        raise ValueError(f"unknown kind {kind!r}")
    if wrong := schemas.first_error(schema, data, kind):
        raise ValueError(wrong)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is no number that can be stored")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)
