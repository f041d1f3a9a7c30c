"""A Python that is here, with whatever MLX is installed in it, as a place for workers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlx_velocity
from mlx_velocity.errors import InputError


@dataclass(frozen=True)
class Interpreter:
    """An interpreter, and a folder of ours that makes the probe importable in it."""

    python: Path
    working_folder: Path
    overlay: Path | None = None

    @property
    def path(self) -> Path:
        """The folder of its installation."""
        return self.python.parent.parent

    def variables(self) -> dict[str, str]:
        """The user's own variables: it is the user's own MLX that is measured."""
        own = [
            os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
        ]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.working_folder), *own]),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


@contextmanager
def of(python: Path | None) -> Iterator[Interpreter]:
    """The given Python, a folder of a virtual environment, or this one; InputError where there is none."""
    # Not resolved: a virtual environment's interpreter is a link, and its place decides what it imports.
    found = Path(os.path.abspath(python.expanduser())) if python else Path(sys.executable)
    if found.is_dir():
        found = found / "bin" / "python"
    if not os.access(found, os.X_OK):
        raise InputError(
            f"{found} is no Python", "give an interpreter, or the folder of a virtual environment"
        )
    with tempfile.TemporaryDirectory(prefix="mlx-velocity-") as folder:
        # A link to the package alone: the folder it lies in may hold another MLX.
        (Path(folder) / "mlx_velocity").symlink_to(
            Path(mlx_velocity.__file__).parent, target_is_directory=True
        )
        yield Interpreter(found, Path(folder))
