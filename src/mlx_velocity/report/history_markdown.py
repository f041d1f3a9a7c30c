"""A history as a report that a person sends round: what needs somebody first, the rest folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlx_velocity import units
from mlx_velocity.history_report import CaseHistory, HistoryReport, MachineHistory, Shift
from mlx_velocity.report import history_words as said
from mlx_velocity.report import sparkline
from mlx_velocity.report.history import WIDTH
from mlx_velocity.report.markdown import code, escape, folded, row_of, table_of

SECTIONS = {
    "open": "Regressed, and open",
    "unconfirmed": "Unconfirmed: stands on too few points",
    "improved": "Improved",
    "accepted": "Regressed, and accepted",
    "fixed": "Regressed, and fixed since",
}
"""State → heading, in the order in which a reader wants to see them."""
UNFOLDED = ("open", "unconfirmed", "improved")


def markdown(told: HistoryReport) -> str:
    """The report: a summary, one table a state, then the details of each change and what was left out, folded."""
    shifts = list(told.shifts())
    several = len(told.machines) > 1
    parts = [f"# What changed in track {code(told.track)}", _span(told), _summary(told, shifts)]
    for state, title in SECTIONS.items():
        own = [(case, shift) for case, shift in shifts if shift.state == state]
        if not own:
            continue
        table = _table(own, several)
        if state in UNFOLDED:
            parts += [f"## {title}", table]
        else:
            parts.append(folded(f"{title}: {len(own):,}", table))
    compared = [
        f"- {code(item.name)}: {line}"
        for item in told.machines
        for line in (_of_one_case(item) if told.one_case else _compared(item))
    ]
    if compared:
        parts += ["## Side by side", "\n".join(compared)]
    outages = [
        f"- {code(item.name)}: **{word}** {escape(rest)}"
        for item in told.machines
        for word, rest in said.outages(item)
    ]
    if outages:
        parts += ["## Failing, or working by now", "\n".join(outages)]
    if shifts:
        parts.append(folded("Each change in full", "\n\n".join(_full(told, *pair) for pair in shifts)))
    parts += [
        folded(f"All cases on {escape(item.name)}", _cases(item)) for item in told.machines if item.cases
    ]
    left_out = [
        f"- {code(item.name)}: {escape(word)}: {escape(rest)}"
        for item in told.machines
        for word, rest in said.remarks(item)
    ]
    if left_out:
        parts.append(folded("What was left out", "\n".join(left_out)))
    parts.append(
        "Lower is better for every number but tokens/s. A change is a level that stays; its interval is that of the ratio of the "
        "two levels. Stored runs are not interleaved: `mlx-velocity compare` measures two commits side by side."
    )
    return "\n\n".join(parts) + "\n"


def _of_one_case(machine: MachineHistory) -> Iterator[str]:
    yield from (escape(line) for case in machine.cases for line in said.side_by_side(case))


def _compared(machine: MachineHistory) -> Iterator[str]:
    yield from (f"**{word}** {escape(rest)}" for word, rest in said.compared(machine))


def _span(told: HistoryReport) -> str:
    lines = []
    for item in told.machines:
        fields = [item.description.get(key, "") for key in ("cpu", "gpu", "os")]
        what = ", ".join(escape(field) for field in fields if field)
        span = f", {item.first.date} to {item.last.date}" if item.first and item.last else ""
        lines.append(
            f"- {code(item.name)}{f' ({what})' if what else ''}: {units.count(item.commits, 'commit')} of branch "
            f"{code(told.branch)} measured{span}, {units.count(sum(case.current for case in item.cases), 'case')}"
        )
    asked = [
        f"since {code(told.since)}" if told.since else "",
        f"cases that match {code(told.case)}" if told.case else "",
    ]
    head = f"Changes {', '.join(filter(None, asked))}.\n\n" if any(asked) else ""
    return head + "\n".join(lines)


def _summary(told: HistoryReport, shifts: Sequence[tuple[CaseHistory, Shift]]) -> str:
    if not shifts:
        if any(item.compared for item in told.machines):
            return "**No series changed for good; comparisons found changes.**"
        outages = any(item.outages for item in told.machines)
        return "**No number changed for good.**" if outages else "**Nothing changed.**"
    lines = []
    for state, title in SECTIONS.items():
        own = [(case, shift) for case, shift in shifts if shift.state == state]
        if own:
            case, shift = own[0]
            largest = f"{escape(said.change(case, shift))} in {code(case.label)} with {code(said.name_of(shift.named))}"
            which = "" if len(own) == 1 else "the largest "
            lines.append(f"- **{len(own):,}** {title[0].lower()}{title[1:]}: {which}{largest}")
    return "\n".join(lines)


def _table(shifts: Sequence[tuple[CaseHistory, Shift]], several: bool) -> str:
    machine = [("machine", "left")] if several else []
    headings = [
        ("case", "left"), *machine, ("change (interval)", "right"), ("level", "right"), ("tokens/s", "right"),
        ("came with", "left"), ("date", "left"), ("id", "left"),
    ]  # fmt: skip
    rows = []
    for case, shift in shifts:
        values = (shift.before, shift.after)
        levels = " → ".join(units.quantity(value, case.unit) for value in values)
        rates = (
            " → ".join(said.rate(case, value).removesuffix(" tokens/s") for value in values)
            if case.tokens
            else ""
        )
        rows.append(
            row_of(
                [
                    code(case.label), *([code(case.machine)] if several else []), escape(said.change(case, shift)), escape(levels),
                    rates, _with(shift), shift.named.date, code(shift.id),
                ]
            )
        )  # fmt: skip
    return table_of(headings, rows)


def _with(shift: Shift) -> str:
    name = code(said.name_of(shift.named))
    more = f", or one of {shift.suspects - 1:,} near it" if shift.suspects > 1 else ""
    return f"{name} {escape(shift.named.subject[:80])}{said.near(shift) if shift.blamed else more}"


def _full(told: HistoryReport, case: CaseHistory, shift: Shift) -> str:
    lines = [
        f"### {code(shift.id)}: {escape(said.change(case, shift))} in {code(case.label)}",
        f"{shift.state} on {code(case.machine)}, with {escape(said.described(shift.named))}",
    ]
    known = [f"- {escape(line)}" for line in map(str.strip, said.explained(shift))]
    todo = [
        f"- {before}: {code(command, 400)}"
        for before, _, command in map(_parted, said.commands(told, case, shift))
    ]
    return "\n\n".join([*lines, "\n".join([*known, *todo])])


def _parted(command: str) -> tuple[str, str, str]:
    return command.partition(": ")


def _cases(machine: MachineHistory) -> str:
    rows = [row_of(list(_case(case))) for case in machine.cases if case.current]
    headings = [("case", "left"), ("history", "left"), ("now", "right"), ("tokens/s", "right"), ("changes", "right"),
                ("without a number", "left")]  # fmt: skip
    return table_of(headings, rows)


def _case(case: CaseHistory) -> Iterator[str]:
    yield code(case.label)
    yield sparkline.line(case, WIDTH).plain
    yield escape(units.quantity(case.now, case.unit)) if case.now is not None else "–"
    yield said.rate(case, case.now).removesuffix(" tokens/s") if case.now is not None else ""
    yield f"{len(case.shown):,}" if case.shown else ""
    yield escape("; ".join(said.gaps(case.gaps))[:120])
