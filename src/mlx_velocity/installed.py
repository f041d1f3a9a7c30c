"""A Python that is there already, with the mlx that is installed in it: measured as it is, changed in nothing."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlx_velocity
from mlx_velocity import environments, records, requirements
from mlx_velocity.errors import InputError

NAME = "installed"
_START = """
import sys
del sys.path[0]
import importlib.util
package = sys.argv[1]
found = importlib.util.spec_from_file_location(
    "mlx_velocity", package + "/__init__.py", submodule_search_locations=[package])
sys.modules["mlx_velocity"] = module = importlib.util.module_from_spec(found)
found.loader.exec_module(module)
from mlx_velocity.probe.worker import main
main()
"""
"""Our own package by its place: its neighbours, which may hold another mlx, stay out. So does the working
folder, the first place where Python would look: it is the temporary one, where anybody may put a module."""


@dataclass(frozen=True)
class Installed(environments.Prepared):
    """A Python that nobody made for us."""

    interpreter: Path = Path(sys.executable)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.interpreter

    @property
    def command(self) -> list[str]:
        """What starts a worker in it."""
        package = str(Path(mlx_velocity.__file__).parent)
        return [str(self.interpreter), "-X", "faulthandler", "-c", _START, package]

    def variables(self) -> dict[str, str]:
        """The environment variables of a process in it; its temporary folder is everybody's."""
        laid_over = {"PYTHONPATH": str(self.overlay)} if self.overlay else {}
        return {**environments.passed_on(), "TMPDIR": tempfile.gettempdir(), **laid_over}


def here(backend: str = "auto", python: Path | None = None) -> Installed:
    """The Python that runs this, or another one; InputError where that is none."""
    interpreter = python or Path(sys.executable)
    if not interpreter.is_file():
        raise InputError(
            f"{interpreter} is no Python", "give the path of an interpreter, such as .venv/bin/python"
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}" if python is None else ""
    record = records.Environment(NAME, requirements.backend_here(backend), version, [], {})
    # Not resolved: the link's own place tells a virtual environment.
    return Installed(NAME, interpreter.parent.parent, record, interpreter=interpreter.absolute())
