"""A window of a series: the steps that were found in it, and all that is said of them, so that it can be kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_velocity import correlated, stepsearch
from mlx_velocity.stepsearch import Window

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """When a step is called a change point."""

    error_rate: float = 0.01
    """Share of false ones among those called, over all series of a machine."""
    smallest: float = 0.005
    """Steps of a time that are smaller than this share are not called; of a count, any step is."""
    confidence: float = 0.95
    """Of the intervals of ratios, levels and places."""
    confirming: int = 3
    """Points of a new level that confirm it."""


DEFAULT = Rule()
Known = dict[str, Any]
"""What was found in a window, as JSON can keep it: `searched` and `View.told` say what is in it."""
Memory = dict[str, Known]
"""What changepoints.find_many found in each window, by a digest of all that it depends on."""


@dataclass
class View:
    """A window of a series: its points, the steps found in it, and which of them are its own to report."""

    indexes: NDArray[np.intp]
    """Where its points stand in the series, rising."""
    logs: Numbers
    weights: Numbers | None
    own: tuple[int, int]
    """It reports what begins at the points from here to there; its neighbours see the rest better."""
    newest: bool
    """Whether it ends with the newest point."""
    windows: int
    """How many there are in the series, or some more."""
    known: Known = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    alone: stepsearch.Alone | None = None

    def digest(self, rule: Rule) -> str:
        """The name of this window in a memory."""
        made = hashlib.sha256(f"{rule}{self.windows}".encode())
        made.update(self.logs.tobytes())
        made.update(b"" if self.weights is None else self.weights.tobytes())
        return made.hexdigest()[:32]

    def take(self, known: Known) -> None:
        """What a search of this window found."""
        self.known = known
        self.places, self.chances = list(known["places"]), list(known["chances"])
        self.alone = stepsearch.Alone(*known["alone"]) if self.newest and known["alone"] else None

    def told(self, rule: Rule) -> Known:
        """What is said of its steps: `steps` (log of the ratio, its error and freedom, the first and the last likely
        place), `noise` (by kind, the variance and its chance multiplied; None where nothing was fitted)."""
        told: dict[str, Known] = self.known["told"]
        key = " ".join(map(str, self.places))
        if key not in told:
            told[key] = _told(stepsearch.window(self.logs, self.weights), self.places, rule)
        return told[key]

    @cached_property
    def follows(self) -> NDArray[np.bool_]:
        """Which of its points follow the path."""
        found = np.ones(len(self.logs), bool)
        found[self.known["apart"]] = False
        return found

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Where the points that follow it stand in the window."""
        return np.flatnonzero(self.follows)

    def start(self, place: int) -> int:
        """The index in the series of the first kept point behind a place."""
        return int(self.indexes[self.kept[place + 1]])

    def owns(self, index: int) -> bool:
        """Whether a change at that index is this window's to report."""
        return self.own[0] <= index < self.own[1]


Wanted = tuple[Numbers, Numbers | None, int, Rule]
"""A window to be searched: its points, their weights, and how many windows there are."""


def searched(many: Sequence[Wanted]) -> list[Known]:
    """What windows hold: `apart` (points that do not follow the path), `places`, `chances`, `alone` (of
    stepsearch.Alone), `told`."""
    made = stepsearch.windows([(logs, weighed) for logs, weighed, _, _ in many])
    return [_searched(window, wanted) for window, wanted in zip(made, many, strict=True)]


def _searched(window: Window, wanted: Wanted) -> Known:
    _, _, windows, rule = wanted
    places: list[int] = []
    chances: list[float] = []
    alone = None
    if window.fitted is not None:
        places = stepsearch.search(window, rule.error_rate / windows)
        while places:
            sizes = [
                abs(math.expm1(min(700.0, stepsearch.effect(window.fitted, places, number).value)))
                for number in range(len(places))
            ]
            least = int(np.argmin(sizes))
            if sizes[least] >= rule.smallest:
                break
            del places[least]
        chances = [min(1.0, p * windows) for p in stepsearch.chances(window.fitted, places)]
        alone = stepsearch.alone(window, places)
        if alone and abs(math.expm1(min(700.0, alone.log_ratio))) < rule.smallest:
            alone = None
    return {
        "apart": np.flatnonzero(~window.path.follows).tolist(),
        "places": [int(place) for place in places],
        "chances": _rounded([float(p) for p in chances]),
        "alone": alone and _rounded(list(astuple(alone))),
        "told": {" ".join(map(str, places)): _told(window, places, rule)},
    }


def _told(window: Window, places: list[int], rule: Rule) -> Known:
    fitted = window.fitted
    if fitted is None:
        return {"steps": [], "noise": None}
    steps = []
    for number in range(len(places)):
        effect = stepsearch.effect(fitted, places, number)
        steps.append(
            [effect.value, effect.error, effect.freedom, *stepsearch.located(effect, rule.confidence)]
        )
    noise = correlated.kinds(fitted, places) * correlated.variances(fitted, places)
    return {"steps": _rounded(steps), "noise": _rounded(noise.tolist())}


def _rounded(held: Any) -> Any:
    """Numbers to ten digits: the last ones depend on which windows were searched together."""
    if isinstance(held, list):
        return [_rounded(item) for item in held]
    return float(f"{held:.10g}") if isinstance(held, float) else held
