"""Build the site, and say in a line each what it holds and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from mlx_velocity import tracks, units
from mlx_velocity.commands.counting import counting
from mlx_velocity.site import publish as site

LISTED = 10
"""Files that are named; of more, how many."""


def publish(chosen: Sequence[tracks.Track], quiet: bool, console: Console) -> None:
    """Build the site of the chosen tracks where the first of them has its own.

    Raises InputError and MeasurementError as site.publish does.
    """
    with counting(console, "building the site …") as tell:
        built = site.publish(chosen, chosen[0].html_dir, tell)
    for name, error in built.failed:
        console.print(f"[yellow]track {escape(name)} is left out[/]: {escape(str(error))}", highlight=False)
    for track in built.tracks:
        for path, reason in track.left_out[:LISTED]:
            console.print(f"[yellow]left out[/] {escape(path)}: {escape(reason)}", highlight=False)
        if len(track.left_out) > LISTED:
            more = units.count(len(track.left_out) - LISTED, "more file")
            console.print(f"[yellow]left out[/] {more}; see: mlx-velocity validate", highlight=False)
        for note in track.notes:
            console.print(f"[yellow]not shown:[/] {escape(note)}", highlight=False)
    if quiet:
        return
    for track in built.tracks:
        console.print(
            f"{escape(track.name)}: {units.count(track.commits, 'commit')} on {escape(', '.join(track.machines))}; "
            f"{track.made:,} of {units.count(track.graphs, 'graph')} made anew",
            highlight=False,
        )
    if not built.tracks:
        console.print("There are no results yet: get some with mlx-velocity run", highlight=False)
    console.print("The site is built. See it with: mlx-velocity preview", highlight=False)
