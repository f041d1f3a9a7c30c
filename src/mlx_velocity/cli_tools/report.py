"""The options of `report` and `validate`: what is stored, as a document, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity report\n\nmlx-velocity report mlx-0.31.2 --since mlx-0.31.1\n\n"
        "mlx-velocity report --machine apple-m4-pro --machine linux-x86-2core --markdown report.md"
    )
    def report(
        commit: Annotated[
            str | None, typer.Argument(help="A commit, tag or branch; by default the newest measured one.")
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(
                "--since", help="What to show changes against; by default what was measured before it."
            ),
        ] = None,
        machine: Annotated[
            list[str] | None,
            typer.Option("--machine", help="A machine with results; several stand side by side."),
        ] = None,
        bench: Annotated[
            str | None, typer.Option("--bench", help="Only cases whose name matches this regular expression.")
        ] = None,
        markdown: Annotated[
            str | None, typer.Option("--markdown", help="Write Markdown to FILE, or - to print it.")
        ] = None,
        json: Annotated[
            str | None, typer.Option("--json", help="Write JSON to FILE, or - to print it.")
        ] = None,
        config: Annotated[
            Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None, typer.Option("--track", help="A track by name, such as releases or mlx-lm.")
        ] = None,
        repo: Annotated[
            str | None, typer.Option("--repo", help="Clone or URL to use instead of the track's own.")
        ] = None,
    ) -> None:
        """Report what is stored of a commit: every stage, what changed, what failed, how it was measured."""
        from mlx_velocity import tracks
        from mlx_velocity.commands import report as command
        from mlx_velocity.errors import InputError

        if (markdown, json) == ("-", "-"):
            raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
        loaded = tracks.load(tracks.find_config(config, track, Path.cwd()), repo)
        options = command.ReportOptions(commit, since, machine or [], bench)
        with console.status("reading what is stored …"):
            done = command.report(loaded, options)
        command.show(done, markdown, json, console)

    @app.command(
        epilog="Examples:\n\nmlx-velocity validate\n\nmlx-velocity validate results/releases/linux-x86-2core\n\n"
        "mlx-velocity validate --json problems.json || cat problems.json"
    )
    def validate(
        paths: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="PATH", help="Files and folders; by default all that the track has stored."
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
