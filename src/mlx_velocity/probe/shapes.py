"""Shapes of language models as data: what a `config.json` says about a model without its weights.

Random weights of a real shape cost what real weights cost in dense and state-space models. In a
mixture of experts they spread tokens evenly over the experts, where trained routers have favourites.
"""

from __future__ import annotations

from typing import Any

GROUP_SIZE = 64
"""Weights that share one scale and one bias when quantized; mlx-lm's default."""

DTYPES = ("float32", "bfloat16", "float16", "8bit", "4bit")
"""The second half of a model spec."""

BITS = {"8bit": 8, "4bit": 4}

_LLAMA_3_ROPE = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}

SHAPES: dict[str, dict[str, Any]] = {
    # Small enough for the reference BLAS of the CPU wheels (5 GFLOP/s): 2 million weights.
    "tiny": {
        "model_type": "llama",
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "vocab_size": 1024,
        "max_position_embeddings": 8192,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "tiny-moe": {
        "model_type": "qwen3_moe",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "intermediate_size": 256,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 128,
        "norm_topk_prob": True,
        "rms_norm_eps": 1e-6,
        "vocab_size": 1024,
        "max_position_embeddings": 8192,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    "tiny-mamba": {
        "model_type": "mamba2",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_heads": 4,
        "head_dim": 64,
        "state_size": 32,
        "n_groups": 1,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "layer_norm_epsilon": 1e-5,
        "time_step_limit": [0.0, 1000.0],
        "time_step_rank": 8,
        "vocab_size": 1024,
        "tie_word_embeddings": False,
    },
    # https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/config.json
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    # https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/config.json
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    # https://huggingface.co/meta-llama/Llama-3.2-1B/blob/main/config.json
    "llama-3.2-1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {**_LLAMA_3_ROPE, "factor": 32.0, "original_max_position_embeddings": 8192},
        "tie_word_embeddings": True,
    },
    # https://huggingface.co/Qwen/Qwen3-4B/blob/main/config.json
    "qwen3-4b": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    # https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json
    "llama-3.1-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {**_LLAMA_3_ROPE, "factor": 8.0, "original_max_position_embeddings": 8192},
        "tie_word_embeddings": False,
    },
    # https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "intermediate_size": 6144,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    # https://huggingface.co/state-spaces/mamba2-1.3b/blob/main/config.json, with the Mamba-2 defaults.
    "mamba2-1.3b": {
        "model_type": "mamba2",
        "hidden_size": 2048,
        "intermediate_size": 4096,
        "num_hidden_layers": 48,
        "num_heads": 64,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 1,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "layer_norm_epsilon": 1e-5,
        # Published as (0, infinity), which JSON cannot say.
        "time_step_limit": [0.0, 1e6],
        "time_step_rank": 128,
        "vocab_size": 50288,
        "tie_word_embeddings": True,
    },
}


def split(spec: str) -> tuple[str, str]:
    """`("llama-3.2-1b", "4bit")` of `llama-3.2-1b-4bit`; KeyError where either half is unknown."""
    shape, _, dtype = spec.rpartition("-")
    if shape not in SHAPES or dtype not in DTYPES:
        raise KeyError(spec)
    return shape, dtype


def base_dtype(spec: str) -> str:
    """The type of activations, norms and quantization scales: `float32` or `bfloat16`."""
    shape, dtype = split(spec)
    if dtype in BITS:
        # 4-bit with bfloat16 scales is 7 to 10 times slower on CPU, where the tiny shapes live.
        return "float32" if shape.startswith("tiny") else "bfloat16"
    return dtype
