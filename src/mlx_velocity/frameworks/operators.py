"""Operators of a transformer: their inputs from one seed, and what they must give, in numpy's float64.

Every framework gets the same numbers and gives its result in the same layout, so that what is timed can
be compared before it is timed. `T` are tokens, `H` the hidden and `I` the intermediate size, `N` heads,
`K` key-value heads, `D` the size of a head, `V` the vocabulary.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from typing import Any

SEED = 20260101
EPS = 1e-5
BITS = {
    "matmul_8bit": 8,
    "matvec_8bit": 8,
    "matmul_4bit": 4,
    "matvec_4bit": 4,
}
"""Operators whose weights are stored in so many bits, each framework in its own format."""
OPERATORS = (
    "matmul",
    "matvec",
    *BITS,
    "softmax",
    "layer_norm",
    "rms_norm",
    "rope",
    "attention",
    "embedding",
)
TOLERANCE: dict[str | int, float] = {"float32": 1e-4, "bfloat16": 2e-2, 8: 2e-2, 4: 2e-1}
"""Root-mean-square error over root-mean-square result that still is the same computation, by type or bits.

Rounding to 4 bits in groups of 32 or 64 moves uniform weights by about 1/25 of their size, 8 bits by 1/400.
"""


def sizes(shape: dict[str, Any], tokens: int) -> dict[str, float]:
    """The sizes of all operators of a model whose `config.json` is `shape`, at `tokens` tokens."""
    heads = shape["num_attention_heads"]
    return {
        "T": tokens,
        "H": shape["hidden_size"],
        "I": shape["intermediate_size"],
        "N": heads,
        "K": shape["num_key_value_heads"],
        "D": shape.get("head_dim") or shape["hidden_size"] // heads,
        "V": shape["vocab_size"],
        "theta": shape["rope_theta"],
    }


def words(name: str, size: dict[str, float]) -> str:
    """The sizes of one operator as a reader wants to see them: `128×256 · 256×256`."""
    s = {key: int(value) for key, value in size.items()}
    rows = 1 if "matvec" in name else s["T"]
    if "mat" in name:
        return f"{rows}×{s['H']} · {s['H']}×{s['I']}"
    return {
        "softmax": f"{s['N']}×{s['T']}×{s['T']}",
        "rope": f"{s['N']}×{s['T']}×{s['D']}",
        "attention": f"{s['N']}/{s['K']}×{s['T']}×{s['D']}, causal",
        "embedding": f"{s['T']} of {s['V']}×{s['H']}",
    }.get(name, f"{s['T']}×{s['H']}")


def inputs(name: str, size: dict[str, float]) -> dict[str, Any]:
    """float32 arrays (ids: int32) of an operator, decided by its name and sizes alone.

    `x` (T, H), or (1, H) for a vector, and `w` (I, H) of products; `x` (N, T, T) of softmax; `x` (N, T, D) of
    rope; `q` (N, T, D), `k` and `v` (K, T, D) of attention; `ids` (T,) and `w` (V, H) of an embedding.
    """
    import numpy as np

    s = {key: int(value) for key, value in size.items()}
    random = np.random.default_rng([SEED, zlib.crc32(name.encode())])

    def uniform(*shape: int) -> Any:
        return random.random(shape, dtype=np.float32) * 2 - 1

    if "mat" in name:
        rows = 1 if "matvec" in name else s["T"]
        return {"x": uniform(rows, s["H"]), "w": uniform(s["I"], s["H"]) / np.float32(math.sqrt(s["H"]))}
    if name == "softmax":
        return {"x": 4 * uniform(s["N"], s["T"], s["T"])}
    if name == "rope":
        return {"x": uniform(s["N"], s["T"], s["D"])}
    if name == "attention":
        kv = (s["K"], s["T"], s["D"])
        return {"q": uniform(s["N"], s["T"], s["D"]), "k": uniform(*kv), "v": uniform(*kv)}
    if name == "embedding":
        ids = random.integers(0, s["V"], s["T"], dtype=np.int32)
        return {"ids": ids, "w": uniform(s["V"], s["H"])}
    found = {"x": uniform(s["T"], s["H"]), "weight": 1 + uniform(s["H"]) / 2}
    return {**found, "bias": uniform(s["H"])} if name == "layer_norm" else found


def reference(name: str, given: dict[str, Any], size: dict[str, float]) -> Any:
    """What an operator must give, computed in float64."""
    import numpy as np

    a = {key: value if key == "ids" else value.astype(np.float64) for key, value in given.items()}
    if "mat" in name:
        return a["x"] @ a["w"].T
    if name == "softmax":
        return _softmax(a["x"])
    if name == "layer_norm":
        centred = a["x"] - a["x"].mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * a["weight"] + a["bias"]
    if name == "rms_norm":
        return a["x"] / np.sqrt((a["x"] ** 2).mean(-1, keepdims=True) + EPS) * a["weight"]
    if name == "rope":
        cos, sin = rotations(int(size["T"]), int(size["D"]), size["theta"])
        first, second = np.split(a["x"], 2, axis=-1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    if name == "attention":
        return _attention(a["q"], a["k"], a["v"])
    if name == "embedding":
        return a["w"][a["ids"]]
    raise KeyError(name)


def rotations(tokens: int, dims: int, theta: float) -> tuple[Any, Any]:
    """Cosines and sines, (T, D / 2) in float64, of rotary positions 0 … T - 1.

    Halves are rotated against each other, as in Llama's published weights (Su et al. 2021 rotate neighbours).
    """
    import numpy as np

    angles = np.outer(np.arange(tokens), theta ** (-np.arange(0, dims, 2) / dims))
    return np.cos(angles), np.sin(angles)


def _softmax(x: Any) -> Any:
    import numpy as np

    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def _attention(q: Any, k: Any, v: Any) -> Any:
    import numpy as np

    groups = q.shape[0] // k.shape[0]
    k, v = np.repeat(k, groups, axis=0), np.repeat(v, groups, axis=0)
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    tokens = q.shape[1]
    return _softmax(np.where(np.tri(tokens, dtype=bool), scores, -np.inf)) @ v


def error(result: Any, wanted: Any) -> float:
    """Root-mean-square difference over the root mean square of what is wanted; infinite for another shape."""
    import numpy as np

    result = np.asarray(result, dtype=np.float64)
    if result.shape != wanted.shape or not np.isfinite(result).all():
        return math.inf
    return float(np.sqrt(((result - wanted) ** 2).mean() / (wanted**2).mean()))


def tolerance(name: str, dtype: str) -> float:
    """The largest `error` of the same computation in `dtype`."""
    return TOLERANCE[dtype] + (TOLERANCE[BITS[name]] if name in BITS else 0.0)


def digest(given: dict[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of an operator's inputs."""
    found = hashlib.sha256()
    for name in sorted(given):
        found.update(name.encode() + str(given[name].shape).encode() + given[name].tobytes())
    return found.hexdigest()[:16]
