"""What samples say about themselves, and what they are too few for."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity.spread import needed, percentile, spread

SAMPLES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


@given(SAMPLES)
def test_a_spread_is_ordered(samples: list[float]) -> None:
    """Minimum, percentiles and maximum never cross, and the mean lies between the ends."""
    found = spread(samples)
    known = [v for v in (found.p50, found.p90, found.p95, found.p99) if v is not None]
    ordered = [found.minimum, *known, found.maximum]
    assert all(b >= a * (1 - 1e-9) for a, b in itertools.pairwise(ordered))
    assert found.minimum * (1 - 1e-9) <= found.mean <= found.maximum * (1 + 1e-9)


def test_mean_and_standard_deviation_are_those_of_the_samples() -> None:
    """The standard deviation is that of a sample (n - 1)."""
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.sd == pytest.approx(statistics.stdev([1, 2, 4]))
    assert (found.minimum, found.p50, found.maximum, found.count) == (1, 2, 4, 3)


def test_one_sample_has_no_spread() -> None:
    """The spread of a single sample is unknown, not zero."""
    found = spread([3.0])
    assert (found.mean, found.p50, found.sd) == (3.0, 3.0, None)


@pytest.mark.parametrize(("percent", "count"), [(50, 2), (90, 10), (95, 20), (99, 100)])
def test_a_percentile_needs_samples(percent: int, count: int) -> None:
    """p90 is known from 10 samples on, p95 from 20, p99 from 100; before, there is none."""
    assert needed(percent) == count
    values = [float(n) for n in range(count)]
    assert percentile(values[:-1], percent) is None
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))
