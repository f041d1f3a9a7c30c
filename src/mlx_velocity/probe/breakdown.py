"""One prefill, decode or LoRA step of a model, once as it is and once part by part, turn about."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlx_velocity.errors import InputError
from mlx_velocity.probe import compat, lora, observe, parts, sensors, workloads
from mlx_velocity.probe.workloads import Workload

STAGES = ("prefill", "decode", "lora")
WARMUP_S = 0.2
"""Seconds of runs that nobody times, of each kind of run; at least one of each."""
FLOOR_RUNS = 50
DIGITS = 9
"""Of a stored time in seconds: the clock knows no more."""


@dataclass(frozen=True)
class Stage:
    """A stage that is ready: the workload, and how it runs part by part."""

    work: Workload
    profiled: Callable[[parts.Recorder], None]
    model: Any
    caches: list[Any]
    steps: int
    """Equal steps in one run: the tokens of a decode."""
    discarded: int = 0
    """Calls of the model whose logits are not wanted: all chunks of a prompt but the last."""


def breakdown(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to an operation `profile`.

    The request says `stage`, `model`, `tokens` of a prompt or a LoRA step, `depth` and `generate` of a
    decode, `repetitions`, and whether to `warm` up. `refused` and `advice` are the answer where the
    request means nothing, `skipped` is the reason where the model can't do the stage.
    """
    try:
        stage = _stage(request)
        return _measure(stage, int(request["repetitions"]), bool(request.get("warm", True)))
    except InputError as error:
        return {"refused": error.message, "advice": error.advice}
    except NotImplementedError as reason:
        return {"skipped": str(reason) or "not implemented here"}


def _stage(request: dict[str, Any]) -> Stage:
    name, spec = request["stage"], str(request["model"])
    if name == "prefill":
        prefill = workloads.Prefill(spec, int(request["tokens"]))
        return Stage(
            prefill, lambda _: prefill.run(), prefill.model, compat.make_prompt_cache(prefill.model), 1,
            len(prefill.chunks) - 1,
        )  # fmt: skip
    if name == "decode":
        decode = workloads.Decode(spec, int(request["depth"]), int(request["generate"]))
        return Stage(
            decode, lambda _: decode.run(), decode.model, compat.make_prompt_cache(decode.model), decode.tokens,
        )  # fmt: skip
    if name == "lora":
        step = lora.Step(spec, int(request["tokens"]))
        return Stage(step, lambda recorder: _lora_step(step, recorder), step.model, [], 1)
    raise InputError(f"there is no stage '{name}'", f"choose one of {', '.join(STAGES)}")


def _lora_step(step: lora.Step, recorder: parts.Recorder) -> None:
    """The step with forward, backward and update computed one after the other.

    Gradients are one computation: what goes backward through a part can't be told apart from outside of
    mlx. So the backward pass is one part, inside of which the parts of the forward pass are timed.
    """
    with recorder.part("backward", "backward"):
        value, gradients = step.loss_and_gradients(step.model, step.inputs, step.targets)
        parts.compute((value, gradients))
    with recorder.part("optimizer", "optimizer"):
        step.update(value, gradients)
    observe.note(loss=value.item())


def _measure(stage: Stage, repetitions: int, warm: bool) -> dict[str, Any]:
    recorder = parts.Recorder()
    if warm:
        _warm_up(lambda: _plain(stage))
        _warm_up(lambda: _apart(stage, recorder))
    observe.collect()
    before = sensors.read()
    unprofiled: list[float] = []
    profiled: list[float] = []
    found: dict[str, dict[str, Any]] = {}
    notes: dict[str, dict[str, Any]] = {}
    for number in range(repetitions):
        # Turn about, so that a machine that becomes slower does so for both.
        for kind in ("plain", "apart") if number % 2 == 0 else ("apart", "plain"):
            if kind == "plain":
                unprofiled.append(_plain(stage))
            else:
                seconds, taken = _apart(stage, recorder)
                profiled.append(seconds)
                _add(found, taken, number)
            notes[kind] = observe.collect()
    return {
        "steps": stage.steps,
        "unprofiled": [round(value, DIGITS) for value in unprofiled],
        "profiled": [round(value, DIGITS) for value in profiled],
        "parts": list(found.values()),
        "floor_s": _floor(recorder),
        "notes": notes["plain"],
        "same_result": _same(notes["plain"], notes["apart"]),
        "versions": compat.versions(),
        "sensors": sensors.between(before, sensors.read()),
    }


def _add(found: dict[str, dict[str, Any]], taken: list[parts.Part], number: int) -> None:
    for part in taken:
        empty: dict[str, Any] = {
            "name": part.name,
            "kind": part.kind,
            "layer": part.layer,
            "self_s": [[] for _ in range(number)],
            "total_s": [0.0] * number,
        }
        entry = found.setdefault(part.name, empty)
        entry["self_s"].append([round(value, DIGITS) for value in part.self_s])
        entry["total_s"].append(round(part.total_s, DIGITS))
    for entry in found.values():
        # A part that this repetition did not call.
        entry["self_s"] += [[]] * (number + 1 - len(entry["self_s"]))
        entry["total_s"] += [0.0] * (number + 1 - len(entry["total_s"]))


def _plain(stage: Stage) -> float:
    """Seconds of one run as it is."""
    stage.work.prepare()
    compat.synchronize()
    return _timed(stage.work.run)


def _apart(stage: Stage, recorder: parts.Recorder) -> tuple[float, list[parts.Part]]:
    """Seconds of one run part by part, and the parts."""
    with parts.watch(stage.model, recorder, stage.caches):
        stage.work.prepare()
        compat.synchronize()
        taken: list[Any] = []
        _timed(lambda: taken.extend(recorder.whole(lambda: stage.profiled(recorder), stage.discarded)))
    return taken[0], taken[1]


def _timed(body: Callable[[], None]) -> float:
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        body()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def _warm_up(run: Callable[[], object]) -> None:
    start = time.perf_counter()
    with observe.warm_up():
        run()
        while time.perf_counter() - start < WARMUP_S:
            run()


def _floor(recorder: parts.Recorder) -> float:
    """Seconds that a part takes which has next to nothing to compute: times of this size say nothing."""
    import mlx.core as mx

    one = mx.array(1.0)
    mx.eval(one)

    def body() -> None:
        for _ in range(FLOOR_RUNS):
            with recorder.part("nothing", "nothing"):
                parts.compute(one + one)

    taken = recorder.whole(body)[1]
    return round(statistics.median(next(part for part in taken if part.name == "nothing").self_s), DIGITS)


def _same(plain: dict[str, Any], apart: dict[str, Any]) -> bool:
    """Whether both runs computed the same: equal tokens, or an equal loss but for rounding."""
    if "loss" in plain:
        return bool(abs(plain["loss"] - apart["loss"]) <= 1e-4 * max(1.0, abs(plain["loss"])))
    return bool(plain.get("digest") == apart.get("digest"))
