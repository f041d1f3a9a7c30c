"""A history names the commit that a stored bisection found, and asks nobody to search again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import STARTED
from fixtures_history import FIRST, PREFILL, Lab, Run

from mlx_velocity import bisections
from mlx_velocity.bisection import Blame, Effect, Halt, Header, Point
from mlx_velocity.site import publish

SLOWER = Effect(1.25, 1.2, 1.3, 0.99)


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A case that became slower with one of the commits 7 to 10: those between were not measured."""
    lab.fill([1.0] * 7 + [None] * 3 + [1.25] * 8)
    return lab


def store(
    lab: Lab, blamed: Sequence[Blame], started: str = STARTED, version: str = "1", good: int = 0
) -> Path:
    ends = [Point(lab.commits[place], "", 0) for place in (good, 19)]
    header = Header(
        "made-up", "box", "cpu", "tiny", started, 7, *ends, PREFILL["name"], version, list(FIRST), "seconds"
    )
    path = bisections.path_for(lab.box(), header)
    bisections.append(path, [header, Halt(60.0, "answered", list(blamed))])
    return path


def blame(lab: Lab, *places: int, effect: Effect | None = SLOWER, probability: float = 0.9995) -> Blame:
    return Blame([lab.commits[place] for place in places], probability, effect, effect is not None)


def flat(out: str) -> str:
    return " ".join(out.split())


def test_it_is_named_everywhere(lab: Lab, said: Run) -> None:
    """The table, the case in full, the report, the JSON and both pages name it with its probability; nobody is told to search."""
    assert ", 1 of 4" in flat(said("history").out)
    assert "mlx-velocity bisect" in said("history", "Prefill").out
    store(lab, [blame(lab, 9)])
    name = lab.commits[9][:8]
    assert f"{name} by bisect" in flat(said("history").out)
    shown = flat(said("history", "Prefill").out)
    subject = lab.line()[9].subject
    assert f"{name} {subject} (" in shown
    assert (
        "by bisect (2026-01-02): probability > 99.9 %, +25.0 % (+20.0…+30.0) over the commit before it"
        in shown
    )
    assert "mlx-velocity bisect" not in shown
    assert f"mlx-velocity compare {lab.commits[8][:8]} {name} --bench" in shown
    assert " by bisect" in said("history", "--markdown", "-").out
    (case,) = json.loads(said("history", "--json", "-").out)["machines"][0]["cases"]
    (shift,) = case["shifts"]
    assert [item["commit"]["hash"] for item in shift["blamed"]] == [lab.commits[9]]
    assert publish.publish([lab.track], lab.track.html_dir).failed == []
    folder = lab.track.html_dir / "made-up"
    page = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")
    assert f"{subject} {shift['blamed'][0]['commit']['date']} by bisect" in flat(page.get_text(" "))


def test_a_group_and_one_that_was_not_compared(lab: Lab, said: Run) -> None:
    """Commits that can't be told apart are said to be several; without a direct comparison no size is claimed."""
    store(lab, [blame(lab, 8, 9, effect=None, probability=0.96)])
    shown = flat(said("history", "Prefill").out)
    assert "or one of the 1 before it by bisect (2026-01-02): probability 96.0 %" in shown
    assert "over the commit before it" not in shown


def test_the_newest_search_of_a_commit_counts_and_the_likeliest_stands_first(lab: Lab, said: Run) -> None:
    """Two searches that name one commit are one; of two commits the likelier one is named."""
    store(
        lab,
        [blame(lab, 9, probability=0.96), blame(lab, 8, probability=0.97)],
        "2026-03-01T00:00:00Z",
        good=1,
    )
    store(lab, [blame(lab, 9, probability=0.99)])
    (shift,) = json.loads(said("history", "--json", "-").out)["machines"][0]["cases"][0]["shifts"]
    assert [item["probability"] for item in shift["blamed"]] == [0.97, 0.96]
    assert shift["id"] == (before := shift["id"])
    assert before in said("history").out


@pytest.mark.parametrize("what", ["elsewhere", "other way", "version", "no answer", "garbage", "older"])
def test_what_says_nothing_of_a_change(lab: Lab, said: Run, what: str) -> None:
    """Another place, direction or version, a search without an answer, and files that can't be read or lack it name nobody."""
    faster = dataclasses.replace(SLOWER, ratio=0.8)
    blamed = {"elsewhere": [blame(lab, 3)], "other way": [blame(lab, 9, effect=faster)], "no answer": []}
    path = store(lab, blamed.get(what, [blame(lab, 9)]), version="0" if what == "version" else "1")
    if what == "garbage":
        path.write_bytes(b"\xff\n")
    if what == "older":
        header, halt = path.read_text("utf-8").splitlines()
        older = {key: value for key, value in json.loads(halt).items() if key != "blamed"}
        path.write_text(f"{header}\n{json.dumps(older)}\n", "utf-8")
        assert bisections.read(path).records == [Halt(60.0, "answered")]
    assert "by bisect" not in said("history").out
    assert ", 1 of 4" in flat(said("history").out)
