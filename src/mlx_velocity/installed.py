"""A Python that is there already, with the mlx that is installed in it: measured as it is, changed in nothing."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlx_velocity
from mlx_velocity import environments, records, requirements
from mlx_velocity.errors import InputError

NAME = "installed"


@dataclass(frozen=True)
class Installed(environments.Prepared):
    """A Python that nobody made for us."""

    interpreter: Path = Path(sys.executable)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.interpreter

    @property
    def working_folder(self) -> Path:
        """A folder that holds our package and nothing else."""
        return _our_package()

    def variables(self) -> dict[str, str]:
        """The user's own variables: it is the user's own MLX that is measured."""
        own = [
            os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
        ]
        laid_over = [str(self.overlay)] if self.overlay else []
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*laid_over, str(self.working_folder), *own]),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


def here(python: Path | None = None, backend: str = "auto") -> Installed:
    """The given Python, the folder of a virtual environment, or this one; InputError where there is none."""
    # Not resolved: a virtual environment's interpreter is a link, and its place decides what it imports.
    found = Path(os.path.abspath(python.expanduser())) if python else Path(sys.executable)
    if found.is_dir():
        found = found / "bin" / "python"
    if not os.access(found, os.X_OK):
        raise InputError(
            f"{found} is no Python", "give an interpreter, or the folder of a virtual environment"
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}" if python is None else ""
    record = records.Environment(NAME, requirements.backend_here(backend), version, [], {})
    # No message may show the path; that of the installation may be the root of everything.
    return Installed(NAME, _our_package(), record, interpreter=found)


@functools.cache
def _our_package() -> Path:
    """A link to the package alone: the folder that it lies in may hold another MLX."""
    folder = Path(tempfile.mkdtemp(prefix="mlx-velocity-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "mlx_velocity").symlink_to(Path(mlx_velocity.__file__).parent, target_is_directory=True)
    return folder
