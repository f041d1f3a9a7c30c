"""A file as the index knows it, and how its row is written and read again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from mlx_velocity import readings
from mlx_velocity.store.columns import checksum


@dataclass(frozen=True)
class Stored:
    """A stored file that could be read."""

    id: int
    path: str
    """Below the folder of results: `<machine>/<commit>-<environment>.json`, or `….readings.jsonl`."""
    commit: str
    """Full hash of a result file; of a readings file as much of it as its name holds."""
    environment: str
    text: str
    """The head as JSON: most questions need none."""
    fingerprint: str = ""
    """Changes when the file does."""
    bad_lines: int = 0
    """Of readings: lines that can't be read."""

    @cached_property
    def head(self) -> dict[str, Any]:
        """Of a result: params, env_vars, python, requirements, date_ms. Of readings: environment, launches, order,
        failures, set_aside, bad_lines."""
        return read_head(self.text)

    @property
    def machine(self) -> str:
        """Folder of the machine."""
        return self.path.partition("/")[0]

    @property
    def stem(self) -> str:
        """What a result file and the readings beside it share."""
        return self.path.removesuffix(readings.SUFFIX).removesuffix(".json")


def row_checksum(*values: Any) -> int:
    """Of a row, whatever it holds: a text and the bytes of that text are not the same."""
    *others, last = values
    data = last if isinstance(last, bytes) else b"\1" + _text(last).encode("utf-8", "surrogatepass")
    try:
        text = "\0".join(others)
    except TypeError:
        text = "\0".join(map(_text, others))
    return checksum(text.encode("utf-8", "surrogatepass"), b"\0", data)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"\2{value!a}"


def read_head(text: str) -> dict[str, Any]:
    """The head of a file; ValueError where it is none."""
    head = read_json(text)
    if not isinstance(head, dict):
        raise ValueError("a damaged head")
    return head


def read_json(text: str | bytes) -> Any:
    """What a text of JSON holds; ValueError where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Half of a surrogate, or no number: Python takes both, in five times the time.
        return json.loads(text)
