"""Results over sequence lengths as a table, for a terminal or in Markdown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mlx_velocity import units
from mlx_velocity.report.text import table
from mlx_velocity.spread import PERCENTILES

WIDEST = 200
"""Columns that text may take: it is folded by whoever shows it, not here."""
NONE = "–"

Results = Mapping[str, Mapping[str, Any]]


def text(results: Results, missing: Mapping[str, str]) -> str:
    """Plain text; one line a sequence length, then what is missing."""
    made = table(*((heading, "right") for heading in _headings(results)))
    for result in results.values():
        made.add_row(*_cells(result, _percentiles(results)))
    stream = io.StringIO()
    Console(file=stream, width=WIDEST, color_system=None, highlight=False).print(made)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([*filter(None, lines), *_missing(missing)]) + "\n"


def markdown(results: Results, missing: Mapping[str, str]) -> str:
    """A Markdown table, then what is missing as a list."""
    headings = _headings(results)
    rows = [_cells(result, _percentiles(results)) for result in results.values()]
    lines = [headings, ["---:"] * len(headings), *rows]
    body = [f"| {' | '.join(line)} |" for line in lines]
    # A reason may come from anywhere.
    below = [f"- {line.replace('|', chr(92) + '|').replace('<', '&lt;')}" for line in _missing(missing)]
    return "\n".join([*body, *([""] if below else []), *below]) + "\n"


def _percentiles(results: Results) -> list[int]:
    """Those that some length has samples enough for."""
    return [
        percent
        for percent in PERCENTILES
        if any(result[f"p{percent}_latency_s"] is not None for result in results.values())
    ]


def _headings(results: Results) -> list[str]:
    percentiles = [f"p{percent}" for percent in _percentiles(results)]
    return ["tokens", "batch", "tokens/s", "latency ± sd", *percentiles, "peak", "active", "°C"]


def _cells(result: Mapping[str, Any], percentiles: Sequence[int]) -> list[str]:
    sd = result["std_latency_s"]
    spread = "" if sd is None else f" ± {units.seconds(sd)}"
    return [
        f"{result['seq_len']:,}",
        f"{result['batch_size']:,}",
        units.rate(result["tokens_per_sec"]),
        f"{units.seconds(result['latency_s'])}{spread}",
        *(_or_none(result[f"p{percent}_latency_s"], units.seconds) for percent in percentiles),
        _or_none(result["peak_bytes"], units.bytes_),
        _or_none(result["active_bytes"], units.bytes_),
        _heat(result["soc_temp_before_c"], result["soc_temp_c"]),
    ]


def _or_none(value: float | None, words: Any) -> str:
    return NONE if value is None else str(words(value))


def _heat(before: float | None, after: float | None) -> str:
    if before is None and after is None:
        return NONE
    return " → ".join(NONE if value is None else f"{value:.0f}" for value in (before, after))


def _missing(missing: Mapping[str, str]) -> list[str]:
    return [f"{name} is missing: {reason}" for name, reason in missing.items()]
