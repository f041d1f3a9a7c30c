"""The plain records of a bisection: what is searched, each pair as it was measured, what is said in the end.

`Header`, `Ready`, `Lost`, `Measured` and `Halt` are lines of a bisection file (bisections.py), in the order in which
they happened. `Bisection` is derived from them and can always be made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.records import Environment

FORMAT = 1
"""Version of the bisection file and of the JSON that `bisect --json` writes. 1: first version."""

Outcome = Literal["commit", "commits", "group", "slope", "unchanged", "unclear", "nothing fits"]
Purpose = Literal["ends", "search", "confirm"]
FOUND: tuple[Outcome, ...] = ("commit", "commits", "group", "slope")


@dataclass(frozen=True)
class Point:
    """A commit on the path from the good end to the bad end."""

    commit: str
    """Full hash."""
    subject: str
    date_s: int
    """Author date in seconds since 1970."""
    parents: int = 1
    """More than one: a merge, in which other commits hide."""


@dataclass(frozen=True)
class Header:
    """First line of a bisection file."""

    kind: ClassVar[str] = "bisection"
    track: str
    machine: str
    backend: str
    profile: str
    started: str
    """UTC, ISO 8601."""
    seed: int
    """Of the order in which turns were drawn."""
    good: Point
    bad: Point
    benchmark: str
    version: str
    params: list[str]
    unit: str


@dataclass(frozen=True)
class Ready:
    """A commit whose environment was made."""

    kind: ClassVar[str] = "ready"
    commit: str
    environment: Environment
    wall_s: float


@dataclass(frozen=True)
class Lost:
    """A commit that can't be measured: its environment can't be had, or the case does not work there."""

    kind: ClassVar[str] = "lost"
    commit: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """What a pair of launches of two commits gave; `base` in the reading is `low`, `head` is `high`."""

    kind: ClassVar[str] = "measured"
    low: str
    high: str
    purpose: Purpose
    wall_s: float
    """Seconds of all that belongs to it: starting both launches, warm-up, turns."""
    reading: PairReading | Break


@dataclass(frozen=True)
class Effect:
    """A ratio of times or bytes, later over earlier, with the interval that holds it at `confidence`."""

    ratio: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Blame:
    """Whom a search names in the end, for those who read its file without searching again."""

    commits: list[str]
    """Full hashes, the oldest first; several that can't be told apart."""
    probability: float
    effect: Effect | None
    """Compared with the commit before it, directly."""
    confirmed: bool
    """Whether that comparison alone shows a change."""


@dataclass(frozen=True)
class Halt:
    """The end of one call of `bisect`; a later call may go on."""

    kind: ClassVar[str] = "halt"
    wall_s: float
    reason: str
    """`answered`, `interrupted`, or why it ended without an answer."""
    blamed: list[Blame] = field(default_factory=list)
    """Empty without an answer, and in files of earlier versions."""


@dataclass(frozen=True)
class Culprit:
    """A commit that is blamed, or the commits of a group that can't be told apart; the oldest first."""

    commits: list[Point]
    parent: Point
    """The commit before it that can be measured."""
    probability: float
    """Of having done a good part of the change, all that was measured taken together."""
    effect: Effect | None
    """Compared with the commit before it, directly; None where that was not reached."""
    pairs: int
    """Pairs of that comparison."""
    confirmed: bool
    """Whether that comparison alone shows a change."""
    command: str
    """Shows it again."""


@dataclass(frozen=True)
class Suspect:
    """A commit and the probability that it is to be blamed."""

    point: Point
    probability: float


@dataclass(frozen=True)
class Counts:
    """What a search took, and among how many commits."""

    path: int
    """Commits between the ends, the bad end included."""
    candidates: int
    """Of these, the ones that change what is measured."""
    commits: int
    """Commits that were measured, ends included."""
    pairs: int
    """Pairs of launches that count."""
    samples: int
    """Timed calls a side in these."""
    disturbed: int
    """Pairs that were measured and set aside."""
    wall_s: float
    """All calls together."""


@dataclass(frozen=True)
class Bisection:
    """All that a reader is shown."""

    header: Header
    case: str
    outcome: Outcome
    confidence: float
    threshold: float
    total: Effect | None
    """The bad end over the good end."""
    counts: Counts
    culprits: list[Culprit] = field(default_factory=list)
    slope: tuple[Point, Point] | None = None
    """The commits between which the change is spread."""
    kinds: dict[str, float] = field(default_factory=dict)
    """How likely one step, two steps, a slope and none of these are; empty before the ends are told apart."""
    suspects: list[Suspect] = field(default_factory=list)
    """The likeliest commits, the likeliest first."""
    picture: list[float] = field(default_factory=list)
    """Probability of each candidate, in order."""
    lost: list[tuple[Point, str]] = field(default_factory=list)
    """Commits that could not be measured, each with its reason."""
    quality: list[str] = field(default_factory=list)
    """What the machine did that may have disturbed; empty on a quiet machine."""
    reason: str = ""
    """Why there is no answer."""
    interrupted: bool = False

    @property
    def confirmed(self) -> bool:
        """Whether each commit that is blamed was shown to be so by its own comparison."""
        return all(item.confirmed for item in self.culprits)

    @property
    def exit_code(self) -> int:
        """0 it is known where the change comes from, 3 it is not or there is none, 130 interrupted."""
        if self.interrupted:
            return 130
        return 0 if self.outcome in FOUND and self.confirmed else 3
