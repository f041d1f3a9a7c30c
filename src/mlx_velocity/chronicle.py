"""From a machine's series to the records of its history: what changed, which commit, and what became of it."""

from __future__ import annotations

import bisect
import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mlx_velocity import changepoints, changes, history, records, regressions, stats
from mlx_velocity.history_report import Border, CaseHistory, Shift, State
from mlx_velocity.run_report import Commit
from mlx_velocity.series import ChangePoint, Found, Series
from mlx_velocity.stored_series import MachineSeries, Traced

CONFIRMING = 6
"""Launches of the newest point and of the one before it that confirm a change without a further commit."""
CONFIRMING_COUNTED = 2
"""The same for numbers that are counted: twice the same is no accident."""
NAMED = 20
"""Suspected commits that are named."""
Detector = Callable[[Sequence[Series], changepoints.Rule], list[Found]]
"""As changepoints.find_many; one who knows what did not change may be faster."""
SHARE_LEFT = 0.25
"""A jump is taken back where less than this share of it is left, and less than changes.RELEVANT."""


@dataclass(frozen=True)
class Line:
    """The commits of a branch, oldest first, and where that begins what was asked for."""

    commits: Sequence[history.Commit]
    since: int = 0
    place: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, Commit] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.place.update({commit.hash: number for number, commit in enumerate(self.commits)})

    def commit(self, commit_hash: str) -> Commit:
        """A commit as a reader sees it."""
        if commit_hash not in self._seen:
            found = self.commits[self.place[commit_hash]]
            self._seen[commit_hash] = Commit(found.hash, found.subject, list(found.tags), found.day)
        return self._seen[commit_hash]


def cases(
    track: str,
    made: MachineSeries,
    line: Line,
    marks: Mapping[str, regressions.Mark],
    rule: changepoints.Rule | None = None,
    find: Detector | None = None,
) -> tuple[list[CaseHistory], list[regressions.Mark]]:
    """The history of every case of a machine, and the marks whose change is not found any more.

    All present series are judged together, so that the rate of false alarms holds for the machine, whatever
    part of it a reader asks for.
    """
    rule, find = rule or changepoints.Rule(), find or changepoints.find_many
    told: list[CaseHistory] = []
    lost: list[regressions.Mark] = []
    for current in (True, False):
        traced = [item for item in made.traced if item.current is current]
        judged = [item.series for item in traced if len(item.series.points) > 1]
        found = dict(zip(map(id, judged), find(judged, rule), strict=True))
        for item in traced:
            own = [mark for mark in marks.values() if mark.case == _case(item.series)] if current else []
            told_case, missed = _case_history(
                track, item, found.get(id(item.series), Found()), made, line, own
            )
            told.append(told_case)
            lost += missed
    return told, lost


def _case(series: Series) -> tuple[str, str, str, tuple[str, ...]]:
    return series.machine, series.environment, series.benchmark, series.params


def _case_history(
    track: str, traced: Traced, found: Found, made: MachineSeries, line: Line, marks: list[regressions.Mark]
) -> tuple[CaseHistory, list[regressions.Mark]]:
    series = traced.series
    ordered = sorted(found.changes, key=lambda change: change.index)
    matched = _matched(series, ordered, line, marks)
    shifts = [
        _shift(track, series, found, change, made, line, matched.get(change.index)) for change in ordered
    ]
    used = {mark.id for mark in matched.values()}
    lost = [mark for mark in marks if mark.id not in used and mark.state != "fixed"]
    points = series.points
    history_of = CaseHistory(
        machine=series.machine,
        environment=series.environment,
        benchmark=series.benchmark,
        params=list(series.params),
        label=records.case_label(series.benchmark, series.params),
        version=series.version,
        current=traced.current,
        unit=series.unit,
        tokens=series.tokens,
        counted=series.counted,
        now=_now(series, found) if points else None,
        newest=line.commit(points[-1].commit) if points else None,
        points=points,
        borders=[
            Border(index, reason) for index, reason in zip(series.borders, traced.border_reasons, strict=True)
        ],
        gaps=series.gaps,
        segments=list(found.segments),
        shifts=shifts,
    )
    return history_of, lost


def since(case: CaseHistory, line: Line) -> CaseHistory:
    """The case with what lies within what was asked for marked."""
    return dataclasses.replace(
        case,
        first_shown=bisect.bisect_left(case.points, line.since, key=lambda point: line.place[point.commit]),
        shifts=[
            dataclasses.replace(shift, in_range=line.place[shift.commit.hash] >= line.since)
            for shift in case.shifts
        ],
    )


def _now(series: Series, found: Found) -> float:
    """The level of the newest undisturbed points, or the newest of them where they are too few to know a level.

    Behind a border where all are disturbed it is the newest point: what was measured elsewhere says less.
    """
    last = found.segments[-1] if found.segments else None
    if last is None or any(border > last.last for border in series.borders):
        return series.points[-1].value
    if changes.says_nothing(last.low, last.high):
        return series.points[last.last].value
    return level_at(series, found, last.last)


def level_at(series: Series, found: Found, index: int) -> float:
    """The level that a point belongs to; the point itself where the detector gave it none.

    What is counted keeps a number that was counted.
    """
    for segment in found.segments:
        if segment.first <= index <= segment.last:
            if series.counted:
                return float(
                    statistics.median_low(series.points.value[segment.first : segment.last + 1].tolist())
                )
            return segment.level
    return series.points[index].value


# Which commits


def _range(series: Series, change: ChangePoint, line: Line) -> tuple[int, int]:
    """Places of the last commit of the old level and of the first that is surely of the new one."""
    good = series.points[max(0, change.first - 1)].commit
    return line.place[good], line.place[series.points[change.last].commit]


def _shift(
    track: str,
    series: Series,
    found: Found,
    change: ChangePoint,
    made: MachineSeries,
    line: Line,
    mark: regressions.Mark | None,
) -> Shift:
    good, bad = _range(series, change, line)
    commit = series.points[change.index].commit
    suspects = line.commits[good + 1 : bad + 1]
    before = level_at(series, found, change.index - 1)
    # A segment may hold more than the step; what is shown must be the step.
    after = level_at(series, found, change.index) if series.counted else before * change.ratio
    packages = made.packages.get(series.environment, {})
    shift = Shift(
        id=mark.id if mark else regressions.shift_id(track, *_case(series), commit),
        direction="regressed" if change.ratio > 1 else "improved",
        state="improved",
        commit=line.commit(commit),
        good=line.commit(line.commits[good].hash),
        bad=line.commit(line.commits[bad].hash),
        suspects=len(suspects),
        suspected=[line.commit(item.hash) for item in suspects[:NAMED]],
        index=change.index,
        before=before,
        after=after,
        ratio=change.ratio,
        low=change.low,
        high=change.high,
        confidence=change.confidence,
        p=change.p,
        packages=_other_packages(
            packages.get(line.commits[good].hash, {}), packages.get(line.commits[bad].hash, {})
        ),
        recorded=mark is not None,
    )
    return _with_state(shift, series, found, change, line, mark)


def _other_packages(before: dict[str, str], after: dict[str, str]) -> list[str]:
    if not before or not after:
        return []
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    # What came or went with another package says less than what has another version.
    names.sort(key=lambda name: not (name in before and name in after))
    return [f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}" for name in names]


# What became of it


def _with_state(
    shift: Shift,
    series: Series,
    found: Found,
    change: ChangePoint,
    line: Line,
    mark: regressions.Mark | None,
) -> Shift:
    """The change with its state: what somebody decided, unless later measurements contradict it."""
    confirmed = change.confirmed or by_launches(series, change)
    if shift.direction == "improved":
        return shift if confirmed else dataclasses.replace(shift, state="unconfirmed")
    state: State = "open" if confirmed else "unconfirmed"
    reason, note = mark.reason if mark else "", ""
    fixed_by: Commit | None = None
    mended = _mended(series, found, change)
    if mark is not None and mark.state == "accepted":
        state = "accepted"
    elif mark is not None and mark.state == "fixed":
        state = "fixed"
        fixed_by = line.commit(mark.fixed_by) if mark.fixed_by in line.place else None
        if mended is None and _still_there(series, shift, line, line.place.get(mark.fixed_by or "")):
            state, note = "open", "recorded as fixed, but what was measured since is as it was before the fix"
    elif mended is not None:
        # A mark with a reason is a person's: who opens it again is not contradicted by that same repair.
        known = line.place.get(mark.newest, -1) if mark is not None and mark.reason else -1
        if line.place[series.points[mended].commit] > known:
            state, fixed_by = "fixed", line.commit(series.points[mended].commit)
    return dataclasses.replace(shift, state=state, reason=reason, note=note, fixed_by=fixed_by)


def by_launches(series: Series, change: ChangePoint) -> bool:
    """Whether many launches of the newest point and the one before it show the change by themselves."""
    before, after = series.points[change.index - 1], series.points[change.index]
    needed = CONFIRMING_COUNTED if series.counted else CONFIRMING
    if change.index in series.borders or before.disturbed or after.disturbed:
        return False
    if min(before.launches, after.launches) < needed or before.error is None or after.error is None:
        return False
    ratio = stats.welch(
        stats.Side(math.log(before.value), before.error, before.launches),
        stats.Side(math.log(after.value), after.error, after.launches),
        changes.CONFIDENCE,
    )
    return ratio.low > 1 if change.ratio > 1 else ratio.high < 1


def _mended(series: Series, found: Found, change: ChangePoint) -> int | None:
    """The point with which a later improvement took a regression back; None while it stands."""
    border = next((index for index in series.borders if index > change.index), len(series.points))
    old = level_at(series, found, change.index - 1)
    jump = math.log(change.ratio)
    left = 0.0 if series.counted else min(SHARE_LEFT * jump, math.log1p(changes.RELEVANT))
    for later in sorted(found.changes, key=lambda item: item.index):
        if change.index < later.index < border and later.ratio < 1:
            level = level_at(series, found, later.index)
            if (later.confirmed or by_launches(series, later)) and math.log(level / old) <= left:
                return later.index
    return None


def _still_there(series: Series, shift: Shift, line: Line, fixed: int | None) -> bool:
    """Whether the points since the commit of a repair, two at least, lie nearer to the new level than to the old."""
    if fixed is None:
        return False
    since = [
        point.value
        for point in series.points[shift.index :]
        if line.place[point.commit] >= fixed and not point.disturbed
    ]
    return len(since) > 1 and statistics.median(since) > math.sqrt(shift.before * shift.after)


# Which of the recorded ones


def _matched(
    series: Series, ordered: Sequence[ChangePoint], line: Line, marks: Sequence[regressions.Mark]
) -> dict[int, regressions.Mark]:
    """Index of a regression → its mark: the nearest one whose suspected commits overlap, each mark once."""
    pairs = []
    for change in ordered:
        if change.ratio <= 1:
            continue
        good, bad = _range(series, change, line)
        at = line.place[series.points[change.index].commit]
        for mark in marks:
            own = line.place.get(mark.commit)
            if own is None:
                continue
            first, last = line.place.get(mark.good, own - 1), line.place.get(mark.bad, own)
            if max(good, first) < min(bad, last):
                pairs.append((abs(at - own), change.index, mark))
    found: dict[int, regressions.Mark] = {}
    for _, index, mark in sorted(pairs, key=lambda pair: pair[:2]):
        if index not in found and mark.id not in {item.id for item in found.values()}:
            found[index] = mark
    return found
