"""Numbers about numbers, held against scipy and against what must be true of any."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from mlx_velocity import stats
from mlx_velocity.stats import ratio

times = st.floats(1e-9, 1e6)
launches = st.lists(times, min_size=2, max_size=10)
confidences = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])


@given(launches, launches, confidences)
def test_interval_is_welchs(base: list[float], head: list[float], confidence: float) -> None:
    """The interval is Welch's on logarithms, as scipy computes it."""
    found = ratio(base, head, confidence)
    assert found is not None
    logs = [[math.log(value) for value in side] for side in (base, head)]
    if min(max(side) - min(side) for side in logs) < 1e-6:
        return  # scipy warns where a side hardly varies
    theirs = ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(confidence)
    for ours, log in ((found.low, theirs.low), (found.high, theirs.high)):
        if abs(log) < 700:
            assert math.isclose(math.log(ours), log, rel_tol=1e-6, abs_tol=1e-6)


@given(launches, launches, confidences)
def test_interval_holds_the_ratio(base: list[float], head: list[float], confidence: float) -> None:
    """The interval holds the ratio of the geometric means, at any confidence and any spread."""
    found = ratio(base, head, confidence)
    assert found is not None
    assert 0 <= found.low <= found.value <= found.high
    assert found.confidence == confidence


@given(launches, launches)
def test_more_confidence_is_wider(base: list[float], head: list[float]) -> None:
    """More confidence never gives a narrower interval."""
    found = [ratio(base, head, confidence) for confidence in (0.5, 0.9, 0.99)]
    for narrow, wide in itertools.pairwise(found):
        assert narrow is not None
        assert wide is not None
        assert wide.low <= narrow.low
        assert narrow.high <= wide.high


@given(st.lists(st.floats(0.5, 2), min_size=2, max_size=9), st.lists(st.floats(0.5, 2), min_size=2, max_size=9), st.floats(1e-6, 1e6))  # fmt: skip
def test_symmetry(base: list[float], head: list[float], scale: float) -> None:
    """Exchanged sides give the inverse, a unit changes nothing, and the order of launches neither."""
    found = ratio(base, head, 0.9)
    back = ratio(head, base, 0.9)
    scaled = ratio([value * scale for value in base[::-1]], [value * scale for value in head], 0.9)
    assert found is not None
    assert back is not None
    assert scaled is not None
    for one, two in ((found.value, 1 / back.value), (found.value, scaled.value), (found.high, 1 / back.low)):
        assert math.isclose(one, two, rel_tol=1e-6)


def test_equal_launches() -> None:
    """Launches without any spread give a ratio without any."""
    assert ratio([2.0, 2.0], [3.0, 3.0], 0.99) == stats.Ratio(
        pytest.approx(1.5), *[pytest.approx(1.5)] * 2, 0.99
    )
    same = ratio([2.0, 2.0], [2.0, 2.0], 0.99)
    assert same == stats.Ratio(1.0, 1.0, 1.0, 0.99)


@pytest.mark.parametrize(
    ("base", "head"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([0.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [-1.0, 2.0])],
)
def test_nothing_to_say(base: list[float], head: list[float]) -> None:
    """One launch says nothing about the noise between launches, and zero has no ratio."""
    assert ratio(base, head, 0.95) is None


def test_false_alarms() -> None:
    """Two commits of one speed are told apart as rarely as the confidence promises."""
    dice = random.Random(1)
    trials, alarms = 2000, 0
    for _ in range(trials):
        base, head = ([math.exp(dice.gauss(0, 0.02)) for _ in range(3)] for _ in range(2))
        found = ratio(base, head, 0.95)
        assert found is not None
        alarms += not found.low <= 1 <= found.high
    # Six standard deviations above 5 % of 2,000.
    assert alarms < 160


def test_launch_medians() -> None:
    """A launch counts once, however many samples it has, and not at all without any."""
    assert stats.launch_medians([[1.0, 9.0, 2.0], [], [4.0, 6.0]]) == [2.0, 5.0]


@settings(max_examples=200)
@given(st.floats(1, 1e6), st.floats(0, 50), st.floats(0.5, 0.9999), st.lists(st.floats(0, 1), max_size=30))
def test_our_student_and_benjamini_hochberg_are_those_of_scipy(
    freedom: float, distance: float, confidence: float, chances: list[float]
) -> None:
    """What is computed without scipy.stats, which takes a second to import, is what scipy.stats says."""
    assert stats.student_reach(freedom, confidence) == pytest.approx(
        scipy.stats.t.isf((1 - confidence) / 2, freedom), rel=1e-12
    )
    assert stats.student_beyond(distance, freedom) == pytest.approx(2 * scipy.stats.t.sf(distance, freedom))
    said = scipy.stats.false_discovery_control(chances, method="bh") if chances else []
    assert stats.adjusted(chances) == pytest.approx(list(said))
