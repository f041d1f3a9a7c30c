"""Step detection for many series at once gives asv's own steps, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from asv import step_detect
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_velocity.site import potts, steps
from mlx_velocity.site.steps import Floats

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


def compiled(batch: list[Series]) -> list[list[steps.Step]]:
    return [steps.compiled(*one) for one in batch]


def by_asv(batch: list[Series]) -> list[list[steps.Step]]:
    return [steps.by_asv(*one) for one in batch]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", [20, 21, 65, 150, 600])
def test_compiled_loops_find_asvs_steps(seed: int, size: int) -> None:
    """Of every kind of noise, with weights, without, and with some, exactly asv's steps come out."""
    batch = [series(kind, size, seed) for kind in KINDS]
    assert compiled(batch) == by_asv(batch)


def test_long_series_have_asvs_steps() -> None:
    """The same of series with ranges of thousands of points, whose medians are found by a tree of sums."""
    batch = [series(kind, 2600, 5) for kind in KINDS]
    assert compiled(batch) == by_asv(batch)


def test_series_of_all_lengths_have_asvs_steps() -> None:
    """Empty ones, single points and short ones too."""
    batch = [series("steps", size, size) for size in (0, 1, 2, 3, 20, 63, 64, 200, 203, 300)]
    assert compiled(batch) == by_asv(batch)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), max_size=70), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_numbers_that_are_often_equal_have_asvs_steps(points: list[tuple[int, int]], missing: int) -> None:
    """Ties between values, weights and costs are decided as in asv."""
    values, weights = np.array(points, float).reshape(-1, 2).T
    values[::10][:missing] = np.nan
    assert compiled([(values, weights)]) == by_asv([(values, weights)])


def test_few_points_are_left_to_asv(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small history does not wait for compiled loops to be loaded; a large one uses them, and both say the same."""
    used: list[int] = []
    loops = steps.compiled
    monkeypatch.setattr(steps, "compiled", lambda *one: used.append(len(one[0])) or loops(*one))
    batch = [series("steps", 300, 1), series("noise", 200, 2)]
    assert steps.detect(batch) == by_asv(batch)
    assert used == []
    monkeypatch.setattr(steps, "WORTH_IT", 500)
    assert steps.detect(batch) == by_asv(batch)
    assert used == [300, 200]


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
    assert compiled(batch) == by_asv(batch)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ranges_have_the_extensions_medians(seed: int) -> None:
    """A range's median and distance are those of asv's extension, in whatever order ranges are asked for."""
    values, weights = series("rounded", 900, seed)
    known = ~np.isnan(values)
    y, w = values[known], np.where(np.isnan(weights[known]), 1.0, weights[known] / 1e6)
    points, theirs = potts.points(y, w), step_detect.get_mu_dist(y.tolist(), w.tolist())
    random = np.random.default_rng(seed)
    places = np.sort(random.integers(0, len(y) + 1, (400, 2)), axis=1).tolist()
    for side, (left, end) in enumerate([(0, 5), (3, 400), (0, len(y)), (7, 8), *places]):
        if left < end:
            assert potts.median(points, side % 2, left, end) == theirs.mu(left, end - 1)
            assert potts.distance(points, side % 2, left, end) == theirs.dist(left, end - 1)
