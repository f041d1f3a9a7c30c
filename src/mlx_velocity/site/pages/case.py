"""One case: its history on every machine, drawn by assets/chart.js from the data that its page holds."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_velocity import units
from mlx_velocity.changes import says_nothing
from mlx_velocity.chronicle import Line
from mlx_velocity.history_report import CaseHistory, HistoryReport
from mlx_velocity.points import Numbers, Point, Whole
from mlx_velocity.report import history_words as words
from mlx_velocity.series import Segment
from mlx_velocity.site import grown, plain, rooflines
from mlx_velocity.site.pages import samples, shifts
from mlx_velocity.site.record import SHORT, TrackRecord, case_page
from mlx_velocity.site.writer import Writer

CHUNK = 500
"""Commits whose subjects are in one file: a page loads the files of those that a reader points at."""
LISTED = 50
"""Points in the table of a page; the others are drawn."""
DAY_S = 86_400
SURE = 1.96
"""Standard errors of a 95 % interval."""

Key = tuple[str, tuple[str, ...]]
Changes = list[list[dict[str, Any]]]
"""Of each series of a case, the newest first."""


def write(record: TrackRecord, writer: Writer) -> None:
    """The pages of all cases, and the files of the commits' subjects."""
    least = rooflines.by_series(record)
    profiled = grown.stored(record.index.root)
    axis = Axis.of(record.line)
    for (benchmark, params), found in by_case(record.history).items():
        held = _data(axis, found, least)
        changed = [_changes(record, profiled, case) for case in found]
        key = [held, changed, [list(words.side_by_side(case)) for case in found]]

        def make(
            found: Sequence[CaseHistory] = found, held: dict[str, Any] = held, changed: Changes = changed
        ) -> dict[str, Any]:
            return _page(record, found, held, changed)

        writer.page(case_page(benchmark, params), "case.html", key, make)
    _subjects(record, writer)


def by_case(told: HistoryReport) -> dict[Key, list[CaseHistory]]:
    """Benchmark and parameters → what each machine says of it; what the suite still has comes first."""
    found: dict[Key, list[CaseHistory]] = {}
    for machine in told.machines:
        for case in machine.cases:
            found.setdefault((case.benchmark, tuple(case.params)), []).append(case)
    for cases in found.values():
        cases.sort(key=lambda case: not case.current)
    return found


def name_of(case: CaseHistory, found: Sequence[CaseHistory]) -> str:
    """What tells a series of a case from the others of it."""
    said = [case.machine]
    if len({(item.machine, item.environment) for item in found}) > len({item.machine for item in found}):
        said.append(case.environment)
    if not case.current:
        said.append(f"version {case.version[:SHORT]}, no longer measured")
    return ", ".join(said)


def _page(
    record: TrackRecord, found: Sequence[CaseHistory], held: dict[str, Any], changed: Changes
) -> dict[str, Any]:
    first = found[0]
    return {
        "label": first.label,
        "benchmark": first.benchmark,
        "described": record.benchmarks.get(first.benchmark, {}).get("pretty_name") or "",
        "unit": first.unit,
        "tokens": first.tokens,
        "cpu": any(_on_cpu(case) for case in found),
        "series": [
            {**_series(record, case, found), "changes": own, "roofline": _share(case, drawn.get("least"))}
            for case, own, drawn in zip(found, changed, held["series"], strict=True)
        ],
        "held": held,
    }


def _share(case: CaseHistory, least: float | None) -> str:
    return units.share(least / case.now) if least and case.now else ""


def _on_cpu(case: CaseHistory) -> bool:
    return "backendcpu" in case.environment


def _series(record: TrackRecord, case: CaseHistory, found: Sequence[CaseHistory]) -> dict[str, Any]:
    now = case.segments[-1] if case.segments else None
    return {
        "name": name_of(case, found),
        "machine": case.machine,
        "environment": case.environment,
        "version": case.version,
        "current": case.current,
        "points": len(case.points),
        "now": quantity(case, case.now),
        "now_interval": interval(case, now.low, now.high) if now and now.low < now.high else "",
        "newest": vars(case.newest) if case.newest else None,
        "compared": list(words.side_by_side(case)),
        "remarks": [
            *(words.border(case, number) for number in range(len(case.borders))),
            *words.gaps(case.gaps.tried),
            *words.disturbed(case),
        ],
        "rows": [_row(record, case, point) for point in reversed(case.points[-LISTED:])],
    }


def _changes(record: TrackRecord, profiled: grown.Pairs, case: CaseHistory) -> list[dict[str, Any]]:
    return [
        shifts.row(record.history, case, shift, grown.said(profiled, record.benchmarks, case, shift))
        for shift in reversed(case.shifts)
    ]


def _row(record: TrackRecord, case: CaseHistory, point: Point) -> dict[str, Any]:
    return {
        "commit": vars(record.line.commit(point.commit)),
        "value": quantity(case, point.value),
        "error": units.share(math.expm1(SURE * point.error)) if point.error else "",
        "launches": point.launches,
        "samples": point.samples,
        "disturbed": point.disturbed,
    }


def quantity(case: CaseHistory, value: float | None) -> str:
    """A number of a case in words, with tokens per second where it handles tokens."""
    if value is None:
        return "–"
    rate = words.rate(case, value)
    return units.quantity(value, case.unit) + (f" ({rate})" if rate else "")


def interval(case: CaseHistory, low: float, high: float) -> str:
    """`12.3 ms … 12.5 ms`, or that it is too wide to say anything."""
    if says_nothing(low, high):
        return "says nothing"
    return f"{units.quantity(low, case.unit)} … {units.quantity(high, case.unit)}"


def _sure(item: Segment) -> tuple[float, float]:
    """The interval of a level; nothing is drawn of one that says nothing, which would fill the picture."""
    return (item.level, item.level) if says_nothing(item.low, item.high) else (item.low, item.high)


# What the script draws


@dataclass(frozen=True)
class Axis:
    """What is said of every commit of the line, by its place."""

    days: Whole
    """Since 1970."""
    hashes: list[str]
    tags: dict[int, str]
    """Place → tag, rising."""

    @staticmethod
    def of(line: Line) -> Axis:
        """Of a line of commits."""
        return Axis(
            np.array([commit.date_s // DAY_S for commit in line.commits], np.int64),
            [commit.hash[:SHORT] for commit in line.commits],
            {place: plain.text(commit.tags[0]) for place, commit in enumerate(line.commits) if commit.tags},
        )


def _data(
    axis: Axis, found: Sequence[CaseHistory], least: Mapping[rooflines.Key, tuple[float, str]]
) -> dict[str, Any]:
    """All series of a case as chart.js reads them. Commits are counted along the branch (`place`)."""
    rows = [part for case in found for part in (case.points.place, case.gaps.tried.place)]
    places = np.unique(np.concatenate(rows))
    there = set(places.tolist())
    first = found[0]
    return {
        "unit": first.unit,
        "tokens": first.tokens,
        "chunk": CHUNK,
        "place": _steps(places),
        "day": _steps(axis.days[places]),
        "hash": "".join([axis.hashes[place] for place in places.tolist()]),
        "short": SHORT,
        "tags": [
            [int(np.searchsorted(places, place)), tag] for place, tag in axis.tags.items() if place in there
        ],
        "series": [{**_drawn(case, found, places), **_roofline(case, least)} for case in found],
    }


def _drawn(case: CaseHistory, found: Sequence[CaseHistory], places: Whole) -> dict[str, Any]:
    points, failed = case.points, case.gaps.tried
    reasons: dict[str, int] = {}
    return {
        "name": plain.text(name_of(case, found)),
        "place": samples.place_key(case.machine, case.environment),
        "key": samples.case_key(case.benchmark, case.version, tuple(case.params)),
        "at": _steps(np.searchsorted(places, points.place)),
        "value": _floats(points.value),
        # 95 %, as a share of the value; 0 where there was one launch.
        "error": _floats(np.expm1(np.minimum(SURE * np.nan_to_num(points.error), 5.0))),
        "launches": _runs(points.launches),
        "samples": _runs(points.samples),
        "disturbed": [
            [index, points[index].disturbed] for index in np.flatnonzero(points.disturbed).tolist()
        ],
        "failed": [
            [at, reasons.setdefault(plain.text(gap.reason), len(reasons))]
            for at, gap in zip(np.searchsorted(places, failed.place).tolist(), failed, strict=True)
        ],
        "reasons": list(reasons),
        "segments": [
            [item.first, item.last, *(float(f"{value:.6g}") for value in (item.level, *_sure(item)))]
            for item in case.segments
        ],
        "shifts": [
            [shift.index, shift.state, f"{shift.state}: {words.change(case, shift)}"] for shift in case.shifts
        ],
        "borders": [[border.index, plain.text(border.reason)] for border in case.borders],
    }


def _roofline(case: CaseHistory, least: Mapping[rooflines.Key, tuple[float, str]]) -> dict[str, Any]:
    """The least seconds of a case in its present version, and whose peaks say so; nothing where that is not known."""
    key = (case.machine, case.environment, case.benchmark, tuple(case.params))
    if not case.current or key not in least:
        return {}
    seconds, peaks = least[key]
    return {"least": float(f"{seconds:.6g}"), "peaks": peaks}


def _steps(numbers: Whole) -> list[int]:
    """Each number less the one before it: mostly one digit."""
    found: list[int] = np.diff(numbers, prepend=0).tolist()
    return found


def _runs(numbers: Whole) -> list[list[int]]:
    """How often each number comes in a row."""
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    counts = np.diff(starts, append=len(numbers))
    return [list(pair) for pair in zip(numbers[starts].tolist(), counts.tolist(), strict=True)]


def _floats(numbers: Numbers) -> str:
    """32-bit numbers, little endian, in base 64: half the size of digits, and seven of them are kept."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def _subjects(record: TrackRecord, writer: Writer) -> None:
    commits = record.line.commits
    for start in range(0, len(commits), CHUNK):
        part = [
            [plain.text(commit.subject, 200), plain.text(", ".join(commit.tags[:3])), commit.day]
            for commit in commits[start : start + CHUNK]
        ]
        writer.script(f"data/commits-{start // CHUNK}.js", f"commits-{start // CHUNK}", part)
