"""`mlx-velocity doctor`: whether this machine is fit to measure now, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mlx_velocity import findings, readings, state, units
from mlx_velocity.errors import UndecidedError
from mlx_velocity.findings import Finding, Fitness
from mlx_velocity.report import text

FORMAT = 1
"""Version of the JSON that `--json` writes. 1: first version."""
LOOP_S = 0.02
"""Of one repetition: long enough for the clock, short enough to see what comes and goes."""
LEAST = 15
"""Repetitions at least, so that a tenth and a third of them mean something."""

SENTENCES: dict[Fitness, str] = {
    "fit": "This machine is fit to measure.",
    "fit with care": "This machine is fit to measure with care: do what stands above, or take small changes as a hint.",
    "not fit": "This machine is not fit to measure: do what stands above first.",
}
STYLES = {"unfit": "red", "warning": "yellow", "note": "dim"}


def doctor(json_to: str | None, seconds: float, console: Console) -> int:
    """Look at the machine, print what was found, and return the exit code: 0, or 3 where it is not fit.

    `seconds` is how long a fixed loop is repeated. Raises InputError where the JSON can't be written.
    """
    to_stdout = json_to == "-"
    with console.status("looking at this machine …") if not to_stdout else _quietly():
        seen = state.look()
        clock = steadiness(seconds)
    platform: findings.Platform = "darwin" if sys.platform == "darwin" else "linux"
    found = findings.gravest_first([*findings.of_state(seen, platform), *findings.of_clock(clock)])
    fitness = findings.fitness(found)
    if not to_stdout:
        show(found, clock, fitness, console)
    if json_to:
        written = document(seen, clock, found, fitness)
        if to_stdout:
            print(written)
        else:
            readings.replace(Path(json_to).resolve(), written)
    return UndecidedError.exit_code if fitness == "not fit" else 0


def show(found: list[Finding], clock: dict[str, Any], fitness: Fitness, console: Console) -> None:
    """Print the findings, the loop and the verdict."""
    if found:
        table = text.table(("", "left"), ("what was found", "left"), ("what to do", "left"))
        for item in found:
            style = STYLES[item.severity]
            table.add_row(f"[{style}]{item.severity}[/]", escape(item.text), escape(item.advice))
        console.print(table)
    console.print(
        f"A fixed loop took {units.seconds(clock['median_s'])}, at times {units.percent_change(clock['spread'])} "
        f"(p90 over p10), and {units.percent_change(clock['drift'])} at the end.",
        highlight=False,
    )
    console.print(SENTENCES[fitness], highlight=False)


def document(seen: dict[str, Any], clock: dict[str, Any], found: list[Finding], fitness: Fitness) -> str:
    """All that was seen, as JSON."""
    data = {
        "format": FORMAT,
        "fitness": fitness,
        "findings": [dataclasses.asdict(item) for item in found],
        "clock": clock,
        "state": seen,
    }
    return json.dumps(data, indent=1, sort_keys=True, allow_nan=False)


def steadiness(
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    processor: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Repeat a fixed loop of integers: its median in seconds, and as ratios its spread and drift.

    `spread` is p90 over p10, `drift` the median of the last third over that of the first; `cpu_share`
    is the share of the time that the process was computing. On Linux it runs on the core that a CPU
    series is pinned to.
    """
    with _on_last_core():
        count = _calibrated(clock)
        taken: list[float] = []
        began, spent = clock(), processor()
        while len(taken) < LEAST or clock() - began < seconds:
            start = clock()
            _loop(count)
            taken.append(clock() - start)
        elapsed, computed = clock() - began, processor() - spent
    tenths, third = statistics.quantiles(taken, n=10), len(taken) // 3
    return {
        "repetitions": len(taken),
        "median_s": statistics.median(taken),
        "spread": round(tenths[-1] / tenths[0], 4),
        "drift": round(statistics.median(taken[-third:]) / statistics.median(taken[:third]), 4),
        "cpu_share": round(min(1.0, computed / elapsed), 3),
    }


def _loop(count: int) -> int:
    total = 0
    for number in range(count):
        total ^= number * number
    return total


def _calibrated(clock: Callable[[], float]) -> int:
    """How many steps take about LOOP_S; running them brings the clock up as well."""
    count = 10_000
    while True:
        start = clock()
        _loop(count)
        taken = clock() - start
        if taken >= LOOP_S / 2:
            return max(1, round(count * LOOP_S / taken))
        count *= 2


@contextmanager
def _on_last_core() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _quietly() -> Iterator[None]:
    yield
