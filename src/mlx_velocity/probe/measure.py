"""Take the samples of one asv benchmark case in this process.

asv's own rules hold: `setup` before every sample, `repeat = (min, max, seconds)`, `warmup_time`,
`NotImplementedError` to skip. What differs: the process lives on, so the model stays loaded.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

from mlx_velocity.probe import energy, observe, sensors

DEFAULT_REPEAT = (3, 10, 1.0)
"""Samples at least, samples at most, seconds after which no new one is begun."""
DEFAULT_WARMUP_S = 0.1
TURN_S = 0.05
"""A turn of a comparison goes on for this long, so that short bodies are not a single look at the clock."""
TURN_MOST = 10
"""Samples of a turn at most."""

ENERGY_LEAST_S = 0.5
"""Samples that take less together: a counter that moves ten times a second says little about them."""
ENERGY_SHARE = 0.9
"""Of the time must lie inside samples, for joules to be called theirs."""


class Skipped(Exception):
    """The benchmark said that this case makes no sense here; the message is its reason."""


_setup_caches: dict[str, Any] = {}


def load(benchmark_dir: str, name: str, index: int | None) -> Any:
    """The asv benchmark object of a case, with its parameters set.

    `index` is None for a benchmark without parameters. Raises ValueError where the name is unknown.
    """
    from asv_runner.discovery import get_benchmark_from_name

    benchmark = get_benchmark_from_name(benchmark_dir, name if index is None else f"{name}-{index}")
    key = benchmark.setup_cache_key
    if key is not None and key not in _setup_caches:
        _setup_caches[key] = benchmark.do_setup_cache()
    benchmark.set_cache(None if key is None else _setup_caches[key])
    return benchmark


def set_up(benchmark: Any) -> None:
    """Run the benchmark's setups; raises Skipped with the reason."""
    params = benchmark._build_params()
    if tuple(benchmark._current_params) in benchmark._skip_tuples:
        raise Skipped("listed in skip_params")
    try:
        for setup in benchmark._setups:
            setup(*params)
    except NotImplementedError as error:
        raise Skipped(str(error) or "not implemented here") from error


def sample(benchmark: Any) -> float:
    """One timed call in seconds: setup, call, teardown, with the garbage collector off in the call."""
    set_up(benchmark)
    params = benchmark._build_params()
    try:
        if is_raw(benchmark):
            # The function only returns code; asv's timer runs that in a process of its own.
            number = max(1, int(benchmark.number))
            return float(benchmark._get_timer(*params).timeit(number)) / number
        return seconds_of(benchmark.func, *params)
    except NotImplementedError as error:
        raise Skipped(str(error) or "not implemented here") from error
    finally:
        benchmark.do_teardown()


def seconds_of(function: Callable[..., object], *arguments: Any) -> float:
    """Wall-clock seconds of one call, with the garbage collector off."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def is_raw(benchmark: Any) -> bool:
    """Whether it is a `timeraw_*` benchmark."""
    from asv_runner.benchmarks.timeraw import TimerawBenchmark

    return bool(isinstance(benchmark, TimerawBenchmark))


def timed(benchmark: Any) -> tuple[list[float], list[float]]:
    """Warm-up and samples of a `time_*` case, both in seconds per call.

    A benchmark that starts processes of its own says `warmup_time = 0` and gets none.
    """
    minimum, maximum, budget_s = repeat_of(benchmark)
    warmup = warm_up(benchmark)
    samples: list[float] = []
    joules, start = energy.read(), time.perf_counter()
    while len(samples) < minimum or (len(samples) < maximum and time.perf_counter() - start < budget_s):
        samples.append(sample(benchmark))
    elapsed, spent = time.perf_counter() - start, energy.read()
    if joules is not None and spent is not None and spent > joules:
        note_energy(spent - joules, samples, elapsed)
    return warmup, samples


def note_energy(joules: float, samples: list[float], elapsed_s: float) -> None:
    """Note the joules of these samples, where they are theirs: set-ups between them must not have taken much."""
    if elapsed_s >= ENERGY_LEAST_S and sum(samples) >= ENERGY_SHARE * elapsed_s:
        observe.note(sampled_energy_j=round(joules, 6))


def warm_up(benchmark: Any) -> list[float]:
    """Untimed calls until the warm-up time is over, in seconds each."""
    warmup_s = benchmark.warmup_time if benchmark.warmup_time >= 0 else DEFAULT_WARMUP_S
    warmup: list[float] = []
    start = time.perf_counter()
    # By the clock, as asv does: a slow setup must not multiply the warm-up of a fast body.
    with observe.warm_up():
        while time.perf_counter() - start < warmup_s:
            warmup.append(sample(benchmark))
    return warmup


def repeat_of(benchmark: Any) -> tuple[int, int, float]:
    """How often to sample: asv's `repeat`, a number or (min, max, seconds)."""
    repeat = benchmark.repeat
    if not repeat:
        return DEFAULT_REPEAT
    if isinstance(repeat, (tuple, list)):
        minimum, maximum, budget_s = repeat
        return int(minimum), int(maximum), float(budget_s)
    return int(repeat), int(repeat), math.inf


def tracked(benchmark: Any) -> list[float]:
    """The values of a `track_*` (or `peakmem_*`, `mem_*`) case: one, or the samples that it returns.

    Raises TypeError where it returns something that is not a number, which asv cannot publish.
    """
    set_up(benchmark)
    try:
        try:
            value = benchmark.do_run()
        except NotImplementedError as error:
            raise Skipped(str(error) or "not implemented here") from error
    finally:
        benchmark.do_teardown()
    values = value["samples"] if isinstance(value, dict) else [value]
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in values):
        raise TypeError(f"{benchmark.name} returned {value!r}, which is not a number")
    if any(math.isnan(item) for item in values):
        raise Skipped("it returned NaN, asv's word for: not available")
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{benchmark.name} returned {value!r}, which can't be stored")
    return [float(item) for item in values]


def measure(benchmark_dir: str, name: str, index: int | None) -> dict[str, Any]:
    """Everything one launch has to say about one case, as the fields of a Measurement."""
    benchmark = load(benchmark_dir, name, index)
    observe.collect()
    before = sensors.read()
    if benchmark.type == "time":
        warmup, samples = timed(benchmark)
    else:
        warmup, samples = [], tracked(benchmark)
    return {
        "samples": samples,
        "warmup": warmup,
        "notes": observe.collect(),
        "sensors": sensors.between(before, sensors.read()),
    }


def warm(benchmark_dir: str, name: str, index: int | None) -> dict[str, Any]:
    """Make a case ready for its turns; what is counted instead of timed needs no warm-up."""
    benchmark = load(benchmark_dir, name, index)
    observe.collect()
    return {"warmup": warm_up(benchmark) if benchmark.type == "time" else []}


def turn(benchmark_dir: str, name: str, index: int | None) -> dict[str, Any]:
    """One turn of a case in a comparison: its samples, and what was noticed since the last one."""
    benchmark = load(benchmark_dir, name, index)
    before = sensors.read()
    if benchmark.type != "time":
        samples = tracked(benchmark)
    else:
        samples, start = [], time.perf_counter()
        while not samples or (len(samples) < TURN_MOST and time.perf_counter() - start < TURN_S):
            samples.append(sample(benchmark))
    return {
        "samples": samples,
        "notes": observe.collect(),
        "sensors": sensors.between(before, sensors.read()),
    }
