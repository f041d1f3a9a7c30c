"""asv's own list of regressions and its feed, over our graphs and without a git call per jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from asv.plugins import regressions as asv_plugin
from asv.plugins.regressions import Regressions
from asv.repo import Repo

from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.site.asv_graphs import AsvGraphs
from mlx_velocity.store.index import StoreIndex

MARKUP = {ord(sign): f"%{ord(sign):02X}" for sign in '<>"&'}


class _Ranges:
    """A repository that knows by itself whether one commit follows another; asv asks that for every jump."""

    def __init__(self, repo: Repo, graph: CommitGraph) -> None:
        self._repo, self._graph = repo, graph
        self._asked: dict[tuple[str, str], list[str]] = {}

    def get_range_spec(self, before: str, after: str) -> tuple[str, str]:
        return before, after

    def get_hashes_from_range(self, ends: tuple[str, str] | str) -> list[str]:
        if isinstance(ends, str):
            return list(self._repo.get_hashes_from_range(ends))
        if ends not in self._asked:
            step = self._graph.is_step(*ends)
            if step is None:
                spec = self._repo.get_range_spec(*ends)
                self._asked[ends] = list(self._repo.get_hashes_from_range(spec))
            else:
                self._asked[ends] = [ends[1]] if step else list(ends)
        return self._asked[ends]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repo, name)


@dataclass(frozen=True)
class _Dated:
    """What the feed asks of a result: when its benchmarks ran."""

    commit_hash: str
    date: int
    started_at: dict[str, int]
    names: set[str]

    def get_result_keys(self, benchmarks: dict[str, Any]) -> set[str]:
        return self.names & set(benchmarks)


def publish(
    conf: Any, repo: Repo, graph: CommitGraph, index: StoreIndex, benchmarks: dict[str, dict[str, Any]],
    graphs: AsvGraphs, revisions: dict[str, int], names: dict[str, str],
) -> int:  # fmt: skip
    """Write regressions.json and regressions.xml below `conf.html_dir`; returns how many series regressed.

    `names` leads from a benchmark's stored name to the published one, which `benchmarks` has.
    """
    found: list[Any] = []
    hashes = {revision: commit for commit, revision in revisions.items()}
    ranges = _Ranges(repo, graph)
    chosen = asv_plugin._GraphDataFilter(conf, ranges, revisions)
    all_params = graphs.get_params()
    for _, item in graphs:
        benchmark = benchmarks.get(item.points.name)
        if benchmark is None or "summary" in item.params:
            continue
        for data in chosen.get_graph_data(item, benchmark):
            Regressions._process_regression(found, hashes, ranges, all_params, data, item)
    Regressions._save(conf, {"regressions": found})
    jumps = {revision for row in found for jump in row[6] for revision in jump[:2] if revision is not None}
    safe_names = {name: shown.translate(MARKUP) for name, shown in names.items()}
    dated = _dated(index, {hashes[revision] for revision in jumps}, safe_names)
    # The feed is HTML in XML, and asv puts names into it as they are.
    safe = [[row[0].translate(MARKUP), *row[1:]] for row in found]
    by_safe = {name.translate(MARKUP): item for name, item in benchmarks.items()}
    # asv would load all results a third time, only to learn when they were measured.
    with patch.object(asv_plugin, "iter_results", lambda _: dated):
        Regressions._save_feed(conf, by_safe, safe, revisions, hashes)
    return len(found)


def _dated(index: StoreIndex, commits: set[str], names: dict[str, str]) -> list[_Dated]:
    wanted = [item for item in index.results() if item.commit in commits]
    dated = []
    for item, columns in index.columns(wanted):
        held = {
            names[index.keys[entry][0]]: int(started)
            for entry, started in zip(columns["entry"].tolist(), columns["started_ms"].tolist(), strict=True)
            if index.keys[entry][0] in names and started == started
        }
        there = {
            names[index.keys[entry][0]]
            for entry in columns["entry"].tolist()
            if index.keys[entry][0] in names
        }
        dated.append(_Dated(item.commit, item.head["date_ms"], held, there))
    return dated
