"""The command line of the tools that measure what is here: no commits, no history."""

from __future__ import annotations

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
