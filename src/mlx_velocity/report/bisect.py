"""A bisection for a terminal, as Markdown and as JSON. Nothing is computed or decided here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

from rich.markup import escape

from mlx_velocity import units
from mlx_velocity.bisection import FORMAT, Bisection, Culprit, Effect, Point
from mlx_velocity.report import markdown as comment
from mlx_velocity.report.text import clean

MARKER = "<!-- mlx-velocity bisect -->"
"""First line of every report: by it a later run finds the comment that it updates."""
BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 64
"""Signs of a picture at most."""
GROUP = 10
"""Commits of a group that are named."""
KINDS = {"step": "one commit", "two": "two commits", "slope": "a slope", "none": "something else"}


def sentences(done: Bisection) -> list[str]:
    """What is said of it, each a line in Rich's markup; the answer first."""
    said = [
        f"[bold]{escape(line)}[/]" if number == 0 else escape(line)
        for number, line in enumerate(answer(done))
    ]
    if done.picture:
        first, last = done.header.good.commit[:8], done.header.bad.commit[:8]
        said.append(f"[dim]{first}[/] {picture(done.picture)} [dim]{last}[/]")
    said += [escape(line) for line in _doubts(done)]
    said += [f"[dim]{escape(line)}[/]" for line in _circumstances(done)]
    return said


def markdown(done: Bisection) -> str:
    """The same as a comment on an issue or a pull request."""
    first, *rest = answer(done)
    parts = [f"{MARKER}\n**{comment.escape(first)}**"]
    commands = [item.command for item in done.culprits]
    plain = [line for line in rest if not any(command in line for command in commands)]
    parts += ["\n".join(f"- {comment.escape(line)}" for line in plain)] if plain else []
    parts += [f"Shows it again: {comment.code(command, 400)}" for command in commands]
    notes = [*_doubts(done), *_circumstances(done)]
    parts.append("\n".join(f"- {comment.escape(line)}" for line in notes))
    return "\n\n".join(parts) + "\n"


def document(done: Bisection) -> str:
    """The JSON, described by schemas/bisect-output.schema.json; ASCII, so that no name in it harms what prints it."""
    data = dataclasses.asdict(done)
    slope = [dataclasses.asdict(point) for point in done.slope] if done.slope else None
    lost = [{"point": point, "reason": reason} for point, reason in data.pop("lost")]
    whole = {"format": FORMAT, **data.pop("header"), **data, "slope": slope, "lost": lost}
    whole |= {"confirmed": done.confirmed, "exit_code": done.exit_code}
    return json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n"


def answer(done: Bisection) -> list[str]:
    """The answer in plain sentences, and what belongs to it."""
    case, change = clean(done.case), effect(done.total)
    slower = done.total is None or done.total.ratio > 1
    if done.interrupted:
        return [f"Interrupted: {case} so far {change}.", *_known(done), "The same command goes on from here."]
    if done.outcome in ("commit", "commits"):
        likely = "" if done.confirmed else "most likely "
        many = "two commits changed" if len(done.culprits) > 1 else f"{likely}one commit changed"
        said = [f"{_sentence(many)} {case}: {_names(done.culprits)}."]
        for item in done.culprits:
            said += _described(item)
        return [*said, f"From {named(done.header.good)} to {named(done.header.bad)} it is {change}."]
    if done.outcome == "group":
        said = [f"It is one of the commits below, which could not be told apart: {case}."]
        for item in done.culprits:
            said += [f"{named(point)}" for point in item.commits[:GROUP]]
            said += [f"and {len(item.commits) - GROUP} more"] if len(item.commits) > GROUP else []
            said += _described(item)
        return [*said, f"From {named(done.header.good)} to {named(done.header.bad)} it is {change}."]
    if done.outcome == "slope" and done.slope:
        first, last = (named(point) for point in done.slope)
        return [
            f"No single commit: {case} changed little by little, from {first} to {last}.",
            f"From {named(done.header.good)} to {named(done.header.bad)} it is {change}. No commit did a third of it.",
        ]
    if done.outcome == "unchanged":
        return [
            f"There is nothing to find: {case} is the same at both ends, {change}, "
            f"shown to be within ±{done.threshold * 100:g} %."
        ]
    what = "slower" if slower else "faster"
    undecided = f"Undecided: {case}" + (
        f" is {what} at {named(done.header.bad)}, {change}." if done.kinds else "."
    )
    if done.outcome == "nothing fits":
        undecided = f"No answer fits: {case}, {change}."
    return [undecided, *_known(done), _sentence(f"{done.reason}.") if done.reason else ""]


def named(point: Point) -> str:
    """`1a2b3c4d mlx 0.31.1 → 0.31.2 (2026-03-03)`."""
    return f"{point.commit[:8]} {clean(point.subject)} ({units.day(point.date_s)})"


def effect(found: Effect | None) -> str:
    """`+3.1 % (+2.0…+4.2)`."""
    if found is None:
        return "not known yet"
    return units.change(found.ratio, found.low, found.high)


def picture(chances: Sequence[float], width: int = WIDTH) -> str:
    """Probabilities along the path, as bars; neighbours stand together where there are too many."""
    size = math.ceil(len(chances) / width)
    sums = [sum(chances[at : at + size]) for at in range(0, len(chances), size)]
    top = max([*sums, 1e-9])
    return "".join(
        BARS[min(len(BARS) - 1, math.ceil(value / top * (len(BARS) - 1) - 0.05))] for value in sums
    )


def _names(found: Sequence[Culprit]) -> str:
    return " and ".join(named(item.commits[-1]) for item in found)


def _described(item: Culprit) -> list[str]:
    point = item.commits[-1]
    said = [f"{point.commit[:8]}: {effect(item.effect)} over {named(item.parent)}."] if item.effect else []
    said += _evidence(item)
    if point.parents > 1:
        said.append(
            f"{point.commit[:8]} is a merge; look inside of it with: mlx-velocity bisect "
            f"{item.parent.commit[:12]} '{point.commit[:12]}^2' --case …"
        )
    return said


def _evidence(item: Culprit) -> list[str]:
    shown = "" if item.confirmed else ", which alone do not show it"
    direct = f"; {units.count(item.pairs, 'pair')} of these two alone{shown}" if item.pairs else ""
    return [f"Probability {units.chance(item.probability)}{direct}.", f"Shows it again: {item.command}"]


def _known(done: Bisection) -> list[str]:
    if not done.kinds:
        return []
    kinds = ", ".join(
        f"{KINDS[kind]} {value * 100:.0f} %" for kind, value in done.kinds.items() if value >= 0.005
    )
    said = [f"So far: {kinds}."]
    if done.suspects:
        likely = "; ".join(f"{named(item.point)} {item.probability * 100:.0f} %" for item in done.suspects)
        said.append(f"Likeliest commits: {likely}.")
    return said


def _doubts(done: Bisection) -> list[str]:
    said = []
    if done.lost:
        shown = [f"{named(point)}: {clean(reason)}" for point, reason in done.lost[:3]]
        more = f" and {len(done.lost) - 3} more" if len(done.lost) > 3 else ""
        said.append(f"Not measured: {units.count(len(done.lost), 'commit')}. {'; '.join(shown)}{more}.")
    return [*said, *done.quality]


def _circumstances(done: Bisection) -> list[str]:
    counts, header = done.counts, done.header
    set_aside = f", {counts.disturbed} disturbed and set aside" if counts.disturbed else ""
    among = units.count(counts.path, "commit")
    if counts.candidates != counts.path:
        among += f", {counts.candidates} of which change what is measured"
    return [
        f"{among}; {counts.commits} measured in {units.count(counts.pairs, 'pair')} of launches "
        f"({counts.samples:,} samples a side{set_aside}) in {units.clock(counts.wall_s)}.",
        f"Track {clean(header.track)}, profile {clean(header.profile)}, machine {clean(header.machine)} ({header.backend}). "
        f"A commit is blamed at a probability of {done.confidence:.4g}. Lower is better.",
    ]  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
