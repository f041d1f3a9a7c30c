"""The options of `wheelhouse` and `import`: measuring on a machine without a package index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add_to(app: typer.Typer, console: Console) -> None:
    """Put them into the table of commands."""

    @app.command(
        epilog="Examples:\n\nmlx-velocity wheelhouse mlx-0.32.3..main wheels\n\n"
        "mlx-velocity wheelhouse mlx-0.32.4 wheels --inherit --runner\n\n"
        "printf 'mlx-0.30.1\\nmlx-0.32.4\\n' | mlx-velocity wheelhouse HASHFILE:- wheels --without 'nvidia-*'\n\n"
        "mlx-velocity wheelhouse main wheels --platform macosx_14_0_arm64 --python 3.12"
    )
    def wheelhouse(
        range_: Annotated[
            str, typer.Argument(metavar="RANGE", help="ALL, A..B, a tag, a branch, a hash, or HASHFILE:FILE.")
        ],
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to fill; what is there stays.")],
        platform: Annotated[
            str,
            typer.Option(
                help="Newest platform tag of the other machine: its glibc as ldd --version says, or its macOS."
            ),
        ] = "manylinux_2_35_x86_64",
        python: Annotated[
            str | None, typer.Option(help="Its Python as major.minor; by default as here.")
        ] = None,
        backend: Annotated[
            str | None, typer.Option(help="cuda (of Linux the default), cpu or metal (of macOS the default).")
        ] = None,
        inherit: Annotated[
            bool,
            typer.Option(
                "--inherit", help="Only what is measured and its worker: the Python there has the rest."
            ),
        ] = False,
        without: Annotated[
            list[str] | None,
            typer.Option(
                "--without",
                metavar="PATTERN",
                help="Leave out packages that are there: 'nvidia-*'; repeatable.",
            ),
        ] = None,
        control: Annotated[
            bool, typer.Option("--control/--no-control", help="Bring the mlx of compare's control too.")
        ] = True,
        runner: Annotated[
            bool, typer.Option("--runner", help="Bring what mlx-velocity itself needs too, into DIR/runner.")
        ] = False,
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
        """Fill a folder with the wheels that a machine without a package index needs; what is there is kept."""
        from mlx_velocity import tracks
        from mlx_velocity.commands import wheelhouse as command

        options = command.WheelhouseOptions(
            range_, folder, platform, python, backend, inherit, tuple(without or ()), control, runner, quiet
        )
        command.wheelhouse(tracks.load(tracks.find_config(config, track, Path.cwd()), repo), options, console)

    @app.command(
        name="import",
        epilog="Examples:\n\nmlx-velocity import ~/from-the-lab/results --dry-run\n\n"
        "mlx-velocity import ~/from-the-lab/results/releases/nvidia-h200\n\n"
        "mlx-velocity import nvidia-h200 --track mlx-lm --machine nvidia-h200-b",
    )
    def import_results(
        folder: Annotated[
            Path,
            typer.Argument(
                metavar="DIR", help="A machine's folder of results, a track's, or a whole tree of them."
            ),
        ],
        machine: Annotated[
            str | None, typer.Option("--machine", help="Keep them under this name instead of their own.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would come and be refused, and change nothing.")
        ] = False,
        config: Annotated[
            Path | None, typer.Option("--config", help="asv configuration to use instead of the nearest.")
        ] = None,
        track: Annotated[
            str | None,
            typer.Option("--track", help="The track that they are of; by default as their folder says."),
        ] = None,
        repo: Annotated[
            str | None, typer.Option("--repo", help="Clone or URL to use instead of the track's own.")
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what was refused.")] = False,
    ) -> None:
        """Take in results that were measured on another machine: united with what is here, never overwriting."""
        from mlx_velocity import tracks
        from mlx_velocity.commands import importing as command

        def open_track(name: str | None) -> tracks.Track:
            return tracks.load(tracks.find_config(config, name, Path.cwd()), repo)

        options = command.ImportOptions(folder, machine, dry_run, quiet)
        raise typer.Exit(command.import_all(open_track, track, options, console))
