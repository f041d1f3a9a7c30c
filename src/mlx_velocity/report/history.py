"""A history for a terminal, and as JSON. Nothing is computed or decided here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from mlx_velocity import history_report, units
from mlx_velocity.history_report import CaseHistory, HistoryReport, MachineHistory, Shift
from mlx_velocity.points import Rows
from mlx_velocity.report import history_words as words
from mlx_velocity.report import sparkline, text

STYLES = {
    "open": "red",
    "unconfirmed": "yellow",
    "accepted": "dim",
    "improved": "green",
    "fixed": "dim",
}
"""State → colour, in the order in which a reader wants to see them."""
COMPARED = {"regressed": "red", "broken": "red", "improved": "green", "mended": "green", "also": "dim"}
"""What comparisons found → colour."""
OUTAGES = {"failing": "red", "never worked": "yellow", "working": "green", "also": "dim"}
"""What is said of cases that fail → colour."""
WIDE = 120
"""Signs of a line from which on a table is easy to read."""
WIDTH, NARROW, WIDEST = 16, 12, 64
"""Signs of a history in a table, on a narrow screen, and by itself."""


def document(told: HistoryReport) -> str:
    """The JSON of `history --json`, described by schemas/history-output.schema.json; ASCII."""
    data = {
        "format": history_report.FORMAT,
        **_plain(told),
        "exit_code": told.exit_code,
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _plain(data: Any) -> Any:
    """What JSON can hold: records as objects, and null for what is no finite number."""
    if isinstance(data, (list, tuple, Rows)):
        return [_plain(value) for value in data]
    if dataclasses.is_dataclass(data):
        return {item.name: _plain(getattr(data, item.name)) for item in dataclasses.fields(data)}
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return None if isinstance(data, float) and not math.isfinite(data) else data


def text_of(
    told: HistoryReport, signs: str, rows: int, width: int, repo: str | None = None
) -> Iterator[RenderableType]:
    """The history for a terminal: one case in full, or at most so many cases with changes a machine.

    `repo` stands in the commands, where it was named.
    """
    for number, machine in enumerate(told.machines):
        if told.case and not machine.cases:
            continue
        if number:
            yield ""
        yield heading(machine)
        if told.one_case:
            for case in machine.cases:
                yield ""
                yield from _full(told, case, signs, repo)
        else:
            yield from _overview(told, machine, signs, rows, width, repo)
            yield from _compared(machine)
        yield from map(_outage, words.outages(machine))
        yield from map(_warned, words.remarks(machine))
    yield from advice(told, repo)


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
    told: HistoryReport, machine: MachineHistory, signs: str, rows: int, width: int, repo: str | None
) -> Iterator[RenderableType]:
    if not machine.cases:
        yield "No case to show."
        return
    present = [case for case in machine.cases if case.current]
    changed = sorted((case for case in present if case.shown), key=_urgency)
    unchanged = [case for case in present if not case.shown]
    elsewhere = sum(bool(case.compared) for case in unchanged)
    listed = changed + unchanged if told.case else changed[:rows]
    if listed:
        environments = machine.several_environments
        if width >= WIDE:
            yield _table(listed, environments, signs)
        else:
            yield ""
            for case in listed:
                yield from _narrow(case, environments, signs)
            yield ""
    left_out = len(changed) - len(listed)
    if left_out > 0:
        yield f"[bold]and {units.count(left_out, 'more case')} with changes[/]: name them, as in:"
        yield _whole(words.command("history", "decode", *words.where(told, repo)))
    counts: Counter[str] = Counter(shift.state for case in present for shift in case.shown)
    said = [f"[{style}]{counts[state]:,} {state}[/]" for state, style in STYLES.items() if counts[state]]
    flat = len(unchanged) - elsewhere
    told_of = f"; {units.count(elsewhere, 'case')} that only comparisons found changed" if elsewhere else ""
    since = f" since {_safe(told.since)}" if told.since else ""
    yield (
        f"{units.count(sum(counts.values()), 'change')}{since}"
        + (f": {', '.join(said)}" if said else "")
        + f"; {flat:,} {'case' if flat == 1 else 'cases'} without a change{told_of}."
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
        made.add_row(
            Text(name), drawn, Text(_now(case)), Text(words.change(case, shift) + more, style),
            Text(f"{words.name_of(shift.named)}{words.near(shift)}\n{shift.named.date}"), Text(f"{shift.state}\n{shift.id}", style),
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
    yield drawn.append(f"  {words.change(case, shift)}{more}", style).append(
        f"  {words.name_of(shift.named)}"
    )


def _label(case: CaseHistory, environments: bool) -> str:
    return text.clean(case.label) + (f" [{text.clean(case.environment)}]" if environments else "")


def _now(case: CaseHistory) -> str:
    if case.now is None:
        return "–"
    return "\n".join(filter(None, [units.quantity(case.now, case.unit), words.rate(case, case.now)]))


# One case


def _full(told: HistoryReport, case: CaseHistory, signs: str, repo: str | None) -> Iterator[RenderableType]:
    old = "" if case.current else ", [yellow]which the suite does not have any more[/]"
    yield f"[bold]{_safe(case.label)}[/], version {_safe(case.version)}{old}, in {_safe(case.environment)}"
    if case.now is not None:
        launches = sorted(case.points.launches.tolist())
        yield f"  now {'; '.join(_now(case).splitlines())}; {units.count(len(case.points), 'point')} of " + (
            f"{launches[0]} launch each"
            if launches[-1] == 1
            else f"{launches[0]} to {launches[-1]} launches"
            if launches[0] < launches[-1]
            else f"{launches[0]} launches each"
        )
        shown = case.points.value[case.first_shown :].tolist()
        drawn = sparkline.line(case, WIDEST, signs)
        if len(shown) > 1:
            ends = f"  {units.quantity(min(shown), case.unit)} … {units.quantity(max(shown), case.unit)}"
            yield Text("  ").append_text(drawn).append(ends, "dim")
    if len(case.points) == 1:
        yield "  One point says nothing about changes: measure more commits: mlx-velocity run"
    elif not case.shown:
        series = " in the series" if case.compared else ""
        yield f"  No change{series}" + (f" since {_safe(told.since)}." if told.since else ".")
    for shift in case.shown:
        yield ""
        yield from _shift_in_full(told, case, shift, repo)
    if case.side_by_side:
        yield "  Side by side:"
    for compared in words.side_by_side(case):
        yield _indented(_safe(compared), 4)
    missing = list(words.gaps(case.gaps))
    for line in [
        *(words.border(case, index) for index in range(len(case.borders))),
        *missing,
        *words.disturbed(case),
    ]:
        yield _indented(f"[dim]{_safe(line)}[/]", 2)


def _shift_in_full(
    told: HistoryReport, case: CaseHistory, shift: Shift, repo: str | None
) -> Iterator[RenderableType]:
    style = STYLES[shift.state]
    levels = " → ".join(units.quantity(value, case.unit) for value in (shift.before, shift.after))
    rates = " → ".join(filter(None, [words.rate(case, shift.before), words.rate(case, shift.after)]))
    first = (
        f"[{style}]{shift.state}[/] [bold]{shift.id}[/]: [{style}]{words.change(case, shift)}[/], {levels}"
    )
    yield _indented(first + (f", {rates}" if rates else ""), 2)
    if not shift.blamed:
        yield _indented(_safe(words.described(shift.commit)), 4)
    for line in words.explained(shift):
        yield _indented(_safe(line), 4 + len(line) - len(line.lstrip()))
    for command in words.commands(told, case, shift, repo):
        yield _whole(command)


def _indented(said: str, by: int) -> Padding:
    return Padding(said, (0, 0, 0, by), expand=False)


def _compared(machine: MachineHistory) -> Iterator[RenderableType]:
    found = list(words.compared(machine))
    if found:
        yield "Side by side, by stored comparisons:"
    for word, rest in found:
        yield _indented(f"[{COMPARED[word]}]{word}[/] {_safe(rest)}", 2)


def _outage(said: tuple[str, str]) -> str:
    word, rest = said
    return f"[{OUTAGES[word]}]{word}[/] {_safe(rest)}"


def _warned(remark: tuple[str, str]) -> str:
    word, rest = remark
    return (
        f"[yellow]{word}[/] {_safe(rest)}" if word != "no longer found" else f"[dim]{word}: {_safe(rest)}[/]"
    )


def advice(told: HistoryReport, repo: str | None = None) -> Iterator[RenderableType]:
    """What to do next, where there is something: each with its command on a line of its own."""
    if told.one_case:
        return
    states = {shift.state for _, shift in told.shifts()}
    where = words.where(told, repo)
    said = []
    if states:
        what = "A case in full, with the commits that may be guilty:"
        said.append((what, words.command("history", "CASE", *where)))
    if "unconfirmed" in states:
        what = "What stands on too few points is unconfirmed until more is measured:"
        said.append((what, words.command("history", "--confirm", *where)))
    if "open" in states:
        accept = words.command("history", "accept", "ID", *where)
        said.append(("Stop an alarm with a reason:", f'{accept} --because "…"'))
    if said:
        yield ""
    for what, command in said:
        yield what
        yield _whole(command)


def _whole(command: str) -> Text:
    """So that it can be copied: the terminal breaks it."""
    return Text(f"    {text.clean(command)}", no_wrap=True, overflow="ignore")


def _safe(said: str) -> str:
    return escape(text.clean(said))
