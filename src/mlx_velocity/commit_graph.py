"""All commits of a repository in the order that asv counts them in, read with one call of git."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property

import git

from mlx_velocity.errors import InputError
from mlx_velocity.history import Commit, date_of, open_git

_FIELDS = "%H%x1f%P%x1f%at%x1f%s"
_TAG = "%(refname:strip=2)%1f%(objecttype)%1f%(objectname)%1f%(*objecttype)%1f%(*objectname)"


@dataclass(frozen=True)
class CommitGraph:
    """The commits of all branches and tags, oldest first, parents before their children."""

    commits: dict[str, Commit]
    """By full hash; the place of a commit is asv's revision number."""
    parents: dict[str, tuple[str, ...]]
    tags: dict[str, str]
    """Tag → full hash of its commit."""

    @cached_property
    def revisions(self) -> dict[str, int]:
        """Full hash → asv's revision number."""
        return {commit: number for number, commit in enumerate(self.commits)}

    def first_parents(self, tip: str) -> list[str]:
        """A branch: its tip, the tip's first parent, and so on."""
        found = []
        while tip in self.parents:
            found.append(tip)
            tip = self.parents[tip][0] if self.parents[tip] else ""
        return found

    def is_step(self, before: str, after: str) -> bool | None:
        """Whether `after` is the one commit that follows `before` on its branch; None where git has to be asked."""
        first = self.parents[after][0] if self.parents[after] else None
        if first == before:
            return True
        # What comes later in the order can't be an ancestor: then there is more between them than one commit.
        if first is not None and self.revisions[first] > self.revisions[before]:
            return False
        return None


def read(repo_path: str) -> CommitGraph:
    """The commits of a repository and its tags; raises InputError where git can't read it."""
    with open_git(repo_path) as repo:
        try:
            log = repo.git.execute(
                ["git", "-c", "i18n.logOutputEncoding=UTF-8", "-c", "log.showSignature=false", "log", "--all",
                 "--date-order", "--reverse", "--no-color", "--no-decorate", "-z", f"--format={_FIELDS}"],
                stdout_as_string=False,
            )  # fmt: skip
            tags = repo.git.execute(
                ["git", "for-each-ref", "--sort=taggerdate", "refs/tags", f"--format={_TAG}"],
                stdout_as_string=False,
            )
        except git.GitError as error:
            raise InputError(
                f"git can't read {repo_path}: {error}", "name a clone with --repo PATH"
            ) from error
    commits: dict[str, Commit] = {}
    parents: dict[str, tuple[str, ...]] = {}
    for record in bytes(log).decode("utf-8", "replace").split("\0"):
        parts = record.split("\x1f", 3)
        if len(parts) == 4:
            commits[parts[0]] = Commit(parts[0], date_of(int(parts[2] or 0)), parts[3])
            parents[parts[0]] = tuple(parts[1].split())
    named: dict[str, str] = {}
    nested: list[str] = []
    for record in bytes(tags).decode("utf-8", "replace").splitlines():
        name, kind, target, peeled_kind, peeled = record.split("\x1f")
        if kind == "commit":
            named[name] = target
        elif peeled_kind == "commit":
            named[name] = peeled
        elif peeled_kind == "tag":
            nested.append(name)
    # What is left is a tag of a file or of a folder.
    with open_git(repo_path) as repo:
        for name in nested:
            with contextlib.suppress(git.GitError):
                named[name] = repo.git.rev_parse("--verify", "--quiet", f"refs/tags/{name}^{{commit}}")
    by_commit: dict[str, tuple[str, ...]] = {}
    for name, target in named.items():
        by_commit[target] = (*by_commit.get(target, ()), name)
    for target, names in by_commit.items():
        if target in commits:
            held = commits[target]
            commits[target] = Commit(held.hash, held.date_s, held.subject, names)
    return CommitGraph(
        commits, parents, {name: target for name, target in named.items() if target in commits}
    )
