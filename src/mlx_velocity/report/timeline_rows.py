"""The rows of a timeline: what of the samples is drawn as which line, in which colour."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import regions
from mlx_velocity.regions import Region

Sample = dict[str, Any]
Trace = dict[str, Any]

# Okabe and Ito's palette, which people with any kind of colour blindness can tell apart.
BLUE, SKY, GREEN, ORANGE, RED, PINK, BLACK = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#222222",
)  # fmt: skip
SEVERAL = (ORANGE, BLUE, GREEN, PINK, RED, SKY, BLACK)
WITH_MODEL, WITHOUT_MODEL = "rgba(110,110,110,0.22)", "rgba(86,180,233,0.20)"
PRESSURE = {
    "normal": (GREEN, "circle", 4),
    "warning": (ORANGE, "diamond", 8),
    "critical": (RED, "x", 9),
}
"""Colour, symbol and size: told apart without colour too."""
STALLED, STALLED_MUCH = 0.01, 0.1
"""Shares of the time in which somebody waited for memory; those of quality.py, by which doctor judges."""
NORMAL_POINTS = 60
"""Of a normal pressure so many are drawn: they say that it was read."""
GAP = 10
"""Intervals without a sample after which a line is broken: nobody knows what happened there."""
GIB = 2**30
MOST_POINTS = 20_000
"""Points of a line, an hour of samples and more; a longer one is thinned to the least and the most of each stretch."""
MEMORY, CPU, GPU, HEAT = "memory", "CPU", "GPU", "heat and power"


@dataclass
class Row:
    """One row of the picture: what is drawn on its left axis, and on its right one."""

    name: str
    unit: str
    left: list[Trace] = field(default_factory=list)
    right: list[Trace] = field(default_factory=list)
    right_unit: str = ""
    top: float | None = None
    """End of the left axis; by default what the lines need."""


class Drawing:
    """Makes lines of samples."""

    def __init__(self, samples: Sequence[Sample], start_s: float, interval_s: float) -> None:
        self.samples = samples
        self.start_s = start_s
        self._gap_s = GAP * interval_s

    def at(self, sample: Sample) -> int:
        """Milliseconds from the first sample to this one."""
        return round(1000 * (float(sample["monotonic_s"]) - self.start_s))

    def line(
        self, name: str, value: Callable[[Sample], float | None], unit: str = "", **looks: Any
    ) -> list[Trace]:
        """A line of what `value` finds, in a list; an empty list where it finds nothing."""
        times: list[float] = []
        found: list[float | None] = []
        spacing = self._gap_s
        for sample in self.samples:
            number = value(sample)
            if number is None:
                continue
            moment = sample["monotonic_s"] - self.start_s
            if times and moment - times[-1] > max(self._gap_s, 4 * spacing):
                times.append(moment - 0.001)
                found.append(None)
            elif times:
                # A source that is read less often has its own spacing.
                spacing = moment - times[-1] if spacing == self._gap_s else max(spacing, moment - times[-1])
            times.append(moment)
            found.append(number)
        if not times:
            return []
        trace: Trace = {
            "type": "scatter", "mode": "lines", "name": html.escape(name), "y": found,
            "hovertemplate": f"%{{y:.4~g}} {unit}<extra>{html.escape(name)}</extra>",
            "line": {"width": 1.4, **looks.pop("line", {})}, **looks,
        }  # fmt: skip
        if len(times) > MOST_POINTS:
            kept = thinned(found)
            times, trace["y"] = [times[index] for index in kept], [found[index] for index in kept]
        if len(times) != len(self.samples) or None in found:
            trace["x"] = [round(1000 * moment) for moment in times]
        return [trace]


def thinned(values: Sequence[float | None]) -> list[int]:
    """Places of the least and the most of each stretch, and of every gap, in order."""
    size = -(-2 * len(values) // MOST_POINTS)
    kept: set[int] = set()
    for start in range(0, len(values), size):
        stretch = range(start, min(start + size, len(values)))
        there = [(value, index) for index in stretch if (value := values[index]) is not None]
        kept.update(index for index in stretch if values[index] is None)
        if there:
            kept |= {min(there)[1], max(there)[1]}
    return sorted(kept)


def _key(name: str, factor: float = 1.0, digits: int = 4) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        number = sample.get(name)
        return None if number is None else round(number / factor, digits)

    return value


def _percent(name: str) -> Callable[[Sample], float | None]:
    return _key(name, 0.01, 1)


def memory(header: Sample, draw: Drawing) -> Row:
    """What is available, what the command holds, how the system feels about it, and swap where there is any."""
    total = header.get("memory_total_bytes")
    row = Row(MEMORY, "GiB", right_unit="swap (GiB)", top=total / GIB if total else None)
    available = _key("available_bytes", GIB, 3)
    row.left = draw.line("available", available, "GiB", line={"color": BLUE, "width": 1.8})
    row.left += draw.line(
        "free", _key("free_bytes", GIB, 3), "GiB", line={"color": SKY}, visible="legendonly"
    )
    row.left += draw.line(
        "compressed", _key("compressed_bytes", GIB, 3), "GiB", line={"color": PINK}, visible="legendonly"
    )
    row.left += draw.line("command, resident", _tree("resident_bytes", GIB), "GiB", line={"color": BLACK})
    for name, found in pressures(draw.samples).items():
        colour, symbol, size = PRESSURE[name]
        points = [(draw.at(sample), y) for sample in found if (y := available(sample)) is not None]
        if points:
            row.left.append({
                "type": "scatter", "mode": "markers", "name": f"pressure {name}", "x": [x for x, _ in points],
                "y": [y for _, y in points], "hoverinfo": "skip",
                "marker": {"color": colour, "symbol": symbol, "size": size},
            })  # fmt: skip
    if any(sample.get("swap_used_bytes") for sample in draw.samples):
        row.right = draw.line("swap used", _key("swap_used_bytes", GIB, 3), "GiB", line={"color": RED})
    return row


def pressures(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples in which memory pressure was read, by what it was; of the normal ones some."""
    found: dict[str, list[Sample]] = {name: [] for name in PRESSURE}
    for sample in samples:
        level, stalled = sample.get("memory_pressure_level"), sample.get("memory_stall_share")
        if level is not None:
            found["normal" if level == 1 else "warning" if level == 2 else "critical"].append(sample)
        elif stalled is not None:
            found[
                "normal" if stalled < STALLED else "warning" if stalled < STALLED_MUCH else "critical"
            ].append(sample)
    step = max(1, len(found["normal"]) // NORMAL_POINTS)
    return {**found, "normal": found["normal"][::step]}


def _tree(name: str, factor: float) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        tree = sample.get("tree")
        return None if tree is None else round(tree[name] / factor, 3)

    return value


def cpu(draw: Drawing) -> Row:
    """Shares of all cores' time, and the load."""
    row = Row(CPU, "%", right_unit="load", top=100.0)
    row.left = draw.line(
        "idle", _percent("cpu_idle"), "%", line={"color": GREEN, "width": 0.5}, fill="tozeroy",
        fillcolor="rgba(0,158,115,0.12)",
    )  # fmt: skip
    row.left += draw.line("user", _percent("cpu_user"), "%", line={"color": BLUE})
    row.left += draw.line("system", _percent("cpu_system"), "%", line={"color": ORANGE})
    row.right = draw.line(
        "load of a minute", _key("load_1m", digits=2), "", line={"color": PINK, "dash": "dash"}
    )
    row.right += draw.line("command, cores", _tree("cores", 1.0), "cores", line={"color": BLACK, "width": 1})
    return row


def gpu(draw: Drawing) -> Row:
    """Shares of each GPU's time, and its memory; of several GPUs, what is not their whole is hidden at first."""
    row = Row(GPU, "%", right_unit="GPU memory (GiB)", top=100.0)
    count = max((len(sample.get("gpus", [])) for sample in draw.samples), default=0)
    for number in range(count):
        which = f" {number}" if count > 1 else ""
        names = ("device_share", "renderer_share", "tiler_share", "memory_busy_share")
        device, renderer, tiler, busy = (_of_gpu(number, name, 0.01) for name in names)
        colour = SEVERAL[number % len(SEVERAL)]
        rarely = {"visible": "legendonly"} if count > 1 else {}
        row.left += draw.line(
            f"renderer{which}", renderer, "%", line={"color": GREEN, "width": 0.5}, fill="tozeroy",
            fillcolor="rgba(0,158,115,0.15)", **rarely,
        )  # fmt: skip
        row.left += draw.line(f"device{which}", device, "%", line={"color": colour, "width": 1.8})
        row.left += draw.line(f"tiler{which}", tiler, "%", line={"color": PINK, "dash": "dash"}, **rarely)
        row.left += draw.line(
            f"memory busy{which}", busy, "%", line={"color": SKY, "dash": "dot"}, visible="legendonly"
        )
        held = _of_gpu(number, "memory_used_bytes", GIB)
        row.right += draw.line(
            f"memory used{which}", held, "GiB", line={"color": BLACK, "width": 1}, **rarely
        )
    return row


def _of_gpu(number: int, name: str, factor: float) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        gpus = sample.get("gpus", [])
        found = gpus[number].get(name) if number < len(gpus) else None
        return None if found is None else round(found / factor, 3)

    return value


def heat(draw: Drawing) -> Row:
    """A fourth row, only where something was read for it."""
    row = Row(HEAT, "°C", right_unit="W")
    places = dict.fromkeys(place for sample in draw.samples for place in sample.get("temperature_c", {}))
    parts = dict.fromkeys(part for sample in draw.samples for part in sample.get("power_w", {}))
    for number, place in enumerate(places):
        value = _inner("temperature_c", place)
        row.left += draw.line(f"{place} °C", value, "°C", line={"color": SEVERAL[number % len(SEVERAL)]})
    for number, part in enumerate(parts):
        colour = SEVERAL[number % len(SEVERAL)]
        row.right += draw.line(
            f"{part} W", _inner("power_w", part), "W", line={"color": colour, "dash": "dot"}
        )
    for number in range(max((len(sample.get("gpus", [])) for sample in draw.samples), default=0)):
        colour = SEVERAL[number % len(SEVERAL)]
        row.left += draw.line(
            f"GPU {number} °C", _of_gpu(number, "temperature_c", 1.0), "°C", line={"color": colour}
        )
        row.right += draw.line(
            f"GPU {number} W", _of_gpu(number, "power_w", 1.0), "W", line={"color": colour, "dash": "dot"}
        )
    return row


def _inner(name: str, key: str) -> Callable[[Sample], float | None]:
    def value(sample: Sample) -> float | None:
        found = sample.get(name, {}).get(key)
        return None if found is None else round(found, 2)

    return value


def tints(under_way: Sequence[Region], start_s: float) -> list[Trace]:
    """Two traces that fill the whole height where a case was under way: with a model in memory, and without."""
    models = [region for region in under_way if region.what == "model"]
    shown = [region for region in under_way if region.what in ("case", "region")]
    names = {True: ("model loaded", WITH_MODEL), False: ("no model loaded", WITHOUT_MODEL)}
    traces = []
    for loaded, (name, colour) in names.items():
        x: list[int | None] = []
        y: list[int | None] = []
        for region in shown:
            if bool(regions.during(region, models)) is not loaded:
                continue
            left, right = (round(1000 * (moment - start_s)) for moment in (region.start_s, region.end_s))
            x += [left, left, right, right, None]
            y += [0, 1, 1, 0, None]
        if x:
            traces.append({
                "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "fill": "toself", "fillcolor": colour,
                "line": {"width": 0.5, "color": "rgba(90,90,90,0.12)"}, "hoverinfo": "skip", "meta": "regions",
            })  # fmt: skip
    return traces
