"""What changed between two commits of one machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from conftest import STARTED, Store, benchmark, case_of, failed, measured

from mlx_velocity import changes, records
from mlx_velocity.changes import Change, between, tokens_of
from mlx_velocity.commands import show

DECODE = benchmark("decode.time_decode", [["'a'", "'b'"], ["32", "128"]], param_names=["model", "tokens"])
PEAK = benchmark("decode.track_peak", unit="bytes", rounds=1)
BENCHMARKS = {item["name"]: item for item in (DECODE, PEAK)}
CASE = case_of(DECODE)
COUNTED = dataclasses.replace(case_of(PEAK), noise="counted")


class Sides:
    """The stored results of two commits."""

    def __init__(self, store: Store) -> None:
        self.base, self.head = store("a" * 40), store("b" * 40)

    def measure(self, case: records.Case, base: list[float], head: list[float]) -> Sides:
        for stored, values in ((self.base, base), (self.head, head)):
            for number, value in enumerate(values):
                # Outliers within a launch are no launches of their own.
                samples = [value, value * 100, value] if case.noise == "timing" else [value]
                stored.add(measured(case, samples, f"launch {number}"), BENCHMARKS[case.benchmark])
        return self

    def change(self, case: records.Case = CASE) -> Change:
        (found,) = between(self.base, self.head, [case], BENCHMARKS)
        return found


@pytest.fixture
def sides(store: Store) -> Sides:
    return Sides(store)


def test_slower(sides: Sides) -> None:
    """A case that is clearly slower is certain, with the medians of its launches and their ratio."""
    change = sides.measure(CASE, [1.0, 1.001, 0.999], [1.5, 1.501, 1.499]).change()
    assert (change.base, change.head) == (1.0, 1.5)
    assert change.ratio is not None
    assert change.ratio.value == pytest.approx(1.5, rel=1e-3)
    assert change.ratio.confidence == changes.CONFIDENCE
    assert change.certain


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ([1.0, 1.001, 0.999], "nothing changed"),
        ([1.5, 0.9, 1.9], "the launches disagree"),
        ([1.01, 1.011, 1.009], "smaller than what may be drift"),
        ([1.5], "a single launch"),
    ],
)
def test_not_certain(head: list[float], why: str, sides: Sides) -> None:
    """A change within noise, within drift or from a single launch is not called certain."""
    assert not sides.measure(CASE, [1.0, 1.001, 0.999], head).change().certain, why


@pytest.mark.parametrize(("base", "head"), [(100.0, 101.0), (100.0, 50.0), (0.0, 7.0)])
def test_counted(base: float, head: float, sides: Sides) -> None:
    """A counted number is compared exactly: one launch is enough, and one byte is a change."""
    change = sides.measure(COUNTED, [base], [head]).change(COUNTED)
    assert (change.base, change.head) == (base, head)
    assert change.certain


def test_counted_unchanged(sides: Sides) -> None:
    """A counted number that stayed the same did not change."""
    assert not sides.measure(COUNTED, [100.0], [100.0]).change(COUNTED).certain


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (failed(CASE, reason="exit -9 (SIGKILL)"), "failed: exit -9 (SIGKILL)"),
        (failed(CASE, "skipped", "needs 16 GB"), "skipped: needs 16 GB"),
        (records.Failure("incompatible", "no wheel", started=STARTED), "incompatible: no wheel"),
    ],
)
def test_missing_side(failure: Any, reason: str, sides: Sides) -> None:
    """A side that was not measured is missing with its reason, never a number."""
    sides.measure(CASE, [1.0, 1.0], [])
    sides.head.add(failure)
    change = sides.change()
    assert (change.head, change.ratio, change.head_reason) == (None, None, reason)
    assert (change.base, change.base_reason) == (1.0, "")
    assert not change.certain


def test_measured_after_a_failure(sides: Sides) -> None:
    """The reason of a failure that was overcome is not shown."""
    sides.head.add(failed(CASE))
    assert sides.measure(CASE, [1.0], [1.0]).change().head_reason == ""


def test_another_version(sides: Sides) -> None:
    """Numbers of an older version of a benchmark are not compared."""
    sides.measure(CASE, [1.0, 1.0], [2.0, 2.0])
    assert between(sides.base, sides.head, [dataclasses.replace(CASE, version="2")], BENCHMARKS) == []


def test_order(sides: Sides) -> None:
    """Certain changes come first, the largest of them at the top; what neither commit has is left out."""
    cases = [case_of(DECODE, index) for index in range(4)]
    sides.measure(cases[0], [1.0, 1.001], [1.0, 1.001])
    sides.measure(cases[1], [1.0, 1.0001], [1.5, 1.5001])
    sides.measure(cases[2], [1.0, 1.0001], [3.0, 3.0001])
    found = between(sides.base, sides.head, cases, BENCHMARKS)
    assert [item.case for item in found] == [cases[2], cases[1], cases[0]]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"tokens_per_call": 32}, 32),
        ({"tokens_from": "tokens"}, 128),
        ({"tokens_from": "words"}, None),
        ({"tokens_per_call": 32, "unit": "bytes"}, None),
    ],
)
def test_tokens(keys: dict[str, Any], expected: int | None) -> None:
    """A timed case says how many tokens a call handles, itself or by a parameter."""
    description = {**DECODE, **keys}
    assert tokens_of(case_of(description, 1), description) == expected


@pytest.mark.parametrize(
    ("own", "others", "disturbed"), [(0.99, 1.0, False), (0.5, 1.4, True), (0.1, 0.0, False)]
)
def test_a_disturbed_launch_proves_nothing(store: Store, own: float, others: float, disturbed: bool) -> None:
    """A time that was taken in a queue for the core is no change; one that only slept is no disturbance."""
    description = benchmark("decode.time_decode")
    case = case_of(description)
    sides = [store("a" * 40), store("b" * 40)]
    for side, seconds in zip(sides, (1.0, 2.0), strict=True):
        for launch in range(3):
            sensors = {"own_busy_cores": own, "others_busy_cores": others}
            side.add(measured(case, [seconds + launch / 1000], str(launch), sensors=sensors), description)
    (change,) = changes.between(*sides, [case], {case.benchmark: description})
    assert change.disturbed is disturbed
    assert change.certain is not disturbed


def test_flags_and_joules_of_a_case(store: Store) -> None:
    """A case says how the machine was in any of its launches, and what a call spent; bytes are not taken in time."""
    description, counted = (
        benchmark("decode.time_decode"),
        benchmark("decode.track_bytes", unit="bytes", type="track"),
    )
    sides = [store("a" * 40), store("b" * 40)]
    for item in (description, counted):
        for launch, swap in enumerate((0, 1 << 30)):
            keys = {"sensors": {"swap_growth_bytes": swap}, "notes": {"sampled_energy_j": 3.0 + launch}}
            sides[0].add(measured(case_of(item), [1.0, 1.0], str(launch), **keys), item)
        sides[1].add(measured(case_of(item), [1.0, 1.0], "0", sensors={"swap_growth_bytes": 0}), item)
    cases = {item["name"]: item for item in (description, counted)}
    timed, bytes_ = changes.between(*sides, [case_of(item) for item in cases.values()], cases)
    assert (timed.base_flags, timed.head_flags) == (("degraded_swap",), ("clean",))
    assert (timed.base_joules, timed.head_joules) == (1.75, None)
    assert (bytes_.base_flags, bytes_.head_flags) == ((), ())


@pytest.mark.parametrize(
    ("base", "head", "shown"),
    [([512.0, 512.0], [16.64, 17.15], "-98.7 % … -91.4 %"), ([1.0, 1.1], [1.4, 1.0], "says nothing")],
)
def test_an_interval_too_wide_to_help_is_left_out_unless_it_shows_a_change(
    sides: Sides, base: list[float], head: list[float], shown: str
) -> None:
    """Two launches leave a wide interval; where all of it lies beyond noise, the reader sees it."""
    change = sides.measure(CASE, base, head).change()
    assert any(shown in cell for cell in show._change_cells(change))
