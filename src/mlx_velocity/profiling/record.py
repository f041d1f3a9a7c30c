"""Results that are read as attributes in base units, or like a dictionary in the units that people use."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

GB, GIB, MS = 1e9, 2**30, 1e-3


class Record(Mapping[str, Any]):
    """Base of the result classes, which are frozen dataclasses.

    Keys are the names of fields and properties. Each `<name>_bytes` has the views `<name>_memory_gb`
    (1e9 bytes) and `<name>_memory_gib` (2**30 bytes), each `<name>_s` the view `<name>_ms`. What was
    not measured is None in every unit.
    """

    def __getitem__(self, key: str) -> Any:
        known = _keys(type(self))
        if key not in known:
            raise KeyError(f"{key} is none of {', '.join(known)}")
        name, factor = known[key]
        value = getattr(self, name)
        return value if factor is None or value is None else value / factor

    def __iter__(self) -> Iterator[str]:
        return iter(_keys(type(self)))

    def __len__(self) -> int:
        return len(_keys(type(self)))


@functools.cache
def _keys(kind: type) -> dict[str, tuple[str, float | None]]:
    """Key → attribute, and what to divide it by."""
    names = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for parent in reversed(kind.__mro__):
        names += [name for name, value in vars(parent).items() if isinstance(value, property)]
    keys: dict[str, tuple[str, float | None]] = {name: (name, None) for name in dict.fromkeys(names)}
    for name in list(keys):
        if name.endswith("_bytes"):
            stem = name.removesuffix("_bytes")
            keys |= {f"{stem}_memory_gb": (name, GB), f"{stem}_memory_gib": (name, GIB)}
        elif name.endswith("_s"):
            keys[f"{name.removesuffix('_s')}_ms"] = (name, MS)
    return keys
