"""Which cases fail at the newest commits or failed at the first ones: a series of numbers says nothing of either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlx_velocity import chronicle
from mlx_velocity.history_report import CaseHistory, Outage

FAILING = ("failed: ", "timeout: ")
"""How the reasons of such gaps begin. What is skipped or incompatible was never meant to work there."""

LONGEST = 200
"""Signs of a reason: what a library prints may be a page."""


def of(cases: Iterable[CaseHistory], line: chronicle.Line) -> list[Outage]:
    """The outages of a machine's present cases within what was asked for, those that last first, then the newest first.

    A case that fails between two numbers is none: it works again, and its gaps say so.
    """
    found: dict[tuple[bool, int, str], list[str]] = {}
    for case in cases:
        if case.current and len(case.points):
            for lasts, place, reason in _ends(case):
                if place >= line.since:
                    found.setdefault((lasts, place, reason), []).append(case.label)
    ordered = sorted(found.items(), key=lambda item: (not item[0][0], -item[0][1], item[0][2]))
    return [
        Outage(lasts, line.commit(line.commits[place].hash), reason, labels)
        for (lasts, place, reason), labels in ordered
    ]


def _ends(case: CaseHistory) -> Iterator[tuple[bool, int, str]]:
    """Of what was tried beyond the last number, and before the first: whether it lasts, where it changed, and why it fails."""
    tried, first, last = case.gaps.tried, int(case.points.place[0]), int(case.points.place[-1])
    # Only the ends: between them a long history may lack thousands.
    before, behind = int(tried.place.searchsorted(first)), int(tried.place.searchsorted(last))
    if behind < len(tried) and (reason := _failing(tried[behind].reason)):
        yield True, int(tried.place[behind]), reason
    if before and (reason := _failing(tried[before - 1].reason)):
        yield False, first, reason


def _failing(reason: str) -> str:
    """How and why it fails, on one line; empty where it was not meant to work."""
    return next(iter(reason.splitlines()), "")[:LONGEST] if reason.startswith(FAILING) else ""
