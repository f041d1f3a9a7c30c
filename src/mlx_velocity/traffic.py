"""How many bytes of weights and cache a model must move, as the least that any implementation can do.

Activations are not counted: they are small where memory is the limit, and a fused kernel keeps them on
the chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity.anatomy import Anatomy, Attention, Config, Layer, Matrix, StateSpace
from mlx_velocity.errors import InputError

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one element."""

_PACKED_SCALES = {"mxfp4", "mxfp8", "nvfp4"}
"""Modes of mx.quantize with one byte of scale a group and no bias."""


@dataclass(frozen=True)
class Storage:
    """How the numbers of a model are kept."""

    dtype: str
    """Type of unquantized weights, activations, quantization scales and the cache."""
    quantization: Mapping[str, Any] = field(default_factory=dict)
    """The `quantization` part of a config: `bits`, `group_size`, `mode`, and exceptions by path."""
    kv_bits: int | None = None
    """Bits of an element of a quantized cache; None for one in `dtype`."""
    kv_group_size: int = 64

    @property
    def item(self) -> int:
        """Bytes of one unquantized number."""
        return DTYPE_BYTES[self.dtype]

    def weight_bits(self, matrix: Matrix) -> float:
        """Bits that one weight of `matrix` takes, its share of scales and biases included."""
        plain = 8.0 * self.item
        if not self.quantization:
            return plain
        own = self.quantization.get(matrix.path)
        if own is False:
            return plain
        chosen = own if isinstance(own, Mapping) else self.quantization
        group = chosen["group_size"]
        # mlx_lm leaves alone what does not divide into groups.
        if matrix.inputs % group:
            return plain
        packed = chosen.get("mode", self.quantization.get("mode", "affine")) in _PACKED_SCALES
        return float(chosen["bits"] + (8 if packed else 2 * plain) / group)


def storage(
    config: Config, dtype: str | None = None, quantization: Mapping[str, Any] | None = None
) -> Storage:
    """How `config` says that the model is kept; `dtype` and `quantization` overrule it.

    An empty `quantization` means none. InputError where nobody says the type, or where it is one that
    mlx does not run.
    """
    dtype = dtype or config.get("torch_dtype") or config.get("dtype")
    if dtype not in DTYPE_BYTES:
        said = f"is {dtype}" if dtype else "is not in the config"
        raise InputError(f"the type of the model's weights {said}", f"give one of {', '.join(DTYPE_BYTES)}")
    if quantization is None:
        quantization = config.get("quantization") or config.get("quantization_config") or {}
    if quantization and not {"bits", "group_size"} <= quantization.keys():
        method = quantization.get("quant_method", "without bits and group_size")
        raise InputError(
            f"the bytes of a model quantized with {method} are not known", "convert it with mlx_lm.convert"
        )
    return Storage(str(dtype), quantization)


def matrix_bytes(matrix: Matrix, stored: Storage) -> float:
    """Bytes of a matrix with its biases, all experts."""
    return matrix.size * stored.weight_bits(matrix) / 8 + matrix.biases * stored.item


def row_bytes(table: Matrix, stored: Storage) -> float:
    """Bytes of one row: what looking up one token in an embedding reads."""
    return table.inputs * stored.weight_bits(table) / 8


def model_bytes(anatomy: Anatomy, stored: Storage) -> float:
    """Bytes of all weights in memory."""
    head = matrix_bytes(anatomy.head, stored) if anatomy.head else 0.0
    layers = sum(_layer_bytes(layer, stored, None) for layer in anatomy.layers)
    return matrix_bytes(anatomy.embedding, stored) + head + layers + anatomy.vectors * stored.item


def distinct_experts(experts: int, chosen: int, tokens: int) -> float:
    """How many experts a batch of `tokens` tokens is expected to use, if each chooses evenly.

    An expert is missed by one token with probability 1 - chosen/experts, by all with its power. Trained
    routers have favourites and touch fewer.
    """
    return experts * (1 - (1 - chosen / experts) ** tokens)


def read_bytes(anatomy: Anatomy, stored: Storage, tokens: int, logits: bool = True) -> float:
    """Bytes of weights that one call of the model with `tokens` tokens reads.

    Each weight once, of the experts those that the tokens are expected to use, of the embedding the rows
    of the tokens; the head where `logits` are computed.
    """
    layers = sum(_layer_bytes(layer, stored, tokens) for layer in anatomy.layers)
    rows = min(tokens, anatomy.embedding.outputs) * row_bytes(anatomy.embedding, stored)
    head = matrix_bytes(anatomy.output, stored) if logits else 0.0
    return rows + layers + anatomy.vectors * stored.item + head


def _layer_bytes(layer: Layer, stored: Storage, tokens: int | None) -> float:
    """Bytes of a layer: what `tokens` tokens touch, or all."""
    total = float(layer.vectors * stored.item)
    for matrix in layer.matrices:
        share = 1.0
        if tokens is not None and matrix.experts > 1:
            share = distinct_experts(matrix.experts, matrix.chosen, tokens) / matrix.experts
        total += share * matrix_bytes(matrix, stored)
    return total


def cache_token_bytes(attention: Attention, stored: Storage) -> float:
    """Bytes of one token's keys and values in one layer."""
    numbers = 2 * attention.kv_heads * attention.head_dim
    if stored.kv_bits is None:
        return float(numbers * stored.item)
    return numbers * (stored.kv_bits + 16 * stored.item / stored.kv_group_size) / 8


def state_bytes(mixer: StateSpace, stored: Storage) -> float:
    """Bytes of one sequence's recurrent state in one layer.

    The last inputs of the convolution, in the model's type, and the state, which mlx_lm keeps in float32.
    """
    inputs = (mixer.kernel - 1) * mixer.channels
    state = mixer.heads * mixer.head_dim * mixer.state
    return float(inputs * stored.item + state * DTYPE_BYTES["float32"])


def cache_bytes(anatomy: Anatomy, stored: Storage, depth: int) -> float:
    """Bytes that one sequence of `depth` tokens keeps between steps.

    mlx_lm allocates room for 256 tokens at a time and so holds up to 255 tokens' more.
    """
    total = 0.0
    for layer in anatomy.layers:
        mixer = layer.mixer
        if isinstance(mixer, Attention):
            total += mixer.kept(depth) * cache_token_bytes(mixer, stored)
        else:
            total += state_bytes(mixer, stored)
    return total


def cache_traffic(anatomy: Anatomy, stored: Storage, depth: int, tokens: int) -> float:
    """Bytes of cache that one call with `tokens` tokens behind `depth` reads and writes, for one sequence.

    Reads what the queries see, new tokens included, once; writes the new tokens. A recurrent state is
    read and written once.
    """
    total = 0.0
    for layer in anatomy.layers:
        mixer = layer.mixer
        if isinstance(mixer, Attention):
            read = depth + tokens
            if mixer.window is not None:
                read = min(read, mixer.window - 1 + tokens)
            total += (read + tokens) * cache_token_bytes(mixer, stored)
        else:
            total += 2 * state_bytes(mixer, stored)
    return total
