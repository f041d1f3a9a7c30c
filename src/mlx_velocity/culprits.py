"""From the records of a bisection to what is said in the end; nothing is measured here."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_velocity import posterior, quality, search, stats
from mlx_velocity.bisecting import Record, Search, Stopped
from mlx_velocity.bisection import (
    Bisection,
    Blame,
    Counts,
    Culprit,
    Effect,
    Header,
    Measured,
    Outcome,
    Point,
    Ready,
    Suspect,
)
from mlx_velocity.comparison import PairReading
from mlx_velocity.posterior import Belief
from mlx_velocity.search import Answer, Blamed, Terms

SUSPECTS = 5
"""So many of the likeliest commits are named."""
UNLIKELY = 0.005


@dataclass(frozen=True)
class Asked:
    """What a command must say to measure the same again."""

    track: str
    repo: str | None
    config: str | None
    profile: str


def conclude(
    header: Header,
    state: Search,
    stopped: Stopped,
    terms: Terms,
    path: int,
    wall_s: float,
    asked: Asked,
    interrupted: bool = False,
) -> Bisection:
    """What is known now. `path` is the number of commits between the ends; `state.points` are those that matter."""
    step = stopped.step
    belief, total = step.belief, None
    outcome: Outcome = "unclear"
    culprits, slope = [], None
    if isinstance(step, Answer):
        outcome, total = step.outcome, _effect(step.total)
        culprits = [_culprit(state, item, asked) for item in step.blamed]
        if step.slope is not None:
            slope = (state.points[step.slope[0]], state.points[step.slope[1]])
    else:
        total = _effect(search.compared(state.taken, 0, state.last, terms).ratio)
    readings = [item.reading for item in state.measured if isinstance(item.reading, PairReading)]
    controls = [item.control for item in readings if item.control]
    return Bisection(
        header, state.case.label, outcome, terms.confidence, terms.rule.threshold, total,
        _counts(state, path, wall_s), culprits, slope,
        {kind: belief.of(kind) for kind in posterior.PRIOR} if belief else {},
        _suspects(state, belief), _picture(state, belief),
        [(state.points[number], reason) for number, reason in sorted(state.lost.items())],
        quality.of_comparison([item.sensors for item in readings], controls),
        stopped.reason, interrupted,
    )  # fmt: skip


def blamed(done: Bisection) -> list[Blame]:
    """What the file of an answered search says of it; no effect where it has no finite interval."""
    return [
        Blame(
            [point.commit for point in item.commits], item.probability,
            item.effect if item.effect and math.isfinite(item.effect.low + item.effect.high) else None, item.confirmed,
        )
        for item in done.culprits
    ]  # fmt: skip


def _counts(state: Search, path: int, wall_s: float) -> Counts:
    used = [reading for _, _, reading in state.pairs]
    return Counts(
        path,
        state.last,
        len({number for low, high, _ in state.pairs for number in (low, high)}),
        len(used),
        sum(len(turn) for reading in used for turn in reading.base),
        sum(isinstance(item.reading, PairReading) for item in state.measured) - len(used),
        round(wall_s, 3),
    )


def _culprit(state: Search, blamed: Blamed, asked: Asked) -> Culprit:
    pairs = sum((low, high) == (blamed.low, blamed.high) for low, high, _ in state.pairs)
    points = list(state.points[blamed.low + 1 : blamed.high + 1])
    parent = state.points[blamed.low]
    command = again(parent, points[-1], state.case.label, asked)
    return Culprit(
        points, parent, blamed.probability, _effect(blamed.effect), pairs, blamed.confirmed, command
    )


def again(parent: Point, point: Point, label: str, asked: Asked) -> str:
    """The command that compares a commit with the one before it, for this case alone."""
    pattern = re.sub(r"([.()\[\]{}*+?^$|\\])", r"\\\1", label)
    words = ["mlx-velocity", "compare", parent.commit[:12], point.commit[:12], "--bench", f"^{pattern}$"]
    words += ["--config", asked.config] if asked.config else ["--track", asked.track]
    words += ["--repo", asked.repo] if asked.repo else []
    return shlex.join([*words, "--profile", asked.profile])


def _suspects(state: Search, belief: Belief | None) -> list[Suspect]:
    chances = belief.by_commit if belief else {}
    ranked = sorted(chances.items(), key=lambda item: (-item[1], item[0]))[:SUSPECTS]
    return [Suspect(state.points[number], chance) for number, chance in ranked if chance >= UNLIKELY]


def _picture(state: Search, belief: Belief | None) -> list[float]:
    chances = belief.by_commit if belief else {}
    return [round(chances.get(number, 0.0), 6) for number in range(1, state.last + 1)] if chances else []


def _effect(ratio: stats.Ratio | None) -> Effect | None:
    return Effect(ratio.value, ratio.low, ratio.high, ratio.confidence) if ratio else None


def time_used(records: Sequence[Record]) -> float:
    """Seconds that all calls together spent on building and measuring."""
    return sum(item.wall_s for item in records if isinstance(item, (Ready, Measured)))
