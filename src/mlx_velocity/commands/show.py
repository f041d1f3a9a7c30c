"""`mlx-velocity show`: what is stored of a commit, or what changed between two."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mlx_velocity import cases as case_list
from mlx_velocity import changes, history, machine, readings, requirements, results, tracks, units
from mlx_velocity.commands.run import open_results
from mlx_velocity.errors import InputError
from mlx_velocity.report import text


def show(
    track: tracks.Track,
    base: str,
    head: str | None,
    machine_name: str | None,
    bench: str | None,
    console: Console,
) -> None:
    """Print the stored results of a commit, or of two with their ratio.

    Raises InputError where a commit is unknown or has no results.
    """
    repo_path = str(tracks.open_repo(track)._path)
    folder = machine_folder(track, machine_name)
    benchmarks = case_list.load(track)
    cases = case_list.every(benchmarks.values(), bench, float(track.conf.default_benchmark_timeout))
    sides = [open_commit(track, repo_path, name, folder, benchmarks) for name in (base, head or base)]
    rows = changes.between(sides[0][1], sides[1][1], cases, benchmarks)
    if head is None:
        _one(sides[0], rows, console)
    else:
        _two(sides, rows, console)


def machine_folder(track: tracks.Track, name: str | None) -> Path:
    """The folder of a machine's results: the named one, this machine's, or the only one.

    Raises InputError where that leaves none or several.
    """
    names = sorted(path.parent.name for path in track.results_dir.glob("*/machine.json"))
    wanted = name or str(machine.describe()["machine"])
    if wanted in names:
        return track.results_dir / wanted
    if name is None and len(names) == 1:
        return track.results_dir / names[0]
    known = (
        f"the machines with results are: {', '.join(names)}" if names else "measure first: mlx-velocity run"
    )
    raise InputError(f"there are no results of machine {wanted} in track {track.name}", known)


def open_commit(
    track: tracks.Track, repo_path: str, name: str, folder: Path, benchmarks: dict[str, dict[str, Any]]
) -> tuple[history.Commit, results.CommitResults]:
    """A commit and what is stored of it, in this Python's series or else in the only other one.

    Raises InputError where the commit is unknown, or nothing of it is stored.
    """
    commit = history.one(repo_path, name)
    backend = requirements.backend_here(track.settings.backend)
    description = machine.load(folder) or {}
    stored = open_results(track, commit, folder, description, backend, read_only=True)
    if not stored.stored and not stored.path.exists():
        endings = (readings.SUFFIX, ".json")
        others = sorted(path.name for end in endings for path in folder.glob(f"{commit.short}-*{end}"))
        if others:
            env_name = others[0].removesuffix(endings[0]).removesuffix(endings[1])
            env_name = env_name.removeprefix(f"{commit.short}-")
            stored = dataclasses.replace(stored, env_name=env_name, stored=[], set_aside=[])
    stored.stored += stored.measured_by_asv(benchmarks)
    if not stored.stored:
        raise InputError(
            f"there are no results of {commit.short} ({commit.subject}) on {folder.name}",
            f"measure it: mlx-velocity run {name}",
        )
    return commit, stored


def _one(
    side: tuple[history.Commit, results.CommitResults], rows: list[changes.Change], console: Console
) -> None:
    commit, _stored = side
    console.print(f"[bold]{commit.short}[/] {escape(commit.subject)}", highlight=False)
    energy = any(row.tokens and row.base_joules for row in rows)
    table = text.table(
        ("case", "left"), ("value", "right"), ("tokens/s", "right"),
        *([("J/token", "right")] if energy else []), ("machine", "left"),
    )  # fmt: skip
    for row in sorted(rows, key=lambda item: item.case.label):
        value = (
            units.quantity(row.base, row.case.unit)
            if row.base is not None
            else f"[dim]{escape(row.base_reason)}[/]"
        )
        rate = units.rate(units.tokens_per_second(row.tokens, row.base)) if row.tokens and row.base else ""
        joules = (
            units.energy(units.joules_per_token(row.tokens, row.base_joules))
            if row.tokens and row.base_joules
            else ""
        )
        cells = [
            escape(row.case.label),
            value,
            rate,
            *([joules] if energy else []),
            text.flags(row.base_flags),
        ]
        table.add_row(*cells)
    console.print(table)


def _two(
    sides: list[tuple[history.Commit, results.CommitResults]], rows: list[changes.Change], console: Console
) -> None:
    (base, _), (head, _) = sides
    console.print(
        f"[bold]{base.short}[/] {escape(base.subject)}  →  [bold]{head.short}[/] {escape(head.subject)}",
        highlight=False,
    )
    table = text.table(
        ("case", "left"), ("base", "right"), ("head", "right"), ("change", "right"),
        (f"{changes.CONFIDENCE * 100:.0f} % interval", "right"), ("tokens/s", "right"),
    )  # fmt: skip
    for row in rows:
        table.add_row(*_change_cells(row))
    console.print(table)
    certain = [row for row in rows if row.certain]
    if disturbed := sum(row.disturbed for row in rows):
        console.print(
            f"[yellow]disturbed[/]: other programs computed on the same core during "
            f"{units.count(disturbed, 'case')}; close them and add launches: mlx-velocity run RANGE --launches 6.",
            highlight=False,
        )
    for sentence in text.flagged([(row.case.label, {*row.base_flags, *row.head_flags}) for row in rows]):
        console.print(sentence, highlight=False)
    slower = sum(row.base is not None and row.head is not None and row.head > row.base for row in certain)
    console.print(
        f"{units.count(len(rows), 'case')}: {slower} grew and {len(certain) - slower} shrank by more than noise and "
        f"{changes.RELEVANT * 100:.0f} %; lower is better. The two commits were measured one after the other, "
        "so take a change of a few per cent as a hint.",
        highlight=False,
    )


def _change_cells(row: changes.Change) -> list[str]:
    unit = row.case.unit
    base = units.quantity(row.base, unit) if row.base is not None else "–"
    head = units.quantity(row.head, unit) if row.head is not None else "–"
    if row.ratio is None:
        reason = row.head_reason or row.base_reason or ("was nothing" if row.base == 0 else "one launch")
        return [escape(row.case.label), base, head, f"[dim]{escape(reason[:60])}[/]", "", ""]
    interval = f"{units.percent_change(row.ratio.low)} … {units.percent_change(row.ratio.high)}"
    if not row.certain and changes.says_nothing(row.ratio.low, row.ratio.high):
        interval = "says nothing"
    if row.disturbed:
        interval = "disturbed"
    rates = text.rate_pair(row.base, row.head, row.tokens)
    change = units.percent_change(row.ratio.value)
    return list(
        text.change_row(row.case, base, head, change, interval, rates, row.certain, row.ratio.value > 1)
    )
