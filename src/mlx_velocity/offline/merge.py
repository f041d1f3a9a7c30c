"""Unite results that were measured elsewhere with those that are here, one file at a time; nothing is overwritten.

Readings are united line by line: a launch has an identity, and a measurement belongs to one launch. What is
derived from them is derived again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_velocity import (
    comparisons,
    environments,
    history,
    machine,
    profiles,
    readings,
    records,
    results,
    units,
)
from mlx_velocity.errors import InputError
from mlx_velocity.history import Commit
from mlx_velocity.tracks import Track

Fate = Literal["new", "grown", "same", "refused"]
Benchmark = dict[str, Any]
_NAME = re.compile(r"(?P<commit>[0-9a-f]{8})-(?P<env>.+-py(?P<python>\d+\.\d+)-backend(?P<backend>[a-z]+).*)")
"""Of a file of readings, without its ending: see environments.name_of."""
OF_ONE_COMMIT = {"comparisons": comparisons, "profiles": profiles}
"""Folders of files that are written by one command and never added to."""


@dataclass(frozen=True)
class Merged:
    """What became of one file."""

    file: str
    fate: Fate
    lines: int = 0
    """That came."""
    reason: str = ""
    """Of what was refused; of other files, what was left out of them."""


@dataclass
class Target:
    """Where results go: a machine of a track, whose lock is held."""

    track: Track
    repo_path: str
    folder: Path
    description: dict[str, str | int]
    benchmarks: dict[str, Benchmark]
    dry_run: bool = False
    commits: dict[str, Commit | None] = field(default_factory=dict)
    """Known so far, by the beginning or the full hash that was asked for."""

    def commit(self, name: str) -> Commit | None:
        """The track's commit of a hash or its first characters; None where its repository has none."""
        if name not in self.commits:
            found = history.known_commits(self.repo_path, history.resolved(self.repo_path, [name]))
            self.commits[name] = next(iter(found.values()), None)
        return self.commits[name]


def keep_machine(folder: Path, target: Target) -> None:
    """Write the description of a machine that is new here; raises InputError where its name is another machine's."""
    coming = machine.load(folder)
    if coming is None:
        raise InputError(
            f"{folder} has no machine.json", "name a folder of results: results/<track>/<machine>"
        )
    stored = machine.load(target.folder)
    if stored is None:
        target.description = {**coming, "machine": target.folder.name}
        if not target.dry_run:
            known = {key: value for key, value in target.description.items() if key != "version"}
            readings.replace(target.folder / "machine.json", machine.text_of(known))
    elif wrong := machine.contradiction(stored, coming):
        raise InputError(
            f"{target.folder.name} is another machine here: {wrong}",
            "import it under another name: --machine NAME",
        )
    else:
        target.description = stored


def merge(folder: Path, target: Target) -> list[Merged]:
    """Unite a machine's folder with the target's, file by file.

    A file that can't be used is refused with the reason, and the others go on. Raises InputError where the
    disk refuses.
    """
    done = [_result(path, target) for path in sorted(folder.glob(f"*{readings.SUFFIX}"))]
    for name, format_ in OF_ONE_COMMIT.items():
        done += [_whole(path, target, format_) for path in sorted((folder / name).glob(f"*{format_.SUFFIX}"))]
    alone = {path.name.removesuffix(".json") for path in folder.glob("*.json")} - {"machine"}
    alone -= {item.file.removesuffix(readings.SUFFIX) for item in done}
    without = "it has no readings: what stock asv measured can't be told apart by launches"
    return done + [Merged(f"{name}.json", "refused", reason=without) for name in sorted(alone)]


def _result(path: Path, target: Target) -> Merged:
    """Unite the readings of one commit, and derive asv's file again."""
    coming, bad = readings.read(path)
    left_out = f"{units.count(len(bad), 'unreadable line')}, the first: {bad[0][1]}" if bad else ""
    named = _NAME.fullmatch(path.name.removesuffix(readings.SUFFIX))
    if named is None:
        return Merged(
            path.name, "refused", reason="its name says no commit and environment of mlx-velocity's"
        )
    if environments.name_of(target.track, named["python"], named["backend"]) != named["env"]:
        return Merged(
            path.name, "refused", reason="it was measured beside other packages than this track pins"
        )
    commit = target.commit(named["commit"])
    if commit is None:
        return Merged(
            path.name, "refused", reason=f"track {target.track.name} has no commit {named['commit']}"
        )
    if not coming:
        return Merged(path.name, "refused", reason=left_out or "it is empty")
    series = environments.series(target.track, named["backend"])
    params = {**{key: str(value) for key, value in target.description.items() if key != "version"},
              "python": named["python"], **series}  # fmt: skip
    stored = results.CommitResults(
        target.folder,
        params,
        series,
        commit.hash,
        commit.date_s,
        named["env"],
        named["python"],
        target.dry_run,
    )
    try:
        whole = united(stored.stored, coming)
    except ValueError as error:
        return Merged(path.name, "refused", reason=str(error))
    added = len([item for item in whole if item not in stored.stored])
    if whole == stored.stored:
        return Merged(path.name, "same", reason=left_out)
    fate: Fate = "grown" if stored.stored else "new"
    if not target.dry_run:
        stored.replace(whole, target.benchmarks)
    return Merged(path.name, fate, added, left_out)


def united(here: Sequence[records.Reading], coming: Iterable[records.Reading]) -> list[records.Reading]:
    """All readings of both, those that are here first; without failures of what was measured later.

    Raises ValueError where the same launch says something else.
    """
    known = {_identity(item): item for item in here}
    whole = list(here)
    for item in coming:
        key = _identity(item)
        if key not in known:
            known[key] = item
            whole.append(item)
        elif known[key] != item:
            raise ValueError(
                f"{key[0]} of {getattr(item, 'launch', 'an environment')} says something else here"
            )
    last: dict[Any, str] = {}
    for item in whole:
        if isinstance(item, records.Measurement):
            for case in (_case(item), None):
                last[case] = max(last.get(case, ""), item.started)
    return [item for item in whole if not _overtaken(item, last)]


def _identity(item: records.Reading) -> tuple[Any, ...]:
    """What is the same thing, whatever is said of it: a launch, and a case within a launch; of the rest, all of it."""
    if isinstance(item, records.Launch):
        return (item.kind, item.launch)
    if isinstance(item, records.Measurement):
        return (item.kind, item.launch, *_case(item))
    return (item.kind, readings.dump(item))


def _case(item: records.Measurement | records.Failure) -> tuple[Any, ...]:
    return (item.benchmark, item.version, tuple(item.params or ()))


def _overtaken(item: records.Reading, last: dict[Any, str]) -> bool:
    """Whether a failure was tried again, and went well; one of the environment concerns every case."""
    if not isinstance(item, records.Failure) or item.outcome == "skipped":
        return False
    return item.started < last.get(None if item.benchmark is None else _case(item), "")


def _whole(path: Path, target: Target, format_: Any) -> Merged:
    """Take over a file that one command wrote."""
    name = f"{path.parent.name}/{path.name}"
    lines, bad = readings.read_lines(path, format_.parse)
    if bad or not lines or not hasattr(lines[0], "track"):
        reason = bad[0][1] if bad else "its first line does not say what was measured"
        return Merged(name, "refused", reason=reason)
    header: Any = lines[0]
    if header.track != target.track.name:
        return Merged(name, "refused", reason=f"it is of track {header.track}")
    hashes = [header.commit] if hasattr(header, "commit") else [header.base.commit, header.head.commit]
    unknown = [item for item in hashes if item and target.commit(item) is None]
    if unknown:
        return Merged(name, "refused", reason=f"track {target.track.name} has no commit {unknown[0][:8]}")
    header = dataclasses.replace(header, machine=target.folder.name)
    text = "".join(f"{format_.dump(item)}\n" for item in (header, *lines[1:]))
    place = target.folder / path.parent.name / path.name
    here = place.read_text("utf-8") if place.exists() else ""
    if here == text:
        return Merged(name, "same")
    if not text.startswith(here):
        return Merged(name, "refused", reason="another one of that name is here")
    if not target.dry_run:
        readings.replace(place, text)
    return Merged(name, "grown" if here else "new", text.count("\n") - here.count("\n"))
