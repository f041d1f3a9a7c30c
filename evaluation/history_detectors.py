"""Detectors of change points: ours and others', from values to the points at which a level begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from asv.step_detect import detect_regressions, detect_steps

from mlx_velocity import changepoints
from mlx_velocity.points import Point, Points
from mlx_velocity.series import Series

Values = Sequence[float]
OURS = "mlx-velocity"


def series(values: Values, controls: Values | None = None) -> Series:
    """A series of times with nothing else known of them."""
    points = Points.of(
        Point(f"{number:040x}", value, control=controls[number] if controls is not None else None)
        for number, value in enumerate(values)
    )
    return Series("machine", "environment", "bench", (), "1", "seconds", points)


def ours(values: Values) -> list[int]:
    """`changepoints.find`, each series by itself."""
    return [change.index for change in changepoints.find(series(values)).changes]


def asv_steps(values: Values) -> list[int]:
    """All steps of asv's `detect_steps`."""
    return [step[0] for step in detect_steps(list(values))[1:]]


def asv_publish(values: Values) -> list[int]:
    """What `asv publish` calls a regression: slower by at least its 5 %."""
    _, _, found = detect_regressions(detect_steps(list(values)), threshold=0.05)
    return [after for _, after, _, _ in found or []]


def otava(values: Values) -> list[int]:
    """Otava as its command line calls it: window 50, p < 0.001, no smallest size."""
    from otava.analysis import compute_change_points

    found, _ = compute_change_points(list(values), window_len=50, max_pvalue=0.001, min_magnitude=0.0)
    return [change.index for change in found]


def pelt(values: Values) -> list[int]:
    """PELT with squares (Killick et al. 2012), penalty 3 σ² log n, σ from the median difference of neighbours."""
    import ruptures

    logs = np.log(values)
    spread = 1.4826 * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
    search = ruptures.Pelt(model="l2", min_size=2, jump=1).fit((logs / spread).reshape(-1, 1))
    return list(search.predict(pen=3 * math.log(len(values))))[:-1]


def at_hand() -> tuple[dict[str, Callable[[Values], list[int]]], dict[str, str]]:
    """The detectors that are installed, and the versions of what they come from; none where it is missing."""
    found: dict[str, Callable[[Values], list[int]]] = {
        OURS: ours,
        "asv detect_steps": asv_steps,
        "asv publish": asv_publish,
    }
    versions = {"asv": version("asv")}
    for name, module, package, detector in (
        ("Otava", "otava", "apache-otava", otava),
        ("ruptures PELT", "ruptures", "ruptures", pelt),
    ):
        if find_spec(module):
            found[name] = detector
        versions[package] = version(package) if find_spec(module) else "not installed: left out"
    return found, versions
