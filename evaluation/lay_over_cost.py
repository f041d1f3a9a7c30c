"""How long does it take to lay a commit's tree over an environment?

Shows: wall time, and the processor's own time, from "this commit" to a folder with its packages that Python can import
from, and what a stored folder costs when it is asked for again (that is what each launch after the first pays).
Goal: below 0.1 s for a new commit, in the median.

How: commits of a real clone (`--repo`, any clone of mlx-lm), evenly spread; each one's folder is removed first. Without a
clone, a made-up repository of the same size: 200 files in one package.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import git

from mlx_velocity import environments, history, tracks
from mlx_velocity.errors import EnvironmentFailure

ROOT = Path(__file__).resolve().parent.parent
GOAL_S = 0.1
FILES = 200
"""mlx_lm had 185 files in August 2026."""


def main() -> int:
    """Measure, print, and say by the exit code whether the goal was met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, help="a clone of mlx-lm")
    parser.add_argument("--commits", type=int, default=100, help="how many of its commits")
    parser.add_argument("--json", type=Path, help="file for everything that was found")
    parser.add_argument("--quick", action="store_true", help="three commits; nothing is judged")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repo = str(options.repo or made_up(Path(folder) / "repo"))
        report = measured(repo, 3 if options.quick else options.commits, Path(folder))
    report |= {"quick": options.quick, "goal_s": GOAL_S, "load_1m": os.getloadavg()[0]}
    report["met"] = report["new"]["median_s"] < GOAL_S
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), "utf-8")
    return 0 if options.quick or report["met"] else 1


def measured(repo: str, count: int, work: Path) -> dict[str, Any]:
    """Lay `count` commits over, each twice."""
    loaded = tracks.load(ROOT / "tracks" / "mlx-lm.asv.conf.json", repo, "cpu")
    track = tracks.Track(loaded.name, work, loaded.conf, loaded.settings)
    commits = history.select(repo, "ALL", [None], [])  # type: ignore[list-item]
    step = max(1, len(commits) // count)
    found: dict[str, list[tuple[float, float]]] = {"new": [], "again": []}
    files = 0
    for commit in commits[::step][:count]:
        try:
            place = environments.lay_over(track, repo, commit.hash)
        except EnvironmentFailure:
            continue  # before there was a package
        assert place is not None
        files = max(files, sum(path.is_file() for path in place.rglob("*")))
        shutil.rmtree(place)
        for kind in found:
            found[kind].append(timed(lambda commit=commit: environments.lay_over(track, repo, commit.hash)))
    return {"commits": len(found["new"]), "files": files} | {kind: told(rows) for kind, rows in found.items()}


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall time, and of the processor's in this process and its children."""
    before, began = spent(), time.perf_counter()
    call()
    return time.perf_counter() - began, spent() - before


def spent() -> float:
    """Seconds of the processor so far."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def told(rows: list[tuple[float, float]]) -> dict[str, float]:
    """Median and worst of the wall times, and the median of the processor's."""
    wall, cpu = zip(*rows, strict=True)
    return {"median_s": statistics.median(wall), "worst_s": max(wall), "cpu_s": statistics.median(cpu)}


def made_up(folder: Path) -> Path:
    """A repository with three commits of a package as large as mlx_lm."""
    author = git.Actor("Somebody", "somebody@example.invalid")
    with git.Repo.init(folder, initial_branch="main") as repo:
        for number in range(3):
            for file in range(FILES):
                path = folder / "mlx_lm" / "models" / f"model_{file}.py"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"VALUE = {number}\n" * 250, "utf-8")
            repo.git.add("--all")
            repo.index.commit(f"commit {number}", author=author, committer=author)
    return folder


def show(report: dict[str, Any]) -> None:
    """Print it for a reader."""
    print(f"{report['commits']} commits of up to {report['files']} files, load {report['load_1m']:.1f}")
    print(f"{'':>18}{'median':>10}{'worst':>10}{'processor':>12}")
    for kind, words in (("new", "a new commit"), ("again", "once more")):
        row = report[kind]
        print(f"{words:>18}{row['median_s']:8.3f} s{row['worst_s']:8.3f} s{row['cpu_s'] * 1000:9.1f} ms")
    verdict = "met" if report["met"] else "not met"
    print(
        f"goal: a new commit below {GOAL_S:g} s: {'not judged in quick mode' if report['quick'] else verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
