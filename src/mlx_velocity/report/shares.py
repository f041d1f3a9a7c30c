"""Profiles as tables and sentences, for a terminal, Markdown and JSON. Nothing is computed or decided here."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlx_velocity import units
from mlx_velocity.breakdown import FORMAT, Breakdown, Difference, Growth, Launch, Profile, Share
from mlx_velocity.report import markdown, text

NEAR = 2.0
"""Multiples of the time of nothing up to which the time of a call says little about the part."""
TOP, TOP_CHANGES = 20, 12
"""Rows where nobody says how many: what is below them is small."""
SHARE_COLUMNS = (("part", "left"), ("calls", "right"), ("total", "right"), ("mean", "right"), ("% of time", "right"))  # fmt: skip
GROWTH_COLUMNS = (
    ("part", "left"), ("base", "right"), ("head", "right"), ("change", "right"), ("interval", "right"),
    ("% of stage", "right"), ("", "left"),
)  # fmt: skip
STYLES = {"grew": "red", "only head": "red", "shrank": "green", "only base": "green", "not shown": "dim"}
SAID = {"not shown": "no change shown", "only head": "in head only", "only base": "in base only"}

Cells = list[str]


@dataclass(frozen=True)
class Shown:
    """All that is said of a profile or a difference, in each form."""

    title: str
    tables: list[Table]
    said: list[str]
    markdown: str
    json: str


def breakdown(shown: Breakdown, layers: bool, top: int | None) -> Shown:
    """A profile by kind, or with `layers` by part; `top` rows at most (0 for all; None for what fits)."""
    top = (TOP if layers else 0) if top is None else top
    rows = shown.parts if layers else shown.kinds
    title, said = heading(shown), caveats(shown)
    cells = [*share_cells(rows, top), rest_and_total(rows, top)]
    written = to_markdown(title, [(SHARE_COLUMNS, cells)], said)
    return Shown(title, [share_table(rows, shown, top)], said, written, profile_json(shown))


def difference(shown: Difference, layers: bool, top: int | None) -> Shown:
    """A difference by part, and by kind or with `layers` by layer; `top` rows of each at most (0 for all)."""
    top = TOP_CHANGES if top is None else top
    both = (shown.parts, shown.layers if layers else shown.kinds)
    title, said = growth_heading(shown), growth_caveats(shown)
    written = to_markdown(title, [(GROWTH_COLUMNS, growth_cells(rows, top)) for rows in both], said)
    tables = [growth_table(rows, top) for rows in both]
    return Shown(title, tables, said, written, difference_json(shown))


# One profile


def heading(shown: Breakdown) -> str:
    """What the table is about, as a sentence."""
    header, launches = shown.profile.header, shown.profile.used
    pinned = f", core {launches[0].affinity[0]}" if len(launches[0].affinity) == 1 else ""
    versions = " and ".join(f"{name} {version}" for name, version in launches[0].versions.items())
    who = f"{header.name} ({header.subject})" if header.subject else header.name
    said = (
        f"Where the time goes in {header.task.label}: {who}, {versions}, on {header.machine} "
        f"({header.backend}{pinned})"
    )
    return f"{said}; medians of {_how_often(shown.profile)}."


def share_table(rows: Sequence[Share], shown: Breakdown, top: int) -> Table:
    """The rows by time, `top` of them at most (0 for all), and their sum."""
    made = text.table(*SHARE_COLUMNS)
    for row, cells in zip(rows, share_cells(rows, top), strict=False):
        style = "dim" if _near(row, shown.times.floor_s) else ""
        made.add_row(*(Text(cell, style) for cell in cells))
    made.add_section()
    made.add_row(*rest_and_total(rows, top))
    return made


def share_cells(rows: Sequence[Share], top: int) -> list[Cells]:
    """The cells of the first rows."""
    return [
        [
            _named(row.name, row.kind),
            _calls(row.calls),
            units.seconds(row.self_s),
            units.seconds(row.mean_s),
            _percent(row.share),
        ]
        for row in _first(rows, top)
    ]


def rest_and_total(rows: Sequence[Share], top: int) -> Cells:
    """The last line: all rows together, and how many of them are not shown."""
    left = len(rows) - len(_first(rows, top))
    name = f"all, {left:,} more among them" if left else "all"
    calls = _calls(sum(row.calls for row in rows))
    return [name, calls, units.seconds(sum(row.self_s for row in rows)), "", "100 %"]


def caveats(shown: Breakdown) -> list[str]:
    """What a reader must know beside the table, as plain sentences."""
    times = shown.times
    said = [
        f"Part by part: {units.seconds(times.profiled_s)}, normally {units.seconds(times.unprofiled_s)} (×{times.ratio:.2f}). "
        "Computing parts apart breaks fusion and pipelining: read the shares, the times are not the normal ones."
    ]
    near = sum(_near(row, times.floor_s) for row in shown.kinds)
    if near:
        said.append(
            f"A part that computes nothing takes {units.seconds(times.floor_s)} here: the means of {near} of "
            f"{units.count(len(shown.kinds), 'kind')} are near that and say little."
        )
    if not all(item.same_result for item in shown.profile.used):
        said.append("Part by part the model computed something else than normally: do not trust this profile.")  # fmt: skip
    if shown.profile.header.task.stage == "lora":
        said.append(
            "backward is the backward pass of all parts: mlx computes gradients as one, and they can't be told apart."
        )
    said += _disturbances(shown.profile.launches)
    return said


# Two profiles


def growth_heading(shown: Difference) -> str:
    """What the table is about, as a sentence."""
    base, head = shown.base.profile.header, shown.head.profile.header
    names = " → ".join(f"{side.name} ({side.subject})" if side.subject else side.name for side in (base, head))  # fmt: skip
    return (
        f"What grew in {base.task.label}: {names} on {base.machine} ({base.backend}); "
        f"{units.count(shown.pairs, 'pair')} of launches, in turns."
    )


def growth_table(rows: Sequence[Growth], top: int) -> Table:
    """What grew, what shrank, and what did neither, the largest first; `top` rows at most (0 for all)."""
    made = text.table(*GROWTH_COLUMNS)
    made.collapse_padding = True
    for column in made.columns[1:]:
        column.no_wrap = True
    for row, cells in zip(rows, growth_cells(rows, top), strict=False):
        made.add_row(*(Text(cell, STYLES[row.change]) for cell in cells))
    return made


def growth_cells(rows: Sequence[Growth], top: int) -> list[Cells]:
    """The cells of the first rows."""
    return [
        [
            _named(row.name, row.kind),
            "–" if row.base_s is None else units.seconds(row.base_s),
            "–" if row.head_s is None else units.seconds(row.head_s),
            _signed(row.difference_s),
            "–" if row.low_s is None or row.high_s is None else f"{_signed(row.low_s)} … {_signed(row.high_s)}",
            _percent(row.share, "+"),
            SAID.get(row.change, row.change),
        ]
        for row in _first(rows, top)
    ]  # fmt: skip


def growth_caveats(shown: Difference) -> list[str]:
    """What a reader must know beside the tables, as plain sentences."""
    base, head = shown.base.times, shown.head.times
    said = [
        f"{_counts(shown.kinds, 'kind')}; {_counts(shown.parts, 'part')}. Of the changes called, at most "
        f"{shown.error_rate * 100:g} % are expected to be noise; 'no change shown' is no proof that there is none.",
        f"Part by part {units.seconds(base.profiled_s)} → {units.seconds(head.profiled_s)}, normally "
        f"{units.seconds(base.unprofiled_s)} → {units.seconds(head.unprofiled_s)} (×{base.ratio:.2f}, ×{head.ratio:.2f}): "
        "computing parts apart breaks fusion and pipelining, so a change that lies in these is not seen here.",
    ]
    if shown.same_result is False:
        said.append("The sides compute different results: other tokens, or another loss.")
    said += _disturbances(shown.base.profile.launches, "pairs of launches")
    if shown.disturbed_used:
        said.append(
            "Too few were not: all are used, and the intervals are wide. Stop what else computes here (mlx-velocity doctor)."
        )
    return said


# Elsewhere than on a terminal


def to_markdown(title: str, tables: Sequence[tuple[Sequence[tuple[str, str]], list[Cells]]], said: Sequence[str]) -> str:  # fmt: skip
    """A sentence, tables of (columns, rows), and sentences."""
    blocks = [markdown.escape(title)]
    for columns, rows in tables:
        lines = ["| " + " | ".join(name for name, _ in columns) + " |"]
        lines.append("| " + " | ".join("---:" if side == "right" else "---" for _, side in columns) + " |")
        lines += ["| " + " | ".join([markdown.code(row[0]), *map(markdown.escape, row[1:])]) + " |" for row in rows]  # fmt: skip
        blocks.append("\n".join(lines))
    blocks += [markdown.escape(sentence) for sentence in said]
    return "\n\n".join(blocks) + "\n"


def profile_json(shown: Breakdown) -> str:
    """The document of a profile, described by profile-output.schema.json."""
    return _json(
        {
            "kind": "profile",
            "task": dataclasses.asdict(shown.profile.header.task),
            "profile": _side(shown),
            "kinds": [_share(row) for row in shown.kinds],
            "parts": [_share(row) for row in shown.parts],
            "layers": [_share(row) for row in shown.layers],
        }
    )


def difference_json(shown: Difference) -> str:
    """The document of a difference, described by profile-output.schema.json."""
    return _json(
        {
            "kind": "diff",
            "task": dataclasses.asdict(shown.base.profile.header.task),
            "base": _side(shown.base),
            "head": _side(shown.head),
            "pairs": shown.pairs,
            "error_rate": shown.error_rate,
            "same_result": shown.same_result,
            **{
                name: [dataclasses.asdict(row) for row in rows]
                for name, rows in (("kinds", shown.kinds), ("parts", shown.parts), ("layers", shown.layers))
            },
        }
    )


def stored_table(profiles: Sequence[Profile]) -> Table:
    """A list of stored profiles."""
    made = text.table(
        ("commit", "left"), ("name", "left"), ("stage", "left"), ("model", "left"), ("size", "left"),
        ("launches", "right"), ("taken", "left"),
    )  # fmt: skip
    for item in profiles:
        header, task = item.header, item.header.task
        size = f"depth {task.depth}, {task.generate} tokens" if task.stage == "decode" else units.count(task.tokens, "token")  # fmt: skip
        made.add_row(
            header.commit[:8], escape(text.clean(header.name)), task.stage, escape(text.clean(task.model)), size,
            str(len(item.launches)), header.started[:16].replace("T", " "),
        )  # fmt: skip
    return made


def _side(shown: Breakdown) -> dict[str, Any]:
    header, launches = shown.profile.header, shown.profile.launches
    return {
        **{name: getattr(header, name) for name in ("track", "machine", "backend", "name", "commit", "subject", "started")},
        "versions": launches[0].versions,
        "launches": len(launches),
        "disturbed": sum(bool(item.disturbed) for item in launches),
        "same_result": all(item.same_result for item in shown.profile.used),
        "times": {**dataclasses.asdict(shown.times), "ratio": shown.times.ratio},
    }  # fmt: skip


def _share(row: Share) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "mean_s": row.mean_s}


def _json(data: dict[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **data}, indent=1, allow_nan=False) + "\n"


def _disturbances(launches: Sequence[Launch], noun: str = "launches") -> list[str]:
    reasons = Counter(item.disturbed for item in launches if item.disturbed)
    return [f"disturbed: {count} of {len(launches)} {noun}, {reason}." for reason, count in reasons.items()]


def _how_often(profile: Profile) -> str:
    launches = profile.used
    runs = units.count(len(launches[0].profiled), "repetition")
    tokens = f" of {launches[0].steps} steps" if launches[0].steps > 1 else ""
    return runs + tokens + (f" in each of {len(launches)} launches" if len(launches) > 1 else "")


def _first(rows: Sequence[Any], top: int) -> Sequence[Any]:
    return rows[:top] if top else rows


def _near(row: Share, floor_s: float) -> bool:
    return row.mean_s <= NEAR * floor_s


def _named(name: str, kind: str) -> str:
    """The row's name; a part's path says what it is, functions and modules alike."""
    return name.removeprefix("model.") if name != kind else name


def _calls(calls: float) -> str:
    return f"{calls:,.0f}" if calls == int(calls) else f"{calls:,.1f}"


def _percent(share: float, sign: str = "") -> str:
    return f"{share * 100:{sign}.1f} %" if abs(share) >= 0.0005 else "0.0 %"


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{units.seconds(abs(seconds))}"


def _counts(rows: Sequence[Growth], noun: str) -> str:
    grew = sum(row.change in ("grew", "only head") for row in rows)
    shrank = sum(row.change in ("shrank", "only base") for row in rows)
    return f"{grew} of {units.count(len(rows), noun)} grew, {shrank} shrank"
