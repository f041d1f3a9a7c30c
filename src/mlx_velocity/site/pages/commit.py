"""One commit: everything measured there, against its nearest measured ancestor; and the list of all measured ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from mlx_velocity import records, units
from mlx_velocity import snapshots as condensed
from mlx_velocity.site import places, plain
from mlx_velocity.site.pages import compare, machines, snapshots
from mlx_velocity.site.places import Place
from mlx_velocity.site.record import TrackRecord, commit_page
from mlx_velocity.site.writer import Writer

LISTED = 2000
"""Commits on the list; who has more finds the older ones under Compare."""
NAMED = 12
"""Cases of one failure that are named."""
LONGEST_TEXT = 2000
SENSORS = {
    "load_1m": ("load", "processes that want to run, over the last minute"),
    "others_busy_cores": ("others' cores", "cores that other programs kept busy"),
    "own_busy_cores": ("own cores", "cores that the measurement itself had"),
    "temperature_c": ("°C", "temperature of the processor"),
    "cpu_throttles": ("throttled", "how often the processor slowed down for its heat, per case"),
    "swap_growth_bytes": ("swap grew", "memory that went to disk, per case"),
    "memory_stall_s": ("stalled", "seconds of waiting for memory, per case"),
    "control_s": ("control", "what a fixed computation took"),
}
"""Column and what stands in it."""


def write(record: TrackRecord, writer: Writer) -> None:
    """A page for each measured commit, and the list of them."""
    found = places.of(record.index, record.graph)
    by_commit: dict[str, list[Place]] = {}
    for place in found:
        for commit in place.files:
            by_commit.setdefault(commit, []).append(place)
    options = compare.command_options(record)
    link = plain.link(record.track.conf.show_commit_url)
    for commit, own in by_commit.items():
        told = record.graph.commits[commit]
        key = [
            told.subject, told.tags, told.date_s, options, link,
            [[place.key, place.label, place.marks(commit), place.before.get(commit)] for place in own],
            [_name(record, place.before[commit]) for place in own if commit in place.before],
        ]  # fmt: skip
        writer.page(
            commit_page(commit), "commit.html", key,
            partial(_page, record, commit, own, options, link),
        )  # fmt: skip
    rows = [
        _listed(record, commit, by_commit[commit])
        for commit in reversed(record.graph.commits)
        if commit in by_commit
    ]
    held = {"rows": rows[:LISTED], "left": max(0, len(rows) - LISTED)}
    writer.page("commits/index.html", "commits.html", held, lambda: held)


def _listed(record: TrackRecord, commit: str, own: list[Place]) -> dict[str, Any]:
    told = record.graph.commits[commit]
    return {
        "page": commit_page(commit).partition("/")[2], "short": told.short, "subject": told.subject,
        "tags": [plain.text(tag, snapshots.TAG) for tag in told.tags[: snapshots.TAGS]],
        "day": units.day(told.date_s), "machines": sorted({place.machine for place in own}),
    }  # fmt: skip


def _page(record: TrackRecord, commit: str, own: list[Place], options: str, link: str) -> dict[str, Any]:
    told = record.graph.commits[commit]
    return {
        "commit": commit,
        "short": told.short,
        "subject": told.subject,
        "tags": told.tags,
        "day": units.day(told.date_s),
        "link": plain.link(link + commit) if link else "",
        "options": options,
        "parents": len(record.graph.parents[commit]),
        "own": [_at(record, commit, place) for place in own],
    }


def _at(record: TrackRecord, commit: str, place: Place) -> dict[str, Any]:
    """What one machine says of a commit, the cases' numbers apart."""
    result, readings = place.files[commit]
    head = readings.head if readings else {}
    base = place.before.get(commit)
    sensors, around = (
        condensed.around(readings, next(record.index.columns([readings]))[1]) if readings else ([], [])
    )
    return {
        "key": place.key,
        "label": place.label,
        "machine": place.machine,
        "base": base and _name(record, base),
        "base_page": base and commit_page(base).partition("/")[2],
        "is_parent": base in record.graph.parents[commit],
        "base_subject": base and record.graph.commits[base].subject,
        "environment": head.get("environment"),
        "python": result.head["python"],
        "params": {key: machines.field(key, value) for key, value in result.head["params"].items() if value},
        "launches": _launches(head, sensors, around),
        "sensors": [SENSORS[name] for name in sensors],
        "failures": _failures(head),
        "aside": head.get("set_aside", []),
        "bad_lines": head.get("bad_lines", 0),
        "by_asv": readings is None,
    }


def _launches(
    head: dict[str, Any], sensors: list[str], around: list[list[float | None]]
) -> list[dict[str, Any]]:
    """One row per launch; what is not known of it is empty."""
    known = {item["launch"]: item for item in head.get("launches", [])}
    made = []
    for launch, values in zip(head.get("order", []), around, strict=True):
        item = known.get(launch, {"started": "", "affinity": [], "modules": {}, "startup_s": None})
        made.append(
            {
                "started": str(item["started"])[:19].replace("T", " "),
                "cores": ", ".join(map(str, item["affinity"])) or "free",
                "modules": ", ".join(f"{name} {version}" for name, version in item["modules"].items()),
                "startup": units.seconds(item["startup_s"]) if item["startup_s"] else "",
                "around": [
                    "" if value is None else _sensor(name, value)
                    for name, value in zip(sensors, values, strict=True)
                ],
            }
        )
    return made


def _sensor(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return units.bytes_(value)
    return units.seconds(value) if name.endswith("_s") else f"{value:.3g}"


def _failures(head: dict[str, Any]) -> list[dict[str, Any]]:
    """What was not measured, by outcome and reason, most of them first."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for item in head.get("failures", []):
        label = "the whole environment"
        if item["benchmark"] is not None:
            label = records.case_label(str(item["benchmark"]), tuple(map(str, item["params"] or ())))
        code = "" if item["exit_code"] is None else f" (exit code {item['exit_code']})"
        listed = by_reason.setdefault((str(item["outcome"]), f"{item['reason']}{code}"), [])
        if label not in listed:
            listed.append(label)
    return [
        {"outcome": outcome, "reason": plain.text(reason, LONGEST_TEXT), "labels": labels[:NAMED], "more": len(labels) - NAMED,
         "count": len(labels)}
        for (outcome, reason), labels in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip


def _name(record: TrackRecord, commit: str) -> str:
    told = record.graph.commits[commit]
    return told.tags[0] if told.tags else told.short
