"""Which files a path means, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from mlx_velocity import history, readings, tracks
from mlx_velocity.errors import InputError, VelocityError
from mlx_velocity.problems import Checked
from mlx_velocity.validation import across
from mlx_velocity.validation.files import Stored, check

PASSED_OVER = (".corrupt-", ".new")
"""Parts of names of what was set aside, and of what a killed writer left."""


def everything(track: tracks.Track, config: Path) -> Checked:
    """All that a track has stored, its configuration, and the lists that the package brings."""
    own = Path(str(package_files("mlx_velocity")))
    lists = [own / "releases.json", own / "eras" / "eras.json"] if track.conf.dvcs == "releases" else []
    paths = [config, *lists, *([track.results_dir] if track.results_dir.is_dir() else [])]
    return named(paths, track, at_home=track.root)


def named(paths: Sequence[Path], track: tracks.Track | None, at_home: Path | None = None) -> Checked:
    """What is wrong with these files and with all below these folders.

    `track` says which commits there are; a name is shown relative to `at_home`. Raises InputError
    for a path that does not exist, or a folder without stored files.
    """
    found: dict[Path, Stored] = {}
    for path in paths:
        before = len(found)
        for file in below(path):
            found.setdefault(file.resolve(), check(file, _shown(file, at_home)))
        if path.is_dir() and len(found) == before and at_home is None:
            raise InputError(f"{path} holds no stored file", "name a folder of results, or a file")
    across.check(found.values())
    checked = Checked()
    if track is not None:
        checked.unchecked += _commits(list(found.values()), track)
    for stored in found.values():
        checked.files[stored.kind or "unknown"] = checked.files.get(stored.kind or "unknown", 0) + 1
        checked.problems += stored.problems
    checked.problems.sort(key=lambda item: (item.severity == "note", item.file, item.line or 0))
    return checked


def below(path: Path) -> Iterator[Path]:
    """The stored files that a path means: itself and what lies beside a result, or what a folder holds.

    Raises InputError where it does not exist.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if (
                file.suffix in (".json", ".jsonl")
                and file.is_file()
                and not any(p in file.name for p in PASSED_OVER)
            ):
                yield file
        return
    if not path.exists():
        raise InputError(f"{path} does not exist", "name a stored file, or a folder of results")
    yield path
    if path.name.endswith(readings.SUFFIX):
        other = path.with_name(path.name.removesuffix(readings.SUFFIX) + ".json")
    else:
        other = path.with_name(path.name.removesuffix(".json") + readings.SUFFIX)
    if other.is_file():
        yield other


def _commits(found: Sequence[Stored], track: tracks.Track) -> list[str]:
    """Look for the commits of results in the repository; returns why that could not be done."""
    stored = [
        item for item in found
        if item.kind in ("result", "readings") and track.results_dir.resolve() in item.path.resolve().parents
    ]  # fmt: skip
    if not stored:
        return []
    try:
        if not tracks.is_at_hand(track):
            return [f"Whether the commits exist: {track.conf.repo} is not cloned here."]
        repo_path = str(tracks.open_repo(track)._path)
        hashes = {item.data["commit_hash"] for item in stored if item.kind == "result" and item.data}
        known = set(history.known_commits(repo_path, hashes))
        lacking = {item.path.name[:8] for item in stored} - {item[:8] for item in known}
        known |= set(history.resolved(repo_path, lacking))
    except VelocityError as error:
        return [f"Whether the commits exist: {error.message}."]
    across.commits(stored, known)
    return []


def _shown(path: Path, at_home: Path | None) -> str:
    if at_home is not None and path.resolve().is_relative_to(at_home.resolve()):
        return str(path.resolve().relative_to(at_home.resolve()))
    return str(path)
