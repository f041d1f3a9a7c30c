"""Slopes with intervals: as often right as they say, and not taken in by a jump."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlx_velocity.trend import keeps_rising, slope

STEPS = range(50)


def test_a_slope_is_that_of_scipy() -> None:
    """Value and interval are those of scipy's regression."""
    x, y = [0.0, 1.0, 2.5, 4.0, 7.0], [3.0, 2.0, 6.0, 5.0, 9.0]
    expected = stats.linregress(x, y)
    found = slope(x, y, 0.9)
    assert found is not None
    reach = stats.t.isf(0.05, 3) * expected.stderr
    assert found.value == pytest.approx(expected.slope)
    assert (found.low, found.high) == pytest.approx((expected.slope - reach, expected.slope + reach))


@pytest.mark.parametrize(("xs", "ys"), [([], []), ([1, 2], [1, 5]), ([3, 3, 3, 3], [1, 2, 3, 4])])
def test_too_little_has_no_slope(xs: list[float], ys: list[float]) -> None:
    """Fewer than three points, or all at one place, say nothing."""
    assert slope(xs, ys) is None
    assert not keeps_rising(xs, ys)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 2,000 noisy lines, 95 % have the true slope in their interval."""
    random = np.random.default_rng(7)
    truth = 0.3
    hits = 0
    for _ in range(2000):
        found = slope(STEPS, truth * np.arange(50) + random.normal(0, 5, 50))
        assert found is not None
        hits += found.low <= truth <= found.high
    assert 0.935 < hits / 2000 < 0.965


def test_a_constant_series_has_the_slope_zero() -> None:
    """A series that does not move has a slope of zero, in an interval that holds it."""
    found = slope(STEPS, [4.0e9] * 50)
    assert found is not None
    assert found.low <= 0 <= found.high
    assert not keeps_rising(STEPS, [4.0e9] * 50)


def test_a_single_jump_does_not_keep_rising() -> None:
    """A jump has a slope that is surely above zero, and yet nothing keeps rising."""
    for at in (5, 20, 25, 40):
        series = [float(n >= at) for n in STEPS]
        found = slope(STEPS, series)
        assert found is not None
        assert found.low > 0
        assert not keeps_rising(STEPS, series)


@pytest.mark.parametrize("every", [1, 4, 10])
def test_growth_in_pieces_keeps_rising(every: int) -> None:
    """A series that grows by a piece every few steps keeps rising."""
    assert keeps_rising(STEPS, [float(n // every) for n in STEPS])
    assert not keeps_rising(STEPS, [float(-(n // every)) for n in STEPS])


def test_noise_seldom_seems_to_keep_rising() -> None:
    """Of 1,000 series without a trend, about 2.5 % or fewer are said to rise."""
    random = np.random.default_rng(11)
    assert sum(keeps_rising(STEPS, random.normal(0, 1, 50)) for _ in range(1000)) < 40
