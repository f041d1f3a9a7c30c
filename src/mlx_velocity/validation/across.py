"""Stored files against each other: what one says and another does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mlx_velocity import readings, records, results
from mlx_velocity.validation.files import Stored

DERIVE = "remove this file: mlx-velocity run makes it again from the readings"
CLOSE = 1e-12
"""Relative: both are written with all digits, and medians are computed the same way."""


def check(found: Iterable[Stored]) -> None:
    """Look at the files of a track together, and say the problems where they are."""
    by_folder: dict[Path, dict[str, Stored]] = {}
    for stored in found:
        if stored.data is not None:
            by_folder.setdefault(stored.path.parent, {})[stored.path.name] = stored
    for folder, files in by_folder.items():
        ours = {
            name.removesuffix(readings.SUFFIX): item
            for name, item in files.items()
            if item.kind == "readings"
        }
        theirs = {name.removesuffix(".json"): item for name, item in files.items() if item.kind == "result"}
        if not ours and not theirs and folder.name in ("bisections", "comparisons"):
            _of_machine(folder, files.values())
        for stem in sorted({*ours, *theirs}):
            _pair(ours.get(stem), theirs.get(stem))
        _launches(ours.values())
        described = files.get("machine.json")
        known = by_folder.get(folder.parent, {}).get("benchmarks.json")
        for item in theirs.values():
            _belongs(item, folder, described)
            if known is not None:
                _described(item, set(known.data))
        if (ours or theirs) and not (folder / "machine.json").exists():
            first = next(iter([*theirs.values(), *ours.values()]))
            first.say("machine.json is missing beside it", "restore it, or: mlx-velocity run --machine NAME")


def commits(found: Iterable[Stored], known: Collection[str]) -> None:
    """Say which results are of commits that the repository lacks; `known` are the full hashes it has."""
    beginnings = {item[:8] for item in known}
    for stored in found:
        if stored.kind not in ("result", "readings"):
            continue
        prefix = stored.path.name[:8]
        has = prefix in beginnings
        if stored.kind == "result" and stored.data is not None:
            has = stored.data["commit_hash"] in known
        if not has:
            stored.say(
                f"the repository has no commit {prefix}",
                "fetch it, or remove the file: nobody can say what was measured",
            )


def _pair(ours: Stored | None, theirs: Stored | None) -> None:
    if ours is None:
        if theirs is not None and not _beside(theirs, readings.SUFFIX).exists():
            theirs.say(
                "it has no readings: stock asv measured it, without launches and reasons",
                "nothing",
                note=True,
            )
        return
    lines: list[tuple[int, records.Reading]] = ours.data
    told = any(isinstance(item, (records.Measurement, records.Failure)) for _, item in lines)
    if theirs is None:
        # Where asv's file is there and broken, that has been said already.
        if told and not _beside(ours, ".json").exists():
            ours.say("asv's file is missing beside it", "mlx-velocity run of that commit makes it again")
        return
    _same_numbers(lines, theirs)


def _beside(stored: Stored, ending: str) -> Path:
    stem = stored.path.name.removesuffix(readings.SUFFIX).removesuffix(".json")
    return stored.path.with_name(stem + ending)


def _same_numbers(lines: list[tuple[int, records.Reading]], theirs: Stored) -> None:
    """Whether asv's file holds what its readings give, case by case."""
    own: dict[tuple[str, str, tuple[str, ...]], list[records.Measurement | records.Failure]] = {}
    no_environment = False
    for _, item in lines:
        if isinstance(item, (records.Measurement, records.Failure)):
            if item.benchmark is None:
                no_environment = True
            else:
                own.setdefault((item.benchmark, item.version or "", tuple(item.params or ())), []).append(
                    item
                )
    rows = {
        name: dict(zip(theirs.data["result_columns"], row, strict=False))
        for name, row in theirs.data["results"].items()
    }
    for (name, version, params), taken in own.items():
        row, label = rows.get(name), records.case_label(name, params)
        if row is None:
            theirs.say(f"it lacks {label}, which the readings hold", DERIVE)
            continue
        if row.get("version") != version:
            continue  # An older version of the benchmark: the readings keep it, and asv holds the newest.
        places = list(itertools.islice(itertools.product(*(row["params"] or [])), 100_000))
        if params not in places:
            theirs.say(f"it lacks {label}, which the readings hold", DERIVE)
            continue
        place = places.index(params)
        value, samples = results.pooled(taken, no_environment)
        stored_samples = _at(row.get("samples"), place)
        if not _equal(_at(row["result"], place), value):
            theirs.say(
                f"{label} is {_shown(_at(row['result'], place))}, and by its readings {_shown(value)}", DERIVE
            )
        elif stored_samples is not None and sorted(stored_samples) != sorted(samples or []):
            theirs.say(f"{label} has other samples than its readings", DERIVE)


def _at(column: list[Any] | None, place: int) -> Any:
    return column[place] if column is not None and place < len(column) else None


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=CLOSE)


def _shown(value: float | None) -> str:
    return "a failure" if value is None else "not measured" if math.isnan(value) else f"{value:.6g}"


def _launches(found: Iterable[Stored]) -> None:
    """A launch is one process at one commit: the same one in two files means that one is a copy."""
    seen: dict[str, Stored] = {}
    for stored in found:
        for line, item in stored.data:
            if not isinstance(item, records.Launch):
                continue
            other = seen.setdefault(item.launch, stored)
            if other is not stored:
                stored.say(
                    f"launch {item.launch} stands in {other.path.name} too", "one is a copy: remove it", line
                )


def _belongs(result: Stored, folder: Path, described: Stored | None) -> None:
    params = result.data["params"]
    if params["machine"] != folder.name:
        result.say(
            f"it is of machine '{params['machine']}' in the folder of '{folder.name}'",
            "move it where it belongs",
        )
    if described is None or not described.data:
        return
    for key, value in described.data.items():
        if key in params and key != "version" and str(params[key]) != str(value):
            result.say(
                f"{key} is '{params[key]}' here and '{value}' in machine.json: the site shows two series",
                "give the other machine a name of its own", note=True,
            )  # fmt: skip


def _described(result: Stored, known: set[str]) -> None:
    for name in result.data["results"]:
        if name not in known:
            result.say(
                f"benchmarks.json lacks {name}: asv shows nothing of it", "nothing, where it was renamed on purpose",
                note=True,
            )  # fmt: skip


def _of_machine(folder: Path, found: Iterable[Stored]) -> None:
    for stored in found:
        header = stored.data[0][1] if stored.kind in ("bisection", "comparison") and stored.data else None
        machine = getattr(header, "machine", folder.parent.name)
        if machine != folder.parent.name:
            stored.say(
                f"it is of machine '{machine}' in the folder of '{folder.parent.name}'",
                "move it where it belongs",
            )
