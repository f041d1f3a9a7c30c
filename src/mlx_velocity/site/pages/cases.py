"""All cases of a track, each with its number on every machine, its shape and its last change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_velocity.history_report import CaseHistory
from mlx_velocity.report import history_words as words
from mlx_velocity.site.pages import case
from mlx_velocity.site.record import TrackRecord, case_page
from mlx_velocity.site.writer import Writer

COLUMNS = 60
"""Points of a small picture."""
WIDE, HIGH = 120, 24


def write(record: TrackRecord, writer: Writer) -> None:
    """The page."""
    rows = [
        _row(item, found) for found in case.by_case(record.history).values() for item in found if item.current
    ]
    machines = sorted({item["machine"] for item in rows})
    held = {"rows": rows, "machines": machines}
    writer.page("cases/index.html", "cases.html", held, lambda: held)


def _row(item: CaseHistory, found: Sequence[CaseHistory]) -> dict[str, Any]:
    last = item.shifts[-1] if item.shifts else None
    return {
        "label": item.label,
        "page": case_page(item.benchmark, item.params),
        "machine": item.machine,
        "name": case.name_of(item, found),
        "now": case.quantity(item, item.now),
        "commits": len(item.points),
        "shape": shape(item),
        "change": words.change(item, last) if last else "",
        "direction": last.direction if last else "",
        "state": last.state if last else "",
        "date": last.commit.date if last else "",
    }


def shape(item: CaseHistory) -> str:
    """The path of a small picture: the newest points, thinned to COLUMNS, from their lowest to their highest."""
    values = item.points.value[~item.points.disturbed].tolist()
    step = max(1, len(values) // COLUMNS)
    values = values[::-1][::step][::-1]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    # A picture that fills its height with a thousandth would show noise as if it were news.
    room = max(high - low, 0.05 * high)
    middle = (low + high) / 2
    places = [
        f"{index * WIDE / (len(values) - 1):.1f} {HIGH / 2 - (value - middle) / room * (HIGH - 4):.1f}"
        for index, value in enumerate(values)
    ]
    return "M" + "L".join(places)
