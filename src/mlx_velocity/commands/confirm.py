"""`mlx-velocity history --confirm`: more launches of what stands on too few points, there and at the commit before it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from mlx_velocity import cases as case_list
from mlx_velocity import (
    chronicle,
    environments,
    history,
    machine,
    records,
    requirements,
    results,
    scheduler,
    tracks,
    units,
)
from mlx_velocity.commands.progress import RunProgress
from mlx_velocity.commands.run import keep_machine, open_results, summary_line
from mlx_velocity.errors import InputError, Interrupted
from mlx_velocity.history_report import CaseHistory, HistoryReport, Shift

MORE = 3
"""Launches beside those that are there; more where that is not enough to confirm anything."""


def confirm(
    track: tracks.Track,
    told: HistoryReport,
    console: Console,
    quiet: bool,
    start_worker: scheduler.StartWorker | None = None,
) -> scheduler.Summary | None:
    """Measure again, on this machine, what is unconfirmed; None where nothing is.

    The two commits of a change take turns, launch by launch, so that drift of the machine hits both. Raises
    InputError where only other machines have something to confirm.
    """
    here = str(machine.describe()["machine"])
    backend = requirements.backend_here(track.settings.backend)
    environment = environments.name_of(track, environments.pythons(track), backend)
    waiting = [(case, shift) for case, shift in told.shifts() if shift.state == "unconfirmed"]
    own = [pair for pair in waiting if (pair[0].machine, pair[0].environment) == (here, environment)]
    others = sorted(
        {f"{case.machine} in {case.environment}" for case, _ in waiting} - {f"{here} in {environment}"}
    )
    if not own:
        if others:
            raise InputError(
                f"nothing is unconfirmed on {here} in {environment}, but on {', '.join(others)}",
                "run mlx-velocity history --confirm there",
            )
        return None
    if others and not quiet:
        console.print(
            f"[yellow]not here[/]: more is unconfirmed on {escape(', '.join(others))}.", highlight=False
        )
    folder = track.results_dir / here
    repo_path = str(tracks.open_repo(track)._path)
    with results.lock(track.work_dir, track.name, here):
        pairs = _by_commits(own)
        commits = {name: history.one(repo_path, name) for pair in pairs for name in pair}
        fields = keep_machine(folder, machine.describe())
        benchmarks = scheduler.discover(track, repo_path, list(commits.values()), start_worker)
        listed = {
            case.key: case
            for case in case_list.every(
                benchmarks.values(), None, float(track.conf.default_benchmark_timeout)
            )
        }
        stored = {
            name: open_results(track, commit, folder, fields, backend) for name, commit in commits.items()
        }
        plans = [
            plan
            for (before, after), cases in pairs.items()
            for plan in turns(
                (stored[before], commits[before]),
                (stored[after], commits[after]),
                [listed[key] for key in cases if key in listed],
            )
        ]
        total = sum(plan.size for plan in plans)
        if not quiet:
            console.print(
                f"Confirming {units.count(len(own), 'change')} at {units.count(len(commits), 'commit')} on {here}: "
                f"{total:,} case launches.",
                highlight=False,
            )
        try:
            with RunProgress(console, quiet) as progress:
                summary = scheduler.run_plans(
                    track,
                    repo_path,
                    plans,
                    benchmarks,
                    profile="all",
                    say=progress,
                    start_worker=start_worker,
                )
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted", "what was measured is kept; run the same again to go on"
            ) from None
    summary.commits = len(commits)
    if not quiet:
        console.print(summary_line(summary), highlight=False)
    return summary


def outcome(before: HistoryReport, after: HistoryReport) -> str:
    """What became of what was unconfirmed, in a sentence."""
    waited = {shift.id for _, shift in before.shifts() if shift.state == "unconfirmed"}
    states = {shift.id: shift.state for _, shift in after.shifts()}
    still = sum(states.get(name) == "unconfirmed" for name in waited)
    gone = sum(name not in states for name in waited)
    return (
        f"Of {units.count(len(waited), 'unconfirmed change')} {len(waited) - still - gone} confirmed, {gone} gone with more "
        f"launches, {still} still unconfirmed."
    )


def _by_commits(
    own: Sequence[tuple[CaseHistory, Shift]],
) -> dict[tuple[str, str], list[tuple[str, str, tuple[str, ...]]]]:
    """The commits before and at a change → the cases that changed there."""
    found: dict[tuple[str, str], list[tuple[str, str, tuple[str, ...]]]] = {}
    for case, shift in own:
        before = case.points[shift.index - 1].commit
        found.setdefault((before, shift.commit.hash), []).append(
            (case.benchmark, case.version, tuple(case.params))
        )
    return found


def turns(
    before: tuple[results.CommitResults, history.Commit],
    after: tuple[results.CommitResults, history.Commit],
    cases: Sequence[records.Case],
) -> list[scheduler.Plan]:
    """One launch of each commit at a time, in the order ABBA, until each case has enough on both sides."""
    needed = {
        case.key: max(
            chronicle.CONFIRMING, *(stored.launches_done(case) + MORE for stored, _ in (before, after))
        )
        for case in cases
    }
    plans = []
    missing = [
        (
            side,
            {
                case.key: needed[case.key] - side[0].launches_done(case)
                for case in cases
                if not side[0].settled(case)
            },
        )
        for side in (before, after)
    ]
    most = max((count for _, counts in missing for count in counts.values()), default=0)
    for number in range(most):
        for (stored, commit), counts in missing[:: 1 if number % 2 == 0 else -1]:
            planned = [case for case in cases if counts.get(case.key, 0) > number]
            if planned:
                plans.append(scheduler.Plan(commit, stored, [planned]))
    return plans
