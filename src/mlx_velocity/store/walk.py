"""Which files of results there are, and of which machines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asv import util
from asv.machine import Machine

from mlx_velocity import readings
from mlx_velocity.store import files as stored_files

MACHINE_FILE = "machine.json"


@dataclass
class Walked:
    """What lies in a folder of results."""

    files: dict[str, str] = field(default_factory=dict)
    """Path below the folder → fingerprint of every result and readings file."""
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Folder → asv's description."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path → why it could not be read."""


def of(root: Path) -> Walked:
    """The files below a folder of results, also those of machines without a description."""
    found = Walked()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            files = [
                entry
                for entry in entries
                if entry.name.endswith((".json", readings.SUFFIX)) and not entry.name.startswith(".")
            ]
        named = [entry for entry in files if entry.name != MACHINE_FILE]
        problem = _describe(found, folder, len(named))
        if problem:
            found.problems.append((f"{folder.name}/{MACHINE_FILE}", problem))
        for entry in sorted(named, key=lambda entry: entry.name):
            try:
                entry.name.encode()
                found.files[f"{folder.name}/{entry.name}"] = stored_files.fingerprint(entry.stat())
            except (OSError, UnicodeEncodeError) as error:
                reason = getattr(error, "strerror", None) or "its name is no text"
                found.problems.append((ascii(f"{folder.name}/{entry.name}"), reason))
    return found


def _describe(found: Walked, folder: Path, results: int) -> str:
    """Read a machine's description; why that is not possible, where it has results all the same."""
    path = folder / MACHINE_FILE
    if not path.exists():
        return (
            f"it does not exist, so asv and the site leave out {results} files beside it" if results else ""
        )
    try:
        described = util.load_json(str(path), api_version=Machine.api_version)
        if not isinstance(described["machine"], str):
            raise ValueError("it names no machine")
        found.machines[folder.name] = described
    except (util.UserError, *stored_files.BROKEN) as error:
        reason = " ".join(str(error).split()).replace(f"{folder.parent}{os.sep}", "")
        return reason[: stored_files.LONGEST_REASON] or type(error).__name__
    return ""
