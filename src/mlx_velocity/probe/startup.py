"""What a user waits for before the first prompt: imports, and loading a model from disk."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlx_velocity.errors import InputError
from mlx_velocity.probe import compat, folder, kept, models, weights

IMPORT_TIMEOUT_S = 300.0
"""A first import from a cold disk takes seconds; anything beyond this hangs."""


class Import:
    """A fresh Python that imports `module` and ends: the interpreter's own start is in it."""

    def __init__(self, module: str) -> None:
        found = importlib.util.find_spec(module)
        if found is None or not found.origin:
            raise NotImplementedError(f"{module} is not installed")
        # A child that falls through to another installation would give plausible numbers.
        self.code = (
            f"import sys; sys.path[:] = {sys.path!r}; import {module} as module; "
            f"assert module.__file__ == {found.origin!r}, module.__file__"
        )

    def prepare(self) -> None:
        """Nothing: each run is a new process."""

    def run(self) -> None:
        """One import; RuntimeError with the last line of a traceback where it fails."""
        command = [sys.executable, "-c", self.code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"import failed with exit status {done.returncode}: {last}")


class Load:
    """`mlx_lm.load` of a folder that is in the page cache: configuration, weights and tokenizer."""

    def __init__(self, model: str) -> None:
        kept.release("model")
        self.folder = written(model)
        self.loaded: Any = None

    def prepare(self) -> None:
        """Let go of the model that the last sample loaded."""
        self.loaded = None
        compat.clear_cache()

    def run(self) -> None:
        """One load."""
        import mlx.core as mx
        import mlx_lm

        self.loaded = mlx_lm.load(str(self.folder))
        mx.eval(self.loaded[0].parameters())


class Weights(Load):
    """`mlx_lm`'s loader of a model alone: configuration and weights, evaluated, without the tokenizer."""

    def run(self) -> None:
        """One load."""
        import mlx.core as mx

        self.loaded = compat.load_model(self.folder)
        mx.eval(self.loaded.parameters())


def written(spec: str) -> Path:
    """The folder of a model below TMPDIR, written once per user, shape and version of MLX.

    InputError where somebody else owns the place.
    """
    versions = compat.versions()
    base = Path(tempfile.gettempdir()) / f"mlx-velocity-models-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    owner = base.lstat()
    if owner.st_uid != os.getuid() or not stat.S_ISDIR(owner.st_mode):
        raise InputError(f"{base} belongs to somebody else", "set TMPDIR to a folder of your own")
    # The shape is in the name too: a folder of an older definition is another folder.
    shape = weights.seed_of(json.dumps(models.config(spec), sort_keys=True))
    target = base / f"{spec}-{shape:08x}-mlx-{versions['mlx']}-mlx-lm-{versions['mlx_lm']}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=base) as draft:
            folder.write(spec, Path(draft) / "model")
            # Another process may have been faster: its folder is as good.
            if not target.exists():
                os.rename(Path(draft) / "model", target)
    return target
