"""Everything that moved or changed its signature between versions of mlx and mlx_lm.

The rest of the probe calls these functions and knows one interface. What a version lacks is None
or NotImplementedError, asv's way to skip, with the reason.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """The versions of what is measured, by import name."""
    core = importlib.import_module("mlx.core")
    return {"mlx": str(core.__version__), "mlx_lm": mlx_lm_version()}


def mlx_lm_version() -> str:
    """mlx_lm's version as it says itself."""
    return str(getattr(importlib.import_module("mlx_lm"), "__version__", "of unknown version"))


def function(name: str) -> Any:
    """The function of mlx.core called `name` (`gather_mm`, `fast.rope`); NotImplementedError where it has none."""
    found: Any = importlib.import_module("mlx.core")
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise NotImplementedError(f"mlx {versions()['mlx']} has no {name}")
    return found


def check_products(dtype: str) -> None:
    """Raise NotImplementedError where a matrix product in `dtype` (`bfloat16`) would abort the process."""
    import mlx.core as mx

    # 0.21.1 does on CPU and 0.25.2 does not; between them no release has a wheel with a CPU backend alone.
    version = versions()["mlx"]
    old = tuple(map(int, version.split(".")[:2])) < (0, 25)
    if old and dtype == "bfloat16" and mx.default_device() == mx.Device(mx.cpu):
        raise NotImplementedError(f"mlx {version} aborts in bfloat16 matrix products on CPU")


def model_classes(model_type: str) -> tuple[Any, Any]:
    """mlx_lm's `Model` and `ModelArgs` of a model type; NotImplementedError where it has none."""
    module = _module(f"mlx_lm.models.{model_type}", f"model type {model_type}")
    return module.Model, module.ModelArgs


def _generate_module() -> Any:
    """Where `generate_step` lives: `mlx_lm.generate` since March 2025 (0.22.3), `mlx_lm.utils` before."""
    for name in ("mlx_lm.generate", "mlx_lm.utils"):
        # Not `from mlx_lm import generate`: that is the function of the same name.
        module = importlib.import_module(name)
        if hasattr(module, "generate_step"):
            return module
    raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no generate_step")


def generate_step(
    model: Any, prompt: list[int], needed: tuple[str, ...] = (), **wanted: Any
) -> Iterator[Any]:
    """mlx_lm's token generator with those of the `wanted` arguments that this version knows.

    NotImplementedError where it lacks one of the `needed` ones. All go by keyword: a positional
    argument was inserted in 0.32. Old versions without `max_tokens` never end: take, do not drain.
    """
    import mlx.core as mx

    step = _generate_module().generate_step
    arguments = _known_arguments(step, needed, wanted)
    temperature = inspect.signature(step).parameters.get("temp")
    if temperature is not None and temperature.default is inspect.Parameter.empty:
        arguments["temp"] = 0.0
    steps: Iterator[Any] = step(prompt=mx.array(prompt), model=model, **arguments)
    return steps


def _known_arguments(function: Any, needed: tuple[str, ...], wanted: dict[str, Any]) -> dict[str, Any]:
    """Those of the `wanted` arguments that `function` takes; NotImplementedError where a `needed` one is missing."""
    known = inspect.signature(function).parameters
    for name in needed:
        if name not in known:
            raise NotImplementedError(f"{function.__name__} of mlx-lm {mlx_lm_version()} takes no {name}")
    return {name: value for name, value in wanted.items() if name in known}


def speculative_step(model: Any, draft: Any, prompt: list[int], **wanted: Any) -> Iterator[Any]:
    """mlx_lm's token generator with a draft model, behind a `prompt_cache` of both (since January 2025).

    Its items end with whether the draft had guessed the token.
    """
    import mlx.core as mx

    step = getattr(_generate_module(), "speculative_generate_step", None)
    if step is None:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no speculative_generate_step")
    arguments = _known_arguments(step, ("prompt_cache",), wanted)
    steps: Iterator[Any] = step(prompt=mx.array(prompt), model=model, draft_model=draft, **arguments)
    return steps


def batch_steps(model: Any, rows: list[list[int]], max_tokens: int, step_size: int) -> Iterator[list[int]]:
    """Greedy tokens of mlx_lm's BatchGenerator (since September 2025), one for each of `rows` a step."""
    make = getattr(_generate_module(), "BatchGenerator", None)
    if make is None:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no BatchGenerator")
    sizes = {
        "completion_batch_size": len(rows),
        "prefill_batch_size": len(rows),
        "prefill_step_size": step_size,
    }
    generator = make(
        model, **_known_arguments(make, (), {"max_tokens": max_tokens, "sampler": greedy, **sizes})
    )
    uids = generator.insert(rows)
    # The first versions' `next` returned the generated tokens; later ones have a method for those.
    following = getattr(generator, "next_generated", generator.next)
    while responses := following():
        tokens = {response.uid: int(response.token) for response in responses}
        yield [tokens[uid] for uid in uids]


def generation_stream() -> Any:
    """The stream that mlx_lm generates on; the default one where it has none of its own."""
    import mlx.core as mx

    found = getattr(_generate_module(), "generation_stream", None)
    return mx.default_stream(mx.default_device()) if found is None else found


def wire(model: Any) -> None:
    """Let Metal keep the weights resident until this process ends, as mlx_lm does while it generates."""
    limit = getattr(_generate_module(), "wired_limit", None)
    if limit is not None and backend() == "metal":
        _wired.enter_context(limit(model))


_wired = contextlib.ExitStack()


def token_of(step: Any) -> int:
    """The token id of one item of `generate_step`: an int, or an array in old versions."""
    token = step[0]
    return token if isinstance(token, int) else int(token.item())


def greedy(logprobs: Any) -> Any:
    """The sampler that every version shares: the likeliest token."""
    import mlx.core as mx

    return mx.argmax(logprobs, axis=-1)


def make_sampler(**wanted: Any) -> Any:
    """mlx_lm's sampler: from log-probabilities of shape (batch, vocabulary) to tokens of shape (batch,).

    NotImplementedError where this version lacks one of the `wanted` settings.
    """
    make = getattr(_module("mlx_lm.sample_utils", "make_sampler"), "make_sampler", None)
    if make is None:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no make_sampler")
    for name in wanted.keys() - inspect.signature(make).parameters.keys():
        raise NotImplementedError(f"make_sampler of mlx-lm {mlx_lm_version()} takes no {name}")
    return make(**wanted)


def synchronize() -> None:
    """Wait until the default stream and mlx_lm's generation stream have nothing left to do."""
    import mlx.core as mx

    mx.synchronize()
    stream = getattr(_generate_module(), "generation_stream", None)
    if stream is not None:
        mx.synchronize(stream)


def _module(name: str, what: str) -> Any:
    """A module of mlx_lm; NotImplementedError before it had `what`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A missing dependency of a module that is there is another matter.
        if error.name != name:
            raise
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no {what}") from None


def _cache_module() -> Any:
    return _module("mlx_lm.models.cache", "prompt cache")


def make_prompt_cache(model: Any) -> list[Any]:
    """A fresh prompt cache, one entry a layer; NotImplementedError before mlx_lm had them."""
    return list(_cache_module().make_prompt_cache(model))


def make_rotating_cache(model: Any, positions: int, keep: int = 4) -> list[Any]:
    """A fresh cache that forgets all but the first `keep` and the last of `positions` positions."""
    # Not through make_prompt_cache: a model that makes its own caches would ignore the size.
    made = _cache_module().RotatingKVCache
    return [made(max_size=positions, keep=keep) for _ in model.layers]


def quantized_cache(prompt_cache: list[Any], bits: int, group_size: int) -> list[Any]:
    """What a filled prompt cache holds, quantized; NotImplementedError where it can't be."""
    if not all(hasattr(layer, "to_quantized") for layer in prompt_cache):
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} can't quantize this model's prompt cache")
    return [layer.to_quantized(group_size=group_size, bits=bits) for layer in prompt_cache]


def attention_mask(x: Any) -> Any:
    """The mask that mlx_lm's models give their layers for activations `x` of shape (1, tokens, hidden)."""
    module = importlib.import_module("mlx_lm.models.base")
    if not hasattr(module, "create_attention_mask"):
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no create_attention_mask")
    return module.create_attention_mask(x, None)


def trim_prompt_cache(prompt_cache: list[Any], tokens: int) -> None:
    """Take the last `tokens` tokens out of a prompt cache; NotImplementedError where it can't be done."""
    module = importlib.import_module("mlx_lm.models.cache")
    if not module.can_trim_prompt_cache(prompt_cache):
        raise NotImplementedError("the prompt cache of this model can't be trimmed")
    module.trim_prompt_cache(prompt_cache, tokens)


def cache_bytes(prompt_cache: list[Any]) -> int:
    """Bytes allocated by a prompt cache; its `state` is trimmed in some versions, the arrays never are."""
    from mlx.utils import tree_flatten

    arrays = tree_flatten([list(vars(layer).values()) for layer in prompt_cache])
    return sum(array.nbytes for _, array in arrays if hasattr(array, "nbytes"))


def linear_to_lora_layers(model: Any, layers: int, config: dict[str, Any], dora: bool = False) -> None:
    """Put adapters on the last `layers` layers; ValueError or KeyError where mlx_lm refuses `config`.

    NotImplementedError where this version knows no DoRA.
    """
    convert = importlib.import_module("mlx_lm.tuner.utils").linear_to_lora_layers
    if len(inspect.signature(convert).parameters) < 3:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} lets nobody choose what LoRA adapts")
    if dora and "use_dora" not in inspect.signature(convert).parameters:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no DoRA")
    # The count is `num_lora_layers` in old versions and `num_layers` in new ones: by position.
    convert(model, layers, config, **({"use_dora": True} if dora else {}))


@contextmanager
def gradient_checkpointing(model: Any) -> Iterator[None]:
    """Inside, the layers of `model` keep their inputs alone and compute again in the backward pass.

    By mlx_lm's own function, which replaces the call of the layers' class for good: taken back here.
    NotImplementedError where this version has none.
    """
    checkpoint = getattr(importlib.import_module("mlx_lm.tuner.trainer"), "grad_checkpoint", None)
    if checkpoint is None:
        raise NotImplementedError(f"mlx-lm {mlx_lm_version()} has no grad_checkpoint")
    kind = type(model.layers[0])
    call = kind.__call__
    checkpoint(model.layers[0])
    try:
        yield
    finally:
        kind.__call__ = call


def load_model(folder: Path) -> Any:
    """The model of a folder through mlx_lm's own loader, without its tokenizer; its weights are in memory."""
    loaded = importlib.import_module("mlx_lm.utils").load_model(folder)
    # With the configuration beside it since December 2024.
    return loaded[0] if isinstance(loaded, tuple) else loaded


def _memory_function(name: str) -> Any:
    """A memory function of mlx, from `mlx.core` or, in 0.21, from `mlx.core.metal`; None without."""
    import mlx.core as mx

    return getattr(mx, name, None) or getattr(getattr(mx, "metal", None), name, None)


def clear_cache() -> None:
    """Return MLX's buffer cache to the system."""
    function = _memory_function("clear_cache")
    if function is not None:
        function()


def reset_peak_memory() -> None:
    """Start a new peak."""
    function = _memory_function("reset_peak_memory")
    if function is not None:
        function()


def memory() -> dict[str, int | None]:
    """`peak`, `active` and `cache` of MLX's allocator in bytes; None where it does not count.

    mlx 0.21 answers 0 on CPU. A model is in memory whenever this is called, so 0 active bytes
    means that nothing is counted.
    """
    read = {name: _memory_function(f"get_{name}_memory") for name in ("peak", "active", "cache")}
    values = {name: function() if function else None for name, function in read.items()}
    if not values["active"]:
        return dict.fromkeys(values)
    return values


def device_info() -> dict[str, Any]:
    """What MLX says about its device: from `mlx.core`, or `mlx.core.metal` up to 0.30.3; may be empty."""
    import mlx.core as mx

    if hasattr(mx, "device_info"):
        return dict(mx.device_info())
    metal = getattr(mx, "metal", None)
    return dict(metal.device_info()) if metal is not None and metal.is_available() else {}


def backend() -> str:
    """What MLX computes with by default: `cpu`, `metal` or `cuda`."""
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    metal = getattr(mx, "metal", None)
    return "metal" if metal is not None and metal.is_available() else "cuda"


def device_memory_bytes() -> int:
    """Memory that a model may fill: what Metal recommends, else the GPU's, else the machine's."""
    import mlx.core as mx
    import psutil

    machine = int(psutil.virtual_memory().total)
    if mx.default_device() == mx.Device(mx.cpu):
        return machine
    found = device_info()
    for key in ("max_recommended_working_set_size", "total_memory", "memory_size"):
        if found.get(key):
            return int(found[key])
    return machine
