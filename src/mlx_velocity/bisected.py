"""Whom stored bisections name for the changes of a history: a search is not asked for again where it has been made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mlx_velocity import bisections
from mlx_velocity.bisection import Blame, Header
from mlx_velocity.chronicle import Line
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import Blamed, CaseHistory, Shift
from mlx_velocity.store.index import StoreIndex

Key = tuple[str, str, tuple[str, ...]]
"""Benchmark, version, parameters."""
Answers = dict[Key, list[tuple[Header, Blame]]]


def beside(index: StoreIndex, machine: str, cases: Sequence[CaseHistory], line: Line) -> list[CaseHistory]:
    """The cases of a machine with whom searches on it name for their changes.

    A file that can't be read is left to `validate`.
    """
    answers = _answers(index, machine)
    if not answers:
        return list(cases)

    def told(case: CaseHistory) -> CaseHistory:
        own = answers.get((case.benchmark, case.version, tuple(case.params)), [])
        if not own:
            return case
        shifts = [dataclasses.replace(shift, blamed=_of(shift, own, line)) for shift in case.shifts]
        return dataclasses.replace(case, shifts=shifts)

    return [told(case) for case in cases]


def _answers(index: StoreIndex, machine: str) -> Answers:
    found: Answers = {}
    for path in sorted((index.root / machine / bisections.FOLDER).glob(f"*{bisections.SUFFIX}")):
        try:
            header, blamed = bisections.answer(path)
        except InputError:
            continue
        key = (header.benchmark, header.version, tuple(header.params))
        found.setdefault(key, []).extend((header, item) for item in blamed)
    return found


def _of(shift: Shift, answers: Sequence[tuple[Header, Blame]], line: Line) -> list[Blamed]:
    """Those of the answers that lie where the change lies and go its way; of one commit the newest search."""
    good, bad = line.place[shift.good.hash], line.place[shift.bad.hash]
    found: dict[str, Blamed] = {}
    for header, item in sorted(answers, key=lambda pair: pair[0].started):
        newest, effect = item.commits[-1], item.effect
        place, oldest = (line.place.get(commit, -1) for commit in (newest, item.commits[0]))
        if not good < oldest <= place <= bad or (effect and (effect.ratio > 1) != (shift.ratio > 1)):
            continue
        ratio, low, high = (effect.ratio, effect.low, effect.high) if effect else (None, None, None)
        found[newest] = Blamed(
            line.commit(newest), line.commit(line.commits[oldest - 1].hash), len(item.commits),
            item.probability, ratio, low, high, header.started[:10],
        )  # fmt: skip
    return sorted(found.values(), key=lambda blamed: -blamed.probability)
