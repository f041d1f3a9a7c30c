"""The history of a track, told from its index: by `mlx-velocity history` and by the pages of the site."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from mlx_velocity import (
    bisected,
    changepoints,
    chronicle,
    indexed_series,
    outages,
    regressions,
    remembered,
    side_by_side,
    units,
)
from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import HistoryReport, MachineHistory, Unread
from mlx_velocity.series import Found, Series
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.reading import usable_cores
from mlx_velocity.store.rows import read_json
from mlx_velocity.store.stamp import stamp
from mlx_velocity.tracks import Track
from mlx_velocity.windows import Memory

FORMAT = 1
"""Of what is kept of the windows that were searched. Another format is no error: they are searched again."""
Progress = Callable[[int, int], None]
Resolve = Callable[[Iterable[str]], Iterable[str]]
"""Hashes of commits, or beginnings of them → those that the repository has."""
ALONE = 6
"""Batches of windows that are searched here: starting other processes takes longer."""


@dataclass(frozen=True)
class Telling:
    """What the history of each machine of a track is told from."""

    track: str
    index: StoreIndex
    line: chronicle.Line
    benchmarks: dict[str, dict[str, Any]]
    marks: Mapping[str, regressions.Mark]
    resolve: Resolve
    pool: Executor | None = None
    progress: Progress | None = None


def history(
    track: Track,
    line: chronicle.Line,
    branch: str,
    graph: CommitGraph,
    index: StoreIndex,
    benchmarks: dict[str, dict[str, Any]],
    pool: Executor | None = None,
    progress: Progress | None = None,
) -> HistoryReport:
    """Every machine's cases along a branch; raises InputError where the file of what was decided can't be read."""
    marks, bad = regressions.read(track.results_dir)
    telling = Telling(
        track.name, index, line, benchmarks, marks, graph.commits.keys().__and__, pool, progress
    )
    machines = [machine(telling, name) for name in index.measured_machines()]
    if bad:
        machines[0].unread[:0] = [Unread(regressions.NAME, reason) for _, reason in bad]
    return HistoryReport(track.name, branch, "", "", machines)


def line_of(graph: CommitGraph, tip: str) -> chronicle.Line:
    """The commits of a branch by its tip's full hash, oldest first."""
    return chronicle.Line([graph.commits[commit] for commit in reversed(graph.first_parents(tip))])


def machine(telling: Telling, folder: str) -> MachineHistory:
    """Every case of a machine along the line."""
    index, line = telling.index, telling.line
    own = {key: mark for key, mark in telling.marks.items() if mark.machine == folder}
    key = _key(telling, folder, own)
    told = remembered.load(index, folder, key, line.commits)
    if told is None:
        told = _told(telling, folder, own)
        # Who can't keep it tells it all the same.
        with contextlib.suppress(InputError):
            remembered.keep(index, folder, key, line.commits, told)
    places = told.measured
    elsewhere = len(set(telling.resolve(told.others)))
    cases = [chronicle.since(case, line) for case in told.cases] if line.since else told.cases
    cases, silent = side_by_side.beside(index, folder, cases, line)
    cases = bisected.beside(index, folder, cases, line)
    return MachineHistory(
        name=folder,
        description={key: str(value) for key, value in index.machines.get(folder, {}).items()},
        cases=cases,
        commits=len(places),
        first=line.commit(line.commits[places[0]].hash) if places else None,
        last=line.commit(line.commits[places[-1]].hash) if places else None,
        unknown=len(told.others) - elsewhere,
        elsewhere=elsewhere,
        unread=[*unread(index, folder), *silent],
        lost=told.lost,
        outages=outages.of(cases, line),
    )


def _told(telling: Telling, folder: str, marks: Mapping[str, regressions.Mark]) -> remembered.Told:
    line = telling.line
    order = [commit.hash for commit in line.commits]
    made = indexed_series.of_machine(telling.index, folder, order, telling.benchmarks)
    detector = _Detector(telling.index, folder, telling.pool, telling.progress)
    cases, lost = chronicle.cases(telling.track, made, line, marks, find=detector)
    with contextlib.suppress(InputError):
        detector.keep()
    places = sorted(line.place[commit] for commit in made.commits)
    return remembered.Told(cases, [mark.id for mark in lost], places, sorted(made.others))


def _key(telling: Telling, folder: str, marks: Mapping[str, regressions.Mark]) -> str:
    """What changes when anything changes that is told of a machine, but for the line of commits."""
    index = telling.index
    files = [(item.path, item.fingerprint) for item in (*index.results(folder), *index.readings(folder))]
    broken = [path for path, _ in index.problems if path.startswith(f"{folder}/")]
    depends = (telling.track, files, broken, marks, telling.benchmarks)
    return hashlib.sha256(f"{stamp()}{depends!a}".encode()).hexdigest()


def unread(index: StoreIndex, folder: str) -> Iterable[Unread]:
    """The stored files of a machine that could not be used, or only in part."""
    for path, reason in index.problems:
        if path.startswith(f"{folder}/"):
            yield Unread(path, reason)
    for item in index.readings(folder):
        if item.bad_lines:
            yield Unread(item.path, units.count(item.bad_lines, "unreadable line"))


class _Detector:
    """changepoints.find_many of a machine, which searches only what changed since the index last heard of it."""

    def __init__(
        self, index: StoreIndex, folder: str, pool: Executor | None, progress: Progress | None
    ) -> None:
        self._index, self._name, self._pool = index, f"windows:{FORMAT}:{folder}", pool
        self._progress = progress
        self._known: Memory = read_json(index.derived([self._name]).get(self._name, b"{}"))
        self._used: Memory = {}

    def __call__(self, many: Sequence[Series], rule: changepoints.Rule) -> list[Found]:
        memory = dict(self._known)
        found = changepoints.find_many(many, rule, memory, self._each)
        self._used.update(memory)
        return found

    def _each(self, search: Any, wanted: Iterable[Any]) -> Iterable[Any]:
        listed = list(wanted)
        alone = self._pool is None or usable_cores() == 1 or len(listed) < ALONE
        found = map(search, listed) if alone or self._pool is None else self._pool.map(search, listed)
        for done, batch in enumerate(found, 1):
            if self._progress is not None:
                self._progress(done, len(listed))
            yield batch

    def keep(self) -> None:
        """Remember what was searched, and nothing that is not there any more."""
        if self._used.keys() != self._known.keys():
            self._index.keep_derived({self._name: json.dumps(self._used).encode()})
