"""`mlx-velocity validate`: whether stored files are as they should be."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import readings, tracks
from mlx_velocity.errors import InputError
from mlx_velocity.problems import Checked
from mlx_velocity.report import validation as written
from mlx_velocity.report.text import clean
from mlx_velocity.validation import walk

MOST_ROWS = 40
"""A table that scrolls away helps nobody; the JSON has all."""


def validate(paths: list[Path], config: Path | None, track_name: str | None) -> Checked:
    """Check the paths, or without any all that the track has stored.

    Raises InputError where there is neither a path nor a track, or a path does not exist.
    """
    if not paths:
        found = tracks.find_config(config, track_name, Path.cwd())
        return walk.everything(tracks.load(found), found)
    try:
        track = tracks.load(tracks.find_config(config, track_name, Path.cwd()))
    except InputError:
        # A file can be looked at anywhere; only its commits can't.
        if config is not None or track_name is not None:
            raise
        track = None
    return walk.named(paths, track)


def show(checked: Checked, json_to: str | None, quiet: bool, verbose: bool, console: Console) -> None:
    """Print what was found, and write the JSON; raises InputError where that fails."""
    if json_to == "-":
        print(written.document(checked), end="")
        return
    if json_to:
        readings.replace(Path(json_to).resolve(), written.document(checked))
    shown = checked.problems if verbose else checked.wrong
    if shown:
        console.print(written.table(shown[:MOST_ROWS]))
    if len(shown) > MOST_ROWS:
        console.print(f"… and {len(shown) - MOST_ROWS:,} more: see them with --json FILE.", highlight=False)
    if quiet and not checked.wrong:
        return
    console.print(written.summary(checked), highlight=False)
    for sentence in checked.unchecked:
        console.print(f"[yellow]not checked[/]: {escape(clean(sentence))}", highlight=False)
    if not verbose and len(checked.problems) > len(checked.wrong):
        console.print("Notes break nothing; see them with --notes.", highlight=False)
