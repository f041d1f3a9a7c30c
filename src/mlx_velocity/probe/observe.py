"""What a workload noticed beside its time: digests, token counts, cache sizes; and whether it is timed.

A workload calls `note`; the worker calls `collect` after each case and stores what it got in the
readings. Under stock asv nobody collects and nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Value = str | int | float | bool

_warming = False

_notes: dict[str, Value | Callable[[], Value]] = {}


def note(**values: Value | Callable[[], Value]) -> None:
    """Remember `values` for the case being measured; a later value replaces an earlier one.

    What takes time to work out is given as a function: it is called by `collect`, outside of the
    timed body.
    """
    _notes.update(values)


def collect() -> dict[str, Value]:
    """Return what was noted since the last call, and forget it."""
    collected = {name: value() if callable(value) else value for name, value in _notes.items()}
    _notes.clear()
    return collected


@contextmanager
def warm_up() -> Iterator[None]:
    """Mark what runs inside as warm-up: runs that nobody times, and that may be looked at."""
    global _warming
    _warming = True
    try:
        yield
    finally:
        _warming = False


def warming() -> bool:
    """Whether this is a run of a warm-up."""
    return _warming
