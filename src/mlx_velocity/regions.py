"""From markers to regions: what was under way when. Pure, and forgiving: a process may be killed inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Region:
    """Something that went on for a while. Times are seconds of the clock that the markers were read by."""

    what: str
    """commit, case, model, or region for anything else."""
    name: str
    start_s: float
    end_s: float
    ended: bool = True
    """Whether its end was marked; else it lasted until its process was gone, or the watching ended."""


def of_markers(markers: Iterable[dict[str, Any]], until_s: float, clock: str = "monotonic_s") -> list[Region]:
    """The regions of markers, in the order in which they began; one without an end lasts until `until_s`.

    `clock` is `monotonic_s`, or `time_s` where the markers come from another file. An end without a begin
    is passed over. Regions of one name in one process may be nested: the last one to begin ends first.
    """
    opened: dict[tuple[Any, ...], list[float]] = {}
    found: list[Region] = []
    for marker in sorted(markers, key=lambda item: float(item[clock])):
        key = (marker["what"], marker["name"], marker["pid"])
        moment = float(marker[clock])
        if marker["event"] == "begin":
            opened.setdefault(key, []).append(moment)
        elif opened.get(key):
            found.append(Region(key[0], key[1], opened[key].pop(), moment, not marker.get("gone", False)))
    for (what, name, _), starts in opened.items():
        found += [Region(what, name, start, max(start, until_s), False) for start in starts]
    return sorted(found, key=lambda item: (item.start_s, item.end_s))


def during(region: Region, others: Iterable[Region]) -> list[str]:
    """The names of those `others` that went on while `region` did, each once."""
    return list(
        dict.fromkeys(
            other.name
            for other in others
            if other.start_s < region.end_s and region.start_s < other.end_s
        )
    )  # fmt: skip
