"""A history for a terminal, and as JSON. Nothing is computed or decided here."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from mlx_velocity import history_report, units
from mlx_velocity.history_report import CaseHistory, HistoryReport, MachineHistory, Shift
from mlx_velocity.report import sparkline, text
from mlx_velocity.run_report import Commit
from mlx_velocity.series import Gap

STYLES = {
    "open": "red",
    "unconfirmed": "yellow",
    "accepted": "dim",
    "improved": "green",
    "fixed": "dim",
}
"""State → colour, in the order in which a reader wants to see them."""
WIDE = 120
"""Signs of a line from which on a table is easy to read."""
WIDTH, NARROW, WIDEST = 16, 12, 64
"""Signs of a history in a table, on a narrow screen, and by itself."""
LISTED = 5
"""Commits, gaps and files that are named; the others are counted."""
SMALLEST = 0.0005
"""A smaller share would read as `0.0 %`."""
DEFAULT_TRACK = "releases"
"""Needs no --track in a checkout of this suite."""


def document(told: HistoryReport) -> str:
    """The JSON of `history --json`, described by schemas/history-output.schema.json; ASCII."""
    data = {
        "format": history_report.FORMAT,
        **dataclasses.asdict(told),
        "exit_code": told.exit_code,
    }
    return json.dumps(_finite(data), indent=1, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def text_of(told: HistoryReport, signs: str, rows: int, width: int) -> Iterator[RenderableType]:
    """The history for a terminal: one case in full, or at most so many cases with changes a machine."""
    labels = {case.label for machine in told.machines for case in machine.cases}
    for number, machine in enumerate(told.machines):
        if not machine.cases and (told.case or not machine.unread):
            continue
        if number:
            yield ""
        yield heading(machine)
        if told.case and len(labels) == 1:
            for case in machine.cases:
                yield ""
                yield from _full(told, machine, case, signs)
        else:
            yield from _overview(told, machine, signs, rows, width)
        yield from map(_warned, remarks(machine))
    yield from advice(told)


# All cases of a machine


def heading(machine: MachineHistory) -> str:
    """Which machine, and how much of the branch it has measured."""
    fields = machine.description
    what = [fields.get("cpu", ""), fields.get("gpu", ""), f"{fields['num_cpu']} cores" if fields.get("num_cpu") else "",
            fields.get("os", "")]  # fmt: skip
    said = ", ".join(filter(None, what)) or "no machine.json"
    span = f", {machine.first.date} … {machine.last.date}" if machine.first and machine.last else ""
    return f"[bold]{_safe(machine.name)}[/] ({_safe(said)}): {units.count(machine.commits, 'commit')} measured{span}."


def _overview(
    told: HistoryReport, machine: MachineHistory, signs: str, rows: int, width: int
) -> Iterator[RenderableType]:
    present = [case for case in machine.cases if case.current]
    changed = sorted((case for case in present if case.shown), key=_urgency)
    unchanged = [case for case in present if not case.shown]
    listed = changed + unchanged if told.case else changed[:rows]
    if listed:
        environments = len({case.environment for case in present}) > 1
        if width >= WIDE:
            yield _table(listed, environments, signs)
        else:
            yield ""
            for case in listed:
                yield from _narrow(case, environments, signs)
            yield ""
    left_out = len(changed) - len(listed)
    if left_out > 0:
        yield f"[bold]and {units.count(left_out, 'more case')} with changes[/]: name them, as in: mlx-velocity history decode"
    counts: Counter[str] = Counter(shift.state for case in present for shift in case.shown)
    said = [f"[{style}]{counts[state]:,} {state}[/]" for state, style in STYLES.items() if counts[state]]
    flat = "case without a change" if len(unchanged) == 1 else "cases without a change"
    since = f" since {_safe(told.since)}" if told.since else ""
    yield (
        f"{units.count(sum(counts.values()), 'change')}{since}"
        + (f": {', '.join(said)}" if said else "")
        + f"; {len(unchanged):,} {flat}."
    )


def _urgency(case: CaseHistory) -> tuple[int, float]:
    worst = _foremost(case)
    return list(STYLES).index(worst.state), -abs(math.log(worst.ratio))


def _foremost(case: CaseHistory) -> Shift:
    """The change of a case that a reader wants to see first."""
    order = list(STYLES)
    return min(case.shown, key=lambda shift: (order.index(shift.state), -abs(math.log(shift.ratio))))


def _table(listed: Sequence[CaseHistory], environments: bool, signs: str) -> RenderableType:
    made = text.table(
        ("case", "left"), ("history", "left"), ("now", "right"), ("change (interval)", "left"),
        ("came with", "left"), ("state", "left"),
    )  # fmt: skip
    made.collapse_padding = True
    for column in (*made.columns[1:3], made.columns[5]):
        column.no_wrap = True
    for case in listed:
        # A space that is not in the name: there it may be folded.
        name = _label(case, environments).replace("(", " (", 1)
        drawn = sparkline.line(case, WIDTH, signs)
        if not case.shown:
            made.add_row(Text(name, "dim"), drawn, Text(_now(case), "dim"), "", "", Text("no change", "dim"))
            continue
        shift = _foremost(case)
        style = STYLES[shift.state]
        more = f"\nand {len(case.shown) - 1} more" if len(case.shown) > 1 else ""
        near = f", 1 of {shift.suspects:,}" if shift.suspects > 1 else ""
        made.add_row(
            Text(name), drawn, Text(_now(case)), Text(change(case, shift) + more, style),
            Text(f"{name_of(shift.commit)}{near}\n{shift.commit.date}"), Text(f"{shift.state}\n{shift.id}", style),
        )  # fmt: skip
    return made


def _narrow(case: CaseHistory, environments: bool, signs: str) -> Iterator[RenderableType]:
    """A case on two lines of 80 signs."""
    name, now = _label(case, environments), "  ".join(_now(case).splitlines())
    drawn = Text("  ").append_text(sparkline.line(case, NARROW, signs)).append(f"  {now}")
    if not case.shown:
        yield Text(f"no change  {name}", "dim")
        yield drawn
        return
    shift = _foremost(case)
    style = STYLES[shift.state]
    more = f" +{len(case.shown) - 1}" if len(case.shown) > 1 else ""
    yield Text(shift.state, style).append(f" {shift.id} ", "bold").append(name, "not bold")
    yield drawn.append(f"  {change(case, shift)}{more}", style).append(f"  {name_of(shift.commit)}")


def _label(case: CaseHistory, environments: bool) -> str:
    return text.clean(case.label) + (f" [{text.clean(case.environment)}]" if environments else "")


def _now(case: CaseHistory) -> str:
    if case.now is None:
        return "–"
    return "\n".join(filter(None, [units.quantity(case.now, case.unit), rate(case, case.now)]))


# One case


def _full(
    told: HistoryReport, machine: MachineHistory, case: CaseHistory, signs: str
) -> Iterator[RenderableType]:
    old = "" if case.current else ", [yellow]which the suite does not have any more[/]"
    yield f"[bold]{_safe(case.label)}[/], version {_safe(case.version)}{old}, in {_safe(case.environment)}"
    if case.now is not None:
        launches = sorted(point.launches for point in case.points)
        yield f"  now {'; '.join(_now(case).splitlines())}; {units.count(len(case.points), 'point')} of " + (
            f"{launches[0]} launch each"
            if launches[-1] == 1
            else f"{launches[0]} to {launches[-1]} launches"
            if launches[0] < launches[-1]
            else f"{launches[0]} launches each"
        )
        shown = [point.value for point in case.points[case.first_shown :]]
        drawn = sparkline.line(case, WIDEST, signs)
        if len(shown) > 1:
            ends = f"  {units.quantity(min(shown), case.unit)} … {units.quantity(max(shown), case.unit)}"
            yield Text("  ").append_text(drawn).append(ends, "dim")
    if len(case.points) == 1:
        yield "  One point says nothing about changes: measure more commits: mlx-velocity run"
    elif not case.shown:
        yield "  No change" + (f" since {_safe(told.since)}." if told.since else ".")
    for shift in case.shown:
        yield ""
        yield from _shift_in_full(told, case, shift)
    missing = list(gaps(case.gaps))
    for line in [*(border(case, index) for index in range(len(case.borders))), *missing, *disturbed(case)]:
        yield f"  [dim]{_safe(line)}[/]"


def _shift_in_full(told: HistoryReport, case: CaseHistory, shift: Shift) -> Iterator[str]:
    style = STYLES[shift.state]
    levels = " → ".join(units.quantity(value, case.unit) for value in (shift.before, shift.after))
    rates = " → ".join(filter(None, [rate(case, shift.before), rate(case, shift.after)]))
    yield (
        f"  [{style}]{shift.state}[/] [bold]{shift.id}[/]: [{style}]{change(case, shift)}[/], {levels}"
        + (f", {rates}" if rates else "")
    )
    yield f"    {_safe(described(shift.commit))}"
    for line in explained(shift):
        yield f"    {_safe(line)}"
    for command in commands(told, case, shift):
        yield f"    {_safe(command)}"


def explained(shift: Shift) -> Iterator[str]:
    """What is known of a change beside its size: where it may lie, what else changed, and why its state is so."""
    if shift.suspects > 1:
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


def commands(told: HistoryReport, case: CaseHistory, shift: Shift) -> Iterator[str]:
    """What a reader may do about a change, each with the command that does it."""
    track = [] if told.track == DEFAULT_TRACK else ["--track", told.track]
    case_pattern = f"^{pattern(case.label)}$"
    if shift.state == "unconfirmed":
        yield f"confirm it: {_command('history', case_pattern, '--confirm', *track)}"
    elif shift.suspects > 1:
        ends = (name_of(shift.good), name_of(shift.bad))
        yield f"find it: {_command('bisect', *ends, '--case', case.label, *track)}"
    elif shift.state in ("open", "improved"):
        ends = (name_of(shift.good), name_of(shift.bad))
        yield f"see it again: {_command('compare', *ends, '--bench', case_pattern, *track)}"
    if shift.state == "open":
        yield f'accept it: {_command("history", "accept", shift.id, *track)} --because "…"'


def pattern(label: str) -> str:
    """A regular expression for a label, to be read: a dot for whatever means something else there."""
    return "".join("." if sign in r"\^$*+?{}[]|()'`" else sign for sign in text.clean(label))


def _command(*words: str) -> str:
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
    for point in case.points:
        if point.disturbed:
            by_reason.setdefault(point.disturbed, []).append(point.commit[:8])
    for reason, commits in by_reason.items():
        more = f" and {len(commits) - LISTED:,} more" if len(commits) > LISTED else ""
        yield f"{units.count(len(commits), 'point')} disturbed, {reason}: {', '.join(commits[:LISTED])}{more}"


# What is said in both


def change(case: CaseHistory, shift: Shift) -> str:
    """`+8.9 % (+7.1…+10.7)`; without an interval where the numbers are exact, in their unit where that says more."""
    size = units.percent_change(shift.ratio)
    if abs(shift.ratio - 1) < SMALLEST:
        step = shift.after - shift.before
        return f"{'+' if step > 0 else '−'}{units.quantity(abs(step), case.unit)}"
    if not (math.isfinite(shift.low) and math.isfinite(shift.high)) or shift.low == shift.high:
        return size
    low, high = (units.percent_change(end).removesuffix(" %") for end in (shift.low, shift.high))
    return f"{size} ({low}…{high})"


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


def _warned(remark: tuple[str, str]) -> str:
    word, rest = remark
    return (
        f"[yellow]{word}[/] {_safe(rest)}" if word != "no longer found" else f"[dim]{word}: {_safe(rest)}[/]"
    )


def advice(told: HistoryReport) -> Iterator[str]:
    """What to do next, where there is something."""
    states = {shift.state for _, shift in told.shifts()}
    full = bool(told.case) and len({case.label for item in told.machines for case in item.cases}) == 1
    said = []
    if states and not full:
        said.append("A case in full, with the commits that may be guilty: mlx-velocity history CASE.")
    if "unconfirmed" in states and not full:
        said.append(
            "What stands on one point is unconfirmed until more is measured: mlx-velocity history --confirm."
        )
    if "open" in states and not full:
        said.append('Stop an alarm with a reason: mlx-velocity history accept ID --because "…".')
    if said:
        yield ""
        yield " ".join(said)


def _safe(words: str) -> str:
    return escape(text.clean(words))
