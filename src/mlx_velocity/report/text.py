"""Records as tables for a terminal. Nothing is computed or decided here."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from mlx_velocity import units
from mlx_velocity.records import Case


def table(*columns: tuple[str, str]) -> Table:
    """An empty table in the house style; columns are (heading, justify)."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading, justify in columns:
        made.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    return made


def change_row(
    case: Case, base: str, head: str, change: str, interval: str, rates: str, certain: bool, worse: bool
) -> Sequence[str]:
    """Cells of one case's change; colour only where the change is certain."""
    style = ("red" if worse else "green") if certain else "dim"
    return [escape(case.label), base, head, f"[{style}]{change}[/]", f"[{style}]{interval}[/]", rates]


def rate_pair(base: float | None, head: float | None, tokens: int | None) -> str:
    """Tokens per second at both ends, for a case that handles tokens."""
    if tokens is None or base is None or head is None:
        return ""
    return f"{units.rate(units.tokens_per_second(tokens, base))} → {units.rate(units.tokens_per_second(tokens, head))}"
