"""What tells this version of the program from another one."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import mlx_velocity

SUFFIXES = ("*.py", "*.html", "*.atom")


@cache
def stamp() -> str:
    """A digest of the program and its templates: what another one derived is derived again."""
    digest = hashlib.sha256()
    root = Path(mlx_velocity.__file__).parent
    for path in sorted(found for suffix in SUFFIXES for found in root.rglob(suffix)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
