"""The stored results of a machine, every file read once, commit by commit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_velocity import readings, records, results
from mlx_velocity.errors import InputError

_NAME = re.compile(rf"([0-9a-f]{{8}})-(.+?)({re.escape(readings.SUFFIX)}|\.json)")
"""asv names a file after the first eight characters of its commit and the environment."""


@dataclass(frozen=True)
class Entry:
    """What is stored of one commit in one environment."""

    commit: str
    """Full hash."""
    environment: str
    fields: dict[str, str]
    """The machine's fields as they were then, the Python and the backend; empty where only readings are left."""
    readings: list[records.Reading]
    """Ours, and what stock asv measured."""


@dataclass
class Survey:
    """What was passed over while reading."""

    unread: list[tuple[str, str]] = field(default_factory=list)
    """File and reason: it could not be used, or only in part."""
    unknown: set[str] = field(default_factory=set)
    """Beginnings of commits with results that the caller does not know."""


def machines(results_dir: Path) -> list[str]:
    """The machines that have results, by name; one without a description counts too."""
    if not results_dir.is_dir():
        return []
    return sorted(
        folder.name
        for folder in results_dir.iterdir()
        if folder.is_dir()
        and ((folder / "machine.json").exists() or any(map(_NAME.fullmatch, _names(folder))))
    )


def walk(
    folder: Path,
    commits: Sequence[str],
    benchmarks: Mapping[str, dict[str, Any]],
    survey: Survey,
    is_known: Callable[[str, str], bool] = lambda commit, stem: False,
) -> Iterator[Entry]:
    """What a machine has of these commits (full hashes), one entry at a time; nothing is moved or written.

    Files of which `is_known` says so, given commit and stem, are not opened. What can't be read is added to `survey`, and so is what belongs to no commit of `commits`.
    """
    by_beginning: dict[str, list[str]] = {}
    for commit in commits:
        by_beginning.setdefault(commit[:8], []).append(commit)
    stems = {(found[1], found[2]) for found in map(_NAME.fullmatch, _names(folder)) if found}
    for beginning, environment in sorted(stems):
        known = by_beginning.get(beginning, [])
        if not known:
            survey.unknown.add(beginning)
            continue
        # Two commits that begin alike share a file name: only asv's file knows which one it holds.
        commit = (
            known[0] if len(known) == 1 else _held(folder / f"{beginning}-{environment}.json") or known[0]
        )
        if is_known(commit, f"{beginning}-{environment}"):
            continue
        try:
            stored = results.CommitResults(
                folder, {"machine": folder.name}, {}, commit, 0, environment, "", read_only=True
            )
            entry = Entry(
                commit, environment, stored.fields,
                [*stored.stored, *stored.measured_by_asv(dict(benchmarks))],
            )  # fmt: skip
        except InputError as error:
            survey.unread.append((f"{folder.name}/{beginning}-{environment}", error.message))
            continue
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            survey.unread.append((f"{folder.name}/{beginning}-{environment}", reason or type(error).__name__))
            continue
        for note in stored.set_aside:
            survey.unread.append((f"{folder.name}/{note.file.rpartition('.corrupt-')[0]}", note.reason))
        yield entry


def measured_commits(folder: Path) -> set[str]:
    """Full hashes of the commits that a machine has results of; broken files do not count."""
    found = {_held(path) for path in folder.glob("*.json") if path.name != "machine.json"}
    return found - {""}


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _held(path: Path) -> str:
    try:
        return str(json.loads(path.read_text("utf-8"))["commit_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
