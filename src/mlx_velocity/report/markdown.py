"""A comparison as the comment on a pull request. Nothing is computed or decided here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from mlx_velocity import units
from mlx_velocity.comparison import CaseVerdict, Comparison, Header, Side
from mlx_velocity.report import text

MARKER = "<!-- mlx-velocity compare -->"
"""First line of every comment: by it a later run finds the comment that it updates."""
LIMIT = 60_000
"""Characters; GitHub refuses a comment of more than 65,536."""
LONGEST = 160
"""Characters of a name before it is cut."""
LONGEST_REASON = 400

_SIGNS = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`*_~[]<>&|$"})
_LINKS = (
    (r"@", "&#64;&#8203;"),
    (r"(?<!&)#", "&#35;&#8203;"),
    (r"://", ":&#8203;//"),
    (r"(?i)(www)\.", r"\1&#8203;."),
)
"""What GitHub turns into links even where Markdown does not: broken by a space of no width."""


def comparison(comparison: Comparison) -> str:
    """The comment: what changed, then the unchanged cases and the circumstances, folded."""
    cases = text.ordered(comparison.cases)
    changed = [case for case in cases if case.verdict != "unchanged"]
    unchanged = [case for case in cases if case.verdict == "unchanged"]
    parts = [f"{MARKER}\n{_summary(comparison)}"]
    if comparison.interrupted:
        parts.append(f"**Interrupted**: {text.interruption()}")
    circumstances = _circumstances(comparison)
    room = LIMIT - sum(map(len, parts)) - len(circumstances) - 1_000  # headings and blank lines
    remarks, room = _remarks(changed, room, room // 3)
    if changed:
        table, room = _case_table(changed, room)
        parts.append(table)
    parts += remarks
    if comparison.of("inconclusive"):
        parts.append(escape(text.advice()))
    if unchanged:
        remarks, room = _remarks(unchanged, room, room // 3)
        table, room = _case_table(unchanged, room)
        doubtful = sum(bool(case.warnings) for case in unchanged)
        title = f"{len(unchanged):,} unchanged" + (f", {doubtful:,} with a remark" if doubtful else "")
        parts.append(folded(title, "\n\n".join([table, *remarks])))
    return "\n\n".join([*parts, circumstances]) + "\n"


def escape(words: str) -> str:
    """Foreign text that says what it says, whatever signs are in it: no link, no mention, no markup."""
    said = text.clean(words).translate(_SIGNS)
    for pattern, replacement in _LINKS:
        said = re.sub(pattern, replacement, said)
    return said


def code(words: str, longest: int = LONGEST) -> str:
    """Foreign text as code, where GitHub looks for neither mentions nor links."""
    said = _cut(text.clean(words), longest)
    if not said or set(said) & set("`|\\@<>&"):
        return f"<code>{escape(said)}</code>"
    return f"`{said}`"


def _summary(comparison: Comparison) -> str:
    header = comparison.header
    said = [_weighed(f"{number:,} {word}", word) for word, number in text.counts(comparison)]
    return (
        f"{', '.join(said) or 'Nothing was measured'}: {code(header.base.name)} → {code(header.head.name)} "
        f"on {code(header.machine)} ({escape(header.backend)})"
    )


def _case_table(cases: Sequence[CaseVerdict], room: int) -> tuple[str, int]:
    """The table of as many cases as fit, and the room that is left."""
    with_rates = any(case.tokens for case in cases)
    rows, left_out = _fitting([_row(case, with_rates) for case in cases], room)
    headings = [
        ("case", "left"), ("base", "right"), ("head", "right"), *([("tokens/s", "right")] if with_rates else []),
        ("change (interval)", "right"), ("verdict", "left"), ("samples", "right"),
    ]  # fmt: skip
    said = [table_of(headings, rows)] if rows else []
    if left_out:
        said.append(f"{units.count(left_out, 'case')} left out: GitHub takes no longer comment.")
    return "\n\n".join(said), room - sum(map(len, rows))


def _row(case: CaseVerdict, with_rates: bool) -> str:
    rates = [" → ".join(text.rates_of(case)) if case.tokens else ""] if with_rates else []
    values = [escape(value) for value in text.values_of(case)]
    word = _weighed(case.word, case.word)
    return row_of([code(case.label), *values, *rates, text.change_of(case), word, f"{case.samples:,}"])


def _remarks(cases: Sequence[CaseVerdict], room: int, most: int) -> tuple[list[str], int]:
    """The warnings as one list, as many as fit into `most` characters, and the room that is left."""
    said, left_out = _fitting([_remark(*remark) for remark in text.remarks(cases)], most)
    said += [f"- and {units.count(left_out, 'remark')} more"] if left_out else []
    return ["\n".join(said)] if said else [], room - sum(map(len, said))


def _remark(word: str, reason: str, labels: list[str]) -> str:
    names = text.named([code(label) for label in labels])
    return f"- {word}: {names}: {escape(_cut(text.clean(reason), LONGEST_REASON))}"


def _weighed(words: str, verdict: str) -> str:
    return f"**{words}**" if verdict in ("regressed", "broken") else words


def _circumstances(comparison: Comparison) -> str:
    """Who was compared where, how quiet it was, and what the words mean; at most a quarter of the limit."""
    header = comparison.header
    said = [
        f"Track {code(header.track)}, profile {code(header.profile)}, machine {code(header.machine)}, backend "
        f"{code(header.backend)}, begun {code(header.started)}, took {units.clock(comparison.wall_s)}, "
        f"seed {header.seed}.",
        *map(escape, comparison.quality),
        escape(text.promise(header)),
        f"To see it again on that machine: {code(_again(header), LONGEST_REASON)}",
    ]
    room = LIMIT // 4
    lines, _ = _fitting([f"- {sentence}" for sentence in said], room // 2)
    rows, left_out = _fitting(_versions(header.base, header.head), room // 2)
    table = table_of([("", "left"), ("base", "left"), ("head", "left")], rows)
    rest = f"\n\n{units.count(left_out, 'row')} left out." if left_out else ""
    return folded(
        "How it was measured, and what the verdicts promise", "\n".join(lines) + f"\n\n{table}{rest}"
    )


def _versions(base: Side, head: Side) -> list[str]:
    """What each side is, and each package whose version differs."""
    sides = (base, head)
    rows = [
        ["name", *(code(side.name) for side in sides)],
        ["commit", *(code(side.commit[:8]) if side.commit else "–" for side in sides)],
        ["what it is", *(escape(_cut(text.clean(side.subject), LONGEST)) for side in sides)],
        ["Python", *(escape(side.environment.python) for side in sides)],
    ]
    named = {
        "modules": [side.modules for side in sides],
        "packages": [side.environment.packages for side in sides],
    }
    for kind, (before, after) in named.items():
        for name in sorted({*before, *after}):
            versions = [before.get(name, "–"), after.get(name, "–")]
            if kind == "modules" or versions[0] != versions[1]:
                rows.append(
                    [code(name), *(escape(_cut(text.clean(version), LONGEST)) for version in versions)]
                )
    return [row_of(row) for row in rows]


def _again(header: Header) -> str:
    words = ["mlx-velocity", "compare", header.base.name, header.head.name, "--from-results"]
    return shlex.join([*words, "--track", header.track, "--machine", header.machine])


def folded(title: str, body: str) -> str:
    """A part that opens on a click; the title is HTML."""
    # GitHub reads Markdown inside HTML only behind an empty line.
    return f"<details><summary>{title}</summary>\n\n{body.strip()}\n\n</details>"


def table_of(headings: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    """A table of (heading, justify) and of rows that `row_of` made."""
    sides = ["--:" if justify == "right" else "---" for _, justify in headings]
    return "\n".join([row_of([heading for heading, _ in headings]), row_of(sides), *rows])


def row_of(cells: Sequence[str]) -> str:
    """A row of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"


def _fitting(lines: Sequence[str], room: int) -> tuple[list[str], int]:
    """The first lines that fit into so many characters, and how many do not."""
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept, len(lines) - len(kept)


def _cut(words: str, length: int) -> str:
    return words if len(words) <= length else f"{words[: length - 1]}…"
