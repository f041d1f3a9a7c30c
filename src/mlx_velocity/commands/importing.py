"""`mlx-velocity import`: take results in that were measured on another machine."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import cases, installed, machine, results, scheduler, tracks, units
from mlx_velocity.errors import InputError
from mlx_velocity.offline import merge
from mlx_velocity.offline.merge import Merged, Target
from mlx_velocity.workers import WorkerError

MOST_REASONS = 5
"""Files of one reason that are named; the others are counted."""


@dataclass(frozen=True)
class ImportOptions:
    """What `import` was asked for."""

    folder: Path
    machine: str | None
    dry_run: bool
    quiet: bool


def machines_in(folder: Path) -> list[Path]:
    """The machines' folders that a path means: itself, those of a track, or those of a tree of results.

    Raises InputError where there is none.
    """
    for pattern in ("machine.json", "*/machine.json", "*/*/machine.json"):
        if found := sorted(path.parent for path in folder.glob(pattern)):
            return found
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist", "name a folder of results: results/<track>/<machine>")
    raise InputError(f"{folder} holds no machine.json", "name a folder of results: results/<track>/<machine>")


def import_all(
    open_track: Callable[[str | None], tracks.Track],
    wanted: str | None,
    options: ImportOptions,
    console: Console,
) -> int:
    """Import every machine that the folder holds, and say what became of each file; returns the exit code.

    `open_track` gives a track by name, or for None the one that the user stands in; `wanted` is the one that the
    user named. 0 where all is here now, 2 where something was refused. Raises InputError where nothing can be
    imported at all.
    """
    found = machines_in(options.folder.resolve())
    if options.machine and len(found) > 1:
        raise InputError(
            f"{options.folder} holds {len(found)} machines, and --machine names one",
            "name the folder of one of them",
        )
    refused = 0
    for folder in found:
        track = _track_of(folder, open_track, wanted)
        done = import_one(track, folder, options)
        if not options.quiet or any(item.fate == "refused" for item in done):
            show(done, track.name, options.machine or folder.name, options.dry_run, console)
        refused += sum(bool(item.reason) for item in done)
    return InputError.exit_code if refused else 0


def import_one(track: tracks.Track, folder: Path, options: ImportOptions) -> list[Merged]:
    """Import one machine's folder; raises InputError where it is another machine than the one of that name here."""
    coming = machine.load(folder)
    name = str(
        machine.describe(options.machine)["machine"]
        if options.machine
        else (coming or {}).get("machine", folder.name)
    )
    place = track.results_dir / name
    if place.resolve() == folder.resolve():
        raise InputError(
            f"{folder} is where the results of {name} lie", "name the folder that came from elsewhere"
        )
    repo = tracks.open_repo(track)
    tracks.fetch(repo)
    with results.lock(track.work_dir, track.name, name):
        target = Target(track, str(repo._path), place, {}, _benchmarks(track), options.dry_run)
        merge.keep_machine(folder, target)
        done = merge.merge(folder, target)
        if not options.dry_run and any(item.fate in ("new", "grown") for item in done):
            cases.save(track, list(target.benchmarks.values()))
    return done


def show(done: list[Merged], track: str, name: str, dry_run: bool, console: Console) -> None:
    """What came, and what did not and why."""
    by_reason: dict[str, list[str]] = {}
    for item in done:
        if item.reason:
            by_reason.setdefault(
                f"{'refused' if item.fate == 'refused' else 'left out'}: {item.reason}", []
            ).append(item.file)
    for reason, files in by_reason.items():
        more = f" and {len(files) - MOST_REASONS} more" if len(files) > MOST_REASONS else ""
        kind, _, why = reason.partition(": ")
        console.print(
            f"[yellow]{kind}[/] {escape(', '.join(files[:MOST_REASONS]))}{more}: {escape(why)}",
            highlight=False,
        )
    fates = Counter(item.fate for item in done)
    lines = sum(item.lines for item in done)
    would = "would come" if dry_run else "came"
    if fates["new"] or fates["grown"]:
        text = (
            f"{units.count(lines, 'line')} {would} to track {track}, machine {name}: {units.count(fates['new'], 'new file')}, "
            f"{fates['grown']} that grew, {fates['same']} unchanged, {fates['refused']} refused."
        )
    elif fates["refused"]:
        text = f"Nothing {would} to track {track}, machine {name}: {fates['refused']} refused, {fates['same']} unchanged."
    else:
        text = f"Nothing new: all of {units.count(fates['same'], 'file')} is in track {track}, machine {name}, already."
    console.print(escape(text), highlight=False)


def _track_of(
    folder: Path, open_track: Callable[[str | None], tracks.Track], wanted: str | None
) -> tracks.Track:
    """The track that results lie under, by the name of the folder; the user's own where that names none."""
    named = None
    # A folder that was copied alone may lie under any name.
    with contextlib.suppress(InputError):
        named = open_track(folder.parent.name)
    if named is None or named.name != folder.parent.name:
        return open_track(wanted)
    if wanted not in (None, named.name):
        raise InputError(
            f"{folder.parent.name}/{folder.name} holds results of track {named.name}, not of {wanted}",
            f"import it with --track {named.name}",
        )
    return named


def _benchmarks(track: tracks.Track) -> dict[str, merge.Benchmark]:
    """As the suite describes them now, and where it can't be read here, as they were when last measured."""
    try:
        return scheduler.discover_in(installed.here(), track)
    except WorkerError:
        return cases.load(track)
