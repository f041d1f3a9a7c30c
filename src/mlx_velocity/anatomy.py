"""What a language model is made of, from its `config.json` alone: every matrix, norm, bias and cache.

The names and defaults are those of mlx_lm's model files, because that is the model that runs: where a
config leaves a key out, mlx_lm's default holds; where mlx_lm has none, that is an InputError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlx_velocity.errors import InputError

Config = Mapping[str, Any]

ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT = range(4)
"""The order in which data passes the matrices of a layer: gradients flow back through it."""


@dataclass(frozen=True)
class Matrix:
    """Weights of shape (experts, outputs, inputs) that tokens are multiplied by, or a table of rows."""

    path: str
    """The module's name in mlx_lm, as in the `quantization` part of a config."""
    outputs: int
    inputs: int
    bias: bool = False
    experts: int = 1
    chosen: int = 1
    """How many of the experts one token is sent to."""
    step: int = ATTENTION_IN

    @property
    def size(self) -> int:
        """Weights of all experts, without biases."""
        return self.experts * self.outputs * self.inputs

    @property
    def biases(self) -> int:
        """Elements of the bias, all experts."""
        return self.experts * self.outputs if self.bias else 0


@dataclass(frozen=True)
class Attention:
    """Softmax attention with a cache of keys and values; `window` tokens at most where it slides."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None

    def seen(self, depth: int, tokens: int) -> int:
        """Pairs of a query and a key when `tokens` causal queries follow `depth` cached tokens.

        Query i sees the cached tokens and i new ones, itself included: tokens·depth + tokens·(tokens+1)/2;
        from the window on, as many as the window holds.
        """
        growing = tokens if self.window is None else min(tokens, max(0, self.window - depth))
        return growing * depth + growing * (growing + 1) // 2 + (tokens - growing) * (self.window or 0)

    def kept(self, depth: int) -> int:
        """Tokens in the cache of this layer when `depth` tokens have passed."""
        return depth if self.window is None else min(depth, self.window)


@dataclass(frozen=True)
class StateSpace:
    """A Mamba-2 recurrence: a state of (heads, head_dim, state) and a short convolution."""

    heads: int
    head_dim: int
    state: int
    channels: int
    kernel: int


@dataclass(frozen=True)
class Layer:
    """One block of the stack."""

    matrices: tuple[Matrix, ...]
    vectors: int
    """Parameters that are never quantized and always read: norms, convolutions, decays."""
    mixer: Attention | StateSpace


@dataclass(frozen=True)
class Anatomy:
    """A whole model."""

    embedding: Matrix
    head: Matrix | None
    """None where the embedding serves as head."""
    layers: tuple[Layer, ...]
    vectors: int
    """Parameters of the last norm."""

    @property
    def parameters(self) -> int:
        """Number of parameters, each counted once, as published (`Llama-3.1-8B` has 8.03e9)."""
        matrices = [self.embedding, *([self.head] if self.head else [])]
        matrices += [matrix for layer in self.layers for matrix in layer.matrices]
        vectors = self.vectors + sum(layer.vectors for layer in self.layers)
        return vectors + sum(matrix.size + matrix.biases for matrix in matrices)

    @property
    def output(self) -> Matrix:
        """What turns the last hidden state into logits."""
        return self.head or self.embedding


def describe(config: Config) -> Anatomy:
    """The anatomy of the model that mlx_lm builds from `config`.

    InputError for a model type that is not known here, and for a config that lacks a value it needs.
    """
    kind = config.get("model_type")
    build = _KINDS.get(str(kind))
    if build is None:
        raise InputError(
            f"how many bytes and FLOPs a model of type {kind} takes is not known",
            f"known are {', '.join(_KINDS)}",
        )
    return build(config)


def _need(config: Config, key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(
            f"the config of this {config.get('model_type')} model gives {key} as {value!r}",
            "use the config.json that came with the weights",
        )
    return value


@dataclass(frozen=True)
class _Family:
    """In what the decoder-only transformers of mlx_lm differ."""

    qkv_bias: bool | str = False
    """True, or the key of the config that says so."""
    out_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: bool = False
    free_head_dim: bool = True
    """Whether `head_dim` of the config counts; else it is hidden size over heads."""
    tied: bool | None = None
    """mlx_lm's default of `tie_word_embeddings`; None where it has to be in the config."""
    windows: bool = False
    """Whether `layer_types` chooses layers with a sliding window."""
    experts: str = ""
    """The key of the number of experts; empty for a dense model."""
    expert_size: str = "moe_intermediate_size"
    block: str = "mlp"
    """The name of the module that holds router and experts."""

    def __call__(self, config: Config) -> Anatomy:
        hidden, vocabulary = _need(config, "hidden_size"), _need(config, "vocab_size")
        tied = config.get("tie_word_embeddings", self.tied)
        if not isinstance(tied, bool):
            raise InputError(
                f"the config of this {config['model_type']} model does not say tie_word_embeddings",
                "use the config.json that came with the weights",
            )
        layers = tuple(self._layer(config, hidden, i) for i in range(_need(config, "num_hidden_layers")))
        head = None if tied else Matrix("lm_head", vocabulary, hidden)
        return Anatomy(Matrix("model.embed_tokens", vocabulary, hidden), head, layers, hidden)

    def _layer(self, config: Config, hidden: int, index: int) -> Layer:
        heads = _need(config, "num_attention_heads")
        kv_heads = (
            heads if config.get("num_key_value_heads") is None else _need(config, "num_key_value_heads")
        )
        given = self.free_head_dim and config.get("head_dim") is not None
        head_dim = _need(config, "head_dim") if given else hidden // heads
        path = f"model.layers.{index}"
        into, out = _says(config, self.qkv_bias), _says(config, self.out_bias)
        matrices = [
            Matrix(f"{path}.self_attn.q_proj", heads * head_dim, hidden, into),
            Matrix(f"{path}.self_attn.k_proj", kv_heads * head_dim, hidden, into),
            Matrix(f"{path}.self_attn.v_proj", kv_heads * head_dim, hidden, into),
            Matrix(f"{path}.self_attn.o_proj", hidden, heads * head_dim, out, step=ATTENTION_OUT),
        ]
        if self.experts and self._is_sparse(config, index):
            matrices += self._expert_matrices(config, hidden, f"{path}.{self.block}")
        else:
            bias, size = _says(config, self.mlp_bias), _need(config, "intermediate_size")
            matrices += _gated(f"{path}.mlp", hidden, size, bias)
        attention = Attention(heads, kv_heads, head_dim, self._window(config, index))
        return Layer(tuple(matrices), 2 * hidden + (2 * head_dim if self.qk_norm else 0), attention)

    def _window(self, config: Config, index: int) -> int | None:
        types = config.get("layer_types") if self.windows else None
        return _need(config, "sliding_window") if types and types[index] == "sliding_attention" else None

    def _is_sparse(self, config: Config, index: int) -> bool:
        """Whether layer `index` has experts: all of mixtral's and qwen2_moe's, a choice of qwen3_moe's."""
        step = config.get("decoder_sparse_step") or 1
        chosen = index not in (config.get("mlp_only_layers") or []) and (index + 1) % step == 0
        return chosen or config["model_type"] != "qwen3_moe"

    def _expert_matrices(self, config: Config, hidden: int, path: str) -> list[Matrix]:
        experts, chosen = _need(config, self.experts), _need(config, "num_experts_per_tok")
        matrices = [Matrix(f"{path}.gate", experts, hidden, step=MLP_IN)]
        matrices += _gated(
            f"{path}.switch_mlp", hidden, _need(config, self.expert_size), False, experts, chosen
        )
        if config["model_type"] == "qwen2_moe":
            shared = _need(config, "shared_expert_intermediate_size")
            matrices += _gated(f"{path}.shared_expert", hidden, shared, False)
            matrices.append(Matrix(f"{path}.shared_expert_gate", 1, hidden, step=MLP_IN))
        return matrices


def _says(config: Config, answer: bool | str) -> bool:
    return bool(config.get(answer)) if isinstance(answer, str) else answer


def _gated(path: str, hidden: int, size: int, bias: bool, experts: int = 1, chosen: int = 1) -> list[Matrix]:
    """The three matrices of a gated MLP (SwiGLU, https://arxiv.org/abs/2002.05202)."""
    return [
        Matrix(f"{path}.gate_proj", size, hidden, bias, experts, chosen, MLP_IN),
        Matrix(f"{path}.up_proj", size, hidden, bias, experts, chosen, MLP_IN),
        Matrix(f"{path}.down_proj", hidden, size, bias, experts, chosen, MLP_OUT),
    ]


def _mamba2(config: Config) -> Anatomy:
    """Mamba-2 (https://arxiv.org/abs/2405.21060), with the projections that mlx_lm's mamba2 has."""
    hidden, vocabulary = _need(config, "hidden_size"), _need(config, "vocab_size")
    heads, head_dim = _need(config, "num_heads"), _need(config, "head_dim")
    state = _need(config, "state_size" if config.get("ssm_state_size") is None else "ssm_state_size")
    kernel, inner = _need(config, "conv_kernel"), heads * head_dim
    channels = inner + 2 * _need(config, "n_groups") * state
    bias = _says(config, "use_bias")
    # Convolution and its bias; decay, skip and step bias of each head; two norms.
    convolution = channels * (kernel + _says(config, "use_conv_bias"))
    vectors = convolution + 3 * heads + inner + hidden

    def layer(index: int) -> Layer:
        path = f"backbone.layers.{index}.mixer"
        into = Matrix(f"{path}.in_proj", inner + channels + heads, hidden, bias)
        out = Matrix(f"{path}.out_proj", hidden, inner, bias, step=ATTENTION_OUT)
        return Layer((into, out), vectors, StateSpace(heads, head_dim, state, channels, kernel))

    if not isinstance(config.get("tie_word_embeddings"), bool):
        raise InputError(
            "the config of this mamba2 model does not say tie_word_embeddings",
            "use the config.json that came with the weights",
        )
    head = None if config["tie_word_embeddings"] else Matrix("lm_head", vocabulary, hidden)
    layers = tuple(layer(index) for index in range(_need(config, "num_hidden_layers")))
    return Anatomy(Matrix("backbone.embeddings", vocabulary, hidden), head, layers, hidden)


_LLAMA = _Family("attention_bias", "attention_bias", "mlp_bias", tied=True, windows=True)

_KINDS: dict[str, Callable[[Config], Anatomy]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _Family(qkv_bias=True, free_head_dim=False, tied=True),
    "qwen3": _Family(qk_norm=True),
    "mixtral": _Family(
        free_head_dim=False,
        tied=False,
        experts="num_local_experts",
        expert_size="intermediate_size",
        block="block_sparse_moe",
    ),
    "qwen2_moe": _Family(qkv_bias=True, free_head_dim=False, tied=False, experts="num_experts"),
    "qwen3_moe": _Family(qk_norm=True, experts="num_experts"),
    "mamba2": _mamba2,
}
