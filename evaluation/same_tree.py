"""Whether two folders hold the same published data of asv: file by file, by what it says and not by its bytes."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

CLOSE = 1e-9
"""Numbers may differ by the rounding of another order of sums (asv's geometric mean of several series)."""
OURS = {"less_is_better"}
"""What we add to a benchmark's description."""


def differences(ours: Path, theirs: Path) -> list[str]:
    """What differs, in a line each; nothing where both say the same."""
    found = []
    for name in ("index.json", "regressions.json", "info.json"):
        one, other = (
            _prepared(name, json.loads((folder / name).read_text("utf-8"))) for folder in (ours, theirs)
        )
        found += [f"{name}{place}" for place in differing(one, other)]
    names = [
        {str(path.relative_to(folder)) for path in (folder / "graphs").rglob("*.json")}
        for folder in (ours, theirs)
    ]
    found += [f"only on one side: {name}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        one, other = (json.loads((folder / name).read_text("utf-8")) for folder in (ours, theirs))
        found += [f"{name}{place}" for place in differing(one, other)[:3]]
    if _feed(ours) != _feed(theirs):
        found.append("regressions.xml")
    return found


def differing(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() ^ other.keys())
        return [f"{place}.{key}" for key in keys] + [
            item
            for key in one.keys() & other.keys()
            for item in differing(one[key], other[key], f"{place}.{key}")
        ]
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return [f"{place}: {len(one)} and {len(other)} items"]
        return [
            item
            for number, pair in enumerate(zip(one, other, strict=True))
            for item in differing(*pair, f"{place}[{number}]")
        ]
    if isinstance(one, float) or isinstance(other, float):
        if None not in (one, other) and math.isclose(one, other, rel_tol=CLOSE, abs_tol=0.0):
            return []
    elif one == other:
        return []
    return [f"{place}: {one!r} and {other!r}"]


def _prepared(name: str, data: Any) -> Any:
    if name == "info.json":
        return {key: value for key, value in data.items() if key != "timestamp"}
    if name == "regressions.json":
        return {"regressions": sorted(data["regressions"], key=lambda row: json.dumps(row[:2]))}
    for benchmark in data["benchmarks"].values():
        for key in OURS:
            benchmark.pop(key, None)
    # asv goes through the files in whatever order the disk has them.
    data["graph_param_list"] = sorted(
        data["graph_param_list"], key=lambda item: json.dumps(item, sort_keys=True)
    )
    return data


def _feed(folder: Path) -> list[str]:
    """The entries of asv's feed, without the time of the measurement: of a commit that several machines measured, asv takes
    that of whichever folder the system lists last."""
    root = ElementTree.parse(folder / "regressions.xml").getroot()
    entries = [item for item in root if item.tag.endswith("entry")]
    for entry in entries:
        for updated in [item for item in entry if item.tag.endswith("updated")]:
            entry.remove(updated)
    return sorted(ElementTree.tostring(item, encoding="unicode") for item in entries)
