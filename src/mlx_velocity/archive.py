"""Which machines have results, and of which commits."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mlx_velocity import readings

_NAME = re.compile(rf"([0-9a-f]{{8}})-(.+?)({re.escape(readings.SUFFIX)}|\.json)")
"""asv names a file after the first eight characters of its commit and the environment."""


def machines(results_dir: Path) -> list[str]:
    """The machines that have results, by name; one without a description counts too."""
    if not results_dir.is_dir():
        return []
    return sorted(
        folder.name
        for folder in results_dir.iterdir()
        if folder.is_dir()
        and ((folder / "machine.json").exists() or any(map(_NAME.fullmatch, _names(folder))))
    )


def measured_commits(folder: Path) -> set[str]:
    """Full hashes of the commits that a machine has results of; broken files do not count."""
    found = {_held(path) for path in folder.glob("*.json") if path.name != "machine.json"}
    return found - {""}


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _held(path: Path) -> str:
    try:
        return str(json.loads(path.read_text("utf-8"))["commit_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
