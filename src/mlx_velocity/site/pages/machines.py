"""Machines: what each is, whether it changed, what it has measured of which commits, and what could not be read."""

from __future__ import annotations

import math
import statistics
from typing import Any

from mlx_velocity import coverage, quality, stored_series, units
from mlx_velocity.site import places, plain
from mlx_velocity.site.pages import snapshots
from mlx_velocity.site.places import Place
from mlx_velocity.site.record import TrackRecord, commit_page, machine_anchor
from mlx_velocity.site.writer import Writer

STRETCHES = 40
FIELDS = {
    "cpu": "processor", "gpu": "GPU", "num_cpu": "cores", "ram": "memory", "arch": "architecture", "os": "system",
}  # fmt: skip
PICTURE = (600, 120)
"""Width and height of the control's picture, in units of its own."""
LABELLED = 60
"""At its left, for the numbers at its ends."""
MOST_POINTS = 400
LISTED = 50


def write(record: TrackRecord, writer: Writer) -> None:
    """The page."""
    found = places.of(record.index, record.graph)
    lost = places.lost(record.index, record.graph)
    key = [
        [[place.key, [place.marks(commit) for commit in place.files]] for place in found],
        [[commit, *record.graph.commits[commit].tags] for place in found for commit in place.files],
        record.index.machines, record.index.problems, [item.path for item in lost],
    ]  # fmt: skip
    writer.page("machines.html", "machines.html", key, lambda: _page(record, found, lost))


def _page(record: TrackRecord, found: list[Place], lost: list[Any]) -> dict[str, Any]:
    names = sorted({*record.index.machines, *(place.machine for place in found)})
    return {
        "machines": [
            _machine(record, name, [place for place in found if place.machine == name]) for name in names
        ],
        "problems": record.index.problems[:LISTED],
        "more_problems": max(0, len(record.index.problems) - LISTED),
        "lost": [(item.commit[:8], item.path) for item in lost[:LISTED]],
        "more_lost": max(0, len(lost) - LISTED),
        "states": coverage.STATES,
    }


def _machine(record: TrackRecord, name: str, own: list[Place]) -> dict[str, Any]:
    described = record.index.machines.get(name, {})
    return {
        "name": name,
        "anchor": machine_anchor(name),
        "fields": [
            (words, field(key, described[key])) for key, words in FIELDS.items() if described.get(key)
        ],
        "places": [_place(record, place) for place in own],
    }


def field(key: str, value: Any) -> str:
    """A machine's field in words."""
    if key == "ram" and str(value).isdecimal() and len(str(value)) < 20:
        return f"{int(value) / 2**30:.0f} GiB"
    return str(value)


def _place(record: TrackRecord, place: Place) -> dict[str, Any]:
    listed = list(place.files)
    columns = [found for _, found in record.index.columns(place.files[commit][0] for commit in listed)]
    numbers = {key: number for number, key in enumerate(record.index.keys) if key[2] is not None}
    made = coverage.of(
        [(commit, found, place.files[commit][1]) for commit, found in zip(listed, columns, strict=True)],
        record.index.keys, numbers, STRETCHES,
    )  # fmt: skip
    return {
        "key": place.key,
        "environment": place.environment,
        "backend": place.backend,
        "commits": len(listed),
        "first": _commit(record, listed[0]),
        "last": _commit(record, listed[-1]),
        "groups": made.groups,
        "stretches": [_stretch(record, item) for item in reversed(made.stretches)],
        "changed": _changed(record, place),
        "control": _control(record, place),
    }


def _commit(record: TrackRecord, commit: str) -> dict[str, str]:
    told = record.graph.commits[commit]
    return {
        "page": commit_page(commit), "name": plain.text(told.tags[0] if told.tags else told.short, snapshots.TAG),
        "day": units.day(told.date_s), "subject": told.subject,
    }  # fmt: skip


def _stretch(record: TrackRecord, item: coverage.Stretch) -> dict[str, Any]:
    return {
        "first": _commit(record, item.commits[0]),
        "last": _commit(record, item.commits[-1]),
        "commits": len(item.commits),
        "cells": [_cell(counts) for counts in item.counts],
    }


def _cell(counts: tuple[int, ...]) -> dict[str, Any]:
    whole = sum(counts)
    said = [f"{count:,} {state}" for count, state in zip(counts, coverage.STATES, strict=True) if count]
    measured, failed = counts[coverage.MEASURED], counts[coverage.FAILED]
    kind = "full" if measured == whole else "failed" if failed else "part" if measured else "none"
    shown = "all" if measured == whole else f"{100 * measured / whole:.0f} %" if measured else "–"
    return {"kind": kind, "shown": shown, "said": ", ".join(said), "failed": f"{failed:,}" if failed else ""}


def _changed(record: TrackRecord, place: Place) -> list[dict[str, Any]]:
    """Where something else than the commit changed, in the order of commits."""
    made, last = [], None
    for commit, (result, readings) in place.files.items():
        fields = {key: str(value) for key, value in result.head["params"].items()}
        environment = readings.head["environment"] if readings else None
        now = stored_series.surroundings(
            {**fields, **({"python": environment["python"]} if environment else {})}
        )
        if last is not None and (what := stored_series.difference(last, now)):
            made.append({**_commit(record, commit), "what": what})
        last = now
    return made[-LISTED:]


def _control(record: TrackRecord, place: Place) -> dict[str, Any] | None:
    """What a fixed computation took beside the measurements, commit by commit; None where none is stored."""
    readings = {item.path: commit for commit, (_, item) in place.files.items() if item}
    points: list[tuple[str, float]] = []
    for item, columns in record.index.columns(item for _, item in place.files.values() if item):
        taken = [value for value in columns.get("control_s", ()) if value == value]
        if taken:
            points.append((readings[item.path], float(statistics.median(taken))))
    if not points:
        return None
    values = [value for _, value in points]
    line, bottom, top = _line(values)
    drift = quality.drift([{"control": value} for value in values]).get("control")
    return {
        "count": len(values),
        "low": units.seconds(min(values)),
        "high": units.seconds(max(values)),
        "middle": units.seconds(statistics.median(values)),
        "drift": units.percent_change(drift) if drift else "",
        "first": _commit(record, points[0][0]),
        "last": _commit(record, points[-1][0]),
        "line": line,
        "ends": [units.seconds(bottom), units.seconds(top)],
        "size": PICTURE,
    }


def _line(values: list[float]) -> tuple[str, float, float]:
    """The points of an SVG polyline, thinned by medians, and what its lower and upper edge stand for."""
    step = math.ceil(len(values) / MOST_POINTS)
    thin = [statistics.median(values[start : start + step]) for start in range(0, len(values), step)]
    low, high = min(thin), max(thin)
    # A picture of less than 2 % from end to end would show nothing but noise, as if it were much.
    room = max(high - low, 0.02 * high) or 1.0
    width, height = PICTURE
    line = " ".join(
        f"{LABELLED + (width - LABELLED - 5) * number / max(1, len(thin) - 1):.1f},{height - 5 - (height - 10) * (value - low) / room:.1f}"
        for number, value in enumerate(thin)
    )
    return line, low, low + room
