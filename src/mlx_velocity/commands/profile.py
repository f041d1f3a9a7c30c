"""`mlx-velocity profile`: where the time of one stage goes, and what grew between two sides."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mlx_velocity import (
    breakdown,
    dissect,
    history,
    installed,
    machine,
    profiles,
    readings,
    results,
    shares,
    sides,
    tracks,
    units,
)
from mlx_velocity.breakdown import Breakdown, Difference, Header, Launch, Profile, Task
from mlx_velocity.commands.compare import repository
from mlx_velocity.commands.progress import time_left
from mlx_velocity.commands.targets import check_target
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.report import shares as report
from mlx_velocity.workers import LocalWorker, Worker

MODELS = {"cpu": "tiny-float32", "metal": "llama-3.2-1b-bfloat16", "cuda": "llama-3.2-1b-bfloat16"}
"""What is profiled where no model is named: one that any machine of the backend can hold."""
TOKENS = {"cpu": 128, "metal": 512, "cuda": 512}
GENERATE = 8
REPETITIONS = 5
TURN_REPETITIONS = 3
PAIRS = 8
"""Pairs of launches of a `--diff`: with fewer, Student's t is too wide to see a few per cent."""
TRACKLESS = ""


@dataclass(frozen=True)
class Wanted:
    """What `profile` was asked for."""

    model: str | None
    stage: str
    tokens: int | None
    depth: int
    generate: int
    repetitions: int | None
    launches: int | None
    top: int | None
    layers: bool
    diff: tuple[str, str] | None
    at: str | None
    from_results: bool
    python: Path | None
    machine: str | None
    backend: str | None
    markdown: str | None
    json: str | None
    quiet: bool

    @property
    def silent(self) -> bool:
        """Whether nothing but what was asked for may be printed."""
        return self.quiet or "-" in (self.markdown, self.json)

    def task(self, backend: str) -> Task:
        """The task with what suits a backend where nothing was said; InputError for an unknown stage."""
        if self.stage not in breakdown.STAGES:
            raise InputError(
                f"there is no stage '{self.stage}'", f"choose one of {', '.join(breakdown.STAGES)}"
            )
        stage = next(item for item in breakdown.STAGES if item == self.stage)
        tokens = self.tokens or TOKENS[backend]
        return Task(self.model or MODELS[backend], stage, tokens, self.depth, self.generate)


def check(wanted: Wanted) -> None:
    """Raise InputError for options that contradict each other and files that can't be written."""
    if wanted.diff and wanted.at:
        raise InputError("--diff and --at can't be used together", "leave one of them out")
    if wanted.python and (wanted.diff or wanted.at or wanted.from_results):
        raise InputError(
            "--python names what is installed, --diff, --at and --from-results name commits", "leave one out"
        )
    if (wanted.markdown, wanted.json) == ("-", "-"):
        raise InputError("Markdown and JSON can't both go to the terminal", "write one of them to a file")
    for target in (wanted.markdown, wanted.json):
        check_target(target)


def here(wanted: Wanted, console: Console) -> Breakdown:
    """Profile what is installed; nothing is stored."""
    prepared = installed.here(wanted.python, wanted.backend or "auto")
    task = wanted.task(prepared.record.backend)
    header = Header(
        TRACKLESS, str(machine.describe(wanted.machine)["machine"]), prepared.record.backend, "installed", "", "",
        prepared.record, task, results.now(),
    )  # fmt: skip
    launches = _alone(prepared, task, wanted, console)
    return shares.of(Profile(header, launches))


def at(track: tracks.Track, wanted: Wanted, console: Console) -> Breakdown:
    """Profile a commit of a track, and store it beside the commit's results."""
    assert wanted.at is not None
    repo_path = repository(track)
    target = sides.resolve(track, repo_path, wanted.at, wanted.at, False)[0]
    folder = _folder(track, wanted)
    with results.lock(track.work_dir, track.name, folder.name):
        with console.status(f"environment of {escape(target.name)} …"):
            prepared = sides.prepare(track, repo_path, target)
        task = wanted.task(prepared.record.backend)
        header = _header(track, folder, target, prepared, task)
        profile = Profile(header, _alone(prepared, task, wanted, console))
        profiles.save(folder, profile)
    return shares.of(profile)


def diff(track: tracks.Track, wanted: Wanted, console: Console) -> Difference:
    """Profile two sides turn about, and store both. Ctrl-C keeps the pairs that are done, if they are enough."""
    assert wanted.diff is not None
    repo_path = repository(track)
    targets = sides.resolve(track, repo_path, *wanted.diff, False)
    folder = _folder(track, wanted)
    taken: tuple[list[Launch], list[Launch]] = ([], [])
    with results.lock(track.work_dir, track.name, folder.name):
        ready: list[Prepared] = []
        for target in targets:
            with console.status(f"environment of {escape(target.name)} …"):
                ready.append(sides.prepare(track, repo_path, target))
        if sides.same(ready[0], ready[1]):
            raise InputError(f"{targets[0].name} and {targets[1].name} are the same code", "name two that differ")  # fmt: skip
        task, together = wanted.task(ready[0].record.backend), secrets.token_hex(6)
        headers = [
            _header(track, folder, target, prepared, task, together)
            for target, prepared in zip(targets, ready, strict=True)
        ]

        def record(base: Launch, head: Launch) -> None:
            taken[0].append(base)
            taken[1].append(head)

        pairs = wanted.launches or PAIRS
        with _progress(console, wanted, pairs, "pair of launches") as say:
            try:
                dissect.in_turns(
                    (ready[0], ready[1]), task, _start, pairs, wanted.repetitions or TURN_REPETITIONS,
                    secrets.randbelow(2**31), record, say,
                )  # fmt: skip
            except KeyboardInterrupt:
                if len(taken[0]) < shares.PAIRS_LEAST:
                    raise
                _warn(f"interrupted after {units.count(len(taken[0]), 'pair')} of launches")
        if not taken[0]:
            raise MeasurementError("no pair of launches was measured", "run again on a quieter machine")
        both = [Profile(header, launches) for header, launches in zip(headers, taken, strict=True)]
        for profile in both:
            profiles.save(folder, profile)
    return shares.between(both[0], both[1])


def stored(track: tracks.Track, wanted: Wanted, console: Console) -> Breakdown | Difference | None:
    """What is stored, as `at` or `diff` would have shown it; a list of all where neither is named.

    Raises InputError where there is no such profile. Measures nothing.
    """
    folder = track.results_dir / str(machine.describe(wanted.machine)["machine"])
    if wanted.diff:
        return _stored_difference(track, folder, wanted)
    if wanted.at:
        return shares.of(_stored_one(track, folder, wanted, wanted.at))
    found = profiles.load(folder, model=wanted.model)
    if not found:
        raise InputError(f"no profile is stored in {folder.name} of track {track.name}", "take one: mlx-velocity profile --at COMMIT")  # fmt: skip
    if not wanted.silent:
        console.print(report.stored_table(found))
    return None


def _stored_difference(track: tracks.Track, folder: Path, wanted: Wanted) -> Difference:
    assert wanted.diff is not None
    base, head = (_stored_one(track, folder, wanted, name) for name in wanted.diff)
    if not base.header.together or base.header.together != head.header.together:
        raise InputError(
            f"the stored profiles of {wanted.diff[0]} and {wanted.diff[1]} were not taken together",
            "take them together: leave out --from-results",
        )
    return shares.between(base, head)


def _stored_one(track: tracks.Track, folder: Path, wanted: Wanted, name: str) -> Profile:
    found = profiles.load(folder, name, wanted.stage, wanted.model)
    if not found and "==" not in name and name != sides.WORKING_TREE:
        commit = history.one(repository(track), name).hash
        found = profiles.load(folder, commit, wanted.stage, wanted.model)
    if not found:
        raise InputError(
            f"no profile of stage {wanted.stage} is stored of {name} on {folder.name}",
            f"take one: mlx-velocity profile --at {name} --stage {wanted.stage}",
        )
    return found[0]


def show(found: Breakdown | Difference, wanted: Wanted, console: Console) -> None:
    """Print the tables, and write the files that were asked for; InputError where that fails."""
    if isinstance(found, Breakdown):
        made = report.breakdown(found, wanted.layers, wanted.top)
    else:
        made = report.difference(found, wanted.layers, wanted.top)
    if not wanted.silent:
        console.print(escape(made.title), highlight=False)
        for table in made.tables:
            console.print(table)
        for sentence in made.said:
            console.print(escape(sentence), highlight=False)
    for target, text in ((wanted.markdown, made.markdown), (wanted.json, made.json)):
        if target == "-":
            print(text, end="")
        elif target:
            readings.replace(Path(target).resolve(), text)


def _alone(prepared: Prepared, task: Task, wanted: Wanted, console: Console) -> list[Launch]:
    launches = wanted.launches or 1
    with _progress(console, wanted, launches, "launch") as say:
        return dissect.alone(prepared, task, _start, launches, wanted.repetitions or REPETITIONS, say)


def _start(prepared: Prepared) -> Worker:
    return LocalWorker(prepared, {})


def _folder(track: tracks.Track, wanted: Wanted) -> Path:
    return track.results_dir / str(machine.describe(wanted.machine)["machine"])


def _header(
    track: tracks.Track, folder: Path, target: sides.Target, prepared: Prepared, task: Task, together: str = ""
) -> Header:  # fmt: skip
    commit = target.commit.hash if target.commit and not target.versions else ""
    return Header(
        track.name, folder.name, prepared.record.backend, target.name, commit, target.subject, prepared.record, task,
        results.now(), together,
    )  # fmt: skip


@contextmanager
def _progress(console: Console, wanted: Wanted, total: int, noun: str) -> Iterator[dissect.Say]:
    """A line that tells the launch under way and the time left: in place on a terminal, else one for each."""
    began = time.monotonic()
    if wanted.silent:
        yield lambda *_: None
        return
    with console.status("…") as status:

        def say(number: int, what: str) -> None:
            left = time_left(time.monotonic() - began, number - 1, max(total, number))
            line = f"{noun} {number} of {max(total, number)}, {left} left"
            status.update(f"{line}: {what}")
            if not console.is_terminal and total > 1:
                console.print(line, highlight=False)

        yield say


def _warn(what: str) -> None:
    """Beside the output, not in it: that may be JSON."""
    Console(stderr=True).print(f"[yellow]{escape(what)}[/]", highlight=False)
