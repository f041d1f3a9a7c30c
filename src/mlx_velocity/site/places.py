"""Where a track was measured: each machine with each of its environments, commit by commit, and what to hold it against."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.site.record import SHORT
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import Stored


@dataclass(frozen=True)
class Place:
    """A machine with one environment: what is measured there stands in one series."""

    machine: str
    environment: str
    alone: bool
    """Whether the machine has no other environment."""
    files: dict[str, tuple[Stored, Stored | None]] = field(default_factory=dict)
    """Full hash of a commit of the repository → its result file and the readings beside it; in the order of the graph."""
    before: dict[str, str] = field(default_factory=dict)
    """Full hash → its nearest ancestor that was measured here, along first parents."""

    @property
    def key(self) -> str:
        """What the place is called in addresses and file names."""
        words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.machine}-{self.environment}").strip("-.")[:60]
        exact = f"{self.machine}/{self.environment}".encode("utf-8", "backslashreplace")
        return f"{words}-{hashlib.sha256(exact).hexdigest()[:6]}"

    @property
    def label(self) -> str:
        """What a reader calls it."""
        return self.machine if self.alone else f"{self.machine}, {self.environment}"

    @property
    def backend(self) -> str:
        """What the newest commit was measured with; empty where asv alone measured."""
        return next(
            (str(item.head["params"].get("backend", "")) for item, _ in reversed(self.files.values())), ""
        )

    def marks(self, commit: str) -> list[str]:
        """What changes when something stored of a commit does."""
        result, readings = self.files[commit]
        return [result.fingerprint, readings.fingerprint if readings else ""]


def of(index: StoreIndex, graph: CommitGraph) -> list[Place]:
    """The places of a track by name. Results of commits that the repository no longer has are in none of them."""
    readings = {item.stem: item for item in index.readings()}
    found: dict[tuple[str, str], dict[str, tuple[Stored, Stored | None]]] = {}
    for item in index.results():
        if item.commit in graph.commits:
            own = found.setdefault((item.machine, item.environment), {})
            own[item.commit] = (item, readings.get(item.stem))
    machines = [machine for machine, _ in found]
    made = []
    for (machine, environment), files in sorted(found.items()):
        ordered = {commit: files[commit] for commit in sorted(files, key=graph.revisions.__getitem__)}
        place = Place(machine, environment, machines.count(machine) == 1, ordered)
        place.before.update(_nearest(place, graph))
        made.append(place)
    return made


def _nearest(place: Place, graph: CommitGraph) -> dict[str, str]:
    nearest: dict[str, str] = {}
    for commit in graph.commits:
        parents = graph.parents[commit]
        if parents:
            found = parents[0] if parents[0] in place.files else nearest.get(parents[0])
            if found:
                nearest[commit] = found
    return {commit: nearest[commit] for commit in place.files if commit in nearest}


def short(commit: str) -> str:
    """A commit's hash as addresses have it."""
    return commit[:SHORT]


def lost(index: StoreIndex, graph: CommitGraph) -> list[Stored]:
    """Results of commits that the repository no longer has."""
    return [item for item in index.results() if item.commit not in graph.commits]
