"""What to do next in a bisection, and when it is over: from the pairs so far to one step.

Nothing is remembered but the pairs and the commits that can't be measured, so a search that was
interrupted goes on where it was. First the ends are compared by the rule of `compare`. Then pairs are measured
where they say most, until one answer is likely enough. A commit that is blamed is compared with the commit before it, by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from mlx_velocity import information, posterior, stats, verdict
from mlx_velocity.bisection import Outcome, Purpose
from mlx_velocity.posterior import Belief, Observation
from mlx_velocity.records import Pair
from mlx_velocity.verdict import Rule

COUNTED = (3, 6)
"""Pairs in which bytes are counted: where they are the same each time, and where they are not."""
MANY = 50
"""Pairs left from which on more than one is taken before asking again."""
SPREAD = 0.9
"""Probability of a slope's ends to lie where they are said to, each."""


@dataclass(frozen=True)
class Taken:
    """A pair that counts: `pair.base` is of commit `low`, `pair.head` of commit `high`."""

    low: int
    high: int
    pair: Pair


@dataclass(frozen=True)
class Terms:
    """What a search promises, and when it gives up."""

    rule: Rule = field(default_factory=Rule)
    confidence: float = 0.99
    """Probability at which a commit is blamed."""
    most_pairs: int = 400
    exact: bool = False
    """Whether numbers are counted and have no noise to speak of: bytes."""


@dataclass(frozen=True)
class Measure:
    """Another pair is needed."""

    low: int
    high: int
    purpose: Purpose
    belief: Belief | None = None
    left: float | None = None
    """Pairs that may still be needed; None where nobody can tell."""

    @property
    def times(self) -> int:
        """Pairs to take before asking again: where many are needed, one more says little about which."""
        return 1 + int((self.left or 0) // MANY) if self.purpose == "search" else 1


@dataclass(frozen=True)
class Blamed:
    """A commit, or a group that can't be told apart: those after `low`, up to `high`."""

    low: int
    high: int
    probability: float
    effect: stats.Ratio | None
    """`high` over `low`, measured directly."""
    confirmed: bool
    """Whether the direct comparison alone shows a change in the right direction."""


@dataclass(frozen=True)
class Answer:
    """The search is over."""

    outcome: Outcome
    total: stats.Ratio | None
    """The bad end over the good end."""
    blamed: tuple[Blamed, ...] = ()
    slope: tuple[int, int] | None = None
    """Numbers of the commits between which a slope lies."""
    belief: Belief | None = None
    reason: str = ""


Step: TypeAlias = Measure | Answer


def decide(
    last: int,
    taken: Sequence[Taken],
    unusable: Collection[int],
    terms: Terms,
    cost: Callable[[int, int], float] = lambda _low, _high: 1.0,
) -> Step:
    """The next pair, or the answer. Commits are numbered from the good end, 0, to the bad end, `last`.

    `unusable` are commits between the ends that can't be measured; `cost` says how long a pair of two commits takes.
    """
    ends = compared(taken, 0, last, terms)
    if ends.state == "open":
        left = next(count for count in _looks(terms) if count > ends.pairs) - ends.pairs
        return _or_over(Measure(0, last, "ends", None, None), len(taken), terms, ends.ratio, left)
    if ends.state != "changed":
        words = "" if ends.state == "unchanged" else "the ends could not be told apart, nor shown to be equal"
        return Answer("unchanged" if ends.state == "unchanged" else "unclear", ends.ratio, reason=words)
    belief = posterior.believe(last, observations(taken, terms.exact), unusable)
    return _or_over(_search(last, taken, unusable, terms, cost, belief, ends), len(taken), terms, ends.ratio)


def observations(taken: Sequence[Taken], exact: bool) -> list[Observation]:
    """The pairs as numbers."""
    return [Observation(item.low, item.high, _effect(item.pair, exact)) for item in taken]


def _effect(pair: Pair, exact: bool) -> float:
    # Nothing may be counted, too: one more or less is no difference.
    return math.log((max(pair.head) + 1) / (max(pair.base) + 1)) if exact else verdict.effect(pair)


@dataclass(frozen=True)
class Compared:
    """What the pairs of two commits say by themselves."""

    state: Literal["open", "changed", "unchanged", "unclear"]
    ratio: stats.Ratio | None
    pairs: int


def compared(taken: Sequence[Taken], low: int, high: int, terms: Terms) -> Compared:
    """Two commits by the rule of `compare`, from the pairs that were taken of just these."""
    pairs = [item.pair for item in taken if (item.low, item.high) == (low, high)]
    if terms.exact:
        return _counted(pairs, terms.rule)
    evidence = verdict.evidence(pairs, terms.rule)
    if evidence.equivalent:
        return Compared("unchanged", evidence.ratio, evidence.pairs)
    if evidence.p <= terms.rule.error_rate:
        return Compared("changed", evidence.ratio, evidence.pairs)
    over = len(pairs) >= terms.rule.most_pairs
    return Compared("unclear" if over else "open", evidence.ratio, len(pairs))


def _counted(pairs: Sequence[Pair], rule: Rule) -> Compared:
    if len(pairs) < COUNTED[0]:
        return Compared("open", None, len(pairs))
    base = [value for pair in pairs for value in pair.base]
    head = [value for pair in pairs for value in pair.head]
    said, ratio = verdict.counted(base, head, rule)
    if said == "inconclusive":
        return Compared("open" if len(pairs) < COUNTED[1] else "unclear", ratio, len(pairs))
    return Compared("unchanged" if said == "unchanged" else "changed", ratio, len(pairs))


def _search(
    last: int,
    taken: Sequence[Taken],
    unusable: Collection[int],
    terms: Terms,
    cost: Callable[[int, int], float],
    belief: Belief,
    ends: Compared,
) -> Step:
    blamed = _blamed(belief, terms.confidence)
    if blamed:
        for cell, _ in blamed:
            inside = posterior.splittable(belief.cell(cell), unusable)
            if inside:
                break
        else:
            return _confirm(taken, terms, belief, blamed, ends)
    elif belief.of("slope") >= terms.confidence:
        return Answer("slope", ends.ratio, (), belief.slope(SPREAD), belief)
    elif belief.of("none") >= terms.confidence:
        words = "the commits between the ends have levels that no step, two steps or slope explains"
        return Answer("nothing fits", ends.ratio, belief=belief, reason=words)
    choice = information.choose(belief, unusable, cost)
    if choice is None:
        best = int(belief.blame.argmax())
        return _confirm(taken, terms, belief, [(best, float(belief.blame[best]))], ends)
    missing = information.entropy(belief)
    left = missing / max(choice.bits, 0.02) + terms.rule.looks[0][0]
    return Measure(choice.low, choice.high, "search", belief, left)


def _blamed(belief: Belief, confidence: float) -> list[tuple[int, float]]:
    """The cells of the commits that did it, each with its probability; none where that is not known yet."""
    best = int(belief.blame.argmax())
    if belief.shared <= posterior.SECOND:
        return [(best, float(belief.blame[best]))] if belief.blame[best] >= confidence else []
    cells, chance = max(belief.both.items(), key=lambda item: item[1])
    return [(cell, chance) for cell in cells] if chance >= confidence else []


def _confirm(
    taken: Sequence[Taken],
    terms: Terms,
    belief: Belief,
    blamed: Sequence[tuple[int, float]],
    ends: Compared,
) -> Step:
    """Compare what is blamed with the commit before it; those pairs count in the belief, too."""
    # However small its part may be: nobody asks whether it is equal.
    alone = replace(terms, rule=replace(terms.rule, threshold=1e-9))
    found = []
    for cell, probability in blamed:
        low, high = belief.cell(cell)
        direct = compared(taken, low, high, alone)
        if direct.state == "open":
            have = sum((item.low, item.high) == (low, high) for item in taken)
            left = next(count for count in _looks(terms) if count > have) - have
            return Measure(low, high, "confirm", belief, left)
        found.append(Blamed(low, high, probability, direct.ratio, direct.state == "changed"))
    groups = any(item.high - item.low > 1 for item in found)
    outcome: Outcome = "group" if groups else "commit" if len(found) == 1 else "commits"
    return Answer(outcome, ends.ratio, tuple(found), None, belief)


def _or_over(
    step: Step, pairs: int, terms: Terms, total: stats.Ratio | None, left: float | None = None
) -> Step:
    """The step, unless that takes more pairs than there may be."""
    if isinstance(step, Answer):
        return step
    if pairs < terms.most_pairs:
        return step if left is None else Measure(step.low, step.high, step.purpose, step.belief, left)
    words = f"{pairs} pairs of launches were not enough"
    return Answer("unclear", total, belief=step.belief, reason=words)


def _looks(terms: Terms) -> list[int]:
    return list(COUNTED) if terms.exact else [count for count, _ in terms.rule.looks]
