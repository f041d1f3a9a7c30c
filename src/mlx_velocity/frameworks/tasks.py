"""What is measured across frameworks: operators of a model's shape, and the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_velocity.across import Task
from mlx_velocity.errors import InputError
from mlx_velocity.frameworks import gguf_file, operators
from mlx_velocity.frameworks.on_mlx import float_spec
from mlx_velocity.probe import models, shapes, workloads

MODELS = {
    "cpu": ("tiny-float32", "tiny-8bit", "tiny-4bit"),
    "gpu": ("llama-3.2-1b-bfloat16", "llama-3.2-1b-4bit"),
}
"""What is measured where nothing is named. On Linux the CPU wheels of MLX have a slow BLAS: small models only."""
PROMPT = {"cpu": 128, "gpu": 512}
"""Tokens of the prompt, likewise."""


def plan(specs: Sequence[str], prompt: int) -> list[Task]:
    """Operators of the first model's shape, then prefill and decode of each model; InputError for others."""
    for spec in specs:
        if models.config(spec)["model_type"] not in gguf_file.ARCHITECTURES:
            known = [
                name
                for name, shape in shapes.SHAPES.items()
                if shape["model_type"] in gguf_file.ARCHITECTURES
            ]
            raise InputError(
                f"{spec} has no counterpart in the other frameworks", f"known shapes are {', '.join(known)}"
            )
    size = operators.sizes(models.config(specs[0]), prompt)
    tasks = [
        Task("operator", name, specs[0], operators.words(name, size), prompt) for name in operators.OPERATORS
    ]
    for spec in specs:
        tasks.append(Task("prefill", spec, spec, f"{prompt} tokens", prompt, prompt))
        steps = workloads.DECODE_TOKENS
        tasks.append(Task("decode", spec, spec, f"{steps} tokens behind {prompt}", prompt, steps))
    return tasks


def message(task: Task) -> dict[str, Any]:
    """What a worker is told about a task."""
    if task.kind != "operator":
        return {"task": task.kind, "tokens": task.tokens}
    size = operators.sizes(models.config(task.spec), task.tokens)
    return {"task": "operator", "name": task.name, "size": size, "dtype": shapes.base_dtype(task.spec)}


def weights_bytes(spec: str) -> int:
    """Bytes of the weights of a model before quantization, about: matrices alone."""
    c = models.config(float_spec(spec))
    heads, dims = c["num_attention_heads"], c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    layer = c["hidden_size"] * (3 * c["intermediate_size"] + 2 * dims * (heads + c["num_key_value_heads"]))
    tables = c["vocab_size"] * c["hidden_size"] * (1 if c["tie_word_embeddings"] else 2)
    weights = int(c["num_hidden_layers"] * layer + tables)
    return weights * (4 if shapes.base_dtype(spec) == "float32" else 2)
