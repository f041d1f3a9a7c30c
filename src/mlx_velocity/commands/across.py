"""`mlx-velocity across`: the same operators and models on MLX, PyTorch and llama.cpp, side by side."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mlx_velocity import fairness, installed, machine, readings, results, rotation, sameness
from mlx_velocity.across import (
    FRAMEWORKS,
    PACKAGES,
    REFERENCE,
    Across,
    Entry,
    Missing,
    Row,
    Task,
)
from mlx_velocity.cases import compile_pattern
from mlx_velocity.commands.progress import time_left
from mlx_velocity.errors import InputError, MeasurementError, UndecidedError
from mlx_velocity.frameworks import tasks
from mlx_velocity.report import across as report
from mlx_velocity.rotation import Seat
from mlx_velocity.standing import standing
from mlx_velocity.store.reading import THREADS
from mlx_velocity.workers import LocalWorker, Worker, WorkerError

WORKER = "mlx_velocity.frameworks.worker"


@dataclass(frozen=True)
class AcrossOptions:
    """What `across` was asked for."""

    models: Sequence[str]
    prompt: int | None
    frameworks: Sequence[str]
    device: str
    threads: int
    rounds: int
    launches: int
    bench: str | None
    quiet: bool


def across(options: AcrossOptions, console: Console) -> Across:
    """Measure all tasks on all frameworks that are here.

    Raises InputError for wrong input or where MLX is missing; Ctrl-C ends it with what is measured so far.
    """
    _check(options)
    if options.models:
        tasks.plan(options.models, 1)
    began, started = time.monotonic(), results.now()
    present, missing = look_for(options.frameworks)
    with tempfile.TemporaryDirectory(prefix="mlx-velocity-across-") as folder:
        prepared = installed.here()

        def start() -> Worker:
            return LocalWorker(prepared, variables(options.threads), WORKER)

        kind = options.device if options.device != "auto" else _device(start)
        seats = [Seat(name, start, kind, options.threads, _cores(kind, options.threads)) for name in present]
        seats = _opened(seats, missing)
        planned = tasks.plan(options.models or tasks.MODELS[kind], options.prompt or tasks.PROMPT[kind])
        chosen = _matching(planned, options.bench)
        found: dict[Task, list[Entry]] = {}
        seed, interrupted = secrets.randbelow(2**31), False

        def record(task: Task, entries: list[Entry]) -> None:
            found[task] = merged(found.get(task, []), entries)

        try:
            with _progress(console, options.quiet) as say:
                folders = _write(start, chosen, [seat.framework for seat in seats], Path(folder), say)
                plan = rotation.Plan(options.rounds, options.launches, seed, folders)
                rotation.rotate(seats, chosen, plan, tasks.message, record, say)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            for seat in seats:
                seat.close()
    rows = [row_of(task, found[task]) for task in chosen if task in found]
    participants = [seat.participant() for seat in seats]
    checks = fairness.checks(participants, rows, options.threads)
    rows = [without_wrong(row, checks) for row in rows]
    return Across(
        machine.describe(), started, round(time.monotonic() - began, 1), kind, options.threads, options.rounds,
        options.launches, seed, participants, missing, rows, checks, interrupted,
    )  # fmt: skip


def show(done: Across, markdown_to: str | None, json_to: str | None, quiet: bool, console: Console) -> int:
    """Print and write what was found; the exit code: 0, 3 where nothing stands beside MLX, 4 where something broke."""
    if not quiet and "-" not in (markdown_to, json_to):
        for part in report.terminal(done):
            console.print(part, highlight=False)
    for target, written in ((markdown_to, report.markdown), (json_to, report.document)):
        if target == "-":
            print(written(done), end="")
        elif target:
            readings.replace(Path(target).resolve(), written(done))
    if done.interrupted:
        return 130
    if any(entry.failed for row in done.rows for entry in row.entries) or any(
        c.finding == "wrong" for c in done.checks
    ):
        return MeasurementError.exit_code
    return UndecidedError.exit_code if len(done.participants) < 2 else 0


def look_for(wanted: Sequence[str]) -> tuple[list[str], list[Missing]]:
    """Which frameworks are installed, and why the others are left out; MLX always takes part.

    Raises InputError where MLX itself is missing or a name is unknown.
    """
    unknown = [name for name in wanted if name not in FRAMEWORKS]
    if unknown:
        raise InputError(f"'{unknown[0]}' is no framework", f"known are {', '.join(FRAMEWORKS)}")
    present, missing = [], []
    for name in FRAMEWORKS:
        if wanted and name not in wanted and name != REFERENCE:
            continue
        extra, modules = PACKAGES[name]
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        if not lacking:
            present.append(name)
            continue
        reason, advice = f"{' and '.join(lacking)} not installed", f"pip install 'mlx-velocity[{extra}]'"
        if name == REFERENCE:
            raise InputError(f"nothing can be compared with MLX: {reason}", advice)
        missing.append(Missing(name, reason, advice))
    return present, missing


def _matching(planned: list[Task], bench: str | None) -> list[Task]:
    wanted = compile_pattern(bench)
    chosen = [task for task in planned if wanted.search(f"{task.kind} {task.label}")]
    if not chosen:
        raise InputError(
            f"no task matches '{bench}'", "tasks are: " + ", ".join(task.label for task in planned)
        )
    return chosen


def variables(threads: int) -> dict[str, str]:
    """Environment variables of every worker: the same number of threads, and float32 that is float32."""
    return {
        **dict.fromkeys(THREADS, str(threads)),
        # MLX and llama.cpp use TensorFloat-32 on CUDA, PyTorch does not: none shall.
        "MLX_ENABLE_TF32": "0",
        "NVIDIA_TF32_OVERRIDE": "0",
        "GGML_NO_BACKTRACE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def merged(before: list[Entry], entries: list[Entry]) -> list[Entry]:
    """Entries of one task with the turns of earlier launches; what failed once has failed."""
    old = {entry.framework: entry for entry in before}
    return [
        replace(entry, turns=[*old[entry.framework].turns, *entry.turns], reason=old[entry.framework].reason or entry.reason,
                failed=old[entry.framework].failed or entry.failed) if entry.framework in old else entry
        for entry in entries
    ]  # fmt: skip


def row_of(task: Task, entries: list[Entry]) -> Row:
    """A task with where each framework stands at it; without those that computed something else."""
    row = Row(task, entries, {})
    reference = next((entry.turns for entry in entries if entry.framework == REFERENCE), [])
    for number, entry in enumerate(entries):
        if entry.reason is not None or not entry.turns:
            continue
        if not sameness.computes_the_same(entry, row):
            entries[number] = replace(entry, reason="computed something else: see the checks", failed=True)
            continue
        other = None if entry.framework == REFERENCE else reference
        row.standings[entry.framework] = standing(entry.turns, other)
    return row


def without_wrong(row: Row, checks: Sequence[Any]) -> Row:
    """A model's row without the frameworks that a check found to compute something else."""
    wrong = {
        name for check in checks
        if check.finding == "wrong" and check.subject == row.task.subject and row.task.kind != "operator"
        for name in check.apart
    }  # fmt: skip
    return replace(row, standings={name: place for name, place in row.standings.items() if name not in wrong})


def _check(options: AcrossOptions) -> None:
    if options.device not in ("auto", "cpu", "gpu"):
        raise InputError(f"'{options.device}' is no device", "write auto, cpu or gpu")
    cores = os.cpu_count() or 1
    if options.threads > cores:
        raise InputError(f"{options.threads} threads on {cores} cores", f"write --threads {cores} or less")


def _device(start: Any) -> str:
    """Where MLX computes by itself; its own process is asked, since this one must stay free of MLX."""
    seat = Seat(REFERENCE, start, "auto", 1, [])
    try:
        seat.open()
    except WorkerError as error:
        raise MeasurementError(
            f"MLX can't be started: {error.reason}", "check it: python -c 'import mlx.core'"
        ) from error
    finally:
        seat.close()
    return str(seat.about["kind"])


def _cores(kind: str, threads: int) -> list[int]:
    """The last cores, as many as threads, for a CPU; empty where processes are not pinned."""
    if kind != "cpu" or not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


def _opened(seats: list[Seat], missing: list[Missing]) -> list[Seat]:
    """The seats whose framework starts; the others are added to `missing`."""
    opened = []
    for seat in seats:
        try:
            seat.open()
        except WorkerError as error:
            if seat.framework == REFERENCE:
                raise MeasurementError(f"MLX can't be started: {error.reason}", "try --device cpu") from error
            extra = PACKAGES[seat.framework][0]
            reason = re.sub(r"^\w+Error: ", "", error.reason)
            missing.append(
                Missing(seat.framework, reason, f"pip install --force-reinstall 'mlx-velocity[{extra}]'")
            )
            continue
        opened.append(seat)
    return opened


def _write(
    start: Any, chosen: Sequence[Task], frameworks: Sequence[str], folder: Path, say: Any
) -> dict[str, str]:
    """Folders with the files of each model that is measured; InputError where the disk has no room."""
    folders: dict[str, str] = {}
    for spec in dict.fromkeys(task.spec for task in chosen if task.kind != "operator"):
        say(rotation.Event(f"writing {spec}", 0, len(chosen)))
        needed = 2 * tasks.weights_bytes(spec)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"the files of {spec} need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in the temporary folder",
                "set TMPDIR to another disk, or name a smaller model",
            )
        folders[spec] = str(folder / spec)
        # A process of its own: what it holds meanwhile must not stay in the measured one.
        writer = Seat(REFERENCE, start, "cpu", 1, [])
        try:
            request = {
                "op": "write",
                "spec": spec,
                "folder": folders[spec],
                "gguf": "llama.cpp" in frameworks,
            }
            writer.request(request, rotation.LOAD_S)
        except WorkerError as error:
            raise MeasurementError(
                f"the weights of {spec} can't be written: {error.reason}", "name another model"
            ) from error
        finally:
            writer.close()
    return folders


@contextlib.contextmanager
def _progress(console: Console, quiet: bool) -> Iterator[Any]:
    """A bar on a terminal, a line per task elsewhere."""
    bar = Progress(
        TextColumn("[bold]{task.description}[/]"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[left]} left"), console=console, transient=True,
        disable=quiet or not console.is_terminal,
    )  # fmt: skip
    shown = bar.add_task("starting", total=None, left="?")
    began = time.monotonic()

    def say(event: rotation.Event) -> None:
        nonlocal began
        if event.done == 0:
            # Starting and writing says nothing about how long tasks take.
            began = time.monotonic()
        left = time_left(time.monotonic() - began, event.done, event.total)
        bar.update(shown, description=event.text, completed=event.done, total=event.total, left=left)
        if not quiet and not console.is_terminal and event.text:
            console.print(f"{event.text} ({event.done}/{event.total}, {left} left)", highlight=False)

    with bar:
        yield say
