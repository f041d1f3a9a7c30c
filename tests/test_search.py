"""The maths of a bisection: what is believed, what is measured next, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pytest

from mlx_velocity import information, posterior, search
from mlx_velocity.posterior import Observation
from mlx_velocity.records import Pair
from mlx_velocity.search import Answer, Measure, Taken, Terms
from mlx_velocity.verdict import Rule

LAST = 24


def searched(
    levels: Sequence[float],
    noise: float = 0.004,
    unusable: Collection[int] = (),
    terms: Terms | None = None,
    seed: int = 1,
) -> tuple[Answer, list[Taken], list[Measure]]:
    """A search among commits with these levels, each turn with so much noise."""
    draw = np.random.default_rng(seed)
    taken: list[Taken] = []
    steps: list[Measure] = []
    while True:
        step = search.decide(len(levels) - 1, taken, unusable, terms or Terms())
        if isinstance(step, Answer):
            return step, taken, steps
        steps.append(step)
        base, head = (
            tuple(math.exp(levels[number] + value) for value in draw.normal(0, noise, 2))
            for number in (step.low, step.high)
        )
        taken.append(Taken(step.low, step.high, Pair(base, head)))


def step_at(*guilty: int, size: float = 0.05, last: int = LAST) -> list[float]:
    """Levels that rise by so much at each of these commits."""
    return [size * sum(number >= item for item in guilty) for number in range(last + 1)]


@pytest.mark.parametrize("guilty", [1, 7, 12, LAST])
def test_one_commit_is_found(guilty: int) -> None:
    """The guilty commit is named with its effect, the first and the last one too, and compared with its parent."""
    answer, taken, _ = searched(step_at(guilty))
    (blamed,) = answer.blamed
    assert (answer.outcome, blamed.low, blamed.high, blamed.confirmed) == ("commit", guilty - 1, guilty, True)
    assert blamed.probability >= 0.99
    assert blamed.effect is not None
    assert blamed.effect.low < math.exp(0.05) < blamed.effect.high
    assert sum((item.low, item.high) == (guilty - 1, guilty) for item in taken) >= 6
    assert len(taken) < 40


def test_an_improvement_is_found_too() -> None:
    """A bad end that is faster is searched all the same."""
    answer, _, _ = searched(step_at(9, size=-0.05))
    assert (answer.outcome, answer.blamed[0].high) == ("commit", 9)
    assert answer.total is not None
    assert answer.total.value < 1


def test_ends_come_first() -> None:
    """Nothing inside is measured before the ends are told apart by the rule of compare."""
    _, _, steps = searched(step_at(9))
    first = next(number for number, step in enumerate(steps) if step.purpose != "ends")
    assert all((step.low, step.high) == (0, LAST) for step in steps[:first])
    assert first in dict(Rule().looks)


def test_no_difference_is_shown_and_ends_it() -> None:
    """Equal ends are shown to be equal, with the interval, and no commit between them is measured."""
    answer, taken, _ = searched(step_at())
    assert (answer.outcome, answer.blamed) == ("unchanged", ())
    assert answer.total is not None
    assert answer.total.low < 1 < answer.total.high
    assert {(item.low, item.high) for item in taken} == {(0, LAST)}


def test_a_slope_is_blamed_on_nobody() -> None:
    """A little by every commit is called a slope, with where it lies."""
    answer, _, _ = searched([0.08 * min(max(number - 4, 0) / 16, 1) for number in range(LAST + 1)])
    assert (answer.outcome, answer.blamed) == ("slope", ())
    assert answer.slope is not None
    assert answer.slope[0] <= 8
    assert answer.slope[1] >= 16


def test_two_commits_are_both_found() -> None:
    """Where two commits share the change, both are named."""
    answer, _, _ = searched(step_at(6, 17, size=0.04))
    assert answer.outcome == "commits"
    assert [item.high for item in answer.blamed] == [6, 17]
    assert all(item.confirmed for item in answer.blamed)


def test_levels_that_nothing_explains() -> None:
    """Levels that jump about are not explained away."""
    draw = np.random.default_rng(3)
    levels = [0.0, *draw.uniform(-0.1, 0.2, LAST - 1), 0.1]
    answer, _, _ = searched(levels, noise=0.001)
    assert answer.outcome in ("nothing fits", "unclear", "commits", "commit")
    if answer.outcome == "commit":
        assert abs(levels[answer.blamed[0].high] - levels[answer.blamed[0].low]) > 0.03


def test_commits_that_cannot_be_measured_are_passed_over() -> None:
    """Nobody measures what can't be built, and the guilty one is found beside it."""
    unusable = {2, 3, 8, 13, 14, 20}
    answer, taken, _ = searched(step_at(10), unusable=unusable)
    assert answer.outcome == "commit"
    assert answer.blamed[0].high == 10
    assert not unusable & {number for item in taken for number in (item.low, item.high)}


def test_a_guilty_commit_that_cannot_be_measured() -> None:
    """The answer is then the group that it is in, no larger than it must be."""
    answer, _, _ = searched(step_at(10), unusable={9, 10})
    (blamed,) = answer.blamed
    assert (answer.outcome, blamed.low, blamed.high, blamed.confirmed) == ("group", 8, 11, True)


def test_nothing_inside_can_be_measured() -> None:
    """With no commit between the ends, or none that can be built, the ends' comparison is the answer."""
    alone, taken, _ = searched(step_at(1, last=1))
    assert (alone.outcome, alone.blamed[0].high, alone.blamed[0].confirmed) == ("commit", 1, True)
    assert {(item.low, item.high) for item in taken} == {(0, 1)}
    group, _, _ = searched(step_at(2, last=3), unusable={1, 2})
    assert (group.outcome, group.blamed[0].low, group.blamed[0].high) == ("group", 0, 3)


def test_bytes_are_counted() -> None:
    """Exact numbers take a few pairs: three of the ends, one or two a step, three to confirm."""
    answer, taken, _ = searched(step_at(10, size=0.3), noise=0.0, terms=Terms(exact=True))
    assert (answer.outcome, answer.blamed[0].high) == ("commit", 10)
    assert len(taken) <= 14


def test_more_pairs_than_there_may_be() -> None:
    """A budget that is used up ends it, with what is believed so far."""
    answer, taken, _ = searched(step_at(9, size=0.02), noise=0.015, terms=Terms(most_pairs=20))
    assert (answer.outcome, len(taken)) == ("unclear", 20)
    assert "20 pairs" in answer.reason


def test_the_same_pairs_give_the_same_step() -> None:
    """Nothing is remembered but the pairs: asked again in the middle, the search goes on as it did."""
    _, taken, steps = searched(step_at(9), noise=0.01)
    for number in (0, 5, 8, len(taken) - 2):
        step = search.decide(LAST, taken[:number], (), Terms())
        assert isinstance(step, Measure)
        assert (step.low, step.high) == (steps[number].low, steps[number].high)


def test_one_wild_pair_blames_nobody() -> None:
    """A pair that is off by a quarter moves little, and moves it back again soon."""
    guilty = 9
    _, taken, _ = searched(step_at(guilty), noise=0.008)
    known = search.observations(taken, False)
    belief = posterior.believe(LAST, known)
    wild = posterior.believe(LAST, [*known, Observation(0, 3, 0.25)])
    assert belief.by_commit[guilty] > 0.98
    assert wild.by_commit[guilty] > 0.5


def test_probabilities_add_up() -> None:
    """All shapes together have probability one, and so have the commits where one of them did it."""
    ends = [Observation(0, LAST, value) for value in (0.05, 0.051, 0.049, 0.052, 0.05, 0.048)]
    belief = posterior.believe(LAST, [*ends, Observation(0, 12, 0.05), Observation(0, 6, 0.001)])
    assert sum(belief.of(kind) for kind in posterior.PRIOR) == pytest.approx(1)
    assert belief.change == pytest.approx(0.05, abs=0.003)
    assert sum(chance for number, chance in belief.by_commit.items() if 6 < number <= 12) > 0.8


def test_no_probability_is_above_one() -> None:
    """Where rounding carried the weights beyond 1, no probability is: the JSON's schema, and readers, take none."""
    one = np.array([[0.0, 1.0, 1.0], [0.0, 0.5, 1.0]])
    for kind, ends in ((0, [[0, -1], [0, -1]]), (1, [[0, 1], [0, 1]])):
        belief = posterior.Belief(
            (0, 1, 2), one, np.array([0.5, 0.5000000000000002]), np.array([kind, kind]), np.array(ends), {},
            np.array([0.05]), np.array([[0.5], [0.5]]), 0.01,
        )  # fmt: skip
        assert belief.blame.max() == 1
        assert max(map(belief.of, posterior.PRIOR)) == 1
        assert max(belief.both.values(), default=0.0) <= 1
        assert max(belief.by_commit.values()) <= 1


def test_the_ends_must_be_compared_first() -> None:
    """Without the ends there is no scale for anything."""
    with pytest.raises(ValueError, match="ends"):
        posterior.believe(4, [Observation(0, 2, 0.1)])


def test_the_middle_says_most() -> None:
    """When nothing is known but the ends, a commit near the middle is measured; when it is slow, an older one."""
    ends = [Observation(0, LAST, 0.05 + value / 1000) for value in (-2, -1, 0, 1, 2, 0)]
    first = information.choose(posterior.believe(LAST, ends), ())
    assert first is not None
    assert (first.low, 8 <= first.high <= 16) == (0, True)
    slow = [*ends, *[Observation(0, first.high, 0.05)] * 2]
    second = information.choose(posterior.believe(LAST, slow), ())
    assert second is not None
    assert second.high < first.high


def test_what_is_dear_is_measured_later() -> None:
    """A commit that has to be built for an hour is passed over for a neighbour that is there."""
    ends = [Observation(0, LAST, 0.05 + value / 1000) for value in (-2, -1, 0, 1, 2, 0)]
    belief = posterior.believe(LAST, ends)
    best = information.choose(belief, ())
    assert best is not None
    other = information.choose(belief, (), lambda _low, high: 100.0 if high == best.high else 1.0)
    assert other is not None
    assert other.high != best.high
