"""The series of a machine, and what starts another level in them though no commit did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import metrics
from mlx_velocity.series import Series

DISTURBED = "another program computed on the same core"
SURROUNDINGS = ("os", "arch", "cpu", "num_cpu", "ram", "gpu", "python")
"""Fields whose change starts another level, in the order in which they are named."""

Benchmarks = Mapping[str, dict[str, Any]]
Surroundings = tuple[tuple[str, str], ...]


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
    others: set[str] = field(default_factory=set)
    """Commits with results that are not on the line: full hashes, or the beginning of one where only readings are left."""


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
