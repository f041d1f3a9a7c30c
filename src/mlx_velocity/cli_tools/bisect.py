"""The options of `bisect`: which commit did it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlx_velocity.errors import InputError, Interrupted


def add_to(app: typer.Typer, console: Console) -> None:
    """Put it into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity bisect mlx==0.31.1 mlx==0.32.4 --case 'decode.Decode.time_decode(tiny-4bit, 512)'\n\n"
        "mlx-velocity bisect v0.30.0 main --case time_first_token --track mlx-lm --repo ~/mlx-lm\n\n"
        "mlx-velocity bisect 1a2b3c4 HEAD --case prefill.Memory --max-time 1h --markdown report.md\n\n"
        "Exit codes: 0 it is known where the change comes from, 2 wrong input, 3 undecided or no change, "
        "4 an end can't be measured, 130 interrupted. The same command goes on where it ended."
    )
    def bisect(
        good: Annotated[
            str, typer.Argument(help="The older commit, tag or branch, or a release such as mlx==0.31.1.")
        ],
        bad: Annotated[
            str, typer.Argument(help="The newer one. It may be slower or faster: either is searched.")
        ],
        case: Annotated[
            str,
            typer.Option(
                "--case", help="The case, by its whole name or a regular expression that only it matches."
            ),
        ],
        confidence: Annotated[
            float,
            typer.Option(min=50, max=99.99, help="Per cent of probability at which a commit is blamed."),
        ] = 99.0,
        threshold: Annotated[
            float, typer.Option(min=0.01, max=100, help="Per cent within which the ends count as equal.")
        ] = 2.0,
        max_samples: Annotated[
            int | None,
            typer.Option(min=2, help="Samples a side at most, 2 a pair of launches; 800 by default."),
        ] = None,
        max_time: Annotated[
            str | None, typer.Option(help="Measure no longer than this in this call: 90s, 10m, 1h.")
        ] = None,
        profile: Annotated[
            str | None,
            typer.Option(help="tiny, small, standard, large or all; by default what suits the backend."),
        ] = None,
        control: Annotated[
            bool, typer.Option("--control/--no-control", help="Measure a fixed probe beside the commits.")
        ] = True,
        restart: Annotated[
            bool, typer.Option("--restart", help="Begin anew; what an earlier search measured is kept aside.")
        ] = False,
        markdown: Annotated[
            str | None, typer.Option("--markdown", help="Write a report to FILE, or - to print it.")
        ] = None,
        json: Annotated[
            str | None, typer.Option("--json", help="Write JSON to FILE, or - to print it.")
        ] = None,
        machine: Annotated[
            str | None, typer.Option("--machine", help="Name of this machine in the results.")
        ] = None,
        backend: Annotated[
            str | None, typer.Option("--backend", help="cpu, metal or cuda instead of what is here.")
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
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    ) -> None:
        """Find the commit that made a case slower or faster, how sure that is, and say so where it was no single one."""
        from mlx_velocity import tracks, units
        from mlx_velocity.commands import bisect as command
        from mlx_velocity.commands.targets import check_target

        seconds = units.parse_duration(max_time) if max_time else None
        if (markdown, json) == ("-", "-"):
            raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
        for target in (markdown, json):
            check_target(target)
        found, clone = tracks.locate(config, track, repo, Path.cwd())
        options = command.BisectOptions(
            good, bad, case, profile, machine, command.terms(confidence, threshold, max_samples), seconds, control,
            restart, quiet or "-" in (markdown, json), repo, str(config) if config else None,
        )  # fmt: skip
        try:
            done = command.bisect(tracks.load(found, clone, backend), options, console)
        except KeyboardInterrupt:
            raise Interrupted("interrupted", "the same command goes on") from None
        command.show(done, markdown, json, options.quiet, console)
        raise typer.Exit(done.exit_code)
