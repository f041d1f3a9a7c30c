"""Stored profiles of commits: where the time of a stage went, beside the commit's other results.

A profile here is what `mlx-velocity profile` measures. The sizes of cases that are called profiles
too (tiny, small, …) are in probe/profiles.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

from mlx_velocity import comparisons, readings
from mlx_velocity.breakdown import FORMAT, Header, Launch, Part, Profile, Task
from mlx_velocity.errors import InputError
from mlx_velocity.records import Environment

FOLDER = "profiles"
SUFFIX = ".profile.jsonl"
"""Not `.json`: asv loads every file with that ending as one of its own."""
SCHEMA = "profile.schema.json"

Record: TypeAlias = Header | Launch


def path_for(machine_folder: Path, header: Header) -> Path:
    """Where a profile is stored: one file for each commit (or version), environment and task."""
    who = header.commit[:8] or comparisons.slug(header.name)
    name = f"{who}-{header.environment.name}.{comparisons.slug(header.task.key)}{SUFFIX}"
    return machine_folder / FOLDER / name


def save(machine_folder: Path, profile: Profile) -> Path:
    """Store a profile in place of an older one of the same; raises InputError where the disk refuses."""
    path = path_for(machine_folder, profile.header)
    lines = [dump(profile.header), *map(dump, profile.launches)]
    readings.replace(path, "".join(f"{line}\n" for line in lines))
    return path


def load(
    machine_folder: Path, commit: str | None = None, stage: str | None = None, model: str | None = None
) -> list[Profile]:
    """The stored profiles of a machine, the newest first; only those of a commit, stage or model where given.

    `commit` is a hash, its beginning (eight characters at least), or the name that was profiled. Files that
    can't be read are passed over: `read` says why.
    """
    found = []
    for path in (machine_folder / FOLDER).glob(f"*{SUFFIX}"):
        try:
            profile = read(path)
        except InputError:
            continue
        header = profile.header
        named = commit is None or commit == header.name or (len(commit) >= 8 and header.commit.startswith(commit))  # fmt: skip
        if named and stage in (None, header.task.stage) and model in (None, header.task.model):
            found.append(profile)
    return sorted(found, key=lambda item: item.header.started, reverse=True)


def read(path: Path) -> Profile:
    """What a file holds. It is written at once, so a line that can't be read makes all of it suspect.

    Raises InputError that says what is wrong.
    """
    try:
        records, bad = readings.read_lines(path, parse)
    except OSError as error:
        raise InputError(f"{path.name} can't be read: {error.strerror or error}", "mend its rights") from error  # fmt: skip
    header, launches = (records[0] if records else None), records[1:]
    if bad:
        reason = bad[0][1]
    elif not isinstance(header, Header):
        reason = "its first line does not say what was profiled" if path.exists() else "it does not exist"
    elif not launches or not all(isinstance(item, Launch) for item in launches):
        reason = "it holds no launches"
    else:
        return Profile(header, [item for item in launches if isinstance(item, Launch)])
    raise InputError(f"{path.name} is no profile: {reason}", "remove the file, and profile again")


def dump(record: Record) -> str:
    """The line of a record, checked against the schema; raises ValueError where it would not be readable."""
    return readings.line_of({"format": FORMAT, "kind": record.kind, **dataclasses.asdict(record)}, SCHEMA)


def parse(line: str) -> Record:
    """The record on a line; raises ValueError that says what is wrong with it."""
    data = readings.load(line, SCHEMA, FORMAT)
    kind = data.pop("kind")
    del data["format"]
    return _header(data) if kind == Header.kind else launch(data)


def launch(data: dict[str, Any]) -> Launch:
    """The launch that a worker's answer or a stored line describes; TypeError, KeyError where it does not."""
    return Launch(**{**data, "parts": [Part(**part) for part in data["parts"]]})


def _header(data: dict[str, Any]) -> Header:
    environment, task = Environment(**data["environment"]), Task(**data["task"])
    return Header(**{**data, "environment": environment, "task": task})
