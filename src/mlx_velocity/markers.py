"""Say what begins and what ends, for a monitor that watches: `with mark("epoch 1"): …`.

A marker is a line of JSON, appended to the file or pipe that the variable MLX_VELOCITY_MARKERS names;
`mlx-velocity monitor` sets it for the command that it runs. Without it nothing happens. Nothing here ever
raises or waits: what is watched must not suffer from being watched. See docs/monitor.md.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

VARIABLE = "MLX_VELOCITY_MARKERS"
FORMAT = 1
"""Version of a marker's line. 1: first version."""
LONGEST_NAME = 300
"""Characters: a line must be short enough (PIPE_BUF) to be written in one piece beside those of others."""

What = Literal["commit", "case", "model", "region"]
"""`model` says that a model's weights are in memory; `region` is anything else."""


@contextmanager
def mark(name: str, what: What = "region") -> Iterator[None]:
    """Mark what runs inside as a region; also a decorator. It ends by an exception too."""
    begin(name, what)
    try:
        yield
    finally:
        end(name, what)


def begin(name: str, what: What = "region") -> None:
    """Mark the begin of a region that `end` of the same name ends, or else the end of this process."""
    _write("begin", name, what)


def end(name: str, what: What = "region") -> None:
    """Mark the end of a region."""
    _write("end", name, what)


def line(event: Literal["begin", "end"], name: str, what: What, pid: int) -> dict[str, Any]:
    """A marker of this moment: seconds since 1970, and those of the clock that never jumps."""
    return {
        "format": FORMAT, "kind": "marker", "event": event, "what": what, "name": name[:LONGEST_NAME],
        "time_s": round(time.time(), 3), "monotonic_s": round(time.monotonic(), 3), "pid": pid,
    }  # fmt: skip


def _write(event: Literal["begin", "end"], name: str, what: What) -> None:
    path = os.environ.get(VARIABLE)
    if not path:
        return
    text = json.dumps(line(event, name, what, os.getpid()))
    try:
        # A pipe that nobody reads must not block, and is an error that stays here.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError:
        return
    try:
        os.write(file, text.encode() + b"\n")
    except OSError:
        pass
    finally:
        os.close(file)
