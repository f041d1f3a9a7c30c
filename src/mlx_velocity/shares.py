"""From profiles to what a reader asks: where the time of one step goes, and what grew between two sides."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from mlx_velocity import stats
from mlx_velocity.breakdown import (
    Breakdown,
    By,
    Change,
    Difference,
    Growth,
    Launch,
    Part,
    Profile,
    Share,
    Times,
)

ERROR_RATE = 0.01
"""Of the parts that are said to have grown or shrunk, at most this share is expected to be noise."""
PAIRS_LEAST = 3
"""Pairs of launches without which there is no spread to speak of."""
LOSS_TOLERANCE = 1e-3
"""Relative difference of a training loss above which the sides compute something else."""
OUTSIDE = "outside of layers"

Key = tuple[str, str, int | None]
"""Name, kind and layer of a row."""


def key_of(by: By) -> Callable[[Part], Key]:
    """What the parts of one row have in common."""
    if by == "part":
        return lambda part: (part.name, part.kind, part.layer)
    if by == "layer":
        return lambda part: (OUTSIDE if part.layer is None else f"layer {part.layer}", "layer", part.layer)
    return lambda part: (part.kind, part.kind, None)


def shares(launches: Sequence[Launch], by: By) -> list[Share]:
    """What each kind, part or layer has in the time of one step, the largest first."""
    key = key_of(by)
    seen = [_sums(launch, key) for launch in launches]
    keys = dict.fromkeys(name for sums in seen for name in sums)
    # In a launch where a row is missing it took no time.
    own = {name: statistics.median(sums.get(name, _NOTHING)[0] for sums in seen) for name in keys}
    whole = sum(own.values())
    found = [
        Share(
            *name,
            calls=statistics.median(sums.get(name, _NOTHING)[2] for sums in seen),
            self_s=own[name],
            total_s=statistics.median(sums.get(name, _NOTHING)[1] for sums in seen)
            if by == "part"
            else own[name],
            share=own[name] / whole,
        )
        for name in keys
    ]
    return sorted(found, key=lambda item: -item.self_s)


def times(launches: Sequence[Launch]) -> Times:
    """The whole of one step, profiled and as it is normally."""
    return Times(
        statistics.median(statistics.median(item.profiled) / item.steps for item in launches),
        statistics.median(statistics.median(item.unprofiled) / item.steps for item in launches),
        statistics.median(item.floor_s for item in launches),
    )


_NOTHING = (0.0, 0.0, 0.0)


def _sums(launch: Launch, key: Callable[[Part], Key]) -> dict[Key, tuple[float, float, float]]:
    """Median self seconds, total seconds and calls of one step in a launch, by key."""
    by_key: dict[Key, list[Part]] = {}
    for part in launch.parts:
        by_key.setdefault(key(part), []).append(part)
    runs = range(len(launch.profiled))
    return {
        name: (
            statistics.median(sum(sum(part.self_s[run]) for part in parts) for run in runs) / launch.steps,
            statistics.median(sum(part.total_s[run] for part in parts) for run in runs) / launch.steps,
            statistics.median(sum(len(part.self_s[run]) for part in parts) for run in runs) / launch.steps,
        )
        for name, parts in by_key.items()
    }


def pairs(base: Profile, head: Profile) -> list[tuple[Launch, Launch]]:
    """The launches of both sides that took turns: the undisturbed ones, or all where these are too few.

    What disturbs falls on both sides by lot: it widens the spread and favours neither.
    """
    others = {item.number: item for item in head.launches}
    found = [(item, others[item.number]) for item in base.launches if item.number in others]
    quiet = [pair for pair in found if not pair[0].disturbed and not pair[1].disturbed]
    return quiet if len(quiet) >= PAIRS_LEAST else found


def growth(found: Sequence[tuple[Launch, Launch]], by: By, error_rate: float = ERROR_RATE) -> list[Growth]:
    """What grew, what shrank, and of what no change is shown: in this order, the largest first.

    The unit of evidence is a pair of launches: what one process does to its times is not a property of
    the code. Differences of pairs are located as in a comparison (`stats.location`), with an interval at
    1 - `error_rate`. Over all rows Benjamini and Hochberg (1995) keep the expected share of false ones
    among those called. With fewer than `PAIRS_LEAST` pairs nothing is called.
    """
    key = key_of(by)
    sums = [tuple({name: own for name, (own, _, _) in _sums(side, key).items()} for side in pair) for pair in found]  # fmt: skip
    names = dict.fromkeys(name for pair in sums for side in pair for name in side)
    whole = (
        statistics.median(statistics.median(pair[0].profiled) / pair[0].steps for pair in found)
        if found
        else 1.0
    )
    rows = [_row(name, sums, whole, error_rate) for name in names]
    adjusted = stats.adjusted([p for _, p in rows])
    called = [_called(row, p, error_rate) for (row, _), p in zip(rows, adjusted, strict=True)]
    return sorted(called, key=_order)


def _row(
    name: Key, sums: Sequence[tuple[dict[Key, float], ...]], whole: float, error_rate: float
) -> tuple[Growth, float]:
    base = [pair[0][name] for pair in sums if name in pair[0]]
    head = [pair[1][name] for pair in sums if name in pair[1]]
    differences = [pair[1].get(name, 0.0) - pair[0].get(name, 0.0) for pair in sums]
    value, low, high, p = statistics.median(differences), None, None, 1.0
    if len(differences) >= PAIRS_LEAST:
        place = stats.location(differences)
        value, p, reach = place.value, place.p, place.reach(1 - error_rate)
        low, high = value - reach, value + reach
    change: Change = "only head" if not base else "only base" if not head else "not shown"
    row = Growth(
        *name, change, statistics.median(base) if base else None, statistics.median(head) if head else None,
        value, low, high, value / whole, p,
    )  # fmt: skip
    return row, p


def _called(row: Growth, p: float, error_rate: float) -> Growth:
    change = row.change
    if change == "not shown" and p <= error_rate:
        change = "grew" if row.difference_s > 0 else "shrank"
    return Growth(**{**vars(row), "change": change, "p": p})


def _order(row: Growth) -> tuple[int, float]:
    shown = row.p <= ERROR_RATE
    group = 0 if shown and row.difference_s > 0 else 1 if shown else 2
    return group, -abs(row.difference_s)


def of(profile: Profile) -> Breakdown:
    """All that a reader is shown of a profile."""
    used = profile.used
    return Breakdown(
        profile, times(used), shares(used, "kind"), shares(used, "part"), shares(used, "layer")
    )  # fmt: skip


def between(base: Profile, head: Profile, error_rate: float = ERROR_RATE) -> Difference:
    """All that a reader is shown of two profiles that were taken together."""
    found = pairs(base, head)
    return Difference(
        of(base), of(head), len(found), any(one.disturbed for one, _ in found), error_rate, _same(base, head),
        growth(found, "kind", error_rate), growth(found, "part", error_rate), growth(found, "layer", error_rate),
    )  # fmt: skip


def _same(base: Profile, head: Profile) -> bool | None:
    first, second = base.used[0].notes, head.used[0].notes
    if "digest" in first and "digest" in second:
        return bool(first["digest"] == second["digest"])
    if "loss" in first and "loss" in second:
        return bool(abs(first["loss"] - second["loss"]) <= LOSS_TOLERANCE * abs(first["loss"]))
    return None
