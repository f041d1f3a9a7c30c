"""Whether MLX computes with what the series is called after; a driver that fails must not give plausible numbers."""

from __future__ import annotations

import re

from mlx_velocity.probe import compat

_MISSING = re.compile(r"(lib[\w+.-]+\.so[\d.]*): cannot open shared object file")
DRIVER = "libcuda.so"
"""Comes with NVIDIA's driver, every other library with a package or with CUDA itself."""


def check(backend: str) -> None:
    """Compute something small on the device of `backend` (`cpu`, `metal`, `cuda`).

    RuntimeError where MLX's default device is another one, or the computation fails.
    """
    import mlx.core as mx

    found = compat.backend()
    if found != backend:
        raise RuntimeError(f"this MLX computes with {found}, and the series is of {backend}")
    if backend == "cpu":
        return
    try:
        mx.eval(mx.arange(4) + 1)
    except Exception as error:
        # The first one starts the driver: what is wrong with it is said here.
        advice = "; the driver is older than this CUDA: update it" if "insufficient" in str(error) else ""
        raise RuntimeError(f"MLX can't use this machine's {backend} device: {error}{advice}") from error


def explained(error: ImportError) -> ImportError:
    """An import that failed, with what to do where a shared library was missing."""
    found = _MISSING.search(str(error))
    if found is None:
        return error
    advice = (
        "there is no NVIDIA driver here"
        if found[1].startswith(DRIVER)
        else "install its package, put that into the wheelhouse, or add --inherit where this Python has it"
    )
    return ImportError(f"{error}; {advice}")
