"""From a text to token ids: with the model's own tokenizer, or byte by byte where it has none."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from mlx_velocity.probe import models

BYTES = "one token a byte: a model with random weights has no tokenizer"
"""What is noted where the fallback was used."""


def encode(spec: str, model: Any, text: str) -> tuple[list[int], str]:
    """Token ids of `text` for the model of `spec`, and a remark on how; empty for its own tokenizer."""
    if models.is_synthetic(spec):
        known = models.vocabulary(model)
        return [byte % known for byte in text.encode()], BYTES
    return list(_tokenizer(spec).encode(text)), ""


@functools.lru_cache(maxsize=1)
def _tokenizer(spec: str) -> Any:
    # mlx_lm.load gives one too, with the weights a second time.
    from transformers import AutoTokenizer

    place = str(Path(spec.removeprefix("path:")).expanduser()) if spec.startswith("path:") else spec
    return AutoTokenizer.from_pretrained(place)
