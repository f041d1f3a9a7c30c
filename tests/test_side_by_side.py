"""A history says what stored comparisons found: they are the better judge of two commits."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import conftest
import pytest
from bs4 import BeautifulSoup
from conftest import STARTED
from fixtures_history import BENCHMARKS, ENV_NAME, FIRST, LABEL, PREFILL, Lab, Run

from mlx_velocity import comparisons, side_by_side
from mlx_velocity.comparison import Break, End, Header, PairReading, Side
from mlx_velocity.site import publish

ENVIRONMENT = dataclasses.replace(conftest.ENVIRONMENT, name=ENV_NAME)
HEADER = Header(
    "made-up", "box", "cpu", "tiny", STARTED, 0.02, 0.01, 7,
    Side("mlx==1", "", "", ENVIRONMENT), Side("mlx==2", "", "", ENVIRONMENT),
)  # fmt: skip


THIRD = Side("mlx==3", "", "", ENVIRONMENT)


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
    assert [line.strip()[:54] for line in shown] == [
        "mlx==1 → mlx==2 (measured 2026-02-03): unchanged, 0.0 ", "mlx==1 → mlx==2 (measured 2026-01-02): regressed, +20.",
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
    assert "mlx==1 → mlx==2 (measured 2026-01-02): broken; failed on head: boom" in shown
    assert "12 samples a side; the sides generate different tokens" in shown
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


def test_too_many(lab: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many comparisons are newer, one is not read."""
    store(lab, pairs(1.2))
    monkeypatch.setattr(side_by_side, "FILES", 0)
    monkeypatch.setattr(comparisons, "read", lambda path: pytest.fail("read"))
    assert "Side by side" not in said("history", "Prefill").out


def test_a_side_with_itself_takes_nobodys_place(lab: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer comparisons of equal sides are looked at only where there is room; those of two sides come first.

    Sides are what was measured: names that only look alike in a file's name are two, and two names of a commit are one.
    """
    named = [dataclasses.replace(HEADER.base, name=name, commit=lab.commits[place])
             for name, place in (("main^", 2), ("main", 3), ("HEAD", 3))]  # fmt: skip
    store(lab, pairs(1.2), header=dataclasses.replace(HEADER, base=named[0], head=named[1]))
    for _ in range(2):
        store(lab, pairs(1.0), header=dataclasses.replace(HEADER, base=named[1], head=named[2]))
    monkeypatch.setattr(side_by_side, "FILES", 1)
    for _ in range(2):
        assert found(said("history").out)
    monkeypatch.setattr(side_by_side, "FILES", 2)
    shown = " ".join(said("history", "Prefill").out.split())
    assert shown.index("main → HEAD") < shown.index("main^ → main")


def test_what_changed_stands_below_all_cases(lab: Lab, said: Run) -> None:
    """Of all cases those are named that a comparison found changed, as the newest of the same sides says; in the report and the JSON too."""
    store(lab, pairs(1.2))
    found = "regressed prefill.Prefill.time_prefill(tiny-float32, 32): +20.0 %"
    shown = " ".join(said("history").out.split())
    counted = "0 changes; 1 case without a change; 1 case that only comparisons found changed."
    assert f"{counted} Side by side, by stored comparisons: {found}" in shown
    assert "12 samples a side; mlx==1 → mlx==2 (measured 2026-01-02)" in shown
    assert said("history").code == 0
    assert "- `box`: **regressed** prefill" in said("history", "--markdown", "-").out
    (case,) = [
        case
        for case in json.loads(said("history", "--json", "-").out)["machines"][0]["cases"]
        if case["side_by_side"]
    ]
    assert case["label"] == LABEL
    store(lab, pairs(1.0), "2026-02-03T04:05:06Z")
    assert "Side by side" not in said("history").out
    store(lab, pairs(1.3), header=dataclasses.replace(HEADER, base=HEADER.head, head=HEADER.base))
    assert "mlx==2 → mlx==1 (measured 2026-01-02)" in " ".join(said("history").out.split())


def test_failures_come_first_and_improvements_can_be_left_out(lab: Lab, said: Run) -> None:
    """What fails on one side stands above what is slower; --only-regressions names no improvement."""
    store(lab, pairs(0.5))
    assert "improved" in said("history").out
    assert "improved" not in said("history", "--only-regressions").out
    broken = Break("head", PREFILL["name"], "1", list(FIRST), "failed", "boom", [])
    store(lab, [broken], header=dataclasses.replace(HEADER, head=THIRD))
    lines = said("history").out.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("Side by side")]
    assert [line.split()[0] for line in lines[start + 1 :] if line.startswith("  ")][:2] == [
        "broken",
        "improved",
    ]
    assert "broken" in said("history", "--only-regressions").out


def test_since_leaves_out_what_was_compared_before_it(lab: Lab, said: Run) -> None:
    """A head on the branch must lie within --since; of versions the day of the comparison must."""
    commits = lab.commits
    for place in (1, 3):
        head = Side(f"c{place}", commits[place], "", ENVIRONMENT)
        store(lab, pairs(1.2), header=dataclasses.replace(HEADER, head=head))
    store(lab, pairs(1.2))
    store(lab, pairs(1.2), "2026-01-05T00:00:00Z", dataclasses.replace(HEADER, base=THIRD))
    shown = " ".join(said("history", "--since", commits[2]).out.split())
    assert "mlx==1 → c3" in shown
    assert "mlx==3 → mlx==2" in shown
    assert "mlx==1 → c1" not in shown
    assert "mlx==1 → mlx==2" not in shown


def test_many_are_counted(lab: Lab, said: Run) -> None:
    """The newest few stand there, the others are counted."""
    for day in range(1, 8):
        store(lab, pairs(1.2), f"2026-03-0{day}T00:00:00Z")
    shown = said("history", "Prefill").out
    assert shown.count("mlx==1 → mlx==2") == 5
    assert "and 2 older ones\n" in shown
    assert "(measured 2026-03-07)" in shown


def test_the_site(lab: Lab) -> None:
    """A site that is built again shows a comparison that came since: on the page of changes with a link, and on the case's own."""
    folder = lab.track.html_dir / "made-up"

    def page(name: str) -> str:
        assert publish.publish([lab.track], lab.track.html_dir).failed == []
        return " ".join(
            BeautifulSoup((folder / name).read_text("utf-8"), "html.parser").get_text(" ").split()
        )

    assert "Side by side" not in page("index.html")
    store(lab, pairs(1.2))
    assert f"box: regressed {LABEL} : +20.0 %" in page("index.html")
    link = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser").find("a", string=LABEL)
    assert link is not None
    assert "Side by side mlx==1 → mlx==2 (measured 2026-01-02): regressed, +20.0 %" in page(str(link["href"]))


def test_regressions_come_first(lab: Lab, said: Run) -> None:
    """However large an improvement is, and whatever works again, what became slower stands above it."""
    base = Break("base", PREFILL["name"], "1", list(FIRST), "failed", "boom", [])
    for number, measured in enumerate([[base], pairs(0.1), pairs(1.1)]):
        head = Side(f"mlx==4.{number}", "", "", ENVIRONMENT)
        store(lab, measured, header=dataclasses.replace(HEADER, head=head))
    assert found(said("history").out) == ["regressed", "improved", "mended"]


def found(out: str) -> list[str]:
    """The words that comparisons left below the table, in order."""
    return re.findall(r"^  (regressed|broken|improved|mended) ", out, re.MULTILINE)


def test_what_is_undecided_takes_nobodys_place(lab: Lab, said: Run) -> None:
    """A newer comparison of the same sides that decided nothing leaves the older verdict standing."""
    store(lab, pairs(1.2))
    store(lab, pairs(1.2)[:2], "2026-02-03T04:05:06Z")
    assert found(said("history").out) == ["regressed"]
    assert "inconclusive" in said("history", "Prefill").out


def test_what_is_not_on_the_branch_is_no_news(lab: Lab, said: Run) -> None:
    """A working tree, a commit of elsewhere and equal code are on the case's own page, and no news of the branch."""
    first = Side("c0", lab.commits[0], "", ENVIRONMENT)
    for head in (Side(".", "", "", ENVIRONMENT), Side("x", "f" * 40, "", ENVIRONMENT), first):
        store(lab, pairs(1.2), header=dataclasses.replace(HEADER, base=first, head=head))
    assert found(said("history").out) == []
    assert said("history", "Prefill").out.count("c0 → ") == 3


def test_only_regressions_says_so(lab: Lab, said: Run) -> None:
    """Where only comparisons found something, no summary says that nothing changed."""
    store(lab, pairs(1.2))
    assert "comparisons found changes" in said("history", "--only-regressions", "--markdown", "-").out
    assert "0 cases without a change; 1 case that only" in said("history", "--only-regressions").out
    assert "No change in the series." in said("history", "Prefill").out


def test_two_versions_in_one_file(lab: Lab, said: Run) -> None:
    """What was found of an older workload is not said of the present one."""
    store(lab, [*pairs(1.2, version="0"), *pairs(1.0)])
    shown = said("history", "Prefill").out
    assert "unchanged" in shown
    assert "regressed" not in shown


@pytest.mark.parametrize(
    "odd",
    [
        {"notes": {"base": {"loss": "abc"}, "head": {"loss": 1.0}}},
        {"sensors": {"swap_growth_bytes": "x"}},
    ],
)
def test_what_can_not_be_judged_is_named(lab: Lab, said: Run, odd: dict[str, Any]) -> None:
    """Records that fit the schema and mean nothing cost that file alone, and it is named."""
    path = store(lab, [dataclasses.replace(pair, **odd) for pair in pairs(1.2)])
    done = said("history")
    assert done.code == 0
    assert found(done.out) == []
    assert f"box/comparisons/{path.name}" in "".join(done.out.split())
    assert "can't be judged" in " ".join(done.out.split())
    assert said("compare", "mlx==1", "mlx==2", "--from-results", "--machine", "box").code == 2


def test_a_file_is_judged_once(lab: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was judged is kept until the file changes."""
    path = store(lab, pairs(1.2))
    assert found(said("history").out) == ["regressed"]
    read = comparisons.read
    monkeypatch.setattr(comparisons, "read", lambda path: pytest.fail("read"))
    assert found(said("history").out) == ["regressed"]
    monkeypatch.setattr(comparisons, "read", read)
    path.unlink()
    store(lab, pairs(0.5))
    assert found(said("history").out) == ["improved"]
