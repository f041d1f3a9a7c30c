"""Change points: what is called a step, what is not, and what is said of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

from mlx_velocity import changepoints, exact, levels, stepsearch
from mlx_velocity.points import Point, Points
from mlx_velocity.series import Found, Series

Numbers = NDArray[np.float64]


def draw(seed: int = 1) -> Generator:
    return np.random.default_rng(seed)


def series(values: Sequence[float] | Numbers, **fields: object) -> Series:
    points = Points.of(Point(f"{number:040x}", float(value)) for number, value in enumerate(values))
    return replace(Series("m", "e", "b", (), "1", "seconds", points), **fields)  # type: ignore[arg-type]


def stepped(logs: Numbers, place: int, step: float) -> Numbers:
    return logs + (np.arange(len(logs)) >= place) * math.log1p(step)


def drift(size: int, seed: int, rho: float = 0.8, spread: float = 0.02) -> Numbers:
    steps = draw(seed).normal(0, spread * math.sqrt(1 - rho**2), size + 100)
    return np.asarray(lfilter([1.0], [1.0, -rho], steps)[100:])


def places(found: Found) -> list[int]:
    return [change.index for change in found.changes]


def test_a_step_is_found_with_its_place_and_size() -> None:
    """One step of 5 % in 1 % noise: one change point, intervals that hold the truth, two levels around it."""
    found = changepoints.find(series(np.exp(stepped(draw().normal(0, 0.01, 120), 70, 0.05))))
    (change,) = found.changes
    assert abs(change.index - 70) <= 1
    assert change.first <= change.index <= change.last
    assert change.first <= 70 <= change.last
    assert change.low < 1.05 < change.high
    assert change.p < 0.001
    assert change.confirmed
    before, after = found.segments
    assert (before.first, before.last + 1, after.last) == (0, after.first, 119)
    assert before.low < 1 < before.high < after.low < 1.05 < after.high


def test_an_improvement_is_a_change_too() -> None:
    """A step down has a ratio below 1."""
    (change,) = changepoints.find(series(np.exp(stepped(draw().normal(0, 0.01, 60), 30, -0.08)))).changes
    assert change.low < 0.92 < change.high < 1


@pytest.mark.parametrize("size", range(4))
def test_few_points_are_borne_calmly(size: int) -> None:
    """Up to three points have a level and no change."""
    found = changepoints.find(series([1.0, 1.5, 1.4][:size]))
    assert found.changes == ()
    assert len(found.segments) == min(size, 1)


def test_several_steps_are_told_apart() -> None:
    """A staircase is not taken for drift, and a level that comes and goes is found."""
    logs = draw().normal(0, 0.01, 120)
    for place in (24, 48, 72, 96):
        logs = stepped(logs, place, 0.06)
    assert places(changepoints.find(series(np.exp(logs)))) == pytest.approx([24, 48, 72, 96], abs=1)
    bump = draw(2).normal(0, 0.01, 120)
    bump[58:63] += 0.1
    assert places(changepoints.find(series(np.exp(bump)))) == [58, 63]


def flagged(kind: str, count: int) -> int:
    """How many of so many series without a step are said to have one."""
    hits = 0
    for seed in range(count):
        random = draw(seed)
        logs = drift(120, seed) if kind == "drift" else random.normal(0, 0.01, 120)
        if kind == "outliers":
            logs += (random.random(120) < 0.06) * random.uniform(0.1, 0.35, 120)
        if kind == "bimodal":
            logs += (random.random(120) < 0.25) * 0.06
        hits += bool(changepoints.find(series(np.exp(logs))).changes)
    return hits


@pytest.mark.parametrize("kind", ["gaussian", "outliers", "bimodal", "drift"])
def test_noise_is_no_change(kind: str) -> None:
    """At most 1 of 40 series of each kind is flagged: the evaluation shows the rate itself."""
    assert flagged(kind, 40) <= 1


def test_a_step_is_found_among_outliers_and_modes() -> None:
    """3 % are found though a quarter of the points lie 6 % above, or some lie far above."""
    for seed in range(5):
        random = draw(seed)
        logs = stepped(random.normal(0, 0.01, 120), 60, 0.03)
        modes = logs + (random.random(120) < 0.25) * 0.06
        outliers = logs + (random.random(120) < 0.06) * 0.3
        for disturbed in (modes, outliers):
            assert places(changepoints.find(series(np.exp(disturbed)))) == pytest.approx([60], abs=6)


def test_a_border_is_never_a_change_point() -> None:
    """A new machine's level is its own, and a step beyond it is found as by itself."""
    logs = stepped(draw().normal(0, 0.01, 120), 40, 0.5)
    assert places(changepoints.find(series(np.exp(logs)))) == [40]
    found = changepoints.find(series(np.exp(logs), borders=(40,)))
    assert found.changes == ()
    assert [(segment.first, segment.last) for segment in found.segments] == [(0, 39), (40, 119)]
    assert found.segments[1].level == pytest.approx(1.5, rel=0.01)
    later = changepoints.find(series(np.exp(stepped(logs, 90, 0.06)), borders=(40,)))
    assert places(later) == pytest.approx([90], abs=1)


def test_disturbed_points_say_nothing() -> None:
    """Points of an unfit machine move no level and make no change; what lies behind them may be the change."""
    values = np.exp(draw().normal(0, 0.01, 60))
    values[20:30] *= 1.5
    marked = series(values)
    points = Points.of(
        replace(point, disturbed="busy" if 20 <= number < 30 else "")
        for number, point in enumerate(marked.points)
    )
    found = changepoints.find(replace(marked, points=points))
    assert found.changes == ()
    assert found.segments[0].level == pytest.approx(1, abs=0.01)
    slower = Points.of(
        replace(point, value=point.value * (1.1 if number >= 30 else 1))
        for number, point in enumerate(points)
    )
    (change,) = changepoints.find(replace(marked, points=slower)).changes
    assert change.first == 20
    assert change.last in (30, 31)


@pytest.mark.parametrize(("newest", "confirmed"), [(1, False), (2, False), (3, True), (8, True)])
def test_a_level_of_one_or_two_points_is_unconfirmed(newest: int, confirmed: bool) -> None:
    """The newest points are reported at once, and confirmed when there are three of them."""
    found = changepoints.find(series(np.exp(stepped(draw(3).normal(0, 0.01, 80), 80 - newest, 0.12))))
    (change,) = found.changes
    assert (change.index, change.confirmed) == (80 - newest, confirmed)
    assert change.low < 1.12 < change.high
    assert found.segments[-1].level == pytest.approx(1.12, rel=0.03)


def test_an_outlier_at_the_end_of_many_is_no_news() -> None:
    """Where points like it came before and went, a newest point that lies apart is not reported."""
    values = np.exp(draw().normal(0, 0.01, 80))
    values[[7, 21, 33, 60]] *= 1.2
    values[-1] *= 1.2
    assert changepoints.find(series(values)).changes == ()


def test_one_of_few_points_does_not_move_the_level() -> None:
    """A slow first point before four fast ones is no level of its own, and the level is that of the four."""
    found = changepoints.find(series([1.12, 0.048, 0.049, 0.05, 0.049]))
    assert found.changes == ()
    (only,) = found.segments
    assert only.level == pytest.approx(0.049)
    assert only.low < 0.049 < only.high


def test_counted_numbers_need_no_noise() -> None:
    """Any step of bytes that lasts is a change; a number that comes once is none, the newest one is unconfirmed."""
    values = [1000.0] * 10 + [1001.0] * 5 + [4000.0] + [1001.0] * 5 + [900.0]
    found = changepoints.find(series(values, counted=True))
    assert [(c.index, c.ratio, c.low, c.high, c.confirmed) for c in found.changes] == [
        (10, 1.001, 1.001, 1.001, True),
        (21, 900 / 1001, 900 / 1001, 900 / 1001, False),
    ]
    assert [(s.first, s.last, s.level) for s in found.segments] == [
        (0, 9, 1000),
        (10, 20, 1001),
        (21, 21, 900),
    ]


def test_a_blip_before_a_step_of_bytes_widens_its_place() -> None:
    """A number that came once just before may already have been the change."""
    (change,) = changepoints.find(series([5.0, 5.0, 7.0, 6.0, 6.0], counted=True)).changes
    assert (change.first, change.index, change.last) == (2, 3, 3)


def test_counted_numbers_that_never_rest_are_judged_like_times() -> None:
    """Resident size differs each time: that is noise, and no change at each commit."""
    values = np.round(1e9 * np.exp(draw().normal(0, 0.01, 60)))
    assert not exact.is_exact(series(values, counted=True))
    assert changepoints.find(series(values, counted=True)).changes == ()


def test_equal_times_have_exact_steps() -> None:
    """A clock that counts coarsely makes equal times; a step in them is found where it is."""
    (change,) = changepoints.find(series([1.0] * 30 + [1.03] * 30)).changes
    assert (change.index, change.first, change.last) == (30, 30, 30)
    assert change.ratio == pytest.approx(1.03)
    assert changepoints.find(series([1.0] * 30)).changes == ()


def test_steps_below_the_smallest_are_not_called() -> None:
    """However certain, 0.3 % is left out unless the rule asks for it."""
    values = np.exp(stepped(draw().normal(0, 0.0005, 100), 50, 0.003))
    assert changepoints.find(series(values)).changes == ()
    assert len(changepoints.find(series(values)).segments) == 1
    assert places(changepoints.find(series(values), changepoints.Rule(smallest=0.001))) == [50]


def test_many_series_raise_the_bar() -> None:
    """What convinces in one series alone does not among 300, unless others support it; the order stays."""
    quiet = [series(np.exp(draw(seed).normal(0, 0.01, 60))) for seed in range(300)]
    weak = next(
        candidate
        for seed in range(1000, 2000)
        if (candidate := series(np.exp(stepped(draw(seed).normal(0, 0.01, 60), 30, 0.016))))
        and (found := changepoints.find(candidate).changes)
        and found[0].p > 0.001
    )
    sure = series(np.exp(stepped(draw(5).normal(0, 0.01, 60), 20, 0.2)))
    found = changepoints.find_many([*quiet, weak, sure])
    assert len(found) == 302
    assert not found[300].changes
    assert places(found[301]) == [20]
    assert sum(bool(one.changes) for one in found[:300]) <= 1
    supported = changepoints.find_many([weak, *[sure] * 20])
    assert supported[0].changes
    assert changepoints.find_many([]) == []


def test_long_series_are_seen_in_windows() -> None:
    """Steps in 1,000 points are found once each, wherever the windows lie."""
    logs = draw().normal(0, 0.01, 1000)
    true = [150, 251, 500, 747]
    for number, place in enumerate(true):
        logs = stepped(logs, place, 0.06 if number % 2 == 0 else -0.05)
    found = changepoints.find(series(np.exp(logs)))
    assert places(found) == pytest.approx(true, abs=1)
    assert len(found.segments) == 5
    assert [segment.first for segment in found.segments[1:]] == places(found)


def test_a_control_takes_off_what_it_saw() -> None:
    """A drift that the control shares hides a step without it, and not with it."""
    helped = 0
    for seed in range(6):
        machine, random = drift(120, seed, spread=0.03), draw(seed)
        logs = stepped(machine + random.normal(0, 0.008, 120), 70, 0.03)
        plain = series(np.exp(logs))
        anchored = replace(
            plain,
            points=Points.of(
                replace(point, control=math.exp(reading))
                for point, reading in zip(plain.points, machine + random.normal(0, 0.003, 120), strict=True)
            ),
        )
        found = changepoints.find(anchored)
        assert 0.8 < found.anchored < 1.2
        helped += places(found) == pytest.approx([70], abs=2)
        assert changepoints.find(plain).anchored == 0
    assert helped >= 5


def test_a_control_that_sees_nothing_changes_nothing() -> None:
    """Where the control drifts by itself, the points stay as they are."""
    for seed in range(10):
        plain = series(np.exp(stepped(draw(seed).normal(0, 0.01, 120), 70, 0.04)))
        points = Points.of(
            replace(point, control=math.exp(reading))
            for point, reading in zip(plain.points, drift(120, seed + 50), strict=True)
        )
        assert changepoints.find(replace(plain, points=points)) == changepoints.find(plain)


def test_points_of_more_launches_count_more() -> None:
    """With the launches and errors known, a step among points of 2 and of 24 launches is surer."""
    random = draw(4)
    launches = np.where(np.arange(100) % 2 == 0, 2, 24)
    errors = 0.04 / np.sqrt(launches)
    plain = series(np.exp(stepped(random.normal(0, errors), 50, 0.04)))
    weighed = replace(
        plain,
        points=Points.of(
            replace(point, error=float(error), launches=int(count))
            for point, error, count in zip(plain.points, errors, launches, strict=True)
        ),
    )
    (change,) = changepoints.find(weighed).changes
    assert change.index in (50, 51)
    assert change.low < 1.04 < change.high
    blind = changepoints.find(plain).changes
    assert not blind or change.p < blind[0].p / 10


def test_equal_errors_change_nothing() -> None:
    """The same error at every point says nothing new."""
    plain = series(np.exp(stepped(draw().normal(0, 0.01, 80), 40, 0.05)))
    points = Points.of(replace(point, error=0.004, launches=3) for point in plain.points)
    assert changepoints.find(replace(plain, points=points)) == changepoints.find(plain)


def test_the_unit_does_not_matter() -> None:
    """Milliseconds instead of seconds change levels and nothing else."""
    values = np.exp(stepped(draw().normal(0, 0.01, 80), 40, 0.05))
    small, large = changepoints.find(series(values)), changepoints.find(series(1000 * values))
    assert places(small) == places(large)
    assert small.changes[0].ratio == pytest.approx(large.changes[0].ratio)
    assert 1000 * small.segments[1].level == pytest.approx(large.segments[1].level)


def test_the_path_learns_a_second_mode() -> None:
    """A quarter of the points 6 % above are left out, and the scale is that of the rest."""
    random = draw(2)
    slow = random.random(200) < 0.25
    path = levels.follow(random.normal(0, 0.01, 200) + slow * 0.06)
    assert path.scale == pytest.approx(0.01, rel=0.2)
    assert (path.follows == ~slow).mean() > 0.95


def test_a_chance_is_never_zero_or_above_one() -> None:
    """What the search says of its steps is a probability."""
    window = stepsearch.window(stepped(draw().normal(0, 0.01, 100), 50, 0.2))
    assert window.fitted is not None
    found = stepsearch.search(window, 0.01)
    assert found
    assert all(0 < p <= 0.01 for p in stepsearch.chances(window.fitted, found))
    assert all(0 < p <= 1 for p in stepsearch.chances(window.fitted, [20, 80]))


values_of_any_kind = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(0.5, 2), st.sampled_from([1.0, 1.1, 2.0])
)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(values_of_any_kind, max_size=40),
    counted=st.booleans(),
    borders=st.lists(st.integers(0, 50), max_size=3),
    error=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    control=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
)
def test_nothing_that_is_said_is_infinite(
    values: list[float], counted: bool, borders: list[int], error: float | None, control: float | None
) -> None:
    """Whatever the points are, all numbers are finite, places lie in the series, and segments do not overlap."""
    one = series(values, counted=counted, borders=tuple(borders))
    one = replace(one, points=Points.of(replace(point, error=error, control=control) for point in one.points))
    found = changepoints.find(one)
    json.dumps(asdict(found), allow_nan=False)
    for change in found.changes:
        assert 0 <= change.first <= change.index <= change.last < len(values)
        assert change.low <= change.ratio <= change.high
        assert change.index not in borders
    last = -1
    for segment in found.segments:
        assert last < segment.first <= segment.last < len(values)
        assert segment.low <= segment.level <= segment.high
        last = segment.last
