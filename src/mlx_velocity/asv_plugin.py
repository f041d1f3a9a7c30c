"""What stock asv needs to run the same benchmarks: our repository and our environments as asv plugins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from asv.environment import Environment, EnvironmentUnavailable
from asv.plugins.git import Git
from asv.util import ProcessError

from mlx_velocity import environments, releases, requirements, tracks
from mlx_velocity.errors import VelocityError

URL_PREFIX = "releases:"


class Releases(Git):  # type: ignore[misc]
    """The release history of packages as a git repository: `"repo": "releases:mlx,mlx-lm"`."""

    dvcs = "releases"

    def __init__(self, url: str, mirror_path: str) -> None:
        # Stock asv clones beside the configuration; what can be made again belongs under .asv.
        path = Path(mirror_path) if Path(mirror_path).is_absolute() else Path(".asv", "repos", mirror_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        releases.build(path.absolute(), releases.load())
        super().__init__(str(path), str(path))
        self._default_branch = "main"

    @classmethod
    def url_match(cls, url: str) -> bool:
        """Whether `url` names a release history."""
        return url.startswith(URL_PREFIX)


class Velocity(Environment):  # type: ignore[misc]
    """An asv environment that stands for all of ours: a commit is installed by pointing at its own."""

    tool_name = environments.TOOL_NAME
    matches_python_fallback = True

    def __init__(self, conf: Any, python: str, requirements_: Any, tagged_env_vars: Any) -> None:
        self._conf = conf
        self._prepared: environments.Prepared | None = None
        settings = tracks.settings_of(conf, Path.cwd())
        results = Path(conf.results_dir).absolute()
        self._track = tracks.Track(results.name, Path.cwd(), _absolute(conf), settings)
        pins = environments.series(self._track, requirements.backend_here(settings.backend))
        # asv's constructor reads it before it sets it.
        self._requirements = pins
        super().__init__(conf, python, pins, tagged_env_vars)

    @classmethod
    def matches(cls, python: str) -> bool:
        """Any Python that uv can find."""
        return True

    def check_presence(self) -> bool:
        """Environments are made with the commits that need them."""
        return True

    def create(self) -> None:
        """Nothing to make before a commit is known."""
        os.makedirs(self._path, exist_ok=True)

    def checkout_project(self, repo: Any, commit_hash: str) -> None:
        """No working tree is needed: `install_project` does it all."""

    def install_project(self, conf: Any, repo: Any, commit_hash: str) -> None:
        """Point at the environment of a commit, making it where it is missing."""
        try:
            self._prepared = environments.prepare(self._track, repo._path, commit_hash)
        except VelocityError as error:
            raise ProcessError([conf.project, commit_hash[:8]], 1, "", str(error)) from error
        self._set_commit_hash(commit_hash)
        self._set_installed_commit_hash(commit_hash)

    def _get_installed_commit_hash(self) -> str | None:
        # Another asv process may have left any commit behind: only what this one made counts.
        return None if self._prepared is None else super()._get_installed_commit_hash()

    def find_executable(self, executable: str) -> str:
        """Path of an executable of the current commit's environment; raises OSError without one."""
        if self._prepared is None:
            raise OSError(f"no commit is installed, so there is no {executable}")
        path = self._prepared.path / "bin" / executable
        if not path.exists():
            raise OSError(f"{executable} is not in the environment")
        return str(path)

    def run(self, args: list[str], **kwargs: Any) -> Any:
        """Run the environment's Python with `args`."""
        return self.run_executable("python", args, **kwargs)

    def run_executable(self, executable: str, args: list[str], **kwargs: Any) -> Any:
        """Run an executable of the environment, with the commit's code and a private TMPDIR."""
        if self._prepared is None:
            raise EnvironmentUnavailable("no commit is installed")
        variables = self._prepared.variables()
        env = {**kwargs.pop("env", os.environ), **variables}
        # asv drops PYTHONPATH and hands this on instead: the user's own would hide what is measured.
        env.pop("ASV_PYTHONPATH", None)
        if "PYTHONPATH" in variables:
            env["ASV_PYTHONPATH"] = variables["PYTHONPATH"]
        return super().run_executable(executable, args, env=env, **kwargs)


def _absolute(conf: Any) -> Any:
    for key in ("benchmark_dir", "results_dir", "env_dir", "html_dir"):
        setattr(conf, key, os.path.abspath(getattr(conf, key)))
    return conf
