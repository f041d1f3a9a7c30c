"""What stored comparisons say of a case: the better judge of two commits, told beside its history."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mlx_velocity import comparisons, judge
from mlx_velocity.commands import compare
from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import CaseHistory, HistoryReport, MachineHistory, SideBySide
from mlx_velocity.store.files import no_garbage

FILES = 50
"""Comparisons of a machine that are looked at, the newest: each is read whole."""


def beside(results_dir: Path, told: HistoryReport) -> HistoryReport:
    """The history with what comparisons say, where it is of one case: to read them for all would take too long."""
    if not told.one_case:
        return told

    def compared(item: MachineHistory) -> MachineHistory:
        folder = results_dir / item.name
        cases = [dataclasses.replace(case, side_by_side=of_case(folder, case)) for case in item.cases]
        return dataclasses.replace(item, cases=cases)

    return dataclasses.replace(told, machines=[compared(item) for item in told.machines])


def of_case(machine_folder: Path, case: CaseHistory) -> list[SideBySide]:
    """The verdicts on a case in its version and environment, the newest first; what can't be read is left to `validate`."""
    found = []
    for path in comparisons.newest_first(machine_folder / compare.FOLDER, None, None)[:FILES]:
        try:
            # Most hold other cases, and reading a record costs more than a look at its text.
            if case.benchmark not in path.read_text("utf-8", "replace"):
                continue
            with no_garbage():
                stored = comparisons.read(path)
        except (InputError, OSError):
            continue
        measured: list[PairReading | Break] = [*stored.pairs, *stored.breaks]
        own = (case.benchmark, case.version, tuple(case.params))
        header = stored.header
        if header.base.environment.name == case.environment and own in map(judge.key_of, measured):
            done = compare.judged(stored, {})
            found += [
                SideBySide(header.started[:10], header.base.name, header.head.name, done.interrupted, item)
                for item in done.cases
                if item.benchmark == case.benchmark and item.params == case.params
            ]
    return found
