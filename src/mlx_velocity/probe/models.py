"""Models to measure: a known shape with random weights, a local folder, or a name on a hub.

A spec is `<shape>-<dtype>` (`tiny-float32`, `llama-3.2-1b-4bit`), `path:<folder>`, or `<owner>/<name>`.
A model that the caller already has is adopted: then `Held` stands where a spec would.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from pathlib import Path
from typing import Any

from mlx_velocity.errors import InputError
from mlx_velocity.probe import compat, kept, shapes, weights

HEADROOM = 1.3
"""Memory that a workload takes over its weights: activations, prompt cache, adapters."""
HEADROOM_BYTES = 500_000_000
"""What it takes on top, however small the model."""


class Held:
    """Names one model that somebody else holds, as a spec names one that we build. Keeps nothing alive."""

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self._identity = id(model)

    def model(self) -> Any:
        """The model; LookupError when its owner has let go of it."""
        found = self._model()
        if found is None:
            raise LookupError("the adopted model is gone: keep a reference to it while it is measured")
        return found

    def __eq__(self, other: object) -> bool:
        # Not by the models' own equality: a module compares its arrays. Not by the address alone: it is used again.
        if not isinstance(other, Held):
            return NotImplemented
        found = self._model()
        return found is not None and found is other._model()

    def __hash__(self) -> int:
        return self._identity


def adopt(model: Any) -> str | Held:
    """What workloads take for a model that the caller has; a spec stays a spec.

    InputError for what can't be called with token ids.
    """
    if isinstance(model, str):
        return model
    if isinstance(model, type) or not callable(model):
        advice = "give a spec, a model that mlx_lm loaded, or a module that maps ids to logits"
        raise InputError(f"a {type(model).__name__} is no model", advice)
    return Held(model)


def get(spec: str | Held) -> Any:
    """The model of `spec` with its weights in memory, kept until another one is asked for.

    Whoever gets it must not change it. NotImplementedError where the installed mlx_lm lacks the
    model type or the machine the memory; InputError where the spec means nothing. What is held by
    somebody else is returned as it is.
    """
    if isinstance(spec, Held):
        return spec.model()
    return kept.keep("model", spec, lambda: build(spec))


def build(spec: str) -> Any:
    """A new model of `spec`, evaluated, in evaluation mode; the errors are those of `get`."""
    check_fits(needed_bytes(spec))
    if spec.startswith("path:") or (not is_synthetic(spec) and "/" in spec):
        return _loaded(spec)
    return _evaluated(_lazy(spec))


def check_fits(needed: int) -> None:
    """NotImplementedError with both numbers where the device has less memory than `needed` bytes."""
    available = compat.device_memory_bytes()
    if needed > available:
        raise NotImplementedError(f"needs {needed / 1e9:.1f} GB, this machine has {available / 1e9:.1f} GB")


def is_synthetic(spec: str) -> bool:
    """Whether `spec` names a shape and a dtype that this module knows."""
    try:
        shapes.split(spec)
    except KeyError:
        return False
    return True


def config(spec: str) -> dict[str, Any]:
    """The `config.json` of a synthetic model; InputError for an unknown shape or dtype."""
    if not is_synthetic(spec):
        known = f"{', '.join(shapes.SHAPES)} with {', '.join(shapes.DTYPES)}"
        advice = f"write <shape>-<dtype>, path:<folder> or <owner>/<name>; known are {known}"
        raise InputError(f"no model is called {spec}", advice)
    shape, dtype = shapes.split(spec)
    found: dict[str, Any] = {**shapes.SHAPES[shape], "torch_dtype": shapes.base_dtype(spec)}
    if dtype in shapes.BITS:
        found["quantization"] = {"group_size": shapes.GROUP_SIZE, "bits": shapes.BITS[dtype]}
    return found


def needs_bytes(spec: str) -> int:
    """Bytes that measuring a synthetic model takes: its weights plus headroom."""
    return with_headroom(weight_bytes(spec))


@functools.cache
def weight_bytes(spec: str) -> int:
    """Bytes of a synthetic model's weights."""
    from mlx.utils import tree_flatten

    # The arrays are lazy: their sizes are known and nothing is allocated.
    return sum(int(parameter.nbytes) for _, parameter in tree_flatten(_lazy(spec).parameters()))


def needed_bytes(spec: str) -> int:
    """Bytes that measuring the model of `spec` takes; 0 where nothing is known of it before it is loaded."""
    if spec.startswith("path:"):
        return with_headroom(sum(path.stat().st_size for path in files_of(spec)))
    return 0 if not is_synthetic(spec) and "/" in spec else needs_bytes(spec)


def with_headroom(size: int) -> int:
    """Bytes that measuring takes beside `size` bytes of weights, those included."""
    return int(size * HEADROOM) + HEADROOM_BYTES


def parameter_count(model: Any) -> int:
    """Weights of `model` as a model card counts them: a quantized one counts as one, its scale not at all."""
    from mlx.utils import tree_flatten

    bits = {name: module.bits for name, module in model.named_modules() if hasattr(module, "bits")}
    count = 0
    for path, array in tree_flatten(model.parameters()):
        owner, _, kind = path.rpartition(".")
        if owner in bits and kind in ("scales", "biases"):
            continue
        packed = owner in bits and kind == "weight"
        count += int(array.size) * 32 // int(bits[owner]) if packed else int(array.size)
    return count


def vocabulary(model: Any) -> int:
    """How many token ids `model` knows.

    Where its arguments do not say, the rows of its smallest embedding: MLX reads beyond a table
    without a word. 1000 without either.
    """
    arguments = getattr(model, "args", None)
    text = getattr(arguments, "text_config", None) or {}
    said = getattr(arguments, "vocab_size", None) or text.get("vocab_size")
    return int(said or _smallest_embedding(model) or 1000)


def _smallest_embedding(model: Any) -> int | None:
    import mlx.nn as nn

    if not isinstance(model, nn.Module):
        return None
    tables = (nn.Embedding, nn.QuantizedEmbedding)
    rows = [module.weight.shape[0] for _, module in model.named_modules() if isinstance(module, tables)]
    return min(rows, default=None)


def takes_cache(model: Any) -> bool:
    """Whether `model` works with mlx_lm's prompt caches: it takes one, and says of which layers."""
    try:
        known = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return False
    takes = any(value.name == "cache" or value.kind is value.VAR_KEYWORD for value in known)
    return takes and (hasattr(model, "make_cache") or hasattr(model, "layers"))


def prompt(model: Any, count: int) -> list[int]:
    """`count` token ids, the same for every model of the same vocabulary."""
    return weights.integers(count, "prompt", vocabulary(model))


def _lazy(spec: str) -> Any:
    """The model of `spec` with its values described and not yet computed."""
    import mlx.core as mx
    import mlx.nn as nn

    description = config(spec)
    compat.check_products(shapes.base_dtype(spec))
    model_class, arguments_class = compat.model_classes(description["model_type"])
    model = model_class(arguments_class.from_dict(description))
    model.eval()
    if not hasattr(model, "set_dtype"):
        raise NotImplementedError("this version of MLX can't set the type of a model's weights")
    model.set_dtype(getattr(mx, shapes.base_dtype(spec)))
    weights.fill(model, shapes.split(spec)[0])
    quantization = description.get("quantization")
    if quantization:
        nn.quantize(model, **quantization, class_predicate=_quantizable)
    return model


def _quantizable(_path: str, module: Any) -> bool:
    """Whether a module can be quantized in whole groups; pinned, where mlx_lm's own rule changes by version."""
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % shapes.GROUP_SIZE == 0


def _evaluated(model: Any) -> Any:
    """`model` with its arrays computed one by one, so that temporaries never add up."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    for _, parameter in tree_flatten(model.parameters()):
        mx.eval(parameter)
    compat.clear_cache()
    return model


def _loaded(spec: str) -> Any:
    """A model from a folder or a hub, through mlx_lm's own loader."""
    import mlx_lm

    if not spec.startswith("path:"):
        return mlx_lm.load(spec)[0]
    return mlx_lm.load(str(files_of(spec)[0].parent))[0]


def files_of(spec: str) -> list[Path]:
    """The files of weights of `path:<folder>`; InputError where it is no folder of a model."""
    folder = Path(spec.removeprefix("path:")).expanduser()
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no config.json", "give the folder of a model in mlx_lm's format")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        advice = "download the weights into it, or convert them with mlx_lm.convert"
        raise InputError(f"{folder} holds a config.json and no *.safetensors", advice)
    return found
