"""GPU kernels that MLX compiles when a case first needs them: compiled beforehand, by several processes at once.

On CUDA the first launch of a release else spends minutes in the compiler, on one core and between measurements. What is
compiled lies in the environment's own folder (`Prepared.working_folder`), and beside it, which cases it was compiled for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

from mlx_velocity import scheduler
from mlx_velocity.environments import Prepared
from mlx_velocity.launches import StartWorker
from mlx_velocity.records import Case
from mlx_velocity.tracks import Track
from mlx_velocity.workers import Worker, WorkerError

COMPILED_FOR = frozenset({"cuda"})
"""Backends of which a launch was seen to compile for long; Metal was not looked at."""
PROCESSES = 8
"""At most: each holds a model in the GPU's memory."""
CORES_EACH = 2
CASES_EACH = 4
"""Of one group at most: the longest group decides when all are done."""
DONE = "kernels.txt"
"""In the working folder: cases that were warmed up there, by label, a line each."""

Say = Callable[[str], None]


def compile_ahead(
    track: Track,
    prepared: Prepared,
    cases: Sequence[Case],
    start_worker: StartWorker,
    say: Say = lambda _: None,
) -> int:
    """Warm each case up that never was in this environment, in processes side by side; returns how many groups of
    cases these were.

    Nothing is measured, and no result is stored. A case that fails is passed over: it fails again where it is
    measured, and that says why.
    """
    if prepared.record.backend not in COMPILED_FOR:
        return 0
    forget_unfinished(prepared.working_folder)
    path = prepared.working_folder / DONE
    known = set(path.read_text("utf-8", "replace").splitlines()) if path.exists() else set()
    new = [case for case in cases if case.label not in known]
    if len(new) < 2:
        return 0
    parts, over, alive = groups(new), Event(), list[Worker]()
    at_once = max(1, min(PROCESSES, (os.cpu_count() or 1) // CORES_EACH, len(parts)))
    with ThreadPoolExecutor(at_once, thread_name_prefix="compile") as pool:
        running = {
            pool.submit(_warm, track, prepared, part, start_worker, over, alive): part for part in parts
        }
        try:
            say(f"compiling kernels: 0 of {len(parts)} groups of cases")
            for done, future in enumerate(as_completed(running), 1):
                future.result()
                # Where the disk is full, the next run compiles again.
                with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as lines:
                    lines.writelines(f"{case.label}\n" for case in running[future])
                say(f"compiling kernels: {done} of {len(parts)} groups of cases")
        except BaseException:
            # Whoever waits for an answer, for minutes perhaps, is told by the worker's end.
            over.set()
            for worker in list(alive):
                worker.close()
            raise
    return len(parts)


def forget_unfinished(folder: Path) -> None:
    """Remove the kernels that a process was writing when it was killed: mlx would take them for whole, for ever.

    It writes a module's .ptx, then the names in it as .txt, then its source as .cu (backend/cuda/jit_module.cpp).
    """
    for module in folder.rglob("*.ptx"):
        parts = (module, module.with_suffix(".txt"), module.with_suffix(".cu"))
        if not all(part.exists() and part.stat().st_size for part in parts):
            module.unlink(missing_ok=True)


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """A few cases that build the same model for the same file of benchmarks: they share most of their kernels."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        key = (case.benchmark.partition(".")[0], case.params[0] if case.params else "")
        found.setdefault(key, []).append(case)
    return [
        same[start : start + CASES_EACH]
        for same in found.values()
        for start in range(0, len(same), CASES_EACH)
    ]


def _warm(
    track: Track,
    prepared: Prepared,
    cases: Sequence[Case],
    start_worker: StartWorker,
    over: Event,
    alive: list[Worker],
) -> None:
    left = list(cases)
    while left and not over.is_set():
        try:
            worker = start_worker(prepared)
        except WorkerError:
            return
        alive.append(worker)
        try:
            scheduler.open_launch(worker, prepared)
            while left and not over.is_set():
                case = left.pop(0)
                worker.request({**scheduler.measure_message(track, case), "op": "warm"}, case.timeout_s)
        except WorkerError:
            # One that can't even greet says no more the second time.
            left = left if len(left) < len(cases) else []
        finally:
            alive.remove(worker)
            worker.close()
