"""Where the level of a series changed for good, and how sure that is: docs/verdicts.md, "Change points"."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import anchor, correlated, exact, levels, stats, weights, windows
from mlx_velocity.series import ChangePoint, Found, Segment, Series
from mlx_velocity.windows import DEFAULT, Memory, View
from mlx_velocity.windows import Rule as Rule

Numbers = NDArray[np.float64]
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""As map: one answer for each, in their order."""
TOGETHER = 32
"""Windows that are searched together: it takes a part of the time, and more would take more memory."""
WINDOW = 200
"""Points that are looked at together. Longer series are seen in windows that overlap by half."""


@dataclass(frozen=True)
class _Block:
    """The usable points between two borders."""

    views: list[View]
    anchored: float


def find(series: Series, rule: Rule = DEFAULT) -> Found:
    """The change points of one series, and the levels between them."""
    return find_many([series], rule)[0]


def find_many(
    many: Sequence[Series], rule: Rule = DEFAULT, memory: Memory | None = None, each: Each = map
) -> list[Found]:
    """The change points of all series of one machine, in the order given.

    Of those called, a share of `rule.error_rate` is expected to be false (Benjamini and Hochberg 1995, over the
    chances that each series by itself gives its steps). What `memory` holds of a window is not searched for again,
    and afterwards it holds the windows of these series alone. `each` may be the map of a pool.
    """
    blocks = {number: _blocks(series) for number, series in enumerate(many) if not exact.is_exact(series)}
    views = [view for found in blocks.values() for block in found for view in block.views]
    memory = {} if memory is None else memory
    digests = [view.digest(rule) for view in views]
    new = {digest: view for digest, view in zip(digests, views, strict=True) if digest not in memory}
    wanted = [(view.logs, view.weights, view.windows, rule) for view in new.values()]
    batches = [wanted[start : start + TOGETHER] for start in range(0, len(wanted), TOGETHER)]
    known = dict(zip(new, chain.from_iterable(each(windows.searched, batches)), strict=True))
    for digest, view in zip(digests, views, strict=True):
        known.setdefault(digest, memory.get(digest, {}))
        view.take(known[digest])
    memory.clear()
    memory.update(known)
    _control([[view for block in found for view in block.views] for found in blocks.values()], rule)
    return [
        _found(series, blocks[number], rule) if number in blocks else exact.found(series)
        for number, series in enumerate(many)
    ]


def _blocks(series: Series) -> list[_Block]:
    usable = exact.usable(series)
    edges = [0, *sorted(set(series.borders)), len(series.points)]
    parts = [part for part in np.split(usable, np.searchsorted(usable, edges[1:-1])) if len(part)]
    cuts = [_cut(len(part)) for part in parts]
    # In powers of two: a window that was searched need not be searched again with each further one.
    count = 1 << max(0, sum(len(cut) for cut in cuts) - 1).bit_length()
    blocks = []
    for part, cut in zip(parts, cuts, strict=True):
        logs, readings = np.log(series.points.value[part]), _logs(series.points.control[part])
        share = anchor.share(logs, readings)
        if share:
            logs = logs - share * anchor.cleaned(readings)
        errors = series.points.error[part]
        launches = np.maximum(1, series.points.launches[part]).astype(float)
        views = []
        for start, end, first, last in cut:
            # Of the window alone: what is measured later changes nothing in it.
            weighed = weights.of(errors[start:end], launches[start:end], logs[start:end])
            own = (int(part[first]), int(part[last - 1]) + 1)
            newest = bool(part[end - 1] == usable[-1])
            views.append(View(part[start:end], logs[start:end], weighed, own, newest, count))
        blocks.append(_Block(views, share))
    return blocks


def _logs(values: Numbers) -> Numbers:
    """Not a number where there is none, or none above zero."""
    return np.log(np.where((values > 0) & (values < math.inf), values, math.nan))


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


def _control(series: Sequence[Sequence[View]], rule: Rule) -> None:
    """Keep the steps that hold over all series; their chances then count all series."""
    entries: list[tuple[View, int | None]] = []  # None stands for newest points alone
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


def _changes(view: View, rule: Rule) -> list[ChangePoint]:
    found = []
    own = [number for number, place in enumerate(view.places) if view.owns(view.start(place))]
    for number in own:
        place = view.places[number]
        value, error, freedom, low, high = view.told(rule)["steps"][number]
        following = [*view.places, len(view.kept) - 1][number + 1] - place
        reach = _reach(error, freedom, rule)
        found.append(
            ChangePoint(
                index=view.start(place),
                # A point that was left out may be the first of the new level.
                first=int(view.indexes[view.kept[low]]) + 1,
                last=view.start(high),
                ratio=_factor(value),
                low=_factor(value - reach),
                high=_factor(value + reach),
                confidence=rule.confidence,
                p=view.chances[number],
                confirmed=following >= rule.confirming,
            )
        )
    if view.alone:
        first = int(view.indexes[view.alone.first])
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
    inside: list[int] = []
    following: list[Numbers] = []
    others: list[Numbers] = []
    owner = block.views[0]
    for view in block.views:
        indexes = view.indexes
        if indexes[-1] < start or indexes[0] >= end:
            continue
        within = (indexes >= start) & (indexes < end)
        here = within & (indexes >= view.own[0]) & (indexes < view.own[1])
        others.append(view.logs[within])
        if here.any():
            inside += indexes[here].tolist()
            following.append(view.logs[here & view.follows])
            owner = view
    logs = np.concatenate(following)
    if not len(logs):
        logs = np.concatenate(others)
    noise, count = owner.told(rule)["noise"], len(logs)
    if noise is not None:
        error = correlated.mean_error(count, np.array(noise), np.ones(len(noise)))
        freedom = max(1, len(owner.kept) - 1 - len(owner.places))
    elif count > 1:
        error, freedom = float(np.std(logs, ddof=1)) / math.sqrt(count), count - 1
    else:
        only = series.points[inside[0]]
        is_known = only.error is not None and 0 <= only.error <= 1
        error, freedom = (only.error or 0.0) if is_known else 0.0, only.launches - 1
    # Among so few nobody looked for points that lie apart, and one of them would move a mean far.
    level = float(np.mean(logs) if len(owner.logs) >= levels.FEWEST else np.median(logs))
    reach = _reach(error, freedom, rule)
    return Segment(inside[0], inside[-1], _factor(level), _factor(level - reach), _factor(level + reach))


def _reach(error: float, freedom: int, rule: Rule) -> float:
    return error * stats.student_reach(max(1, freedom), rule.confidence)
