"""From the stored results of a machine to its series: one per case, in the order of the commit graph.

What a file says of a commit is condensed at once, so that only numbers are held and an index can keep them.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import changes, metrics, parameters, records, results, stats
from mlx_velocity.archive import Entry
from mlx_velocity.series import Gap, Point, Series

NOT_MEASURED = "not measured"
DISTURBED = "another program computed on the same core"
SURROUNDINGS = ("os", "arch", "cpu", "num_cpu", "ram", "gpu", "python")
"""Fields whose change starts another level, in the order in which they are named."""

Benchmarks = Mapping[str, dict[str, Any]]
Surroundings = tuple[tuple[str, str], ...]
Key = tuple[str, str, tuple[str, ...], str]
"""Environment, benchmark, parameters, version: what makes a series of a machine."""


@dataclass(frozen=True, slots=True)
class Condensed:
    """What is kept of one case at one commit."""

    point: Point
    surroundings: Surroundings
    unit: str


@dataclass
class Summary:
    """What one commit in one environment says of the cases: all that is kept of its files."""

    commit: str
    environment: str
    cases: dict[Key, Condensed] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)
    """Of what was tried and has no number."""
    broken: str = ""
    """Why the environment could not be had."""
    packages: dict[str, str] | None = None
    """Package → version; None where nothing says so."""


@dataclass(frozen=True)
class Traced:
    """A series, and what a reader asks of it that a detector need not know."""

    series: Series
    current: bool
    """Whether the suite still has the benchmark in this version."""
    border_reasons: tuple[str, ...]
    """Of each of the series' borders, what changed there."""


@dataclass
class MachineSeries:
    """All series of a machine, by name, and what its environments held."""

    machine: str
    traced: list[Traced] = field(default_factory=list)
    packages: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    """Environment → commit → package → version."""
    commits: set[str] = field(default_factory=set)
    """With results."""


def of_machine(
    machine: str, found: Iterable[Entry | Summary], line: Sequence[str], benchmarks: Benchmarks
) -> MachineSeries:
    """The series of a machine, those of the suite's present benchmarks first.

    `line` are the full hashes of the commits in the order of the graph, oldest first; what is measured of others
    must not be among `found`. With no `benchmarks` at hand, the version measured last is the present one.
    """
    made = MachineSeries(machine)
    cases: dict[Key, dict[str, Condensed]] = {}
    reasons: dict[Key, dict[str, str]] = {}
    broken: dict[str, dict[str, str]] = {}
    for item in found:
        said = item if isinstance(item, Summary) else condense(item, benchmarks)
        made.commits.add(said.commit)
        if said.packages is not None:
            made.packages.setdefault(said.environment, {})[said.commit] = said.packages
        if said.broken:
            broken.setdefault(said.environment, {})[said.commit] = said.broken
        for key, reason in said.reasons.items():
            reasons.setdefault(key, {})[said.commit] = reason
            cases.setdefault(key, {})
        for key, condensed in said.cases.items():
            cases.setdefault(key, {})[said.commit] = condensed
    place = {commit: number for number, commit in enumerate(line)}
    unmeasured = [Gap(commit, NOT_MEASURED) for commit in line]
    present = _present(benchmarks) if benchmarks else _newest(cases, place)
    for key, points in cases.items():
        known = {**broken.get(key[0], {}), **reasons.get(key, {})}
        series, why = _series(machine, key, points, known, place, unmeasured, benchmarks)
        made.traced.append(Traced(series, key[1:] in present, why))
    order = {name: number for number, name in enumerate(benchmarks)}
    made.traced.sort(
        key=lambda item: (
            not item.current, order.get(item.series.benchmark, len(order)), item.series.benchmark,
            item.series.params, item.series.environment, item.series.version,
        )
    )  # fmt: skip
    return made


def condense(entry: Entry, benchmarks: Benchmarks) -> Summary:
    """What an entry says of each case: its point, or the reason of what it lacks."""
    said = Summary(entry.commit, entry.environment)
    fields, affinity = dict(entry.fields), {}
    measured: dict[Key, list[records.Measurement]] = {}
    for item in entry.readings:
        if isinstance(item, records.Environment):
            fields["python"] = item.python
            said.packages = item.packages
        elif isinstance(item, records.Launch):
            affinity[item.launch] = len(item.affinity)
        elif isinstance(item, records.Measurement):
            measured.setdefault(_key(entry, item), []).append(item)
        elif isinstance(item, records.Failure):
            reason = f"{item.outcome}: {item.reason}"
            if item.benchmark is None:
                said.broken = reason
            else:
                said.reasons[_key(entry, item)] = reason
    for key, launches in measured.items():
        point = point_of(entry.commit, launches)
        if point is None:
            said.reasons[key] = (
                f"measured {launches[-1].samples[-1]:g} {launches[-1].unit}, of which no ratio can be taken"
            )
            continue
        counted = noise_of(key[1], launches[0].unit, benchmarks) == "counted"
        # How many cores a process may use changes its times; what is counted stays the same.
        pinned = {} if counted else {"pinned to cores": _pinned(launches, affinity)}
        said.cases[key] = Condensed(point, surroundings({**fields, **pinned}), launches[0].unit)
    return said


def point_of(commit: str, measured: list[records.Measurement]) -> Point | None:
    """The launches of a case at a commit as one point; None where a number is not above zero.

    Its error is that of the mean of the logarithms of the launches' medians, s / √n.
    """
    used = changes.fit(measured)
    medians = stats.launch_medians([item.samples for item in used])
    if min(medians) <= 0:
        return None
    logs = [math.log(value) for value in medians]
    controls = [float(item.sensors[records.CONTROL]) for item in used if records.CONTROL in item.sensors]
    return Point(
        commit,
        statistics.median(medians),
        statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else None,
        len(medians),
        sum(len(item.samples) for item in used),
        statistics.median(controls) if controls else None,
        DISTURBED if any(map(changes.disturbed, used)) else "",
    )


def surroundings(fields: Mapping[str, str]) -> Surroundings:
    """What must stay the same along a level, of the fields that are known."""
    found = {key: fields[key] for key in SURROUNDINGS if key in fields}
    if found.get("ram", "").isdecimal():
        # A kernel keeps a little more or less for itself.
        found["ram"] = f"{int(found['ram']) / 2**30:.0f} GiB"
    return tuple(
        sorted({**found, **{key: fields[key] for key in fields if key.startswith("pinned")}}.items())
    )


def difference(before: Surroundings, after: Surroundings) -> str:
    """What changed between two points beside the commit; empty where nothing is known to."""
    was, now = dict(before), dict(after)
    return ", ".join(
        f"{key}: {was[key] or 'none'} → {now[key] or 'none'}"
        for key in was
        if key in now and was[key] != now[key]
    )


def noise_of(benchmark: str, unit: str, benchmarks: Benchmarks) -> metrics.Noise:
    """Whether the numbers of a benchmark are counted or vary."""
    known: metrics.Noise | None = benchmarks.get(benchmark, {}).get("noise")
    return known or metrics.of_unit(unit).noise


def _key(entry: Entry, item: records.Measurement | records.Failure) -> Key:
    return entry.environment, item.benchmark or "", tuple(item.params or ()), item.version or ""


def _pinned(launches: list[records.Measurement], affinity: dict[str, int]) -> str:
    """On how many cores the launches ran; stock asv, which has a way of its own to run, stands for itself."""
    counts = {
        "measured by stock asv"
        if item.launch == results.BY_ASV
        else "free"
        if not affinity.get(item.launch)
        else str(affinity[item.launch])
        for item in launches
    }
    return " and ".join(sorted(counts))


def _series(
    machine: str,
    key: Key,
    found: dict[str, Condensed],
    reasons: dict[str, str],
    place: dict[str, int],
    unmeasured: list[Gap],
    benchmarks: Benchmarks,
) -> tuple[Series, tuple[str, ...]]:
    environment, name, params, version = key
    ordered = [found[commit] for commit in sorted(found, key=place.__getitem__)]
    borders, why = [], []
    for index, (before, after) in enumerate(itertools.pairwise(ordered), 1):
        if before.surroundings != after.surroundings and (
            reason := difference(before.surroundings, after.surroundings)
        ):
            borders.append(index)
            why.append(reason)
    places = {place[commit] for commit in found}
    # Beyond its points a series has no gaps but those that were tried.
    span = range(min(places), max(places) + 1) if places else range(0)
    tried = {place[commit]: reason for commit, reason in reasons.items() if commit in place}
    gaps = tuple(
        Gap(unmeasured[number].commit, tried[number]) if number in tried else unmeasured[number]
        for number in sorted({*span, *tried} - places)
    )
    benchmark = benchmarks.get(name)
    unit = ordered[-1].unit if ordered else str((benchmark or {}).get("unit", metrics.SECONDS.unit))
    tokens = changes.tokens_at(params, unit, benchmark) if benchmark else None
    series = Series(
        machine, environment, name, params, version, unit, tuple(item.point for item in ordered),
        tuple(borders), gaps, noise_of(name, unit, benchmarks) == "counted", tokens,
    )  # fmt: skip
    return series, tuple(why)


def _present(benchmarks: Benchmarks) -> set[tuple[str, tuple[str, ...], str]]:
    """The cases that the suite has now: benchmark, parameters, version."""
    return {
        (name, params, str(item["version"]))
        for name, item in benchmarks.items()
        for params in parameters.sets(item)
    }


def _newest(
    cases: dict[Key, dict[str, Condensed]], place: dict[str, int]
) -> set[tuple[str, tuple[str, ...], str]]:
    """The cases in the version that was measured at the newest commit: who knows no suite takes that for its present one."""
    last: dict[str, tuple[int, str]] = {}
    for (_, name, _, version), found in cases.items():
        at = max((place[commit] for commit in found), default=-1)
        last[name] = max(last.get(name, (-1, "")), (at, version))
    return {(name, params, version) for _, name, params, version in cases if last[name][1] == version}
