"""Files that a command is to write at its end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mlx_velocity import readings


def check_target(target: str | None) -> None:
    """Raise InputError where a file can't be written: before an hour of measuring, not after it."""
    if target in (None, "-"):
        return
    path = Path(str(target)).resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "it is a folder, or its folder can't be written to")
    except OSError as error:
        raise readings.cannot_write(path, error) from error
