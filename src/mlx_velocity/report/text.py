"""Records as tables for a terminal. Nothing is computed or decided here."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlx_velocity import units
from mlx_velocity.comparison import CaseVerdict, Comparison, Header
from mlx_velocity.records import Case

STYLES = {
    "regressed": "red",
    "broken": "red",
    "improved": "green",
    "mended": "green",
    "inconclusive": "yellow",
    "incomparable": "yellow",
    "unchanged": "dim",
}
"""What is said of a case → its colour, in the order in which a reader wants to see them.

The order is that of comparison.VERDICTS; a case that fails on one side alone stands with what that means.
"""
NAMED = 3
"""Cases named beside a reason that several share; the others are counted."""
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode's controls, marks of direction, halves of surrogates, and what has no meaning."""


def table(*columns: tuple[str, str]) -> Table:
    """An empty table in the house style; columns are (heading, justify)."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading, justify in columns:
        made.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    return made


def change_row(
    case: Case, base: str, head: str, change: str, interval: str, rates: str, certain: bool, worse: bool
) -> Sequence[str]:
    """Cells of one case's change; colour only where the change is certain."""
    style = ("red" if worse else "green") if certain else "dim"
    return [escape(case.label), base, head, f"[{style}]{change}[/]", f"[{style}]{interval}[/]", rates]


def rate_pair(base: float | None, head: float | None, tokens: int | None) -> str:
    """Tokens per second at both ends, for a case that handles tokens."""
    if tokens is None or base is None or head is None:
        return ""
    return f"{units.rate(units.tokens_per_second(tokens, base))} → {units.rate(units.tokens_per_second(tokens, head))}"


def flags(found: Iterable[str]) -> str:
    """What is said of the machine beside a number: dim where it was clean, yellow where it was not."""
    return ", ".join(f"[{'dim' if flag == 'clean' else 'yellow'}]{escape(flag)}[/]" for flag in found)


def flagged(rows: Sequence[tuple[str, set[str]]]) -> list[str]:
    """A sentence for each way in which the machine degraded cases: how many, and the first of them by name."""
    sentences = []
    for flag in sorted({flag for _, found in rows for flag in found} - {"clean"}):
        names = [label for label, found in rows if flag in found]
        named = ", ".join(escape(name) for name in names[:NAMED])
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        sentences.append(f"[yellow]{flag}[/] in {units.count(len(names), 'case')}: {named}{more}.")
    return sentences


# A comparison


def comparison_table(comparison: Comparison) -> Table:
    """The verdict of every case, those that matter first. Only the names of cases are folded."""
    below = "\n[dim]tokens/s[/]" if any(case.tokens for case in comparison.cases) else ""
    made = table(
        ("case", "left"), (f"base{below}", "right"), (f"head{below}", "right"), ("change (interval)", "left"),
        ("verdict", "left"), ("samples", "right"),
    )  # fmt: skip
    made.collapse_padding = True
    for column in (*made.columns[1:3], *made.columns[4:]):
        column.no_wrap = True
    for case in ordered(comparison.cases):
        style = STYLES[case.word]
        whole = style if style == "dim" else ""
        # A space that is not in the name: there it may be folded.
        name = clean(case.label).replace("(", " (", 1)
        values = zip(values_of(case), rates_of(case), strict=True)
        made.add_row(
            Text(name, whole),
            *(Text("\n").join([Text(value, whole), *([Text(rate, "dim")] if rate else [])]) for value, rate in values),
            Text(change_of(case), style), Text(case.word, style), Text(str(case.samples), whole),
        )  # fmt: skip
    return made


def comparison_summary(comparison: Comparison) -> list[str]:
    """What a reader should know beside the table, as sentences in Rich's markup."""
    header = comparison.header
    said = [
        f"{_escaped(header.base.name)} → {_escaped(header.head.name)} on {_escaped(header.machine)} "
        f"({header.backend}), {units.count(len(comparison.cases), 'case')} in "
        f"{units.clock(comparison.wall_s)}: {_coloured_counts(comparison)}."
    ]
    if comparison.interrupted:
        said.append(f"[yellow]interrupted[/]: {interruption()}")
    for word, reason, labels in remarks(comparison.cases):
        said.append(f"[{STYLES[word]}]{word}[/]: {_escaped(named(labels))}: {_escaped(reason)}")
    said += [f"[yellow]machine[/]: {_escaped(sentence)}" for sentence in comparison.quality]
    if comparison.cases:
        said.append(promise(header))
    if comparison.of("inconclusive"):
        said.append(advice())
    return said


def ordered(cases: Iterable[CaseVerdict]) -> list[CaseVerdict]:
    """Cases in the order in which a reader wants to see them, the largest change first."""
    order = list(STYLES)
    return sorted(cases, key=lambda case: (order.index(case.word), -_size(case.ratio)))


def counts(comparison: Comparison) -> list[tuple[str, int]]:
    """How many cases each word is said of; words of none are left out."""
    words = [case.word for case in comparison.cases]
    return [(word, words.count(word)) for word in STYLES if word in words]


def remarks(cases: Iterable[CaseVerdict]) -> list[tuple[str, str, list[str]]]:
    """Each warning with its verdict's word and the labels of the cases that share it."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in ordered(cases):
        for reason in case.warnings:
            found.setdefault((case.word, reason), []).append(case.label)
    return [(word, reason, labels) for (word, reason), labels in found.items()]


def named(labels: Sequence[str]) -> str:
    """The first labels, and how many more there are."""
    rest = len(labels) - NAMED
    return ", ".join(labels[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def promise(header: Header) -> str:
    """What the verdicts promise, in a sentence."""
    return (
        f"unchanged: shown to be within ±{header.threshold * 100:g} %; of the changes called, "
        f"at most {header.error_rate * 100:g} % are expected to be false. Lower is better."
    )


def advice() -> str:
    """What to do about cases without a verdict."""
    return (
        "inconclusive: neither a change nor its absence is shown. Take more samples (--max-samples, --max-time), "
        "or make the machine quieter (mlx-velocity doctor says how)."
    )


def interruption() -> str:
    """What is missing where a comparison was ended."""
    return "cases that were not reached are missing, and others have fewer samples than they need."


def values_of(case: CaseVerdict) -> tuple[str, str]:
    """The usual values of both sides."""
    base, head = (
        "–" if value is None else units.quantity(value, case.unit) for value in (case.base, case.head)
    )
    return base, head


def rates_of(case: CaseVerdict) -> tuple[str, str]:
    """Tokens per second of both sides; empty for a case that handles no tokens."""
    if not case.tokens:
        return "", ""
    base, head = (
        units.rate(units.tokens_per_second(case.tokens, value)) if value else "–"
        for value in (case.base, case.head)
    )
    return base, head


def change_of(case: CaseVerdict) -> str:
    """The change with its interval; a dash where there is no ratio."""
    return "–" if case.ratio is None else units.change(case.ratio, case.low, case.high)


def clean(words: str) -> str:
    """Foreign text on one line, without what steers a terminal or turns the direction of writing."""
    line = " ".join(words.split())
    if line.isascii() and line.isprintable():
        return line
    return "".join("\ufffd" if unicodedata.category(sign) in UNSEEN else sign for sign in line)


def _escaped(words: str) -> str:
    return escape(clean(words))


def _coloured_counts(comparison: Comparison) -> str:
    said = [f"[{STYLES[word]}]{number:,} {word}[/]" for word, number in counts(comparison)]
    return ", ".join(said) or "nothing was measured"


def _size(ratio: float | None) -> float:
    """How far from 1; what has no ratio, such as something that was nothing, is furthest."""
    return abs(math.log(ratio)) if ratio is not None and ratio > 0 else math.inf
