"""What is wrong with stored files, as a table and as JSON. Nothing is decided here."""

from __future__ import annotations

import dataclasses
import json

from rich.table import Table
from rich.text import Text

from mlx_velocity import problems, units
from mlx_velocity.problems import Checked, Problem
from mlx_velocity.report import text

STYLES = {"wrong": "red", "note": "yellow"}
LONGEST = 400


def table(shown: list[Problem]) -> Table:
    """A row for each problem: where, what, and what to do."""
    made = text.table(("file", "left"), ("line", "right"), ("what is wrong", "left"), ("what to do", "left"))
    made.columns[1].no_wrap = True
    for item in shown:
        made.add_row(
            Text(text.clean(item.file)), "" if item.line is None else f"{item.line:,}",
            Text(text.clean(item.reason)[:LONGEST], STYLES[item.severity]), Text(text.clean(item.advice)[:LONGEST]),
        )  # fmt: skip
    return made


def summary(checked: Checked) -> str:
    """One line: how many files of which formats, and how they are."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(checked.files.items()))
    notes = len(checked.problems) - len(checked.wrong)
    said = units.count(len(checked.wrong), "problem") if checked.wrong else "nothing is wrong"
    remark = f", {units.count(notes, 'note')}" if notes else ""
    return f"{units.count(sum(checked.files.values()), 'file')} ({kinds or 'none'}): {said}{remark}."


def document(checked: Checked) -> str:
    """The JSON of `validate --json`, described by schemas/validate-output.schema.json; ASCII."""
    data = {"format": problems.FORMAT, **dataclasses.asdict(checked), "exit_code": checked.exit_code}
    return json.dumps(data, indent=1, allow_nan=False) + "\n"
