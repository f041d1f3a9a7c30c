"""Cases that fail at the newest commits, or that failed at the first ones, are named with the commit and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fixtures_site as site
import pytest
from fixtures_history import BENCHMARKS, FIRST, LABEL, PREFILL, Lab
from fixtures_site import Done

from mlx_velocity import records
from mlx_velocity.commands import history
from mlx_velocity.commands.history import HistoryOptions
from mlx_velocity.history_report import Outage
from mlx_velocity.site import publish

REASON = "RuntimeError: QMM NYI"
PEAK = BENCHMARKS["decode.Memory.track_peak_bytes"]
Run = Callable[..., Done]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program in this process, on a terminal wide enough for a sentence."""
    monkeypatch.setenv("COLUMNS", "400")
    return lambda *arguments: site.in_process(monkeypatch, capsys, *arguments)


def fail(
    lab: Lab, *places: int, outcome: records.Outcome = "failed", reason: str = REASON, **named: Any
) -> None:
    """What the scheduler stores of a case that did not end."""
    benchmark = named.get("benchmark", PREFILL["name"])
    params = list(FIRST) if benchmark else None
    for place in places:
        failure = records.Failure(
            outcome, reason, benchmark, "1" if benchmark else None, params, started="2026-01-02T03:04:05.000Z"
        )
        lab.open(lab.commits[place]).add(failure)


def outages(lab: Lab, **options: Any) -> list[Outage]:
    return history.tell(lab.track, HistoryOptions(**options)).machines[0].outages


def test_what_fails_at_the_newest_commits(lab: Lab) -> None:
    """It is named with the first commit behind its last number, also where commits between were not measured."""
    lab.fill([1.0] * 6)
    fail(lab, 8, 9)
    (found,) = outages(lab)
    assert (found.lasts, found.commit.hash, found.reason, found.cases) == (
        True, lab.commits[8], f"failed: {REASON}", [LABEL],
    )  # fmt: skip


def test_what_failed_at_the_first_commits(lab: Lab) -> None:
    """It works since its first number, and the failure before it says why it did not."""
    fail(lab, 0, reason="another reason")
    fail(lab, 1, outcome="timeout", reason="after 60 s")
    lab.fill([None, None, None, 1.0, 1.0])
    (found,) = outages(lab)
    assert (found.lasts, found.commit.hash, found.reason) == (False, lab.commits[3], "timeout: after 60 s")


def test_what_is_no_outage(lab: Lab) -> None:
    """A case that fails between two numbers, one that was skipped, and one that never had a number are none."""
    lab.fill([1.0, None, 1.0, 1.0])
    fail(lab, 1)
    fail(lab, 4, outcome="skipped", reason="needs 16 GB")
    fail(lab, 5, outcome="incompatible", reason="no wheel")
    fail(lab, 6, benchmark="decode.Decode.time_decode")
    assert outages(lab) == []


def test_an_environment_that_fails(lab: Lab) -> None:
    """All cases of it are one outage, whose first line is its reason."""
    lab.fill([1.0] * 3)
    lab.fill([1e6] * 3, benchmark=PEAK, launches=1)
    fail(lab, 3, benchmark=None, reason="no wheel of mlx\na page of what pip printed")
    (found,) = outages(lab)
    assert found.reason == "failed: no wheel of mlx"
    assert len(found.cases) == 2


def test_an_old_workload_is_left_alone(lab: Lab) -> None:
    """A version that the suite does not have any more fails for nobody."""
    lab.fill([1.0] * 3, benchmark={**PREFILL, "version": "0"})
    failure = records.Failure(
        "failed", REASON, PREFILL["name"], "0", list(FIRST), started="2026-01-02T03:04:05.000Z"
    )
    lab.open(lab.commits[3]).add(failure)
    lab.fill([1.0] * 3)
    assert outages(lab) == []


def test_a_part_is_narrowed(lab: Lab) -> None:
    """CASE leaves out the outages of other cases, `--since` those before it, `--only-regressions` what works by now."""
    fail(lab, 0)
    lab.fill([None, 1.0, 1.0])
    fail(lab, 3)
    assert [item.lasts for item in outages(lab)] == [True, False]
    assert [item.lasts for item in outages(lab, since=lab.commits[1])] == [True]
    assert [item.lasts for item in outages(lab, only_regressions=True)] == [True]
    lab.fill([1e6] * 3, benchmark=PEAK, launches=1)
    assert outages(lab, case="Memory") == []
    assert len(outages(lab, case="Prefill")) == 2


def test_a_reader_sees_them(lab: Lab, said: Run) -> None:
    """On the terminal, in the report, as JSON and on the page of changes; the exit code is that of the changes alone."""
    fail(lab, 0)
    lab.fill([None, 1.0, 1.0])
    fail(lab, 3)
    shown = said("history")
    failing, working = lab.commits[3][:8], lab.commits[1][:8]
    assert f"failing since {failing} (2026-01-04): failed: {REASON}: {LABEL}\n" in shown.out
    assert f"working since {working} (2026-01-02), until then failed: {REASON}: {LABEL}\n" in shown.out
    assert shown.code == 0
    assert f"failing since {failing}" in said("history", "--only-regressions").out
    report = said("history", "--markdown", "-").out
    assert "**Nothing changed.**" not in report
    assert f"`box`: **failing** since {failing}" in report
    document = json.loads(said("history", "--json", "-").out)
    assert [item["lasts"] for item in document["machines"][0]["outages"]] == [True, False]
    publish.publish([lab.track], lab.track.html_dir)
    page = (lab.track.html_dir / "made-up" / "index.html").read_text("utf-8")
    assert "<strong>failing</strong> since" in page
    assert "<strong>working</strong> since" in page
    assert page.count(f">{LABEL}</a>") == 2
