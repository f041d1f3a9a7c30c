"""The plain records of a history: what the stored series of a track say, machine by machine.

chronicle.py derives them from series and change points; report/history.py and the site render them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mlx_velocity.comparison import CaseVerdict
from mlx_velocity.points import Gaps, Points
from mlx_velocity.run_report import Commit
from mlx_velocity.series import Segment

FORMAT = 1
"""Version of the JSON that `history --json` writes. 1: first version."""

Direction = Literal["regressed", "improved"]
State = Literal["open", "accepted", "fixed", "unconfirmed", "improved"]
"""`open`, `accepted` and `fixed` are said of regressions; `unconfirmed` of either direction."""
STATES: tuple[State, ...] = ("open", "unconfirmed", "improved", "accepted", "fixed")
"""In the order in which a reader wants them."""
OutageKind = Literal["failing", "never worked", "working"]
OUTAGE_KINDS: tuple[OutageKind, ...] = ("failing", "never worked", "working")
"""In the order in which a reader wants them."""


CHANGED = ("regressed", "broken", "improved", "mended")
"""Words of a comparison that are news in a history, in the order in which a reader wants them."""
DECIDED = (*CHANGED, "unchanged")
"""Words that take the place of what an older comparison of the same sides said."""


@dataclass(frozen=True)
class Border:
    """Where something else than the commit changed: levels on its two sides are not compared."""

    index: int
    """Of the first point behind it."""
    reason: str
    """`os: Linux 6.1 → Linux 6.8`."""


@dataclass(frozen=True)
class Blamed:
    """A commit that a stored bisection names."""

    commit: Commit
    before: Commit
    """The last one that is innocent."""
    together: int
    """Commits that can't be told apart, of which this is the newest: 1 where it is named alone."""
    probability: float
    ratio: float | None
    """Over the commit before it, turn by turn; None where that was not reached."""
    low: float | None
    high: float | None
    date: str
    """When the search was begun."""


@dataclass(frozen=True)
class Shift:
    """One change of one case: where, how large, and what became of it."""

    id: str
    """Short name of it, docs/history.md."""
    direction: Direction
    state: State
    commit: Commit
    """The most likely one: the first measured commit of the new level."""
    good: Commit
    """The last measured commit that is surely of the old level."""
    bad: Commit
    """The first one that is surely of the new level: the change came behind `good`, with `bad` at the latest."""
    suspects: int
    """Commits behind `good` up to `bad`, measured or not: one of them did it."""
    suspected: list[Commit]
    """The first of them, oldest first."""
    index: int
    """Of the point of `commit`."""
    before: float
    """Level in the case's base unit."""
    after: float
    """`before` times `ratio`; of what is counted, what was counted."""
    ratio: float
    low: float
    """Interval of the ratio, at `confidence`."""
    high: float
    confidence: float
    p: float
    reason: str = ""
    """Why somebody set the state."""
    fixed_by: Commit | None = None
    note: str = ""
    """What a reader should know of the state."""
    packages: list[str] = field(default_factory=list)
    """Packages that differ between the environments of `good` and `bad`: `mlx 0.31.1 → 0.31.2`."""
    blamed: list[Blamed] = field(default_factory=list)
    """Whom stored bisections name for it, the likeliest first."""
    recorded: bool = False
    """Whether its id stands in the track's regressions.jsonl."""
    in_range: bool = True
    """Whether it lies within what was asked for: `--since`."""

    @property
    def named(self) -> Commit:
        """The commit that a reader is shown: of a bisection, else the most likely one."""
        return self.blamed[0].commit if self.blamed else self.commit

    @property
    def alarms(self) -> bool:
        """Whether somebody must look: a regression that nobody accepted or fixed."""
        return self.in_range and self.direction == "regressed" and self.state == "open"

    @property
    def doubtful(self) -> bool:
        """Whether it would alarm if it were confirmed."""
        return self.in_range and self.direction == "regressed" and self.state == "unconfirmed"


@dataclass(frozen=True)
class SideBySide:
    """What one stored comparison says of a case."""

    date: str
    base: str
    """As the user named it."""
    head: str
    base_commit: str
    """Full hash; empty for versions and working trees."""
    head_commit: str
    interrupted: bool
    news: bool
    """Whether it belongs to the branch: its sides differ, and each lies on it or is a released version."""
    said: CaseVerdict

    @property
    def sides(self) -> tuple[str, str]:
        """What was compared: a branch's name may mean another commit tomorrow."""
        return self.base_commit or self.base, self.head_commit or self.head


@dataclass(frozen=True)
class CaseHistory:
    """A case on one machine: its points, oldest first, and what changed."""

    machine: str
    environment: str
    benchmark: str
    params: list[str]
    label: str
    version: str
    current: bool
    """Whether the suite still has the benchmark in this version: a change elsewhere alarms nobody."""
    unit: str
    tokens: int | None
    """Tokens that one call handles."""
    counted: bool
    now: float | None
    """The level of the newest undisturbed points, or the newest of them where they are too few to know one; in the case's base unit."""
    newest: Commit | None
    """Of the newest point."""
    points: Points
    borders: list[Border]
    gaps: Gaps
    segments: list[Segment]
    shifts: list[Shift]
    """Oldest first."""
    first_shown: int = 0
    """Index of the first point within what was asked for."""
    side_by_side: list[SideBySide] = field(default_factory=list)
    """What stored comparisons say, the newest first."""

    @property
    def compared(self) -> list[SideBySide]:
        """The comparisons on the branch that found a change, the newest first; of those of the same sides the newest
        that was decided."""
        decided = [item for item in self.side_by_side if item.news and item.said.word in DECIDED]
        newest = {item.sides: item for item in reversed(decided)}
        return [item for item in newest.values() if item.said.word in CHANGED][::-1]

    @property
    def shown(self) -> list[Shift]:
        """The changes within what was asked for, oldest first."""
        return [shift for shift in self.shifts if shift.in_range]


@dataclass(frozen=True)
class Unread:
    """A stored file that could not be used, or only in part."""

    file: str
    reason: str


@dataclass(frozen=True)
class Outage:
    """Cases that fail in the same way at the same commits."""

    kind: OutageKind
    environment: str
    commit: Commit
    """The first of which this is so: that failed behind the last number, that was tried at all, or that had a number."""
    failed: Commit
    """The newest that failed; of what works by now, the last one before it."""
    reason: str
    """Of that failure, on one line."""
    cases: list[str]
    """Labels."""


@dataclass(frozen=True)
class MachineHistory:
    """All that one machine says."""

    name: str
    description: dict[str, str]
    """asv's fields; empty without a machine.json."""
    cases: list[CaseHistory]
    commits: int
    """Commits of the branch with results."""
    first: Commit | None
    last: Commit | None
    unknown: int
    """Commits with results that the repository does not have."""
    elsewhere: int
    """Commits with results that are not on the branch."""
    unread: list[Unread]
    lost: list[str]
    """Ids that are recorded as open or accepted, and whose change is not found any more."""
    outages: list[Outage]

    @property
    def compared(self) -> list[tuple[CaseHistory, SideBySide]]:
        """What comparisons found to have changed in the suite's present cases, in the order of CHANGED, the largest first."""

        def order(pair: tuple[CaseHistory, SideBySide]) -> tuple[int, float]:
            said = pair[1].said
            return CHANGED.index(said.word), -abs(math.log(said.ratio)) if said.ratio else -math.inf

        return sorted(
            ((case, item) for case in self.cases if case.current for item in case.compared), key=order
        )

    @property
    def several_environments(self) -> bool:
        """Whether a case must say which one it was measured in."""
        return len({case.environment for case in self.cases if case.current}) > 1


@dataclass(frozen=True)
class HistoryReport:
    """All that a reader is shown."""

    track: str
    branch: str
    case: str
    """The regular expression that was asked for; empty for all."""
    since: str
    """What was asked for, in words; empty for the whole history."""
    machines: list[MachineHistory]

    def shifts(self) -> Iterator[tuple[CaseHistory, Shift]]:
        """Every change within what was asked for, of the suite's present cases, the largest first."""
        found = [
            (case, shift)
            for machine in self.machines
            for case in machine.cases
            if case.current
            for shift in case.shown
        ]
        yield from sorted(found, key=lambda pair: -max(pair[1].ratio, 1 / pair[1].ratio))

    @property
    def one_case(self) -> bool:
        """Whether CASE left one, which is shown in full."""
        return bool(self.case) and len({case.label for item in self.machines for case in item.cases}) == 1

    @property
    def exit_code(self) -> int:
        """1 where a confirmed regression is open, 3 where one waits to be confirmed, else 0."""
        shifts = [shift for _, shift in self.shifts()]
        if any(shift.alarms for shift in shifts):
            return 1
        return 3 if any(shift.doubtful for shift in shifts) else 0
