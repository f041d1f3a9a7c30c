"""What changed: the newest change points of all machines, the largest first. The first page of a track, and its feed."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mlx_velocity import units
from mlx_velocity.history_report import STATES, CaseHistory, MachineHistory, Shift
from mlx_velocity.report import history_words as words
from mlx_velocity.site import grown, plain
from mlx_velocity.site.pages import shifts
from mlx_velocity.site.record import TrackRecord, case_page, commit_page
from mlx_velocity.site.writer import Writer

LISTED = 300
"""Changes on the page: the newest. The pages of the cases hold all."""
FED = 50
"""Changes in the feed: the newest."""
FEED = "changes.atom"


def write(record: TrackRecord, writer: Writer) -> None:
    """The page and the feed."""
    told = record.history
    found = list(told.shifts())
    newest = sorted(found, key=lambda pair: -record.line.place[pair[1].commit.hash])[:LISTED]
    listed = {(case.machine, shift.id) for case, shift in newest}
    profiled = grown.stored(record.index.root)
    rows = [
        shifts.row(told, case, shift, grown.said(profiled, record.benchmarks, case, shift))
        for case, shift in found
        if (case.machine, shift.id) in listed
    ]
    counts: Counter[str] = Counter(shift.state for _, shift in found)
    summary = [(state, counts[state]) for state in STATES if counts[state]]
    machines = [_machine(machine) for machine in told.machines]
    remarks = [(machine.name, list(words.remarks(machine))) for machine in told.machines]
    held = {
        "outages": [row for machine in told.machines for row in _outages(machine)],
        "compared": [row for machine in told.machines for row in _compared(machine)],
        "more_compared": sum(max(len(machine.compared) - LISTED, 0) for machine in told.machines),
        "rows": rows, "all": len(found), "summary": summary, "machines": machines, "remarks": remarks,
        "states": [state for state in STATES if counts[state]], "branch": told.branch,
        "cpu": any("backendcpu" in case.environment for machine in told.machines for case in machine.cases),
    }  # fmt: skip
    writer.page("index.html", "changed.html", held, lambda: held)
    entries = [_entry(record, case, shift) for case, shift in newest[:FED]]
    updated = _moment(record, record.line.commits[-1].hash) if record.line.commits else ""
    feed = {"entries": entries, "updated": updated, "id": _urn(record, "feed")}
    writer.page(FEED, "changes.atom", feed, lambda: feed)


def _machine(machine: Any) -> dict[str, Any]:
    return {
        "name": machine.name, "commits": machine.commits, "cases": sum(case.current for case in machine.cases),
        "span": f"{machine.first.date} … {machine.last.date}" if machine.first and machine.last else "",
    }  # fmt: skip


def _compared(machine: MachineHistory) -> Iterator[dict[str, Any]]:
    for case, item in machine.compared[:LISTED]:
        yield {
            "machine": machine.name, "environment": case.environment if machine.several_environments else "",
            "verdict": item.said.word, "label": case.label, "page": case_page(case.benchmark, case.params),
            "said": "; ".join(filter(None, [words.size(item), words.sides(item)])) + words.doubts(item),
        }  # fmt: skip


def _outages(machine: MachineHistory) -> Iterator[dict[str, Any]]:
    pages = {case.label: case_page(case.benchmark, case.params) for case in machine.cases if case.current}
    for item in machine.outages:
        before, behind = words.when(item)
        yield {
            "machine": machine.name, "environment": item.environment if machine.several_environments else "", "kind": item.kind,
            "before": before, "behind": behind, "reason": item.reason, "date": item.commit.date,
            "name": words.name_of(item.commit), "commit_page": commit_page(item.commit.hash),
            "cases": [(label, pages[label]) for label in item.cases],
        }  # fmt: skip


def _entry(record: TrackRecord, case: CaseHistory, shift: Shift) -> dict[str, Any]:
    """An entry of the feed. Its name is the change's, so that a reader sees each change once."""
    return {
        "id": _urn(record, shift.id),
        "title": f"{case.label} {words.change(case, shift)} on {case.machine} ({shift.state})",
        "updated": _moment(record, shift.commit.hash),
        "page": f"{case_page(case.benchmark, case.params)}#{shift.id}",
        "author": case.machine,
        "lines": [
            f"{units.quantity(shift.before, case.unit)} → {units.quantity(shift.after, case.unit)}",
            f"came with {words.described(shift.named)}",
            *words.explained(shift),
        ],
    }


def _urn(record: TrackRecord, name: str) -> str:
    address = plain.link(record.track.conf.project_url)
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{address}#{record.track.name}/{name}").urn


def _moment(record: TrackRecord, commit: str) -> str:
    return (
        units.moment(record.line.commits[record.line.place[commit]].date_s)
        .replace(" UTC", "Z")
        .replace(" ", "T")
    )
