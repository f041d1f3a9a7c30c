"""How much a series speaks for steps, where neighbours may resemble each other.

Drift looks like steps, and steps look like drift. So no kind of noise is chosen: each of a table of kinds gets the
weight that the series itself gives it, and what speaks for a step is summed over all (Bayes factors with
Zellner's g-prior: Zellner 1986; Liang et al. 2008, formula 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

KINDS = (
    (0.0, 1.0, 2.0),
    *((rho, 0.0, 0.0) for rho in (0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)),
    *((rho, 0.3, -1.0) for rho in (0.8, 0.9, 0.95)),
    *((rho, 0.6, -3.0) for rho in (0.8, 0.9)),
)
"""Kinds of noise: correlation of neighbours in the drift (an AR(1) process), share of the variance that is
not drift, and log of the weight beforehand. Slow drift under much noise looks most like a step: it gets little."""
RHOS, SHARES, WEIGHTS = (np.array(column) for column in zip(*KINDS, strict=True))
SHORTEST = 2
"""Points between two steps, or a step and an end."""
LARGEST = 256
"""Points that are looked at together at most."""
PLACES = 60
"""Places among which a pair of steps is sought."""


@dataclass(frozen=True)
class Frame:
    """What a fit needs to know of the noise alone. K kinds, n points; step t begins with point t + 1."""

    scores: Numbers
    """(K, n - 1, n): times the series, what each step explains by itself."""
    gram: Numbers
    """(K, n - 1, n - 1): how much two steps resemble each other."""
    base: Numbers
    """(K,): log of the weight and of the determinants."""

    @cached_property
    def norms(self) -> Numbers:
        """(K, n - 1): how much each step resembles itself."""
        return np.ascontiguousarray(np.einsum("ktt->kt", self.gram))

    @cached_property
    def pairs(self) -> Pairs:
        """Of a series without steps."""
        free = _thinned(len(self.norms[0]) + 1, [])
        return _paired(self.norms[:, free], self.gram[:, free][:, :, free], free)


@dataclass(frozen=True)
class Pairs:
    """Pairs of places, and what the products of their two scores are worth, (K, pairs) each."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    firsts: Numbers
    seconds: Numbers
    both: Numbers


@dataclass(frozen=True)
class Fit:
    """A series in a frame: all that the functions below look at."""

    frame: Frame
    scores: Numbers
    """(K, n - 1)"""
    squares: Numbers
    """(K,): what is left without any step."""

    @property
    def size(self) -> int:
        """Points of the series."""
        return int(self.scores.shape[1]) + 1


@dataclass(frozen=True)
class Effect:
    """The size of one step, all kinds of noise and all its places weighed."""

    chances: Numbers
    """(n - 1,): of each place, given that the step is there; they add up to 1."""
    value: float
    error: float
    freedom: int


def fit(logs: Numbers, weights: Numbers | None = None) -> Fit:
    """A series of 3 to LARGEST logarithms; `weights` are relative standard errors around 1."""
    if weights is None:
        return fit_many([logs])[0]
    frame = _made(_precisions(len(logs)), weights)
    centred = logs - logs.mean()
    return _fitted(frame, centred, frame.scores @ centred)


def fit_many(many: Sequence[Numbers]) -> list[Fit]:
    """Several series without weights, as `fit`: those that are equally long take one product."""
    found: dict[int, Fit] = {}
    alike: dict[int, list[int]] = {}
    for number, logs in enumerate(many):
        alike.setdefault(len(logs), []).append(number)
    for size, numbers in alike.items():
        frame = _frame(size)
        centred = [many[number] - many[number].mean() for number in numbers]
        products = np.stack(centred) @ frame.scores.reshape(-1, size).T
        for number, series, scores in zip(numbers, centred, products, strict=True):
            found[number] = _fitted(frame, series, scores.reshape(len(KINDS), size - 1))
    return [found[number] for number in range(len(many))]


def _fitted(frame: Frame, centred: Numbers, scores: Numbers) -> Fit:
    # A millionth is what a clock may hide: nothing is free of noise.
    return Fit(frame, scores, np.maximum(_parts(scores) @ centred, 0.0) + len(centred) * 1e-12)


def covariate(logs: Numbers, other: Numbers) -> tuple[float, float]:
    """How much more likely a series is beside another one (log of the evidence), and its coefficient."""
    fitted = fit(logs)
    centred = other - other.mean()
    parts = _parts(fitted.frame.scores @ centred)
    norms = np.maximum(parts @ centred, len(logs) * 1e-12)
    products = parts @ logs
    found = _evidence(fitted, products**2 / norms, 1)
    together = log_sum(found)
    return together - evidence(fitted, []), float(np.exp(found - together) @ (products / norms))


def kinds(fitted: Fit, steps: list[int]) -> Numbers:
    """The chance of each kind of noise, given the steps."""
    logs = _evidence(fitted, _sizes(fitted, steps)[0], len(steps))
    chances: Numbers = np.exp(logs - log_sum(logs))
    return chances


def variances(fitted: Fit, steps: list[int]) -> Numbers:
    """(K,): the variance of the noise, given the steps."""
    explained, _ = _sizes(fitted, steps)
    left: Numbers = (fitted.squares - explained) / max(1, fitted.size - 1 - len(steps))
    return left


def evidence(fitted: Fit, steps: list[int]) -> float:
    """Log of the evidence for exactly these steps, up to a constant of the series."""
    return log_sum(_evidence(fitted, _sizes(fitted, steps)[0], len(steps)))


def with_one_more(fitted: Fit, steps: list[int]) -> Numbers:
    """(n - 1,): the evidence with one more step at each place; minus infinity where none may be."""
    explained, scores, norms = _beside(fitted, steps)
    gains = explained[:, None] + scores**2 / norms
    found = _summed(_evidence(fitted, gains, len(steps) + 1))
    return np.where(allowed(fitted.size, steps), found, -np.inf)


def with_two_more(fitted: Fit, steps: list[int], needed: float = -math.inf) -> tuple[float, tuple[int, int]]:
    """Log of the mean evidence over all pairs of further steps, and the best pair; minus infinity where it is surely
    less than `needed`.

    A level that comes and goes again hides from a search for single steps (Olshen et al. 2004).
    """
    explained, scores, norms = _beside(fitted, steps)
    pairs = fitted.frame.pairs
    if steps:
        free = _thinned(fitted.size, steps)
        pairs = _paired(norms[:, free], _gram_beside(fitted, steps, free), free)
    if not len(pairs.first):
        return -np.inf, (0, 0)
    a, b = scores[:, pairs.first], scores[:, pairs.second]
    gains = a * (a * pairs.firsts - b * pairs.both) + b * b * pairs.seconds
    # No mean is above its largest part: most series are done here.
    most = _evidence(fitted, explained + gains.max(axis=1), len(steps) + 2)
    if log_sum(most) < needed:
        return -np.inf, (0, 0)
    total = _summed(_evidence(fitted, explained[:, None] + gains, len(steps) + 2))
    best = int(total.argmax())
    return log_sum(total) - math.log(len(total)), (int(pairs.first[best]), int(pairs.second[best]))


def effect(fitted: Fit, others: list[int], low: int, high: int) -> Effect:
    """Place and size of one step among the places `low` … `high`, beside the other steps."""
    explained, scores, norms = _beside(fitted, others)
    gains = explained[:, None] + scores**2 / norms
    logs = np.where(
        allowed(fitted.size, others), _evidence(fitted, gains, len(others) + 1), -np.inf
    )  # (K, n - 1)
    logs[:, :low] = logs[:, high + 1 :] = -np.inf
    chances = np.exp(logs - log_sum(logs))
    freedom = max(1, fitted.size - 2 - len(others))
    values = scores / norms
    variances = np.maximum(fitted.squares[:, None] - gains, 0) / freedom / norms
    value = float((chances * values).sum())
    error = float(np.sqrt((chances * (variances + (values - value) ** 2)).sum()))
    return Effect(chances.sum(axis=0), value, error, freedom)


def allowed(size: int, steps: list[int]) -> NDArray[np.bool_]:
    """Places at which a further step leaves every level SHORTEST points."""
    places = np.ones(size - 1, dtype=bool)
    places[: SHORTEST - 1] = places[size - SHORTEST :] = False
    for step in steps:
        places[max(0, step - SHORTEST + 1) : step + SHORTEST] = False
    return places


def mean_error(points: int, chances: Numbers, variances: Numbers) -> float:
    """Standard error of the mean of so many points in a row, all kinds of noise weighed."""
    return float(np.sqrt((chances * variances * _mean_parts(points)).sum()))


@lru_cache(maxsize=4096)
def _mean_parts(points: int) -> Numbers:
    """(K,): the share of each kind's variance that the mean of so many points in a row keeps."""
    # The sum of (points - lag) rho^lag over all lags, as the geometric series that it is.
    lagged = RHOS * (points * (1 - RHOS) - (1 - RHOS**points)) / (1 - RHOS) ** 2
    drift = (points + 2 * lagged) / points**2
    parts: Numbers = SHARES / points + (1 - SHARES) * drift
    return parts


def _sizes(fitted: Fit, steps: list[int]) -> tuple[Numbers, Numbers]:
    """What the steps explain (K,), and how large each is (K, steps)."""
    if not steps:
        return np.zeros(len(KINDS)), np.zeros((len(KINDS), 0))
    scores = fitted.scores[:, steps]
    sizes = np.linalg.solve(fitted.frame.gram[:, steps][:, :, steps], scores[:, :, None])[:, :, 0]
    return np.asarray((scores * sizes).sum(axis=1)), np.asarray(sizes, dtype=float)


def _beside(fitted: Fit, steps: list[int]) -> tuple[Numbers, Numbers, Numbers]:
    """What the steps explain; scores and their variances with the steps taken out, (K, n - 1) each."""
    norms = fitted.frame.norms
    if not steps:
        return np.zeros(len(KINDS)), fitted.scores, norms
    across = fitted.frame.gram[:, :, steps]
    own = fitted.scores[:, steps, None]
    solved = np.linalg.solve(across[:, steps], np.concatenate([own, across.transpose(0, 2, 1)], axis=2))
    sizes, solved = solved[:, :, 0], solved[:, :, 1:]
    explained = (own[:, :, 0] * sizes).sum(axis=1)
    left = norms - np.einsum("kts,kst->kt", across, solved)
    scores = fitted.scores - np.einsum("kts,ks->kt", across, sizes)
    return explained, scores, np.asarray(np.maximum(left, 1e-9 * norms), dtype=float)


def _gram_beside(fitted: Fit, steps: list[int], free: NDArray[np.intp]) -> Numbers:
    """The Gram matrix of some places with the steps taken out."""
    gram = fitted.frame.gram
    across = gram[:, free][:, :, steps]
    own = gram[:, steps][:, :, steps]
    left: Numbers = gram[:, free][:, :, free] - across @ np.linalg.solve(own, across.transpose(0, 2, 1))
    return left


def _thinned(size: int, steps: list[int]) -> NDArray[np.intp]:
    """Places for pairs of further steps. They settle later: of a long series, every second or third is near enough."""
    return np.flatnonzero(allowed(size, steps))[:: max(1, size // PLACES)]


def _paired(norms: Numbers, gram: Numbers, free: NDArray[np.intp]) -> Pairs:
    """All pairs of the places `free`, SHORTEST apart at least, by their norms (K, free) and Gram matrix."""
    first, second = np.triu_indices(len(free), SHORTEST)
    a, b, both = norms[:, first], norms[:, second], gram[:, first, second]
    free_of_both = np.maximum(a * b - both**2, 1e-12 * a * b)
    return Pairs(free[first], free[second], b / free_of_both, a / free_of_both, 2 * both / free_of_both)


def _evidence(fitted: Fit, explained: Numbers, steps: int) -> Numbers:
    """Log of the evidence for each kind, from the squares that the steps explain; g is the number of points."""
    size = fitted.size
    base, squares = fitted.frame.base, fitted.squares
    if explained.ndim == 2:
        base, squares = base[:, None], squares[:, None]
    left = 1 - np.minimum(explained / squares, 1.0) * size / (1 + size)
    found: Numbers = base - (size - 1) / 2 * np.log(squares * left) - steps / 2 * np.log1p(size)
    return found


def log_sum(logs: Numbers) -> float:
    """Log of the sum of numbers that are given as logs. scipy's takes ten times as long for a few numbers."""
    top = float(logs.max())
    return top if top == -math.inf else top + math.log(float(np.exp(logs - top).sum()))


def _summed(logs: Numbers) -> Numbers:
    """As log_sum, over the kinds of noise."""
    top = logs.max(axis=0)
    found: Numbers = top + np.log(np.exp(logs - top).sum(axis=0))
    return found


def _parts(scores: Numbers) -> Numbers:
    """Each point's own part of the scores, which are sums from a point to the end."""
    parts: Numbers = -np.diff(np.pad(scores, ((0, 0), (1, 1))), axis=1)
    return parts


@lru_cache(maxsize=8)
def _frame(size: int) -> Frame:
    made = _made(_precisions(size), None)
    return Frame(np.ascontiguousarray(made.scores), np.ascontiguousarray(made.gram), made.base)


def _made(precisions: tuple[Numbers, Numbers], weights: Numbers | None) -> Frame:
    inverse, log_determinants = precisions
    if weights is not None:
        inverse = inverse / weights[:, None] / weights[None, :]
    sums = inverse.sum(axis=2)
    total = sums.sum(axis=1)
    # Without the mean: a series is as good as one that lies higher.
    inverse = inverse - sums[:, :, None] * sums[:, None, :] / total[:, None, None]
    scores = np.cumsum(inverse[:, ::-1, :], axis=1)[:, ::-1, :][:, 1:, :]
    gram = np.cumsum(scores[:, :, ::-1], axis=2)[:, :, ::-1][:, :, 1:]
    return Frame(scores, gram, WEIGHTS - (log_determinants + np.log(total)) / 2)


@lru_cache(maxsize=16)
def _precisions(size: int) -> tuple[Numbers, Numbers]:
    """The inverse of each kind's correlations, and the logarithm of their determinant."""
    whitening, halves = _whitening()
    part = whitening[:, :size, :size]
    return part.transpose(0, 2, 1) @ part, 2 * halves[:, size - 1]


@lru_cache(maxsize=1)
def _whitening() -> tuple[Numbers, Numbers]:
    """Inverse Cholesky factors of the correlations of LARGEST points, whose corners are those of fewer."""
    lags = np.abs(np.subtract.outer(np.arange(LARGEST), np.arange(LARGEST)))
    correlations = (1 - SHARES[:, None, None]) * RHOS[:, None, None] ** lags
    correlations[:, lags == 0] = 1.0
    factors = np.linalg.cholesky(correlations)
    return np.linalg.inv(factors), np.cumsum(np.log(np.einsum("kii->ki", factors)), axis=1)
