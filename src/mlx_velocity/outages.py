"""Which cases fail at the newest commits or failed at the first ones: a series of numbers says nothing of either."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mlx_velocity import chronicle
from mlx_velocity.history_report import OUTAGE_KINDS, CaseHistory, Outage, OutageKind
from mlx_velocity.run_report import Commit

FAILING = ("failed", "timeout")
"""How the reasons of such gaps begin. What is skipped or incompatible was never meant to work there."""
LONGEST = 200
"""Signs of a reason: what a library prints may be a page."""

End = tuple[OutageKind, int, int, str]
"""What it is, the places of its commit and of the failure, and the reason."""


def of(cases: Iterable[CaseHistory], line: chronicle.Line) -> list[Outage]:
    """The outages of a machine's present cases: what fails, what never had a number, then what works by now, the newest first.

    Cases with the same commits and a reason that differs in numbers alone are one. What works since before what was
    asked for is left out; what fails is not. A case that failed between two numbers works again, and its gaps say so.
    """
    found: dict[tuple[str, OutageKind, int, int, str], tuple[str, list[str]]] = {}
    for case in cases:
        for kind, place, failed, reason in _ends(case) if case.current else ():
            if kind != "working" or place >= line.since:
                key = (case.environment, kind, place, failed, re.sub(r"\d+", "", reason))
                found.setdefault(key, (reason, []))[1].append(case.label)
    ordered = sorted(
        found.items(), key=lambda item: (OUTAGE_KINDS.index(item[0][1]), -item[0][2], -item[0][3], item[0])
    )
    return [
        Outage(kind, environment, _commit(line, place), _commit(line, failed), reason, labels)
        for (environment, kind, place, failed, _), (reason, labels) in ordered
    ]


def _commit(line: chronicle.Line, place: int) -> Commit:
    return line.commit(line.commits[place].hash)


def _ends(case: CaseHistory) -> list[End]:
    """Of what was tried behind the last number, and before the first, what fails there."""
    tried, points = case.gaps.tried, case.points.place
    # Only the ends: between them a long history may lack thousands.
    before, behind = tried.place.searchsorted(points[[0, -1]]).tolist() if len(points) else (0, 0)
    found: list[End] = []
    if behind < len(tried) and (reason := _failing(tried[-1].reason)):
        begun = next(gap for gap in range(behind, len(tried)) if _failing(tried[gap].reason))
        kind: OutageKind = "failing" if len(points) else "never worked"
        found.append((kind, int(tried.place[begun]), int(tried.place[-1]), reason))
    # A commit that skips it hides no failure before it.
    for gap in reversed(range(before)):
        if reason := _failing(tried[gap].reason):
            found.append(("working", int(points[0]), int(tried.place[gap]), reason))
            break
    return found


def _failing(reason: str) -> str:
    """How and why it fails, on one line; empty where it was not meant to work."""
    outcome, _, why = reason.partition(": ")
    if outcome not in FAILING:
        return ""
    line = f"{outcome}: {next(iter(why.strip().splitlines()), '')}"
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
