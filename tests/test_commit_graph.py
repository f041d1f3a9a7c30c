"""The commits of a repository in one call of git are those that asv counts, in its order."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from asv.plugins.git import Git

from mlx_velocity import commit_graph
from mlx_velocity.errors import InputError


class Toy:
    """A repository that is built step by step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.day = 0
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, **more: str) -> str:
        self.day += 1
        who = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "x"), ("EMAIL", "x@example.invalid"), ("DATE", f"{10**9 + self.day * 86400} +0000"))}  # fmt: skip
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env={**who, "PATH": "/usr/bin:/bin:/usr/local/bin", **more},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, subject: str, **more: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", subject, **more)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Two merged branches, one that is not, tags of all kinds, equal dates and a subject in another encoding."""
    toy = Toy(tmp_path)
    toy.commit("one")
    toy.git("tag", "v1")
    toy.git("checkout", "--quiet", "-b", "side")
    for number in range(3):
        toy.commit(f"side {number}")
    toy.git("checkout", "--quiet", "main")
    for number in range(3):
        toy.commit(f"main {number}")
    toy.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    toy.git("tag", "-a", "-m", "signed", "v2")
    toy.git("tag", "-a", "-m", "of a tag", "v2-again", "v2")
    toy.git("tag", "a-file", toy.git("hash-object", "-w", "--stdin", GIT_CONFIG_COUNT="0"))
    toy.git("checkout", "--quiet", "-b", "open", "main~1")
    toy.commit("never merged\n\nwith a body")
    toy.git("tag", "<img/src=x>")
    toy.git("checkout", "--quiet", "main")
    toy.git("config", "i18n.commitEncoding", "latin1")
    path = toy.path / "message"
    path.write_bytes(b"gr\xf6\xdfer | \x1f and more")
    toy.git("commit", "--quiet", "--allow-empty", "-F", str(path))
    return toy


def test_the_order_is_asvs(toy: Toy) -> None:
    """The place of each commit is the revision number that asv gives it."""
    graph = commit_graph.read(str(toy.path))
    assert graph.revisions == Git(str(toy.path), "unused").get_revisions(set(graph.commits))
    assert len(graph.commits) == 10


def test_tags_lead_to_commits(toy: Toy) -> None:
    """Tags of all kinds lead to their commits as asv says; a tag of something else is none."""
    graph = commit_graph.read(str(toy.path))
    assert set(graph.tags) == {"v1", "v2", "v2-again", "<img/src=x>"}
    for tag, commit in graph.tags.items():
        assert commit == toy.git("rev-list", "-n", "1", tag)
        assert tag in graph.commits[commit].tags


def test_a_branch_is_its_first_parents(toy: Toy) -> None:
    """A branch holds what asv finds on it."""
    graph, repo = commit_graph.read(str(toy.path)), Git(str(toy.path), "unused")
    for name in ("main", "side", "open"):
        assert graph.first_parents(toy.git("rev-parse", name)) == repo.get_branch_commits(name)


def test_what_a_commit_says(toy: Toy) -> None:
    """Subject and date are read whatever encoding and signs they hold."""
    graph = commit_graph.read(str(toy.path))
    subjects = [commit.subject for commit in graph.commits.values()]
    assert "never merged" in subjects
    assert "größer | \x1f and more" in subjects
    dates = [int(toy.git("show", "-s", "--format=%at", commit)) for commit in graph.commits]
    assert [commit.date_s for commit in graph.commits.values()] == dates


def test_a_step_is_one_commit(toy: Toy) -> None:
    """Whether one commit follows another is what a range of git says, or left for git to say."""
    graph, repo = commit_graph.read(str(toy.path)), Git(str(toy.path), "unused")
    answers = set()
    for before, after in itertools.combinations(graph.commits, 2):
        step = graph.is_step(before, after)
        answers.add(step)
        if step is not None:
            found = repo.get_hashes_from_range(repo.get_range_spec(before, after))
            assert (len(found) == 1) is step, (before, after)
    assert {True, False} <= answers


def test_no_repository_is_wrong_input(tmp_path: Path) -> None:
    """A folder without a repository is one line; one without commits has none."""
    with pytest.raises(InputError):
        commit_graph.read(str(tmp_path))
    Toy(tmp_path)
    assert commit_graph.read(str(tmp_path)).commits == {}
