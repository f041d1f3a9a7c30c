"""The readings file: raw samples by launch, environments and reasons, one checked JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mlx_velocity import records
from mlx_velocity.errors import InputError

SUFFIX = ".readings.jsonl"
"""Not `.json`: asv loads every file with that ending as one of its own."""


class NewerFormat(ValueError):
    """A line that a later mlx-velocity wrote: neither readable nor broken."""


def parse(line: str) -> records.Reading:
    """The reading on a line; raises ValueError that says what is wrong with it."""
    data = json.loads(line, parse_constant=_no_constant)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    version = data.get("format")
    if isinstance(version, int) and version > records.FORMAT:
        raise NewerFormat(f"format {version} is newer than {records.FORMAT}: upgrade mlx-velocity")
    _check(data)
    return records.from_dict(data)


def dump(reading: records.Reading) -> str:
    """The line of a reading, checked against the schema; raises ValueError where it would not be readable."""
    data = records.to_dict(reading)
    _check(data)
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read(path: Path) -> tuple[list[records.Reading], list[tuple[str, str]]]:
    """The readings of a file, and each unreadable line with its reason. No file: nothing.

    Raises InputError where a later mlx-velocity wrote it: that file is not broken.
    """
    good: list[records.Reading] = []
    bad: list[tuple[str, str]] = []
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return good, bad
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            good.append(parse(line))
        except NewerFormat as error:
            raise InputError(f"{path.name} can't be read: {error}", "it stays as it is") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            bad.append((line, str(error) or type(error).__name__))
    return good, bad


def append(path: Path, readings: Iterable[records.Reading]) -> None:
    """Add readings to a file and wait until they are on the disk.

    Raises InputError where the disk refuses; what was there stays.
    """
    lines = "".join(dump(reading) + "\n" for reading in readings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(lines.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part.

    Raises InputError where the disk refuses; what was there stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error for a disk that is full, read-only or gone."""
    return InputError(
        f"{path.parent.name}/{path.name} can't be written: {error.strerror or error}",
        "free some room or mend the rights, then run again: what is measured is kept",
    )


def _check(data: dict[str, Any]) -> None:
    validator = _validators().get(str(data.get("kind")))
    if validator is None:
        raise ValueError(f"unknown kind {data.get('kind')!r}")
    for error in validator.iter_errors(data):
        raise ValueError(f"{error.json_path}: {error.message[:200]}")


@cache
def _validators() -> dict[str, Draft202012Validator]:
    schema = json.loads((files("mlx_velocity") / "readings.schema.json").read_text("utf-8"))
    return {kind: Draft202012Validator(definition) for kind, definition in schema["$defs"].items()}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
