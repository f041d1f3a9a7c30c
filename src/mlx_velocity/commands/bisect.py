"""`mlx-velocity bisect`: which commit between a good and a bad one changed a case."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mlx_velocity import (
    ancestry,
    bisecting,
    bisections,
    culprits,
    environments,
    history,
    machine,
    readings,
    requirements,
    results,
    scheduler,
    sides,
    tracks,
    units,
)
from mlx_velocity import cases as case_list
from mlx_velocity.bisecting import Search, Stopped
from mlx_velocity.bisection import Bisection, Halt, Header, Point
from mlx_velocity.commands.bisect_progress import BisectProgress
from mlx_velocity.commands.compare import repository
from mlx_velocity.commands.run import DEFAULT_PROFILES
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError, VelocityError
from mlx_velocity.records import Case
from mlx_velocity.report import bisect as report
from mlx_velocity.report.text import clean
from mlx_velocity.search import Terms
from mlx_velocity.workers import LocalWorker, Worker, WorkerError

NAMED = 5
"""Cases that are listed where several match."""
SCALED = ("seconds", "bytes")
"""Units of which a ratio means something."""


@dataclass(frozen=True)
class BisectOptions:
    """What `bisect` was asked for."""

    good: str
    bad: str
    case: str
    profile: str | None
    machine: str | None
    terms: Terms
    seconds: float | None
    control: bool
    restart: bool
    quiet: bool
    repo: str | None = None
    config: str | None = None


def bisect(
    track: tracks.Track,
    options: BisectOptions,
    console: Console,
    start_worker: Callable[[Prepared], Worker] | None = None,
) -> Bisection:
    """Search until it is known which commit it was, or the budget is used; goes on where an earlier call ended.

    Raises InputError for wrong input, MeasurementError where an end can't be measured. Ctrl-C ends the search: what is
    known so far is returned, and kept.
    """
    repo_path = repository(track)
    whole = ancestry.path(repo_path, *(_end(repo_path, name) for name in (options.good, options.bad)))
    points = ancestry.changing(repo_path, whole, _measured_parts(track))
    good, bad = whole[0], whole[-1]
    if len(points) == 1:
        words = f"no commit from {good.commit[:8]} to {bad.commit[:8]} changes {', '.join(_measured_parts(track))}"
        raise InputError(words, "name other ends")
    backend = requirements.backend_here(track.settings.backend)
    profile = options.profile or DEFAULT_PROFILES[backend]
    case_list.check_profile(profile)
    folder = track.results_dir / str(machine.describe(options.machine)["machine"])

    def start(prepared: Prepared) -> Worker:
        return LocalWorker(prepared, {"MLX_VELOCITY_PROFILE": profile})

    def prepare(point: Point) -> Prepared:
        return environments.prepare(track, repo_path, point.commit)

    with results.lock(track.work_dir, track.name, folder.name):
        with console.status("environments of both ends …"):
            ends = _prepare_ends(points, prepare)
        case = _case(track, ends[0], profile, options.case)
        header = Header(
            track.name, folder.name, backend, profile, results.now(), secrets.randbelow(2**31), good, bad,
            case.benchmark, case.version, list(case.params), case.unit,
        )  # fmt: skip
        path = bisections.path_for(folder, header)
        if options.restart and (aside := bisections.set_aside(path)) and not options.quiet:
            console.print(f"The earlier search is kept as {aside.name}.", highlight=False)
        header, state = _state(path, header, points, case)
        if not options.quiet:
            _say_what(console, state, len(whole) - 1)
        stopped, interrupted = Stopped(state.decide(options.terms)), False
        before = culprits.time_used(state.records)
        try:
            with BisectProgress(console, options.quiet, state) as progress:
                stopped = bisecting.carry_out(
                    track, state, options.terms, _control(track, options, console), prepare=prepare,
                    start_worker=start_worker or start, record=lambda item: bisections.append(path, [item]),
                    seed=header.seed, seconds=options.seconds, say=progress,
                )  # fmt: skip
        except KeyboardInterrupt:
            interrupted, stopped = True, Stopped(state.decide(options.terms), "it was interrupted")
        used = culprits.time_used(state.records)
        asked = culprits.Asked(track.name, options.repo, options.config, profile)
        done = culprits.conclude(
            header, state, stopped, options.terms, len(whole) - 1, used, asked, interrupted
        )
        blamed = culprits.blamed(done)
        # An earlier version kept an answer without whom it named.
        if used > before or (blamed and bisections.answer(path)[1] != blamed):
            reason = "interrupted" if interrupted else stopped.reason or "answered"
            bisections.append(path, [Halt(round(used - before, 3), reason, blamed)])
    return done


def show(
    done: Bisection, markdown_to: str | None, json_to: str | None, quiet: bool, console: Console
) -> None:
    """Print the answer, and write the files that were asked for; raises InputError where that fails."""
    if not quiet:
        for line in filter(None, report.sentences(done)):
            console.print(line, highlight=False)
    for target, written in ((markdown_to, report.markdown), (json_to, report.document)):
        if target == "-":
            print(written(done), end="")
        elif target:
            readings.replace(Path(target).resolve(), written(done))


def _end(repo_path: str, name: str) -> history.Commit:
    """A commit, tag or branch; of the release history also `mlx==0.31.2`."""
    if name == sides.WORKING_TREE:
        raise InputError(
            "a working tree is no commit to search from", "commit it first, or: mlx-velocity compare"
        )
    package, is_version, version = name.partition("==")
    return history.one(repo_path, f"{package}-{version}" if is_version else name)


def _measured_parts(track: tracks.Track) -> list[str]:
    """The files and folders of a commit that its measurement depends on; none where it is built."""
    settings = track.settings
    return [*settings.overlay, *([settings.requirements] if settings.requirements else [])]


def _prepare_ends(points: list[Point], prepare: Callable[[Point], Prepared]) -> tuple[Prepared, Prepared]:
    ready = []
    for name, point in (("good", points[0]), ("bad", points[-1])):
        try:
            ready.append(prepare(point))
        except EnvironmentFailure as error:
            raise MeasurementError(
                f"the {name} end, {point.commit[:8]} ({point.subject}), has no environment: {error.message}",
                "name another commit",
            ) from error
    if sides.same(ready[0], ready[1]):
        raise InputError("both ends are the same code", "name ends of which one is slower")
    return ready[0], ready[1]


def _case(track: tracks.Track, prepared: Prepared, profile: str, wanted: str) -> Case:
    """The one case that is meant: by its whole name, or as the only one in the profile that matches."""
    try:
        benchmarks = scheduler.discover_in(prepared, track)
    except WorkerError as error:
        raise MeasurementError(
            f"the benchmarks can't be imported: {error.reason}", "run: asv check, or mend the suite"
        ) from error
    case_list.save(track, list(benchmarks.values()))
    timeout_s = float(track.conf.default_benchmark_timeout)
    found = [case for case in case_list.every(benchmarks.values(), None, timeout_s) if case.label == wanted]
    found = found or case_list.expand(benchmarks.values(), profile, wanted, timeout_s)
    if len(found) > 1:
        names = ", ".join(case.label for case in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InputError(f"'{wanted}' matches {len(found)} cases: {names}{more}", "name one of them in full")
    if found[0].unit not in SCALED:
        raise InputError(
            f"{found[0].label} is measured in {found[0].unit}", f"choose a case in {' or '.join(SCALED)}"
        )
    return found[0]


def _state(path: Path, header: Header, points: list[Point], case: Case) -> tuple[Header, Search]:
    """What an earlier call left, or a new file."""
    if not bisections.is_begun(path):
        bisections.append(path, [header])
        return header, Search(points, case)
    stored = bisections.read(path)
    kept = [item for item in stored.records if not isinstance(item, (Header, Halt))]
    return stored.header, Search(points, case, kept)


def _say_what(console: Console, state: Search, path: int) -> None:
    good, bad = state.points[0], state.points[-1]
    among = units.count(path, "commit")
    if state.last != path:
        among += f", {state.last} of which change what is measured"
    first, last = (escape(report.named(point)) for point in (good, bad))
    console.print(f"{escape(clean(state.case.label))}: {first} … {last}, {among}.", highlight=False)
    if any(point.parents > 1 for point in state.points[1:]):
        console.print("Merged branches count as one commit each, along first parents.", highlight=False)
    if pairs := len(state.pairs):
        console.print(
            f"Going on behind {units.count(pairs, 'pair')} of launches (--restart begins anew).",
            highlight=False,
        )


def _control(track: tracks.Track, options: BisectOptions, console: Console) -> Prepared | None:
    if not options.control:
        return None
    try:
        return sides.control(track)
    except VelocityError as error:
        console.print(
            f"[yellow]no control, the machine is judged by its counters alone[/]: {escape(error.message)}",
            highlight=False,
        )
        return None


def terms(confidence: float, threshold: float, max_samples: int | None, **keys: Any) -> Terms:
    """What a search promises, from what was typed: per cents, and samples of two a pair."""
    from mlx_velocity.verdict import Rule

    most = Terms().most_pairs if max_samples is None else max_samples // 2
    return Terms(Rule(threshold=threshold / 100), confidence / 100, most, **keys)
