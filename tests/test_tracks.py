"""Tracks: one asv configuration each, found, read, made absolute, and refused where it is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import git
import pytest
from conftest import MakeTrack, Toy, one_line
from rich.console import Console

from mlx_velocity import history, scheduler, tracks
from mlx_velocity.commands.run import RunOptions, run
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.tracks import Settings, find_config, load, open_repo

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path, toy: Toy) -> Path:
    """A checkout with a default track and one more."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "tracks").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    keys = {"version": 1, "project": "toy", "repo": toy.path, "dvcs": "git"}
    first = {**keys, "results_dir": "results/first", "mlx_velocity": {"overlay": ["toy"]}}
    second = {
        **keys,
        "results_dir": "../results/second",
        "benchmark_dir": "../benchmarks",
        "env_dir": "../env",
    }
    (tmp_path / "asv.conf.json").write_text(f"// comments are fine\n{json.dumps(first)}", "utf-8")
    (tmp_path / "tracks" / "second.asv.conf.json").write_text(json.dumps(second), "utf-8")
    return tmp_path


# Finding


def test_nearest(home: Path) -> None:
    """The configuration is the nearest one above, unless a file or a track is named."""
    for start in (home, home / "deep", home / "deep" / "er"):
        assert find_config(None, None, start) == home / "asv.conf.json"
    second = home / "tracks" / "second.asv.conf.json"
    assert find_config(second, None, Path("/")) == second
    assert find_config(None, "second", home / "deep") == second
    assert find_config(None, "first", home) == home / "asv.conf.json"


def test_unknown_track(home: Path) -> None:
    """A track that is not there is one line that lists those that are."""
    with pytest.raises(InputError) as error:
        find_config(None, "third", home)
    assert one_line(error) == "there is no track 'third'; the tracks here are: first, second"


def test_no_configuration(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where no configuration is found, one line says how to name one."""
    for call in (
        lambda: find_config(home / "none.json", None, home),
        lambda: find_config(home, None, home),
        lambda: find_config(None, None, tmp_path_factory.mktemp("empty")),
        lambda: find_config(None, "second", tmp_path_factory.mktemp("empty")),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert "--config FILE" in one_line(error)


# Reading


def test_absolute(home: Path) -> None:
    """All paths are meant from the configuration's folder; what can be made again lies under the checkout's .asv."""
    first, second = load(home / "asv.conf.json"), load(home / "tracks" / "second.asv.conf.json")
    assert (first.name, second.name) == ("first", "second")
    assert first.benchmark_dir == second.benchmark_dir == home / "benchmarks"
    assert first.work_dir == second.work_dir == home / ".asv"
    assert (first.results_dir, second.results_dir) == (
        home / "results" / "first",
        home / "results" / "second",
    )
    assert first.settings == Settings(overlay=["toy"])
    assert second.settings.modules == ["mlx.core", "mlx_lm"]


def test_overrides(home: Path) -> None:
    """A repository and a backend may be given instead of the configuration's."""
    track = load(home / "asv.conf.json", "https://example.invalid/toy", "cuda")
    assert (track.conf.repo, track.conf.dvcs) == ("https://example.invalid/toy", "git")
    assert track.settings == Settings(overlay=["toy"], backend="cuda")


def test_repository_from_where_the_user_stands(home: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone is named from the user's folder, whichever folder holds the configuration."""
    shutil.copytree(toy.path, home / "deep" / "clone")
    monkeypatch.chdir(home / "deep")
    for config in ("asv.conf.json", "tracks/second.asv.conf.json"):
        track = load(home / config, "clone")
        assert track.conf.repo == str(home / "deep" / "clone")
        assert history.one(str(open_repo(track)._path), "v2").hash == toy.commits["two"]


def test_our_tracks() -> None:
    """Every configuration of this project can be read."""
    for path in (CHECKOUT / "asv.conf.json", *CHECKOUT.glob("tracks/*.asv.conf.json")):
        track = load(path)
        assert track.root == CHECKOUT
        assert find_config(None, track.name, CHECKOUT) == path


def change(**keys: Any) -> Callable[[dict[str, Any]], str]:
    return lambda conf: json.dumps({**conf, **keys})


def settings(**keys: Any) -> Callable[[dict[str, Any]], str]:
    return change(mlx_velocity=keys)


BREAK: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "empty": (lambda _: "", "broken"),
    "truncated": (lambda conf: json.dumps(conf)[:-9], "broken"),
    "a list": (lambda _: "[]", "broken"),
    "null": (lambda _: "null", "broken"),
    "no repository": (change(repo=""), "No repo specified"),
    "repository of no shape": (change(repo=5), "broken"),
    "no such benchmarks": (change(benchmark_dir="none"), "set benchmark_dir"),
    "folder of no shape": (change(results_dir=5), "broken"),
    "no folder": (change(html_dir=None), "broken"),
    "no branches": (change(branches=[]), "No branches specified"),
    "no Python": (change(pythons=[]), "broken"),
    "matrix of no shape": (change(matrix=[]), "broken"),
    "newer asv": (change(version=99), "newer"),
    "missing plugin": (change(plugins=[".no_such_plugin"]), "no_such_plugin"),
    "unknown setting": (settings(overlays=["toy"]), "overlays"),
    "settings of no shape": (change(mlx_velocity=["toy"]), "broken"),
    "one overlay without brackets": (settings(overlay="toy"), "overlay"),
    "one module without brackets": (settings(modules="toy"), "modules"),
    "modules of no shape": (settings(modules=[5]), "modules"),
    "requirements of no shape": (settings(requirements=["a", "b"]), "requirements"),
}


@pytest.mark.parametrize("kind", BREAK)
def test_broken(kind: str, home: Path) -> None:
    """A broken configuration is one line that names it and says what is wrong."""
    path = home / "asv.conf.json"
    spoil, reason = BREAK[kind]
    path.write_text(spoil({"version": 1, "project": "toy", "repo": "."}), "utf-8")
    with pytest.raises(InputError) as error:
        load(path)
    assert "asv.conf.json" in one_line(error)
    assert reason in one_line(error)


def test_no_text(home: Path) -> None:
    """A configuration that is no text is one line."""
    (home / "asv.conf.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError) as error:
        load(home / "asv.conf.json")
    assert one_line(error)


# The repository


def test_local_repository(toy_track: MakeTrack, toy: Toy) -> None:
    """A clone is used where it lies, and nothing is copied."""
    track = toy_track()
    assert open_repo(track)._path == toy.path
    assert list((track.work_dir / "repos").iterdir()) == []


@pytest.mark.parametrize("repo", ["none", "https://127.0.0.1:9/toy.git", "--upload-pack=touch x"])
def test_no_repository(
    repo: str, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A repository that can't be had is one line that says how to name one, and nobody else says more."""
    monkeypatch.chdir(home)
    with pytest.raises(InputError) as error:
        open_repo(load(home / "asv.conf.json", repo))
    assert "--repo" in one_line(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["no repository", "no commit"])
def test_a_folder_that_is_no_clone(kind: str, home: Path) -> None:
    """A folder that is no repository, or an empty one, is refused before anything is cloned or measured."""
    folder = home / "there"
    folder.mkdir()
    if kind == "no commit":
        git.Repo.init(folder).close()
    with pytest.raises(InputError) as error:
        open_repo(load(home / "asv.conf.json", str(folder)))
    assert "there is no git" in one_line(error) or "there holds no commit" in one_line(error)


def test_no_kind_of_repository(make_track: MakeTrack) -> None:
    """A repository of no known kind is one line too."""
    with pytest.raises(InputError) as error:
        open_repo(make_track(dvcs="sccs"))
    assert "'sccs'" in one_line(error) or "--repo" in one_line(error)


def test_no_git(home: Path) -> None:
    """A missing git is one line that says how to get it."""
    done = subprocess.run(
        [sys.executable, "-m", "mlx_velocity", "run", "--config", str(home / "asv.conf.json")],
        env={**os.environ, "PATH": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlx-velocity: git is missing; ")


def test_new_commits_are_fetched(home: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over a repository that is tracked by its URL sees the commits that it got since the last one."""
    upstream = home / "upstream"
    shutil.copytree(toy.path, upstream)
    seen: list[list[str]] = []

    def discover(track: tracks.Track, repo_path: str, commits: list[history.Commit], **_: Any) -> Any:
        seen.append([commit.subject for commit in commits])
        raise MeasurementError("enough")

    monkeypatch.setattr(scheduler, "discover", discover)
    options = RunOptions(
        "ALL", None, None, "toy", None, None, retry_failed=False, list_only=False, quiet=True
    )
    for number in range(2):
        track = load(home / "asv.conf.json", upstream.as_uri(), "cpu")
        track.conf.branches = ["main"]
        with pytest.raises(MeasurementError, match="enough"):
            run(track, options, Console(quiet=True))
        if number == 0:
            with git.Repo(upstream) as repository:
                repository.index.commit("new")
    assert len(seen[0]) == len(toy.commits)
    assert seen[1] == ["new", *seen[0]]
