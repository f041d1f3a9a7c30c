"""One environment per requirement set, made by uv; a pure-Python commit is laid over it without a build."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import git
from asv.environment import get_env_name
from filelock import FileLock
from packaging.utils import canonicalize_name

import mlx_velocity
from mlx_velocity import builds, cuda_libraries, declared, history, markers, records, requirements
from mlx_velocity.declared import Declared
from mlx_velocity.errors import EnvironmentFailure, InputError
from mlx_velocity.installer import uv
from mlx_velocity.offline import inherited, sources
from mlx_velocity.offline.sources import Source
from mlx_velocity.requirements import RequirementSet
from mlx_velocity.tracks import Track

MARKER = "mlx-velocity.json"
"""Written last: an environment without it was interrupted, and is made again."""
TOOL_NAME = "velocity"
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
        backend = requirements.backend_here(track.settings.backend)
        options = source_of(track).options
        pins.append(str(builds.wheel(track, repo_path, commit, pythons(track), backend, say, options)))
    own = declared_by(track, repo_path, commit)
    return assemble(track, pins, lay_over(track, repo_path, commit), say, own)


def declared_by(track: Track, repo_path: str, commit: str) -> Declared:
    """What a commit that is laid over an environment says of itself; nothing where pip installs it."""
    overlay = track.settings.overlay
    return declared.of_commit(repo_path, commit, overlay) if overlay else declared.NOTHING


def pins_of(track: Track, repo_path: str, commit: str) -> list[str]:
    """The requirements of a commit: the matrix's, and those that the commit's own file holds.

    Raises EnvironmentFailure where the commit lacks that file or it can't be read.
    """
    pins = [f"{key}=={value}" if value else key for key, value in _matrix_pins(track).items()]
    if track.settings.requirements:
        source = track.settings.requirements
        with history.open_git(repo_path) as repo:
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
    track: Track,
    pins: list[str],
    overlay: Path | None,
    say: Callable[[str], None] = lambda _: None,
    own: Declared = declared.NOTHING,
) -> Prepared:
    """Make (or find) the environment of some pins, with a tree laid over it that says `own` of itself.

    Raises EnvironmentFailure where it can't be had, with the reason.
    """
    backend = requirements.backend_here(track.settings.backend)
    wanted = requirement_set(track, pins, backend, own)
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
        shown = [
            builds.described(Path(item)) if item.endswith(".whl") else item for item in wanted.requirements
        ]
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
    constraints, overrides = path / "constraints.txt", path / "overrides.txt"
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
    with tempfile.TemporaryDirectory(dir=tree.parent) as aside, history.open_git(repo_path) as repo:
        fresh = Path(aside) / "tree"
        fresh.mkdir()
        # Git's own checkout, into an index and a folder of our own: the clone's working tree stays as it is.
        repo.git.update_environment(
            GIT_DIR=str(repo.git_dir), GIT_INDEX_FILE=str(Path(aside) / "index"), GIT_WORK_TREE=str(fresh)
        )
        for package in track.settings.overlay:
            try:
                repo.git.read_tree(f"--prefix={package}/", f"{commit}:{package}")
            except git.GitCommandError as error:
                raise EnvironmentFailure(
                    f"commit {commit[:8]} has no {package}", incompatible=True
                ) from error
        repo.git.checkout_index("--all")
        fresh.rename(tree)
    return tree


def requirement_set(track: Track, pins: list[str], backend: str, own: Declared) -> RequirementSet:
    """What an environment is made from: the pins, what a commit says that it needs, and its era.

    Raises EnvironmentFailure where they contradict each other.
    """
    wheels = [pin for pin in pins if pin.endswith(".whl")]
    named = [pin for pin in pins if not pin.endswith(".whl")]
    laid_over = {canonicalize_name(name) for name in track.settings.overlay}
    needs = [need for need in own.needs if canonicalize_name(need.name) not in laid_over]
    wanted = requirements.requirement_set(
        named, backend, own.version if "mlx-lm" in laid_over else None, needs
    )
    # Nobody installs a tree that is laid over, so nobody but us sees what it needs.
    if contradicted := requirements.unmet(needs, wanted):
        raise EnvironmentFailure(f"this commit needs {'; '.join(contradicted)}", incompatible=True)
    needed = requirements.missing(needs, wanted)
    return RequirementSet((*wanted.requirements, *needed, *wheels), wanted.constraints)


def _matrix_pins(track: Track) -> dict[str, str]:
    matrix: dict[str, Any] = track.conf.matrix.get("req", {})
    return {key: str(values[0] if isinstance(values, list) else values) for key, values in matrix.items()}


def _digest(python: str, wanted: RequirementSet, source: Source) -> str:
    # Of an index nothing is added: a pinned version is the same every time.
    there = [source.fingerprint(wanted)] if source != Source(python=source.python) else []
    text = json.dumps([python, wanted.requirements, wanted.constraints, requirements.HARNESS, *there])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
