"""What the device at hand reaches at most through MLX: bytes per second of a copy, FLOP/s of a product.

Raw seconds are kept; `mlx_velocity.roofline_peaks.measured` makes a ceiling of them. A ceiling is the best
of several runs, because what disturbs a computer only ever adds time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from mlx_velocity.probe import compat, control

DTYPES = ("float32", "float16", "bfloat16")

RUNS = 5
"""Timed runs of each size, after one warm-up."""

COPY_SHARES = (0.5, 1.0, 2.0)
"""Sizes of the copy, as multiples of the fixed probe's, which is far larger than any cache."""
LEAST_COPY = 256 << 20
"""Bytes of the middle copy where the fixed probe's is smaller: servers have caches of 32 MiB and more."""

FIRST_ROWS = 128
MOST_ROWS = 16384
RUN_S = 0.25
"""No larger product where one run is expected to take longer: small devices stay at small sizes, and the
whole reading takes a few seconds even on the CPU wheels (4 GFLOP/s)."""

MEMORY_SHARE = 8
"""Arrays take at most one part in eight of the device's memory: models may be loaded beside."""


def read(dtypes: tuple[str, ...] = DTYPES) -> dict[str, Any]:
    """All that is measured, as JSON.

    `device` (`name`, `memory_bytes`, `gpu_cores`, `on_cpu`), `copies` (one entry a size: `bytes` read and written,
    `seconds` of each run), `products` (by type, one entry a size: `rows`, `flops`, `seconds`), `skipped`
    (by type, the reason). Ask for `bfloat16` in mlx 0.21 and older on CPU and the process dies.
    """
    available = compat.device_memory_bytes()
    products: dict[str, list[dict[str, Any]]] = {}
    skipped: dict[str, str] = {}
    copies = _copies(available)
    for dtype in dtypes:
        try:
            products[dtype] = _products(dtype, available)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            skipped[dtype] = f"{type(error).__name__}: {error}"
    compat.clear_cache()
    return {"device": device(), "copies": copies, "products": products, "skipped": skipped}


def device() -> dict[str, Any]:
    """The device by the name that MLX gives it, its memory, its GPU cores on a Mac; None where unknown."""
    import mlx.core as mx

    found = compat.device_info()
    memory = found.get("memory_size") or found.get("total_memory")
    return {
        "name": found.get("device_name"),
        "memory_bytes": int(memory) if memory else None,
        "gpu_cores": gpu_cores(),
        "on_cpu": bool(mx.default_device() == mx.Device(mx.cpu)),
    }


def gpu_cores() -> int | None:
    """Cores of Apple's GPU as the system's registry lists them; None elsewhere."""
    if sys.platform != "darwin":
        return None
    command = ["ioreg", "-rd1", "-c", "AGXAccelerator"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', listing)
    return int(found[1]) if found else None


def _copies(available: int) -> list[dict[str, Any]]:
    """Copies of several sizes; at least the smallest one."""
    middle = max(control.sizes()[0], LEAST_COPY)
    sizes = [int(middle * share) for share in COPY_SHARES]
    fitting = [size for size in sizes if size <= available // MEMORY_SHARE] or sizes[:1]
    return [{"bytes": 2 * size, "seconds": _timed(_copy(size))} for size in fitting]


def _copy(size: int) -> Callable[[], Any]:
    """Work that reads and writes `size` bytes.

    In place: the old array is given to the new one. On a CPU an array in fresh memory would measure how
    fast the system hands out pages (4 instead of 40 GB/s where it was tried).
    """
    import mlx.core as mx

    memory = mx.zeros((size // 4,), dtype=mx.float32)
    mx.eval(memory)

    def work() -> Any:
        nonlocal memory
        memory = memory + 1.0
        return memory

    return work


def _products(dtype: str, available: int) -> list[dict[str, Any]]:
    """Square products of doubling size, up to the largest one that still is quick."""
    item = 4 if dtype == "float32" else 2
    found: list[dict[str, Any]] = []
    rows = FIRST_ROWS
    while True:
        seconds = _timed(_product(rows, dtype))
        found.append({"rows": rows, "flops": 2 * rows**3, "seconds": seconds})
        rows *= 2
        # Twice the rows are eight times the work.
        too_slow = 8 * min(seconds) > RUN_S
        if too_slow or rows > MOST_ROWS or 3 * rows * rows * item > available // MEMORY_SHARE:
            return found


def _product(rows: int, dtype: str) -> Callable[[], Any]:
    """Work of 2·rows³ FLOPs."""
    import mlx.core as mx

    left, right = control.factors(rows, dtype)
    return lambda: mx.matmul(left, right)


def _timed(work: Callable[[], Any]) -> list[float]:
    """Seconds of each run, after a warm-up."""
    control.once(work)
    return [control.once(work) for _ in range(RUNS)]
