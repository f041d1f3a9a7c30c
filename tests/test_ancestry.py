"""The path between two commits: by the graph, along first parents, and only what changes what is measured."""

from __future__ import annotations

from pathlib import Path

import git
import pytest
from conftest import one_line

from mlx_velocity import ancestry, history
from mlx_velocity.errors import InputError

AUTHOR = git.Actor("Somebody", "somebody@example.invalid")


@pytest.fixture
def repo_path(tmp_path: Path) -> str:
    """a – b – m – d on main, where m merges a branch x – y that left at a; all dates are the wrong way round."""
    with git.Repo.init(tmp_path, initial_branch="main") as repo:

        def commit(name: str, *parents: str, folder: str = "toy") -> None:
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_text(name, "utf-8")
            repo.git.add("--all")
            date = f"2026-01-{20 - len(repo.tags):02d}T00:00:00"
            made = repo.index.commit(
                name, author=AUTHOR, committer=AUTHOR, author_date=date, commit_date=date,
                parent_commits=[repo.commit(parent) for parent in parents],
            )  # fmt: skip
            repo.create_tag(name, made)

        commit("a")
        commit("x", "a")
        commit("y", "x")
        commit("b", "a")
        commit("m", "b", "y")
        commit("d", "m", folder="docs")
        commit("e", "d")
    return str(tmp_path)


def names(repo_path: str, good: str, bad: str) -> list[str]:
    found = ancestry.path(repo_path, history.one(repo_path, good), history.one(repo_path, bad))
    return [point.subject for point in found]


def test_a_merged_branch_is_one_step(repo_path: str) -> None:
    """From the main line on, a merge stands for its branch; dates do not matter."""
    assert names(repo_path, "a", "e") == ["a", "b", "m", "d", "e"]
    points = ancestry.path(repo_path, history.one(repo_path, "a"), history.one(repo_path, "e"))
    assert [point.parents for point in points] == [0, 1, 2, 1, 1]


def test_a_start_on_the_branch_goes_through_it(repo_path: str) -> None:
    """Where the good end lies on the merged branch, the path goes along that branch."""
    assert names(repo_path, "x", "d") == ["x", "y", "m", "d"]


def test_swapped_ends(repo_path: str) -> None:
    """Ends the wrong way round are told apart from unrelated ones."""
    with pytest.raises(InputError) as error:
        names(repo_path, "d", "b")
    assert "is older than" in one_line(error)


def test_ends_on_two_branches(repo_path: str) -> None:
    """Where neither leads to the other, the commit at which they part is offered."""
    with pytest.raises(InputError) as error:
        names(repo_path, "y", "b")
    assert "they part at" in one_line(error)
    assert history.one(repo_path, "a").short in one_line(error)


def test_only_what_changes_the_package_counts(repo_path: str) -> None:
    """A commit that leaves the measured folders alone is no candidate."""
    points = ancestry.path(repo_path, history.one(repo_path, "a"), history.one(repo_path, "e"))
    assert [point.subject for point in ancestry.changing(repo_path, points, ["toy"])] == ["a", "b", "m", "e"]
    assert ancestry.changing(repo_path, points, []) == points
    assert [item.subject for item in ancestry.changing(repo_path, points, ["none"])] == ["a"]
