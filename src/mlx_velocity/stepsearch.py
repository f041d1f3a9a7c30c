"""The steps in a stretch of a series: proposed in three ways, each judged beside all others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import correlated, stats
from mlx_velocity.correlated import Effect, Fit
from mlx_velocity.levels import Path, follow_many

Numbers = NDArray[np.float64]

FEWEST = 4
"""Points in which a step can be judged."""
CHANCE, USUAL = 0.05, 120
"""A series without a step has evidence e^T for one with a chance of about CHANCE e^-T (at most e^-T in theory: Markov's
inequality for a Bayes factor). Simulated with drift, the hardest noise; with fewer than USUAL points the kinds of
noise are told apart less well, and CHANCE grows as their number falls. evaluation/changepoints.py shows what holds."""
ONE, TWO, ALL = math.log(0.7), math.log(0.2), math.log(0.1)
"""Weights of the three proposals: a step, a level that comes and goes, all steps of the path."""
NEARBY = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
"""How places near one another add up when one is to be named."""
MOST = 20
"""Steps of a path that are worth a look, and rounds of adding to them: more is drift."""
UNSEEN = 0.1
"""Outliers that a series may hold beside those that were seen."""


@dataclass(frozen=True)
class Window:
    """A stretch of a series, with everything that the search looks at."""

    logs: Numbers
    path: Path
    kept: NDArray[np.int64]
    """The points that follow the path: only these are looked at."""
    fitted: Fit | None
    """None with fewer than FEWEST of them."""


@dataclass(frozen=True)
class Alone:
    """Newest points that lie apart, too few to be a level."""

    first: int
    """Index of the first of them."""
    log_ratio: float
    error: float
    freedom: int
    p: float
    """For Gaussian noise."""
    rate: float
    """Chance of so many outliers at the end, as often as outliers come in this stretch."""


def window(logs: Numbers, weights: Numbers | None = None) -> Window:
    """A stretch made ready; `weights` are relative standard errors of the points, around 1."""
    return next(windows([(logs, weights)]))


def windows(many: Sequence[tuple[Numbers, Numbers | None]]) -> Iterator[Window]:
    """Several stretches and their weights made ready: together they take a part of the time.

    One with weights has tables of its own, of 8 MB, so let go of it before the next.
    """
    paths = follow_many(many)
    kept = [np.flatnonzero(path.follows) for path in paths]
    alike = [
        number for number, points in enumerate(kept) if len(points) >= FEWEST and many[number][1] is None
    ]
    fits = dict(zip(alike, correlated.fit_many([many[n][0][kept[n]] for n in alike]), strict=True))
    for number, (logs, weights) in enumerate(many):
        points = kept[number]
        fitted = fits.pop(number, None)
        if weights is not None and len(points) >= FEWEST:
            fitted = correlated.fit(logs[points], weights[points])
        yield Window(logs, paths[number], points, fitted)


def search(stretch: Window, rate: float) -> list[int]:
    """The places of steps whose chance is at most `rate`, oldest first.

    Place t lies between the kept points t and t + 1.
    """
    fitted = stretch.fitted
    found: list[int] = []
    if fitted is None or not correlated.allowed(fitted.size, []).any():
        return found
    hint = _hinted(stretch, fitted, rate)
    for _ in range(MOST):
        added = _proposed(fitted, found, hint, rate)
        better = _pruned(fitted, _settled(fitted, sorted([*found, *added])), rate)
        if better in ([], found):
            break
        found = better
    return found


def chances(fitted: Fit, places: list[int]) -> list[float]:
    """For each step the chance of such a one somewhere in a series without it: its own, or that of all together."""
    before = correlated.evidence(fitted, [])
    found = correlated.evidence(fitted, places)
    together = found - before - _choices(fitted.size, len(places))
    own = []
    for number in range(len(places)):
        gained, others = _gains(fitted, places, number)
        own.append(
            _chance(ONE + correlated.log_sum(gained) - others - math.log(fitted.size - 1), fitted.size)
        )
        # Near a place others do as well: that much more speaks for all together.
        together += correlated.log_sum(gained) - found
    return [max(p, _chance(ALL + together, fitted.size)) for p in own] if len(own) > 1 else own


def effect(fitted: Fit, places: list[int], number: int) -> Effect:
    """Place and size of one of the steps."""
    others, low, high = _gap(fitted, places, number)
    return correlated.effect(fitted, others, low, high)


def located(effect: Effect, confidence: float) -> tuple[int, int]:
    """The first and the last of the likeliest places that hold `confidence` together."""
    order = np.argsort(effect.chances, kind="stable")[::-1]
    count = int(np.searchsorted(np.cumsum(effect.chances[order]), confidence)) + 1
    return int(order[:count].min()), int(order[:count].max())


def alone(stretch: Window, places: list[int]) -> Alone | None:
    """The newest points, where they lie apart from the level on one side and are too few to be a level."""
    fitted, rest, follows = stretch.fitted, stretch.path.rest, stretch.path.follows
    if fitted is None or follows[-1]:
        return None
    first = int(stretch.kept[-1]) + 1
    newest = rest[first:]
    if not (np.all(newest > 0) or np.all(newest < 0)):
        return None
    level = stretch.kept[places[-1] + 1 :] if places else stretch.kept
    variance = correlated.kinds(fitted, places) @ correlated.variances(fitted, places)
    log_ratio = float(np.median(stretch.logs[first:]) - stretch.logs[level].mean())
    if log_ratio * newest[0] <= 0:
        return None  # they lie apart from a wave of drift, not from the level
    error = math.sqrt(float(variance) * (1 / len(newest) + 1 / len(level)))
    freedom = max(1, fitted.size - 1 - len(places))
    apart = rest[:first][~follows[:first]]
    alike = apart[apart * np.sign(newest[0]) > np.abs(newest).min() / 2]
    # What was seen is a sample: twice its own scatter more may be usual.
    rate = min(1.0, (len(alike) + 2 * math.sqrt(len(alike)) + UNSEEN) / (first + 1)) ** len(newest)
    p = stats.student_beyond(abs(log_ratio) / error, freedom)
    return Alone(first, log_ratio, error, freedom, p, rate)


def _chance(evidence: float, size: int) -> float:
    return 1.0 if evidence < 0 else min(1.0, CHANCE * max(1.0, USUAL / size) * math.exp(-evidence))


def _lacking(evidence: float, rate: float, size: int) -> float:
    """Log of the evidence that must come to this one at least for a chance of `rate`."""
    # A little less, so that no rounding decides.
    needed = math.log(CHANCE * max(1.0, USUAL / size) / rate) - 1e-6
    return needed + math.log(-math.expm1(evidence - needed)) if evidence < needed else -math.inf


def _choices(size: int, steps: int) -> float:
    """Log of the number of ways to choose the places."""
    return math.lgamma(size) - math.lgamma(steps + 1) - math.lgamma(size - steps)


def _gap(fitted: Fit, places: list[int], number: int) -> tuple[list[int], int, int]:
    """The other steps, and the places between the neighbours of one."""
    others = [*places[:number], *places[number + 1 :]]
    low = places[number - 1] if number else 0
    high = places[number + 1] if number + 1 < len(places) else fitted.size - 2
    return others, low, high


def _likeliest(gained: Numbers) -> int:
    """The place in the middle of where a step is likeliest: a lonely peak counts less than a hill."""
    # With fewer places than NEARBY has, "same" would give as many as that.
    reach = len(NEARBY) // 2
    chances = np.convolve(np.exp(gained - gained.max()), NEARBY)[reach : reach + len(gained)]
    return int(np.where(np.isfinite(gained), chances, -1.0).argmax())


def _gains(fitted: Fit, places: list[int], number: int) -> tuple[Numbers, float]:
    """The evidence with one of the steps at each place between its neighbours, and without it."""
    others, low, high = _gap(fitted, places, number)
    gained = correlated.with_one_more(fitted, others)
    gained[:low] = gained[high + 1 :] = -np.inf
    return gained, correlated.evidence(fitted, others)


def _hinted(stretch: Window, fitted: Fit, rate: float) -> list[int]:
    """The steps of the path, without those that the rest makes needless."""
    places: list[int] = []
    for place in np.searchsorted(stretch.kept, stretch.path.steps) - 1:
        if 0 <= place < fitted.size - 1 and correlated.allowed(fitted.size, places)[place]:
            places.append(int(place))
    while 1 < len(places) <= MOST:
        without = [
            correlated.evidence(fitted, [*places[:number], *places[number + 1 :]])
            for number in range(len(places))
        ]
        least = correlated.evidence(fitted, places) - max(without) - math.log(fitted.size - 1)
        if _chance(least, fitted.size) <= rate:
            return places
        del places[int(np.argmax(without))]
    return []


def _proposed(fitted: Fit, found: list[int], hint: list[int], rate: float) -> list[int]:
    """Steps to add; none where nothing speaks for more."""
    before = correlated.evidence(fitted, found)
    gained = correlated.with_one_more(fitted, found)
    free = int(np.isfinite(gained).sum())
    if not free:
        return []
    one = ONE + correlated.log_sum(gained) - math.log(free) - before
    single = [_likeliest(gained)]
    if _chance(one, fitted.size) <= rate:
        return single
    everything = -math.inf
    if hint and not found:
        everything = ALL + correlated.evidence(fitted, hint) - before - _choices(fitted.size, len(hint))
    lacking = _lacking(correlated.log_sum(np.array([one, everything])), rate, fitted.size)
    pairs, pair = correlated.with_two_more(fitted, found, lacking + before - TWO)
    two = TWO + pairs - before
    if _chance(correlated.log_sum(np.array([one, two, everything])), fitted.size) > rate:
        return []
    if everything >= max(one, two):
        return hint
    return list(pair) if two >= one else single


def _settled(fitted: Fit, places: list[int]) -> list[int]:
    """Each step at its likeliest place, given the others."""
    for _ in range(3):
        before = list(places)
        for number in range(len(places)):
            gained, _ = _gains(fitted, places, number)
            if np.isfinite(gained).any():
                places[number] = _likeliest(gained)
        if places == before:
            break
    return places


def _pruned(fitted: Fit, places: list[int], rate: float) -> list[int]:
    """Without the steps that the others make needless, the weakest first."""
    while places:
        chances_now = chances(fitted, places)
        worst = int(np.argmax(chances_now))
        if chances_now[worst] <= rate:
            break
        places = _settled(fitted, [*places[:worst], *places[worst + 1 :]])
    return places
