"""What pages load when a reader chooses commits: one file for all commits, cases and machines, and one per commit.

They are scripts that hand over data and nothing else, so that they load from a folder as from a server.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from mlx_velocity import changes, records, snapshots, stats, units
from mlx_velocity.site import places, plain
from mlx_velocity.site.places import Place
from mlx_velocity.site.record import TrackRecord, case_page
from mlx_velocity.site.writer import Writer, data

FORMAT = 1
"""Of the data files. 1: first version."""
"""Git takes any number for a date; ours end with the year 9999."""
TRACK_FILE = "data/track.js"
STEPS = 100
"""Of the table of Student's t, over one over the degrees of freedom."""
SUBJECT, TAG, TAGS = 100, 60, 4
"""Of a commit's texts that are listed: signs of its subject and of a tag, and how many tags."""
LABEL = 160


def write(record: TrackRecord, writer: Writer) -> None:
    """Write the data of all measured commits."""
    found = places.of(record.index, record.graph)
    index = record.index
    numbers = {key: number for number, key in enumerate(index.keys)}
    is_time = snapshots.timed(index.keys, record.benchmarks)
    for place in found:
        for commit in place.files:
            writer.file(
                snapshot_file(place, commit), place.marks(commit),
                partial(_snapshot, record, place, commit, is_time, numbers),
            )  # fmt: skip
    writer.script(TRACK_FILE, "track", track_data(record, found))


def snapshot_file(place: Place, commit: str) -> str:
    """Where the data of a commit lie, below the track's folder."""
    return f"data/{place.key}/{places.short(commit)}.js"


def _snapshot(record: TrackRecord, place: Place, commit: str, is_time: list[bool], numbers: Any) -> str:
    result, readings = place.files[commit]
    listed = [item for item in (result, readings) if item]
    columns = dict(
        zip((item.path for item in listed), (found for _, found in record.index.columns(listed)), strict=True)
    )
    made = snapshots.of(
        (result, columns[result.path]),
        (readings, columns[readings.path]) if readings else None,
        is_time,
        numbers,
    )
    for name in ("failures", "environment"):
        made[name] = plain.tree(made[name])
    return f"velocity.take({data(f'{place.key}/{places.short(commit)}')}, {data(made)});\n"


def track_data(record: TrackRecord, found: list[Place]) -> dict[str, Any]:
    """The commits that were measured anywhere (oldest first), the cases, the places, and what an interval needs."""
    graph = record.graph
    measured = sorted({commit for place in found for commit in place.files}, key=graph.revisions.__getitem__)
    number = {commit: place for place, commit in enumerate(measured)}
    return {
        "format": FORMAT,
        "track": plain.text(record.track.name),
        "commits": [_commit(record, commit) for commit in measured],
        "cases": cases(record),
        "places": [
            {
                "key": place.key, "label": plain.text(place.label), "machine": plain.text(place.machine),
                "backend": plain.text(place.backend), "commits": [number[commit] for commit in place.files],
                "before": [number[place.before[commit]] if commit in place.before else -1 for commit in place.files],
            }
            for place in found
        ],
        "confidence": changes.CONFIDENCE, "relevant": changes.RELEVANT, "tooWide": changes.TOO_WIDE, "t": _student(),
    }  # fmt: skip


def _commit(record: TrackRecord, commit: str) -> list[Any]:
    """Hash, day, subject, tags."""
    known = record.graph.commits[commit]
    tags = [plain.text(tag, TAG) for tag in known.tags[:TAGS]]
    return [commit[:12], units.day(known.date_s), plain.text(known.subject, SUBJECT), tags]


def cases(record: TrackRecord) -> dict[str, list[Any]]:
    """Columns of the cases by their number in the index."""
    pages = {
        (case.benchmark, tuple(case.params)) for machine in record.history.machines for case in machine.cases
    }
    made: dict[str, list[Any]] = {
        name: [] for name in ("number", "label", "unit", "tokens", "counted", "current", "page")
    }
    for number, (name, version, written) in enumerate(record.index.keys):
        if written is None:
            continue
        params = snapshots.params_of(written)
        benchmark = record.benchmarks.get(name)
        current = benchmark is not None and version in (None, str(benchmark["version"]))
        unit = snapshots.unit_of(name, record.benchmarks)
        label = records.case_label(name, params)
        fits = benchmark is not None and len(benchmark["param_names"]) == len(params)
        made["number"].append(number)
        made["label"].append(
            plain.text(label, LABEL) + ("" if current else _which(benchmark is None, version))
        )
        made["unit"].append(plain.text(unit))
        made["tokens"].append(changes.tokens_at(params, unit, benchmark) if benchmark and fits else None)
        made["counted"].append(int(snapshots.counted(name, record.benchmarks)))
        made["current"].append(int(current))
        made["page"].append(case_page(name, params) if (name, params) in pages else "")
    return made


def _which(gone: bool, version: str | None) -> str:
    return " (no longer a benchmark)" if gone else f" (version {plain.text(str(version), 12)})"


def _student() -> list[float]:
    """Quantiles of Student's t at `changes.CONFIDENCE`, two-sided, for 1/freedom of 0, 1/STEPS, … 1."""
    freedom = [math.inf, *(STEPS / step for step in range(1, STEPS + 1))]
    return [round(stats.student_reach(value, changes.CONFIDENCE), 5) for value in freedom]
