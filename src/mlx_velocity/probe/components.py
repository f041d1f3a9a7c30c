"""Parts of a language model as mlx_lm builds it: its first layer, whole and in halves, and its two ends.

Forward only, with mlx_lm's own code. A sample is `CALLS` calls, each on the result of the one before,
and one evaluation at their end. The halves carry the norm before and the sum after them, as in the
layer, so that attention and MLP add up to the block, and values keep their size along the chain.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from mlx_velocity.probe import compat, kept, models, weights

CALLS = 8
"""Calls in a sample: about as many as a small model has layers."""


def attention(model: Any, x: Any, mask: Any, cache: Any) -> Any:
    """The first half of a layer: `x` + attention of the normed `x`."""
    layer = model.layers[0]
    return x + layer.self_attn(layer.input_layernorm(x), mask, cache)


def mlp(model: Any, x: Any, _mask: Any, _cache: Any) -> Any:
    """The second half of a layer: `x` + MLP of the normed `x`."""
    layer = model.layers[0]
    return x + layer.mlp(layer.post_attention_layernorm(x))


def block(model: Any, x: Any, mask: Any, cache: Any) -> Any:
    """A whole layer."""
    return model.layers[0](x, mask, cache)


def ends(model: Any, ids: Any, _mask: Any, _cache: Any) -> Any:
    """What is no layer: embedding, last norm and head; the likeliest tokens are the next call's ids."""
    import mlx.core as mx

    return mx.argmax(logits(model, ids), axis=-1)


def logits(model: Any, ids: Any) -> Any:
    """Logits of shape (1, tokens, vocabulary) of a model that has no layers."""
    body = model.model
    x = body.norm(body.embed_tokens(ids))
    return body.embed_tokens.as_linear(x) if tied(model) else model.lm_head(x)


def tied(model: Any) -> bool:
    """Whether the head is the embedding."""
    return not hasattr(model, "lm_head")


PARTS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "attention": attention,
    "mlp": mlp,
    "block": block,
    "ends": ends,
}


class Prefill:
    """A part on `tokens` tokens at once, without a cache, with the mask that mlx_lm gives its layers."""

    def __init__(self, model: str, part: str, tokens: int) -> None:
        import mlx.core as mx

        kept.release("prompt cache")
        self.model = models.get(model)
        self.part = PARTS[part]
        self.x = inputs(self.model, part, tokens)
        self.mask = compat.attention_mask(activations(self.model, tokens))
        self.cache: Any = None
        # A mask is an array in old versions, and a name or nothing in new ones.
        mx.eval([array for array in (self.x, self.mask) if isinstance(array, mx.array)])

    def prepare(self) -> None:
        """Nothing: no call changes anything."""

    def run(self) -> None:
        """`CALLS` calls in a row."""
        import mlx.core as mx

        x = self.x
        for _ in range(CALLS):
            x = self.part(self.model, x, self.mask, self.cache)
        mx.eval(x)


class Decode(Prefill):
    """A part on one token behind a cache of `depth` positions, which grows by one with each call."""

    def __init__(self, model: str, part: str, depth: int) -> None:
        import mlx.core as mx

        super().__init__(model, part, 1)
        self.filled = compat.make_prompt_cache(self.model)[0]
        # Attention fills it, whichever part is timed.
        prompt = activations(self.model, depth)
        mx.eval(attention(self.model, prompt, compat.attention_mask(prompt), self.filled), self.filled.state)

    def prepare(self) -> None:
        """A copy of the filled cache; copies of arrays share their memory until one is written to."""
        self.cache = copy.deepcopy(self.filled)


def inputs(model: Any, part: str, tokens: int) -> Any:
    """What the first call gets: token ids of shape (1, tokens) for the ends, else activations."""
    import mlx.core as mx

    return mx.array([models.prompt(model, tokens)]) if part == "ends" else activations(model, tokens)


def activations(model: Any, tokens: int) -> Any:
    """Random activations of variance 1 and shape (1, tokens, hidden), in the type of the model's norms."""
    norm = model.model.norm.weight
    return weights.uniform((1, tokens, norm.shape[0]), "activations", math.sqrt(3.0), norm.dtype)
