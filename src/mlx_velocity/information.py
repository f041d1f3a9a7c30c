"""Which two commits to measure next: those whose pair is expected to say most about which commit did it.

The expected fall of entropy by one pair (Lindley 1956), worked out on the whole belief: with a flat prior and a
step that is the median commit, as in probabilistic bisection. git-bayesect chooses in the same way for tests that fail by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_velocity import posterior
from mlx_velocity.posterior import Belief, Floats, Whole

DIRECT_FROM = 0.1
"""A group that can't be split further is compared with the commit before it from this probability on."""
DIRECT_BONUS = 1.15
"""Such a pair also belongs to the confirmation that follows, so a little less information will do."""
KNOWN_BONUS = 1.2
"""Two commits that were measured together before are preferred a little: fewer to make, and fewer groups to tell apart."""
RARE = 1e-3
"""Answers less likely than this are taken together."""
GRID = 48
"""Values of a pair at which its chances are looked at."""


@dataclass(frozen=True)
class Choice:
    """Two commits by number, and what a pair of them is expected to say."""

    low: int
    high: int
    bits: float


def targets(belief: Belief) -> Whole:
    """Which answer each shape stands for: the commit to be blamed; where two are likely, both; a slope; none."""
    cells = len(belief.positions) - 1
    # Of two commits the more suspected one, as long as there is hardly a second one.
    suspects = np.where(belief.jumps, belief.blame, -1.0)
    answer: Whole = suspects.argmax(axis=1)
    if belief.shared > posterior.SECOND:
        both = belief.jumps.sum(axis=1) > 1
        answer[both] = cells + belief.ends[both, 0] * cells + belief.ends[both, 1]
    answer[belief.kinds == 2] = cells + cells**2
    answer[belief.kinds == 3] = cells + cells**2 + 1
    return answer


def entropy(belief: Belief) -> float:
    """Bits that are missing for the answer; commits of one group count one by one."""
    sums = np.bincount(targets(belief), belief.weights)
    within = sum(
        chance * math.log2(high - low)
        for chance, (low, high) in zip(belief.blame, map(belief.cell, range(len(belief.blame))), strict=True)
    )
    sums = sums[sums > 0]
    return float(within - (sums * np.log2(sums)).sum())


def choose(
    belief: Belief,
    unusable: Collection[int],
    cost: Callable[[int, int], float] = lambda _low, _high: 1.0,
) -> Choice | None:
    """The pair that says most for its cost; None where nothing inside of the ends can be measured."""
    designs = _designs(belief, unusable)
    if not designs:
        return None
    asked = question(belief)
    bits = [information(belief, asked, low, high) for low, high in designs]
    worth = [
        amount * _bonus(belief, low, high) / cost(low, high)
        for amount, (low, high) in zip(bits, designs, strict=True)
    ]
    best = int(np.argmax(worth))
    return Choice(*designs[best], bits[best])


def _bonus(belief: Belief, low: int, high: int) -> float:
    return (DIRECT_BONUS if low > 0 else 1.0) * (KNOWN_BONUS if (low, high) in belief.alone else 1.0)


@dataclass(frozen=True)
class Question:
    """The shapes that are not ruled out, and which answer each stands for."""

    shapes: Whole
    answers: Whole
    """From 0; those that are unlikely are one."""
    count: int
    weights: Floats
    """Shape × size of the change: probability of both."""
    changes: Floats


def question(belief: Belief) -> Question:
    """What a pair is to tell apart."""
    answer = targets(belief)
    rare = np.bincount(answer, belief.weights) < RARE
    named, numbers = np.unique(np.where(rare[answer], -1, answer), return_inverse=True)
    kept = belief.weights > 1e-9
    kept[-1] = True
    likely = belief.by_change.sum(axis=0) > 0.02
    weights, changes = belief.by_change[kept][:, likely], belief.changes[likely]
    return Question(np.flatnonzero(kept), numbers[kept], len(named), weights / weights.sum(), changes)


def _designs(belief: Belief, unusable: Collection[int]) -> Sequence[tuple[int, int]]:
    last = belief.positions[-1]
    found = [(0, place) for place in belief.positions[1:] if place not in unusable]
    for number, chance in enumerate(belief.blame):
        low, high = belief.cell(number)
        if chance >= DIRECT_FROM and low > 0 and not posterior.splittable((low, high), unusable):
            found.append((low, high))
    # The ends alone tell nothing apart.
    return [] if found == [(0, last)] else found


def information(belief: Belief, asked: Question, low: int, high: int) -> float:
    """Bits that one pair of two commits is expected to say about the answer."""
    positions, size, sizes = belief.positions, len(posterior.LEVELS), len(asked.changes)
    first, second = (belief.levels[asked.shapes, positions.index(place)] for place in (low, high))
    keys = asked.answers * size + posterior.level_index(second - first)
    weights = asked.weights
    # Answer × level × size of the change, which is not known either: a pair may say only how large it is.
    flat = np.zeros((asked.count * size, sizes))
    for number in range(sizes):
        flat[:, number] = np.bincount(keys[:-1], weights[:-1, number], asked.count * size)
    by_level = flat.reshape(asked.count, size, sizes)
    # No shape at all, the last one: any level is as likely as another until it is measured.
    free = belief.alone.get((low, high), np.full(size, 1 / size))
    by_level[asked.answers[-1]] += free[:, None] * weights[-1]
    joint = by_level.reshape(asked.count, -1)
    used = joint.sum(axis=0) > 1e-6
    means = (posterior.LEVELS[:, None] * asked.changes).ravel()[used]
    reach = 4 * belief.noise
    values = np.linspace(means.min() - reach, means.max() + reach, GRID)
    seen = posterior.density((values - means[:, None]) / belief.noise)
    together = joint[:, used] @ (seen / seen.sum(axis=1, keepdims=True))
    alone = together.sum(axis=1, keepdims=True) * together.sum(axis=0, keepdims=True)
    likely = together > 0
    return max(0.0, float((together[likely] * np.log2(together[likely] / alone[likely])).sum()))
