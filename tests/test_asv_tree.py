"""The published data say what stock asv's say: of a tidy history, of an untidy one, and after each change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fixtures_site as made
import made_up_store
import numpy as np
import pytest
import same_tree
from asv.graph import Graph, make_summary_graph
from made_up_store import ENVIRONMENT, Store

from mlx_velocity import tracks
from mlx_velocity.site import asv_graphs, publish
from mlx_velocity.site.asv_graphs import Points

STORE = Store(90, 7, machines=2, parametrised=3, missing=0.08)
TREE = Path(".asv") / "html" / made_up_store.TRACK / publish.ASV_FOLDER


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A made-up history and its commits."""
    folder = tmp_path_factory.mktemp("history") / "whole"
    return folder, made_up_store.write(folder, STORE)


@pytest.fixture
def folder(whole: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of it."""
    made_up_store.copy(whole[0], tmp_path / "own")
    return tmp_path / "own"


def build(folder: Path) -> publish.PublishedTrack:
    (track,) = made.built(tracks.load(folder / "asv.conf.json")).tracks
    return track


def differences(folder: Path) -> list[str]:
    """Between ours and what stock asv publishes now."""
    done = made.program("publish", "--no-pull", "-o", "stock", cwd=folder, module="asv")
    assert done.code == 0, done.out + done.err
    return same_tree.differences(folder / TREE, folder / "stock")


def change(path: Path, how: Callable[[Any], None]) -> None:
    held = json.loads(path.read_text("utf-8"))
    how(held)
    path.write_text(json.dumps(held), "utf-8")


def files(folder: Path, machine: str = "machine-0") -> list[Path]:
    return sorted((folder / "results" / made_up_store.TRACK / machine).glob("*cpu*.json"))


def test_a_tidy_history(folder: Path) -> None:
    """Index, graphs, summaries, regressions and their feed are asv's; there are regressions to compare."""
    build(folder)
    assert differences(folder) == []
    assert len(json.loads((folder / TREE / "regressions.json").read_text("utf-8"))["regressions"]) > 3


def test_after_one_commit_more(folder: Path, whole: tuple[Path, list[str]]) -> None:
    """A commit more on one machine makes that machine's graphs anew, and all say what asv's say."""
    first = build(folder)
    assert first.made == first.graphs == 14
    assert build(folder).made == 0
    commits = made_up_store.add(folder, STORE, whole[1])
    for path in (folder / "results" / made_up_store.TRACK / "machine-1").glob(f"{commits[-1][:8]}*"):
        path.unlink()
    assert build(folder).made == 7
    assert differences(folder) == []


def test_files_that_went_and_changed(folder: Path) -> None:
    """Results that are gone, and numbers that are others now, are as gone and as changed as in asv's."""
    build(folder)
    for path in files(folder)[:40]:
        path.unlink()
    change(files(folder, "machine-1")[3], lambda held: held["results"].popitem())
    build(folder)
    assert differences(folder) == []


def test_a_file_of_the_last_site_that_was_changed_is_made_anew(folder: Path) -> None:
    """What lies in the last site is taken only as it was written."""
    build(folder)
    (path,) = folder.glob(f"{TREE}/graphs/**/machine-machine-0/**/stage0.Case0.time_case.json")
    text = path.read_text("utf-8")
    path.write_text("[]", "utf-8")
    build(folder)
    assert path.read_text("utf-8") == text


def environment(held: Any) -> None:
    held["env_vars"] = {"OMP_NUM_THREADS": "1"}


def without_a_param(held: Any) -> None:
    del held["params"]["gpu"]


def null_param(held: Any) -> None:
    held["params"]["gpu"] = None


def another_version(held: Any) -> None:
    for row in held["results"].values():
        row[2] = "2"


def no_version(held: Any) -> None:
    for row in held["results"].values():
        row[2] = None


def all_failed(held: Any) -> None:
    for row in held["results"].values():
        row[0] = None
        del row[5:]


def not_measured(held: Any) -> None:
    for row in held["results"].values():
        row[0] = [float("nan")] * len(row[0])
        del row[5:]  # asv keeps no statistics of what it has no number of


def other_columns(held: Any) -> None:
    names = held["result_columns"]
    held["result_columns"] = names[::-1]
    for row in held["results"].values():
        row += [None] * (len(names) - len(row))
        row.reverse()


def other_parameters(held: Any) -> None:
    for row in held["results"].values():
        if row[1]:
            row[1] = [["'tiny-4bit'", "'gone'"], ["128", "32"]]


def fewer_values(held: Any) -> None:
    for row in held["results"].values():
        row[0], row[3] = row[0][:1], None
        del row[5:]


def an_old_benchmark(held: Any) -> None:
    held["results"]["gone.Gone.time_gone"] = [[1.0], [], "1"]


def whole_numbers(held: Any) -> None:
    for row in held["results"].values():
        row[0] = [3 for _ in row[0]]


def no_intervals(held: Any) -> None:
    for row in held["results"].values():
        row[5] = [float("-inf")] * len(row[0])
        row[6] = None


UNTIDY = [
    environment, without_a_param, null_param, another_version, no_version, all_failed, not_measured, other_columns,
    other_parameters, fewer_values, an_old_benchmark, whole_numbers, no_intervals,
]  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    who = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "x"), ("EMAIL", "x@example.invalid"), ("DATE", "1700000000 +0000"))}  # fmt: skip
    done = subprocess.run(
        ["git", *arguments], cwd=folder / "repo", env={**made.basic_environment(), **who}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_an_untidy_history(folder: Path, whole: tuple[Path, list[str]]) -> None:
    """Old columns, other versions, missing parameters, environment variables, several results of a commit, commits
    of no branch: all of it comes out as asv's, and what is not shown is counted."""
    for number, how in enumerate(UNTIDY):
        for path in files(folder)[number::20]:
            change(path, how)
    # Results of one commit in several environments that asv does not tell apart.
    for path in files(folder, "machine-1")[::7]:
        for count in (2, 3):
            other = path.with_name(path.name.replace(ENVIRONMENT, f"{ENVIRONMENT}-{count}"))
            other.write_text(path.read_text("utf-8"), "utf-8")
            change(other, lambda held, count=count: [row[0].__setitem__(0, count / 100) for row in held["results"].values() if row[0]])  # fmt: skip
    # Commits of no branch: with a tag, without, and gone.
    git(folder, "checkout", "--quiet", "-b", "open", "main~5")
    for number, path in enumerate(files(folder)[-3:]):
        git(folder, "commit", "--quiet", "--allow-empty", "-m", f"never merged {number}")
        commit = git(folder, "rev-parse", "HEAD") if number < 2 else "ab" * 20
        change(path, lambda held, commit=commit: held.update(commit_hash=commit))
        path.rename(path.with_name(f"{commit[:8]}-{ENVIRONMENT}.json"))
        if number == 0:
            git(folder, "tag", "-a", "-m", "by hand", "a-tag")
    built = build(folder)
    assert differences(folder) == []
    assert built.left_out == []
    assert sorted(built.notes) == [
        "1 result of commits that are on no tracked branch",
        "1 result of commits that the repository no longer has",
        "8 benchmarks that no longer exist as measured: gone.Gone.time_gone, stage0.Case0.time_case, "
        "stage1.Case1.time_case, stage2.Case2.time_case, stage3.Case3.time_case and 3 more",
    ]


def test_what_the_configuration_says_of_regressions(folder: Path, whole: tuple[Path, list[str]]) -> None:
    """Thresholds, first commits, an address of commits and other branches are used as asv uses them."""
    git(folder, "branch", "older", "main~20")

    def how(held: Any) -> None:
        held |= {
            "branches": ["main", "older"],
            "regressions_thresholds": {".*Case0.*": 0.01, ".*Case1.*": 0.5},
            "regressions_first_commits": {".*Case2.*": None, ".*Case3.*": whole[1][30]},
            "show_commit_url": "https://github.com/x/y/commit/",
        }

    change(folder / "asv.conf.json", how)
    build(folder)
    assert differences(folder) == []


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_a_summary_is_asvs_to_the_last_digit(rows: int) -> None:
    """The geometric mean over environments and parameters is the number that asv's own function gives, not a neighbour."""
    values = np.random.default_rng(rows).lognormal(-5, 1, (2, rows, 200))
    values[0, 0, 3:9] = np.nan
    graphs, stock = [], []
    for number, table in enumerate(values):
        graph = Graph("decode.Decode.time_decode", {"machine": str(number)})
        for revision, column in enumerate(table.T.tolist()):
            graph.add_data_point(revision, column, [None] * rows)
        stock.append(graph)
        weights = np.full(table.shape, np.nan)
        graphs.append(
            Points(graph.benchmark_name, graph.params, graph.path, False, np.arange(200), table, weights)
        )
    ours = asv_graphs.summary(graphs)
    theirs = make_summary_graph(stock).get_data()
    assert [revision for revision, _, _ in theirs] == ours.revisions.tolist()
    assert [value for _, value, _ in theirs] == ours.values[0].tolist()


def test_a_branch_that_does_not_exist_is_wrong_input(folder: Path) -> None:
    """A branch of the configuration that the repository lacks is one line."""
    change(folder / "asv.conf.json", lambda held: held.update(branches=["mian"]))
    done = made.program("publish", cwd=folder)
    assert done.code == 2
    assert "mian" in done.err
    assert len(done.err.strip().splitlines()) == 1
