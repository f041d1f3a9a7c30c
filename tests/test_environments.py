"""Environments: one per requirement set, the right commit laid over it, and a reason where there is none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import git
import pytest
from conftest import MakeTrack, Toy, one_line

import mlx_velocity
from mlx_velocity import builds as builds_module
from mlx_velocity import environments, installer
from mlx_velocity.environments import MARKER, Prepared, prepare
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError

PINNED = {"requirements": "requirements.txt", "overlay": []}
BUILT: dict[str, Any] = {"overlay": [], "build": {"pass": ["TOY_BUILDS"]}}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def python(prepared: Prepared, code: str) -> str:
    """What the environment's Python prints, started as a worker is."""
    done = subprocess.run(
        [prepared.python, "-c", code], env=prepared.variables(), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def failure(error: pytest.ExceptionInfo[EnvironmentFailure]) -> str:
    """The reason of a failure, which is one line without folders of this machine: results are published."""
    text = str(error.value)
    assert "\n" not in text
    assert not [place for place in (tempfile.gettempdir(), str(Path.home()), sys.prefix) if place in text]
    return text


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index that refuses connections, and nothing in the cache."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


# One environment for many commits


def test_commits_share_an_environment(toy_track: MakeTrack, toy: Toy, prepared: Prepared) -> None:
    """Commits that need the same packages share one environment, and the second one installs nothing."""
    said: list[str] = []
    other = prepare(toy_track(), toy.path, toy.commits["one"], said.append)
    assert other.path == prepared.path
    assert other.record == prepared.record
    assert other.overlay != prepared.overlay
    assert said == []


def test_overlay(toy_track: MakeTrack, toy: Toy) -> None:
    """Each commit's own code is what its processes import, with nothing else of its tree beside it."""
    track = toy_track()
    for name, version in (("one", "1.0"), ("two", "2.0"), ("one", "1.0")):
        made = prepare(track, toy.path, toy.commits[name])
        assert made.overlay is not None
        assert [path.name for path in made.overlay.iterdir()] == ["toy"]
        found = python(made, "import toy; print(toy.__version__, toy.__file__)")
        assert found == f"{version} {made.overlay / 'toy' / '__init__.py'}"
        assert made.modules == {"toy": str(made.overlay)}


def test_torn_overlay(toy_track: MakeTrack, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay that was interrupted is not taken for the commit's code."""
    track = toy_track()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(track, toy.path, toy.commits["one"])
    made = prepare(track, toy.path, toy.commits["one"])
    assert made.overlay is not None
    assert (made.overlay / "toy" / "__init__.py").exists()
    assert list(made.overlay.parent.iterdir()) == [made.overlay]


def test_commit_without_the_package(toy_track: MakeTrack, toy: Toy) -> None:
    """A commit that lacks the package is incompatible, with a reason that names both."""
    with pytest.raises(EnvironmentFailure) as error:
        prepare(toy_track(), toy.path, toy.commits["empty"])
    assert failure(error) == f"commit {toy.commits['empty'][:8]} has no toy"
    assert error.value.incompatible


def test_what_is_recorded(prepared: Prepared) -> None:
    """The record names series, backend and Python, and the exact version of all that is installed."""
    record = prepared.record
    assert (record.name, record.backend, record.python) == (f"velocity-py{HERE}-backendcpu", "cpu", HERE)
    counter = {"linux": "nvidia-ml-py", "darwin": "zeus-apple-silicon"}[sys.platform]
    assert set(record.packages) - {counter} == {"asv-runner", "psutil"}
    assert python(prepared, "import psutil; print(psutil.__version__)") == record.packages["psutil"]


def test_series_have_names(toy_track: MakeTrack) -> None:
    """The backend and the pins of the matrix set a series apart, by name."""
    names = {
        environments.name_of(toy_track(matrix={"req": {"mlx": pins}} if pins else {}), "3.11", backend)
        for backend in ("cpu", "cuda")
        for pins in (["0.31.2"], ["0.30.0"], [])
    }
    assert len(names) == 6


def test_nothing_of_ours_is_inside(prepared: Prepared) -> None:
    """Of the runner's own packages only the probe can be imported beside what is measured."""
    code = """
import importlib, mlx_velocity.probe.worker, sys
for name in ("scipy", "git", "rich", "asv", "pytest"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    print(name)
print(mlx_velocity.__file__)
"""
    assert python(prepared, code) == str(
        prepared.path / f"lib/python{HERE}/site-packages/mlx_velocity/__init__.py"
    )


def test_variables(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process gets a temporary folder of its own and none of the runner's secrets or Python settings."""
    for name in ("SECRET_TOKEN", "HF_TOKEN", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "mine")
    variables = prepared.variables()
    assert "mine" not in variables.values()
    assert variables["PYTHONPATH"] == str(prepared.overlay)
    assert variables["TMPDIR"].startswith(str(prepared.path))
    assert Path(variables["TMPDIR"]).is_dir()
    (tmp_path / "other").mkdir()
    assert Prepared("other", tmp_path / "other", prepared.record).variables()["TMPDIR"] != variables["TMPDIR"]


def test_commit_that_needs_more(toy_track: MakeTrack, toy: Toy, tmp_path: Path) -> None:
    """A commit that needs a newer package than the track pins is incompatible: it would measure a mixture."""
    with git.Repo.clone_from(toy.path, tmp_path / "clone") as clone:
        (tmp_path / "clone" / "setup.py").write_text("setup(install_requires=['psutil>=9999'])", "utf-8")
        clone.index.add(["setup.py"])
        author = git.Actor("Somebody", "somebody@example.invalid")
        commit = clone.index.commit("needs more", author=author, committer=author).hexsha
    track = toy_track(matrix={"req": {"psutil": ["7.2.2"]}})
    with pytest.raises(EnvironmentFailure) as error:
        prepare(track, str(tmp_path / "clone"), commit)
    assert failure(error) == "this commit needs psutil>=9999, and 7.2.2 is pinned"
    assert error.value.incompatible


# Environments that break


@pytest.fixture
def own(toy_track: MakeTrack, tmp_path: Path) -> MakeTrack:
    """A track with environments of its own, which a test may break."""
    return MakeTrack(tmp_path, toy_track.repo, tmp_path / "environments")


BREAK: dict[str, Callable[[Path], None]] = {
    "interrupted": lambda path: (path / MARKER).unlink(),
    "torn marker": lambda path: (path / MARKER).write_text("{", "utf-8"),
    "marker of another shape": lambda path: (path / MARKER).write_text('{"name": 1}', "utf-8"),
    "Python gone": lambda path: (path / "bin" / "python").unlink(),
}


@pytest.mark.parametrize("kind", BREAK)
def test_broken_environment(kind: str, own: MakeTrack, toy: Toy) -> None:
    """An environment that was interrupted or has lost its Python is made again."""
    track = own()
    made = prepare(track, toy.path, toy.commits["two"])
    (made.path / "left-over").touch()
    BREAK[kind](made.path)
    again = prepare(track, toy.path, toy.commits["two"])
    assert again == made
    assert json.loads((again.path / MARKER).read_text("utf-8"))["packages"] == made.record.packages
    assert not (again.path / "left-over").exists()
    assert python(again, "import toy, psutil; print(toy.VALUE)") == "2"


def test_moved_checkout(own: MakeTrack, toy: Toy, tmp_path: Path) -> None:
    """An environment that was made from another checkout of this project uses the present one."""
    track = own()
    made = prepare(track, toy.path, toy.commits["two"])
    link = made.path / f"lib/python{HERE}/site-packages/mlx_velocity"
    link.unlink()
    link.symlink_to(tmp_path / "moved away")
    prepare(track, toy.path, toy.commits["two"])
    assert link.readlink() == Path(mlx_velocity.__file__).parent


def test_made_once(own: MakeTrack, toy: Toy) -> None:
    """Two runs that need the same environment at the same time make it once."""
    track = own()
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(lambda name: prepare(track, toy.path, toy.commits[name], said.append), ["one", "two"])
        )
    assert made[0].record == made[1].record
    assert len(said) == 1


def test_index_out_of_reach(own: MakeTrack, toy: Toy, unreachable: None) -> None:
    """An index that can't be reached is one line, blames no commit, and leaves nothing half made."""
    with pytest.raises(MeasurementError) as error:
        prepare(own(), toy.path, toy.commits["two"])
    assert not isinstance(error.value, EnvironmentFailure)
    assert "index can't be reached" in one_line(error)
    assert [path.suffix for path in own.env_dir.iterdir()] == [".lock"]


def test_offline(own: MakeTrack, toy: Toy, unreachable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network switched off, what the cache lacks is no fault of the commit."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(MeasurementError) as error:
        prepare(own(), toy.path, toy.commits["two"])
    assert not isinstance(error.value, EnvironmentFailure)
    assert one_line(error)


def test_no_uv(own: MakeTrack, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing uv is one line that says how to get it."""

    def missing() -> str:
        raise FileNotFoundError("Could not find the uv binary\n in any of\n these")

    monkeypatch.setattr(installer, "find_uv_bin", missing)
    with pytest.raises(InputError) as error:
        prepare(own(), toy.path, toy.commits["two"])
    assert one_line(error) == "uv is missing; install it: pip install uv"


def test_uv_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A uv that never ends is ended, and that is the reason."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nsleep 600\n", "utf-8")  # a child that holds its output open
    uv.chmod(uv.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(installer, "find_uv_bin", lambda: str(uv))
    with pytest.raises(EnvironmentFailure, match="uv pip took more than 0 s") as error:
        installer.uv(["pip", "install", "toy"], timeout_s=0.1)
    assert not error.value.incompatible


# Commits that are sets of versions


def test_requirements(toy_track: MakeTrack, toy: Toy, prepared: Prepared) -> None:
    """A commit's file of pins decides what is installed; equal pins share an environment."""
    made = prepare(toy_track(PINNED), toy.path, toy.commits["one"])
    assert made.path == prepared.path
    assert made.overlay is None
    assert made.modules == {"toy": str(made.path)}


@pytest.mark.parametrize(
    ("commit", "reason"),
    [
        ("contradiction", "psutil==0.0.0.1"),
        ("empty", "has no requirements.txt"),
        ("broken", "this is no requirement"),
    ],
)
def test_commit_that_cannot_be_installed(commit: str, reason: str, toy_track: MakeTrack, toy: Toy) -> None:
    """Pins that contradict each other, are missing or unreadable make a commit incompatible, with the reason."""
    with pytest.raises(EnvironmentFailure) as error:
        prepare(toy_track(PINNED), toy.path, toy.commits[commit])
    assert reason in failure(error)
    assert error.value.incompatible


# Projects that are built


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A line for each build of the toy project."""
    monkeypatch.setenv("TOY_BUILDS", str(tmp_path / "builds"))
    return tmp_path / "builds"


def test_built_once(own: MakeTrack, toy: Toy, builds: Path) -> None:
    """A project that must be built is built once per commit, and each commit has its own environment."""
    track = own(BUILT)
    found = []
    for name in ("one", "two", "one"):
        made = prepare(track, toy.path, toy.commits[name])
        code = "import toy, importlib.metadata as m; print(toy.__version__, m.version('toy'), toy.__file__)"
        version, installed, file = python(made, code).split(" ")
        assert file.startswith(str(made.path))
        assert version == installed == made.record.packages["toy"]
        found.append((version, made.path))
    assert [version for version, _ in found] == ["1.0", "2.0", "1.0"]
    assert len({path for _, path in found}) == 2
    assert builds.read_text("utf-8").splitlines() == ["built"] * 2


def test_built_record_is_public(own: MakeTrack, toy: Toy, builds: Path, tmp_path: Path) -> None:
    """The record of a built project names its wheel and no folder of this machine."""
    record = prepare(own(BUILT), toy.path, toy.commits["two"]).record
    assert any("toy-2.0-py3-none-any.whl" in item for item in record.requirements)
    assert str(tmp_path) not in json.dumps(record.requirements)


def test_another_way_to_build(
    own: MakeTrack, toy: Toy, builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another compiler or other flags make another wheel; more jobs and another cache do not."""
    track = own(BUILT)
    places = []
    for name, value in (
        ("CC", ""),
        ("CMAKE_BUILD_PARALLEL_LEVEL", "2"),
        ("CCACHE_DIR", "x"),
        ("CC", "clang"),
    ):
        monkeypatch.setenv(name, value)
        places.append(prepare(track, toy.path, toy.commits["two"]).path)
    assert places[0] == places[1] == places[2] != places[3]
    assert builds.read_text("utf-8").splitlines() == ["built"] * 2


def test_variables_of_a_build(own: MakeTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build gets the track's variables for its backend, then the user's; of lists, all words in that order."""
    settings = {
        "variables": {"CMAKE_ARGS": "-DA=1", "CC": "gcc"},
        "backends": {"cuda": {"CMAKE_ARGS": "-DCUDA=ON"}},
        "pass": ["MINE"],
    }
    track = own({"overlay": [], "build": settings})
    for name in builds_module.CHOICES:
        monkeypatch.delenv(name, raising=False)
    assert builds_module.choices(track, "cpu") == {"CMAKE_ARGS": "-DA=1", "CC": "gcc"}
    for name, value in (("CMAKE_ARGS", "-DA=2"), ("CC", "clang"), ("MINE", "x"), ("SECRET_TOKEN", "y")):
        monkeypatch.setenv(name, value)
    assert builds_module.choices(track, "cuda") == {
        "CMAKE_ARGS": "-DA=1 -DCUDA=ON -DA=2", "CC": "clang", "MINE": "x",
    }  # fmt: skip


def test_a_build_gets_no_secrets(
    own: MakeTrack, toy: Toy, builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build sees no variable that nobody meant for it, such as the token that uv publishes with."""
    monkeypatch.setenv("SECRET_TOKEN", "mine")
    monkeypatch.setenv("UV_PUBLISH_TOKEN", "mine")
    with git.Repo.clone_from(toy.path, tmp_path / "clone") as clone:
        clone.git.checkout("-q", toy.commits["two"])
        file = tmp_path / "clone" / "backend.py"
        text = file.read_text("utf-8").replace(
            'log.write("built\\n")',
            'log.write(os.environ.get("SECRET_TOKEN") or os.environ.get("UV_PUBLISH_TOKEN", "none"))',
        )
        file.write_text(text, "utf-8")
        clone.index.add(["backend.py"])
        author = git.Actor("Somebody", "somebody@example.invalid")
        commit = clone.index.commit("nosy", author=author, committer=author).hexsha
    prepare(own(BUILT), str(tmp_path / "clone"), commit)
    assert builds.read_text("utf-8") == "none"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("/somewhere/mlx/ops.cpp:12:3: error: no such thing", "ops.cpp:12:3: error: no such thing"),
        # The words of an index that can't be reached, but it is the build that says them.
        (
            "CMake Error at x.cmake:163: failed to fetch json",
            "CMake Error at x.cmake:163: failed to fetch json",
        ),
    ],
)
def test_the_compilers_error_is_the_reason(
    said: str, reason: str, own: MakeTrack, toy: Toy, tmp_path: Path
) -> None:
    """Of a long build log the first errors of the compiler are the reason, and the rest stays in a file."""
    with git.Repo.clone_from(toy.path, tmp_path / "clone") as clone:
        noise = 'print("compiling\\n" * 500)'
        text = f"{noise}\nprint({said!r})\n{noise}\nraise SystemExit(1)\n"
        (tmp_path / "clone" / "backend.py").write_text(text, "utf-8")
        clone.index.add(["backend.py"])
        author = git.Actor("Somebody", "somebody@example.invalid")
        commit = clone.index.commit("does not compile", author=author, committer=author).hexsha
    track = own(BUILT)
    with pytest.raises(EnvironmentFailure) as error:
        prepare(track, str(tmp_path / "clone"), commit)
    assert error.value.message.startswith(reason)
    log = track.root / error.value.advice.rpartition(" ")[2]
    assert log.read_text("utf-8").count("compiling") > 900


def test_build_that_fails(own: MakeTrack, toy: Toy) -> None:
    """A build that fails is a failure with the build's own reason, is tried again later, and leaves nothing."""
    track = own(BUILT)
    with pytest.raises(EnvironmentFailure) as error:
        prepare(track, toy.path, toy.commits["unbuildable"])
    assert "no compiler" in failure(error)
    assert not error.value.incompatible
    assert list((track.work_dir / "wheels" / track.name).iterdir()) == []
