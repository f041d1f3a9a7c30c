"""A track: one asv configuration, read and made absolute, with our own settings beside asv's."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asv.config import Config
from asv.console import log
from asv.plugin_manager import plugin_manager
from asv.repo import Repo, get_repo
from asv.util import ProcessError, UserError

import mlx_velocity
from mlx_velocity import schemas
from mlx_velocity.errors import InputError

CONFIG_NAME = "asv.conf.json"
TRACKS_FOLDER = "tracks"
SETTINGS_KEY = "mlx_velocity"
PLUGIN = ".mlx_velocity.asv_plugin"
DEFAULT_MODULES = ("mlx.core", "mlx_lm")

WHEELHOUSE_VARIABLE = "MLX_VELOCITY_WHEELHOUSE"
INHERIT_VARIABLE = "MLX_VELOCITY_INHERIT"

SCHEMA = "track.schema.json"
"""What we use of a configuration, and of what kind it is: asv takes anything."""


@dataclass(frozen=True)
class Settings:
    """What stands under `mlx_velocity` in the configuration; asv itself ignores that key."""

    requirements: str | None = None
    """A file of pins in the tree of each commit, for a track whose commits are sets of versions."""
    overlay: list[str] = field(default_factory=list)
    """Pure-Python packages of the repository that are laid over the environment without a build."""
    modules: list[str] = field(default_factory=lambda: list(DEFAULT_MODULES))
    """Modules whose place is checked in the worker before anything is measured."""
    backend: str = "auto"
    """cpu, metal, cuda, or auto: what the machine has."""
    build: dict[str, Any] = field(default_factory=dict)
    """How a project is built that must be: environment `variables`, more of them for some `backends`, and
    names of the user's that it gets too (`pass`). docs/tracks.md."""
    wheelhouse: str | None = None
    """A folder of wheels that environments are made from, without an index; docs/offline.md."""
    inherit: bool = False
    """Whether environments take from the Python that runs this what they would otherwise install."""


@dataclass(frozen=True)
class Track:
    """A repository, its environment, its benchmarks and its results; all paths are absolute."""

    name: str
    root: Path
    conf: Config
    settings: Settings

    @property
    def results_dir(self) -> Path:
        """Folder of benchmarks.json and of one folder per machine."""
        return Path(self.conf.results_dir)

    @property
    def benchmark_dir(self) -> Path:
        """Folder of the asv classes."""
        return Path(self.conf.benchmark_dir)

    @property
    def work_dir(self) -> Path:
        """Everything that can be made again: environments, trees, clones."""
        return self.root / ".asv"

    @property
    def html_dir(self) -> Path:
        """Where the site is built."""
        return Path(self.conf.html_dir)


def find_config(config: Path | None, track: str | None, start: Path) -> Path:
    """The configuration file meant by `--config` or `--track`, or the nearest one above `start`.

    Raises InputError where there is none.
    """
    if config is not None:
        if not config.is_file():
            raise InputError(f"{config} does not exist", "name an asv configuration with --config FILE")
        return config.resolve()
    home = next((folder for folder in (start, *start.parents) if (folder / CONFIG_NAME).is_file()), None)
    if home is None:
        raise InputError(
            f"there is no {CONFIG_NAME} here or above",
            "go to a checkout of a benchmark suite, or use --config FILE",
        )
    if track is None:
        return (home / CONFIG_NAME).resolve()
    known = {
        path.name.removesuffix(f".{CONFIG_NAME}"): path
        for path in home.glob(f"{TRACKS_FOLDER}/*.{CONFIG_NAME}")
    }
    known[load(home / CONFIG_NAME).name] = home / CONFIG_NAME
    if track not in known:
        raise InputError(f"there is no track '{track}'", f"the tracks here are: {', '.join(sorted(known))}")
    return known[track].resolve()


def every(start: Path) -> list[Path]:
    """The configurations of all tracks of the nearest suite above `start`, its own first.

    Raises InputError where there is none.
    """
    home = find_config(None, None, start)
    return [home, *sorted(home.parent.glob(f"{TRACKS_FOLDER}/*.{CONFIG_NAME}"))]


def locate(config: Path | None, track: str | None, repo: str | None, start: Path) -> tuple[Path, str | None]:
    """The configuration and the repository that are meant where the user stands.

    In a clone of a project that a track of this suite measures, that track and that clone.
    """
    try:
        return find_config(config, track, start), repo
    except InputError:
        suite = Path(mlx_velocity.__file__).parents[2]
        if config is not None or not (suite / CONFIG_NAME).is_file():
            raise
    if track is not None:
        return find_config(None, track, suite), repo
    clone = Path(repo).resolve() if repo and Path(repo).is_dir() else _clone_around(start)
    found = clone and of_clone(clone, suite)
    if not found:
        raise InputError(
            "this is neither a benchmark suite nor a clone of a project that one measures",
            "go to a checkout of mlx-velocity, or name one of its tracks with --track",
        )
    return found, repo or str(clone)


def _clone_around(start: Path) -> Path | None:
    # Where git is missing, importing this fails: not before somebody needs it.
    import git

    try:
        with git.Repo(start, search_parent_directories=True) as repo:
            return Path(repo.working_tree_dir) if repo.working_tree_dir else None
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None


def of_clone(clone: Path, suite: Path) -> Path | None:
    """The track of a suite whose packages a clone holds: what `compare` means in that clone."""
    for path in sorted((suite / TRACKS_FOLDER).glob(f"*.{CONFIG_NAME}")):
        overlay = load(path).settings.overlay
        if overlay and all((clone / package).is_dir() for package in overlay):
            return path.resolve()
    return None


def load(
    path: Path,
    repo: str | None = None,
    backend: str | None = None,
    wheelhouse: Path | None = None,
    inherit: bool = False,
) -> Track:
    """Read a configuration; `repo`, `backend`, `wheelhouse` and `inherit` override what it says.

    Raises InputError where the file is broken or contradicts itself.
    """
    path = path.resolve()
    try:
        conf = Config.load(str(path))
        if wrong := schemas.first_error(SCHEMA, vars(conf)):
            raise ValueError(wrong)
        plugin_manager.import_plugin(PLUGIN)
        for plugin in conf.plugins:
            if plugin != PLUGIN:
                plugin_manager.import_plugin(plugin)
        settings = settings_of(conf, path.parent)
    except (UserError, TypeError, ImportError, ValueError) as error:
        raise InputError(
            f"{path.name} is broken: {error}", "mend it, or compare it with docs/architecture.md"
        ) from error
    given: dict[str, Any] = {"backend": backend, "inherit": inherit or None}
    given["wheelhouse"] = str(wheelhouse.resolve()) if wheelhouse else None
    settings = replace(settings, **{key: value for key, value in given.items() if value is not None})
    root = path.parent.parent if path.parent.name == TRACKS_FOLDER else path.parent
    for key in ("benchmark_dir", "results_dir", "env_dir", "html_dir"):
        setattr(conf, key, str((path.parent / getattr(conf, key)).resolve()))
    if repo is not None:
        # A folder is meant from where the user stands, one in the file from where the file lies.
        conf.repo, conf.dvcs = (str(Path(repo).resolve()), None) if Path(repo).is_dir() else (repo, "git")
    if (path.parent / conf.repo).is_dir():
        conf.repo = str((path.parent / conf.repo).resolve())
    if not Path(conf.benchmark_dir).is_dir():
        raise InputError(
            f"{path.name} names no benchmarks: {conf.benchmark_dir} does not exist", "set benchmark_dir"
        )
    return Track(Path(conf.results_dir).name, root, conf, settings)


def settings_of(conf: Config, home: Path) -> Settings:
    """Our settings of a configuration in the folder `home`; TypeError for a key that is none.

    Where packages come from is a matter of the machine, so its environment variables count for every track.
    """
    found = Settings(**getattr(conf, SETTINGS_KEY, {}))
    folder = home / found.wheelhouse if found.wheelhouse else None
    if named := os.environ.get(WHEELHOUSE_VARIABLE):
        folder = Path(named)
    inherit = os.environ.get(INHERIT_VARIABLE, "")
    return replace(
        found,
        wheelhouse=str(folder.resolve()) if folder else None,
        inherit=inherit not in ("0", "false", "no") if inherit else found.inherit,
    )


def open_repo(track: Track) -> Repo:
    """asv's view of the tracked repository, cloned or built where it is not there yet.

    Raises InputError where it cannot be had.
    """
    conf = copy.copy(track.conf)
    if conf.dvcs != "releases" and Path(conf.repo).is_dir():
        # asv would say that no kind of repository matches, or fail later without a reason.
        from mlx_velocity import history

        history.check(conf.repo)
    # asv clones into a folder named like the project: keep that folder out of the way.
    conf.project = str(_clone_of(track))
    Path(conf.project).parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.set_level(logging.CRITICAL):  # what failed is said once, by us
            repo: Any = get_repo(conf)
    except (UserError, ProcessError, OSError) as error:
        raise InputError(
            f"the repository {conf.repo} can't be opened: {_last_line(error)}",
            "name a clone or a URL with --repo, and see that git is installed",
        ) from error
    if repo is None:
        raise InputError(
            f"no kind of repository matches '{conf.repo}'", 'set "dvcs": "git" or use --repo PATH'
        )
    return repo


def is_at_hand(track: Track) -> bool:
    """Whether the repository can be opened without cloning it first."""
    return track.conf.dvcs == "releases" or Path(track.conf.repo).is_dir() or _clone_of(track).is_dir()


def _clone_of(track: Track) -> Path:
    # Another address is another clone: asv would take whatever lies there for the one it wants.
    address = hashlib.sha256(track.conf.repo.encode()).hexdigest()[:8]
    name = track.conf.project if track.conf.dvcs == "releases" else f"{track.conf.project}-{address}"
    return track.work_dir / "repos" / name


def fetch(repo: Repo) -> str:
    """Get what the repository's origin has gained; returns why that failed, or nothing.

    What is here can be measured all the same.
    """
    try:
        with log.set_level(logging.CRITICAL):
            repo.pull()
    except (UserError, ProcessError, OSError) as error:
        return _last_line(error)
    return ""


def _last_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[-1]
