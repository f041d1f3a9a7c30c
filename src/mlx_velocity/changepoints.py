"""Where the level of a series changed for good, and how sure that is: docs/verdicts.md, "Change points"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mlx_velocity import anchor, correlated, exact, stats, stepsearch
from mlx_velocity.series import ChangePoint, Found, Point, Segment, Series
from mlx_velocity.stepsearch import Window

Numbers = NDArray[np.float64]

WINDOW = 200
"""Points that are looked at together. Longer series are seen in windows that overlap by half."""
UNEQUAL = 1.3
"""Largest over smallest standard error of points from which they are weighed."""


@dataclass(frozen=True)
class Rule:
    """When a step is called a change point."""

    error_rate: float = 0.01
    """Share of false ones among those called, over all series of a machine."""
    smallest: float = 0.005
    """Steps of a time that are smaller than this share are not called; of a count, any step is."""
    confidence: float = 0.95
    """Of the intervals of ratios, levels and places."""
    confirming: int = 3
    """Points of a new level that confirm it."""


@dataclass
class _View:
    """A window of a series: its points, the steps found in it, and which of them are its own to report."""

    indexes: list[int]
    """Where its points stand in the series."""
    window: Window
    own: tuple[int, int]
    """It reports what begins at the points from here to there; its neighbours see the rest better."""
    newest: bool
    """Whether it ends with the newest point."""
    windows: int
    """How many there are in the series."""
    places: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    alone: stepsearch.Alone | None = None

    def start(self, place: int) -> int:
        """The index in the series of the first kept point behind a place."""
        return self.indexes[int(self.window.kept[place + 1])]

    def owns(self, index: int) -> bool:
        """Whether a change at that index is this window's to report."""
        return self.own[0] <= index < self.own[1]


@dataclass(frozen=True)
class _Block:
    """The usable points between two borders."""

    views: list[_View]
    anchored: float


def find(series: Series, rule: Rule = Rule()) -> Found:
    """The change points of one series, and the levels between them."""
    return find_many([series], rule)[0]


def find_many(many: Sequence[Series], rule: Rule = Rule()) -> list[Found]:
    """The change points of all series of one machine, in the order given.

    Of those called, a share of `rule.error_rate` is expected to be false (Benjamini and Hochberg 1995, over the
    chances that each series by itself gives its steps).
    """
    blocks = {number: _blocks(series) for number, series in enumerate(many) if not exact.is_exact(series)}
    views = [view for found in blocks.values() for block in found for view in block.views]
    # Windows of the same size share what is computed of the noise.
    for view in sorted(views, key=lambda view: len(view.window.kept)):
        _search(view, rule)
    _control([[view for block in found for view in block.views] for found in blocks.values()], rule)
    return [
        _found(series, blocks[number], rule) if number in blocks else exact.found(series)
        for number, series in enumerate(many)
    ]


def _blocks(series: Series) -> list[_Block]:
    usable = exact.usable(series)
    edges = [0, *sorted(set(series.borders)), len(series.points)]
    parts = [[index for index in usable if start <= index < end] for start, end in pairwise(edges)]
    parts = [part for part in parts if part]
    cuts = [_cut(len(part)) for part in parts]
    count = sum(len(cut) for cut in cuts)
    blocks = []
    for part, cut in zip(parts, cuts, strict=True):
        points = [series.points[index] for index in part]
        logs = np.log([point.value for point in points])
        readings = np.array([_log(point.control) for point in points])
        share = anchor.share(logs, readings)
        if share:
            logs = logs - share * anchor.cleaned(readings)
        weights = _weights(points, logs)
        views = []
        for start, end, first, last in cut:
            window = stepsearch.window(logs[start:end], None if weights is None else weights[start:end])
            own = (part[first], part[last - 1] + 1)
            views.append(_View(part[start:end], window, own, part[end - 1] == usable[-1], count))
        blocks.append(_Block(views, share))
    return blocks


def _log(value: float | None) -> float:
    """Not a number where there is none, or none above zero."""
    return math.log(value) if value is not None and 0 < value < math.inf else math.nan


def _factor(log: float) -> float:
    # e^700 is nearly the largest number there is: beyond it, how much larger does not matter.
    return math.exp(max(-700.0, min(700.0, log)))


def _cut(size: int) -> list[tuple[int, int, int, int]]:
    """Windows over so many points: start and end, and of what each reports the first and the end."""
    if size <= WINDOW:
        return [(0, size, 0, size)]
    starts = [*range(0, size - WINDOW, WINDOW // 2), size - WINDOW]
    middles = [(start + following + WINDOW) // 2 for start, following in pairwise(starts)]
    return [
        (start, start + WINDOW, first, end)
        for start, first, end in zip(starts, [0, *middles], [*middles, size], strict=True)
    ]


def _search(view: _View, rule: Rule) -> None:
    window = view.window
    if window.fitted is None:
        return
    view.places = stepsearch.search(window, rule.error_rate / view.windows)
    while view.places:
        sizes = [
            abs(math.expm1(min(700.0, stepsearch.effect(window.fitted, view.places, number).value)))
            for number in range(len(view.places))
        ]
        least = int(np.argmin(sizes))
        if sizes[least] >= rule.smallest:
            break
        del view.places[least]
    view.chances = [min(1.0, p * view.windows) for p in stepsearch.chances(window.fitted, view.places)]
    if view.newest:
        alone = stepsearch.alone(window, view.places)
        if alone and abs(math.expm1(min(700.0, alone.log_ratio))) >= rule.smallest:
            view.alone = alone


def _control(series: Sequence[Sequence[_View]], rule: Rule) -> None:
    """Keep the steps that hold over all series; their chances then count all series."""
    entries: list[tuple[_View, int | None]] = []  # None stands for newest points alone
    chances: list[float] = []
    families = 0
    for views in series:
        before = len(chances)
        for view in views:
            for place, p in zip(view.places, view.chances, strict=True):
                if view.owns(view.start(place)):
                    entries.append((view, place))
                    chances.append(p)
            if view.alone:
                entries.append((view, None))
                chances.append(view.alone.p)
        # A series without a step is one question; one with several has answered as many.
        families += max(1, len(chances) - before)
    adjusted = stats.adjusted([*chances, *[1.0] * (families - len(chances))])
    for (view, step), p in zip(entries, adjusted, strict=False):
        if step is None and view.alone:
            # A newest point may be an outlier, however far it lies: then the rate of outliers is its chance.
            p = max(p, view.alone.rate)
            view.alone = replace(view.alone, p=p) if p <= rule.error_rate else None
        elif step is not None:
            number = view.places.index(step)
            if p <= rule.error_rate:
                view.chances[number] = p
            else:
                del view.places[number], view.chances[number]


def _found(series: Series, blocks: Sequence[_Block], rule: Rule) -> Found:
    changes: list[ChangePoint] = []
    segments: list[Segment] = []
    for block in blocks:
        found: list[ChangePoint] = []
        for view in block.views:
            own = _changes(view, rule)
            # Two windows may see one step on either side of the line between them.
            if found and own and own[0].first <= found[-1].last and _is_same(found[-1], own[0]):
                own = own[1:]
            found += own
        changes += found
        starts = [change.index for change in found]
        for start, end in pairwise([block.views[0].own[0], *starts, block.views[-1].own[1]]):
            segments.append(_segment(series, block, start, end, rule))
    return Found(tuple(changes), tuple(segments), max((block.anchored for block in blocks), default=0.0))


def _is_same(one: ChangePoint, other: ChangePoint) -> bool:
    return (one.ratio > 1) == (other.ratio > 1)


def _changes(view: _View, rule: Rule) -> list[ChangePoint]:
    fitted, kept = view.window.fitted, view.window.kept
    if fitted is None:
        return []
    found = []
    for number, place in enumerate(view.places):
        if not view.owns(view.start(place)):
            continue
        effect = stepsearch.effect(fitted, view.places, number)
        low, high = stepsearch.located(effect, rule.confidence)
        following = [*view.places, fitted.size - 1][number + 1] - place
        reach = _reach(effect.error, effect.freedom, rule)
        found.append(
            ChangePoint(
                index=view.start(place),
                # A point that was left out may be the first of the new level.
                first=view.indexes[int(kept[low])] + 1,
                last=view.start(high),
                ratio=_factor(effect.value),
                low=_factor(effect.value - reach),
                high=_factor(effect.value + reach),
                confidence=rule.confidence,
                p=view.chances[number],
                confirmed=following >= rule.confirming,
            )
        )
    if view.alone:
        first = view.indexes[view.alone.first]
        value, reach = view.alone.log_ratio, _reach(view.alone.error, view.alone.freedom, rule)
        found.append(
            ChangePoint(
                first, first, first, _factor(value), _factor(value - reach), _factor(value + reach),
                rule.confidence, view.alone.p, confirmed=False,
            )
        )  # fmt: skip
    return found


def _segment(series: Series, block: _Block, start: int, end: int, rule: Rule) -> Segment:
    """The level of the points from `start` to before `end`, by those that follow it."""
    inside, logs, owner = [], [], block.views[0]
    for view in block.views:
        here = [
            position
            for position, index in enumerate(view.indexes)
            if view.owns(index) and start <= index < end
        ]
        inside += [view.indexes[position] for position in here]
        logs += [float(view.window.logs[position]) for position in here if view.window.path.follows[position]]
        if here:
            owner = view
    if not logs:
        logs = [
            float(view.window.logs[position])
            for view in block.views
            for position, index in enumerate(view.indexes)
            if start <= index < end
        ]
    fitted, count = owner.window.fitted, len(logs)
    if fitted is not None:
        error = correlated.mean_error(
            count, correlated.kinds(fitted, owner.places), correlated.variances(fitted, owner.places)
        )
        freedom = max(1, fitted.size - 1 - len(owner.places))
    elif count > 1:
        error, freedom = float(np.std(logs, ddof=1)) / math.sqrt(count), count - 1
    else:
        only = series.points[inside[0]]
        is_known = only.error is not None and 0 <= only.error <= 1
        error, freedom = (only.error or 0.0) if is_known else 0.0, only.launches - 1
    level = float(np.mean(logs))
    reach = _reach(error, freedom, rule)
    return Segment(inside[0], inside[-1], _factor(level), _factor(level - reach), _factor(level + reach))


def _reach(error: float, freedom: int, rule: Rule) -> float:
    return error * float(student.isf((1 - rule.confidence) / 2, max(1, freedom)))


def _weights(points: Sequence[Point], logs: Numbers) -> Numbers | None:
    """Relative standard errors of the points, around 1; None where they are alike, or nothing is known of them.

    A few launches know their own scatter badly, and one stray launch of five spoils it though not their median. So
    all launches are taken to scatter alike, by the median over the points, and a point of more launches counts more.
    """
    errors = np.array([point.error if point.error is not None else math.nan for point in points])
    launches = np.array([max(1, point.launches) for point in points], dtype=float)
    known = (errors >= 0) & (errors <= 1)  # one as large as the value says nothing
    if known.sum() < 2 or launches.min() == launches.max():
        return None
    scatter = float(np.median(errors[known] ** 2 * launches[known])) / launches
    # What launches do not explain is common to all points. 0.91 is the median of a squared difference of two.
    between = max(0.0, float(np.median(np.diff(logs) ** 2)) / 0.91 - float(np.median(scatter)))
    errors = np.sqrt(between + scatter)
    if not errors.min() > 0 or errors.max() / errors.min() < UNEQUAL:
        return None
    weights: Numbers = errors / np.median(errors)
    return weights
