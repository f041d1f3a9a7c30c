"""The plain records of a report: what a commit's stored results say, on one machine or several.

They are derived from readings (reporting.py) and can always be made again; report/run.py renders them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FORMAT = 1
"""Version of the JSON that `report --json` writes. 1: first version."""

Outcome = Literal["failed", "timeout", "skipped", "incompatible", "missing", "incomplete"]


@dataclass(frozen=True)
class Commit:
    """Whose results are shown."""

    hash: str
    subject: str
    tags: list[str]
    date: str
    """Of the author, UTC, `2026-01-31`."""

    @property
    def name(self) -> str:
        """What a reader types: a tag, or the first eight characters."""
        return self.tags[0] if self.tags else self.hash[:8]


@dataclass(frozen=True)
class Value:
    """What one machine says of a case, in the case's unit."""

    value: float | None
    """Median of the launches' medians; None where it was not measured."""
    spread: float | None
    """Standard deviation between the launches' medians; None with fewer than two launches."""
    launches: int
    planned: int
    """How many launches the benchmark asks for."""
    samples: int
    disturbed: bool
    """Whether the value rests on launches that the machine disturbed."""
    reason: str = ""
    """Why there is no value."""


@dataclass(frozen=True)
class Row:
    """A case on all machines."""

    benchmark: str
    params: dict[str, str]
    """Name → value, as a reader sees it."""
    unit: str
    tokens: int | None
    """Tokens that one call handles."""
    values: dict[str, Value]
    """Machine → what it says; each machine is there."""


@dataclass(frozen=True)
class Stage:
    """The cases of one benchmark file; of memory, those of all files."""

    title: str
    rows: list[Row]
    absent: dict[str, str] = field(default_factory=dict)
    """Machine without any number here → why."""


@dataclass(frozen=True)
class Absence:
    """What did not happen, and why; the cases share the reason."""

    outcome: Outcome
    reason: str
    cases: list[str]
    """Labels; empty where the whole environment is meant."""


@dataclass(frozen=True)
class Disturbance:
    """What the machine did during a case."""

    case: str
    reason: str
    launches: int
    """How many were disturbed, of `of`."""
    of: int
    used: bool
    """Whether the value rests on them all the same, since too few others are there."""


@dataclass(frozen=True)
class Shift:
    """A case that changed against the earlier commit by more than noise."""

    case: str
    unit: str
    tokens: int | None
    base: float
    head: float
    ratio: float | None
    """None where something was nothing."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Changes:
    """The stored results of two commits, side by side."""

    base: Commit | None
    """None where there is no earlier one."""
    reason: str = ""
    """Why nothing is compared."""
    compared: int = 0
    undecided: int = 0
    """Compared cases whose launches are too few, or were disturbed."""
    shifts: list[Shift] = field(default_factory=list)
    other_tokens: list[str] = field(default_factory=list)
    """Cases that generate other tokens than before."""


@dataclass(frozen=True)
class MachineRun:
    """One machine's part."""

    name: str
    description: dict[str, str]
    """asv's fields: chip, cores, memory in bytes, system."""
    backend: str
    python: str
    environment: str
    requirements: list[str]
    packages: dict[str, str]
    modules: dict[str, str]
    affinity: list[int]
    """Cores that the workers were pinned to; empty where they were free."""
    started: str
    ended: str
    launches: int
    measured: int
    """Cases with a value."""
    profiles: list[str]
    """Those of whose own cases at least one was tried."""
    sensors: list[str]
    """Sentences: what the machine did meanwhile."""
    disturbances: list[Disturbance]
    failures: list[Absence]
    missing: list[Absence]
    changes: Changes


@dataclass(frozen=True)
class RunReport:
    """All that a reader is shown."""

    track: str
    commit: Commit
    machines: list[MachineRun]
    stages: list[Stage]
    confidence: float
    """Of the intervals of changes."""
    relevant: float
    """A smaller change is not called one."""
