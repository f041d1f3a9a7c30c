"""The commits of a track: which ones a range names, in what order, and what is said of them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import git

from mlx_velocity import units
from mlx_velocity.errors import InputError

_FIELDS = "%H%x1f%at%x1f%s"


LATEST_S = 253_402_300_799
"""The end of the year 9999, where calendars end."""


@dataclass(frozen=True)
class Commit:
    """A commit as a reader sees it."""

    hash: str
    date_s: int
    """Author date in seconds since 1970, as asv stores it (in milliseconds)."""
    subject: str
    tags: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The first eight characters."""
        return self.hash[:8]

    @property
    def day(self) -> str:
        """The date in UTC, `2026-01-31`."""
        return units.day(self.date_s)


def date_of(held_s: int) -> int:
    """The date of a commit as it is kept and shown: git holds any number, and 9999 is the last year that can be told."""
    return min(max(held_s, 0), LATEST_S)


def select(repo_path: str, spec: str, branches: Iterable[str], measured: Iterable[str]) -> list[Commit]:
    """The commits that a range names, newest first.

    `spec` is NEW (not in `measured`), ALL, EXISTING, `A..B`, a tag, branch or hash, or
    `HASHFILE:PATH` (`-` for standard input). Raises InputError where it names nothing.
    """
    known = set(measured)
    if spec in ("NEW", "ALL", "EXISTING"):
        with open_git(repo_path) as repo:
            commits = _of_branches(repo, branches)
        if spec == "NEW":
            return [commit for commit in commits if commit.hash not in known]
        if spec == "EXISTING":
            commits = [commit for commit in commits if commit.hash in known]
    elif spec.startswith("HASHFILE:"):
        named = _names(spec.removeprefix("HASHFILE:"))
        commits = list(dict.fromkeys(one(repo_path, name) for name in named))
    elif ".." in spec:
        commits = _of_range(repo_path, spec)
    else:
        commits = [one(repo_path, spec)]
    if not commits:
        raise InputError(
            f"the range '{spec}' names no commit", "try ALL, NEW, a tag, or OLD..NEW with OLD the older one"
        )
    return commits


def line(repo_path: str, branch: str | None) -> list[Commit]:
    """The commits of a branch in the order of the graph, oldest first, along first parents.

    None is what is checked out. Raises InputError where there is no such branch.
    """
    with open_git(repo_path) as repo:
        return _of_branches(repo, [branch or ""])[::-1]


def place_since(repo_path: str, commits: list[Commit], since: str) -> int:
    """Where in a line (oldest first) that begins which came behind a commit, tag or branch, or with a date.

    A date is 2026-01-31, 2026-01 or 2026, in UTC. Single wrong dates do no harm: the place is the one that the fewest
    dates contradict. Raises InputError where `since` is neither a date nor a commit of the line.
    """
    if day := re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", since):
        try:
            start = datetime(int(day[1]), int(day[2] or 1), int(day[3] or 1), tzinfo=UTC).timestamp()
        except ValueError as error:
            raise InputError(f"'{since}' is no date: {error}", "write 2026-01-31 or 2026-01") from error
        wrong = least = sum(commit.date_s >= start for commit in commits)
        # All in front of the place should be older, all behind it not.
        place = len(commits)
        for number in range(len(commits) - 1, -1, -1):
            wrong += 1 if commits[number].date_s < start else -1
            place, least = (number, wrong) if wrong <= least else (place, least)
        return place
    wanted = one(repo_path, since).hash
    for number, commit in enumerate(commits):
        if commit.hash == wanted:
            return number + 1
    raise InputError(
        f"{wanted[:8]} ('{since}') is not on the branch whose history this is",
        "name a commit of that branch, or a date such as 2026-01-31",
    )


def one(repo_path: str, name: str) -> Commit:
    """The commit that a name stands for; raises InputError where it stands for none."""
    with open_git(repo_path) as repo:
        try:
            # GitPython hands names to its own parser; an option-like name never reaches git.
            return _commit(repo.commit(name), _tags(repo))
        except (git.BadName, git.GitError, ValueError, IndexError, NotImplementedError) as error:
            hint = ", ".join(_newest_tags(repo, 3))
            advice = f"name a hash, branch or tag{f' such as {hint}' if hint else ''}"
            if repo.git.rev_parse("--is-shallow-repository") == "true":
                advice = f"the clone is shallow, so it may be cut off: git -C {repo_path} fetch --unshallow"
            raise InputError(f"'{name}' is no commit of this repository", advice) from error


def _newest_tags(repo: git.Repo, count: int) -> list[str]:
    dated = []
    for tag in repo.tags:
        with contextlib.suppress(ValueError):  # a tag of something that is no commit
            dated.append((tag.commit.authored_date, tag.name))
    return [name for _, name in sorted(dated)[-count:]]


def open_git(repo_path: str) -> git.Repo:
    """The repository with GitPython, to be closed; raises InputError where it is none."""
    try:
        repo = git.Repo(repo_path)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise InputError(
            f"{repo_path} is no git repository", "name the folder of a clone, or a URL, with --repo"
        ) from error
    # GitPython takes a bare repository whose config does not say so for the .git of a working tree.
    if os.path.samefile(repo.git_dir, repo_path):
        repo.git.update_environment(GIT_DIR=str(repo.git_dir))
    return repo


def check(repo_path: str) -> str:
    """What a user must know of a repository: that it is shallow, or nothing.

    Raises InputError where it is no repository or holds no commit.
    """
    with open_git(repo_path) as repo:
        try:
            if not repo.git.rev_list("--all", "--max-count=1"):
                raise InputError(
                    f"the repository {repo_path} holds no commit", "name a clone of the project with --repo"
                )
            if repo.git.rev_parse("--is-shallow-repository") == "true":
                return f"the clone is shallow, so its history is cut; to get the rest: git -C {repo_path} fetch --unshallow"
        except git.GitError as error:
            lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
            reason = lines[-1].strip(" '") if lines else type(error).__name__
            raise InputError(
                f"git can't read the repository {repo_path}: {reason}", "try: git -C PATH fsck"
            ) from error
    return ""


def merge_base(repo_path: str, base: str, head: str) -> Commit:
    """Where `head` left `base`; raises InputError where they share no history."""
    first, second = one(repo_path, base), one(repo_path, head)
    with open_git(repo_path) as repo:
        found = repo.merge_base(first.hash, second.hash)
        if not found or found[0] is None:
            raise InputError(f"'{base}' and '{head}' share no commit", "name two commits of one history")
        return _commit(found[0], _tags(repo))


def default_branch(repo_path: str) -> str:
    """The branch that others start from: what origin calls its head, else main or master.

    Raises InputError where there is none of these.
    """
    with open_git(repo_path) as repo:
        names = [reference.name for reference in repo.references]
        for reference in repo.references:
            if reference.name == "origin/HEAD":
                target: Any = getattr(reference, "reference", reference)
                return str(target.name)
        for name in ("origin/main", "origin/master", "main", "master"):
            if name in names:
                return name
    raise InputError("the repository has no main branch", "name the base: mlx-velocity compare BASE HEAD")


def is_dirty(repo_path: str) -> bool:
    """Whether the working tree holds something that is not committed."""
    with open_git(repo_path) as repo:
        return not repo.bare and repo.is_dirty(untracked_files=True)


def known_commits(repo_path: str, hashes: Iterable[str]) -> dict[str, Commit]:
    """The commits among `hashes` that the repository still has."""
    found = {}
    with open_git(repo_path) as repo:
        tags = _tags(repo)
        for commit_hash in hashes:
            try:
                found[commit_hash] = _commit(repo.commit(commit_hash), tags)
            except (git.BadName, git.GitError, ValueError):
                continue
    return found


def newest_first(repo_path: str, hashes: Iterable[str]) -> list[str]:
    """Commits of the repository, each in front of those that it builds on, whatever their dates say."""
    wanted = set(hashes)
    if not wanted:
        return []
    with open_git(repo_path) as repo:
        listed = repo.git.rev_list("--topo-order", *sorted(wanted)).split()
    return [commit for commit in listed if commit in wanted]


def resolved(repo_path: str, beginnings: Iterable[str]) -> list[str]:
    """The full hashes of the commits that begin so; beginnings of none are left out."""
    found = []
    with open_git(repo_path) as repo:
        for beginning in beginnings:
            with contextlib.suppress(git.BadName, git.GitError, ValueError, IndexError):
                if re.fullmatch("[0-9a-f]{7,64}", beginning):
                    found.append(repo.commit(beginning).hexsha)
    return found


def _of_branches(repo: git.Repo, branches: Iterable[str]) -> list[Commit]:
    tags = _tags(repo)
    found: dict[str, Commit] = {}
    for branch in branches:
        try:
            tip = repo.commit(branch) if branch else repo.head.commit
            walk = _log(repo, tip.hexsha, tags)
        except (git.BadName, git.GitError, ValueError, IndexError) as error:
            raise InputError(
                f"the repository has no branch '{branch}'", 'set "branches" in the configuration'
            ) from error
        for commit in walk:
            found.setdefault(commit.hash, commit)
    return list(found.values())


def _of_range(repo_path: str, spec: str) -> list[Commit]:
    ends = spec.replace("...", "..").split("..")
    if len(ends) != 2:
        raise InputError(f"'{spec}' is no range", "give OLD..NEW with OLD the older one")
    for end in filter(None, ends):
        one(repo_path, end)
    with open_git(repo_path) as repo:
        tags = _tags(repo)
        return [_commit(commit, tags) for commit in repo.iter_commits(spec, first_parent=True)]


def _log(repo: git.Repo, tip: str, tags: dict[str, tuple[str, ...]]) -> list[Commit]:
    """A commit and its first parents, newest first, with one call of git: asking for each takes a hundred times as long."""
    text = repo.git.execute(
        ["git", "-c", "i18n.logOutputEncoding=UTF-8", "-c", "log.showSignature=false", "log", "--first-parent",
         "--topo-order", "--no-color", "--no-decorate", "-z", f"--format={_FIELDS}", tip, "--"],
        stdout_as_string=False,
    )  # fmt: skip
    records = (record.split("\x1f", 2) for record in bytes(text).decode("utf-8", "replace").split("\0"))
    return [
        Commit(parts[0], date_of(int(parts[1] or 0)), parts[2], tags.get(parts[0], ()))
        for parts in records
        if len(parts) == 3
    ]


def _names(source: str) -> list[str]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the list of commits {source} can't be read: {error}", "give HASHFILE:PATH or HASHFILE:-"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _tags(repo: git.Repo) -> dict[str, tuple[str, ...]]:
    by_commit: dict[str, tuple[str, ...]] = {}
    for tag in repo.tags:
        try:
            target = tag.commit.hexsha
        except ValueError:
            continue  # a tag of something that is no commit
        by_commit[target] = (*by_commit.get(target, ()), tag.name)
    return by_commit


def _commit(commit: git.Commit, tags: dict[str, tuple[str, ...]]) -> Commit:
    subject = commit.summary if isinstance(commit.summary, str) else commit.summary.decode("utf-8", "replace")
    return Commit(commit.hexsha, date_of(commit.authored_date), subject, tags.get(commit.hexsha, ()))
