"""What a KV cache saves and what its kinds cost: with it and without, rotating, quantized."""

from __future__ import annotations

from typing import Any

from mlx_velocity.probe import compat, kept, models, observe, workloads

NEW_TOKENS = 8
"""Tokens of one generation: without a cache each costs a whole prefill."""

BITS = 8
GROUP_SIZE = 64


class Cached:
    """`NEW_TOKENS` greedy tokens after a prompt of `tokens` tokens, prefill included, with a KV cache.

    An own loop that waits for each token, so that beside `Recomputed` nothing but the cache differs.
    Notes the digest of the tokens.
    """

    def __init__(self, model: str, tokens: int) -> None:
        import mlx.core as mx

        kept.release("prompt cache")
        self.model = models.get(model)
        self.prompt = mx.array([models.prompt(self.model, tokens)])
        mx.eval(self.prompt)

    def prepare(self) -> None:
        """Nothing running."""
        compat.synchronize()

    def run(self) -> None:
        """One generation."""
        tokens = self.generate()
        observe.note(digest=lambda: workloads.digest(tokens))

    def generate(self) -> list[int]:
        """The new tokens, each from the one before it and the cache."""
        import mlx.core as mx

        cache = compat.make_prompt_cache(self.model)
        tokens: list[int] = []
        ids = self.prompt
        while len(tokens) < NEW_TOKENS:
            tokens.append(self.next_token(ids, cache=cache))
            ids = mx.array([tokens[-1:]])
        return tokens

    def next_token(self, ids: Any, **arguments: Any) -> int:
        """The likeliest token after `ids` of shape (1, n)."""
        import mlx.core as mx

        token: Any = mx.argmax(self.model(ids, **arguments)[0, -1]).item()
        return int(token)


class Recomputed(Cached):
    """The same without a cache: the whole sequence runs through the model for every token."""

    def generate(self) -> list[int]:
        """The new tokens, each from all before it."""
        import mlx.core as mx

        tokens: list[int] = []
        ids = self.prompt
        while len(tokens) < NEW_TOKENS:
            tokens.append(self.next_token(ids))
            ids = mx.concatenate([ids, mx.array([tokens[-1:]])], axis=1)
        return tokens


class Rotating(workloads.Decode):
    """Decode with mlx_lm's rotating cache of half the depth: each token takes the place of an old one."""

    kind = "rotating"

    def empty_cache(self) -> list[Any]:
        """A rotating cache for half of the depth."""
        return compat.make_rotating_cache(self.model, self.depth // 2)


class Quantized(workloads.Decode):
    """Decode behind a cache of 8 bits in groups of 64, by mlx_lm's own quantized cache and attention."""

    kind = "quantized"

    def fill(self) -> list[Any]:
        """The filled cache, quantized as a whole."""
        import mlx.core as mx

        cache = compat.quantized_cache(super().fill(), BITS, GROUP_SIZE)
        mx.eval([layer.state for layer in cache])
        return cache
