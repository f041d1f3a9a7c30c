"""What several tests need: a toy project in git, a real environment for it, stored results, fake workers."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import git
import hypothesis
import psutil
import pytest
from fixtures_browser import browser, chromium  # noqa: F401 (fixtures of every test in a browser)
from fixtures_history import lab, said  # noqa: F401 (fixtures of every test that reads a history)
from hypothesis.configuration import set_hypothesis_home_dir

from mlx_velocity import environments, parameters, records, results, scheduler, tracks
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import VelocityError
from mlx_velocity.history import Commit
from mlx_velocity.records import Case

# A slow machine is no failure, and a checkout stays clean.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "mlx-velocity-hypothesis")
hypothesis.settings.register_profile("steady", deadline=None, database=None)
hypothesis.settings.load_profile("steady")

# Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

STARTED = "2026-01-02T03:04:05.000Z"
ENVIRONMENT = records.Environment("toy-env", "cpu", "3.11", ["psutil"], {"psutil": "7.2.2"})
Benchmark = dict[str, Any]

PROJECT = """[project]
name = "toy"
version = "{version}"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = '''"""Builds a wheel of `toy` with nothing but the standard library, and counts how often."""
import os
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(os.environ["TOY_BUILDS"], "a") as log:
        log.write("built\\n")
    name = "toy-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.write("toy/__init__.py")
        wheel.writestr("toy-{version}.dist-info/METADATA", "Metadata-Version: 2.1\\nName: toy\\nVersion: {version}\\n")
        wheel.writestr("toy-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("toy-{version}.dist-info/RECORD", "")
    return name
'''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever makes a real environment needs a package index."""
    for item in items:
        if "environments_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.network)


def one_line(error: pytest.ExceptionInfo[VelocityError]) -> str:
    """An error's text, which is one line with an advice."""
    text = str(error.value)
    assert error.value.advice
    assert "\n" not in text
    return text


def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds; a dead one that nobody collects counts."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# A project in git


@dataclass(frozen=True)
class Toy:
    """A repository of the package `toy`, oldest commit first, each with a name."""

    path: str
    commits: dict[str, str]


IDENTITY = {"GIT_COMMITTER_NAME": "Somebody", "GIT_COMMITTER_EMAIL": "somebody@example.invalid"}
"""For an annotated tag: git takes none from who has not said who he is."""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Commits `empty` (no package), `one`, `two` (toy 1.0 and 2.0), and some that can't be installed."""
    folder = tmp_path_factory.mktemp("toy")
    author = git.Actor("Somebody", "somebody@example.invalid")
    commits: dict[str, str] = {}
    with git.Repo.init(folder, initial_branch="main") as repository:

        def commit(name: str, files: dict[str, str]) -> None:
            for path, text in files.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text, "utf-8")
            repository.index.add(list(files))
            date = f"2026-01-0{len(commits) + 1}T00:00:00"
            made = repository.index.commit(
                name, author=author, committer=author, author_date=date, commit_date=date
            )
            commits[name] = made.hexsha

        commit("empty", {"README.md": "nothing yet"})
        for name, version in (("one", "1.0"), ("two", "2.0")):
            commit(
                name,
                {
                    "toy/__init__.py": f'__version__ = "{version}"\nVALUE = {version[0]}\n',
                    "pyproject.toml": PROJECT.replace("{version}", version),
                    "backend.py": BACKEND.replace("{version}", version),
                    "requirements.txt": "# nothing\n",
                },
            )
        with repository.git.custom_environment(**IDENTITY):
            repository.create_tag("v2", message="an annotated tag")
        commit("contradiction", {"requirements.txt": "psutil==0.0.0.1\n"})
        commit("broken", {"requirements.txt": "psutil\nthis is no requirement\n"})
        commit("unbuildable", {"backend.py": "raise RuntimeError(f'no compiler at {__file__}')\n"})
    return Toy(str(folder), commits)


@dataclass(frozen=True)
class MakeTrack:
    """Writes a configuration into a folder and loads it."""

    folder: Path
    repo: str
    env_dir: Path

    def __call__(self, settings: dict[str, Any] | None = None, **keys: Any) -> tracks.Track:
        (self.folder / "benchmarks").mkdir(exist_ok=True)
        text = {
            "version": 1,
            "project": "toy",
            "repo": self.repo,
            "dvcs": "git",
            "branches": ["main"],
            "environment_type": "velocity",
            "env_dir": str(self.env_dir),
            "results_dir": "results/toy",
            "mlx_velocity": {"overlay": ["toy"], "modules": ["toy"], "backend": "cpu", **(settings or {})},
            **keys,
        }
        path = self.folder / "asv.conf.json"
        path.write_text(json.dumps(text), "utf-8")
        return tracks.load(path)


@pytest.fixture
def make_track(tmp_path: Path) -> MakeTrack:
    """A track that makes no environment."""
    return MakeTrack(tmp_path, str(tmp_path), tmp_path / "environments")


@pytest.fixture(scope="session")
def environments_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where real environments are made, once for all tests."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def toy_track(tmp_path: Path, toy: Toy, environments_dir: Path) -> MakeTrack:
    """A track of the toy project whose environments are shared by all tests."""
    return MakeTrack(tmp_path, toy.path, environments_dir)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, toy: Toy, environments_dir: Path) -> Prepared:
    """The real environment of commit `two`, with the commit laid over it."""
    track = MakeTrack(tmp_path_factory.mktemp("track"), toy.path, environments_dir)()
    return environments.prepare(track, toy.path, toy.commits["two"])


# Cases and stored results


def benchmark(name: str, params: list[list[str]] | None = None, **keys: Any) -> Benchmark:
    """asv's description of a benchmark."""
    names = [f"p{index}" for index in range(len(params or []))]
    return {
        "name": name, "params": params or [], "param_names": names, "version": "1", "unit": "seconds",
        "type": "time", "rounds": 2, "timeout": 5.0, "code": "", **keys,
    }  # fmt: skip


def case_of(description: Benchmark, index: int = 0) -> Case:
    """A case of a benchmark."""
    params = list(parameters.sets(description))[index]
    return Case(
        description["name"], params, index, description["version"], description["unit"],
        description["rounds"], description["timeout"], "timing",
    )  # fmt: skip


def measured(case: Case, samples: list[float], launch: str = "first", **keys: Any) -> records.Measurement:
    """A measurement of a case."""
    return records.Measurement(
        **{
            "launch": launch, "benchmark": case.benchmark, "version": case.version, "params": list(case.params),
            "unit": case.unit, "samples": samples, "warmup": [], "started": STARTED, "duration_s": 0.5, **keys,
        }
    )  # fmt: skip


def failed(case: Case, outcome: records.Outcome = "failed", reason: str = "exit -9", launch: str = "first") -> records.Failure:  # fmt: skip
    """A failure of a case."""
    return records.Failure(
        outcome, reason, case.benchmark, case.version, list(case.params), launch, started=STARTED
    )


@dataclass(frozen=True)
class Store:
    """Opens the results of commits of one machine."""

    folder: Path

    def __call__(self, commit: str = "c0ffee" + "0" * 34) -> results.CommitResults:
        self.folder.mkdir(parents=True, exist_ok=True)
        params = {"machine": self.folder.name, "python": "3.11", "backend": "cpu"}
        return results.CommitResults(
            self.folder, params, {"backend": "cpu"}, commit, 1_767_225_600, "toy-env", "3.11"
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The results of a machine, empty."""
    return Store(tmp_path / "results" / "toy" / "machine")


# Workers that are no processes


@dataclass
class FakeWorker:
    """Answers as its office says, and knows whether it was closed."""

    office: Office
    messages: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert not self.closed
        self.messages.append(message)
        return self.office.answer(message, timeout_s)

    def close(self) -> None:
        self.closed = True


@dataclass
class Office:
    """Starts fake workers. `answers` maps an operation or a case to an answer, an error, or a list of these."""

    answers: dict[str, Any] = field(default_factory=dict)
    started: list[FakeWorker] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, prepared: Prepared) -> FakeWorker:
        self.started.append(FakeWorker(self))
        return self.started[-1]

    def answer(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        key = (
            message["op"] if message["op"] != "measure" else f"{message['benchmark']}{message['index'] or ''}"
        )
        self.asked.append((key, timeout_s))
        answer = self.answers.get(key, HELLO if key == "hello" else SAMPLES)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else SAMPLES
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)

    def measured(self) -> list[str]:
        """What was asked to be measured, in order."""
        return [key for key, _ in self.asked if key not in ("hello", "discover")]


HELLO = {"affinity": [1], "modules": {"toy": "2.0"}, "python": "3.11.7", "startup_s": 0.1}
SAMPLES = {"samples": [1.0, 3.0, 2.0], "warmup": [9.0], "notes": {}, "sensors": {}}


@pytest.fixture
def office() -> Office:
    """Starts fake workers, which measure everything unless told otherwise."""
    return Office()


@pytest.fixture
def clock() -> Callable[[], float]:
    """A clock that goes on by a second whenever it is read."""
    ticks: Iterator[int] = iter(range(10_000))
    return lambda: float(next(ticks))


COMMITS = [Commit(f"{number:x}" * 40, 1_767_225_600, f"toy {number}") for number in (11, 12, 13)]


@pytest.fixture
def fake_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Exception]:
    """No environment is made; a hash in this mapping has none because of the error."""
    errors: dict[str, Exception] = {}

    def prepare(
        track: Any, repo_path: str, commit: str, say: Callable[[str], None] = lambda _: None
    ) -> Prepared:
        if commit in errors:
            raise errors[commit]
        return Prepared(ENVIRONMENT.name, tmp_path, ENVIRONMENT)

    monkeypatch.setattr(scheduler.environments, "prepare", prepare)
    return errors


@pytest.fixture
def held() -> int:
    """Bytes that MLX still has in use for whatever ran before in this process, after all slots are emptied."""
    from mlx_velocity.probe import compat, kept

    kept.release(*list(kept._slots))
    return compat.memory()["active"] or 0
