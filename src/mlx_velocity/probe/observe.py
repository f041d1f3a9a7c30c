"""What a workload noticed beside its time: digests, token counts, cache sizes.

A workload calls `note`; the worker calls `collect` after each case and stores what it got in the
readings. Under stock asv nobody collects and nothing happens.
"""

from __future__ import annotations

Value = str | int | float | bool

_notes: dict[str, Value] = {}


def note(**values: Value) -> None:
    """Remember `values` for the case being measured; a later value replaces an earlier one."""
    _notes.update(values)


def collect() -> dict[str, Value]:
    """Return what was noted since the last call, and forget it."""
    collected = dict(_notes)
    _notes.clear()
    return collected
