"""What a machine has measured of which commits: counts per group of cases and stretch of commits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlx_velocity.store.columns import Columns
from mlx_velocity.store.rows import Stored

STATES = ("measured", "failed", "skipped", "missing")
MOST_GROUPS = 24
OTHER = "others"
MEASURED, FAILED, SKIPPED, MISSING = range(4)


@dataclass(frozen=True)
class Stretch:
    """Commits that follow each other, and how many cases of each group came out how."""

    commits: list[str]
    counts: list[tuple[int, ...]]
    """Per group: as many as each of `STATES`."""


@dataclass
class Coverage:
    """Of one machine with one environment."""

    groups: list[str] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    """Oldest first."""


def of(
    results: Iterable[tuple[str, Columns, Stored | None]],
    keys: Sequence[tuple[str, str | None, str | None]],
    numbers: Mapping[Any, int],
    most: int,
) -> Coverage:
    """The coverage of commits (hash, columns of the result, readings beside it), oldest first, in `most` stretches.

    A case is missing at a commit where it neither came out nor failed nor was skipped, though another commit has it.
    Neighbours that lack nothing are one stretch.
    """
    commits, states = [], []
    for commit, columns, readings in results:
        commits.append(commit)
        states.append(_states(columns, readings, len(keys), numbers))
    if not commits:
        return Coverage()
    table = np.array(states)
    tried = (table != MISSING).any(axis=0)
    names = [group_of(name) for name, _, _ in keys]
    listed = list(dict.fromkeys(name for name, used in zip(names, tried.tolist(), strict=True) if used))
    groups = listed if len(listed) <= MOST_GROUPS else [*listed[: MOST_GROUPS - 1], OTHER]
    at = np.array([groups.index(name) if name in groups else len(groups) - 1 for name in names])
    made = Coverage(groups)
    size = -(-len(commits) // most)
    # The newest stretch is a whole one: it is the one that is looked at.
    edges = sorted({0, *range(len(commits), 0, -size)})
    for start, end in itertools.pairwise(edges):
        part = table[start:end]
        counts = [
            tuple(int((part[:, tried & (at == group)] == state).sum()) for state in range(len(STATES)))
            for group in range(len(groups))
        ]
        if made.stretches and _whole(counts) and _whole(made.stretches[-1].counts):
            before = made.stretches.pop()
            both = [
                tuple(map(sum, zip(*pair, strict=True))) for pair in zip(before.counts, counts, strict=True)
            ]
            made.stretches.append(Stretch([*before.commits, *commits[start:end]], both))
        else:
            made.stretches.append(Stretch(commits[start:end], counts))
    return made


def _whole(counts: Sequence[tuple[int, ...]]) -> bool:
    return all(sum(count) == count[MEASURED] for count in counts)


def group_of(benchmark: str) -> str:
    """What a benchmark is counted with: its file."""
    return benchmark.partition(".")[0]


def _states(columns: Columns, readings: Stored | None, size: int, numbers: Mapping[Any, int]) -> Any:
    made = np.full(size, MISSING, np.int8)
    made[columns["case"]] = np.where(np.isnan(columns["value"]), FAILED, MEASURED)
    for failure in readings.head["failures"] if readings else []:
        number = _number(failure, numbers)
        if failure["outcome"] == "skipped" and number is not None and made[number] != MEASURED:
            made[number] = SKIPPED
    return made


def _number(failure: dict[str, Any], numbers: Mapping[Any, int]) -> int | None:
    if failure["benchmark"] is None:
        return None
    return numbers.get((failure["benchmark"], failure["version"], json.dumps(failure["params"] or [])))
