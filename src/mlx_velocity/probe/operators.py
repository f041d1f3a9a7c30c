"""Single operators of a language model, at the sizes and in the types that a model's shape gives them.

A sample is `CALLS` calls and one evaluation at their end, so that neither the clock nor the wait for
the device matters. A `Chain` feeds each result into the next call: no two run at once, as in a
model. A `Batch` makes independent calls, where the result is no input. Building the graph in Python
is in the time, as it is in a model's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from mlx_velocity.probe import compat, kept, models, shapes, weights

CALLS = 32
"""Calls in a sample: a decode-shaped product of 35 µs (8B, 3 TB/s) makes a body of 1 ms."""

CONTEXT = 512
"""Positions that the scores of a softmax run over."""

EPSILON = 1e-5


class Chain:
    """`CALLS` calls, each on the result of the one before."""

    calls_per_step: ClassVar[int] = 1
    x: Any
    """What the first call gets."""

    def step(self, x: Any) -> Any:
        """The calls of one link; its result must be fit to be the next one's input."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Nothing: a call changes nothing."""

    def run(self) -> None:
        """The chain, evaluated once."""
        import mlx.core as mx

        x = self.x
        for _ in range(CALLS // self.calls_per_step):
            x = self.step(x)
        mx.eval(x)


class Batch(Chain):
    """`CALLS` independent calls of `step`, each on an input of its own."""

    inputs: list[Any]

    def run(self) -> None:
        """All calls, evaluated together."""
        import mlx.core as mx

        mx.eval([self.step(x) for x in self.inputs])


class Sizes:
    """What the shape and type of a model say about its operators; the model itself is not made."""

    def __init__(self, spec: str) -> None:
        import mlx.core as mx

        # Weights of a whole model must not crowd the operator's out.
        kept.release("prompt cache", "model")
        said = models.config(spec)
        compat.check_products(shapes.base_dtype(spec))
        self.dtype: Any = getattr(mx, shapes.base_dtype(spec))
        self.hidden: int = said["hidden_size"]
        self.intermediate: int = said["intermediate_size"]
        self.heads: int = said["num_attention_heads"]
        self.kv_heads: int = said["num_key_value_heads"]
        self.head_dim: int = said.get("head_dim", self.hidden // self.heads)
        self.vocabulary: int = said["vocab_size"]
        self.rope_base: float = said["rope_theta"]
        self.experts: int = said.get("num_experts", 0)
        self.chosen: int = said.get("num_experts_per_tok", 0)
        self.expert_width: int = said.get("moe_intermediate_size", 0)

    def activations(self, *shape: int) -> Any:
        """Evaluated random values of variance 1."""
        return evaluated(weights.uniform(shape, "activations", math.sqrt(3.0), self.dtype))

    def matrix(self, name: str, *shape: int) -> Any:
        """An evaluated random matrix (or a stack of them) that keeps the size of what it is applied to."""
        return evaluated(weights.uniform(shape, name, math.sqrt(3.0 / shape[-1]), self.dtype))


def evaluated(array: Any) -> Any:
    """`array`, or a list of arrays, with its values computed."""
    import mlx.core as mx

    mx.eval(array)
    return array


class Softmax(Chain):
    """Attention scores of `rows` queries over 512 positions, summed in float32 as mlx_lm does."""

    def __init__(self, model: str, rows: int) -> None:
        sizes = Sizes(model)
        self.x = sizes.activations(1, sizes.heads, rows, CONTEXT)

    def step(self, x: Any) -> Any:
        """One softmax along the positions."""
        import mlx.core as mx

        return mx.softmax(x, axis=-1, precise=True)


class LayerNorm(Chain):
    """MLX's fused layer normalization of `rows` activations, with weight and bias."""

    def __init__(self, model: str, rows: int) -> None:
        self.call = compat.function("fast.layer_norm")
        sizes = Sizes(model)
        self.x = sizes.activations(rows, sizes.hidden)
        self.weight, self.bias = sizes.matrix("norm", sizes.hidden) + 1, sizes.matrix("bias", sizes.hidden)
        evaluated([self.weight, self.bias])

    def step(self, x: Any) -> Any:
        """One normalization."""
        return self.call(x, self.weight, self.bias, EPSILON)


class RMSNorm(Chain):
    """MLX's fused RMS normalization of `rows` activations, with weight."""

    def __init__(self, model: str, rows: int) -> None:
        self.call = compat.function("fast.rms_norm")
        sizes = Sizes(model)
        self.x = sizes.activations(rows, sizes.hidden)
        self.weight = evaluated(sizes.matrix("norm", sizes.hidden) + 1)

    def step(self, x: Any) -> Any:
        """One normalization."""
        return self.call(x, self.weight, EPSILON)


class Rope(Chain):
    """MLX's fused rotary embedding of the queries of `rows` tokens, in halves, behind 100 positions."""

    OFFSET = 100

    def __init__(self, model: str, rows: int) -> None:
        self.call = compat.function("fast.rope")
        sizes = Sizes(model)
        self.x = sizes.activations(1, sizes.heads, rows, sizes.head_dim)
        self.how: dict[str, Any] = {
            "traditional": False,
            "base": sizes.rope_base,
            "scale": 1.0,
            "offset": self.OFFSET,
        }
        self.head_dim = sizes.head_dim

    def step(self, x: Any) -> Any:
        """One rotation."""
        return self.call(x, self.head_dim, **self.how)


class Attention(Chain):
    """MLX's fused attention, grouped-query as in the model: `queries` of them over `positions` keys and values."""

    causal: ClassVar[bool]

    def __init__(self, model: str, queries: int, positions: int) -> None:
        self.call = compat.function("fast.scaled_dot_product_attention")
        sizes = Sizes(model)
        self.x = sizes.activations(1, sizes.heads, queries, sizes.head_dim)
        shape = (1, sizes.kv_heads, positions, sizes.head_dim)
        self.keys = sizes.matrix("keys", *shape) * math.sqrt(sizes.head_dim)
        self.values = sizes.matrix("values", *shape) * math.sqrt(sizes.head_dim)
        evaluated([self.keys, self.values])
        self.how: dict[str, Any] = {"scale": sizes.head_dim**-0.5, "mask": "causal" if self.causal else None}
        try:
            evaluated(self.step(self.x))
        except TypeError:
            # In early versions a mask was an array, which is another amount of work.
            raise NotImplementedError(f"mlx {compat.versions()['mlx']} takes no mask by name") from None

    def step(self, x: Any) -> Any:
        """One attention; its result has the queries' shape."""
        return self.call(x, self.keys, self.values, **self.how)


class AttentionPrefill(Attention):
    """Causal attention of `tokens` queries over as many positions."""

    causal = True

    def __init__(self, model: str, tokens: int) -> None:
        super().__init__(model, tokens, tokens)


class AttentionDecode(Attention):
    """Attention of one query over `depth` positions."""

    causal = False

    def __init__(self, model: str, depth: int) -> None:
        super().__init__(model, 1, depth)


class Embedding(Batch):
    """The rows of `rows` token ids out of the embedding matrix; each call looks up other ids."""

    def __init__(self, model: str, rows: int) -> None:
        import mlx.core as mx
        import mlx.nn as nn

        sizes = Sizes(model)
        self.embedding = nn.Embedding(1, 1)
        self.embedding.weight = sizes.matrix("embedding", sizes.vocabulary, sizes.hidden)
        ids = weights.integers(CALLS * rows, "ids", sizes.vocabulary)
        self.inputs = [mx.array(ids[i : i + rows]) for i in range(0, len(ids), rows)]
        evaluated(self.inputs)

    def step(self, x: Any) -> Any:
        """One look-up."""
        return self.embedding(x)


STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {"temp": 0.0},
    "temperature": {"temp": 0.7},
    "top_k": {"temp": 0.7, "top_k": 50},
    "top_p": {"temp": 0.7, "top_p": 0.9},
    "min_p": {"temp": 0.7, "min_p": 0.05},
}
"""What mlx_lm's make_sampler is asked for."""


class Sampling(Batch):
    """A token out of the log-probabilities of a whole vocabulary by mlx_lm's own sampler."""

    def __init__(self, model: str, strategy: str) -> None:
        import mlx.core as mx

        sizes = Sizes(model)
        self.sampler = compat.make_sampler(**STRATEGIES[strategy])
        logits = sizes.activations(CALLS, 1, sizes.vocabulary) * 2
        self.inputs = list(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        evaluated(self.inputs)

    def prepare(self) -> None:
        """The same random numbers for every sample."""
        import mlx.core as mx

        mx.random.seed(0)
        mx.eval(mx.random.state)

    def step(self, x: Any) -> Any:
        """One token, of shape (1,)."""
        return self.sampler(x)
