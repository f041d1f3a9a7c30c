"""Random numbers that are the same in every version of MLX and on every device.

`mx.random` does not promise that, and the greedy tokens of a random model are compared across
versions. So values come from a hash of their position, made of integer operations that are exact
everywhere: lowbias32 in the form of https://github.com/skeeto/hash-prospector (constants
`16 21f0aaad 15 735a2d97 15`).
"""

from __future__ import annotations

import math
import zlib
from typing import Any

# Both fit in 31 bits: old versions refuse larger Python integers.
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97
_MASK = 0xFFFFFFFF

PIECE = 1 << 24
"""Values computed at once: an embedding at once would take several times its own memory."""


def seed_of(name: str) -> int:
    """A 31-bit seed for a name."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def uniform(shape: tuple[int, ...], name: str, limit: float, dtype: Any) -> Any:
    """A lazy array of `shape` and MLX's `dtype`, uniform in [-limit, limit), decided by `name` alone."""
    import mlx.core as mx

    size, seed = math.prod(shape), seed_of(name)
    starts = range(0, size, PIECE)
    pieces = [_piece(start, min(start + PIECE, size), seed, limit).astype(dtype) for start in starts]
    return (mx.concatenate(pieces) if len(pieces) > 1 else pieces[0]).reshape(shape)


def _piece(start: int, stop: int, seed: int, limit: float) -> Any:
    """The float32 values at positions `start` to `stop`."""
    import mlx.core as mx

    def constant(value: int) -> Any:
        return mx.array(value, dtype=mx.uint32)

    def fold(x: Any, bits: int) -> Any:
        return mx.bitwise_xor(x, mx.right_shift(x, constant(bits)))

    # Functions instead of operators: mlx 0.21 has no `^` and `>>` for arrays.
    x = mx.bitwise_xor(mx.arange(start, stop, dtype=mx.uint32), constant(seed))
    x = fold(fold(fold(x, 16) * constant(_FIRST), 15) * constant(_SECOND), 15)
    # 24 bits are exact in float32; one rounding remains, in the product with the limit.
    return (mx.right_shift(x, constant(8)).astype(mx.float32) * 2.0**-23 - 1.0) * limit


def integers(count: int, name: str, below: int) -> list[int]:
    """`count` integers in [0, below), decided by `name` alone: the tokens of a prompt."""
    seed = seed_of(name)
    return [_hash(position ^ seed) % below for position in range(count)]


def _hash(x: int) -> int:
    x = (x ^ (x >> 16)) * _FIRST & _MASK
    x = (x ^ (x >> 15)) * _SECOND & _MASK
    return x ^ (x >> 15)


def fill(model: Any, name: str) -> None:
    """Give every matrix and bias of `model` random values, lazily; norms and state decays stay.

    Matrices get variance 1 / fan-in, so that each layer's output has the size of its input and
    the logits differ; the type of each parameter stays.
    """
    from mlx.utils import tree_flatten, tree_unflatten

    filled = []
    for path, parameter in tree_flatten(model.parameters()):
        kind = path.rpartition(".")[2]
        shape = tuple(parameter.shape)
        if kind == "bias":
            values = uniform(shape, f"{name}/{path}", 0.02, parameter.dtype)
        elif kind == "weight" and len(shape) > 1:
            # A depthwise convolution is (channels, kernel, 1), everything else (..., out, in).
            fan_in = shape[1] if "conv" in path else shape[-1]
            values = uniform(shape, f"{name}/{path}", math.sqrt(3.0 / fan_in), parameter.dtype)
        else:
            continue
        filled.append((path, values))
    model.update(tree_unflatten(filled))
