"""Which commits a range names, and what is said of them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import git
import pytest
from conftest import IDENTITY, Toy, one_line

from mlx_velocity import history
from mlx_velocity.errors import InputError
from mlx_velocity.history import Commit, select

UNKNOWN = "0123456789" * 4


def names(toy: Toy, spec: str, measured: tuple[str, ...] = (), branches: tuple[str | None, ...] = ("main",)) -> list[str]:  # fmt: skip
    found = select(toy.path, spec, branches, [toy.commits[name] for name in measured])
    assert [commit.hash for commit in found] == [toy.commits[commit.subject] for commit in found]
    return [commit.subject for commit in found]


NEWEST_FIRST = ["unbuildable", "broken", "contradiction", "two", "one", "empty"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ALL", NEWEST_FIRST),
        ("NEW", ["unbuildable", "broken", "contradiction", "empty"]),
        ("EXISTING", ["two", "one"]),
        ("v2", ["two"]),
        ("main", ["unbuildable"]),
        ("main~5", ["empty"]),
        ("main~4..main~2", ["contradiction", "two"]),
        ("v2..", ["unbuildable", "broken", "contradiction"]),
        ("main~4...v2", ["two"]),
    ],
)
def test_ranges(spec: str, expected: list[str], toy: Toy) -> None:
    """Each way to name commits gives them newest first."""
    assert names(toy, spec, ("one", "two")) == expected


def test_hash(toy: Toy) -> None:
    """A hash names its commit, shortened too."""
    for length in (40, 8):
        assert names(toy, toy.commits["one"][:length]) == ["one"]


def test_nothing_new(toy: Toy) -> None:
    """Where all is measured, nothing is new, and that is no error."""
    assert names(toy, "NEW", tuple(toy.commits)) == []


def test_branches(toy: Toy) -> None:
    """A commit of two branches is named once; asv's default branch is the one that is checked out."""
    assert names(toy, "ALL", branches=("main", "v2")) == NEWEST_FIRST
    assert names(toy, "ALL", branches=(None,)) == NEWEST_FIRST


def test_hash_file(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or the standard input may list commits; one that is listed twice is measured once."""
    text = f"{toy.commits['two']}\n\n v2 \n{toy.commits['one'][:10]}\n"
    (tmp_path / "list").write_text(text, "utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    for source in (str(tmp_path / "list"), "-"):
        assert names(toy, f"HASHFILE:{source}") == ["two", "one"]


@pytest.mark.parametrize(
    "spec",
    [
        "EXISTING", "v9", "", " ", "main~99", "main^9", "main@{99}", "main@{yesterday}", "main:toy", "main^{tree}",
        "a tree", "a-blob", UNKNOWN, UNKNOWN[:8], "main..", "v9..main", "main..v9", "main..main..main", "....",
        f"{UNKNOWN}..main", "--all", "--output=x..main", "-1", "main\0", "é", "*", "x" * 5000,
    ],
)  # fmt: skip
def test_range_that_names_nothing(spec: str, toy: Toy) -> None:
    """A range that names nothing is one line that says what could be named."""
    with pytest.raises(InputError) as error:
        select(toy.path, spec, ["main"], [])
    assert one_line(error)


@pytest.mark.parametrize("text", ["v9\n", f"{UNKNOWN}\n", "", "main main\n"])
def test_hash_file_that_names_nothing(text: str, toy: Toy, tmp_path: Path) -> None:
    """A list with an unknown commit, or with none, is one line."""
    (tmp_path / "list").write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        select(toy.path, f"HASHFILE:{tmp_path / 'list'}", ["main"], [])
    assert one_line(error)


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_unreadable_hash_file(content: bytes | None, toy: Toy, tmp_path: Path) -> None:
    """A list that is missing or no text is one line."""
    path = tmp_path / "list"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        select(toy.path, f"HASHFILE:{path}", ["main"], [])
    assert "can't be read" in one_line(error)


def test_unknown_branch(toy: Toy) -> None:
    """A branch that the repository lacks is one line that says where it stands."""
    with pytest.raises(InputError) as error:
        select(toy.path, "ALL", ["trunk"], [])
    assert "no branch 'trunk'" in one_line(error)


def test_no_repository(tmp_path: Path) -> None:
    """A folder that is no repository, or is not there, is one line."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError) as error:
            history.one(str(path), "main")
        assert "--repo" in one_line(error)


def test_what_is_said(toy: Toy) -> None:
    """A commit is shown with its author's date, its subject and its tags."""
    found = history.one(toy.path, "v2")
    assert found == Commit(toy.commits["two"], 1_767_398_400, "two", ("v2",))
    assert found.short == toy.commits["two"][:8]


def test_strange_commits(tmp_path: Path) -> None:
    """Tags of what is no commit are left out, and a subject that is no text or many lines is one line."""
    with git.Repo.init(tmp_path, initial_branch="main") as repository:
        (tmp_path / "file").touch()
        repository.index.add(["file"])
        repository.index.commit("first\nof many\n\nlines")
        repository.git.tag("a-tree", "main^{tree}")
        with repository.git.custom_environment(**IDENTITY):
            repository.git.tag("-a", "a-blob", "-m", "x", "main:file")
            repository.git.tag("-a", "nested", "-m", "x", "main")
        first = history.one(str(tmp_path), "main")
        assert "\n" not in first.subject
        assert first.tags == ("nested",)
        for name in ("a-tree", "a-blob"):
            with pytest.raises(InputError):
                history.one(str(tmp_path), name)


def test_known_commits(toy: Toy) -> None:
    """Of stored hashes only those are known that the repository still has."""
    known = history.known_commits(toy.path, [toy.commits["one"], UNKNOWN])
    assert {key: commit.subject for key, commit in known.items()} == {toy.commits["one"]: "one"}


# Repositories that are not as one expects


def test_nothing_to_measure(tmp_path: Path) -> None:
    """A folder that is no repository, or holds no commit, is one line that says what to name instead."""
    git.Repo.init(tmp_path / "empty").close()
    git.Repo.init(tmp_path / "bare", bare=True).close()
    (tmp_path / "none").mkdir()
    for name, said in (("none", "is no git repository"), ("empty", "holds no commit"), ("bare", "holds no commit")):  # fmt: skip
        with pytest.raises(InputError) as error:
            history.check(str(tmp_path / name))
        assert f"{name} {said}" in one_line(error)
        assert "--repo" in error.value.advice


def test_shallow(toy: Toy, tmp_path: Path) -> None:
    """A shallow clone can be measured, with a word of warning; what it lacks says how to get it."""
    assert history.check(toy.path) == ""
    shallow = str(tmp_path / "shallow")
    git.Repo.clone_from(f"file://{toy.path}", shallow, depth=2).close()
    assert history.check(shallow).endswith(f"git -C {shallow} fetch --unshallow")
    assert [commit.subject for commit in select(shallow, "ALL", ["main"], [])] == ["unbuildable", "broken"]
    with pytest.raises(InputError) as error:
        history.one(shallow, toy.commits["one"])
    assert "fetch --unshallow" in one_line(error)


def test_bare_without_a_word(toy: Toy, tmp_path: Path) -> None:
    """A bare repository whose configuration does not say so is read all the same."""
    bare = tmp_path / "mirror"
    git.Repo.clone_from(toy.path, bare, bare=True).close()
    (bare / "config").unlink()
    assert history.check(str(bare)) == ""
    assert history.one(str(bare), "v2").hash == toy.commits["two"]
