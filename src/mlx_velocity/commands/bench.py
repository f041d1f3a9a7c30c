"""`mlx-velocity bench`: time the MLX that is installed, a worker process for each model."""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from mlx_velocity import findings, installed, machine, markers, quality, readings
from mlx_velocity.bench import Model, Row, Run, Trial
from mlx_velocity.commands.bench_roofline import ceilings, peaks_in_words, placed
from mlx_velocity.commands.progress import BenchProgress
from mlx_velocity.errors import InputError, Interrupted, MeasurementError
from mlx_velocity.installed import Installed
from mlx_velocity.report import bench as report
from mlx_velocity.workers import LocalWorker, Worker, WorkerError

LIMIT_S = 3600.0
"""For one answer: a first load may have to download, a sample may be long."""
SUFFIXES = {".md": "md", ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".sql": "sql"}


@dataclass(frozen=True)
class BenchOptions:
    """What `bench` was asked for."""

    models: Sequence[str]
    trials: Sequence[Trial]
    dtypes: Sequence[str] = ()
    texts: dict[str, str] = field(default_factory=dict)
    """The prompts of the trials of text, by label."""
    repetitions: int = 5
    warmups: int = 1
    python: Path | None = None


Start = Callable[[Installed], Worker]
"""Starts a worker; a test starts another kind."""


def start(python: Installed) -> Worker:
    """A worker of that Python; WorkerError where it can't be started."""
    return LocalWorker(python, {})


def format_of(chosen: str | None, output: Path | None) -> str:
    """The format to write: the chosen one, or what the file's name ends with; InputError where it is unknown."""
    found = chosen or SUFFIXES.get(output.suffix if output else ".md", "md")
    if found not in report.WRITERS:
        raise InputError(f"there is no format '{found}'", f"choose among {', '.join(report.WRITERS)}")
    return found


def bench(options: BenchOptions, progress: BenchProgress, start: Start = start) -> Run:
    """Measure all models one after the other; whatever was measured before Ctrl-C is in the result.

    Raises InputError for a model, dtype or Python that is none, MeasurementError where no worker starts.
    """
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    described = {key: value for key, value in machine.describe().items() if key != "machine"}
    rows: list[Row] = []
    interrupted, peaks = False, None
    python = installed.here(options.python)
    worker = _started(python, start)
    try:
        plan = _planned(worker, options, python)
        trials = [_with_draft(trial, plan["draft"]) for trial in options.trials]
        with progress:
            progress.expect(plan["models"], trials, options.warmups + options.repetitions)
            for number, spec in enumerate(plan["models"]):
                worker = worker if number == 0 else _started(python, start)
                _measure_model(worker, spec, trials, options, rows, progress)
                worker.close()
        # After the models: what a reading of the peaks takes must not be missing to them.
        worker = _started(python, start)
        peaks = ceilings(worker, plan["backend"])
    except KeyboardInterrupt:
        if not rows:
            raise Interrupted("interrupted", "nothing was measured yet; run the same again") from None
        interrupted = True
    finally:
        worker.close()
    known = {key: plan[key] for key in ("backend", "memory_bytes", "python", "modules")}
    said = peaks_in_words(peaks)
    return Run(
        started=began, machine=described, rows=placed(rows, peaks), peaks=said, remarks=remarks(rows),
        interrupted=interrupted, **known,
    )  # fmt: skip


def _started(python: Installed, start: Start) -> Worker:
    try:
        return start(python)
    except WorkerError as error:
        raise MeasurementError(error.reason, "see that the interpreter works") from error


def _planned(worker: Worker, options: BenchOptions, python: Installed) -> dict[str, Any]:
    """What the models' names mean to the worker, and what it would run on."""
    drafts = {trial.draft for trial in options.trials if trial.draft}
    request = {
        "op": "bench",
        "do": "plan",
        "models": [_absolute(name) for name in options.models],
        "dtypes": list(options.dtypes),
        "draft": _absolute(drafts.pop()) if drafts else "",
    }
    try:
        answer = worker.request(request, LIMIT_S)
    except WorkerError as error:
        said = next((line for line in reversed(error.last_lines) if "Error" in line), error.reason)
        raise InputError(
            f"{python.python} can't measure: {said}",
            f"install what is missing: {python.python} -m pip install mlx mlx-lm psutil",
        ) from error
    _refuse(answer)
    return answer


def _refuse(answer: dict[str, Any]) -> None:
    if "refused" in answer:
        raise InputError(*answer["refused"])


def _absolute(name: str) -> str:
    """A folder that is here as `path:` with its whole path: the worker runs elsewhere."""
    folder = Path(name.removeprefix("path:")).expanduser()
    return f"path:{folder.absolute()}" if name.startswith("path:") or folder.is_dir() else name


def _with_draft(trial: Trial, draft: str) -> Trial:
    return dataclasses.replace(trial, draft=draft) if trial.draft else trial


def _measure_model(
    worker: Worker, spec: str, trials: Sequence[Trial], options: BenchOptions, rows: list[Row], progress: BenchProgress
) -> None:  # fmt: skip
    """Add a row for each trial of one model; where its process dies, the rest say why they are missing."""
    model = Model(Path(spec.removeprefix("path:")).name if spec.startswith("path:") else spec)
    left, doing = list(trials), "the model was loaded"
    try:
        progress.show(model.name, "loading")
        answer = worker.request({"op": "bench", "do": "load", "model": spec}, LIMIT_S)
        _refuse(answer)
        if "model" not in answer:
            rows += [_missing(model, trial, answer) for trial in trials]
        else:
            model = Model(**answer["model"])
            while left:
                doing = f"{left[0].name} was measured"
                with markers.mark(f"{model.name} {left[0].name}", "case"):
                    _measure_trial(worker, spec, model, left[0], options, rows, progress)
                left.pop(0)
    except WorkerError as error:
        reason = f"the process ended while {doing}: {telling(error)}"
        rows += [_missing(model, trial, {"failed": reason}) for trial in left]
    progress.skip(model.name, left)


def telling(error: WorkerError) -> str:
    """How a worker ended, and the line of what it printed that says why, where one does."""
    lines = [line.strip() for line in error.last_lines if not line.startswith("Fatal Python error")]
    said = [line for line in lines if re.search(r"rror|terminat|assert", line)]
    return ": ".join([error.reason, *said[:1]])


def _measure_trial(
    worker: Worker, spec: str, model: Model, trial: Trial, options: BenchOptions, rows: list[Row], progress: BenchProgress
) -> None:  # fmt: skip
    """Add the row of one trial: of fewer samples where it was interrupted, of none where it can't be measured."""
    request = {
        "op": "bench",
        "do": "sample",
        "model": spec,
        "trial": dataclasses.asdict(trial),
        "text": options.texts.get(trial.label.partition(" tg")[0], "") if trial.stage == "text" else "",
    }
    warmup: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    try:
        for number in range(options.warmups + options.repetitions):
            warm = number < options.warmups
            answer = worker.request({**request, "warm": warm}, LIMIT_S)
            _refuse(answer)
            if "seconds" not in answer:
                rows.append(_missing(model, trial, answer))
                progress.skip(model.name, [trial])
                return
            (warmup if warm else samples).append(answer)
            progress.sampled(model.name, trial)
    except KeyboardInterrupt:
        if samples:
            rows.append(_measured(model, trial, warmup, samples))
        raise
    rows.append(_measured(model, trial, warmup, samples))
    progress.finished(rows[-1])


def _measured(model: Model, trial: Trial, warmup: list[dict[str, Any]], samples: list[dict[str, Any]]) -> Row:
    notes = {key: value for answer in (*warmup, *samples) for key, value in answer["notes"].items()}
    notes.pop("first_token_s", None)
    seconds = [float(answer["seconds"]) for answer in samples]
    first = [
        float(answer["notes"]["first_token_s"]) for answer in samples if "first_token_s" in answer["notes"]
    ]
    peaks = [answer["peak_bytes"] for answer in (*warmup, *samples) if answer["peak_bytes"] is not None]
    return Row(
        model=model,
        trial=trial,
        samples=seconds,
        warmup=[float(answer["seconds"]) for answer in warmup],
        # A prefill ends with the first token.
        first_token_s=seconds if trial.of_prompt else first,
        peak_bytes=max(peaks) if peaks else None,
        notes=notes,
        sensors=samples[-1]["sensors"],
    )


def _missing(model: Model, trial: Trial, answer: dict[str, Any]) -> Row:
    if "skipped" in answer:
        return Row(model, trial, "skipped", answer["skipped"])
    return Row(model, trial, "failed", answer["failed"])


def remarks(rows: Sequence[Row]) -> list[str]:
    """What was wrong with the machine meanwhile."""
    looks = [row.sensors for row in rows if row.sensors]
    said = quality.of_comparison(looks, [])
    others = [look["others_busy_cores"] for look in looks if "others_busy_cores" in look]
    if others and statistics.median(others) > findings.OTHERS_BUSY_CORES:
        said.append(
            f"Other programs kept {statistics.median(others):.1f} cores busy: take small differences as noise."
        )
    return said


def show(run: Run, chosen: str, output: Path | None, console: Console, quiet: bool) -> None:
    """Print the run, or write it to a file and print its table. Raises InputError where it can't be written."""
    if output is not None:
        readings.replace(output.resolve(), report.WRITERS[chosen](run))
    if output is None or not quiet:
        # Not through Rich, which would fold what another program reads.
        sys.stdout.write(report.WRITERS["md" if output else chosen](run))
        sys.stdout.flush()
    if output is not None and not quiet:
        console.print(f"Written to {os.path.relpath(output)}.", highlight=False, markup=False)
