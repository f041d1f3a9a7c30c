"""Which parts of a model grew with a change: what a stored `mlx-velocity profile --diff` of its two commits says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_velocity import metrics, profiles, shares, units
from mlx_velocity.breakdown import Growth, Profile, Task
from mlx_velocity.history_report import CaseHistory, Shift

STAGES = {"prefill": "prefill", "first_token": "prefill", "decode": "decode", "lora": "lora"}
"""File of a benchmark → the stage that its time is spent in."""
LISTED = 4

Pairs = dict[str, list[tuple[Profile, Profile]]]
"""Machine → profiles that were taken together, in either order."""


def stored(results: Path) -> Pairs:
    """The profiles below a track's results that were taken in pairs; files that can't be read are passed over."""
    found: Pairs = {}
    for folder in sorted(path.parent for path in results.glob(f"*/{profiles.FOLDER}")):
        together: dict[str, list[Profile]] = {}
        for profile in profiles.load(folder):
            if profile.header.together:
                together.setdefault(profile.header.together, []).append(profile)
        found[folder.name] = [(pair[0], pair[1]) for pair in together.values() if len(pair) == 2]
    return found


def said(pairs: Pairs, benchmarks: Mapping[str, dict[str, Any]], case: CaseHistory, shift: Shift) -> str:
    """What grew and what shrank in a step, the largest first; empty where no profile of the change is stored.

    A profile counts if it is of the case's stage, model and size, and has the last commit of the old level on one side
    and one of the new level on the other.
    """
    if case.unit != metrics.SECONDS.unit:
        return ""
    for one, other in pairs.get(case.machine, []):
        base, head = (one, other) if one.header.commit == shift.good.hash else (other, one)
        news = (shift.commit.hash, shift.bad.hash)
        if (
            base.header.commit == shift.good.hash
            and head.header.commit in news
            and _of_case(base.header.task, case, benchmarks)
        ):
            shown = shares.between(base, head)
            called = [row for row in shown.kinds if row.change != "not shown"]
            called.sort(key=lambda row: -abs(row.difference_s))
            rows = ", ".join(map(_row, called[:LISTED])) or "no part changed by more than noise"
            more = f" and {len(called) - LISTED} more" if len(called) > LISTED else ""
            return f"in {base.header.task.label}: {rows}{more}"
    return ""


def _of_case(task: Task, case: CaseHistory, benchmarks: Mapping[str, dict[str, Any]]) -> bool:
    names = benchmarks.get(case.benchmark, {}).get("param_names", [])
    params = dict(zip(names, (text.strip("'\"") for text in case.params), strict=False))
    size = str(task.depth) if task.stage == "decode" else str(task.tokens)
    wanted = params.get("depth" if task.stage == "decode" else "tokens", size)
    return (
        STAGES.get(case.benchmark.partition(".")[0]) == task.stage
        and params.get("model") == task.model
        and wanted == size
    )


def _row(row: Growth) -> str:
    sign = "+" if row.difference_s > 0 else "−"
    return f"{row.name} {sign}{units.seconds(abs(row.difference_s))} ({sign}{units.share(abs(row.share))} of the step)"
