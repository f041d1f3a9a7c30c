"""What kind of part a module or a function of a language model is, told by names that all models share.

Within a layer, a *block* is what the layer calls: attention, an MLP, a mixture of experts, or another
mixer of tokens (a state space, a recurrence, linear attention). Unknown names fall into what is left
of their block, so a model that nobody has seen is split more coarsely, and never wrongly added up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

METHODS = ("as_linear",)
"""Methods of modules that do a part's work beside `__call__`: a tied embedding as the head."""
CACHE_UPDATE = "update_and_fetch"
FAST_ATTENTION = "scaled_dot_product_attention"
ACTIVATIONS = ("silu", "gelu", "gelu_approx", "gelu_fast_approx", "relu", "relu2", "softplus", "sigmoid")
LOSS = "cross_entropy"
SAMPLING = "sampling"
ROOT = "(model)"
"""Name of the model itself, which has no path."""

_BLOCKS = (
    ("mixer", r"mamba|ssm|delta|linear_?att|recurren|shortconv|rwkv|timemix|lightning"),
    ("attention", r"att"),
    ("experts", r"moe|sparse"),
    ("mlp", r"mlp|ffn|feed_?forward|^ff$"),
    ("mixer", r"mixer|conv|temporal"),
)
"""Block → words in the class of what a layer calls, or in its name; the first that fits."""
_PARTS = {
    "attention": (
        (r"norm|ln", "q/k norm"),
        (r"rope|rotary", "rope"),
        (r"^(o|out)(_.*)?$|^(c_proj|wo|dense)$", "output projection"),
        (r"", "q/k/v projections"),
    ),
    "mlp": (
        (r"^act", "activation"),
        (r"down|^w2$|fc2|fc_out|c_proj|4h_to_h|proj_2|out_proj", "down projection"),
        (r"norm|drop", "mlp rest"),
        (r"", "gate/up projections"),
    ),
    "mixer": (
        (r"norm", "mixer norm"),
        (r"conv", "mixer convolution"),
        (r"^o_|out|^o$", "mixer output projection"),
        (r"", "mixer input projections"),
    ),
}
_EXPERTS = {"activation": "experts activation", "down projection": "experts down"}
_FUNCTIONS = {
    "attention": ((r"rope|rotary", "rope"), (r"att|sdpa", "attention")),
    "mlp": ((r"glu|lu$|act|sigmoid|softplus|approx", "activation"),),
    "experts": (
        (r"select|route|topk|gating", "router"),
        (r"glu|lu$|act|sigmoid|softplus|approx", "experts activation"),
    ),
    "mixer": ((r"ssm|delta|scan|recurren|att|update|wkv", "mixer state space"),),
}


@dataclass(frozen=True)
class Place:
    """Where a module stands in a model."""

    name: str
    kind: str
    layer: int | None
    tail: bool
    """Only the logits need it, and no prompt cache: the last layer, and what comes behind it."""
    outer: bool
    """It holds the layers."""


def places(model: Any) -> dict[int, Place]:
    """The place of every module of a model by its identity; a module in several places has its first one."""
    paths = dict(reversed(list(model.named_modules())))
    layers = {path for path in paths if re.search(r"\.\d+$", path) and not re.search(r"\.\d+\.", path)}
    numbers = sorted(int(path.rpartition(".")[2]) for path in layers)
    found = {}
    for path, module in paths.items():
        layer = _layer(path)
        kind = kind_of(path, paths)
        outer = layer is None and any(item.startswith(f"{path}." if path else "") for item in layers)
        behind = layer is None and kind in ("final norm", "head")
        tail = behind or (layer is not None and layer == numbers[-1])
        found[id(module)] = Place(path or ROOT, kind, layer, tail, outer)
    return found


def _layer(path: str) -> int | None:
    number = re.search(r"\.(\d+)(?:\.|$)", path)
    return int(number[1]) if number else None


def kind_of(path: str, modules: dict[str, Any]) -> str:
    """The kind of the module at `path` among all modules of its model."""
    parent, _, leaf = path.rpartition(".")
    class_name = type(modules[path]).__name__
    if re.search("lora|dora", class_name, re.IGNORECASE):
        return "adapters"
    if parent in modules and re.search("lora|dora", type(modules[parent]).__name__, re.IGNORECASE):
        # What an adapter is put on is what it was before.
        return "adapters" if leaf == "dropout" else _plain_kind(parent, modules)
    return _plain_kind(path, modules)


def _plain_kind(path: str, modules: dict[str, Any]) -> str:
    within = re.match(r"(.*?\.\d+)(?:\.(.*))?$", path)
    leaf = path.rpartition(".")[2].lower()
    class_name = type(modules[path]).__name__.lower()
    if within is None:
        return _outer_kind(leaf, class_name)
    if within[2] is None:
        return "layer rest"
    names = within[2].split(".")
    head = f"{within[1]}.{names[0]}"
    if len(names) == 1 and re.search(r"norm|^ln", f"{leaf} {class_name}"):
        return "input norm" if _is_first_norm(head, within[1], modules) else "post norm"
    block = _block(head, modules)
    if len(names) == 1:
        return f"{block} rest"
    return _experts_kind(names, class_name) if block == "experts" else _first(_PARTS[block], leaf)


def _outer_kind(leaf: str, class_name: str) -> str:
    if "norm" in class_name or "norm" in leaf or leaf.startswith("ln"):
        return "final norm"
    if "embedding" in class_name:
        return "embedding"
    return "head" if "linear" in class_name else "other"


def _is_first_norm(path: str, layer: str, modules: dict[str, Any]) -> bool:
    # A module is a dictionary of what it holds, in the order in which that was made.
    norms = [name for name, value in modules[layer].items() if "norm" in type(value).__name__.lower()]
    return norms[:1] == [path.rpartition(".")[2]]


def _block(path: str, modules: dict[str, Any]) -> str:
    inside = [type(module).__name__ for name, module in modules.items() if name.startswith(f"{path}.")]
    if any(name.lower().startswith(("switch", "quantizedswitch")) for name in inside):
        return "experts"
    for words in (type(modules[path]).__name__.lower(), path.rpartition(".")[2].lower()):
        for block, pattern in _BLOCKS:
            if re.search(pattern, words):
                return block
    return "mlp"


def _experts_kind(names: list[str], class_name: str) -> str:
    if "shared" in names[1]:
        return "shared experts"
    if len(names) == 2 and (re.search(r"^gate$|router|gating", names[1]) or "gate" in class_name):
        return "router"
    kind = _first(_PARTS["mlp"], names[-1])
    if len(names) == 2 and "linear" not in class_name:
        return "experts rest"
    return _EXPERTS.get(kind, "experts gate/up")


def of_method(method: str) -> str:
    """The kind of a module's work under another name than a call."""
    return {"as_linear": "head"}[method]


def of_function(name: str, caller: str) -> str:
    """The kind of a function by its name and by the kind of the part that calls it."""
    if name in (SAMPLING, LOSS):
        return {SAMPLING: "sampling", LOSS: "loss"}[name]
    if name == CACHE_UPDATE:
        return "kv cache"
    if "mask" in name:
        return "mask"
    block = caller.removesuffix(" rest")
    for pattern, kind in _FUNCTIONS.get(block, ()):
        if re.search(pattern, name.lower()):
            return kind
    return caller


def _first(table: tuple[tuple[str, str], ...], name: str) -> str:
    return next(kind for pattern, kind in table if re.search(pattern, name))
