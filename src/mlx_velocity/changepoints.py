"""Where the level of a series changed for good, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mlx_velocity.series import ChangePoint, Found, Segment, Series

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """When a step is called a change point."""

    error_rate: float = 0.01
    """Share of false ones among those called, over all series of a machine."""
    smallest: float = 0.005
    """Steps smaller than this share are not called."""
    confidence: float = 0.95
    """Of the intervals of ratios, levels and locations."""
    confirming: int = 3
    """Points that a new level needs to be confirmed."""


def find(series: Series, rule: Rule = Rule()) -> Found:
    """The change points of one series."""
    return find_many([series], rule)[0]


def find_many(many: Sequence[Series], rule: Rule = Rule()) -> list[Found]:
    """The change points of all series of one machine, in the order given."""
    return [_found(series, rule, rule.error_rate / max(1, len(many))) for series in many]


def _found(series: Series, rule: Rule, rate: float) -> Found:
    usable = [index for index, point in enumerate(series.points) if not point.disturbed and point.value > 0]
    edges = [
        0,
        *sorted(border for border in series.borders if 0 < border < len(series.points)),
        len(series.points),
    ]
    changes: list[ChangePoint] = []
    segments: list[Segment] = []
    for start, end in itertools.pairwise(edges):
        places = [index for index in usable if start <= index < end]
        if places:
            logs = np.log([series.points[index].value for index in places])
            cuts = sorted(_cuts(logs, 0, rate))
            bounds = [0, *(cut for cut, _ in cuts), len(logs)]
            pieces = [logs[a:b] for a, b in itertools.pairwise(bounds)]
            for number, piece in enumerate(pieces):
                reach = _reach(piece, rule.confidence)
                level = float(np.median(piece))
                segments.append(
                    Segment(places[bounds[number]], places[bounds[number + 1] - 1],
                            math.exp(level), math.exp(level - reach), math.exp(level + reach))
                )  # fmt: skip
            for (cut, p), before, after in zip(cuts, pieces, pieces[1:], strict=False):
                step = float(np.median(after) - np.median(before))
                reach = math.hypot(_reach(before, rule.confidence), _reach(after, rule.confidence))
                if abs(math.expm1(step)) >= rule.smallest:
                    changes.append(
                        ChangePoint(places[cut], places[cut], places[cut], math.exp(step), math.exp(step - reach),
                                    math.exp(step + reach), rule.confidence, p, len(after) >= rule.confirming)
                    )  # fmt: skip
    return Found(tuple(changes), tuple(segments))


def _reach(piece: Numbers, confidence: float) -> float:
    if len(piece) < 2:
        return 0.0
    error = 1.25 * float(piece.std(ddof=1)) / math.sqrt(len(piece))
    return error * float(student.ppf((1 + confidence) / 2, len(piece) - 1))


def _cuts(logs: Numbers, offset: int, rate: float) -> list[tuple[int, float]]:
    """Binary segmentation by the difference of means over the noise of differences between neighbours."""
    size = len(logs)
    if size < 4:
        return []
    places = np.arange(1, size)
    sums = np.cumsum(logs)
    steps = np.abs((sums[-1] - sums[:-1]) / (size - places) - sums[:-1] / places)
    spread = 1.4826 * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
    errors = np.maximum(spread, 1e-9) * np.sqrt(1 / places + 1 / (size - places))
    best = int(np.argmax(steps / errors))
    p = min(1.0, 2 * size * float(student.sf(steps[best] / errors[best], size / 2)))
    if p > rate:
        return []
    cut = best + 1
    return [*_cuts(logs[:cut], offset, rate), (offset + cut, p), *_cuts(logs[cut:], offset + cut, rate)]
