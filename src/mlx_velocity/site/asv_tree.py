"""The data that `asv publish` writes of a track: index.json, graphs/, regressions.json and its feed, info.json.

It is made from the index instead of from the result files, and only what changed is made again. Everything else is
as asv does it: names of files, order of commits, steps and regressions. Texts go through plain.py.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from asv import util
from asv.machine import Machine
from asv.plugins.regressions import Regressions
from asv.plugins.summarygrid import SummaryGrid
from asv.publishing import OutputPublisher
from asv.repo import NoSuchNameError, Repo

from mlx_velocity import units
from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.errors import InputError
from mlx_velocity.site import asv_graphs, asv_groups, asv_regressions, linked, plain
from mlx_velocity.site.asv_graphs import AsvGraph, AsvGraphs, Points
from mlx_velocity.site.asv_groups import Grouped
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.reading import usable_cores
from mlx_velocity.tracks import Track

SERIES_AT_ONCE = 32
"""What a process is given at once: enough that the compiled loops are worth loading, few enough to share out evenly."""
ALONE = 20_000
"""Points that are fitted here: starting other processes takes longer."""
Progress = Callable[[int, int], None]
Batch = list[tuple[Points, bool]]


@dataclass
class Tree:
    """What was published of a track."""

    commits: int = 0
    graphs: int = 0
    made: int = 0
    """Graphs that had to be made; the others were as before."""
    regressed: int = 0
    lost: int = 0
    off_branch: int = 0
    gone: list[str] = field(default_factory=list)
    """Benchmarks that results are stored of and that are not described any more."""


@dataclass
class Begun:
    """A tree whose graphs are to be made, in other processes where there are many."""

    track: Track
    repo: Repo
    graph: CommitGraph
    index: StoreIndex
    html: Path
    branches: list[str]
    benchmarks: dict[str, dict[str, Any]]
    grouped: Grouped
    points: list[Points]
    kept: _Kept
    todo: Batch
    made: Iterator[tuple[Batch, list[asv_graphs.Steps]]] = field(default_factory=lambda: iter(()))


def begin(
    track: Track, repo: Repo, graph: CommitGraph, index: StoreIndex, benchmarks: dict[str, dict[str, Any]],
    html: Path, before: Path | None,
) -> Begun:  # fmt: skip
    """Begin to write the tree of a track to the folder `html`. `before` is where the last one lies: what did not change
    is linked from there.

    Raises InputError where a tracked branch does not exist.
    """
    html.mkdir(parents=True, exist_ok=True)
    branches = {repo.get_branch_name(branch): _branch(repo, graph, branch) for branch in track.conf.branches}
    sound = asv_groups.sound(benchmarks)
    grouped = asv_groups.group(index, graph, branches, sound)
    points = [
        item for group in grouped.groups for item in asv_groups.points(index, group, graph.revisions, sound)
    ]
    kept = _Kept(index, points)
    todo: Batch = []
    for item in points:
        known = kept.steps(item)
        if known is None or not kept.linked(item, html, before):
            todo.append((item, known is None))
    return Begun(track, repo, graph, index, html, list(branches), sound, grouped, points, kept, todo)


def start(begun: Begun, pool: Executor) -> None:
    """Let the graphs be made in `pool`, while the caller does something else."""
    begun.made = _made(begun.html, begun.todo, pool)


def finish(begun: Begun, progress: Progress | None = None) -> Tree:
    """Wait for the graphs, and write everything else."""
    track, repo, graph, html = begun.track, begun.repo, begun.graph, begun.html
    sound, grouped = begun.benchmarks, begun.grouped
    shown = {item["name"]: item for item in map(asv_groups.shown, sound.values())}
    wanted = grouped.dates_ms.keys() | set(graph.tags.values())
    revisions = {commit: number for commit, number in graph.revisions.items() if commit in wanted}
    graphs = _graphs(begun, progress)
    held = AsvGraphs(graphs)
    for name in {item.name: None for item in begun.points}:
        asv_graphs.summary([item.points for item in held.get_graph_group(name)]).save(str(html))
    conf = copy.copy(track.conf)
    conf.html_dir, conf.show_commit_url = str(html), plain.link(conf.show_commit_url)
    regressed, pages = 0, []
    for publisher in sorted(util.iter_subclasses(OutputPublisher), key=lambda item: item.order):
        with contextlib.redirect_stdout(io.StringIO()):
            if publisher is Regressions:
                names = {name: plain.name(name) for name in sound}
                regressed = asv_regressions.publish(
                    conf, repo, graph, begun.index, shown, held, revisions, names
                )
            elif publisher is not SummaryGrid:
                publisher.publish(conf, repo, shown, held, revisions)
        pages.append([publisher.name, publisher.button_label, publisher.description])
    _write(
        html / "index.json",
        _index(begun, shown, revisions, graphs) | {"pages": pages},
    )
    util.write_json(
        str(html / "info.json"), {"asv-version": version("asv"), "timestamp": time.time_ns() // 1_000_000}
    )
    _write(html / "commits.json", {"by_revision": _subjects(graph, grouped)})
    commits = sum(commit in graph.commits for commit in grouped.dates_ms)
    return Tree(
        commits, len(graphs), len(begun.todo), regressed, grouped.lost, grouped.off_branch, sorted(grouped.gone)
    )  # fmt: skip


def _branch(repo: Repo, graph: CommitGraph, branch: str | None) -> list[str]:
    try:
        tip = repo.get_hash_from_name(repo.get_branch_name(branch))
    except (NoSuchNameError, util.ProcessError) as error:
        raise InputError(
            f"the repository has no branch '{branch}'", 'set "branches" in the configuration'
        ) from error
    return graph.first_parents(tip)


def _graphs(begun: Begun, progress: Progress | None) -> list[AsvGraph]:
    """Every graph with its steps, and its file."""
    done = 0
    steps = {item.path: begun.kept.steps(item) or [] for item in begun.points}
    for batch, found in begun.made:
        for (item, new), its_steps in zip(batch, found, strict=True):
            steps[item.path] = its_steps if new else steps[item.path]
            begun.kept.add(item, steps[item.path], begun.html)
        done += len(batch)
        if progress is not None:
            progress(done, len(begun.todo))
    begun.kept.save()
    return [AsvGraph(item, steps[item.path]) for item in begun.points]


def _made(html: Path, todo: Batch, pool: Executor) -> Iterator[tuple[Batch, list[asv_graphs.Steps]]]:
    """Batches and what will come of them, in other processes where that is worth it."""
    batches: list[Batch] = [[]]
    for item in todo:
        batches[-1].append(item)
        if sum(len(points.values) for points, _ in batches[-1]) >= SERIES_AT_ONCE:
            batches.append([])
    batches = [batch for batch in batches if batch]
    alone = usable_cores() == 1 or sum(points.values.size for points, _ in todo) < ALONE
    make = map if alone else pool.map
    return zip(batches, make(asv_graphs.make, [str(html)] * len(batches), batches), strict=True)


class _Kept:
    """What the index keeps of each graph between two publishes: its digest, its steps, and its file's size and time."""

    def __init__(self, index: StoreIndex, points: list[Points]) -> None:
        self._index = index
        self._digests = {item.path: item.digest for item in points}
        self._new: dict[str, bytes] = {}
        stored = index.derived(f"graph:{item.path}" for item in points)
        self._held: dict[str, dict[str, Any]] = {}
        for key, data in stored.items():
            held = json.loads(data)
            path = key.removeprefix("graph:")
            if held["digest"] == self._digests[path]:
                self._held[path] = held

    def steps(self, item: Points) -> asv_graphs.Steps | None:
        """The steps of a graph that did not change."""
        held = self._held.get(item.path)
        if held is None:
            return None
        return [[(a, b, c, d, e) for a, b, c, d, e in series] for series in held["steps"]]

    def linked(self, item: Points, html: Path, before: Path | None) -> bool:
        """Whether the last site's file could be taken: it is the one that was written for these points."""
        held = self._held.get(item.path)
        if held is None or before is None:
            return False
        name = f"{item.path}.json"
        return linked.taken(before / name, html / name, held["file"])

    def add(self, item: Points, steps: asv_graphs.Steps, html: Path) -> None:
        """A graph that was made."""
        held = {
            "digest": self._digests[item.path], "steps": steps, "file": linked.mark(html / f"{item.path}.json"),
        }  # fmt: skip
        self._new[f"graph:{item.path}"] = json.dumps(held).encode()

    def save(self) -> None:
        if self._new:
            self._index.keep_derived(self._new)


def _index(
    begun: Begun, shown: dict[str, Any], revisions: dict[str, int], graphs: list[AsvGraph]
) -> dict[str, Any]:
    track, graph, grouped = begun.track, begun.graph, begun.grouped
    dates = grouped.dates_ms | {commit: graph.commits[commit].date_s * 1000 for commit in graph.tags.values()}
    params: dict[str, list[Any]] = {
        key: sorted(values, key=lambda item: "[none]" if item is None else str(item))
        for key, values in grouped.params.items()
    }
    listed: list[dict[str, Any]] = []
    for item in graphs:
        if item.params not in listed:
            listed.append(item.params)
    machines = {}
    for described in begun.index.machines.values():
        held = plain.tree(described) | {
            "version": Machine.api_version,
            "machine": plain.value(described["machine"]),
        }
        machines[held["machine"]] = held
    return {
        "project": plain.text(track.conf.project),
        "project_url": plain.link(track.conf.project_url),
        "show_commit_url": plain.link(track.conf.show_commit_url),
        "hash_length": track.conf.hash_length,
        "revision_to_hash": {revision: commit for commit, revision in revisions.items()},
        "revision_to_date": {revision: dates[commit] for commit, revision in revisions.items()},
        "params": {**params, "branch": begun.branches},
        "graph_param_list": listed,
        "benchmarks": shown,
        "machines": machines,
        "tags": {plain.value(tag): revisions[commit] for tag, commit in graph.tags.items()},
    }


def _subjects(graph: CommitGraph, grouped: Grouped) -> dict[int, str]:
    """What each measured commit says of itself, by revision."""
    return {
        graph.revisions[
            commit
        ]: f"{plain.text(graph.commits[commit].subject)} ({units.day(graph.commits[commit].date_s)})"
        for commit in grouped.dates_ms
        if commit in graph.commits
    }


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), "utf-8")
