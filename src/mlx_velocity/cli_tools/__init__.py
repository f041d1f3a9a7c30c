"""The options of the tools: one module each, since a page of options is all that one can read at once."""

from __future__ import annotations

import typer
from rich.console import Console

from mlx_velocity.cli_tools import across, bench, bisect, history, monitor, offline, profile, report


def add_to(app: typer.Typer, console: Console) -> None:
    """Put the tools into the table of commands."""
    for tool in (bisect, bench, profile, across, monitor, report, history, offline):
        tool.add_to(app, console)
