"""`mlx-velocity compare`: base against head, interleaved, with a verdict per case."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mlx_velocity import cases as case_list
from mlx_velocity import (
    changes,
    comparisons,
    history,
    interleave,
    judge,
    kernels,
    machine,
    markers,
    readings,
    records,
    requirements,
    results,
    scheduler,
    sides,
    tracks,
    units,
)
from mlx_velocity.commands.progress import CompareProgress
from mlx_velocity.commands.run import DEFAULT_PROFILES
from mlx_velocity.comparison import Break, Comparison, End, Header, PairReading, Side
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError, VelocityError
from mlx_velocity.report import document, markdown, text
from mlx_velocity.store.files import no_garbage
from mlx_velocity.verdict import Rule
from mlx_velocity.workers import LocalWorker, Worker, WorkerError


@dataclass(frozen=True)
class CompareOptions:
    """What `compare` was asked for."""

    base: str | None
    head: str | None
    merge_base: bool
    profile: str | None
    bench: str | None
    machine: str | None
    rule: Rule
    budget: interleave.Budget
    force: bool
    control: bool
    quiet: bool


def compare(track: tracks.Track, options: CompareOptions, console: Console) -> Comparison:
    """Measure both sides until every case is decided or the budget is used.

    Raises InputError for wrong input, MeasurementError where a side can't be measured at all. Ctrl-C
    ends the measuring: what is decided so far is returned, and kept.
    """
    began = time.monotonic()
    repo_path = repository(track)
    targets = _targets(track, repo_path, options)
    backend = requirements.backend_here(track.settings.backend)
    profile = options.profile or DEFAULT_PROFILES[backend]
    case_list.check_profile(profile)
    description = machine.describe(options.machine)
    folder = track.results_dir / str(description["machine"])

    def start(prepared: Prepared) -> Worker:
        return LocalWorker(prepared, {"MLX_VELOCITY_PROFILE": profile})

    with results.lock(track.work_dir, track.name, folder.name):
        prepared = _prepare(track, repo_path, targets, start, profile, options, console)
        if sides.same(*prepared) and not options.force:
            raise InputError(
                f"{targets[0].name} and {targets[1].name} are the same code",
                "compare it with itself by adding --force",
            )
        benchmarks, cases = _cases(track, prepared[0], profile, options)
        for target, side in zip(targets, prepared, strict=True):
            with console.status(f"kernels of {escape(target.name)} …"):
                kernels.compile_ahead(track, side, cases, start)
        header = Header(
            track.name, folder.name, backend, profile, results.now(), options.rule.threshold,
            options.rule.error_rate, secrets.randbelow(2**31),
            *(_side(target, side) for target, side in zip(targets, prepared, strict=True)),
        )  # fmt: skip
        control = _control(track, options)
        path = comparisons.path_for(folder / comparisons.FOLDER, header)
        comparisons.append(path, [header])
        kept: list[PairReading | Break] = []

        def record(reading: PairReading | Break) -> None:
            comparisons.append(path, [reading])
            kept.append(reading)

        subjects = [interleave.Subject(case) for case in cases]
        if not options.quiet:
            console.print(
                f"Comparing {units.count(len(cases), 'case')} of profile {profile}: {escape(targets[0].name)} "
                f"({escape(targets[0].subject)}) → {escape(targets[1].name)} ({escape(targets[1].subject)}) on "
                f"{folder.name} ({backend}).",
                highlight=False,
            )
        interrupted = False
        try:
            both = f"{targets[0].name} → {targets[1].name}"
            with CompareProgress(console, options.quiet) as progress, markers.mark(both, "commit"):
                interleave.compare(
                    track, prepared, control, subjects, options.rule, options.budget,
                    start_worker=start, record=record, seed=header.seed, say=progress,
                )  # fmt: skip
        except KeyboardInterrupt:
            interrupted = True
        wall_s = time.monotonic() - began
        comparisons.append(path, [End(round(wall_s, 3), interrupted)])
    pairs = [item for item in kept if isinstance(item, PairReading)]
    breaks = [item for item in kept if isinstance(item, Break)]
    return judge.judge(header, pairs, breaks, tokens(cases, benchmarks), wall_s, interrupted)


def stored(track: tracks.Track, options: CompareOptions) -> Comparison:
    """The newest stored comparison (of the named sides, where they are named); measures nothing.

    Raises InputError where there is none, or it can't be read.
    """
    folder = track.results_dir / str(machine.describe(options.machine)["machine"]) / comparisons.FOLDER
    for path in comparisons.newest_first(folder, options.base, options.head):
        try:
            with no_garbage():
                found = comparisons.read(path)
        except InputError as error:
            # One broken file must not hide the good ones before it.
            _warn("passed over", str(error))
            continue
        header = found.header
        if not found.pairs and not found.breaks:
            continue
        if options.base in (None, header.base.name) and options.head in (None, header.head.name):
            for _, reason in found.bad:
                _warn(f"a line of {path.name} is not readable", reason)
            done = judge.of_file(found, _known_tokens(track))
            # Judged as it was measured, all cases together; shown in part.
            wanted = case_list.compile_pattern(options.bench)
            return dataclasses.replace(done, cases=[case for case in done.cases if wanted.search(case.label)])
    named = "".join(f" of {name}" for name in (options.base, options.head) if name)
    raise InputError(
        f"no comparison{named} is stored in {folder.parent.name}/{comparisons.FOLDER}", "measure one: leave out --from-results"
    )  # fmt: skip


def _known_tokens(track: tracks.Track) -> dict[tuple[str, tuple[str, ...]], int]:
    try:
        benchmarks = case_list.load(track)
    except InputError:
        # Only the view in tokens/s is lost.
        return {}
    return tokens(case_list.every(benchmarks.values(), None, 0.0), benchmarks)


def _warn(what: str, why: str) -> None:
    """Beside the output, not in it: that may be JSON."""
    Console(stderr=True).print(f"[yellow]{escape(what)}[/]: {escape(why)}", highlight=False)


def tokens(
    cases: list[records.Case], benchmarks: dict[str, dict[str, Any]]
) -> dict[tuple[str, tuple[str, ...]], int]:
    """Tokens that one call handles, by benchmark and parameters, for the cases that handle tokens."""
    found = {
        (case.benchmark, case.params): changes.tokens_of(case, benchmarks[case.benchmark]) for case in cases
    }
    return {key: count for key, count in found.items() if count}


def repository(track: tracks.Track) -> str:
    """A clone at hand is used as it is, working tree and all; anything else is asv's clone of it."""
    if track.conf.dvcs != "releases" and (Path(track.conf.repo) / ".git").exists():
        history.check(track.conf.repo)
        return str(track.conf.repo)
    repo = tracks.open_repo(track)
    tracks.fetch(repo)
    return str(repo._path)


def _targets(
    track: tracks.Track, repo_path: str, options: CompareOptions
) -> tuple[sides.Target, sides.Target]:
    base, head, merge_base = options.base, options.head, options.merge_base
    if base is None:
        if not track.settings.overlay:
            raise InputError(
                "what is to be compared?",
                "name two commits, tags or versions, such as: mlx-velocity compare mlx==0.32.3 mlx==0.32.4",
            )
        base, merge_base = history.default_branch(repo_path), True
    if head is None:
        here = track.settings.overlay and history.is_dirty(repo_path)
        head = sides.WORKING_TREE if here else "HEAD" if track.settings.overlay else "main"
    found = sides.resolve(track, repo_path, base, head, merge_base)
    first, second = found
    if (
        (first.commit, first.versions) == (second.commit, second.versions)
        and first.commit
        and not options.force
    ):
        raise InputError(
            f"both sides are {first.commit.short} ({first.commit.subject})",
            "compare it with itself by adding --force",
        )
    return found


def _prepare(
    track: tracks.Track,
    repo_path: str,
    targets: tuple[sides.Target, sides.Target],
    start: Any,
    profile: str,
    options: CompareOptions,
    console: Console,
) -> tuple[Prepared, Prepared]:
    """Both environments; where one can't be had, the other side's numbers are shown and MeasurementError raised."""
    ready: list[Prepared] = []
    problems: list[EnvironmentFailure] = []
    for target in targets:
        with console.status(f"environment of {escape(target.name)} …"):
            try:
                ready.append(sides.prepare(track, repo_path, target))
            except EnvironmentFailure as error:
                problems.append(error)
                _warn(f"{target.name} has no environment", error.message)
    if not problems:
        return ready[0], ready[1]
    if ready and not options.quiet:
        with contextlib.suppress(VelocityError):
            _alone(track, ready[0], start, profile, options, console)
    raise MeasurementError(
        f"{units.count(len(problems), 'side')} of the comparison can't be measured: {problems[0].message}",
        "name another commit or version",
    )


def _alone(
    track: tracks.Track,
    prepared: Prepared,
    start: Any,
    profile: str,
    options: CompareOptions,
    console: Console,
) -> None:
    """One launch of the side that works, as numbers without a verdict."""
    _, cases = _cases(track, prepared, profile, options)
    for case in cases:
        try:
            with contextlib.closing(start(prepared)) as worker:
                scheduler.open_launch(worker, prepared)
                answer = worker.request(scheduler.measure_message(track, case), case.timeout_s)
        except WorkerError as error:
            console.print(f"  {escape(case.label)}: {escape(error.reason)}", highlight=False)
            continue
        if "samples" in answer:
            middle = statistics.median(answer["samples"])
            console.print(f"  {escape(case.label)}: {units.quantity(middle, case.unit)}", highlight=False)


def _cases(
    track: tracks.Track, prepared: Prepared, profile: str, options: CompareOptions
) -> tuple[dict[str, dict[str, Any]], list[records.Case]]:
    try:
        benchmarks = scheduler.discover_in(prepared, track)
    except WorkerError as error:
        raise MeasurementError(
            f"the benchmarks can't be imported: {error.reason}", "run: asv check, or mend the suite"
        ) from error
    case_list.save(track, list(benchmarks.values()))
    timeout_s = float(track.conf.default_benchmark_timeout)
    return benchmarks, case_list.expand(benchmarks.values(), profile, options.bench, timeout_s)


def _control(track: tracks.Track, options: CompareOptions) -> Prepared | None:
    if not options.control:
        return None
    try:
        return sides.control(track)
    except VelocityError as error:
        _warn("no control, the machine is judged by its counters alone", error.message)
        return None


def _side(target: sides.Target, prepared: Prepared) -> Side:
    packages = prepared.record.packages
    modules = {name: packages.get(name.partition(".")[0].replace("_", "-"), "") for name in prepared.modules}
    return Side(
        target.name, target.commit.hash if target.commit and not target.versions else "", target.subject,
        prepared.record, modules,
    )  # fmt: skip


def show(
    done: Comparison, options: CompareOptions, markdown_to: str | None, json_to: str | None, console: Console
) -> None:
    """Print the verdicts, and write the files that were asked for; raises InputError where that fails."""
    if not options.quiet:
        console.print(text.comparison_table(done))
        for sentence in text.comparison_summary(done):
            console.print(sentence, highlight=False)
    for target, written in ((markdown_to, markdown.comparison), (json_to, document.comparison)):
        if target == "-":
            print(written(done))
        elif target:
            readings.replace(Path(target).resolve(), written(done))
