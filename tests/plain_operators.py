"""The operators of a language model in plain NumPy, from their definitions: what ours are checked against."""

from __future__ import annotations

import numpy as np


def array(values):
    """An MLX array as float64."""
    import mlx.core as mx

    return np.array(values.astype(mx.float32), dtype=np.float64)


def softmax(x):
    """Along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, weight, bias, eps):
    """Ba et al. 2016, https://arxiv.org/abs/1607.06450."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def rms_norm(x, weight, eps):
    """Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def rope(x, base, offset):
    """Su et al. 2021, https://arxiv.org/abs/2104.09864, on halves; `x` is (…, tokens, dimensions)."""
    tokens, dimensions = x.shape[-2:]
    half = dimensions // 2
    speeds = base ** (-np.arange(half) / half)
    angles = (np.arange(tokens) + offset)[:, None] * speeds
    first, second = x[..., :half], x[..., half:]
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)],
        -1,
    )


def attention(queries, keys, values, causal):
    """Grouped-query attention: (heads, n, d) on (kv heads, m, d); with `causal` the last query sees all."""
    group = queries.shape[0] // keys.shape[0]
    keys, values = keys.repeat(group, 0), values.repeat(group, 0)
    scores = queries @ keys.swapaxes(-1, -2) / np.sqrt(queries.shape[-1])
    if causal:
        n, m = scores.shape[-2:]
        scores = np.where(np.arange(m) <= np.arange(n)[:, None] + m - n, scores, -np.inf)
    return softmax(scores) @ values


def silu(x):
    """x times its sigmoid."""
    return x / (1 + np.exp(-x))
