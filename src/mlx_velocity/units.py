"""Base units in, what a person reads out. GB is 1e9 bytes and GiB is 2**30; labels say which."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from mlx_velocity import metrics
from mlx_velocity.errors import InputError

_TIME_STEPS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_FLOPS_STEPS = ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))
_ENERGY_STEPS = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_BYTE_STEPS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
FACTOR = 10.0
"""Where `×12` is read more easily than per cents."""
ENDLESS = 1e6
"""From here on a factor says no more than `∞`."""


def seconds(value: float) -> str:
    """`0.0123` → `12.3 ms`."""
    return _scaled(value, _TIME_STEPS)


def bytes_(value: float) -> str:
    """`1572864` → `1.5 MiB`."""
    return _scaled(value, _BYTE_STEPS)


def energy(value: float) -> str:
    """`12.345` → `12.3 J`, `0.0123` → `12.3 mJ`."""
    return _scaled(value, _ENERGY_STEPS)


def quantity(value: float, unit: str) -> str:
    """A stored number in words, by its stored unit."""
    if unit == metrics.SECONDS.unit:
        return seconds(value)
    if unit == metrics.BYTES.unit:
        return bytes_(value)
    if unit == metrics.JOULES.unit:
        return energy(value)
    return f"{_three_digits(value)} {unit}"


def tokens_per_second(tokens: int, duration_s: float) -> float:
    """The usual view of a time that handled `tokens` tokens; NaN for a time of zero."""
    return tokens / duration_s if duration_s > 0 else math.nan


def joules_per_token(tokens: int, joules: float) -> float:
    """The energy of one token, of a call that handled `tokens` of them; NaN for none."""
    return joules / tokens if tokens > 0 else math.nan


def rate(value: float) -> str:
    """`1234.5` → `1,234`, `12.345` → `12.3`."""
    return f"{value:,.0f}" if value >= 1000 else _three_digits(value)


def bandwidth(bytes_per_second: float) -> str:
    """`4.8e12` → `4,800 GB/s`; always GB/s (1e9 bytes), as vendors publish it."""
    return f"{rate(bytes_per_second / 1e9)} GB/s"


def flops(flops_per_second: float) -> str:
    """`1.41e13` → `14.1 TFLOP/s`."""
    return _scaled(flops_per_second, _FLOPS_STEPS)


def share(value: float) -> str:
    """A part of a peak: `0.672` → `67 %`, `0.0672` → `6.7 %`."""
    percent = value * 100
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"


def chance(value: float) -> str:
    """A probability: `98.7 %`; never more than is known."""
    return "> 99.9 %" if value > 0.999 else f"{value * 100:.1f} %"


def percent_change(ratio: float) -> str:
    """`1.034` → `+3.4 %`, from ten times on `×12`; what rounds to nothing has no sign."""
    if math.isnan(ratio):
        return "–"
    if ratio >= FACTOR:
        return f"×{ratio:,.0f}" if ratio < ENDLESS else "∞"
    said = f"{(ratio - 1) * 100:+.1f} %"
    return "0.0 %" if said in ("-0.0 %", "+0.0 %") else said


def change(ratio: float, low: float | None = None, high: float | None = None) -> str:
    """`+8.9 % (-9.1…+30.4)`, `×12 (×11…∞)`; without an interval where the numbers are exact."""
    said = percent_change(ratio)
    if low is None or high is None or low == high or not math.isfinite(low) or math.isnan(high):
        return said
    ends = [percent_change(low), percent_change(high)]
    if all(word.endswith(" %") for word in (said, *ends)):
        ends = [word.removesuffix(" %") for word in ends]
    return f"{said} ({'…'.join(ends)})"


def count(number: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def instant(stamp: str) -> datetime:
    """The moment of a stored stamp. A leap second, which Python's calendar lacks, is the second before it."""
    return datetime.fromisoformat(stamp.replace(":60", ":59"))


def moment(time_s: float) -> str:
    """Seconds since 1970 as `2026-01-02 03:04:05 UTC`."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def day(time_s: float) -> str:
    """The day of seconds since 1970, in UTC: `2026-01-02`."""
    return moment(time_s)[:10]


def clock(duration_s: float) -> str:
    """A duration for progress lines: `1:05` or `2:03:04`."""
    total = max(0, round(duration_s))
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def parse_duration(text: str) -> float:
    """`90`, `90s`, `10m` or `1.5h` in seconds; raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not found or float(found[1]) == 0:
        raise InputError(f"'{text}' is no duration", "write 90s, 10m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for factor, name in steps:
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {name}"
    factor, name = steps[-1]
    return f"{_three_digits(value / factor)} {name}"


def _three_digits(value: float) -> str:
    if math.isnan(value):
        return "–"
    magnitude = abs(value)
    if magnitude >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"
