"""Which of asv's graphs a track has: results grouped by environment and branch, and the points of each benchmark."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from asv.graph import Graph
from numpy.typing import NDArray

from mlx_velocity import parameters
from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.site import asv_graphs, plain
from mlx_velocity.site.asv_graphs import Points
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import Stored

Params = dict[str, Any]


@dataclass
class Group:
    """Results that share asv's graphs: one environment on one branch."""

    params: Params
    files: list[Stored] = field(default_factory=list)


@dataclass
class Grouped:
    """The groups of a track, what asv's index says of all parameters, and what was left out."""

    groups: list[Group]
    params: dict[str, set[Any]]
    dates_ms: dict[str, int]
    """Full hash → date of its commit, of all results, lost ones too."""
    lost: int = 0
    """Results of commits that the repository no longer has."""
    off_branch: int = 0
    """Results of commits that are on no tracked branch."""
    gone: set[str] = field(default_factory=set)
    """Benchmarks that results are stored of and that are not described any more, or in another version."""


def group(
    index: StoreIndex,
    graph: CommitGraph,
    branches: dict[str, list[str]],
    benchmarks: dict[str, dict[str, Any]],
) -> Grouped:
    """Group the results as asv does. `branches` are the commits of each tracked branch by its name."""
    on_branch = {name: frozenset(commits) for name, commits in branches.items()}
    tagged = frozenset(graph.tags.values())
    made = Grouped([], {}, {})
    results = index.results()
    environments = {item.id: _environment(item) for item in results}
    for item in results:
        made.dates_ms[item.commit] = item.head["date_ms"]
        for key, value in environments[item.id].items():
            made.params.setdefault(key, set()).add(value)
    by_place: dict[tuple[str, ...], Group] = {}
    current = _current(index, benchmarks, made)
    for item in results:
        if item.commit not in graph.commits:
            made.lost += 1
            continue
        # asv takes a tagged commit beside all branches for one of each.
        names = [name for name, commits in on_branch.items() if item.commit in commits] or (
            list(on_branch) if item.commit in tagged else []
        )
        made.off_branch += not names
        if item.id not in current:
            continue
        for name in names:
            params = {**environments[item.id], "branch": name}
            for key in made.params:
                if key not in params:
                    params[key] = None
                    made.params[key].add(None)
            place = PurePosixPath(Graph.get_file_path(params, "x")).parts[:-1]
            by_place.setdefault(place, Group(params)).files.append(item)
    made.groups = list(by_place.values())
    return made


def _environment(item: Stored) -> Params:
    """asv's parameters of a result; null is an old way to write an empty one."""
    held = {**item.head["params"], **{f"env-{key}": value for key, value in item.head["env_vars"].items()}}
    return {
        plain.name(str(key), plain.LONGEST_KEY): "" if value is None else plain.value(value)
        for key, value in held.items()
    }


def _current(index: StoreIndex, benchmarks: dict[str, dict[str, Any]], made: Grouped) -> set[int]:
    """Results that hold a benchmark which is still there, in its present version; notes which are not."""
    current = np.array([_fits(key, benchmarks) for key in index.keys], bool)
    seen = np.zeros(len(current), bool)
    found = set()
    for item, columns in index.columns(index.results()):
        seen[columns["entry"]] = True
        if current[columns["entry"]].any():
            found.add(item.id)
    made.gone = {index.keys[number][0] for number in np.flatnonzero(seen & ~current).tolist()}
    return found


def _fits(key: tuple[str, str | None, str | None], benchmarks: dict[str, dict[str, Any]]) -> bool:
    return key[0] in benchmarks and key[1] in (None, benchmarks[key[0]]["version"])


def points(
    index: StoreIndex, made: Group, revisions: dict[str, int], benchmarks: dict[str, dict[str, Any]]
) -> Iterator[Points]:
    """The points of each benchmark that the group has results of. `benchmarks` have the names of the result files."""
    cases = {
        name: [json.dumps(case) for case in itertools.product(*item["params"])]
        for name, item in benchmarks.items()
    }
    rows: dict[tuple[str, str], int] = {}
    for name, texts in cases.items():
        for text in texts:
            rows.setdefault((name, text), len(rows))
    numbers = {name: number for number, name in enumerate(benchmarks)}
    fitting = [_fits(key, benchmarks) for key in index.keys]
    row_of_case = np.array(
        [
            rows.get((key[0], key[2] or ""), -1) if fits else -1
            for key, fits in zip(index.keys, fitting, strict=True)
        ],
        np.int64,
    )
    number_of_entry = np.array(
        [numbers[key[0]] if fits else -1 for key, fits in zip(index.keys, fitting, strict=True)], np.int64
    )
    at = np.array([revisions[item.commit] for item in made.files], np.int64)
    values, weights = (np.full((len(rows), len(at)), np.nan) for _ in range(2))
    there = np.zeros((len(numbers), len(at)), bool)
    for column, (_, held) in enumerate(index.columns(made.files)):
        entries = number_of_entry[held["entry"]]
        there[entries[entries >= 0], column] = True
        row = row_of_case[held["case"]]
        known = row >= 0
        values[row[known], column] = held["value"][known]
        weights[row[known], column] = weight(held["low"][known], held["high"][known])
    for name, texts in cases.items():
        columns = np.flatnonzero(there[numbers[name]])
        if not len(columns):
            continue
        chosen = [rows[name, text] for text in texts]
        parts = asv_graphs.trimmed(at[columns], values[chosen][:, columns], weights[chosen][:, columns])
        shown = plain.name(name)
        path = Graph.get_file_path(made.params, shown)
        yield Points(shown, made.params, path, not benchmarks[name]["params"], *parts)


def weight(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """asv's weight of a number from its 99 % interval; NaN where there is none, or it is infinite or a point."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 / np.abs(high - low)
    found[~np.isfinite(found) | np.isinf(low) | np.isinf(high)] = np.nan
    return found


def sound(benchmarks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The benchmarks whose parameters have names and can be listed."""
    return {
        name: item
        for name, item in benchmarks.items()
        if len(item["params"]) == len(item["param_names"])
        and parameters.count(item["params"]) <= parameters.MOST_SETS
    }


def shown(benchmark: dict[str, Any]) -> dict[str, Any]:
    """A benchmark's description as it is published; asv-tachyon takes more bytes for better unless it is told."""
    held = {
        key: plain.code(item) if key in ("code", "setup") and isinstance(item, str) else plain.tree(item)
        for key, item in benchmark.items()
    }
    # asv addresses a parameter set by its place: no two may become one here.
    held["params"] = [[plain.text(value) for value in values] for values in benchmark["params"]]
    return {**held, "name": plain.name(benchmark["name"]), "less_is_better": True}
