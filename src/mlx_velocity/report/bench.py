"""A run of `bench` as Markdown, JSON, JSON lines, CSV and SQL. Nothing is computed but views of its numbers."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from mlx_velocity import units
from mlx_velocity.bench import FORMAT, Row, Run, mean_sd
from mlx_velocity.report import text

TABLE = "bench"
"""Of the SQL."""

SQL_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}

Cells = Sequence[tuple[str, type, Any]]


def markdown(run: Run) -> str:
    """The tables, then what a reader must know beside them."""
    measured = [row for row in run.rows if row.outcome == "measured"]
    plain = [row for row in measured if row.trial.stage != "text"]
    texts = [row for row in measured if row.trial.stage == "text"]
    parts = []
    if plain:
        parts.append(_plain_table(plain, run))
    if texts:
        parts.append(_text_table(texts))
    parts.append("\n".join(beside(run)))
    return "\n\n".join(parts) + "\n"


def _plain_table(rows: list[Row], run: Run) -> str:
    drafts = any(row.acceptance is not None for row in rows)
    shares = any(row.share for row in rows)
    headings = ["model", "size", "params", "backend", "test", *(["accepted"] if drafts else []), "t/s"]
    headings += ["of peak"] if shares else []
    cells = [
        [
            _name(row),
            units.bytes_(row.model.weight_bytes or 0),
            _parameters(row.model.parameters),
            run.backend,
            row.trial.name,
            *([_percent(row.acceptance)] if drafts else []),
            _mean_sd(row.rates),
            *([_of_peak(row)] if shares else []),
        ]
        for row in rows
    ]
    return _aligned(headings, "lrrll" + "r" * (1 + drafts + shares), cells)


def _of_peak(row: Row) -> str:
    """The share of what limits the stage: bandwidth for memory, FLOP/s for computing."""
    if row.share is None:
        return "–"
    if row.share.bound == "compute":
        return f"{units.share(row.share.mfu)} FLOP/s" if row.share.mfu is not None else "–"
    utilization = row.share.bandwidth_utilization
    return f"{units.share(utilization)} bandwidth" if utilization is not None else "–"


def _text_table(rows: list[Row]) -> str:
    headings = ["model", "prompt", "tokens", "prefill tok/s", "decode tok/s", "TTFT ms", "total s"]
    cells = [
        [
            _name(row),
            text.clean(row.trial.label),
            f"{row.notes.get('prompt_tokens', 0):,}",
            _mean_sd(row.prefill_rates),
            _mean_sd(row.decode_rates),
            _mean_sd([1000 * seconds for seconds in row.first_token_s]),
            _mean_sd(row.samples),
        ]
        for row in rows
    ]
    return _aligned(headings, "llrrrrr", cells)


def beside(run: Run) -> list[str]:
    """Sentences: with what it was measured, how, and what is missing for which reason."""
    measured = [row for row in run.rows if row.outcome == "measured"]
    versions = ", ".join(f"{name.replace('_', '-')} {version}" for name, version in run.modules.items())
    chip = run.machine["gpu"] if run.backend == "cuda" and run.machine["gpu"] else run.machine["cpu"]
    said = [
        f"{versions}, Python {run.python}, {run.backend} on {text.clean(str(chip))} "
        f"({run.machine['num_cpu']} cores, {run.memory_bytes / 1e9:.1f} GB for a model), {run.machine['os']}."
    ]
    if measured:
        said.append(_how(measured))
    said += sorted({f"Tokenizer: {row.notes['tokenizer']}." for row in measured if "tokenizer" in row.notes})
    if run.peaks and any(row.share for row in measured):
        said.append(f"of peak: of what limits the stage, {text.clean(run.peaks)}.")
    said += run.remarks
    missing: dict[tuple[str, str, str], list[str]] = {}
    for row in run.rows:
        if row.outcome != "measured":
            missing.setdefault((row.outcome, _name(row), row.reason), []).append(row.trial.name)
    for (outcome, model, reason), names in missing.items():
        said.append(f"{outcome}: {model} {', '.join(names)}: {text.clean(reason)}")
    if run.interrupted:
        said.append("interrupted: what was not reached is missing.")
    return said


def _how(rows: list[Row]) -> str:
    counts = sorted({len(row.samples) for row in rows})
    samples = "–".join(dict.fromkeys(f"{count}" for count in (counts[0], counts[-1])))
    warm = max(len(row.warmup) for row in rows)
    said = f"t/s: tokens per second, mean ± standard deviation of {samples} samples after {units.count(warm, 'warm-up')}"
    if any(row.trial.stage != "text" for row in rows):
        said += "; synthetic prompts: seeded random token ids"
    if any(row.model.random for row in rows):
        said += "; seeded random weights"
    return said + "."


def json_document(run: Run) -> str:
    """All of it, raw samples too, described by bench.schema.json."""
    data = {**_header(run), "rows": [_row(row) for row in run.rows]}
    return _dumped(data, indent=1) + "\n"


def json_lines(run: Run) -> str:
    """A line for each row that holds the header too, so that files can be joined."""
    header = _header(run)
    return "".join(_dumped({**header, **_row(row)}) + "\n" for row in run.rows)


def _header(run: Run) -> dict[str, Any]:
    header = {key: value for key, value in vars(run).items() if key != "rows"}
    return {"format": FORMAT, **header}


def _row(row: Row) -> dict[str, Any]:
    data = dataclasses.asdict(row)
    rates = dict(zip(("mean", "sd"), mean_sd(row.rates), strict=True)) if row.samples else None
    return {"test": row.trial.name, **data, "tokens_per_s": rates, "acceptance": row.acceptance}


def _dumped(data: dict[str, Any], indent: int | None = None) -> str:
    return json.dumps(data, indent=indent, allow_nan=False)


def comma_separated(run: Run) -> str:
    """One line a row, with headings; no raw samples."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\n")
    rows = [_cells(run, row) for row in run.rows]
    for number, cells in enumerate(rows):
        if number == 0:
            writer.writerow([name for name, _, _ in cells])
        writer.writerow(["" if value is None else value for _, _, value in cells])
    return "".join(lines)


def sql(run: Run) -> str:
    """A table, made where it is missing, and its rows, for sqlite3."""
    rows = [_cells(run, row) for row in run.rows]
    said = ["BEGIN;"]
    for number, cells in enumerate(rows):
        if number == 0:
            columns = ",\n".join(f"  {name} {SQL_TYPES[kind]}" for name, kind, _ in cells)
            said.append(f"CREATE TABLE IF NOT EXISTS {TABLE} (\n{columns}\n);")
        names = ", ".join(name for name, _, _ in cells)
        said.append(
            f"INSERT INTO {TABLE} ({names}) VALUES ({', '.join(_quoted(value) for _, _, value in cells)});"
        )
    return "\n".join([*said, "COMMIT;"]) + "\n"


def _quoted(value: Any) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _cells(run: Run, row: Row) -> Cells:
    """Name, type and value of each column of the flat formats; None where there is no value."""
    mean, sd = mean_sd(row.rates) if row.samples else (None, None)
    mean_s, sd_s = mean_sd(row.samples) if row.samples else (None, None)
    first_s = mean_sd(row.first_token_s)[0] if row.first_token_s else None
    return (
        ("format", int, FORMAT),
        ("started", str, run.started),
        ("cpu", str, text.clean(str(run.machine["cpu"]))),
        ("gpu", str, text.clean(str(run.machine["gpu"]))),
        ("os", str, str(run.machine["os"])),
        ("backend", str, run.backend),
        ("python", str, run.python),
        ("mlx", str, run.modules.get("mlx")),
        ("mlx_lm", str, run.modules.get("mlx_lm")),
        ("model", str, _name(row)),
        ("dtype", str, row.model.dtype),
        ("weight_bytes", int, row.model.weight_bytes),
        ("parameters", int, row.model.parameters),
        ("random_weights", int, None if row.model.random is None else int(row.model.random)),
        ("test", str, row.trial.name),
        ("stage", str, row.trial.stage),
        ("tokens", int, row.trial.tokens),
        ("depth", int, row.trial.depth),
        ("batch", int, row.trial.batch),
        ("draft", str, row.trial.draft or None),
        ("prompt_tokens", int, row.notes.get("prompt_tokens")),
        ("outcome", str, row.outcome),
        ("reason", str, text.clean(row.reason) or None),
        ("samples", int, len(row.samples)),
        ("mean_s", float, mean_s),
        ("sd_s", float, sd_s),
        ("mean_tokens_per_s", float, mean),
        ("sd_tokens_per_s", float, sd),
        ("first_token_s", float, first_s),
        ("peak_bytes", int, row.peak_bytes),
        ("acceptance", float, row.acceptance),
        ("bandwidth_utilization", float, row.share.bandwidth_utilization if row.share else None),
        ("mfu", float, row.share.mfu if row.share else None),
        ("bound", str, row.share.bound if row.share else None),
        ("digest", str, row.notes.get("digest")),
    )


WRITERS: dict[str, Callable[[Run], str]] = {
    "md": markdown,
    "json": json_document,
    "jsonl": json_lines,
    "csv": comma_separated,
    "sql": sql,
}
"""The formats by the name that `-o` takes."""


def _aligned(headings: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that reads as well in a terminal; `sides` holds an l or r for each column."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in (headings, *escaped))) for i in range(len(headings))]
    rule = [
        "-" * (width - 1) + (":" if side == "r" else "-") for width, side in zip(widths, sides, strict=True)
    ]
    lines = [headings, rule, *escaped]
    return "\n".join(
        "| " + " | ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ) + " |"
        for line in lines
    )  # fmt: skip


def _name(row: Row) -> str:
    return text.clean(row.model.name)


def _parameters(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.0f} %"


def _mean_sd(values: list[float]) -> str:
    if not values:
        return "–"
    mean, sd = mean_sd(values)
    return f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}")
