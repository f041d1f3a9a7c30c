"""Which cases belong to which size of machine and budget: a name, and allowed values per parameter."""

from __future__ import annotations

import os
from collections.abc import Sequence

VARIABLE = "MLX_VELOCITY_PROFILE"
"""The environment variable that selects a profile under stock asv."""

FALLBACK = "tiny"
"""The profile where nothing is said: it fits every machine, CPU included."""

PROFILES: dict[str, dict[str, tuple[object, ...]]] = {
    # About ten seconds on one CPU core: what CI runs.
    "tiny": {
        "model": ("tiny-float32", "tiny-bfloat16", "tiny-4bit"),
        # Short, so that a sample on CPU takes a tenth of a second at most.
        "tokens": (32, 128),
        "depth": (0, 256),
        "rows": (1, 32),
        "moe": ("tiny-moe-float32",),
    },
    # Any Mac with 8 GB, in minutes; one model of each architecture.
    "small": {
        "model": (
            "tiny-moe-float32",
            "tiny-mamba-float32",
            "qwen2.5-0.5b-4bit",
            "qwen3-0.6b-bfloat16",
            "qwen3-0.6b-4bit",
        ),
        "tokens": (128, 512),
        "depth": (0, 2048),
        "rows": (1, 512),
        "moe": ("tiny-moe-float32",),
    },
    # A Mac with 16 GB or more.
    "standard": {
        "model": (
            "llama-3.2-1b-bfloat16",
            "llama-3.2-1b-8bit",
            "llama-3.2-1b-4bit",
            "qwen3-4b-4bit",
            "mamba2-1.3b-bfloat16",
        ),
        "tokens": (512, 2048),
        "depth": (0, 2048, 4096),
        "rows": (1, 512),
        "moe": ("qwen3-30b-a3b-bfloat16",),
    },
    # A Mac with 64 GB, or a data-centre GPU.
    "large": {
        "model": (
            "llama-3.1-8b-bfloat16",
            "llama-3.1-8b-8bit",
            "llama-3.1-8b-4bit",
            "qwen3-30b-a3b-4bit",
        ),
        "tokens": (512, 2048),
        "depth": (0, 2048, 4096),
        "rows": (1, 512),
        "moe": ("qwen3-30b-a3b-bfloat16",),
    },
    # No profile at all: every case that fits the machine.
    "all": {},
}

MAIN_MODELS = (
    "tiny-float32",
    "qwen2.5-0.5b-4bit",
    "llama-3.2-1b-bfloat16",
    "llama-3.1-8b-4bit",
)
"""One model a profile, for the cases where a second one says little more."""

LORA_MODELS = (
    "tiny-float32",
    "qwen3-0.6b-bfloat16",
    "qwen3-0.6b-4bit",
    "llama-3.2-1b-bfloat16",
    "llama-3.2-1b-4bit",
    "llama-3.1-8b-bfloat16",
    "llama-3.1-8b-4bit",
)
"""Models to fine-tune: full and quantized weights of each profile's size."""


OPERATOR_MODELS = (
    "tiny-float32",
    "qwen3-0.6b-bfloat16",
    "llama-3.2-1b-bfloat16",
    "llama-3.1-8b-bfloat16",
)
"""Shapes that give single operators their sizes, one a profile, in the type that activations have."""

FULL_MODELS = ("tiny-float32", "qwen3-0.6b-bfloat16", "llama-3.2-1b-bfloat16", "llama-3.1-8b-bfloat16")
"""Models whose every weight can be trained: none is quantized."""

QUANTIZED_MODELS = ("tiny-4bit", "qwen3-0.6b-4bit", "llama-3.2-1b-4bit", "llama-3.1-8b-4bit")
"""The same shapes in 4 bits."""


def allowed(parameter: str) -> tuple[object, ...]:
    """Every value that some profile allows for `parameter`, each once, in the profiles' order."""
    return tuple(dict.fromkeys(value for names in PROFILES.values() for value in names.get(parameter, ())))


def selected(profile: str, param_names: Sequence[str], values: Sequence[object]) -> bool:
    """Whether a case belongs to `profile`: each parameter that the profile names has an allowed value.

    KeyError for an unknown profile.
    """
    names = PROFILES[profile]
    return all(value in names.get(name, (value,)) for name, value in zip(param_names, values, strict=False))


def of_environment() -> str:
    """The profile that the environment variable asks for; ValueError where it is unknown."""
    profile = os.environ.get(VARIABLE) or FALLBACK
    if profile not in PROFILES:
        raise ValueError(f"{VARIABLE}={profile} is none of {', '.join(PROFILES)}")
    return profile
