"""The commits between two others, one behind the other, and which of them change what is measured."""

from __future__ import annotations

from collections.abc import Sequence

import git

from mlx_velocity import history
from mlx_velocity.bisection import Point
from mlx_velocity.errors import InputError
from mlx_velocity.history import Commit


def path(repo_path: str, good: Commit, bad: Commit) -> list[Point]:
    """The commits from `good` to `bad`, both included, each a parent of the next.

    Where there are several ways, the one along first parents, as long as `good` lies behind it: a merged branch is
    one step, as it was for the branch that it came to. Raises InputError where `good` is no ancestor of `bad`.
    """
    if good.hash == bad.hash:
        raise InputError(f"both ends are {good.short} ({good.subject})", "name an older and a newer commit")
    with history.open_git(repo_path) as repo:
        # Author dates lie; the graph does not.
        lines = repo.git.rev_list(f"{good.hash}..{bad.hash}", ancestry_path=True, parents=True).split("\n")
        parents = {first: rest for first, *rest in (line.split() for line in lines if line)}
        if bad.hash not in parents:
            raise _unrelated(repo, repo_path, good, bad)
        chain, here = [], bad.hash
        while here != good.hash:
            chain.append(here)
            here = next(item for item in parents[here] if item == good.hash or item in parents)
        return [_point(repo, item) for item in [good.hash, *reversed(chain)]]


def _unrelated(repo: git.Repo, repo_path: str, good: Commit, bad: Commit) -> InputError:
    if repo.is_ancestor(repo.commit(bad.hash), repo.commit(good.hash)):
        return InputError(
            f"{bad.short} is older than {good.short}",
            f"name the older commit first: mlx-velocity bisect {bad.short} {good.short}",
        )
    base = history.merge_base(repo_path, good.hash, bad.hash)
    return InputError(
        f"{good.short} is no ancestor of {bad.short}: they part at {base.short} ({base.subject})",
        f"start there: mlx-velocity bisect {base.short} {bad.short}",
    )


def changing(repo_path: str, points: Sequence[Point], folders: Sequence[str]) -> list[Point]:
    """The first commit, and those after it in which one of these files or folders differs from the commit before.

    Without files or folders, all of them: who builds a commit can't know what matters.
    """
    if not folders:
        return list(points)
    kept: list[Point] = []
    before: list[str] | None = None
    with history.open_git(repo_path) as repo:
        for point in points:
            tree = repo.commit(point.commit).tree
            here = [_content(tree, folder) for folder in folders]
            if here != before:
                kept.append(point)
            before = here
    return kept


def _content(tree: git.Tree, name: str) -> str:
    try:
        return str(tree.join(name).hexsha)
    except KeyError:
        return ""


def _point(repo: git.Repo, commit_hash: str) -> Point:
    commit = repo.commit(commit_hash)
    subject = commit.summary if isinstance(commit.summary, str) else commit.summary.decode("utf-8", "replace")
    return Point(commit.hexsha, subject, history.date_of(commit.authored_date), len(commit.parents))
