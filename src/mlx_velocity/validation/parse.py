"""Bytes from a disk as JSON, whatever they are: what can't be read is a reason, never an exception."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_velocity import schemas

MOST_ERRORS = 5
"""Of one document: a file of another kind breaks every rule, and five say so."""


class Unreadable(ValueError):
    """Bytes that are no JSON; `line` is where, from 1."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(reason)


def content(path: Path) -> bytes:
    """The bytes of a file; raises Unreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"it can't be read: {error.strerror or error}") from error


def text(data: bytes) -> str:
    """Bytes as text; raises Unreadable with the line that is no UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"byte {error.start} is no UTF-8", line) from error


def document(data: bytes, finite: bool = True) -> Any:
    """The JSON in bytes; its numbers are finite unless `finite` is false. Raises Unreadable."""
    said = text(data)

    def constant(name: str) -> float:
        if finite:
            raise ValueError(f"{name} is no number")
        return float(name)

    try:
        return json.loads(
            said,
            parse_constant=constant,
            parse_float=_finite if finite else float,
            parse_int=_whole,
        )
    except json.JSONDecodeError as error:
        raise Unreadable(f"no JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(str(error)) from error


def lines(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, each with its number from 1; what is no UTF-8 becomes U+FFFD."""
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if line.strip():
            yield number, line


def complaints(schema: str, data: Any) -> list[str]:
    """What a schema says against a document, the first few."""
    found = []
    try:
        for error in schemas.errors(schema, data):
            found.append(schemas.said(error))
            if len(found) == MOST_ERRORS:
                break
    except RecursionError:
        found.append("it is nested too deeply")
    return found


def _finite(said: str) -> float:
    number = float(said)
    if math.isinf(number):
        raise ValueError(f"{said[:40]} is no number that can be stored")
    return number


def _whole(said: str) -> int:
    _finite(said)
    return int(said)
