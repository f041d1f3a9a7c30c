"""One environment per requirement set, made by uv; a pure-Python commit is laid over it without a build."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import git
from asv.environment import get_env_name
from filelock import FileLock
from uv import find_uv_bin

import mlx_velocity
from mlx_velocity import cuda_libraries, markers, records, requirements
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError
from mlx_velocity.offline import inherited, sources
from mlx_velocity.offline.sources import Source
from mlx_velocity.requirements import RequirementSet
from mlx_velocity.tracks import Track

MARKER = "mlx-velocity.json"
"""Written last: an environment without it was interrupted, and is made again."""
TOOL_NAME = "velocity"
INSTALL_TIMEOUT_S = 1800.0
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "CUDA_PATH",
    markers.VARIABLE,
)
"""Variables that a worker gets from us. All others, secrets among them, stay here."""
_UNREACHABLE = ("error sending request", "dns error", "failed to fetch", "connection refused", "operation timed out",
                "connect error", "tcp connect", "authentication credentials", "403 forbidden", "network was disabled")  # fmt: skip
_CONTRADICTION = ("no solution found", "no wheels", "has no usable wheels")


_FOLDERS = re.compile(r"(?<![\w:/>.])(?:file://|~)?/(?:[^\s/'\"`:]+/)+")


@dataclass(frozen=True)
class Prepared:
    """An environment that is ready for one commit."""

    name: str
    path: Path
    record: records.Environment
    modules: dict[str, str] = field(default_factory=dict)
    """Module to verify → the folder it must lie in."""
    overlay: Path | None = None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    @property
    def working_folder(self) -> Path:
        """Where its processes run, and their temporary folder."""
        temporary = self.path / "tmp"
        temporary.mkdir(exist_ok=True)
        return temporary

    def variables(self) -> dict[str, str]:
        """The environment variables of a process in it, with a temporary folder of its own."""
        # mlx compiles into the temporary folder and did not always version what it left there.
        passed = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        passed |= {
            "TMPDIR": str(self.working_folder),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.overlay is not None:
            passed["PYTHONPATH"] = str(self.overlay)
        if self.record.backend == "cuda":
            folders = [*self.path.glob("lib/python3*/site-packages"), self.path / inherited.FOLDER]
            passed |= cuda_libraries.variables(folders, passed)
        return passed


def name_of(track: Track, python: str, backend: str) -> str:
    """The name under which results are stored: changes with what makes another series."""
    return str(get_env_name(TOOL_NAME, python, series(track, backend), {}))


def series(track: Track, backend: str) -> dict[str, str]:
    """What sets one series of a machine apart from another: the backend and the matrix's pins."""
    return {"backend": backend, **_matrix_pins(track)}


def pythons(track: Track) -> str:
    """The Python that the track is measured with, as major.minor."""
    return str(track.conf.pythons[0])


def prepare(
    track: Track, repo_path: str, commit: str, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Make (or find) the environment of a commit, with the commit's own code in it.

    Raises EnvironmentFailure where it can't be had, with the reason.
    """
    pins = pins_of(track, repo_path, commit)
    if not track.settings.requirements and not track.settings.overlay:
        pins.append(str(_wheel(track, repo_path, commit, say)))
    return assemble(track, pins, lay_over(track, repo_path, commit), say)


def pins_of(track: Track, repo_path: str, commit: str) -> list[str]:
    """The requirements of a commit: the matrix's, and those that the commit's own file holds.

    Raises EnvironmentFailure where the commit lacks that file or it can't be read.
    """
    pins = [f"{key}=={value}" if value else key for key, value in _matrix_pins(track).items()]
    if track.settings.requirements:
        source = track.settings.requirements
        with git.Repo(repo_path) as repo:
            try:
                text = (repo.commit(commit).tree / source).data_stream.read().decode("utf-8", "replace")
            except KeyError:
                raise EnvironmentFailure(f"commit {commit[:8]} has no {source}", incompatible=True) from None
        try:
            pins += requirements.read_pins(text, f"{source} of {commit[:8]}")
        except InputError as error:
            # The commit can't be mended, and its neighbours may be fine.
            raise EnvironmentFailure(error.message, incompatible=True) from error
    return pins


def assemble(
    track: Track, pins: list[str], overlay: Path | None, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Make (or find) the environment of some pins, with a tree laid over it.

    Raises EnvironmentFailure where it can't be had, with the reason.
    """
    backend = requirements.backend_here(track.settings.backend)
    wanted = _requirement_set(pins, backend)
    python = pythons(track)
    source = source_of(track)
    path = Path(track.conf.env_dir) / _digest(python, wanted, source)
    record = _ensure(path, name_of(track, python, backend), backend, python, wanted, source, say)
    modules = {
        module: str(overlay if overlay and module.partition(".")[0] in track.settings.overlay else path)
        for module in track.settings.modules
    }
    return Prepared(record.name, path, record, modules, overlay)


def source_of(track: Track) -> Source:
    """Where the packages of a track's environments come from; raises InputError where that is nowhere."""
    folder = track.settings.wheelhouse
    return sources.of(Path(folder) if folder else None, track.settings.inherit, pythons(track))


def uv(
    arguments: list[str], timeout_s: float = INSTALL_TIMEOUT_S, variables: dict[str, str] | None = None
) -> str:
    """Run uv, with `variables` beside our own, and return its standard output.

    Raises InputError where uv is missing, EnvironmentFailure with uv's own reason where it fails,
    MeasurementError where the package index is out of reach: another commit would fare no better.
    """
    try:
        command = [find_uv_bin(), *arguments]
    except FileNotFoundError:
        raise InputError("uv is missing", "install it: pip install uv") from None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s,
            stdin=subprocess.DEVNULL, check=False, env={**os.environ, **(variables or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(f"uv {arguments[0]} took more than {timeout_s:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    reason = _uv_reason(done.stderr)
    lowered = done.stderr.lower()
    if any(sign in lowered for sign in _UNREACHABLE):
        raise MeasurementError(
            f"the package index can't be reached: {reason}",
            "check the network and UV_DEFAULT_INDEX, then run again: what is measured is kept",
        )
    raise EnvironmentFailure(reason, incompatible=any(sign in lowered for sign in _CONTRADICTION))


def _ensure(
    path: Path,
    name: str,
    backend: str,
    python: str,
    wanted: RequirementSet,
    source: Source,
    say: Callable[[str], None],
) -> records.Environment:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        try:
            stored = json.loads((path / MARKER).read_text("utf-8"))
            os.stat(path / "bin" / "python")  # a link to a Python that may have been removed
            link_probe(path)
            return records.Environment(**{**stored, "name": name})
        except (OSError, ValueError, TypeError):
            shutil.rmtree(path, ignore_errors=True)
        # Results are published: a wheel's folder is nobody's business.
        shown = [Path(item).name if item.endswith(".whl") else item for item in wanted.requirements]
        say(f"installing {', '.join(shown)}")
        try:
            _create(path, python, wanted, source)
            taken = source.complete(path, wanted)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        listed = json.loads(uv(["pip", "list", "--format", "json", "--python", str(path / "bin" / "python")]))
        packages = {item["name"]: item["version"] for item in listed} | taken
        record = records.Environment(name, backend, python, shown, packages, sorted(taken))
        (path / MARKER).write_text(json.dumps(asdict(record)), "utf-8")
        return record


def _create(path: Path, python: str, wanted: RequirementSet, source: Source) -> None:
    source.check(wanted)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = sys.executable if python == here else python
    uv(["venv", "--quiet", "--no-project", "--no-python-downloads", "--python", interpreter, str(path)])
    with tempfile.TemporaryDirectory() as aside:
        constraints, overrides = Path(aside, "constraints.txt"), Path(aside, "overrides.txt")
        constraints.write_text(wanted.constraints, "utf-8")
        # A requirement under a condition that never holds is none: that is how one is left to somebody else.
        left = source.left_to_inherited(wanted)
        overrides.write_text("".join(f"{name}; python_version < '0'\n" for name in left), "utf-8")
        try:
            uv(["pip", "install", "--python", str(path / "bin" / "python"), *source.options,
                "--constraints", str(constraints), "--overrides", str(overrides),
                *wanted.requirements, *requirements.HARNESS])  # fmt: skip
        except EnvironmentFailure as error:
            raise source.explained(error) from error
    link_probe(path)


def link_probe(path: Path) -> None:
    """Make `mlx_velocity` importable in an environment by a link: nothing else of ours gets in."""
    (site_packages,) = path.glob("lib/python3*/site-packages")
    link = site_packages / "mlx_velocity"
    package = Path(mlx_velocity.__file__).parent
    if not link.is_symlink() or Path(os.readlink(link)) != package:
        link.unlink(missing_ok=True)
        link.symlink_to(package, target_is_directory=True)


def lay_over(track: Track, repo_path: str, commit: str) -> Path | None:
    """The commit's pure-Python packages in a folder of their own; None where the track has none.

    Raises EnvironmentFailure where the commit lacks them.
    """
    if not track.settings.overlay:
        return None
    tree = track.work_dir / "trees" / track.name / commit
    if tree.is_dir():
        return tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=tree.parent))
    try:
        with tempfile.TemporaryFile() as archive, git.Repo(repo_path) as repo:
            repo.archive(archive, commit, path=track.settings.overlay)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(aside, filter="data")
        aside.chmod(0o755)
        aside.rename(tree)
    except git.GitCommandError as error:
        names = ", ".join(track.settings.overlay)
        raise EnvironmentFailure(f"commit {commit[:8]} has no {names}", incompatible=True) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return tree


def _wheel(track: Track, repo_path: str, commit: str, say: Callable[[str], None]) -> Path:
    folder = track.work_dir / "wheels" / track.name / f"{commit}-py{pythons(track)}"
    built = sorted(folder.glob("*.whl"))
    if built:
        return built[0]
    say(f"building {track.conf.project} at {commit[:8]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        source, out = Path(aside) / "source", Path(aside) / "out"
        with git.Repo.clone_from(repo_path, source, no_checkout=True, shared=True) as clone:
            clone.git.checkout("--force", commit)
        uv(["build", "--wheel", "--no-python-downloads", "--python", pythons(track), *source_of(track).options,
            "--out-dir", str(out), str(source)])  # fmt: skip
        if not folder.exists():
            out.rename(folder)
    return sorted(folder.glob("*.whl"))[0]


def _requirement_set(pins: list[str], backend: str) -> RequirementSet:
    wheels = [pin for pin in pins if pin.endswith(".whl")]
    wanted = requirements.requirement_set([pin for pin in pins if not pin.endswith(".whl")], backend)
    return RequirementSet((*wanted.requirements, *wheels), wanted.constraints)


def _matrix_pins(track: Track) -> dict[str, str]:
    matrix: dict[str, Any] = track.conf.matrix.get("req", {})
    return {key: str(values[0] if isinstance(values, list) else values) for key, values in matrix.items()}


def _digest(python: str, wanted: RequirementSet, source: Source) -> str:
    # Of an index nothing is added: a pinned version is the same every time.
    there = [source.fingerprint(wanted)] if source != Source(python=source.python) else []
    text = json.dumps([python, wanted.requirements, wanted.constraints, requirements.HARNESS, *there])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _uv_reason(stderr: str) -> str:
    """uv's explanation as one line, without its drawing characters and hints."""
    lines = [re.sub("^(error|cause): ", "", line.strip(" \t×╰─▶│├")) for line in stderr.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("Using Python", "hint:", "Resolved", "warning:"))
    ]
    text = without_folders(" ".join(kept))
    # A resolver says why at its beginning, a build at its end.
    return (text if len(text) <= 600 else f"{text[:250]} … {text[-350:]}") or "uv failed without a word"


def without_folders(text: str) -> str:
    """The text with files by their names alone: what is stored is published."""
    home = os.path.expanduser("~")
    return _FOLDERS.sub("", text if home == "/" else text.replace(home, "~"))
