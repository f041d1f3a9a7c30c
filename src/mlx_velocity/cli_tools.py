"""The command line of the tools that measure what is here: no commits, no history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add_to(app: typer.Typer, console: Console) -> None:
    """Put the tools into the table of commands."""
    # bench

    # profile

    # monitor

    # timeline

    # report

    # validate

    @app.command(
        epilog="Examples:\n\nmlx-velocity validate\n\nmlx-velocity validate results/releases/linux-x86-2core\n\n"
        "mlx-velocity validate --json problems.json || cat problems.json"
    )
    def validate(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="[PATH]…", help="Files and folders; by default all that the track has stored."
            ),
        ] = None,
        notes: Annotated[
            bool, typer.Option("--notes", help="Show too what is worth knowing and breaks nothing.")
        ] = False,
        json: Annotated[
            str | None, typer.Option("--json", help="Write what was found to FILE, or - to print it.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
        ] = None,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="Say nothing where nothing is wrong.")
        ] = False,
    ) -> None:
        """Check stored files against their formats and against each other; exit 2 where something is wrong."""
        from mlx_velocity.commands import validate as command

        with console.status("reading what is stored …"):
            checked = command.validate(paths or [], config, track)
        command.show(checked, json, quiet, notes, console)
        raise typer.Exit(checked.exit_code)
