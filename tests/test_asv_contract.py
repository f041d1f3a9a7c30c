"""Stock asv and our own program on one configuration and one folder of results, on the same two commits."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fixtures_site as made
import pytest
from fixtures_site import Done, Project

from mlx_velocity import readings
from mlx_velocity.probe import profiles

pytestmark = pytest.mark.network

MACHINE = "contract"
NAME = "prefill.Prefill.time_prefill"
SHORT, LONG = (str(value) for value in profiles.PROFILES["tiny"]["tokens"])
"""Prompt lengths of the profile that the benchmarks select by themselves."""
QUICK = ["-a", "rounds=1", "-a", "repeat=2", "-a", "warmup_time=0", "--no-pull"]


def stock_case(tokens: str) -> str:
    """asv's expression for a case: parameters as they are written, quotes included."""
    return rf"^prefill\.Prefill\.time_prefill\('tiny-float32', {tokens}\)$"


def our_case(tokens: str) -> str:
    return rf"^prefill\.Prefill\.time_prefill\(tiny-float32, {tokens}\)$"


def stored(project: Project, commit: str) -> dict[str, Any]:
    """asv's file of a commit."""
    (path,) = project.results.glob(f"{MACHINE}/{commit[:8]}-*.json")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def value(project: Project, commit: str, tokens: str) -> float | None:
    """What is stored of a case at a commit; NaN where it was not measured."""
    content = stored(project, commit)
    row = dict(zip(content["result_columns"], content["results"][NAME], strict=False))
    models, lengths = row["params"]
    place = models.index("'tiny-float32'") * len(lengths) + lengths.index(tokens)
    return None if row["result"] is None else row["result"][place]


def fine(done: Done) -> Done:
    assert done.code == 0, f"exit {done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.out + done.err
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with the configuration of this repository, without results."""
    return made.make_project(tmp_path_factory.mktemp("contract"))


@dataclass(frozen=True)
class Story:
    """What happened to the project, in this order, at its two newest commits."""

    project: Project
    base: str
    head: str
    machine: Done
    asv_run: Done
    """Stock asv, the short case, at the base."""
    asv_value: float
    our_run: Done
    """Ours, the short case, at the head."""
    our_value: float
    our_run_on_asvs: Done
    """Ours, the long case, at the base, where stock asv wrote."""
    asv_run_on_ours: Done
    """Stock asv, the long case, at the head, where we wrote."""


@pytest.fixture(scope="module")
def story(project: Project) -> Story:
    """Both programs take turns on the same results."""
    machine = fine(project.asv("machine", "--yes", "--machine", MACHINE))
    asv_run = fine(
        project.asv(
            "run", "main~1^!", "--machine", MACHINE, "--bench", stock_case(SHORT), *QUICK, "--show-stderr"
        )
    )
    (first,) = project.results.glob(f"{MACHINE}/*-*.json")
    base = json.loads(first.read_text("utf-8"))["commit_hash"]
    asv_value = value(project, base, SHORT)
    our_run = fine(
        project.ours("run", "main", "--machine", MACHINE, "--bench", our_case(SHORT), "--launches", "1")
    )
    (second,) = (path for path in project.results.glob(f"{MACHINE}/*-*.json") if path != first)
    head = json.loads(second.read_text("utf-8"))["commit_hash"]
    our_value = value(project, head, SHORT)
    our_run_on_asvs = fine(
        project.ours("run", "main~1", "--machine", MACHINE, "--bench", our_case(LONG), "--launches", "1")
    )
    asv_run_on_ours = fine(
        project.asv(
            "run", "main^!", "--machine", MACHINE, "--bench", stock_case(LONG), *QUICK, "--show-stderr"
        )
    )
    assert asv_value is not None
    assert our_value is not None
    return Story(
        project, base, head, machine, asv_run, asv_value, our_run, our_value, our_run_on_asvs, asv_run_on_ours
    )


def test_stock_asv_runs_our_benchmarks_on_our_history(story: Story) -> None:
    """`asv run` measures a commit of the release history, and stores a number for the case that was asked for."""
    assert story.asv_value > 0
    assert math.isnan(value(story.project, story.base, "2048") or math.nan)
    content = stored(story.project, story.base)
    assert content["env_name"] == f"velocity-py{content['python']}-backendcpu"
    assert content["requirements"] == {"backend": "cpu"}
    assert f"For mlx-releases commit {story.base[:8]}" in story.asv_run.out


def test_a_commit_is_measured_with_its_own_releases(story: Story) -> None:
    """The base and the head differ by one release, and each was measured with what it pins."""
    found = {}
    for commit in (story.base, story.head):
        (path,) = story.project.results.glob(f"{MACHINE}/{commit[:8]}-*{readings.SUFFIX}")
        found_here, bad = readings.read(path)
        assert bad == []
        (environment,) = [item for item in found_here if item.kind == "environment"]
        found[commit] = environment.packages  # type: ignore[union-attr]
    differing = {name for name in ("mlx", "mlx-lm") if found[story.base][name] != found[story.head][name]}
    assert len(differing) == 1


def test_ours_keeps_what_stock_asv_measured(story: Story) -> None:
    """Our run adds its case to a file that stock asv wrote, and changes nothing of what was there."""
    assert value(story.project, story.base, SHORT) == story.asv_value
    added = value(story.project, story.base, LONG)
    assert added is not None
    assert added > 0


def test_stock_asv_keeps_what_we_measured(story: Story) -> None:
    """`asv run` adds its case to a file that we wrote, and changes nothing of what was there."""
    assert value(story.project, story.head, SHORT) == story.our_value
    added = value(story.project, story.head, LONG)
    assert added is not None
    assert added > 0


def test_both_write_one_series(story: Story) -> None:
    """What both wrote has the same parameters, so that it is one line in the published history."""
    base, head = stored(story.project, story.base), stored(story.project, story.head)
    assert base["params"] == head["params"]
    assert base["params"]["machine"] == MACHINE
    assert base["env_name"] == head["env_name"]


def test_stock_asv_shows_what_both_wrote(story: Story) -> None:
    """`asv show` prints the results of either commit."""
    for commit in (story.base, story.head):
        done = fine(story.project.asv("show", commit, "--machine", MACHINE))
        assert NAME in done.out
        assert "tiny-float32" in done.out


def test_stock_asv_compares_what_both_wrote(story: Story) -> None:
    """`asv compare` has a ratio for each case that both commits have."""
    done = fine(story.project.asv("compare", story.base, story.head, "--machine", MACHINE))
    lines = [line for line in done.out.splitlines() if "'tiny-float32'" in line and " n/a " not in line]
    assert len(lines) == 2


@pytest.fixture(scope="module")
def stock_graphs(story: Story) -> Path:
    """The graphs that `asv publish` makes of it all."""
    html = story.project.folder / "stock"
    fine(story.project.asv("publish", "--no-pull", "-o", str(html)))
    return html / "graphs"


def test_stock_asv_publishes_what_both_wrote(stock_graphs: Path) -> None:
    """`asv publish` makes one graph with both commits in it."""
    (graph,) = (path for path in stock_graphs.rglob(f"{NAME}.json") if path.parent.name != "summary")
    assert len(json.loads(graph.read_text("utf-8"))) == 2


def test_ours_publishes_the_same(story: Story, stock_graphs: Path) -> None:
    """`mlx-velocity publish` writes the graphs that `asv publish` writes, but for blanks."""
    done = fine(story.project.ours("publish"))
    assert "2 commits" in done.out
    ours, theirs = (
        {str(path.relative_to(folder)): json.loads(path.read_bytes()) for path in folder.rglob("*.json")}
        for folder in (story.project.folder / ".asv" / "html" / "releases" / "asv" / "graphs", stock_graphs)
    )
    assert theirs
    assert ours == theirs


def test_ours_shows_what_both_wrote(story: Story) -> None:
    """`mlx-velocity show` prints each case, whoever measured it, and compares the two commits."""
    for commit in (story.base, story.head):
        done = fine(story.project.ours("show", commit, "--machine", MACHINE, "--bench", "time_prefill"))
        text = " ".join(done.out.split())
        # A narrow table breaks a case's name over lines, with other columns between where the machine is busy.
        assert re.search(rf"tiny-float32\b.*?\b{SHORT}\)", text)
        assert re.search(rf"tiny-float32\b.*?\b{LONG}\)", text)
    fine(story.project.ours("show", story.base, story.head, "--machine", MACHINE))


def test_ours_shows_a_commit_that_only_stock_asv_measured(story: Story, tmp_path: Path) -> None:
    """Without readings of ours, what stock asv wrote is still shown."""
    copy = Project(tmp_path / "copy")
    shutil.copytree(story.project.folder, copy.folder, ignore=shutil.ignore_patterns("*.jsonl", "html"))
    done = fine(copy.ours("show", story.base, "--machine", MACHINE))
    assert re.search(rf"tiny-float32\b.*?\b{SHORT}\)", " ".join(done.out.split()))


def test_a_second_run_of_ours_measures_nothing(story: Story) -> None:
    """What is stored is not measured again, and the program says so."""
    before = {path: path.read_bytes() for path in story.project.results.rglob("*") if path.is_file()}
    done = fine(
        story.project.ours("run", "main", "--machine", MACHINE, "--bench", our_case(SHORT), "--launches", "1")
    )
    assert "Nothing to measure" in done.out
    assert {path: path.read_bytes() for path in story.project.results.rglob("*") if path.is_file()} == before


def test_the_users_pythonpath_reaches_no_measured_process(story: Story, tmp_path: Path) -> None:
    """A package on the user's PYTHONPATH can't hide the one that is measured, under stock asv either."""
    (tmp_path / "mlx_lm").mkdir()
    (tmp_path / "mlx_lm" / "__init__.py").write_text("raise RuntimeError('the wrong mlx_lm')\n", "utf-8")
    home = {"HOME": str(story.project.folder / "home")}
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = made.program(
        "run", "main^!", "--machine", MACHINE, "--bench", stock_case(SHORT), *QUICK, "--dry-run", "--show-stderr",
        cwd=story.project.folder, env={**home, "PYTHONPATH": path}, module="asv",
    )  # fmt: skip
    fine(done)
    assert "wrong mlx_lm" not in done.out + done.err
