"""`mlx-velocity history`: what the stored results say over time, and what is decided about regressions."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mlx_velocity import (
    archive,
    cases,
    chronicle,
    history,
    readings,
    regressions,
    results,
    told,
    tracks,
)
from mlx_velocity.commands.counting import Tell
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.history_report import CaseHistory, HistoryReport, MachineHistory, Shift, Unread
from mlx_velocity.report import history as written
from mlx_velocity.report import history_markdown, sparkline
from mlx_velocity.store.files import no_garbage
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.reading import processes

PIPE_ROWS = 24
"""Cases of a machine where there is no screen to fit."""


@dataclass(frozen=True)
class HistoryOptions:
    """What `history` was asked for."""

    case: str | None = None
    """Regular expression; None for all."""
    since: str | None = None
    machine: str | None = None
    """None for all that have results."""
    branch: str | None = None
    """None for the first of the configuration."""
    only_regressions: bool = False


def tell(track: tracks.Track, options: HistoryOptions, progress: Tell | None = None) -> HistoryReport:
    """The history of a track; measures nothing, and writes nothing but what it keeps for the next time. `progress` hears
    what is done, how much of it, and of how much.

    Raises InputError where there are no results, or a machine, branch, commit or case is unknown, and
    MeasurementError where no stored file can be read.
    """
    wanted = cases.compile_pattern(options.case)
    names = _machines(track, options.machine)
    unread: list[Unread] = []
    marks, bad = regressions.read(track.results_dir)
    unread += [Unread(regressions.NAME, reason) for _, reason in bad]
    benchmarks = _benchmarks(track, unread)
    repo_path = str(tracks.open_repo(track)._path)
    branch = options.branch or track.conf.branches[0] or "HEAD"
    commits = history.line(repo_path, branch)
    since = history.place_since(repo_path, commits, options.since) if options.since else 0
    line = chronicle.Line(commits, since)
    reading = _part(progress, "reading results")
    with no_garbage(), processes() as pool, _index(track, pool, reading) as index:
        telling = told.Telling(
            track.name, index, line, benchmarks, marks, functools.partial(history.resolved, repo_path), pool,
            _part(progress, "finding changes"),
        )  # fmt: skip
        machines = [told.machine(telling, name) for name in names]
    if unread:
        machines[0] = dataclasses.replace(machines[0], unread=[*unread, *machines[0].unread])
    if not any(item.commits for item in machines):
        raise _nothing(track, branch, machines)
    report = HistoryReport(track.name, branch, options.case or "", options.since or "", machines)
    if options.case is not None:
        report = _narrowed(report, lambda case: bool(wanted.search(case.label)))
        if not any(item.cases for item in report.machines):
            raise _no_case(options.case, machines)
    if options.only_regressions:
        report = _regressions_alone(report)
    return report


def show(
    told: HistoryReport,
    markdown_to: str | None,
    json_to: str | None,
    quiet: bool,
    console: Console,
    repo: str | None = None,
) -> int:
    """Print the history, or write the files that were asked for; returns the exit code of the program. `repo` is the
    repository that was named, for the commands that are printed.

    Raises InputError where a file can't be written.
    """
    for target, write in ((markdown_to, history_markdown.markdown), (json_to, written.document)):
        if target == "-":
            print(write(told), end="")
        elif target:
            readings.replace(Path(target).resolve(), write(told))
    if not quiet and "-" not in (markdown_to, json_to):
        signs = sparkline.BLOCKS if sparkline.can_write(console.encoding) else sparkline.ASCII
        with console.capture() as captured:
            rows = max((console.height - 10) // 2, 6) if console.is_terminal else PIPE_ROWS
            for part in written.text_of(told, signs, rows, console.width, repo):
                whole = isinstance(part, Text) and bool(part.no_wrap)
                console.print(part, highlight=False, soft_wrap=whole)
        said = captured.get()
        print(said if signs == sparkline.BLOCKS else sparkline.plain(said, console.encoding), end="")
    return told.exit_code


# What is stored


def _machines(track: tracks.Track, name: str | None) -> list[str]:
    names = archive.machines(track.results_dir)
    if not names:
        raise InputError(f"there are no results in track {track.name}", "measure first: mlx-velocity run")
    if name is not None and name not in names:
        raise InputError(
            f"there are no results of machine {name} in track {track.name}",
            f"the machines with results are: {', '.join(names)}",
        )
    return names if name is None else [name]


def _benchmarks(track: tracks.Track, unread: list[Unread]) -> dict[str, dict[str, Any]]:
    try:
        return cases.load(track)
    except InputError as error:
        # The numbers are in the results: only tokens/s and the order of the suite are lost.
        unread.append(Unread("benchmarks.json", error.message))
        return {}


def _part(progress: Tell | None, what: str) -> told.Progress:
    return lambda done, of: progress(what, done, of) if progress else None


@contextlib.contextmanager
def _index(track: tracks.Track, pool: Executor, progress: told.Progress) -> Iterator[StoreIndex]:
    """The index of what is stored; one for this time alone where nothing can be kept."""
    with contextlib.ExitStack() as stack:
        try:
            index = StoreIndex(track, pool, progress, undescribed=True)
        except InputError:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            index = StoreIndex(
                dataclasses.replace(track, root=Path(folder)), pool, progress, undescribed=True
            )
        yield stack.enter_context(index)


def _nothing(
    track: tracks.Track, branch: str, machines: list[MachineHistory]
) -> InputError | MeasurementError:
    unread = [item for machine_ in machines for item in machine_.unread]
    elsewhere = sum(item.elsewhere + item.unknown for item in machines)
    if unread and not elsewhere:
        return MeasurementError(
            f"no result of track {track.name} can be read, the first because of: {unread[0].reason}",
            "see all with: mlx-velocity validate",
        )
    if elsewhere:
        return InputError(
            f"none of the {elsewhere} measured commits of track {track.name} is on branch {branch}",
            "name another with --branch, or the repository that was measured with --repo",
        )
    return InputError(f"there are no results in track {track.name}", "measure first: mlx-velocity run")


def _narrowed(told: HistoryReport, keep: Any) -> HistoryReport:
    def narrowed(item: MachineHistory) -> MachineHistory:
        left = [case for case in item.cases if keep(case)]
        names = {case.label for case in left}
        outages = [
            dataclasses.replace(outage, cases=own)
            for outage in item.outages
            if (own := [name for name in outage.cases if name in names])
        ]
        return dataclasses.replace(item, cases=left, outages=outages)

    return dataclasses.replace(told, machines=[narrowed(item) for item in told.machines])


def _regressions_alone(told: HistoryReport) -> HistoryReport:
    """Without improvements and what is mended, and without cases that have nothing else but that they fail."""

    def regressed(case: CaseHistory) -> CaseHistory:
        left = [item for item in case.shifts if item.direction == "regressed" and item.state != "fixed"]
        said = [item for item in case.side_by_side if item.said.word not in ("improved", "mended")]
        return dataclasses.replace(case, shifts=left, side_by_side=said)

    failing = [[outage for outage in item.outages if outage.kind != "working"] for item in told.machines]
    machines = [
        dataclasses.replace(item, cases=[regressed(case) for case in item.cases]) for item in told.machines
    ]
    left = _narrowed(
        dataclasses.replace(told, machines=machines),
        lambda case: case.current and bool(case.shown or case.compared),
    )
    machines = [
        dataclasses.replace(item, outages=own) for item, own in zip(left.machines, failing, strict=True)
    ]
    return dataclasses.replace(left, machines=machines)


def _no_case(pattern: str, machines: Sequence[MachineHistory]) -> InputError:
    labels = sorted({case.label for item in machines for case in item.cases})
    words = {label.split("(")[0] for label in labels} | set(labels)
    short = {word.rpartition(".")[2]: word for word in words}
    close = difflib.get_close_matches(pattern, [*words, *short], 3, 0.5)
    named = list(dict.fromkeys(short.get(word, word) for word in close)) or labels[:3]
    return InputError(
        f"no case with results matches '{pattern}'",
        f"did you mean {' or '.join(named)}? Without CASE all are shown: mlx-velocity history",
    )


# What is decided


def decide(
    track: tracks.Track,
    wanted: str,
    state: regressions.MarkState,
    because: str,
    fixed_by: str | None,
    branch: str | None = None,
) -> tuple[CaseHistory, Shift]:
    """Record the state of a regression, found by its id or the beginning of it; returns what it was until now.

    Raises InputError where no regression has that id, several begin so, or the file can't be written.
    """
    told = tell(track, HistoryOptions(branch=branch))
    case, shift = _by_id(track, told, wanted)
    if shift.direction == "improved":
        raise InputError(
            f"{shift.id} is an improvement of {case.label}", "only regressions have a state that is recorded"
        )
    mended = None
    if fixed_by is not None:
        mended = history.one(str(tracks.open_repo(track)._path), fixed_by).hash
    regressions.append(track.results_dir, [_mark(case, shift, state, because, mended)])
    return case, shift


def record(track: tracks.Track, told: HistoryReport) -> int:
    """Record each confirmed regression that is not recorded yet, and each that is mended since; returns how many."""
    marks, _ = regressions.read(track.results_dir)
    new = []
    for case, shift in told.shifts():
        if shift.direction != "regressed" or shift.state == "unconfirmed":
            continue
        mark = marks.get(shift.id)
        if mark is None or mark.state != shift.state:
            mended = shift.fixed_by.hash if shift.fixed_by else None
            new.append(_mark(case, shift, shift.state, shift.reason, mended))
    regressions.append(track.results_dir, new)
    return len(new)


def _mark(
    case: CaseHistory, shift: Shift, state: Any, because: str, fixed_by: str | None
) -> regressions.Mark:
    return regressions.Mark(
        id=shift.id,
        state=state,
        machine=case.machine,
        environment=case.environment,
        benchmark=case.benchmark,
        params=case.params,
        commit=shift.commit.hash,
        good=shift.good.hash,
        bad=shift.bad.hash,
        newest=case.newest.hash if case.newest else shift.bad.hash,
        subject=shift.commit.subject,
        ratio=round(shift.ratio, 6),
        reason=because,
        fixed_by=fixed_by,
        at=results.now(),
    )


def _by_id(track: tracks.Track, told: HistoryReport, wanted: str) -> tuple[CaseHistory, Shift]:
    wanted = wanted.lower()
    all_of = [
        (case, shift)
        for item in told.machines
        for case in item.cases
        if case.current
        for shift in case.shifts
    ]
    found = [pair for pair in all_of if wanted and pair[1].id.startswith(wanted)]
    if not found:
        found = _by_former_id(track, all_of, wanted)
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(f"{shift.id} ({case.label})" for case, shift in found[:3])
        raise InputError(f"{len(found)} changes begin with '{wanted}': {ids}", "give more letters of it")
    raise InputError(f"no change has the id '{wanted}'", "see them with: mlx-velocity history")


def _by_former_id(
    track: tracks.Track, all_of: list[tuple[CaseHistory, Shift]], wanted: str
) -> list[tuple[CaseHistory, Shift]]:
    """The changes whose id was another one while fewer commits were measured.

    An id names a case at a commit. Where that commit is another point of the case now, the change is the nearest.
    """
    found = []
    for case in {id(case): case for case, _ in all_of}.values():
        for place, point in enumerate(case.points):
            made = regressions.shift_id(
                track.name, case.machine, case.environment, case.benchmark, tuple(case.params), point.commit
            )
            if made == wanted:
                found.append((case, min(case.shifts, key=lambda shift: abs(shift.index - place))))
    return found
