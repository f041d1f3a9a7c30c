"""asv's graphs: the points of one benchmark in one environment, as the file and the steps that asv makes of them.

Runs in processes of their own, since finding the steps is most of what publishing costs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from asv.graph import RESAMPLED_POINTS, Graph
from numpy.typing import NDArray

from mlx_velocity.site import steps

Floats = NDArray[np.float64]
Steps = list[list[steps.Step]]
"""Per series, in revisions instead of positions."""


@dataclass(frozen=True)
class Points:
    """One of asv's graphs: a row per parameter set, a column per revision; NaN where there is no number."""

    name: str
    """The benchmark's, as it is published."""
    params: dict[str, Any]
    path: str
    """Below the site, without its ending."""
    scalar: bool
    """Whether the benchmark has no parameters: asv writes a number then, and a list else."""
    revisions: NDArray[np.int64]
    values: Floats
    weights: Floats

    @property
    def digest(self) -> str:
        """Tells whether anything changed."""
        made = hashlib.sha256(f"{self.path}:{self.scalar}:{self.values.shape}".encode())
        for part in (self.revisions, self.values, self.weights):
            made.update(np.ascontiguousarray(part).tobytes())
        return made.hexdigest()

    def save(self, html: str) -> None:
        """Write the file, as asv writes it."""
        path = Path(html) / f"{self.path}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.values[0] if self.scalar else self.values.T
        # orjson writes not-a-number as null, as asv does.
        path.write_bytes(orjson.dumps(list(zip(self.revisions.tolist(), table.tolist(), strict=True))))


@dataclass
class AsvGraph:
    """What asv's publishers ask of a graph."""

    points: Points
    steps: Steps = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        """The environment's parameters."""
        return self.points.params

    @property
    def path(self) -> str:
        """Of the file below the site, without its ending."""
        return self.points.path

    def get_steps(self) -> Any:
        """A list of steps; of a benchmark with parameters one such list per parameter set."""
        return self.steps[0] if self.points.scalar else self.steps


class AsvGraphs:
    """What asv's publishers ask of all graphs."""

    def __init__(self, graphs: Sequence[AsvGraph]) -> None:
        self.graphs = graphs
        self._groups: dict[str, list[AsvGraph]] = {}
        for graph in graphs:
            self._groups.setdefault(graph.points.name, []).append(graph)

    def __iter__(self) -> Any:
        return ((graph.path, graph) for graph in self.graphs)

    def get_graph_group(self, name: str) -> list[AsvGraph]:
        """The graphs of a benchmark."""
        return self._groups.get(name, [])

    def get_params(self) -> dict[str, set[Any]]:
        """All values of each parameter, without the empty ones."""
        found: dict[str, set[Any]] = {}
        for graph in self.graphs:
            for key, value in graph.params.items():
                held = found.setdefault(key, set())
                if value:
                    held.add(value)
        return found


def trimmed(revisions: NDArray[np.int64], values: Floats, weights: Floats) -> tuple[Any, Floats, Floats]:
    """The points in the order of revisions, several of one revision averaged, without what is empty at either end."""
    order = np.argsort(revisions, kind="stable")
    revisions, values, weights = revisions[order], values[:, order], weights[:, order]
    if len(revisions) and (repeated := np.flatnonzero(np.diff(revisions) == 0)).size:
        first = np.flatnonzero(np.diff(revisions, prepend=revisions[0] - 1))
        last = np.append(first[1:], len(revisions))
        kept_values, kept_weights = values[:, first].copy(), weights[:, first].copy()
        several = np.unique(np.searchsorted(first, repeated, "right") - 1)
        for place in several.tolist():
            inside = slice(first[place], last[place])
            kept_values[:, place] = _mean(values[:, inside])
            kept_weights[:, place] = _mean(weights[:, inside])
        revisions, values, weights = revisions[first], kept_values, kept_weights
    known = np.flatnonzero(~np.isnan(values).all(axis=0))
    inside = slice(known[0], known[-1] + 1) if len(known) else slice(0, 0)
    return revisions[inside], values[:, inside], weights[:, inside]


def _mean(columns: Floats) -> Floats:
    there = ~np.isnan(columns)
    total = np.add.accumulate(np.where(there, columns, 0.0), axis=1)[:, -1]
    count = there.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def make(html: str, batch: list[tuple[Points, bool]]) -> list[Steps]:
    """Write the file of each graph, and find the steps of those that are marked."""
    wanted = [points for points, steps_too in batch if steps_too]
    series = [
        (row, weights)
        for points in wanted
        for row, weights in zip(points.values, points.weights, strict=True)
    ]
    found = iter(steps.detect(series))
    made: list[Steps] = []
    for points, steps_too in batch:
        points.save(html)
        made.append([_placed(next(found), points.revisions) for _ in points.values] if steps_too else [])
    return made


def _placed(found: list[steps.Step], revisions: NDArray[np.int64]) -> list[steps.Step]:
    at = revisions.tolist()
    return [
        (at[left], at[right - 1] + 1, middle, least, error) for left, right, middle, least, error in found
    ]


def summary(graphs: Sequence[Points]) -> Points:
    """asv's summary of a benchmark over all environments and parameters: a geometric mean, thinned out."""
    revisions = np.unique(np.concatenate([points.revisions for points in graphs]))
    rows = []
    for points in graphs:
        table = np.full((len(points.values), len(revisions)), np.nan)
        table[:, np.searchsorted(revisions, points.revisions)] = points.values
        rows.append(table)
    table = np.concatenate(rows)
    filled = np.array([_filled(row) for row in table]).reshape(table.shape)
    there = ~np.isnan(filled)
    exponent = (1 / np.maximum(there.sum(axis=0), 1)).tolist()
    product = np.ones(len(revisions))
    for row, known in zip(filled, there, strict=True):
        # asv's numbers to the last digit: numpy's power differs by one there, on some processors.
        product *= np.where(known, list(map(pow, np.abs(row).tolist(), exponent)), 1.0)
    mean = np.where(np.where(there, filled, 0.0).sum(axis=0) >= 0, product, -product)
    mean[np.isnan(table).all(axis=0)] = np.nan
    revisions, mean = _thinned(revisions, mean)
    path = Graph.get_file_path({"summary": ""}, graphs[0].name)
    parts = trimmed(revisions, mean[None], np.full((1, len(mean)), np.nan))
    return Points(graphs[0].name, {"summary": ""}, path, True, *parts)


def _thinned(revisions: NDArray[np.int64], values: Floats) -> tuple[Any, Floats]:
    """asv's resample_data: means over equal stretches of revisions, named by where the next stretch starts."""
    if len(revisions) < RESAMPLED_POINTS:
        return revisions, values
    first, last = int(revisions[0]), int(revisions[-1])
    width = int((last - first) / RESAMPLED_POINTS) or last - first + 1
    ends = np.arange(first + width, last + width, width)
    stretch = np.searchsorted(ends, revisions, "right")
    known = ~np.isnan(values) & (stretch < len(ends))
    count = np.bincount(stretch[known], minlength=len(ends))[: len(ends)]
    total = np.bincount(stretch[known], values[known], len(ends))[: len(ends)]
    there = np.flatnonzero(np.bincount(stretch, minlength=len(ends))[: len(ends)])
    with np.errstate(invalid="ignore"):
        return ends[there], (total / count)[there]


def _filled(row: Floats) -> Floats:
    """Gaps of less than a tenth of the points, interpolated."""
    known = np.flatnonzero(~np.isnan(row))
    widths = np.diff(known) - 1
    row = row.copy()
    for place in np.flatnonzero((widths > 0) & (widths <= math.ceil(0.1 * len(known)))).tolist():
        before, after, width = known[place], known[place + 1], int(widths[place])
        part = np.arange(1, width + 1)
        row[before + 1 : after] = (row[after] * part + (width + 1 - part) * row[before]) / (width + 1)
    return row
