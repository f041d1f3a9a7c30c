"""Base units in, what a person reads out."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity import metrics, units

FACTORS = {
    "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
    "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.seconds(0.0123), "12.3 ms"),
        (units.seconds(1.0), "1 s"),
        (units.seconds(123.4), "123 s"),
        (units.seconds(4.5e-6), "4.50 µs"),
        (units.bytes_(1_572_864), "1.50 MiB"),
        (units.bytes_(1023), "1023 B"),
        (units.bytes_(0), "0 B"),
        (units.quantity(2**30, "bytes"), "1 GiB"),
        (units.quantity(0.5, "seconds"), "500 ms"),
        (units.quantity(12.345, "joules"), "12.3 J"),
        (units.energy(0.0123), "12.3 mJ"),
        (units.energy(units.joules_per_token(64, 128.0)), "2 J"),
        (units.quantity(7, "resident bytes"), "7 resident bytes"),
        (units.rate(1234.5), "1,234"),
        (units.rate(12.345), "12.3"),
        (units.bandwidth(4.8e12), "4,800 GB/s"),
        (units.bandwidth(68.25e9), "68.2 GB/s"),
        (units.flops(14.1312e12), "14.1 TFLOP/s"),
        (units.flops(2.25e15), "2.25 PFLOP/s"),
        (units.flops(4.7e9), "4.70 GFLOP/s"),
        (units.share(0.672), "67 %"),
        (units.share(0.0672), "6.7 %"),
        (units.share(1.043), "104 %"),
        (units.percent_change(1.034), "+3.4 %"),
        (units.percent_change(0.5), "-50.0 %"),
        (units.percent_change(0.9999), "0.0 %"),
        (units.percent_change(1.0001), "0.0 %"),
        (units.change(1.089, 0.909, 1.304), "+8.9 % (-9.1…+30.4)"),
        (units.change(1.089), "+8.9 %"),
        (units.change(12.3, 9.4, 15.2), "×12 (+840.0 %…×15)"),
        (units.change(3.0, 1.5, 7.9e13), "+200.0 % (+50.0 %…∞)"),
        (units.percent_change(math.nan), "–"),
        (units.change(1.02, math.nan, 1.03), "+2.0 %"),
        (units.change(1.02, 1.01, math.nan), "+2.0 %"),
        (units.moment(1_767_323_045.9), "2026-01-02 03:04:05 UTC"),
        (units.clock(65.4), "1:05"),
        (units.clock(7384), "2:03:04"),
        (units.clock(-1), "0:00"),
    ],
)
def test_text(text: str, expected: str) -> None:
    """Numbers read as the documentation says."""
    assert text == expected


@given(st.floats(1e-9, 1e6), st.sampled_from(["seconds", "bytes"]))
def test_text_is_true(value: float, unit: str) -> None:
    """What is read is what was stored, to the three digits that are shown."""
    value = value * 1e6 if unit == "bytes" else value
    number, label = units.quantity(value, unit).split(" ")
    shown = float(number) * FACTORS[label]
    assert math.isclose(shown, value, rel_tol=0.01, abs_tol=0.006 * (1.0 if label == "B" else 1e-9))
    assert float(units.quantity(-value, unit).split(" ")[0]) == -float(number)


def test_binary_and_decimal() -> None:
    """Memory is shown in powers of two, and the label says so."""
    for value in (10**3, 10**6, 10**9, 10**12, 10**15):
        assert re.search(r" (B|[KMGT]iB)$", units.bytes_(value))


def test_tokens_per_second() -> None:
    """Tokens per second are tokens over seconds; a time of zero gives no rate, which can be shown."""
    assert units.tokens_per_second(512, 0.25) == 2048
    assert math.isnan(units.tokens_per_second(512, 0.0))
    assert units.rate(units.tokens_per_second(512, 0.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number(value: float) -> None:
    """What is no number can be shown too."""
    for text in (units.seconds(value), units.bytes_(value), units.rate(value), units.percent_change(value)):
        assert text


def test_metrics() -> None:
    """Each stored unit has its metric, and an unknown one is taken as noisy."""
    for metric in (metrics.SECONDS, metrics.BYTES, metrics.JOULES):
        assert metrics.of_unit(metric.unit) is metric
    assert (metrics.of_unit("seconds").noise, metrics.of_unit("bytes").noise) == ("timing", "counted")
    assert metrics.of_unit("resident bytes") == metrics.Metric("resident bytes", "timing", "resident bytes")


def test_no_tokens_take_no_energy_each() -> None:
    """A call that handled no token has no energy per token."""
    assert math.isnan(units.joules_per_token(0, 5.0))
