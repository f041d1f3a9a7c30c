"""From the index of a track's results to its series: one per case, in the order of the commit graph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import changes, launch_columns, metrics, parameters, readings, stored_series
from mlx_velocity.points import NOT_MEASURED, Gaps, Points
from mlx_velocity.series import Series
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import Stored
from mlx_velocity.stored_series import (
    DISTURBED,
    Benchmarks,
    MachineSeries,
    Surroundings,
    Traced,
)

Array = NDArray[Any]
Case = tuple[str, str, str]
"""Benchmark, version, parameters as JSON."""
COLUMNS = {
    "case": np.int32, "place": np.int32, "value": np.float64, "error": np.float64, "launches": np.int32,
    "samples": np.int32, "control": np.float64, "why": np.int8, "around": np.int32,
}  # fmt: skip
"""Of points: there are millions of them."""


@dataclass
class _Environment:
    """What is kept of one environment of a machine: columns of points, and the reasons of what is missing."""

    parts: list[list[Array]] = field(default_factory=list)
    failed: dict[Case, dict[int, str]] = field(default_factory=dict)
    """Case → place on the line → reason."""
    broken: dict[int, str] = field(default_factory=dict)
    """Place → why nothing at all could be measured there."""

    def add(self, rows: Iterable[Array]) -> None:
        """Points of one commit, a row of numbers for each of COLUMNS."""
        self.parts.append([row.astype(kind) for row, kind in zip(rows, COLUMNS.values(), strict=True)])

    def columns(self) -> dict[str, Array]:
        """All points so far, which are let go of."""
        found = {
            name: np.concatenate([part.pop() for part in self.parts]) if self.parts else np.zeros(0, kind)
            for name, kind in reversed(COLUMNS.items())
        }
        self.parts.clear()
        return found


def of_machine(index: StoreIndex, folder: str, line: Sequence[str], benchmarks: Benchmarks) -> MachineSeries:
    """The series of a machine, those of the suite's present benchmarks first.

    `line` are the full hashes of the commits in the order of the graph, oldest first; what is stored of others is left
    out. With no `benchmarks` at hand, the version measured last is the present one. A benchmark that is gone has the
    unit that asv's naming says.
    """
    made = MachineSeries(folder)
    place = {commit: number for number, commit in enumerate(line)}
    found = _Found(index, benchmarks, made)
    results_of = {item.stem: item for item in index.results(folder)}
    readings_of = {item.stem: item for item in index.readings(folder)}
    # A result whose readings can't be read would pass for one that stock asv measured.
    broken = {
        path.removesuffix(readings.SUFFIX) for path, _ in index.problems if path.endswith(readings.SUFFIX)
    }
    commits = {}
    for stem in {*results_of, *readings_of} - broken:
        result = results_of.get(stem)
        commit = result.commit if result else _full(readings_of[stem].commit, line)
        if commit in place:
            commits[stem] = commit
        else:
            made.others.add(commit or readings_of[stem].commit)
    # In the order of the graph: the points of each case are then in it too.
    for stem, commit in sorted(commits.items(), key=lambda pair: (place[pair[1]], pair[0])):
        made.commits.add(commit)
        found.add(commit, place[commit], results_of.get(stem), readings_of.get(stem))
    made.traced = list(found.traced(line))
    return made


def _full(beginning: str, line: Sequence[str]) -> str:
    return next((commit for commit in line if commit.startswith(beginning)), "")


class _Found:
    """The points of a machine, as its files are gone through."""

    def __init__(self, index: StoreIndex, benchmarks: Benchmarks, made: MachineSeries) -> None:
        self.index, self.benchmarks, self.made = index, benchmarks, made
        self.cases: list[Case | None] = [
            None if params is None else (name, version or "", params) for name, version, params in index.keys
        ]
        self.units = [_unit(name, benchmarks) for name, _, _ in index.keys]
        self.counted = np.array(
            [stored_series.noise_of(key[0], unit, benchmarks) == "counted" for key, unit in zip(index.keys, self.units, strict=True)],
            bool,
        )  # fmt: skip
        self.timed = np.array([unit == metrics.SECONDS.unit for unit in self.units], bool)
        # Of what stock asv measured only what the suite has now is taken, by name and parameters.
        self.present = np.array(
            [
                case is not None and name in benchmarks and version in (None, str(benchmarks[name]["version"]))
                for case, (name, version, _) in zip(self.cases, index.keys, strict=True)
            ],
            bool,
        )  # fmt: skip
        self.pair_of: dict[tuple[str, str | None], int] = {}
        self.pairs = np.array(
            [self.pair_of.setdefault((name, params), len(self.pair_of)) for name, _, params in index.keys],
            np.int64,
        )
        self.environments: dict[str, _Environment] = {}
        self.around: dict[Surroundings, int] = {}

    def add(self, commit: str, place: int, result: Stored | None, reading: Stored | None) -> None:
        """What the files of one commit say."""
        stored = result or reading
        assert stored is not None
        kept = self.environments.setdefault(stored.environment, _Environment())
        fields = {key: str(value) for key, value in result.head["params"].items()} if result else {}
        ours: Array = np.zeros(0, np.int64)
        if reading:
            held = reading.head["environment"]
            if held:
                fields["python"] = str(held["python"])
                self.made.packages.setdefault(stored.environment, {})[commit] = held["packages"]
            ((_, columns),) = self.index.columns([reading])
            ours = self._measured(kept, place, fields, reading, columns)
            ours = np.concatenate([ours, self._failed(kept, place, reading)])
        # What a broken line measured would pass for measured by stock asv, as one launch.
        if result and not (reading and reading.bad_lines):
            ((_, columns),) = self.index.columns([result])
            self._by_asv(kept, place, fields, columns, ours)

    def _measured(
        self,
        kept: _Environment,
        place: int,
        fields: dict[str, str],
        reading: Stored,
        columns: dict[str, Array],
    ) -> Array:
        """Add what our launches measured; the cases, as they are numbered with any version."""
        found = launch_columns.condensed(columns, self.timed)
        pinned = launch_columns.pinned(reading, columns["case"], columns["launch"])
        # Few are different: each is made once.
        labels = [None if self.counted[number] else pinned[number] for number in found.case.tolist()]
        made = {label: self._surroundings(fields, label) for label in set(labels)}
        around = np.array([made[label] for label in labels], np.int32)
        positive = found.least > 0
        for number, last in zip(found.case[~positive].tolist(), found.last[~positive].tolist(), strict=True):
            key = self.cases[number]
            assert key is not None
            kept.failed.setdefault(key, {})[place] = (
                f"measured {last:g} {self.units[number]}, of which no ratio can be taken"
            )
        rows = [
            found.case, np.full(len(found.case), place), found.value, found.error, found.launches, found.samples,
            found.control, found.disturbed, around,
        ]  # fmt: skip
        kept.add(row[positive] for row in rows)
        return self.pairs[found.case]

    def _failed(self, kept: _Environment, place: int, reading: Stored) -> Array:
        taken = []
        for item in reading.head["failures"]:
            reason = f"{item['outcome']}: {item['reason']}"
            if item["benchmark"] is None:
                kept.broken[place] = reason
                continue
            params = json.dumps(item["params"] or [])
            kept.failed.setdefault((item["benchmark"], item["version"] or "", params), {})[place] = reason
            taken.append(self.pair_of.get((item["benchmark"], params), -1))
        return np.array(taken, np.int64)

    def _by_asv(
        self, kept: _Environment, place: int, fields: dict[str, str], columns: dict[str, Array], ours: Array
    ) -> None:
        """What only asv's file holds, as one launch."""
        case, value, samples = columns["case"], columns["value"], columns["samples"]
        alone = self.present[case] & np.isfinite(value) & (value > 0) & ~np.isin(self.pairs[case], ours)
        case, value, samples = case[alone], value[alone], samples[alone]
        if not len(case):
            return
        free = self._surroundings(fields, "measured by stock asv")
        plain = self._surroundings(fields, None)
        missing = np.full(len(case), np.nan)
        size = len(case)
        kept.add(
            [
                case, np.full(size, place), value, missing, np.ones(size), np.maximum(samples, 1), missing,
                np.zeros(size), np.where(self.counted[case], plain, free),
            ]
        )  # fmt: skip

    def _surroundings(self, fields: dict[str, str], pinned: str | None) -> int:
        around = stored_series.surroundings(
            fields if pinned is None else {**fields, "pinned to cores": pinned}
        )
        return self.around.setdefault(around, len(self.around))

    def traced(self, line: Sequence[str]) -> Iterator[Traced]:
        """Every series, the present ones first."""
        made = [
            (environment, case, rows, {**kept.broken, **kept.failed.get(case, {})})
            for environment, kept in self.environments.items()
            for case, rows in self._by_case(kept)
        ]
        present = self._present_cases(made)
        order = {name: number for number, name in enumerate(self.benchmarks)}
        made.sort(
            key=lambda item: (
                item[1] not in present, order.get(item[1][0], len(order)), item[1][0],
                tuple(json.loads(item[1][2])), item[0], item[1][1],
            )
        )  # fmt: skip
        known = list(self.around)
        for environment, case, rows, reasons in made:
            yield self._traced(environment, case, rows, reasons, line, known, case in present)

    def _by_case(self, kept: _Environment) -> Iterator[tuple[Case, dict[str, Array]]]:
        """The points of each case by their place, of those as well that have failed at every commit."""
        columns = kept.columns()
        # asv's files may lack a version: it is then the present one, and the same case.
        numbers = {
            case: number
            for number, case in reversed(list(enumerate(map(self._versioned, self.cases))))
            if case
        }
        as_one = np.array(
            [numbers[case] if (case := self._versioned(held)) else -1 for held in self.cases], np.int64
        )
        columns["case"] = as_one[columns["case"]] if len(columns["case"]) else columns["case"]
        order = np.argsort(columns["case"], kind="stable")
        for name in columns:
            columns[name] = columns[name][order]
        unique, first = np.unique(columns["case"], return_index=True)
        seen = set()
        ends = np.append(first[1:], len(order))[: len(first)]
        for number, start, end in zip(unique.tolist(), first, ends, strict=True):
            case = self._versioned(self.cases[number])
            assert case is not None
            seen.add(case)
            yield case, {name: column[start:end] for name, column in columns.items()}
        for case in kept.failed:
            if case not in seen:
                yield case, {name: column[:0] for name, column in columns.items()}

    def _versioned(self, case: Case | None) -> Case | None:
        if case is None or case[1]:
            return case
        return case[0], str(self.benchmarks.get(case[0], {}).get("version", "")), case[2]

    def _present_cases(self, made: list[tuple[str, Case, dict[str, Array], dict[int, str]]]) -> set[Case]:
        if self.benchmarks:
            return {
                (name, str(item["version"]), json.dumps(list(params)))
                for name, item in self.benchmarks.items()
                for params in parameters.sets(item)
            }
        last: dict[str, tuple[int, str]] = {}
        for _, (name, version, _), rows, _ in made:
            at = int(rows["place"].max()) if len(rows["place"]) else -1
            last[name] = max(last.get(name, (-1, "")), (at, version))
        return {case for _, case, _, _ in made if last[case[0]][1] == case[1]}

    def _traced(
        self, environment: str, case: Case, rows: dict[str, Array], reasons: dict[int, str], line: Sequence[str],
        known: list[Surroundings], current: bool,
    ) -> Traced:  # fmt: skip
        name, version, text = case
        params = tuple(map(str, json.loads(text)))
        unit = _unit(name, self.benchmarks)
        columns = {name: rows[name] for name in Points.COLUMNS}
        held = Points(line, reasons=("", DISTURBED), **columns)
        borders, why = [], []
        around = rows["around"]
        for place in np.flatnonzero(np.diff(around)) + 1 if len(around) else []:
            reason = stored_series.difference(known[around[place - 1]], known[around[place]])
            if reason:
                borders.append(int(place))
                why.append(reason)
        gaps = _gaps(line, rows["place"], reasons)
        benchmark = self.benchmarks.get(name)
        tokens = changes.tokens_at(params, unit, benchmark) if benchmark else None
        counted = stored_series.noise_of(name, unit, self.benchmarks) == "counted"
        return Traced(
            Series(
                self.made.machine, environment, name, params, version, unit, held, tuple(borders), gaps, counted, tokens,
            ),
            current,
            tuple(why),
        )  # fmt: skip


def _unit(name: str, benchmarks: Benchmarks) -> str:
    if name in benchmarks:
        return str(benchmarks[name].get("unit", metrics.SECONDS.unit))
    return metrics.SECONDS.unit if name.rpartition(".")[2].startswith("time_") else metrics.BYTES.unit


def _gaps(line: Sequence[str], places: Array, reasons: dict[int, str]) -> Gaps:
    """What lacks a number between the first and the last point, and beyond them what was tried."""
    start = int(places[0]) if len(places) else 0
    lacks = np.ones(int(places[-1]) - start + 1 if len(places) else 0, bool)
    lacks[places - start] = False
    tried = sorted(set(reasons).difference(places.tolist())) if reasons else []
    missing = np.union1d(np.flatnonzero(lacks) + start, np.array(tried, np.int64)).astype(np.int32)
    texts = dict.fromkeys([NOT_MEASURED, *(reasons[number] for number in tried)])
    words = {reason: number for number, reason in enumerate(texts)}
    why = np.zeros(len(missing), np.int32)
    why[np.searchsorted(missing, tried)] = [words[reasons[number]] for number in tried]
    return Gaps(line, missing, why, reasons=tuple(words))
