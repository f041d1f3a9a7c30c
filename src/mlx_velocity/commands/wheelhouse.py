"""`mlx-velocity wheelhouse`: fill a folder with what another machine needs to measure some commits."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlx_velocity import environments, history, requirements, sides, tracks, units
from mlx_velocity.errors import EnvironmentFailure, InputError, Interrupted, MeasurementError
from mlx_velocity.offline import fill, manifest, wheels
from mlx_velocity.offline.fill import Machine, Need
from mlx_velocity.report import text
from mlx_velocity.requirements import RequirementSet

MOST_ROWS = 10


@dataclass(frozen=True)
class WheelhouseOptions:
    """What `wheelhouse` was asked for."""

    range: str
    folder: Path
    platform: str
    python: str | None
    backend: str | None
    inherit: bool
    without: tuple[str, ...]
    control: bool
    runner: bool
    quiet: bool


def wheelhouse(track: tracks.Track, options: WheelhouseOptions, console: Console) -> fill.Filled:
    """Fill the folder and say what is in it; raises MeasurementError where something could not be had."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = Machine(
        options.platform, options.python or here, options.backend or _usual_backend(options.platform)
    )
    wheels.tags_of(machine.platform, machine.python)
    if machine.backend not in requirements.BACKENDS:
        raise InputError(
            f"there is no backend '{machine.backend}'", f"choose one of {', '.join(requirements.BACKENDS)}"
        )
    if not track.settings.requirements and not track.settings.overlay:
        raise InputError(
            f"track {track.name} builds its commits, and a build is for the machine that it runs on",
            "build the wheels there, and put them into a folder",
        )
    repo = tracks.open_repo(track)
    tracks.fetch(repo)
    repo_path = str(repo._path)
    commits = history.select(repo_path, options.range, track.conf.branches, [])
    needs = [Need(item.hash, item.subject, _wanted(track, repo_path, item.hash, machine)) for item in commits]
    if options.control:
        pin = requirements.requirement_set([f"mlx=={sides.CONTROL_MLX}"], machine.backend)
        needs.append(Need("", f"the control of compare (mlx {sides.CONTROL_MLX})", pin))
    left_out = [*(["*"] if options.inherit else []), *options.without]
    with _Bar(console, options.quiet) as bar:
        try:
            done = fill.fill(options.folder, machine, needs, track.name, left_out, options.runner, bar.show)
        except KeyboardInterrupt:
            raise Interrupted("interrupted", "what is there is kept; run the same again to go on") from None
    if not options.quiet:
        _show(done, options, len(commits), console)
    if done.lacking:
        raise MeasurementError(
            f"{units.count(len(done.lacking), 'part')} of what was asked for can't be had; the rest is there",
            "see the reasons above; leave those commits out where they have no wheels for that machine",
        )
    return done


def _usual_backend(platform: str) -> str:
    return "metal" if platform.startswith("macosx") else "cuda"


def _wanted(
    track: tracks.Track, repo_path: str, commit: str, machine: Machine
) -> RequirementSet | EnvironmentFailure:
    try:
        pins = environments.pins_of(track, repo_path, commit)
        own = environments.declared_by(track, repo_path, commit)
        return environments.requirement_set(track, pins, machine.backend, own)
    except EnvironmentFailure as error:
        return error


def _show(done: fill.Filled, options: WheelhouseOptions, commits: int, console: Console) -> None:
    """A row for each package, and the whole in a sentence."""
    for item in done.lacking:
        console.print(f"[red]lacking[/] {escape(item.subject)}: {escape(item.reason)}", highlight=False)
    table = text.table(("package", "left"), ("versions", "left"), ("size", "right"))
    largest = sorted(_by_name(done.manifest.wheels).items(), key=lambda item: -_size(item[1]))
    rest = [entry for _, entries in largest[MOST_ROWS:] for entry in entries]
    for name, entries in largest[:MOST_ROWS]:
        versions = ", ".join(entry.version for entry in entries)
        table.add_row(escape(name), escape(versions), units.bytes_(_size(entries)))
    if rest:
        table.add_row(units.count(len(rest), "smaller wheel"), "", units.bytes_(_size(rest)))
    console.print(table)
    whole = done.manifest
    parts = [
        f"{options.folder} holds {units.count(len(whole.wheels), 'wheel')} ({units.bytes_(_size(whole.wheels))}) for "
        f"{units.count(len(whole.commits), 'commit')} on {whole.platform} with Python {whole.python} ({whole.backend}), "
        f"{done.downloaded} of them downloaded now."
    ]
    if done.runner:
        parts.append(
            f"{options.folder / fill.RUNNER} holds {units.count(len(done.runner), 'wheel')} "
            f"({units.bytes_(_size(done.runner))}) that mlx-velocity itself needs."
        )
    inherit = " --inherit" if whole.left_out else ""
    parts.append(f"Copy it there, and then: mlx-velocity run --wheelhouse {options.folder.name}{inherit}")
    for part in parts:
        console.print(escape(part), highlight=False)


def _by_name(entries: Iterable[manifest.Entry]) -> dict[str, list[manifest.Entry]]:
    found = defaultdict(list)
    for entry in entries:
        found[entry.name].append(entry)
    return found


def _size(entries: Iterable[manifest.Entry]) -> int:
    return sum(entry.bytes for entry in entries)


class _Bar:
    """Which wheel comes, and how many of how many are there; a line each ten where nobody watches."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._bar = Progress(
            BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("[dim]{task.fields[text]}[/]"),
            console=console, transient=True, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", text="", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int, what: str) -> None:
        """Something begins."""
        self._bar.update(self._task, completed=done, total=total, text=escape(what[:60]))
        if not self._quiet and not self._console.is_terminal and done % 10 == 0:
            self._console.print(f"{done} of {total}: {escape(what)}", highlight=False)
