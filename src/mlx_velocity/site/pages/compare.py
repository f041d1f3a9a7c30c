"""Compare: two commits, machines or releases that a reader chooses, case by case."""

from __future__ import annotations

import shlex

from mlx_velocity.report.history_words import DEFAULT_TRACK
from mlx_velocity.site import places, plain
from mlx_velocity.site.record import TrackRecord
from mlx_velocity.site.writer import Writer


def write(record: TrackRecord, writer: Writer) -> None:
    """The page. All numbers are loaded when they are asked for, so it stays the same."""
    options = command_options(record)
    measured = bool(places.of(record.index, record.graph))
    writer.page(
        "compare.html",
        "compare.html",
        [options, measured],
        lambda: {"options": options, "measured": measured},
    )


def command_options(record: TrackRecord) -> str:
    """What a command needs to mean this track."""
    name = plain.text(record.track.name)
    return "" if name == DEFAULT_TRACK else f" --track {shlex.quote(name)}"
