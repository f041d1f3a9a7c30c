"""The options of `monitor` and `timeline`: what the machine did while something ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add_to(app: typer.Typer, console: Console) -> None:
    """Put them into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity monitor -- python train.py\n\n"
        "mlx-velocity monitor -o run.jsonl -- mlx-velocity run main && mlx-velocity timeline run.jsonl\n\n"
        "mlx-velocity monitor --seconds 60"
    )
    def monitor(
        command: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="-- COMMAND …", help="What to run, after --; without it, watch until Ctrl-C."
            ),
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="File to write; by default monitor-TIME.jsonl.")
        ] = None,
        interval: Annotated[float, typer.Option(min=0.02, max=3600, help="Seconds between samples.")] = 0.2,
        seconds: Annotated[
            float | None, typer.Option(min=0.1, help="Without a command: watch for so long.")
        ] = None,
        budget: Annotated[
            float,
            typer.Option(
                min=0.01,
                max=100,
                help="Per cent of a core that reading may cost; slow sources are read less often.",
            ),
        ] = 0.7,
        force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="Print nothing but what the command prints.")
        ] = False,
    ) -> None:
        """Sample memory, swap, CPU, GPU, heat and power while a command runs; its exit code is passed on."""
        from mlx_velocity.commands import monitor as body

        options = body.MonitorOptions(command or [], output, interval, seconds, budget / 100, force, quiet)
        raise typer.Exit(body.monitor(options))

    @app.command(
        epilog="Examples:\n\nmlx-velocity timeline run.jsonl\n\n"
        "mlx-velocity timeline run.jsonl -o run.html --markers my-markers.jsonl"
    )
    def timeline(
        file: Annotated[Path, typer.Argument(help="What mlx-velocity monitor wrote.")],
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Page to write; by default beside the file, as .html."),
        ] = None,
        markers: Annotated[
            list[Path] | None,
            typer.Option(help="A file of markers that another program wrote; may be repeated."),
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    ) -> None:
        """Write an interactive page of what the monitor saw: memory, CPU, GPU, and what was under way."""
        from mlx_velocity.commands.timeline import timeline as body

        body(file, output, markers or [], Console(quiet=True) if quiet else console)
