"""The process that is measured: it keeps a model loaded and answers one request a line.

Requests and answers are JSON objects on standard input and output (see docs/architecture.md).
Whatever measured code prints goes to standard error. When the input ends, the process ends at
once, in the middle of a sample too, so that nothing is left behind by a killed runner.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from mlx_velocity.probe import bench, breakdown, control, device, measure, peaks, sensors

Message = dict[str, Any]


def hello(request: Message) -> Message:
    """Pin the process, import the measured modules, and refuse if one lies elsewhere than intended.

    `modules` maps an import name to the folder that it must lie in; `cores` may be empty. With
    `batch`, threads that share the core do not interrupt each other. Where `backend` is named, MLX must
    compute with it.
    """
    start = time.perf_counter()
    affinity = sensors.pin(request["cores"])
    batch = bool(affinity and request.get("batch")) and sensors.run_until_waiting()
    versions: dict[str, str] = {}
    for name, folder in request["modules"].items():
        versions[name] = _intended_version(name, folder)
    startup_s = time.perf_counter() - start
    if "mlx.core" in versions and request.get("backend"):
        device.check(request["backend"])
    return {
        "affinity": affinity,
        "batch": batch,
        "modules": versions,
        "python": ".".join(map(str, sys.version_info[:3])),
        "startup_s": startup_s,
    }


def _intended_version(name: str, folder: str) -> str:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise device.explained(error) from error
    # Without a file (a folder that holds no code) the working folder must not pass for one.
    file = os.path.realpath(getattr(module, "__file__", None) or os.devnull)
    if not file.startswith(os.path.realpath(folder) + os.sep):
        found = "a namespace" if file == os.devnull else file
        raise ImportError(f"{name} was imported from {found}, not from {folder}")
    package = importlib.import_module(name.partition(".")[0])
    return str(getattr(module, "__version__", None) or getattr(package, "__version__", "unknown"))


def discover(request: Message) -> Message:
    """All benchmarks below a folder, as asv describes them."""
    from asv_runner.discovery import list_benchmarks

    buffer = io.StringIO()
    list_benchmarks(request["benchmark_dir"], buffer)
    return {"benchmarks": json.loads(buffer.getvalue())}


def _of_case(take: Callable[[str, str, int | None], Message]) -> Callable[[Message], Message]:
    """An operation on one case; `skipped` carries the reason where the benchmark declined."""

    def operation(request: Message) -> Message:
        try:
            return take(request["benchmark_dir"], request["benchmark"], request["index"])
        except measure.Skipped as reason:
            return {"skipped": str(reason)}

    return operation


OPERATIONS: dict[str, Callable[[Message], Message]] = {
    "hello": hello,
    "discover": discover,
    "measure": _of_case(measure.measure),
    "warm": _of_case(measure.warm),
    "turn": _of_case(measure.turn),
    "bench": bench.answer,
    "control": lambda _: {"control": control.read()},
    "peaks": lambda request: {"peaks": peaks.read(tuple(request.get("dtypes", peaks.DTYPES)))},
    "profile": breakdown.breakdown,
}


def answer(request: Message, operations: dict[str, Callable[[Message], Message]] = OPERATIONS) -> Message:
    """The answer to a request: its fields with `ok`, or `error` with the last lines of a traceback."""
    try:
        return {"ok": True, **operations[request["op"]](request)}
    except Exception as error:
        lines = traceback.format_exc().splitlines()
        return {"ok": False, "error": f"{type(error).__name__}: {error}", "last_lines": lines[-12:]}


def _read_requests(stream: TextIO, requests: queue.Queue[Message]) -> None:
    try:
        for line in stream:
            requests.put(json.loads(line))
    except Exception:
        traceback.print_exc()
    # The runner is gone: leave at once with all that was started, a sample in flight belongs to nobody.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main(operations: dict[str, Callable[[Message], Message]] = OPERATIONS) -> None:
    """Serve requests until the input ends."""
    # Keep the answers' channel to ourselves: what is measured may print.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    requests: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_read_requests, args=(sys.stdin, requests), daemon=True).start()
    # Streams are local to a thread from mlx 0.31.2 on: everything measured runs in this one.
    while True:
        reply = answer(requests.get(), operations)
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
