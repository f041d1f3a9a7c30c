"""Where NVIDIA's libraries lie when they come as Python packages: mlx's own search misses some of the places."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def variables(folders: Iterable[Path], given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables under which mlx finds the libraries below `folders` (of packages), and their headers.

    mlx's libraries look beside themselves, in folders that had other names when old versions were built (0.30.1
    knows `nvidia/cublas/lib`, and today's packages have `nvidia/cu13/lib`), and never among what is inherited.
    What they find there comes first all the same: their own search is older (DT_RPATH). It compiles kernels
    against headers beside itself, else in CUDA_HOME, else in /usr/local/cuda. `given` are the variables so far, which stay.
    """
    there = [folder / "nvidia" for folder in folders]
    libraries = [str(path) for folder in there for path in sorted(folder.glob("*/lib"))]
    found = {}
    if libraries:
        # Behind the user's own: those name the driver's.
        known = [part for part in given.get("LD_LIBRARY_PATH", "").split(os.pathsep) if part]
        found["LD_LIBRARY_PATH"] = os.pathsep.join([*known, *libraries])
    if not {"CUDA_HOME", "CUDA_PATH"} & given.keys():
        homes = [
            path.parents[1] for folder in there for path in sorted(folder.glob("*/include/cuda_runtime.h"))
        ]
        found |= {"CUDA_HOME": str(homes[0])} if homes else {}
    return found
