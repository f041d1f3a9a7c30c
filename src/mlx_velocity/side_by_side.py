"""What stored comparisons say of the cases of a machine: the better judge of two commits, told beside its history."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mlx_velocity import comparisons, judge
from mlx_velocity.chronicle import Line
from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import CaseHistory, SideBySide
from mlx_velocity.store.files import no_garbage
from mlx_velocity.store.index import StoreIndex

FILES = 50
"""Comparisons of a machine that are looked at, the newest: each is read whole, a tenth of a second for a large one."""

Key = tuple[str, str, str, tuple[str, ...]]
"""Environment, benchmark, version, parameters."""


def beside(index: StoreIndex, machine: str, cases: Sequence[CaseHistory], line: Line) -> list[CaseHistory]:
    """The cases of a machine with what comparisons say of each in its version and environment, the newest first.

    What can't be read is left to `validate`, and what is of commits before those that were asked for is left out.
    """
    said = _said(index, machine, line)
    if not said:
        return list(cases)
    return [
        dataclasses.replace(case, side_by_side=said.get(_key_of(case), case.side_by_side)) for case in cases
    ]


def _key_of(case: CaseHistory) -> Key:
    return case.environment, case.benchmark, case.version, tuple(case.params)


def _said(index: StoreIndex, machine: str, line: Line) -> dict[Key, list[SideBySide]]:
    found: dict[Key, list[SideBySide]] = {}
    folder = index.root / machine / comparisons.FOLDER
    for path in comparisons.newest_first(folder, None, None)[:FILES]:
        try:
            with no_garbage():
                stored = comparisons.read(path)
        except (InputError, OSError):
            continue
        header = stored.header
        if line.place.get(header.head.commit, line.since) < line.since:
            continue
        measured: list[PairReading | Break] = [*stored.pairs, *stored.breaks]
        versions = set(map(judge.key_of, measured))
        done = judge.of_file(stored, {})
        for item in done.cases:
            own = SideBySide(header.started[:10], header.base.name, header.head.name, done.interrupted, item)
            for benchmark, version, params in versions:
                if (benchmark, params) == (item.benchmark, tuple(item.params)):
                    key = (header.base.environment.name, benchmark, version, params)
                    found.setdefault(key, []).append(own)
    return found
