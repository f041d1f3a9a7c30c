"""The process in which one framework is measured: the probe's protocol with operations of its own.

`open` chooses the framework and its device, `load` a model, `ready` prepares one task, checks its result and
warms it up, `turn` times it. What a framework lacks is answered with `skipped` and the reason.
"""

from __future__ import annotations

import gc
import math
import time
from typing import Any

from mlx_velocity.frameworks import interface, on_llama_cpp, on_mlx, on_torch, operators
from mlx_velocity.probe import measure, worker

Message = dict[str, Any]
FRAMEWORKS = {"mlx": on_mlx.Mlx, "torch": on_torch.Torch, "llama.cpp": on_llama_cpp.LlamaCpp}
WARM_UP_S = 0.2
WARM_UPS = 3
"""Warm-up calls at least, and seconds."""
SAMPLE_S = 5e-3
"""Operators are called so often in a sample that the clock and the last wait do not count."""
CALLS_MOST = 64
KEPT_BYTES = 256 << 20
"""Results of the calls of one sample are kept until its end: together no more than this."""

_state: Message = {}


def open_(request: Message) -> Message:
    """Start the framework on its device."""
    _state["framework"] = FRAMEWORKS[request["framework"]](request["kind"], request["threads"])
    return {"about": _state["framework"].about()}


def write(request: Message) -> Message:
    """Write the files that all frameworks load; only MLX's process is asked."""
    on_mlx.write(request["spec"], request["folder"], request["gguf"])
    return {}


def load(request: Message) -> Message:
    """Load a model: the facts of its weights."""
    _release()
    return _or_skipped(lambda: {"model": _state["framework"].load(request["spec"], request["folder"])})


def ready(request: Message) -> Message:
    """Prepare a task: `facts` of what it computes, and the `warmup` in seconds per call."""
    _release()
    return _or_skipped(lambda: _ready(request))


def turn(request: Message) -> Message:
    """Samples of the task in seconds per call, as many as a turn of a comparison has."""
    waited, idle = _between()
    samples: list[float] = []
    start, spent = time.perf_counter(), time.process_time()
    while not samples or (len(samples) < measure.TURN_MOST and time.perf_counter() - start < measure.TURN_S):
        samples.append(_sample())
    elapsed = time.perf_counter() - start
    busy = (time.process_time() - spent) / elapsed
    _state["left"] = time.perf_counter(), time.process_time()
    return {"samples": samples, "busy_cores": round(busy, 3), "waited_s": waited, "idle_s": idle}


OPERATIONS = {**worker.OPERATIONS, "open": open_, "write": write, "load": load, "ready": ready, "turn": turn}


def _release() -> None:
    """Let go of the last task, and start counting anew what is spent between turns."""
    for key in ("task", "calls", "left"):
        _state.pop(key, None)
    gc.collect()


def _or_skipped(take: Any) -> Message:
    try:
        found: Message = take()
    except NotImplementedError as error:
        return {"skipped": str(error)}
    return found


def _ready(request: Message) -> Message:
    if request["task"] == "operator":
        task, facts = _operator(request)
    else:
        task = getattr(_state["framework"], request["task"])(request["tokens"])
        facts = task.facts()
    _state["task"], _state["calls"] = task, int(request.get("calls") or 1)
    warmup: list[float] = []
    began = time.perf_counter()
    while len(warmup) < WARM_UPS or time.perf_counter() - began < WARM_UP_S:
        warmup.append(_sample())
    if request["task"] == "operator" and not request.get("calls"):
        # The first framework that is asked chooses for all: equal work in every sample.
        wanted = math.ceil(SAMPLE_S / min(warmup))
        _state["calls"] = max(1, min(wanted, CALLS_MOST, KEPT_BYTES // facts["result_bytes"]))
        _sample()
    _state["left"] = time.perf_counter(), time.process_time()
    return {"facts": {**facts, "calls": _state["calls"], "warm_ups": len(warmup)}, "warmup": warmup}


def _operator(request: Message) -> tuple[interface.Operator, Message]:
    name, size, dtype = request["name"], request["size"], request["dtype"]
    given = operators.inputs(name, size)
    task = _state["framework"].operator(name, given, size, dtype)
    result = task.result()
    error = operators.error(result, operators.reference(name, given, size))
    facts = {
        "inputs": operators.digest(given),
        "error": error if math.isfinite(error) else None,
        "tolerance": operators.tolerance(name, dtype),
        "dtypes": task.dtypes,
        "bits": getattr(task, "bits", None),
        "result_bytes": int(result.nbytes),
    }
    return task, facts


def _sample() -> float:
    """One sample in seconds per call, with the garbage collector off."""
    task, calls = _state["task"], _state["calls"]
    stage = hasattr(task, "prepare")
    if stage:
        task.prepare()
    gc.disable()
    try:
        start = time.perf_counter()
        if stage:
            task.run()
        else:
            task.call(calls)
        return float((time.perf_counter() - start) / calls)
    finally:
        gc.enable()


def _between() -> tuple[float, float]:
    """Seconds since the last turn, and the processor time that this process spent in them."""
    wall, spent = _state.pop("left")
    return round(time.perf_counter() - wall, 6), round(time.process_time() - spent, 6)


if __name__ == "__main__":
    worker.main(OPERATIONS)
