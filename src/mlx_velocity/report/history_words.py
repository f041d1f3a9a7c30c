"""What is said of a history in words, on a terminal as in a report. Nothing is computed or decided here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from mlx_velocity import units
from mlx_velocity.history_report import (
    Blamed,
    CaseHistory,
    HistoryReport,
    MachineHistory,
    Outage,
    Shift,
    SideBySide,
)
from mlx_velocity.points import Gap
from mlx_velocity.report import text
from mlx_velocity.run_report import Commit

LISTED = 5
"""Commits, gaps and files that are named; the others are counted."""
NAMED = 3
"""Cases that fail alike and are named; the others are counted."""
SMALLEST = 0.0005
"""A smaller share would read as `0.0 %`."""
DEFAULT_TRACK = "releases"
"""Needs no --track in a checkout of this suite."""


def explained(shift: Shift) -> Iterator[str]:
    """What is known of a change beside its size: where it may lie, what else changed, and why its state is so."""
    if shift.blamed:
        yield from map(blamed, shift.blamed)
    elif shift.suspects > 1:
        yield f"one of the {shift.suspects:,} commits behind {described(shift.good)} up to {described(shift.bad)}:"
        yield from (f"  {described(commit)}" for commit in shift.suspected[:LISTED])
        if shift.suspects > LISTED:
            yield f"  and {shift.suspects - LISTED:,} more"
    else:
        yield f"the commit before it, {described(shift.good)}, is of the old level"
    if shift.packages:
        more = f" and {len(shift.packages) - LISTED:,} more" if len(shift.packages) > LISTED else ""
        yield f"packages: {', '.join(shift.packages[:LISTED])}{more}"
    if shift.reason:
        yield f"because: {shift.reason}"
    if shift.fixed_by:
        yield f"fixed by {described(shift.fixed_by)}"
    if shift.note:
        yield shift.note


def commands(told: HistoryReport, case: CaseHistory, shift: Shift, repo: str | None = None) -> Iterator[str]:
    """What a reader may do about a change, each with the command that does it."""
    track = where(told, repo)
    case_pattern = f"^{pattern(case.label)}$"
    if shift.state == "unconfirmed":
        yield f"confirm it: {command('history', case_pattern, '--confirm', *track)}"
    elif shift.suspects > 1 and not shift.blamed:
        yield f"find it: {command('bisect', name_of(shift.good), name_of(shift.bad), '--case', case.label, *track)}"
    elif shift.blamed or shift.state in ("open", "improved"):
        base, head = (shift.blamed[0].before, shift.named) if shift.blamed else (shift.good, shift.bad)
        names = (name_of(base), name_of(head))
        yield f"see it again: {command('compare', *names, '--bench', case_pattern, *track)}"
    if shift.state == "open":
        yield f'accept it: {command("history", "accept", shift.id, *track)} --because "…"'


def blamed(item: Blamed) -> str:
    """Whom a bisection names, and how sure that is."""
    group = f" or one of the {item.together - 1:,} before it" if item.together > 1 else ""
    said = f"{described(item.commit)}{group} by bisect ({item.date}): probability {units.chance(item.probability)}"
    if item.ratio is None:
        return said
    return f"{said}, {units.change(item.ratio, item.low, item.high)} over the commit before it"


def near(shift: Shift) -> str:
    """What stands behind the name of a change's commit: how many others it may be."""
    if shift.blamed:
        return " by bisect"
    return f", 1 of {shift.suspects:,}" if shift.suspects > 1 else ""


def where(told: HistoryReport, repo: str | None) -> list[str]:
    """The options with which another command finds this history; `repo` is the one that was named, for its own machine."""
    track = [] if told.track == DEFAULT_TRACK else ["--track", told.track]
    return track + (["--repo", repo] if repo else [])


def pattern(label: str) -> str:
    """A regular expression for a label, to be read: a dot for whatever means something else there."""
    return "".join("." if sign in r"\^$*+?{}[]|()'`" else sign for sign in text.clean(label))


def command(*words: str) -> str:
    """What a reader types to start the program so."""
    return shlex.join(["mlx-velocity", *(text.clean(word) for word in words)])


def border(case: CaseHistory, number: int) -> str:
    """Where something else than the commit changed."""
    found = case.borders[number]
    return f"at {case.points[found.index].commit[:8]} {found.reason}; levels before and behind it are not compared"


def gaps(found: Sequence[Gap]) -> Iterator[str]:
    """What has no number, by reason."""
    by_reason: dict[str, list[str]] = {}
    for gap in found:
        by_reason.setdefault(gap.reason, []).append(gap.commit[:8])
    for reason, commits in by_reason.items():
        more = f" and {len(commits) - LISTED:,} more" if len(commits) > LISTED else ""
        yield f"{units.count(len(commits), 'commit')} {reason}: {', '.join(commits[:LISTED])}{more}"


def disturbed(case: CaseHistory) -> Iterator[str]:
    """Which points say nothing about their commit, and why."""
    by_reason: dict[str, list[str]] = {}
    for index in case.points.disturbed.nonzero()[0].tolist():
        point = case.points[index]
        by_reason.setdefault(point.disturbed, []).append(point.commit[:8])
    for reason, commits in by_reason.items():
        more = f" and {len(commits) - LISTED:,} more" if len(commits) > LISTED else ""
        yield f"{units.count(len(commits), 'point')} disturbed, {reason}: {', '.join(commits[:LISTED])}{more}"


def change(case: CaseHistory, shift: Shift) -> str:
    """`+8.9 % (+7.1…+10.7)`; without an interval where the numbers are exact, in their unit where that says more."""
    if abs(shift.ratio - 1) < SMALLEST:
        step = shift.after - shift.before
        return f"{'+' if step > 0 else '−'}{units.quantity(abs(step), case.unit)}"
    return units.change(shift.ratio, shift.low, shift.high)


def rate(case: CaseHistory, value: float) -> str:
    """Tokens per second; empty for a case that handles no tokens."""
    return f"{units.rate(units.tokens_per_second(case.tokens, value))} tokens/s" if case.tokens else ""


def name_of(commit: Commit) -> str:
    """What a reader types for a commit."""
    return text.clean(commit.name)


def described(commit: Commit) -> str:
    """A commit in words."""
    name = f"{commit.hash[:8]} ({commit.tags[0]})" if commit.tags else commit.hash[:8]
    return f"{name} {commit.subject} ({commit.date})"


def side_by_side(case: CaseHistory) -> Iterator[str]:
    """What comparisons say of a case, a line each."""
    for item in case.side_by_side[:LISTED]:
        yield f"{sides(item)}: {', '.join(filter(None, [item.said.word, size(item)]))}{doubts(item)}"
    if len(case.side_by_side) > LISTED:
        yield f"and {units.count(len(case.side_by_side) - LISTED, 'older one')}"


def compared(machine: MachineHistory) -> Iterator[tuple[str, str]]:
    """Which cases comparisons found to have changed: a verdict, and the rest of the sentence."""
    found = machine.compared
    for case, item in found[:LISTED]:
        environment = f" [{text.clean(case.environment)}]" if machine.several_environments else ""
        change = f": {said}" if (said := size(item)) else ""
        yield item.said.word, f"{text.clean(case.label)}{environment}{change}; {sides(item)}{doubts(item)}"
    if len(found) > LISTED:
        yield "also", f"{len(found) - LISTED:,} more that comparisons found; --json names all"


def sides(item: SideBySide) -> str:
    """What was compared, and when."""
    return f"{text.clean(item.base)} → {text.clean(item.head)} (measured {item.date})"


def size(item: SideBySide) -> str:
    """The change that a comparison found, and by how many samples; empty where there is none."""
    # What was decided before the end stays decided.
    parts = ["interrupted"] if item.interrupted and item.said.verdict == "inconclusive" else []
    if item.said.ratio is not None:
        parts = [text.change_of(item.said), f"{units.count(item.said.samples, 'sample')} a side", *parts]
    return ", ".join(parts)


def doubts(item: SideBySide) -> str:
    """What else a comparison says of the case."""
    return "".join(f"; {text.clean(warning)}" for warning in item.said.warnings)


def outages(machine: MachineHistory) -> Iterator[tuple[str, str]]:
    """Which cases fail and which ones work by now: a word, and the rest of the sentence."""
    for item in machine.outages[:LISTED]:
        more = f" and {len(item.cases) - NAMED:,} more" if len(item.cases) > NAMED else ""
        environment = f" [{text.clean(item.environment)}]" if machine.several_environments else ""
        named = f"{', '.join(map(text.clean, item.cases[:NAMED]))}{more}{environment}"
        before, behind = when(item)
        at = f"{name_of(item.commit)} ({item.commit.date})"
        yield item.kind, f"{before} {at}{behind}: {text.clean(item.reason)}: {named}"
    if len(machine.outages) > LISTED:
        yield "also", f"{len(machine.outages) - LISTED:,} more that fail otherwise or elsewhere"


def when(item: Outage) -> tuple[str, str]:
    """What stands before the commit of an outage, and what behind it."""
    same, failed = item.commit == item.failed, name_of(item.failed)
    if item.kind == "working":
        return "since", f"; at {failed} ({item.failed.date})"
    if item.kind == "failing":
        return ("at" if same else "since"), "" if same else f", tried up to {failed}"
    return f"where it was tried, {'at' if same else 'from'}", "" if same else f" to {failed}"


def remarks(machine: MachineHistory) -> Iterator[tuple[str, str]]:
    """What was left out of a machine's history: a word and the rest of the sentence."""
    for item in machine.unread[:LISTED]:
        yield "not read", f"{item.file}: {item.reason}"
    if len(machine.unread) > LISTED:
        yield "not read", f"{len(machine.unread) - LISTED:,} more; see all with: mlx-velocity validate"
    if machine.unknown:
        yield (
            "left out",
            f"results of {units.count(machine.unknown, 'commit')} that the repository does not have",
        )
    if machine.elsewhere:
        yield "left out", f"results of {units.count(machine.elsewhere, 'commit')} that are not on the branch"
    if machine.lost:
        ids = ", ".join(machine.lost[:LISTED])
        yield "no longer found", f"{units.count(len(machine.lost), 'recorded regression')}: {ids}"
