"""Cases that fail at the newest commits, or that failed at the first ones, are named with the commits and the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bs4 import BeautifulSoup
from fixtures_history import BENCHMARKS, ENV_NAME, FIRST, LABEL, PREFILL, Lab, Run
from fixtures_site import Done

from mlx_velocity import records
from mlx_velocity.commands import history
from mlx_velocity.commands.history import HistoryOptions
from mlx_velocity.history_report import Outage
from mlx_velocity.report import history_words
from mlx_velocity.site import publish

REASON = "RuntimeError: QMM NYI"
PEAK = BENCHMARKS["decode.Memory.track_peak_bytes"]
STARTED = "2026-01-02T03:04:05.000Z"


def flat(done: Done) -> str:
    """What was printed, on one line: how wide the terminal is depends on who printed first."""
    return " ".join(done.out.split())


def fail(
    lab: Lab, *places: int, outcome: records.Outcome = "failed", reason: str = REASON,
    params: tuple[str, ...] = FIRST, **fields: Any,
) -> None:  # fmt: skip
    """What the scheduler stores of a case that did not end."""
    for place in places:
        failure = records.Failure(outcome, reason, PREFILL["name"], "1", list(params), started=STARTED)
        lab.open(lab.commits[place], **fields).add(failure, PREFILL)


def fail_all(lab: Lab, place: int, reason: str) -> None:
    """What it stores of an environment that can't be made."""
    lab.open(lab.commits[place]).fail_all(records.Failure("failed", reason, started=STARTED), BENCHMARKS)


def outages(lab: Lab, **options: Any) -> list[Outage]:
    return history.tell(lab.track, HistoryOptions(**options)).machines[0].outages


def told(lab: Lab, found: Outage) -> tuple[str, int, int, str]:
    """Its kind, where its two commits stand, and the reason."""
    places = lab.commits.index(found.commit.hash), lab.commits.index(found.failed.hash)
    return found.kind, *places, found.reason


def test_what_fails_at_the_newest_commits(lab: Lab) -> None:
    """It is named with the first commit that failed behind its last number and the newest one, measured between or not."""
    lab.fill([1.0] * 6)
    fail(lab, 8, reason="another reason")
    fail(lab, 9)
    (found,) = outages(lab)
    assert told(lab, found) == ("failing", 8, 9, f"failed: {REASON}")
    assert found.cases == [LABEL]


def test_what_failed_at_the_first_commits(lab: Lab) -> None:
    """It works since its first number, and the last failure before it says why it did not."""
    fail(lab, 0, reason="another reason")
    fail(lab, 1, outcome="timeout", reason="after 60 s")
    lab.fill([None, None, None, 1.0, 1.0])
    (found,) = outages(lab)
    assert told(lab, found) == ("working", 3, 1, "timeout: after 60 s")


def test_what_never_had_a_number(lab: Lab, said: Run) -> None:
    """A case that failed wherever it was tried is named with the first and the newest of these commits."""
    fail(lab, 2, 5)
    lab.fill([1e6] * 7, benchmark=PEAK, launches=1)
    (found,) = outages(lab)
    assert told(lab, found) == ("never worked", 2, 5, f"failed: {REASON}")
    first, newest = lab.commits[2][:8], lab.commits[5][:8]
    line = (
        f"never worked where it was tried, from {first} (2026-01-03) to {newest}: failed: {REASON}: {LABEL}"
    )
    assert line in flat(said("history"))


@pytest.mark.parametrize("place", [2, 5])
def test_what_was_skipped_between(lab: Lab, place: int) -> None:
    """A commit that skips a case hides no failure beyond it."""
    fail(lab, 1)
    fail(lab, place, outcome="skipped", reason="needs 16 GB")
    lab.fill([None, None, None, 1.0, 1.0])
    fail(lab, 6, 7)
    assert [told(lab, item)[:3] for item in outages(lab)] == [("failing", 6, 7), ("working", 3, 1)]


def test_what_is_no_outage(lab: Lab) -> None:
    """A case that fails between two numbers is none, nor one that the newest commits skip, with a failure before or without."""
    lab.fill([1.0, None, 1.0, 1.0])
    fail(lab, 1, 4)
    fail(lab, 5, outcome="skipped", reason="needs 16 GB")
    fail(lab, 6, outcome="incompatible", reason="no wheel")
    assert outages(lab) == []


def test_an_environment_that_fails(lab: Lab) -> None:
    """All cases of it are one outage, whose first line is its reason; the site can be built, and its links lead somewhere."""
    lab.fill([1.0] * 3)
    lab.fill([1e6] * 3, benchmark=PEAK, launches=1)
    fail_all(lab, 3, "\nno wheel of mlx\na page of what pip printed")
    (found,) = outages(lab)
    assert found.reason == "failed: no wheel of mlx"
    assert len(found.cases) == 2
    check_links(lab)


def check_links(lab: Lab) -> BeautifulSoup:
    """The page of changes of the site that is built; each link on it leads to a file."""
    assert publish.publish([lab.track], lab.track.html_dir).failed == []
    folder = lab.track.html_dir / "made-up"
    page = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")
    links = {str(link["href"]).partition("#")[0] for link in page.select("main a")}
    assert any(link.startswith("commits/") for link in links)
    assert [link for link in links if link and not (folder / link).exists()] == []
    return page


def test_no_case(lab: Lab, said: Run) -> None:
    """A machine where nothing could be measured yet is named, and one without regressions where these alone are asked for."""
    fail_all(lab, 0, "no wheel of mlx")
    assert "1 commit measured" in said("history").out
    assert "No case to show." in said("history").out
    lab.fill([None, 1.0, 1.0])
    assert "No case to show." in said("history", "--only-regressions").out


def test_causes_that_differ_in_numbers(lab: Lab) -> None:
    """A shape within a message makes no second outage of the same commits."""
    other = ("'tiny-4bit'", "32")
    for params, size in ((FIRST, 2048), (other, 4096)):
        fail(lab, 0, params=params, reason=f"no kernel for {size}x64")
        lab.fill([None, 1.0, 1.0], params=params)
    (found,) = outages(lab)
    assert len(found.cases) == 2
    assert found.reason in ("failed: no kernel for 2048x64", "failed: no kernel for 4096x64")


def test_an_old_workload_is_left_alone(lab: Lab) -> None:
    """A version that the suite does not have any more fails for nobody."""
    lab.fill([1.0] * 3, benchmark={**PREFILL, "version": "0"})
    failure = records.Failure("failed", REASON, PREFILL["name"], "0", list(FIRST), started=STARTED)
    lab.open(lab.commits[3]).add(failure, PREFILL)
    lab.fill([1.0] * 3)
    assert outages(lab) == []


def test_environments_are_told_apart(lab: Lab, said: Run) -> None:
    """Where a machine has several, each outage says which it is of."""
    lab.fill([1.0] * 3)
    lab.fill([1.0] * 3, environment="another")
    fail(lab, 3, environment="another")
    (found,) = outages(lab)
    assert found.environment == "another"
    assert f"{LABEL} [another]" in flat(said("history"))
    assert "(another)" in check_links(lab).select_one("main").text
    assert ENV_NAME != "another"


def test_a_part_is_narrowed(lab: Lab) -> None:
    """CASE leaves out the outages of other cases, `--since` and `--only-regressions` what works by now, and never what fails."""
    fail(lab, 0)
    lab.fill([None, 1.0, 1.0])
    fail(lab, 3)
    kinds = ["failing", "working"]
    assert [item.kind for item in outages(lab)] == kinds
    assert [item.kind for item in outages(lab, since=lab.commits[1])] == ["failing"]
    assert [item.kind for item in outages(lab, since=lab.commits[5])] == ["failing"]
    assert [item.kind for item in outages(lab, only_regressions=True)] == ["failing"]
    lab.fill([1e6] * 3, benchmark=PEAK, launches=1)
    assert outages(lab, case="Memory") == []
    assert [item.kind for item in outages(lab, case="Prefill")] == kinds


def test_a_reader_sees_them(lab: Lab, said: Run) -> None:
    """On the terminal, also of one case, in the report, as JSON and on the site; the exit code is that of the changes alone."""
    fail(lab, 0)
    lab.fill([None, 1.0, 1.0])
    fail(lab, 3, 4)
    first, working, failing, newest = (lab.commits[place][:8] for place in (0, 1, 3, 4))
    lines = [
        f"failing since {failing} (2026-01-04), tried up to {newest}: failed: {REASON}: {LABEL}",
        f"working since {working} (2026-01-02); at {first} (2026-01-01): failed: {REASON}: {LABEL}",
    ]
    for case in ([], ["Prefill"]):
        shown = said("history", *case)
        assert all(line in flat(shown) for line in lines)
        assert shown.code == 0
    assert [line in flat(said("history", "--only-regressions")) for line in lines] == [True, False]
    report = said("history", "--markdown", "-").out
    assert "**Nothing changed.**" not in report
    assert f"`box`: **failing** since {failing}" in report
    document = json.loads(said("history", "--json", "-").out)
    assert [item["kind"] for item in document["machines"][0]["outages"]] == ["failing", "working"]
    page = check_links(lab)
    assert {item.text for item in page.select("main li > strong")} == {"failing", "working"}
    assert [link.text for link in page.select("main details a")].count(LABEL) == 2


def test_many_are_counted(lab: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal names a few, and says how many more there are."""
    monkeypatch.setattr(history_words, "LISTED", 1)
    for place, params in ((3, FIRST), (5, ("'tiny-4bit'", "32"))):
        lab.fill([1.0] * 2, params=params)
        fail(lab, place, params=params)
    shown = said("history").out
    assert f"failing at {lab.commits[5][:8]}" in shown
    assert f"failing at {lab.commits[3][:8]}" not in shown
    assert "\nalso 1 more" in shown
