"""The two sides of a comparison: what names stand for, and that a working tree is what is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import git
import pytest
from conftest import MakeTrack, Toy, one_line

from mlx_velocity import history, releases, sides, tracks
from mlx_velocity.errors import InputError
from mlx_velocity.workers import LocalWorker


@pytest.fixture
def clone(tmp_path: Path, toy: Toy) -> Path:
    """A clone of the toy project with a working tree, on a branch that left main two commits ago."""
    folder = tmp_path / "clone"
    with git.Repo.clone_from(toy.path, folder) as repo:
        repo.git.checkout("-q", "-b", "feature", toy.commits["one"])
        (folder / "toy" / "__init__.py").write_text('__version__ = "1.5"\nVALUE = 15\n', "utf-8")
        repo.index.add(["toy/__init__.py"])
        author = git.Actor("Somebody", "somebody@example.invalid")
        repo.index.commit("feature", author=author, committer=author)
    return folder


@pytest.fixture(scope="module")
def release_repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The release history as a repository."""
    folder = tmp_path_factory.mktemp("releases") / "history.git"
    releases.build(folder, releases.load())
    return str(folder)


def test_commits_tags_and_branches(make_track: MakeTrack, toy: Toy) -> None:
    """A hash, a tag and a branch stand for their commits."""
    base, head = sides.resolve(make_track(repo=toy.path), toy.path, toy.commits["one"][:10], "v2", False)
    assert base.commit is not None
    assert head.commit is not None
    assert (base.commit.hash, head.commit.hash) == (toy.commits["one"], toy.commits["two"])
    assert (base.name, head.subject) == (toy.commits["one"][:10], "two")


def test_merge_base_is_where_the_branch_left(make_track: MakeTrack, clone: Path, toy: Toy) -> None:
    """With a merge base, commits that the main branch gained meanwhile are not held against the head."""
    base, head = sides.resolve(make_track(repo=str(clone)), str(clone), "origin/main", "feature", True)
    assert base.commit is not None
    assert head.commit is not None
    assert base.commit.hash == toy.commits["one"]
    assert head.commit.subject == "feature"


def test_the_default_branch_is_origins(clone: Path) -> None:
    """A clone's default branch is what its origin calls so."""
    assert history.default_branch(str(clone)) in ("origin/main", "origin/HEAD")


@pytest.mark.parametrize(
    ("base", "head", "words"),
    [
        ("nothing-like-it", "v2", "is no commit"),
        ("mlx==", "v2", "names no"),
        ("mlx==0.31.*", "v2", "no single version"),
        ("mlx==0.31.1, <0.4", "v2", "names no"),
    ],
)
def test_names_that_stand_for_nothing(
    make_track: MakeTrack, toy: Toy, base: str, head: str, words: str
) -> None:
    """A name that means nothing is refused in one line with what to write instead."""
    with pytest.raises(InputError) as error:
        sides.resolve(make_track(repo=toy.path), toy.path, base, head, False)
    assert words in one_line(error)


def test_versions_have_no_merge_base(make_track: MakeTrack, toy: Toy) -> None:
    """Asking where two versions parted is refused."""
    with pytest.raises(InputError) as error:
        sides.resolve(make_track(repo=toy.path), toy.path, "toy==1.0", "v2", True)
    assert "merge base" in one_line(error)


def test_a_release_history_has_no_working_tree(make_track: MakeTrack, release_repo: str) -> None:
    """'.' is refused where commits are sets of versions."""
    track = make_track({"overlay": [], "requirements": "requirements.txt"}, repo=release_repo)
    with pytest.raises(InputError) as error:
        sides.resolve(track, release_repo, "main", ".", False)
    assert "no working tree" in one_line(error)


def test_versions_share_what_was_not_named(make_track: MakeTrack, release_repo: str) -> None:
    """Two versions of mlx stand beside the mlx-lm of the older one's day: only what was named differs."""
    track = make_track({"overlay": [], "requirements": "requirements.txt"}, repo=release_repo)
    base, head = sides.resolve(track, release_repo, "mlx==0.31.1", "mlx==0.31.2", False)
    assert base.commit is not None
    assert base.commit == head.commit
    assert "mlx-0.31.1" in base.commit.tags
    assert (base.versions, head.versions) == ({"mlx": "0.31.1"}, {"mlx": "0.31.2"})
    assert head.subject == "mlx 0.31.2"


def test_a_version_beside_a_commit_replaces_its_pin(make_track: MakeTrack, release_repo: str) -> None:
    """A version against a commit takes everything else from that commit."""
    track = make_track({"overlay": [], "requirements": "requirements.txt"}, repo=release_repo)
    base, head = sides.resolve(track, release_repo, "mlx-lm-0.31.1", "mlx==0.31.2", False)
    assert head.commit == base.commit
    assert head.versions == {"mlx": "0.31.2"}


def test_a_working_tree_is_measured_as_it_is(toy_track: MakeTrack, clone: Path) -> None:
    """Changed and new files count, ignored and deleted ones do not, and a later edit changes nothing."""
    package = clone / "toy"
    package.joinpath("__init__.py").write_text('__version__ = "9"\nVALUE = 99\n', "utf-8")
    package.joinpath("new.py").write_text("NEW = 1\n", "utf-8")
    package.joinpath("secret.log").write_text("no", "utf-8")
    clone.joinpath(".gitignore").write_text("*.log\n", "utf-8")
    track = toy_track(repo=str(clone))
    base, head = sides.resolve(track, str(clone), "HEAD", ".", False)
    prepared = sides.prepare(track, str(clone), head)
    package.joinpath("__init__.py").write_text("VALUE = 0\n", "utf-8")
    assert prepared.overlay is not None
    names = sorted(path.name for path in (prepared.overlay / "toy").iterdir() if path.is_file())
    assert names == ["__init__.py", "new.py"]
    worker = LocalWorker(prepared, {})
    try:
        answer = worker.request({"op": "hello", "modules": prepared.modules, "cores": []}, 60)
    finally:
        worker.close()
    assert answer["modules"] == {"toy": "9"}
    assert not sides.same(sides.prepare(track, str(clone), base), prepared)


def test_an_unchanged_working_tree_is_kept_once(toy_track: MakeTrack, clone: Path) -> None:
    """The same contents are copied once."""
    track = toy_track(repo=str(clone))
    _, head = sides.resolve(track, str(clone), "HEAD", ".", False)
    first, second = (sides.prepare(track, str(clone), head).overlay for _ in range(2))
    assert first == second
    assert first is not None
    assert [path.name for path in first.parent.iterdir() if path.name.startswith("worktree")] == [first.name]


def test_compare_in_a_clone_finds_its_track(tmp_path: Path) -> None:
    """In a clone of mlx-lm, without any configuration there, the track of mlx-lm and that clone are meant."""
    clone = tmp_path / "somewhere" / "mlx-lm"
    with git.Repo.init(clone):
        (clone / "mlx_lm").mkdir()
        config, repo = tracks.locate(None, None, None, clone / "mlx_lm")
    assert (config.name, repo) == ("mlx-lm.asv.conf.json", str(clone))


def test_compare_elsewhere_says_where_to_go(tmp_path: Path) -> None:
    """In a folder that is neither suite nor clone, one line says what to do."""
    with pytest.raises(InputError) as error:
        tracks.locate(None, None, None, tmp_path)
    assert "--track" in one_line(error)


def test_a_tree_of_a_deleted_package_is_refused(make_track: MakeTrack, clone: Path) -> None:
    """A working tree without the measured package is named as the reason."""
    shutil.rmtree(clone / "toy")
    with pytest.raises(InputError) as error:
        sides.resolve(make_track(repo=str(clone)), str(clone), "HEAD", ".", False)
    assert "has no toy" in one_line(error)


def test_tracks_of_a_clone_need_all_packages(tmp_path: Path) -> None:
    """A folder without the packages of any track belongs to none."""
    assert tracks.of_clone(tmp_path, Path(__file__).parents[1]) is None
