"""A fixed computation on the device that is measured: what changes its time is the machine, not a commit.

It runs beside a comparison in a reference environment that stays the same for both sides.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from mlx_velocity.probe import weights

RUNS = 2
"""The faster of two: what disturbs a computer only ever adds time."""


def read() -> dict[str, float]:
    """Seconds of `copy`, which memory limits, and of `product`, which computing limits.

    The first call makes the arrays, warms up and takes longer; they are kept for the next one.
    """
    import mlx.core as mx

    memory, left, right = _arrays()
    taken: dict[str, float] = {}
    for _ in range(RUNS):
        # In turns, so that a short disturbance does not hit both runs of one kind.
        for name, work in (("copy", lambda: memory + 1.0), ("product", lambda: mx.matmul(left, right))):
            taken[name] = min(once(work), taken.get(name, float("inf")))
    return taken


def once(work: Callable[[], Any]) -> float:
    """Seconds until the array that `work` describes is computed."""
    import mlx.core as mx

    start = time.perf_counter()
    mx.eval(work())
    return time.perf_counter() - start


def factors(rows: int, kind: str) -> tuple[Any, Any]:
    """Two square matrices of `rows` rows in type `kind`, computed.

    Not ones: a GPU draws less power, and so runs faster, where the numbers are trivial.
    """
    import mlx.core as mx

    left, right = (weights.uniform((rows, rows), name, 1.0, getattr(mx, kind)) for name in ("left", "right"))
    mx.eval(left, right)
    return left, right


def sizes() -> tuple[int, int, str]:
    """Bytes that are copied, rows of the matrices, and their type, for the device at hand.

    The copy is far larger than any cache. The product takes about 15 ms where it was tried (a Linux CPU,
    whose wheels have no fast BLAS); the other sizes follow from published speeds, 2 to 60 ms.
    """
    import mlx.core as mx

    metal = hasattr(mx, "metal") and mx.metal.is_available()
    if mx.default_device() == mx.Device(mx.cpu):
        # On macOS the CPU multiplies in Accelerate, some hundred times as fast.
        return 64 << 20, 2048 if metal else 384, "float32"
    # A GPU that shares the machine's memory must leave room for the two sides.
    return (256 << 20, 4096, "float16") if metal else (1 << 30, 8192, "float16")


@functools.cache
def _arrays() -> tuple[Any, Any, Any]:
    """What is copied and multiplied, after a warm-up of both."""
    import mlx.core as mx

    copied, rows, kind = sizes()
    memory = mx.ones((copied // 4,), dtype=mx.float32)
    left, right = factors(rows, kind)
    mx.eval(memory)
    for _ in range(RUNS):
        mx.eval(memory + 1.0, mx.matmul(left, right))
    return memory, left, right
