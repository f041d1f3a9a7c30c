"""`mlx-velocity run`: measure what is missing."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import (
    archive,
    environments,
    history,
    installed,
    kernels,
    machine,
    readings,
    records,
    requirements,
    results,
    scheduler,
    sides,
    tracks,
    units,
)
from mlx_velocity import cases as case_list
from mlx_velocity.commands.progress import RunProgress
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import InputError, Interrupted, MeasurementError, VelocityError
from mlx_velocity.launches import Control
from mlx_velocity.offline import manifest
from mlx_velocity.store.complete import Complete
from mlx_velocity.workers import LocalWorker, WorkerError


@dataclass(frozen=True)
class RunOptions:
    """What `run` was asked for."""

    range: str
    profile: str | None
    bench: str | None
    machine: str | None
    launches: int | None
    steps: int | None
    retry_failed: bool
    list_only: bool
    quiet: bool
    control: bool = True


DEFAULT_PROFILES = {"cpu": "tiny", "metal": "small", "cuda": "standard"}
CONTROL_EVERY_S = 5.0
"""The fixed probe is read at most this often: a reading takes a tenth of a second."""


def run(track: tracks.Track, options: RunOptions, console: Console) -> scheduler.Summary:
    """Measure the missing cases of a range; raises MeasurementError where something failed."""
    repo = tracks.open_repo(track)
    repo_path = str(repo._path)
    if problem := tracks.fetch(repo):
        console.print(f"[yellow]not fetched[/]: {escape(problem)}", highlight=False)
    if cut := history.check(repo_path):
        console.print(f"[yellow]note[/]: {escape(cut)}", highlight=False)
    backend = requirements.backend_here(track.settings.backend)
    profile = options.profile or DEFAULT_PROFILES[backend]
    case_list.check_profile(profile)
    description = machine.describe(options.machine)
    folder = track.results_dir / str(description["machine"])
    if options.list_only:
        _list(track, repo_path, profile, options, folder, console)
        return scheduler.Summary()
    with results.lock(track.work_dir, track.name, folder.name):
        commits = _commits(track, repo_path, options, folder)

        def say(text: str) -> None:
            if not options.quiet:
                console.print(f"[dim]{escape(text)}[/]", highlight=False)

        # The first environment may take long: a project that is built is built here.
        found = scheduler.discover(track, repo_path, commits, say=say)
        timeout_s = float(track.conf.default_benchmark_timeout)
        cases = case_list.expand(found.values(), profile, options.bench, timeout_s)
        description = keep_machine(folder, description)
        plans, name = [], environments.name_of(track, environments.pythons(track), backend)
        complete = Complete(track, folder, name, cases, options.launches)
        for commit in commits:
            if complete.holds(commit.hash) and not options.retry_failed:
                continue
            mark = complete.mark(commit.hash)
            stored = open_results(track, commit, folder, description, backend)
            for note in stored.set_aside:
                console.print(
                    f"[yellow]set aside[/] {escape(note.file)}: {escape(note.reason)}", highlight=False
                )
            stored.restore(found)
            if options.retry_failed:
                stored.forget_failures()
            planned = scheduler.plan(stored, commit, cases, options.launches)
            if planned.size:
                plans.append(planned)
            else:
                complete.add(commit.hash, mark)
            stored.let_go()
        complete.save()
        total = sum(plan.size for plan in plans)
        if not total:
            if not options.quiet:
                console.print(
                    f"Nothing to measure: what {units.count(len(cases), 'case')} of profile {profile} can say about "
                    f"{units.count(len(commits), 'commit')} is stored for {folder.name}."
                )
            return scheduler.Summary()
        if not options.quiet:
            console.print(
                f"Measuring {units.count(len(cases), 'case')} of profile {profile} at "
                f"{units.count(sum(bool(p.size) for p in plans), 'commit')} of track {track.name} on "
                f"{folder.name} ({backend}): {total:,} case launches."
            )
        try:
            start = functools.partial(LocalWorker, extra_variables={"MLX_VELOCITY_PROFILE": profile})
            fixed = _control(track, console) if options.control else None
            with (
                RunProgress(console, options.quiet) as progress,
                Control(fixed, start, time.monotonic, CONTROL_EVERY_S) as control,
            ):
                summary = scheduler.run_plans(
                    track,
                    repo_path,
                    plans,
                    found,
                    profile=profile,
                    say=progress,
                    control=lambda: control.read()[0],
                    ahead=lambda prepared, cases, say: kernels.compile_ahead(
                        track, prepared, cases, start, say
                    ),
                )
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted", "what was measured is kept; run the same again to go on"
            ) from None
    if not options.quiet:
        console.print(summary_line(summary), highlight=False)
    if summary.failed or summary.environments_failed:
        raise MeasurementError(
            f"{summary.failed} case launches and {summary.environments_failed} environments failed; the rest is stored",
            "see the reasons above; try them again with --retry-failed",
        )
    return summary


def _control(track: tracks.Track, console: Console) -> Prepared | None:
    """The environment of the fixed probe; nothing, with a note, where it can't be had."""
    try:
        return sides.control(track)
    except VelocityError as error:
        console.print(f"[yellow]no control[/]: {escape(error.message)}", highlight=False)
        return None


def summary_line(summary: scheduler.Summary) -> str:
    """One line that says what a run did."""
    share = summary.timed_s / summary.wall_s if summary.wall_s else 0.0
    parts = [
        f"{summary.measured:,} case launches measured at {units.count(summary.commits, 'commit')} in "
        f"{units.clock(summary.wall_s)}"
    ]
    parts += [f"{summary.skipped} skipped"] if summary.skipped else []
    parts += [f"{summary.failed} failed"] if summary.failed else []
    parts += (
        [f"{units.count(summary.environments_failed, 'environment')} failed"]
        if summary.environments_failed
        else []
    )
    return f"{', '.join(parts)} ({share * 100:.0f} % of the time inside timed samples)."


def open_results(
    track: tracks.Track,
    commit: history.Commit,
    folder: Path,
    description: dict[str, str | int],
    backend: str,
    read_only: bool = False,
) -> results.CommitResults:
    """What is stored of a commit on this machine."""
    python = environments.pythons(track)
    series = environments.series(track, backend)
    params = {**{key: str(value) for key, value in description.items()}, "python": python, **series}
    name = environments.name_of(track, python, backend)
    return results.CommitResults(folder, params, series, commit.hash, commit.date_s, name, python, read_only)


def _commits(track: tracks.Track, repo_path: str, options: RunOptions, folder: Path) -> list[history.Commit]:
    # NEW asks of every commit what it lacks: an interrupted one is not new to asv, but not done either.
    spec = "ALL" if options.range == "NEW" else options.range
    measured = archive.measured_commits(folder) if spec == "EXISTING" else set()
    commits = history.select(repo_path, spec, track.conf.branches, measured)
    if options.range == "NEW" and (filled := _filled_for(track)):
        commits = [commit for commit in commits if commit.hash in filled]
        if not commits:
            raise InputError(
                "the wheelhouse was filled for no commit of this track",
                "name a range, or fill one for this track",
            )
    if options.steps and options.steps < len(commits):
        last = len(commits) - 1
        picks = {round(index * last / max(1, options.steps - 1)) for index in range(options.steps)}
        commits = [commit for index, commit in enumerate(commits) if index in picks]
    return commits


def _filled_for(track: tracks.Track) -> list[str]:
    """The commits that the track's wheelhouse was filled for; none where nobody says so."""
    known = manifest.read(Path(track.settings.wheelhouse)) if track.settings.wheelhouse else None
    return known.commits if known else []


def _list(
    track: tracks.Track, repo_path: str, profile: str, options: RunOptions, folder: Path, console: Console
) -> None:
    """The cases, one a line; how many launches and how much time that is goes to standard error."""
    try:
        # Finding cases needs no MLX: no environment is made for a look.
        found = scheduler.discover_in(installed.here(), track)
    except WorkerError:
        found = scheduler.discover(track, repo_path, _commits(track, repo_path, options, folder))
    cases = case_list.expand(
        found.values(), profile, options.bench, float(track.conf.default_benchmark_timeout)
    )
    for case in cases:
        console.print(escape(case.label), highlight=False)
    launches = sum(options.launches or case.launches for case in cases)
    known = _seconds_a_launch(folder, cases)
    took = ""
    if len(known) > len(cases) / 2:
        seconds = sum(known.get(case.key, 0.0) * (options.launches or case.launches) for case in cases)
        part = f" for {len(known)} of them" if len(known) < len(cases) else ""
        took = f"; {units.clock(seconds)} a commit{part}, by what is stored for {folder.name}"
    Console(stderr=True).print(
        f"{units.count(len(cases), 'case')} of profile {profile}: {launches:,} case launches a commit{took}.",
        highlight=False,
        soft_wrap=True,
    )


def _seconds_a_launch(
    folder: Path, cases: list[records.Case]
) -> dict[tuple[str, str, tuple[str, ...]], float]:
    """What a launch of each case took on this machine when it was measured last."""
    wanted = {case.key for case in cases}
    taken: dict[tuple[str, str, tuple[str, ...]], tuple[str, float]] = {}
    for path in folder.glob(f"*{readings.SUFFIX}"):
        for item in readings.read(path)[0]:
            if isinstance(item, records.Measurement):
                key = (item.benchmark, item.version, tuple(item.params))
                if key in wanted and item.started > taken.get(key, ("", 0.0))[0]:
                    taken[key] = (item.started, item.duration_s)
    return {key: seconds for key, (_, seconds) in taken.items()}


def keep_machine(folder: Path, description: dict[str, str | int]) -> dict[str, str | int]:
    """The stored description of this machine, written the first time.

    What is stored counts: a byte of memory more or less would start another series. Raises
    InputError where the name belongs to another machine, which would mix two series.
    """
    stored = machine.load(folder)
    if stored is None:
        readings.replace(folder / "machine.json", machine.text_of(description))
        return description
    if wrong := machine.contradiction(stored, description):
        raise InputError(
            f"the results of {folder.name} come from another machine: {wrong}",
            "give this one a name of its own with --machine NAME",
        )
    return {key: value for key, value in stored.items() if key != "version"}
