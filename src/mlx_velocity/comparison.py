"""The plain records of a comparison: what was compared, each pair as it was measured, the verdicts.

`Header`, `PairReading`, `Break` and `End` are lines of a comparison file (comparisons.py), in the order in
which they happened. `Comparison` and `CaseVerdict` are derived from them and can always be made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mlx_velocity.records import Environment

FORMAT = 1
"""Version of the comparison file and of the JSON that `compare --json` writes. 1: first version."""

Verdict = Literal["improved", "regressed", "unchanged", "inconclusive", "incomparable"]
SideName = Literal["base", "head"]
VERDICTS: tuple[Verdict, ...] = ("regressed", "improved", "inconclusive", "incomparable", "unchanged")
"""In the order in which a reader wants to see them."""


@dataclass(frozen=True)
class Side:
    """One of the two things compared."""

    name: str
    """As the user named it: `main`, `.`, `mlx==0.31.2`."""
    commit: str
    """Full hash; empty for a working tree or a set of versions."""
    subject: str
    environment: Environment
    modules: dict[str, str] = field(default_factory=dict)
    """Version of each measured module as installed; empty for one that is laid over the environment."""


@dataclass(frozen=True)
class Header:
    """First line of a comparison file."""

    kind: ClassVar[str] = "comparison"
    track: str
    machine: str
    backend: str
    profile: str
    started: str
    """UTC, ISO 8601."""
    threshold: float
    """`unchanged` means: shown to be within ± this share."""
    error_rate: float
    seed: int
    """Of the order in which turns were drawn."""
    base: Side
    head: Side


@dataclass(frozen=True)
class PairReading:
    """One case in one pair of launches."""

    kind: ClassVar[str] = "pair"
    number: int
    """Which pair of launches, from 1."""
    benchmark: str
    version: str
    params: list[str]
    unit: str
    order: str
    """Turns in time order, A the base: `ABBA` or `BAAB`, several times where turns are short."""
    base: list[list[float]]
    """Samples of each turn of the base, in the case's unit."""
    head: list[list[float]]
    started: str
    duration_s: float
    disturbed: str = ""
    """Why this pair is not used; empty where it is."""
    control: dict[str, float] = field(default_factory=dict)
    """Seconds of the fixed probe beside this pair, on a reference environment: `copy`, `product`."""
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Side → what the workload noticed: digest of the tokens, loss."""
    sensors: dict[str, Any] = field(default_factory=dict)
    """The machine's state around this pair."""


@dataclass(frozen=True)
class Break:
    """A case that can't be measured on a side: skipped where the benchmark declined, else failed."""

    kind: ClassVar[str] = "break"
    side: SideName
    benchmark: str
    version: str
    params: list[str]
    outcome: str
    reason: str
    last_lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class End:
    """Last line of a comparison file; one without it was killed."""

    kind: ClassVar[str] = "end"
    wall_s: float
    interrupted: bool
    """Ended by the user before it was done."""


@dataclass(frozen=True)
class CaseVerdict:
    """What is said of one case."""

    label: str
    benchmark: str
    params: list[str]
    unit: str
    verdict: Verdict
    base: float | None
    """The usual value of the side, in the case's unit."""
    head: float | None
    ratio: float | None
    """head / base."""
    low: float | None
    """Interval of the ratio, all looks allowed for."""
    high: float | None
    pairs: int
    """Pairs of launches that count."""
    samples: int
    """Samples a side that count."""
    tokens: int | None = None
    """Tokens that one call handles, for a view in tokens/s."""
    broken: SideName | None = None
    """The side on which it fails while the other works: a finding."""
    warnings: tuple[str, ...] = ()
    """Reasons for doubt, and differences beside the number (other tokens, a skipped side)."""
    version: str = ""
    """Of the workload."""

    @property
    def word(self) -> str:
        """What is said of the case in a word; where it fails on one side alone, what that means."""
        return {"head": "broken", "base": "mended", None: self.verdict}[self.broken]


@dataclass(frozen=True)
class Comparison:
    """All that a reader is shown."""

    header: Header
    cases: list[CaseVerdict]
    quality: list[str]
    """What the machine did that may have disturbed; empty on a quiet machine."""
    wall_s: float
    interrupted: bool = False

    def of(self, verdict: Verdict) -> list[CaseVerdict]:
        """The cases with this verdict."""
        return [case for case in self.cases if case.verdict == verdict]

    @property
    def exit_code(self) -> int:
        """0 fine, 1 something regressed or broke, 3 nothing could be decided."""
        if self.of("regressed") or any(case.broken == "head" for case in self.cases):
            return 1
        decided = [case for case in self.cases if case.verdict in ("improved", "unchanged")]
        return 0 if decided else 3
