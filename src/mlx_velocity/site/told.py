"""The history of a track as its pages tell it: what `mlx-velocity history` would say, from the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

from mlx_velocity import changepoints, chronicle, indexed_series, regressions
from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.history_report import HistoryReport, MachineHistory, Unread
from mlx_velocity.series import Found, Series
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.reading import usable_cores
from mlx_velocity.tracks import Track
from mlx_velocity.windows import Memory

FORMAT = 1
"""Of what is kept of the windows that were searched. Another format is no error: they are searched again."""
Progress = Callable[[int, int], None]
ALONE = 6
"""Batches of windows that are searched here: starting other processes takes longer."""


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
    unread = [Unread(regressions.NAME, reason) for _, reason in bad]
    machines = []
    for folder in sorted({item.machine for item in index.results()}):
        made = indexed_series.of_machine(index, folder, [commit.hash for commit in line.commits], benchmarks)
        own = {key: mark for key, mark in marks.items() if mark.machine == folder}
        detector = _Detector(index, folder, pool, progress)
        cases, lost = chronicle.cases(track.name, made, line, own, find=detector)
        detector.keep()
        measured = sorted(line.place[commit] for commit in made.commits)
        known = index.measured_commits(folder)
        unread += [Unread(path, reason) for path, reason in index.problems if path.startswith(f"{folder}/")]
        machines.append(
            MachineHistory(
                name=folder,
                description={key: str(value) for key, value in index.machines[folder].items()},
                cases=cases,
                commits=len(measured),
                first=line.commit(line.commits[measured[0]].hash) if measured else None,
                last=line.commit(line.commits[measured[-1]].hash) if measured else None,
                unknown=len(known - graph.commits.keys()),
                elsewhere=len((known & graph.commits.keys()) - made.commits),
                unread=unread,
                lost=[mark.id for mark in lost],
            )
        )
        unread = []
    return HistoryReport(track.name, branch, "", "", machines)


def line_of(graph: CommitGraph, tip: str) -> chronicle.Line:
    """The commits of a branch by its tip's full hash, oldest first."""
    return chronicle.Line([graph.commits[commit] for commit in reversed(graph.first_parents(tip))])


class _Detector:
    """changepoints.find_many of a machine, which searches only what changed since the index last heard of it."""

    def __init__(
        self, index: StoreIndex, folder: str, pool: Executor | None, progress: Progress | None
    ) -> None:
        self._index, self._name, self._pool = index, f"windows:{FORMAT}:{folder}", pool
        self._progress = progress
        self._known: Memory = json.loads(index.derived([self._name]).get(self._name, b"{}"))
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
