"""What a wheelhouse holds and was filled for: `wheelhouse.json` beside the wheels, checked before they are used."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_velocity import readings, schemas
from mlx_velocity.errors import InputError

NAME = "wheelhouse.json"
SCHEMA = "wheelhouse.schema.json"
FORMAT = 1
"""1: first version."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A wheel as it was when the folder was filled."""

    file: str
    name: str
    version: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Lack:
    """A commit whose wheels could not be had, and why."""

    commit: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What the folder was filled for, and with."""

    platform: str
    python: str
    backend: str
    track: str
    commits: list[str] = field(default_factory=list)
    """Full hashes of those commits whose wheels are all here."""
    left_out: list[str] = field(default_factory=list)
    """What the other machine has: names and patterns of packages that were left out."""
    lacking: list[Lack] = field(default_factory=list)
    wheels: list[Entry] = field(default_factory=list)


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder; None without one: whoever gathers wheels by hand has none.

    Raises InputError where it can't be read.
    """
    path = folder / NAME
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(f"{NAME} of the wheelhouse can't be read: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
        raise InputError(f"{NAME} has format {data['format']}, known is {FORMAT}", "upgrade mlx-velocity")
    if wrong := schemas.first_error(SCHEMA, data):
        raise _unusable(f"{NAME} of the wheelhouse is wrong: {wrong}")
    fields: dict[str, Any] = {key: value for key, value in data.items() if key != "format"}
    fields["wheels"] = [Entry(**item) for item in data["wheels"]]
    fields["lacking"] = [Lack(**item) for item in data["lacking"]]
    return Manifest(**fields)


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in its place at once; raises InputError where the disk refuses."""
    data = {"format": FORMAT, **dataclasses.asdict(manifest)}
    readings.replace(folder / NAME, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def entry(path: Path, name: str, version: str) -> Entry:
    """What a manifest says of a wheel that is here."""
    return Entry(path.name, name, version, path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    seen = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            seen.update(block)
    return seen.hexdigest()


def check(folder: Path, manifest: Manifest) -> None:
    """Compare the wheels with the manifest; a wheel that is gone is none of this: whoever needs it says so.

    Raises InputError that names the wheels that are damaged.
    """
    wrong = []
    for item in manifest.wheels:
        path = folder / item.file
        if path.exists() and (path.stat().st_size != item.bytes or sha256(path) != item.sha256):
            wrong.append(item.file)
    if wrong:
        raise _unusable(f"{', '.join(wrong[:3])} in the wheelhouse is not what {NAME} says")


def _unusable(message: str) -> InputError:
    return InputError(message, "copy the folder again from where it was filled")
