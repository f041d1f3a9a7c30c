"""The worker's side of `bench`: which models are meant, loading one, and one sample at a time."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from mlx_velocity.bench import Trial
from mlx_velocity.errors import InputError
from mlx_velocity.probe import (
    compat,
    generation,
    kept,
    measure,
    memory,
    models,
    observe,
    sensors,
    shapes,
    texts,
    workloads,
)

Message = dict[str, Any]

DEFAULTS = {"cpu": "tiny-float32", "metal": "llama-3.2-1b-4bit", "cuda": "llama-3.2-1b-bfloat16"}
"""The model where none is named: it suits every machine of its kind, so that their figures compare."""


def answer(request: Message) -> Message:
    """What the request's `do` asks for; `refused` holds a message and an advice where the input is wrong."""
    try:
        return {"plan": plan, "load": load, "sample": sample}[request["do"]](request)
    except InputError as error:
        return {"refused": [error.message, error.advice]}


def plan(request: Message) -> Message:
    """The specs that `models` and `dtypes` mean, and what they would run on. Raises InputError for a wrong one."""
    backend = compat.backend()
    named = request["models"] or [DEFAULTS[backend]]
    specs = [spec for name in named for spec in resolve(name, request["dtypes"], backend)]
    if request["draft"]:
        (draft,) = resolve(request["draft"], [], backend)
    return {
        "models": list(dict.fromkeys(specs)),
        "draft": draft if request["draft"] else "",
        "backend": backend,
        "modules": compat.versions(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "memory_bytes": compat.device_memory_bytes(),
    }


def resolve(name: str, dtypes: list[str], backend: str) -> list[str]:
    """The specs that a model's name means: a shape alone gets each dtype, or the usual one of the backend."""
    unknown = [dtype for dtype in dtypes if dtype not in shapes.DTYPES]
    if unknown:
        raise InputError(f"no model has the dtype {unknown[0]}", f"choose among {', '.join(shapes.DTYPES)}")
    shape = name if name in shapes.SHAPES else shapes.split(name)[0] if models.is_synthetic(name) else ""
    if shape and (dtypes or shape == name):
        return [f"{shape}-{dtype}" for dtype in dtypes or [DEFAULTS[backend].rpartition("-")[2]]]
    if not shape and dtypes:
        raise InputError(f"{name} has the dtype of its files", "leave out --dtype, or name a shape instead")
    if name == generation.SAME or shape:
        return [name]
    if name.startswith("path:"):
        models.files_of(name)
    elif name.count("/") != 1:
        models.config(name)
    return [name]


def load(request: Message) -> Message:
    """Get a model into memory and say what it is; `skipped` or `failed` carry the reason where that can't be."""
    return _reasoned(lambda: {"model": _described(request["model"])})


def _described(spec: str) -> Message:
    from mlx.utils import tree_flatten

    if models.is_synthetic(spec):
        _check_dtype(shapes.base_dtype(spec))
    _check_free(models.needed_bytes(spec))
    model = models.get(spec)
    compat.wire(model)
    arrays = [array for _, array in tree_flatten(model.parameters())]
    bits = [module.bits for _, module in model.named_modules() if hasattr(module, "bits")]
    return {
        "name": Path(spec.removeprefix("path:")).name if spec.startswith("path:") else spec,
        # Most layers decide: a model that mixes widths keeps its first and last ones wide.
        "dtype": f"{max(set(bits), key=bits.count)}bit" if bits else _name_of(max(arrays, key=lambda x: x.nbytes).dtype),
        "weight_bytes": sum(int(array.nbytes) for array in arrays),
        "parameters": models.parameter_count(model),
        "random": models.is_synthetic(spec),
        "cache_bytes_per_token": _growth(model),
        "config": _configuration(spec, model),
    }  # fmt: skip


def _check_free(needed: int) -> None:
    """NotImplementedError where a Linux machine would end the process for want of memory that others hold."""
    import psutil

    memory_now = psutil.virtual_memory()
    if (
        sys.platform == "linux"
        and compat.backend() == "cpu"
        and memory_now.available < needed <= memory_now.total
    ):
        raise NotImplementedError(
            f"needs {needed / 1e9:.1f} GB, of this machine's {memory_now.total / 1e9:.1f} GB "
            f"{memory_now.available / 1e9:.1f} GB are free"
        )


def _check_dtype(dtype: str) -> None:
    """NotImplementedError where the device does not compute in `dtype`."""
    import mlx.core as mx

    try:
        ones = mx.ones((8, 8), dtype=getattr(mx, dtype))
        mx.eval(ones @ ones)
    except Exception as error:
        raise NotImplementedError(f"this device does not compute in {dtype}: {error}") from error


def _name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def _growth(model: Any) -> int:
    """Bytes that one token takes in a prompt cache: arrays of shape (batch, heads, tokens, size), grown in blocks."""
    import mlx.core as mx

    cache = compat.make_prompt_cache(model)
    # Nothing is computed: the sizes are known before.
    model(mx.array([[0]]), cache=cache)
    arrays: list[Any] = [getattr(layer, name, None) for layer in cache for name in ("keys", "values")]
    shaped = [array for array in arrays if len(getattr(array, "shape", ())) == 4]
    return sum(int(array.nbytes) // array.shape[2] for array in shaped)


def _configuration(spec: str, model: Any) -> Message:
    """The config.json of a model; of one from a hub, mlx_lm's arguments made of it."""
    if models.is_synthetic(spec):
        return models.config(spec)
    if spec.startswith("path:"):
        text = (models.files_of(spec)[0].parent / "config.json").read_text("utf-8")
    else:
        # A dataclass whose fields may be dataclasses; JSON has no others.
        text = json.dumps(vars(model.args), default=lambda value: getattr(value, "__dict__", str(value)))
    # Infinity stands in real configurations, and in no JSON that others read.
    return dict(json.loads(text, parse_constant=str))


def sample(request: Message) -> Message:
    """One sample of `trial`, made ready at its first; `skipped` or `failed` where it can't be.

    `text` is the prompt of a trial of text; a `warm` sample begins with an empty buffer cache.
    """
    return _reasoned(lambda: _sample(request))


_begun: dict[str, Any] = {}
"""The trial that is measured, and the machine at its first sample."""


def _sample(request: Message) -> Message:
    spec, trial = request["model"], Trial(**request["trial"])
    key = (spec, trial, request["text"])
    if _begun.get("key") != key:
        _check_room(models.get(spec), trial)
        observe.collect()
        _begun.update(sensors.read(), key=key)
    work = kept.keep("workload", key, lambda: workload(spec, trial, request["text"]))
    work.prepare()
    if request["warm"]:
        memory.begin()
    else:
        compat.reset_peak_memory()
    seconds = measure.seconds_of(work.run)
    compat.synchronize()
    return {
        "seconds": seconds,
        "peak_bytes": compat.memory()["peak"],
        "notes": observe.collect(),
        "sensors": sensors.between(_begun, sensors.read()),
    }


def workload(spec: str, trial: Trial, text: str) -> workloads.Workload:
    """What is timed for `trial`."""
    tokens, depth, batch = trial.tokens, trial.depth, trial.batch
    if trial.stage == "prefill":
        return generation.Prompts(spec, tokens, batch, depth)
    if trial.stage == "decode":
        # Alone through mlx_lm's generate_step; that takes no batch.
        chained = workloads.Decode(spec, depth, tokens)
        return chained if batch == 1 else generation.Steps(spec, depth, tokens, batch, ahead=True)
    if trial.stage == "stepwise":
        return generation.Steps(spec, depth, tokens, batch)
    if trial.stage == "batched":
        return generation.Batched(spec, depth, tokens, batch)
    if trial.stage == "speculative":
        return generation.Speculative(spec, depth, tokens, trial.draft)
    if trial.stage == "reuse":
        return generation.Reuse(spec, tokens)
    ids, remark = texts.encode(spec, models.get(spec), text)
    if remark:
        observe.note(tokenizer=remark)
    return generation.Answer(spec, ids, tokens)


def _check_room(model: Any, trial: Trial) -> None:
    """NotImplementedError with both numbers where the prompt caches of `trial` don't fit beside the weights."""
    from mlx.utils import tree_flatten

    # The filled cache and the copy that a sample writes to.
    room = 2 * _growth(model) * trial.batch * (trial.depth + trial.tokens)
    weights = sum(int(array.nbytes) for _, array in tree_flatten(model.parameters()))
    models.check_fits(weights + room)


def _reasoned(do: Any) -> Message:
    try:
        found: Message = do()
        return found
    except NotImplementedError as error:
        return {"skipped": str(error) or "not implemented here"}
    except InputError:
        raise
    except Exception as error:
        # Such as too little memory: the process lives on, and so do the trials that follow.
        kept.release("workload")
        return {
            "failed": f"{type(error).__name__}: {error}",
            "last_lines": traceback.format_exc().splitlines()[-12:],
        }
