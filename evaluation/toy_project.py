"""A small project in git whose commits say which one they are: what faults.py measures while it disturbs.

No dependency and no build: its environments take a second, its cases some milliseconds. A sample that was taken from
another commit than the one it is stored under is seen, since each commit's own number is among the results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import git

LARGER_FROM = 3
"""The commit from which on the counted case is twice as large, for `compare` and `bisect`: counts have no noise."""
SUITE = """
import time

import toy


class Stage:
    params = [0, 1, 2]
    param_names = ["n"]
    version, rounds, repeat, number, warmup_time = "1", 1, 2, 1, 0

    def time_quick(self, n):
        time.sleep(0.004)

    def track_bytes(self, n):
        return toy.BYTES

    track_bytes.unit = "bytes"
"""


@dataclass(frozen=True)
class Project:
    """A folder to run commands in, and the hashes of its commits, oldest first."""

    folder: Path
    commits: tuple[str, ...]


def size(number: int) -> int:
    """What a commit counts: it says which one it is."""
    return (2_000_000 if number >= LARGER_FROM else 1_000_000) + number


def make(folder: Path, commits: int = 6) -> Project:
    """Write the repository, the benchmarks and the configuration."""
    repository, author = folder / "toy", git.Actor("Somebody", "somebody@example.invalid")
    hashes = []
    with git.Repo.init(repository, mkdir=True, initial_branch="main") as repo:
        for number in range(commits):
            package = repository / "toy" / "__init__.py"
            package.parent.mkdir(exist_ok=True)
            package.write_text(f"BYTES = {size(number)}\n", "utf-8")
            (repository / "requirements.txt").write_text("# nothing\n", "utf-8")
            repo.index.add(["toy/__init__.py", "requirements.txt"])
            date = f"2026-01-{number + 1:02}T00:00:00"
            made = repo.index.commit(
                f"Change {number}", author=author, committer=author, author_date=date, commit_date=date
            )
            hashes.append(made.hexsha)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "suite.py").write_text(SUITE, "utf-8")
    configuration = {
        "version": 1, "project": "toy", "repo": "toy", "dvcs": "git", "branches": ["main"],
        "environment_type": "velocity", "results_dir": "results/toy", "html_dir": "html",
        "mlx_velocity": {"overlay": ["toy"], "modules": ["toy"], "backend": "cpu"},
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(configuration, indent=1), "utf-8")
    return Project(folder, tuple(hashes))
