"""`mlx-velocity run`: measure what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import cases as case_list
from mlx_velocity import (
    environments,
    history,
    machine,
    readings,
    requirements,
    results,
    scheduler,
    tracks,
    units,
)
from mlx_velocity.commands.progress import RunProgress
from mlx_velocity.errors import InputError, Interrupted, MeasurementError


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


DEFAULT_PROFILES = {"cpu": "tiny", "metal": "small", "cuda": "standard"}


def run(track: tracks.Track, options: RunOptions, console: Console) -> scheduler.Summary:
    """Measure the missing cases of a range; raises MeasurementError where something failed."""
    repo = tracks.open_repo(track)
    repo_path = str(repo._path)
    if problem := tracks.fetch(repo):
        console.print(f"[yellow]not fetched[/]: {escape(problem)}", highlight=False)
    backend = requirements.backend_here(track.settings.backend)
    profile = options.profile or DEFAULT_PROFILES[backend]
    case_list.check_profile(profile)
    description = machine.describe(options.machine)
    folder = track.results_dir / str(description["machine"])
    with results.lock(track.work_dir, track.name, folder.name):
        commits = _commits(track, repo_path, options, folder)
        found = scheduler.discover(track, repo_path, commits)
        timeout_s = float(track.conf.default_benchmark_timeout)
        cases = case_list.expand(found.values(), profile, options.bench, timeout_s)
        if options.list_only:
            for case in cases:
                console.print(escape(case.label), highlight=False)
            return scheduler.Summary()
        description = keep_machine(folder, description)
        plans = []
        for commit in commits:
            stored = open_results(track, commit, folder, description, backend)
            for note in stored.set_aside:
                console.print(
                    f"[yellow]set aside[/] {escape(note.file)}: {escape(note.reason)}", highlight=False
                )
            stored.restore(found)
            if options.retry_failed:
                stored.forget_failures()
            plans.append(scheduler.plan(stored, commit, cases, options.launches))
        if options.range == "NEW":
            plans = [plan for plan in plans if plan.size]
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
            with RunProgress(console, options.quiet) as progress:
                summary = scheduler.run_plans(track, repo_path, plans, found, profile=profile, say=progress)
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
    return f"{', '.join(parts)} ({share:.0%} of the time inside timed samples)."


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
    commits = history.select(repo_path, spec, track.conf.branches, results.measured_commits(folder))
    if options.steps and options.steps < len(commits):
        last = len(commits) - 1
        picks = {round(index * last / max(1, options.steps - 1)) for index in range(options.steps)}
        commits = [commit for index, commit in enumerate(commits) if index in picks]
    return commits


def keep_machine(folder: Path, description: dict[str, str | int]) -> dict[str, str | int]:
    """The stored description of this machine, written the first time.

    What is stored counts: a byte of memory more or less would start another series. Raises
    InputError where the name belongs to another machine, which would mix two series.
    """
    stored = machine.load(folder)
    if stored is None:
        readings.replace(folder / "machine.json", machine.text_of(description))
        return description
    for key in ("arch", "cpu", "num_cpu", "gpu"):
        # What stock asv stored may lack fields: only what it says can contradict.
        was, now = str(stored.get(key, description[key])), str(description[key])
        if was != now:
            raise InputError(
                f"the results of {folder.name} come from another machine: {key} was '{was}' and is '{now}'",
                "give this one a name of its own with --machine NAME",
            )
    return {key: value for key, value in stored.items() if key != "version"}
