"""A series as a line of signs, the higher the slower or larger. Where blocks can't be written, plain ASCII."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from rich.text import Text

from mlx_velocity.history_report import CaseHistory

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-~=+*#"
LEAST_SPAN = 0.1
"""Share of the middle value that the signs span at least: noise of a per cent looks flat."""
_PLAIN: dict[str, str | int | None] = {
    "…": "..", "→": "->", "–": "-", "−": "-", "×": "x", "µ": "u", "±": "+-", "·": "|", "∞": "inf", "─": "-",
    **dict(zip(BLOCKS, ASCII, strict=True)),
}  # fmt: skip


def can_write(encoding: str) -> bool:
    """Whether an output takes our signs."""
    try:
        "".join(_PLAIN).encode(encoding)
    except (LookupError, UnicodeError):
        return False
    return True


def plain(words: str, encoding: str) -> str:
    """Text for an output that takes no signs of ours; what it can't write at all becomes a question mark."""
    try:
        return words.translate(str.maketrans(_PLAIN)).encode(encoding, "replace").decode(encoding)
    except LookupError:
        return words.encode("ascii", "replace").decode("ascii")


def line(case: CaseHistory, width: int, signs: str = BLOCKS) -> Text:
    """The points within what was asked for; red behind a regression, green behind an improvement.

    A sign stands for the median of a few points where there are more points than room.
    """
    points = range(case.first_shown, len(case.points))
    drawn = Text()
    groups = [points[group.start : group.stop] for group in _grouped(len(points), width)]
    middles = [statistics.median(case.points.value[group.start : group.stop].tolist()) for group in groups]
    for group, level in zip(groups, levels(middles, len(signs)), strict=True):
        drawn.append(signs[level], _style(case, group[-1]))
    return drawn


def levels(values: Sequence[float], count: int) -> list[int]:
    """Each value as one of so many levels, 0 for the lowest."""
    if not values:
        return []
    low, high = min(values), max(values)
    spare = max(0.0, LEAST_SPAN * statistics.median(values) - (high - low)) / 2
    low, span = low - spare, high - low + 2 * spare
    return [min(count - 1, int((value - low) / span * count)) if span > 0 else 0 for value in values]


def _grouped(size: int, width: int) -> list[range]:
    if size <= width:
        return [range(number, number + 1) for number in range(size)]
    ends = [round(number * size / width) for number in range(width + 1)]
    return [range(first, end) for first, end in itertools.pairwise(ends)]


def _style(case: CaseHistory, index: int) -> str:
    before = [shift for shift in case.shifts if shift.index <= index]
    if not before or before[-1].state == "unconfirmed":
        return "yellow" if before else ""
    return "red" if before[-1].direction == "regressed" else "green"
