"""What every framework offers to the process that measures it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

from mlx_velocity.probe import weights

CHUNK = 512
"""Tokens of a prompt that go through the model at once, in every framework."""
LOGITS = 512
"""Logits of the last position that are compared, evenly spread over the vocabulary."""


class Operator(Protocol):
    """One operator with its inputs on the device."""

    dtypes: dict[str, str]
    """The types it is computed with, by what they are types of."""

    def call(self, count: int) -> None:
        """Compute it `count` times, each time anew, and wait once at the end."""

    def result(self) -> Any:
        """What one call gives, as a numpy array in the layout of `operators.reference`."""


class Stage(Protocol):
    """A prefill or a decode of the loaded model."""

    def prepare(self) -> None:
        """Make ready for one sample; not timed."""

    def run(self) -> None:
        """The timed body; it returns when its results are computed."""

    def facts(self) -> dict[str, Any]:
        """What is evaluated, from what, and with what result; runs it once."""


class Framework(Protocol):
    """A framework in this process, on one device."""

    def about(self) -> dict[str, Any]:
        """`version`, `device` (in words), `kind` (cpu or gpu), `threads`, `build` (how it was built)."""

    def load(self, spec: str, folder: str) -> dict[str, Any]:
        """Load the model whose files lie in `folder`; its weights' digest, count, bytes and types.

        NotImplementedError where the framework has no weights of that kind.
        """

    def operator(self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str) -> Operator:
        """An operator on the arrays of `operators.inputs`; NotImplementedError where there is none."""

    def prefill(self, tokens: int) -> Stage:
        """A prompt of `tokens` tokens through the loaded model."""

    def decode(self, depth: int) -> Stage:
        """Greedy generation behind `depth` tokens."""


def prompt(count: int, vocabulary: int) -> list[int]:
    """The token ids that the probe's own prompts are made of."""
    return weights.integers(count, "prompt", vocabulary)


def chunks(ids: list[int]) -> list[list[int]]:
    """`ids` in pieces of at most CHUNK."""
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]


def digest_of_ids(ids: list[int]) -> str:
    """16 hexadecimal digits of the SHA-256 of token ids."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]


def digest_of_weights(arrays: Iterable[tuple[str, Any]]) -> str:
    """16 hexadecimal digits of the SHA-256 of named float32 arrays: equal values, equal digest.

    Types narrower than float32 widen to it without loss, so it does not matter what a file stores.
    """
    found = hashlib.sha256()
    for name, array in arrays:
        found.update(f"{name} {tuple(array.shape)}".encode())
        found.update(memoryview(array).cast("B"))
    return found.hexdigest()[:16]


def spread(logits: Any) -> list[float]:
    """LOGITS of one position's logits (a float32 numpy array), evenly spread over the vocabulary."""
    step = max(1, len(logits) // LOGITS)
    return [float(value) for value in logits[::step][:LOGITS]]
