"""What stored comparisons say of the cases of a machine: the better judge of two commits, told beside its history."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mlx_velocity import comparisons, judge
from mlx_velocity.chronicle import Line
from mlx_velocity.comparison import CaseVerdict
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import CaseHistory, SideBySide, Unread
from mlx_velocity.store.files import no_garbage
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import read_json
from mlx_velocity.store.stamp import stamp

FILES = 50
"""Comparisons of a machine that are looked at: the newest, those of a side with itself only where there is room."""

Key = tuple[str, str, str, tuple[str, ...]]
"""Environment, benchmark, version, parameters."""


def beside(
    index: StoreIndex, machine: str, cases: Sequence[CaseHistory], line: Line
) -> tuple[list[CaseHistory], list[Unread]]:
    """The cases with what comparisons say of each in its version and environment, the newest first; and the files that
    say nothing. What is of commits before those that were asked for is left out.
    """
    said: dict[Key, list[SideBySide]] = {}
    unread = []
    for name, held in _judged(index, machine).items():
        if "reason" in held:
            unread.append(Unread(f"{machine}/{comparisons.FOLDER}/{name}", held["reason"]))
        elif _in_range(held, line):
            for key, item in _verdicts(held, line):
                said.setdefault(key, []).append(item)
    if not said:
        return list(cases), unread
    return [
        dataclasses.replace(case, side_by_side=said.get(_key_of(case), case.side_by_side)) for case in cases
    ], unread


def _key_of(case: CaseHistory) -> Key:
    return case.environment, case.benchmark, case.version, tuple(case.params)


def _in_range(held: dict[str, Any], line: Line) -> bool:
    """Whether it is of commits that were asked for; of versions and working trees counts the day of the comparison."""
    if not line.since:
        return True
    commit = held["commits"][1]
    if commit in line.place:
        return line.place[commit] >= line.since
    return bool(held["date"] >= line.commits[line.since].day)


def _verdicts(held: dict[str, Any], line: Line) -> Iterator[tuple[Key, SideBySide]]:
    base, head = held["names"]
    base_commit, head_commit = held["commits"]
    named = ((base, base_commit), (head, head_commit))
    # A released version has no commit; a working tree has none either, and is nobody's news.
    known = all(commit in line.place or (not commit and "==" in name) for name, commit in named)
    news = known and not held["equal"]
    for data in held["cases"]:
        said = CaseVerdict(**{**data, "warnings": tuple(data["warnings"])})
        key = (held["environment"], said.benchmark, said.version, tuple(said.params))
        yield (
            key,
            SideBySide(held["date"], base, head, base_commit, head_commit, held["interrupted"], news, said),
        )


def _judged(index: StoreIndex, machine: str) -> dict[str, dict[str, Any]]:
    """File → what it says, the newest first. What was read once is kept until the file or the program changes."""
    name = f"compared:{machine}"
    known = read_json(index.derived([name]).get(name, b"{}"))
    kept: dict[str, dict[str, Any]] = {}
    paths = {}
    for path in comparisons.newest_first(index.root / machine / comparisons.FOLDER, None, None):
        try:
            state = path.stat()
        except OSError:
            continue
        key = [stamp(), state.st_size, state.st_mtime_ns]
        held = known.get(path.name, {})
        paths[path.name] = path
        kept[path.name] = (
            held if held.get("key") == key else {"key": key, "equal": comparisons.of_equal_sides(path)}
        )
    chosen = set(sorted(kept, key=lambda file: kept[file]["equal"])[:FILES])
    for file in chosen:
        if not {"cases", "reason"} & kept[file].keys():
            kept[file] = {**kept[file], **_read(paths[file])}
    if kept != known:
        # Who can't keep it judges again.
        with contextlib.suppress(InputError):
            index.keep_derived({name: json.dumps(kept).encode()})
    return {file: held for file, held in kept.items() if file in chosen}


def _read(path: Any) -> dict[str, Any]:
    try:
        with no_garbage():
            stored = comparisons.read(path)
        done = judge.of_file(stored, {})
    except InputError as error:
        return {"reason": error.message}
    header = stored.header
    return {
        "date": header.started[:10],
        "names": [header.base.name, header.head.name],
        "commits": [header.base.commit, header.head.commit],
        "environment": header.base.environment.name,
        "interrupted": done.interrupted,
        "cases": [dataclasses.asdict(item) for item in done.cases],
    }
