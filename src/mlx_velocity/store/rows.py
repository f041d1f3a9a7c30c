"""A row of the index, as it is written and read again."""

from __future__ import annotations

import json
from typing import Any

import orjson

from mlx_velocity.store.columns import checksum


def row_checksum(*values: Any) -> int:
    """Of a row of texts, whatever they hold; the last may be bytes."""
    *texts, last = values
    data = last if isinstance(last, bytes) else str(last).encode("utf-8", "surrogatepass")
    # No text holds what stands between them.
    return checksum("\0".join(map(str, texts)).encode("utf-8", "surrogatepass"), b"\0", data)


def read_head(text: str) -> dict[str, Any]:
    """The head of a file; ValueError where it is none."""
    try:
        head = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Half of a surrogate, which Python takes.
        head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("a damaged head")
    return head
