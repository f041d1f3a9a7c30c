"""A run across frameworks as a table for a terminal, as Markdown and as JSON. Nothing is computed here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlx_velocity import units
from mlx_velocity.across import FORMAT, REFERENCE, Across, Check, Entry, Row, Standing
from mlx_velocity.report import text
from mlx_velocity.report.markdown import escape as escape_markdown

SIGNS = {"equal": "=", "differs": "≠", "wrong": "✗", "unknown": "–"}
STYLES = {"equal": "green", "differs": "yellow", "wrong": "red", "unknown": "dim"}
ON_CPU = (
    "Measured on a CPU: this says little about GPUs. MLX is made for Apple's GPUs; on Linux its CPU wheels have a "
    "reference BLAS without vector code, and the others have kernels tuned for this CPU."
)
CAPTION = (
    "Median per call with quartiles over turns; × is time over MLX's in the same round, above 1 is slower."
)
MARKED = (
    "≠ stands where a check found a difference that can't be made equal, or was not: read the ratio with it."
)


def terminal(done: Across) -> list[RenderableType]:
    """Tables of times and of checks, and sentences in Rich's markup."""
    parts: list[RenderableType] = [_times(done), _checks(done)]
    parts += [f"[yellow]left out[/] {escape(sentence)}" for sentence in left_out(done)]
    parts += [f"[red]failed[/] {escape(sentence)}" for sentence in failures(done)]
    return [*parts, *map(escape, remarks(done))]


def markdown(done: Across) -> str:
    """The same as Markdown."""
    names = [participant.framework for participant in done.participants]
    head = ["task", "size", *(heading for name in names for heading in _headings(name))]
    rows = [
        [row.task.label, row.task.size, *(cell for name in names for cell in _cells(row, name, done))]
        for row in done.rows
    ]
    checks = [
        [
            f"{SIGNS[check.finding]} {check.name}",
            subjects,
            check.sentence,
            "; ".join(_seen(check)),
        ]
        for check, subjects in _grouped(done.checks)
    ]
    parts = ["### Across frameworks", _pipes(head, rows)]
    parts += ["### What was checked", _pipes(["check", "of", "finding", "seen"], checks)] if checks else []
    sentences = [f"left out: {item}" for item in left_out(done)] + [
        f"failed: {item}" for item in failures(done)
    ]
    parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in [*sentences, *remarks(done)]))
    return "\n\n".join(parts) + "\n"


def document(done: Across) -> str:
    """The same as JSON, described by across.schema.json, with all samples."""
    data = {"format": FORMAT, **dataclasses.asdict(done)}
    return json.dumps(_finite(data), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with null for what is no number: a framework may compute anything."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def left_out(done: Across) -> list[str]:
    """Frameworks that are not there, with the reason and what to do."""
    return [f"{item.framework}: {item.reason}; {item.advice}" for item in done.missing]


def failures(done: Across) -> list[str]:
    """What broke at which task."""
    return [
        f"{entry.framework} at {row.task.label}: {entry.reason}"
        for row in done.rows for entry in row.entries if entry.failed
    ]  # fmt: skip


def remarks(done: Across) -> list[str]:
    """What a reader must know to read the table."""
    said = [CAPTION]
    if any(_marked(row, name, done) for row in done.rows for name in row.standings):
        said.append(MARKED)
    skipped: dict[str, list[str]] = {}
    for row in done.rows:
        for entry in row.entries:
            if entry.reason and not entry.failed:
                skipped.setdefault(f"{entry.framework}: {entry.reason}", []).append(row.task.label)
    said += [f"{reason} ({text.named(labels)})" for reason, labels in skipped.items()]
    if len(done.participants) < 2:
        said.append("Nothing stands beside MLX: install another framework.")
    if done.kind == "cpu":
        said.append(ON_CPU)
    if done.interrupted:
        said.append("Interrupted: what was not measured is missing.")
    said.append(
        f"{units.count(done.launches, 'launch') if done.launches == 1 else f'{done.launches} launches'} of "
        f"{units.count(done.rounds, 'round')} on {done.machine['machine']} ({done.machine['cpu']}"
        + (f", {done.machine['gpu']}" if done.machine.get("gpu") else "")
        + f"), {done.kind}, {units.count(done.threads, 'thread')}, in {units.clock(done.wall_s)}."
    )
    return said


def _times(done: Across) -> Table:
    names = [participant.framework for participant in done.participants]
    headings = [(heading, "right") for name in names for heading in _headings(name)]
    made = text.table(("task", "left"), *headings)
    for column in made.columns[1:]:
        column.no_wrap = True
    for row in done.rows:
        cells = [Text(cell) for name in names for cell in _cells(row, name, done)]
        made.add_row(Text("\n").join([Text(row.task.label), Text(row.task.size, "dim")]), *cells)
    return made


def _headings(name: str) -> list[str]:
    return [name, "±"] if name == REFERENCE else [name, "±", f"× {REFERENCE}"]


def _cells(row: Row, name: str, done: Across) -> list[str]:
    """Time, spread and ratio of one framework at one task; a dash where there is none."""
    place = row.standings.get(name)
    blank = [""] * (len(_headings(name)) - 1)
    if place is None:
        entry = next((item for item in row.entries if item.framework == name), Entry(name))
        return ["failed" if entry.failed else "–", *blank]
    cells = [_value(row, place), _spread(place)]
    if name != REFERENCE:
        mark = " ≠" if _marked(row, name, done) else ""
        cells.append("–" if place.ratio is None else f"{_ratio(place.ratio)}{mark}")
    return cells


def _value(row: Row, place: Standing) -> str:
    if row.task.work is None:
        return units.seconds(place.seconds)
    return f"{units.rate(units.tokens_per_second(row.task.work, place.seconds))} t/s"


def _spread(place: Standing) -> str:
    return f"{(place.high - place.low) / 2 / place.seconds * 100:.0f} %"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def _marked(row: Row, name: str, done: Across) -> bool:
    """Whether a check of this task or of the whole run found one of the ratio's two frameworks apart."""
    return any(
        check.finding == "differs" and name != REFERENCE and {name, REFERENCE} & set(check.apart)
        and check.subject in ("", row.task.subject)
        and not (check.name == "bits" and "bit" not in row.task.name)
        for check in done.checks
    )  # fmt: skip


def _checks(done: Across) -> Table:
    made = text.table(("", "left"), ("check", "left"), ("of", "left"), ("finding and what was seen", "left"))
    for check, subjects in _grouped(done.checks):
        style = STYLES[check.finding]
        seen = Text("\n").join([Text(check.sentence, style), *(Text(item, "dim") for item in _seen(check))])
        made.add_row(Text(SIGNS[check.finding], style), check.name, Text(subjects), seen)
    return made


def _grouped(checks: Sequence[Check]) -> list[tuple[Check, str]]:
    """Each check once, with all that it found the same of, in words."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        key = json.dumps([check.name, check.finding, check.sentence, check.seen])
        groups.setdefault(key, []).append(check)
    return [(group[0], ", ".join(check.subject or "all" for check in group)) for group in groups.values()]


def _seen(check: Check) -> list[str]:
    """What each framework showed; once where all showed the same."""
    values = set(check.seen.values())
    if len(values) == 1:
        return [f"all: {values.pop()}"]
    return [f"{name}: {words}" for name, words in check.seen.items()]


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
