"""Read many files in as many processes as there are cores."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing import forkserver, get_context, parent_process

from mlx_velocity.store.columns import Key
from mlx_velocity.store.files import File, read_batch

BATCH = 32
"""Files that a process reads at a time."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that say how many threads a library of linear algebra starts."""
LONGEST_FOLDER = 60
"""Of temporary files: the name of a socket in it may have 107 bytes."""
ALONE = 1000
"""Files that are read here: starting other processes takes longer."""


def read(root: str, paths: list[str], pool: Executor | None) -> Iterator[tuple[list[File], list[Key]]]:
    """The files at `paths` below `root` in batches, and the keys of each batch: in `pool`, or in processes of its own."""
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    if usable_cores() == 1 or len(paths) < ALONE:
        yield from (read_batch(root, batch) for batch in batches)
        return
    with nullcontext(pool) if pool else processes() as readers:
        yield from readers.map(read_batch, [root] * len(batches), batches)


@contextmanager
def processes(warm: str | None = None) -> Iterator[Executor]:
    """As many processes as there are cores to use, each with one thread; they start with the first thing to do, or
    are made ready by get_ready(). `warm` is a module that is loaded once for all of them.

    What was not begun when the context is left is not done any more.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    # numpy looks at them when it is loaded, which each process does for itself.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    context = get_context("forkserver" if forks() else "spawn")
    if forks():
        context.set_forkserver_preload([warm] if warm else [])
    pool = ProcessPoolExecutor(usable_cores(), context, _end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def forks() -> bool:
    """Whether processes are forked from one that has loaded everything: beyond Linux that is not safe with every library."""
    return sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER


def get_ready() -> None:
    """Begin to load what the processes need, while something else is done here."""
    if forks() and usable_cores() > 1:
        forkserver.ensure_running()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work without an end."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
