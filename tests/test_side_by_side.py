"""The history of one case says what stored comparisons found of it: they are the better judge of two commits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import conftest
import pytest
from conftest import STARTED
from fixtures_history import BENCHMARKS, ENV_NAME, FIRST, LABEL, PREFILL, Lab, Run

from mlx_velocity import comparisons
from mlx_velocity.commands import side_by_side
from mlx_velocity.comparison import Break, End, Header, PairReading, Side

ENVIRONMENT = dataclasses.replace(conftest.ENVIRONMENT, name=ENV_NAME)
HEADER = Header(
    "made-up", "box", "cpu", "tiny", STARTED, 0.02, 0.01, 7,
    Side("mlx==1", "", "", ENVIRONMENT), Side("mlx==2", "", "", ENVIRONMENT),
)  # fmt: skip


def pairs(ratio: float, benchmark: str = PREFILL["name"], version: str = "1") -> list[PairReading]:
    """Six pairs of launches whose head takes `ratio` times as long, but for 0.1 %."""
    return [
        PairReading(
            number, benchmark, version, list(FIRST), "seconds", "ABBA", [[1.0], [1.0]],
            [[ratio * (1 + number / 6000)], [ratio]], STARTED, 1.0,
        )
        for number in range(1, 7)
    ]  # fmt: skip


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A case that is as it was, beside another one."""
    lab.fill([1.0] * 4)
    for place in range(4):
        lab.add(place, [1e6], benchmark=BENCHMARKS["decode.Memory.track_peak_bytes"])
    return lab


def store(
    lab: Lab, measured: Sequence[PairReading | Break], started: str = STARTED, header: Header = HEADER
) -> Path:
    header = dataclasses.replace(header, started=started)
    path = comparisons.path_for(lab.box() / "comparisons", header)
    comparisons.append(path, [header, *measured, End(60.0, False)])
    return path


def test_one_case(lab: Lab, said: Run) -> None:
    """Each verdict stands there with its sides, day, size and samples, the newest first; the exit code is the history's."""
    store(lab, pairs(1.2))
    store(lab, pairs(1.0), "2026-02-03T04:05:06Z")
    done = said("history", "Prefill")
    assert done.code == 0
    shown = done.out[done.out.index("Side by side:\n") :].splitlines()[1:3]
    assert [line.strip()[:45] for line in shown] == [
        "mlx==1 → mlx==2 (2026-02-03): unchanged, 0.0 ", "mlx==1 → mlx==2 (2026-01-02): regressed, +20.",
    ]  # fmt: skip
    assert all(line.endswith("12 samples a side") for line in shown)
    document = json.loads(said("history", "Prefill", "--json", "-").out)
    (case,) = document["machines"][0]["cases"]
    assert case["label"] == LABEL
    assert [item["said"]["verdict"] for item in case["side_by_side"]] == ["unchanged", "regressed"]


def test_what_else_is_said(lab: Lab, said: Run) -> None:
    """A side that fails, a comparison that was interrupted and a reason for doubt are said; the report has the same lines."""
    broken = Break("head", PREFILL["name"], "1", list(FIRST), "failed", "boom", [])
    store(lab, [broken])
    path = comparisons.path_for(lab.box() / "comparisons", HEADER)
    other = {"base": {"digest": "a"}, "head": {"digest": "b"}}
    comparisons.append(path, [HEADER, *(dataclasses.replace(pair, notes=other) for pair in pairs(1.2))])
    shown = " ".join(said("history", "Prefill").out.split())
    assert "mlx==1 → mlx==2 (2026-01-02): broken; failed on head: boom" in shown
    assert "12 samples a side, interrupted; the sides generate different tokens" in shown
    report = said("history", "Prefill", "--markdown", "-").out
    assert report.index("## Side by side") < report.index("broken; failed on head: boom")


def test_what_says_nothing_of_it(lab: Lab, said: Run) -> None:
    """Another case, version, environment and files that can't be read leave no line."""
    store(lab, pairs(1.2, benchmark="decode.Decode.time_decode"))
    store(lab, pairs(1.2, version="0"))
    elsewhere = Side("mlx==1", "", "", dataclasses.replace(ENVIRONMENT, name="another"))
    store(lab, pairs(1.2), header=dataclasses.replace(HEADER, base=elsewhere))
    path = store(lab, pairs(1.2))
    path.write_text(f"{PREFILL['name']}\n", "utf-8")
    assert "Side by side" not in said("history", "Prefill").out
    store(lab, pairs(1.2))
    assert "Side by side" in said("history", "Prefill").out


def test_several_cases(lab: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several cases match, or too many comparisons are newer, none is read."""
    store(lab, pairs(1.2))
    monkeypatch.setattr(side_by_side, "FILES", 0)
    assert "Side by side" not in said("history", "Prefill").out
    monkeypatch.setattr(comparisons, "read", lambda path: pytest.fail("read"))
    monkeypatch.setattr(side_by_side, "FILES", 50)
    assert said("history", "Prefill|Memory").code == 0


def test_many_are_counted(lab: Lab, said: Run) -> None:
    """The newest few stand there, the others are counted."""
    for day in range(1, 8):
        store(lab, pairs(1.2), f"2026-03-0{day}T00:00:00Z")
    shown = said("history", "Prefill").out
    assert shown.count("mlx==1 → mlx==2") == 5
    assert "and 2 older ones\n" in shown
    assert "(2026-03-07)" in shown
