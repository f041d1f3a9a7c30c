"""Wheels of commits that must be built: one per commit and way to build it, kept; what a compiler made is reused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import git
from filelock import FileLock

from mlx_velocity.errors import EnvironmentFailure, MeasurementError
from mlx_velocity.installer import uv, without_folders
from mlx_velocity.tracks import Track

PASSED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CMAKE_BUILD_PARALLEL_LEVEL", "MAX_JOBS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
})  # fmt: skip
"""Variables that a build gets from us and that do not change what it makes."""
PASSED_PREFIXES = ("UV_", "CCACHE_")
KEPT_BACK = "UV_PUBLISH_"
"""What uploads packages is no business of a build."""
CHOICES = frozenset({
    "CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "LIBRARY_PATH", "LD_LIBRARY_PATH",
    "PKG_CONFIG_PATH", "SDKROOT", "DEVELOPER_DIR", "MACOSX_DEPLOYMENT_TARGET", "CUDA_HOME", "CUDA_PATH",
    "CUDAHOSTCXX", "CMAKE_ARGS", "CMAKE_GENERATOR", "CMAKE_PREFIX_PATH",
})  # fmt: skip
"""Variables that a build gets from us and that make another wheel: the cache tells such wheels apart."""
LISTS = ("ARGS", "FLAGS")
"""How variables end that hold several words: ours follow the track's, so that ours count."""
NOTE = "built.json"
"""Beside each wheel: the variables that it was built with, and the seconds that it took."""

_ERROR = re.compile(r"\berror: (?!Failed to build|subprocess-|command )|^CMake Error\b", re.IGNORECASE)


def wheel(
    track: Track,
    repo_path: str,
    commit: str,
    python: str,
    backend: str,
    say: Callable[[str], None],
    options: Sequence[str] = (),
) -> Path:
    """The wheel of a commit for a Python (`3.11`) and a backend, built where it is not there yet.

    `options` are uv's, and say where the build's own requirements come from.
    Raises EnvironmentFailure where it can't be built, with the compiler's first errors.
    """
    chosen = choices(track, backend)
    marks = hashlib.sha256(json.dumps(sorted(chosen.items())).encode()).hexdigest()[:8] if chosen else ""
    folder = (
        track.work_dir
        / "wheels"
        / track.name
        / "-".join(filter(None, (commit, f"py{python}", backend, marks)))
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    source = track.work_dir / "sources" / track.name
    source.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{source}.lock"):
        if not any(folder.glob("*.whl")):
            without = "" if shutil.which("ccache") else " (without ccache)"
            say(f"building {track.conf.project} at {commit[:8]}{without}")
            # Always in the same place: ccache knows a file by its whole command line.
            shutil.rmtree(source, ignore_errors=True)
            with git.Repo.clone_from(repo_path, source, no_checkout=True, shared=True) as clone:
                clone.git.checkout("--force", commit)
            _build(track, source, commit, python, chosen, folder, options)
            shutil.rmtree(source, ignore_errors=True)
    return min(folder.glob("*.whl"))


def choices(track: Track, backend: str) -> dict[str, str]:
    """The environment variables that decide what a build makes: the track's, then the user's."""
    settings = track.settings.build
    chosen: dict[str, str] = {**settings.get("variables", {})}
    given = {name: os.environ.get(name, "") for name in sorted({*CHOICES, *settings.get("pass", [])})}
    for more in (settings.get("backends", {}).get(backend, {}), given):
        for name, value in more.items():
            both = name in chosen and name.endswith(LISTS)
            if value:
                chosen[name] = f"{chosen[name]} {value}" if both else value
    return chosen


def described(path: Path) -> str:
    """A wheel by its name, with the variables that it was built with and no folder of this machine."""
    try:
        chosen = json.loads((path.parent / NOTE).read_text("utf-8"))["variables"]
    except (OSError, ValueError, KeyError):
        chosen = {}
    return without_folders(" ".join([path.name, *(f"{name}={value}" for name, value in chosen.items())]))


def _build(
    track: Track,
    source: Path,
    commit: str,
    python: str,
    chosen: dict[str, str],
    folder: Path,
    options: Sequence[str],
) -> None:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED or (name.startswith(PASSED_PREFIXES) and not name.startswith(KEPT_BACK))
    }
    log = track.work_dir / "logs" / f"{track.name}-{commit[:12]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        out = Path(aside) / "out"
        try:
            uv(["build", "--wheel", "--no-python-downloads", "--python", python, *options, "--out-dir", str(out),
                str(source)], float(track.conf.install_timeout), environment=passed | chosen, log=log)  # fmt: skip
        except MeasurementError as error:
            # What a build could not fetch by itself says nothing of the package index.
            found = _errors(log)
            if not found and not isinstance(error, EnvironmentFailure):
                raise
            advice = f"all that the build said is in {log.relative_to(track.root)}"
            raise EnvironmentFailure(found or error.message, advice) from error
        note = {"variables": chosen, "seconds": round(time.monotonic() - began, 1)}
        (out / NOTE).write_text(json.dumps(note, indent=1) + "\n", "utf-8")
        out.rename(folder)


def _errors(log: Path) -> str:
    """The first two errors that a compiler or CMake reported; empty where none did."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = [lines[at : at + 3] for at, line in enumerate(lines) if _ERROR.search(line)]
    return without_folders(" … ".join(" ".join(" ".join(text).split())[:300] for text in found[:2]))
