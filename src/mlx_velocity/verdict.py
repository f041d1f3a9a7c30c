"""When two sides differ, when they are shown to be equal, and when to go on measuring.

The unit of evidence is a *pair*: one launch of each side, alive at the same time, whose turns
alternate base, head, head, base (or the other way round, drawn at random), once or a few times. A pair
gives one number, the logarithm of the ratio of the sides' faster turns: what disturbs a computer only
ever adds time.
Pairs are independent, launch bias included; samples within a launch are not.

docs/verdicts.md explains the choices and shows error rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlx_velocity import stats
from mlx_velocity.comparison import Verdict
from mlx_velocity.records import Pair

Key = TypeVar("Key")

SPENDING = {6: 0.04, 8: 0.06, 10: 0.50, 12: 0.05, 15: 0.03, 20: 0.03, 28: 0.03, 40: 0.03}
"""Pairs at which the evidence is looked at → share of the error rate that this look may use.

Shares that add up to 1 would keep the error rate over all looks by Bonferroni's inequality (alpha
spending: Lan and DeMets 1983). They add up to 0.77, because Huber's interval is a little too short
for few numbers (`evaluation/ab_error_rates.py` shows what is left). Fewer than 6 pairs leave
Student's t too wide to be of use; the largest share lies where 20 samples a side are reached.
"""


@dataclass(frozen=True)
class Rule:
    """What a verdict promises."""

    threshold: float = 0.02
    """`unchanged` is shown where the whole interval lies within ± this share."""
    error_rate: float = 0.01
    """Chance that an equal case is called changed; over many cases, the share of false ones among those called."""
    looks: tuple[tuple[int, float], ...] = tuple(SPENDING.items())
    """(number of pairs, share of the error rate) in rising order."""

    @property
    def most_pairs(self) -> int:
        """Pairs after which nothing more is looked at."""
        return self.looks[-1][0]


@dataclass(frozen=True)
class Evidence:
    """What the pairs of one case say, whatever the other cases say."""

    ratio: stats.Ratio | None
    """head / base with the interval of the last look; None before the first one."""
    p: float
    """Chance of such a difference between equal sides, all looks so far counted."""
    slower: bool
    """Whether the head was the slower side at the look that says most."""
    equivalent: bool
    """Whether a look showed the whole interval within the threshold."""
    pairs: int
    """Pairs that were used."""


def effect(pair: Pair) -> float:
    """Logarithm of head / base of a pair: the faster half of each side's turns, which must be above zero."""
    return _fast(pair.head) - _fast(pair.base)


def _fast(turns: Sequence[float]) -> float:
    """Mean logarithm of the faster half of some turns: of two, the faster one."""
    return statistics.fmean(map(math.log, sorted(turns)[: max(1, len(turns) // 2)]))


def evidence(pairs: Sequence[Pair], rule: Rule) -> Evidence:
    """Look at the pairs of a case as often as the rule says; stop where equality is shown."""
    effects = [effect(pair) for pair in pairs]
    p, slower, ratio, used = 1.0, False, None, 0
    for count, share in rule.looks:
        if count > len(effects):
            break
        location = stats.location(effects[:count])
        if location.p / share < p:
            p, slower = location.p / share, location.value > 0
        used = count
        ratio = location.ratio(1 - rule.error_rate * share)
        if 1 / (1 + rule.threshold) < ratio.low and ratio.high < 1 + rule.threshold:
            return Evidence(ratio, p, slower, True, used)
    return Evidence(ratio, p, slower, False, used)


def decide(found: Mapping[Key, Evidence], rule: Rule) -> dict[Key, Verdict]:
    """The verdict of each case so far; `inconclusive` means: not yet.

    Benjamini and Hochberg (1995) keep the expected share of false changes among the reported ones
    at the rule's error rate. Values of p only fall while pairs are added, so a case that was called
    changed stays so as long as it gets no more pairs.
    """
    if not found:
        return {}
    adjusted = stats.adjusted([item.p for item in found.values()])
    verdicts: dict[Key, Verdict] = {}
    for (key, item), p in zip(found.items(), adjusted, strict=True):
        if item.equivalent:
            verdicts[key] = "unchanged"
        elif item.ratio is not None and p <= rule.error_rate:
            verdicts[key] = "regressed" if item.slower else "improved"
        else:
            verdicts[key] = "inconclusive"
    return verdicts


def counted(base: Sequence[float], head: Sequence[float], rule: Rule) -> tuple[Verdict, stats.Ratio | None]:
    """The verdict on exact numbers, one or more from each launch: bytes, counts.

    A side is the highest of its launches, since an allocator that frees late never shows too much.
    Where launches of one side differ as much as the sides lie apart, nothing is decided.
    """
    top = [max(side) for side in (base, head)]
    ratio = stats.exact(*top)
    if top[0] == top[1]:
        return "unchanged", ratio or stats.Ratio(1.0, 1.0, 1.0, 1.0)
    if ratio is not None and 1 / (1 + rule.threshold) < ratio.value < 1 + rule.threshold:
        return "unchanged", ratio
    gap = max(min(base), min(head)) - min(top)
    if gap <= max(max(side) - min(side) for side in (base, head)):
        return "inconclusive", ratio
    return ("regressed" if top[1] > top[0] else "improved"), ratio


def typical(pairs: Sequence[Pair]) -> tuple[float, float]:
    """The usual turn of each side in seconds: medians over pairs of the faster turns."""
    return (
        math.exp(statistics.median(_fast(pair.base) for pair in pairs)),
        math.exp(statistics.median(_fast(pair.head) for pair in pairs)),
    )
