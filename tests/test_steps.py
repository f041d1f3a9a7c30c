"""Step detection for many series at once gives asv's own steps, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from asv import step_detect

from mlx_velocity.site import steps
from mlx_velocity.site.ranges import Floats, Ranges

Series = tuple[Floats, Floats]
KINDS = ("noise", "steps", "outliers", "rounded", "two levels", "bytes", "drift", "constant")


def series(kind: str, size: int, seed: int) -> Series:
    """Values and weights of a kind, with some that are missing."""
    random = np.random.default_rng([seed, size, KINDS.index(kind)])
    values = 1e-3 * (1 + 0.01 * random.standard_normal(size))
    if kind == "steps":
        for place in random.integers(0, max(size, 1), 5):
            values[place:] *= random.choice([1.04, 0.96, 1.1])
    elif kind == "outliers":
        values *= 1 + (random.random(size) < 0.05) * random.uniform(0.1, 0.4, size)
    elif kind == "rounded":
        values = np.round(values, 5)
    elif kind == "two levels":
        values *= random.choice([1.0, 1.06], size)
    elif kind == "bytes":
        values = np.where(np.arange(size) < size // 2, 1e6, 5e5)
    elif kind == "drift":
        values *= np.linspace(1, 1.3, size)
    elif kind == "constant":
        values = np.full(size, 3.0)
    weights = 1 / (1e-6 * (1 + random.random(size)))
    if seed % 3 == 1:
        weights[:] = np.nan  # asv has none where there are few samples
    elif seed % 3 == 2:
        weights = np.round(weights, -5)
        weights[random.random(size) < 0.1] = np.nan
    values[random.random(size) < 0.03] = np.nan
    return values, weights


def by_asv(one: Series) -> list[steps.Step]:
    found: list[steps.Step] = step_detect.detect_steps(*map(steps._listed, one))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", [64, 65, 150, 600])
def test_a_batch_has_asvs_steps(seed: int, size: int) -> None:
    """Of every kind of noise, with weights, without, and with some, exactly asv's steps come out."""
    batch = [series(kind, size, seed) for kind in KINDS for _ in range(2)]
    assert steps.detect(batch) == [by_asv(one) for one in batch]


def test_long_series_have_asvs_steps() -> None:
    """The same of series in which ranges are long enough for sums in blocks."""
    batch = [series(kind, 2600, 5) for kind in KINDS]
    assert steps.detect(batch) == [by_asv(one) for one in batch]


def test_series_of_all_lengths_may_be_mixed() -> None:
    """Short ones, empty ones and long ones in one call get their own steps each."""
    sizes = (0, 1, 2, 3, 20, 63, 64, 70, 90, 200, 201, 202, 203, 204, 300)
    batch = [series("steps", size, size) for size in sizes]
    assert steps.detect(batch) == [by_asv(one) for one in batch]
    assert steps.detect([]) == []


@pytest.mark.parametrize("what", ["weight of zero", "negative", "huge", "all missing"])
def test_strange_numbers_have_asvs_steps(what: str) -> None:
    """What a damaged or odd result may hold is treated as asv does."""
    batch = [series("noise", 100, seed) for seed in range(9)]
    values, weights = batch[4]
    if what == "weight of zero":
        weights[:50] = 0.0
    elif what == "negative":
        values *= -1
    elif what == "huge":
        values *= 1e300
    else:
        values[:] = np.nan
    assert steps.detect(batch) == [by_asv(one) for one in batch]


def test_ranges_have_the_extensions_medians() -> None:
    """A range's median and distance are those of asv's extension: of short ranges, long ones, windows and splits."""
    for seed in (0, 1, 2):
        values, weights = series("rounded", 900, seed)
        known = ~np.isnan(values)
        y, w = values[known], np.where(np.isnan(weights[known]), 1.0, weights[known] / 1e6)
        ranges, theirs = Ranges(y, w), step_detect.get_mu_dist(y.tolist(), w.tolist())
        table = ranges.windows()
        for left, right in [(0, 5), (3, 400), (0, len(y) - 1), (100, 320), (7, 7)]:
            assert ranges.mu(left, right) == theirs.mu(left, right)
            assert ranges.dist(left, right) == theirs.dist(left, right)
        for right in range(25, 60):
            assert table[right].tolist() == [theirs.dist(right - 19 + place, right) for place in range(20)]
        ends = np.arange(41, 80)
        split = ranges.many(40, 700, ends)
        assert split.tolist() == [theirs.dist(40, end - 1) + theirs.dist(end, 700) for end in ends.tolist()]
