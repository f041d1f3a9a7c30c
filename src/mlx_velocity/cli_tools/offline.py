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
