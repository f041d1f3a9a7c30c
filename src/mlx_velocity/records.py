"""The plain records that cross borders: what to measure, what was measured, what did not happen.

Every record is flat, holds base units, and turns into JSON and back without loss. The stored ones
(`Environment`, `Launch`, `Measurement`, `Failure`, `SetAside`) are lines of a readings file, whose
format is described by schemas/readings.schema.json.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from mlx_velocity.metrics import Noise

FORMAT = 1
"""Version of the readings format. 1: first version."""
CONTROL = "control_s"
"""Sensor that holds what the fixed probe took beside a measurement, in seconds: the geometric mean of its parts."""

Outcome = Literal["failed", "timeout", "skipped", "incompatible"]


@dataclass(frozen=True)
class Case:
    """A benchmark with one set of parameters: what a number in a history belongs to."""

    benchmark: str
    """asv's name, a permanent key: `decode.Decode.time_decode`."""
    params: tuple[str, ...]
    """One representation per parameter, as asv writes them: `'tiny-float32'` with its quotes."""
    index: int
    """Position in the product of the benchmark's parameters, which is how asv addresses it."""
    version: str
    unit: str
    launches: int
    """How many processes measure it (asv's `rounds`)."""
    timeout_s: float
    noise: Noise
    """Whether its numbers vary from launch to launch, or are counted and compared exactly."""

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """What identifies the case in a store: name, version, parameters."""
        return (self.benchmark, self.version, self.params)

    @property
    def label(self) -> str:
        """What a reader sees: `decode.Decode.time_decode(tiny-float32, 512)`."""
        return case_label(self.benchmark, self.params)


def case_label(benchmark: str, params: tuple[str, ...]) -> str:
    """Name of a case as shown to a reader."""
    if not params:
        return benchmark
    return f"{benchmark}({', '.join(value.strip(chr(39)) for value in params)})"


@dataclass(frozen=True)
class Environment:
    """What a commit was measured with."""

    kind: ClassVar[str] = "environment"
    name: str
    backend: str
    python: str
    requirements: list[str]
    packages: dict[str, str]
    """Exact version of every installed distribution."""
    inherited: list[str] = field(default_factory=list)
    """Those of them that were not installed for it: they come from the Python that was there."""


@dataclass(frozen=True)
class Launch:
    """One worker process: the unit that carries the noise."""

    kind: ClassVar[str] = "launch"
    launch: str
    started: str
    """UTC, ISO 8601."""
    affinity: list[int]
    """Cores the worker was pinned to; empty where it was free."""
    modules: dict[str, str]
    """Version of each measured module, read in the worker after its place was checked."""
    startup_s: float


@dataclass(frozen=True)
class Measurement:
    """The samples of one case in one launch."""

    kind: ClassVar[str] = "measurement"
    launch: str
    benchmark: str
    version: str
    params: list[str]
    unit: str
    samples: list[float]
    warmup: list[float]
    started: str
    duration_s: float
    notes: dict[str, Any] = field(default_factory=dict)
    """What the workload noticed: digest of the greedy tokens, cache sizes."""
    sensors: dict[str, Any] = field(default_factory=dict)
    """The machine's state around the samples."""


@dataclass(frozen=True)
class Pair:
    """The turns of one case in one pair of launches, base and head alternating; values in the case's unit."""

    base: tuple[float, ...]
    head: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """A measurement that did not happen, and why. Without a benchmark: the environment itself."""

    kind: ClassVar[str] = "failure"
    outcome: Outcome
    reason: str
    benchmark: str | None = None
    version: str | None = None
    params: list[str] | None = None
    launch: str | None = None
    exit_code: int | None = None
    last_lines: list[str] = field(default_factory=list)
    started: str = ""


@dataclass(frozen=True)
class SetAside:
    """A stored file that could not be read: where it was moved, and why."""

    kind: ClassVar[str] = "set_aside"
    file: str
    reason: str
    started: str


Reading: TypeAlias = Environment | Launch | Measurement | Failure | SetAside
KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Environment, Launch, Measurement, Failure, SetAside)}


def to_dict(reading: Reading) -> dict[str, Any]:
    """The JSON object of a reading: its fields, its kind and the format's version."""
    return {"format": FORMAT, "kind": reading.kind, **dataclasses.asdict(reading)}


def from_dict(data: dict[str, Any]) -> Reading:
    """The reading of a JSON object; raises KeyError or TypeError where fields are missing or unknown."""
    cls = KINDS[data["kind"]]
    fields = {key: value for key, value in data.items() if key not in ("format", "kind")}
    reading: Reading = cls(**fields)
    return reading
