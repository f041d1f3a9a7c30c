"""Write a synthetic model as a folder that any mlx_lm loads: configuration, weights, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlx_velocity.probe import models

END = "<|end|>"
"""The token that ends a text."""


def write(spec: str, path: Path) -> Path:
    """Write the model of `spec` into the folder `path`, which is made; returns it.

    Raises what `models.build` raises.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    path.mkdir(parents=True, exist_ok=True)
    model = models.build(spec)
    arrays = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(path / "model.safetensors"), arrays, metadata={"format": "mlx"})
    end = 256
    configuration = {**models.config(spec), "eos_token_id": end, "bos_token_id": end}
    _write_json(path / "config.json", configuration)
    _write_json(path / "tokenizer.json", _tokenizer(end))
    _write_json(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 8192,
        },
    )
    return path


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tokenizer(end: int) -> dict[str, Any]:
    """A byte-level tokenizer without merges, as the `tokenizers` library stores it: one token a byte."""
    vocabulary = {character: index for index, character in enumerate(byte_characters())}
    vocabulary[END] = end
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": end, "content": END, **special}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def byte_characters() -> list[str]:
    """The printable character that stands for each byte 0 to 255 in a byte-level tokenizer.

    GPT-2's table: printable bytes stand for themselves, the others for characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
