"""A comparison as a terminal, a pull request and a script see it."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, STARTED
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from rich.console import Console

import mlx_velocity
from mlx_velocity.comparison import CaseVerdict, Comparison, Header, Side, Verdict
from mlx_velocity.records import case_label
from mlx_velocity.report import document, markdown, text

BASE = Side("main", "c0ffee" * 6 + "c0ff", "Fix the cache", ENVIRONMENT, {"mlx.core": "0.31.1"})
HEAD = Side(
    "feature", "beef" * 10, "Make it faster", dataclasses.replace(ENVIRONMENT, packages={"psutil": "7.3"})
)
HEADER = Header("mlx-lm", "apple-m4", "cpu", "tiny", STARTED, 0.02, 0.01, 7, BASE, HEAD)
SCHEMA = json.loads(
    (Path(mlx_velocity.__file__).parent / "schemas" / "compare-output.schema.json").read_text("utf-8")
)


def case(
    verdict: Verdict, ratio: float | None, low: float | None = None, high: float | None = None, **other: Any
) -> CaseVerdict:
    """A case of 100 ms at its base, named by its ratio so that each has its own label."""
    params = other.pop("params", [f"'{ratio}'"])
    found = CaseVerdict(
        case_label("decode.Decode.time_decode", tuple(params)), "decode.Decode.time_decode", params, "seconds",
        verdict, None if ratio is None else 0.1, ratio and 0.1 * ratio, ratio, low, high, 10, 20,
    )  # fmt: skip
    return dataclasses.replace(found, **other)


REGRESSED = case("regressed", 1.1, 1.05, 1.15, tokens=32, warnings=("the sides generate different tokens",))
WORSE = case("regressed", 1.5, 1.4, 1.6)
IMPROVED = case("improved", 0.5, 0.45, 0.55, tokens=32)
UNCHANGED = case("unchanged", 1.001, 0.998, 1.004)
INCONCLUSIVE = case("inconclusive", 1.03, 0.7, 1.4, warnings=("disturbed in 3 of 20 pairs: swap",))
BROKEN = case("incomparable", None, broken="head", samples=0, unit="",
              warnings=("failed on head: RuntimeError: [matmul] no kernel",))  # fmt: skip
MENDED = case("incomparable", None, broken="base", samples=0, unit="", params=["'x'"])
NOWHERE = case("incomparable", None, samples=0, unit="", params=["'y'"])
FROM_NOTHING = case("regressed", None, unit="bytes", base=0, head=2**20, params=["'z'"])
EVERY = [UNCHANGED, NOWHERE, INCONCLUSIVE, IMPROVED, MENDED, REGRESSED, BROKEN, WORSE, FROM_NOTHING]
QUALITY = ["Another program computed on the same core during 3 of 812 measurements."]

HOSTILE = [
    "a|b", "a\\|b", "`x`", "``", "<b>x</b>", "<!-- mlx-velocity compare -->", "</details>", "@octocat", "a@b.example",
    "**x**", "_x_", "~~x~~", "[x](http://evil.example)", "![x](http://evil.example/x.png)", "https://evil.example",
    "www.evil.example", "#123", "mlx#1", "a\nb", "a\r\n\n# b", "\u202egnp", "\x1b[31mred", "\x00", "&lt;", "$x$", "\\", "|",
    "x\u2028y", "[bold]x[/bold]", "[/]", "é", "  ",
]  # fmt: skip


def compared(*cases: CaseVerdict, **other: Any) -> Comparison:
    return Comparison(HEADER, list(cases), other.pop("quality", []), other.pop("wall_s", 725.0), **other)


def printed(done: Comparison, width: int = 160, colours: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colours, color_system="standard" if colours else None
    )
    console.print(text.comparison_table(done))
    for sentence in text.comparison_summary(done):
        console.print(sentence, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rendered(done: Comparison) -> str:
    """The comment as HTML by CommonMark with tables, which GitHub's dialect extends."""
    return str(
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .render(markdown.comparison(done))
    )


def cells(rendered_text: str) -> list[list[str]]:
    """The text of every table's cells, row by row; the space of no width left out."""
    rows = re.findall(r"<tr>(.*?)</tr>", rendered_text, re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)).replace("\u200b", "") for cell in row] for row in found
    ]


def data(done: Comparison) -> dict[str, Any]:
    """The document, which is as the schema says."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    loaded: dict[str, Any] = json.loads(document.comparison(done), parse_constant=refuse)
    Draft202012Validator(SCHEMA).validate(loaded)
    return loaded


# A terminal


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    """The table folds the names of cases and nothing else: every number stays whole at any usual width."""
    long = case("improved", 0.9, 0.85, 0.95, params=["'tiny-float32'", "65536"], tokens=65536,
                benchmark="x", label="first_token.FirstToken.time_first_token(tiny-float32, 65536)")  # fmt: skip
    shown = printed(compared(*EVERY, long, quality=QUALITY), width)
    assert max(map(len, shown.splitlines())) <= width
    for whole in (
        "inconclusive",
        "100 ms",
        "+50.0 %",
        "(+40.0…+60.0)",
        "-50.0 %",
        "1.00 MiB",
        "tokens/s",
        "–",
    ):
        assert whole.replace("1.00 MiB", "1 MiB") in shown
    if width == 160:
        assert "first_token.FirstToken.time_first_token (tiny-float32, 65536)" in shown


def test_what_matters_stands_first() -> None:
    """Regressions come first, the largest of them on top, then what broke; unchanged cases come last."""
    ordered = text.ordered(EVERY)
    assert ordered == [
        FROM_NOTHING,
        WORSE,
        REGRESSED,
        BROKEN,
        IMPROVED,
        MENDED,
        INCONCLUSIVE,
        NOWHERE,
        UNCHANGED,
    ]
    assert text.ordered(reversed(ordered)) == ordered
    words = ["regressed", "regressed", "regressed", "broken", "improved", "mended"]
    words += ["inconclusive", "incomparable", "unchanged"]
    assert [item.word for item in ordered] == words


def test_colours() -> None:
    """Regressed and broken are red, improved is green, inconclusive yellow and unchanged dim."""
    for one, code in (
        (WORSE, "31"),
        (BROKEN, "31"),
        (IMPROVED, "32"),
        (INCONCLUSIVE, "33"),
        (UNCHANGED, "2"),
    ):
        assert f"\x1b[{code}m{one.word}\x1b[0m" in printed(compared(one), colours=True)


def test_summary() -> None:
    """The sentences count the verdicts, say what they promise, and name reasons and remedies."""
    said = text.comparison_summary(compared(*EVERY, quality=QUALITY))
    shown = printed(compared(*EVERY, quality=QUALITY), 1000)
    assert (
        "main → feature on apple-m4 (cpu), 9 cases in 12:05: 3 regressed, 1 broken, 1 improved, 1 mended, "
        in shown
    )
    assert "shown to be within ±2 %; of the changes called, at most 1 % are expected to be false" in shown
    assert "regressed: decode.Decode.time_decode(1.1): the sides generate different tokens" in shown
    assert "failed on head: RuntimeError: [matmul] no kernel" in shown
    assert QUALITY[0] in shown
    assert "--max-samples" in shown
    assert "mlx-velocity doctor" in shown
    assert all("\n" not in sentence for sentence in said)


def test_quiet_where_there_is_nothing_to_say() -> None:
    """Without inconclusive cases there is no advice, and without a disturbed machine no word about it."""
    shown = printed(compared(IMPROVED, UNCHANGED))
    assert "--max-samples" not in shown
    assert "machine:" not in shown
    assert "interrupted" not in shown


def test_a_shared_reason_is_said_once() -> None:
    """Many cases with one reason are one sentence with a few names and a count."""
    many = [
        case("inconclusive", 1 + i / 100, params=[f"'{i}'"], warnings=("too few pairs",)) for i in range(12)
    ]
    shown = printed(compared(*many), 1000)
    assert shown.count("too few pairs") == 1
    assert "and 9 more: too few pairs" in shown


@pytest.mark.parametrize(
    ("ratio", "low", "high", "expected"),
    [
        (None, None, None, "–"),
        (1.089, 0.909, 1.304, "+8.9 % (-9.1…+30.4)"),
        (1.034, 1.034, 1.034, "+3.4 %"),
        (0.9999, 0.9999, 0.9999, "0.0 %"),
        (1.0001, None, None, "0.0 %"),
        (12.4, 11.0, math.inf, "×12 (×11…∞)"),
        (0.0, 0.0, 0.5, "-100.0 % (-100.0…-50.0)"),
    ],
)
def test_change(ratio: float | None, low: float | None, high: float | None, expected: str) -> None:
    """A change is in per cent with its interval; exact, huge and endless ones stay readable."""
    assert text.change_of(case("inconclusive", ratio, low, high)) == expected


def test_tokens_per_second() -> None:
    """A case that handles tokens shows how many a second; others show none, nor the heading."""
    assert text.rates_of(REGRESSED) == ("320", "291")
    assert text.rates_of(UNCHANGED) == ("", "")
    assert "tokens/s" not in printed(compared(UNCHANGED))
    assert "tokens/s" not in markdown.comparison(compared(UNCHANGED))
    assert "320 → 291" in markdown.comparison(compared(REGRESSED))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_is_not_steered(name: str) -> None:
    """No name gives a colour, a new line or a change of direction to a terminal, and none is taken for markup."""
    header = dataclasses.replace(HEADER, base=dataclasses.replace(BASE, name=name), machine=name)
    done = Comparison(header, [case("regressed", 1.1, label=name, warnings=(name,))], [name], 1.0)
    shown = printed(done, 1000)
    assert not set(shown) & set("\x1b\x00\r\u202e\u2028")
    usual = compared(case("regressed", 1.1, warnings=("slow",)), quality=QUALITY)
    assert len(shown.splitlines()) == len(printed(usual, 1000).splitlines())
    # Spaces apart, since the table folds a name before its parameters.
    assert shown.count(text.clean(name)) >= 4


# A pull request


def test_comment() -> None:
    """The comment begins with its marker and a sentence; what did not change is folded away."""
    lines = markdown.comparison(compared(*EVERY, quality=QUALITY)).splitlines()
    assert lines[0] == "<!-- mlx-velocity compare -->"
    assert lines[1] == (
        "**3 regressed**, **1 broken**, 1 improved, 1 mended, 1 inconclusive, 1 incomparable, 1 unchanged: "
        "`main` → `feature` on `apple-m4` (cpu)"
    )
    whole = "\n".join(lines)
    shown, folded, rest = whole.partition("<details><summary>1 unchanged</summary>")
    assert folded
    assert UNCHANGED.label not in shown
    assert all(item.label in shown for item in EVERY if item is not UNCHANGED)
    assert UNCHANGED.label in rest
    assert whole.count("<details>") == whole.count("</details>") == 2
    for words in (
        "±2 %",
        QUALITY[0],
        "seed 7",
        "| `psutil` | 7.2.2 | 7.3 |",
        "| commit | `c0ffeec0` | `beefbeef` |",
    ):
        assert words in rest
    again = "mlx-velocity compare main feature --from-results --track mlx-lm --machine apple-m4"
    assert f"`{again}`" in rest


def test_comment_as_html() -> None:
    """Every row has as many cells as its heading, and the cells say what the table in a terminal says."""
    rows = cells(rendered(compared(*EVERY)))
    assert rows[0] == ["case", "base", "head", "tokens/s", "change (interval)", "verdict", "samples"]
    assert rows[2] == [WORSE.label, "100 ms", "150 ms", "", "+50.0 % (+40.0…+60.0)", "regressed", "20"]
    assert rows[3] == [
        REGRESSED.label,
        "100 ms",
        "110 ms",
        "320 → 291",
        "+10.0 % (+5.0…+15.0)",
        "regressed",
        "20",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_comment_holds_no_markup_of_others(name: str) -> None:
    """Whatever a name holds, the comment keeps its shape and shows the name as it is."""
    side = dataclasses.replace(BASE, name=name, subject=name, modules={name: name})
    header = dataclasses.replace(HEADER, base=side, track=name, machine=name)
    one = case("regressed", 1.1, label=name, warnings=(name,))
    whole = markdown.comparison(Comparison(header, [one, case("unchanged", 1.0, label=name)], [name], 1.0))
    plain = markdown.comparison(Comparison(HEADER, [WORSE], [], 1.0))
    assert whole.splitlines()[0] == markdown.MARKER
    assert whole.count("<!--") == 1
    assert "@" not in whole
    # GitHub makes no links inside code.
    outside = re.sub(r"`[^`]*`", "", whole)
    assert "://" not in outside
    assert not re.search(r"(?<!&)#\d", outside)
    shown = rendered(Comparison(header, [one], [name], 1.0))
    allowed = set(re.findall(r"<[^>]+>", rendered(compared(WORSE)))) | set(
        re.findall(r"<[^>]+>", rendered(compared(REGRESSED)))
    )
    assert set(re.findall(r"<[^>]+>", shown)) <= allowed | {"<ul>", "<li>", "</ul>", "</li>"}
    rows = cells(shown)
    assert rows[1] == [text.clean(name), *cells(rendered(compared(case("regressed", 1.1))))[1][1:]]
    assert len(plain) < len(whole)


@given(st.text(), st.text())
def test_any_name_keeps_the_shape(name: str, reason: str) -> None:
    """No text adds a row or a cell, ends a folded part, or mentions anybody."""
    done = compared(case("regressed", 1.1, label=name, warnings=(reason,)))
    rows = cells(rendered(done))
    assert [len(row) for row in rows[:2]] == [6, 6]
    whole = markdown.comparison(done)
    assert "@" not in whole
    assert whole.count("</details>") == 1


@pytest.mark.parametrize("verdict", ["unchanged", "inconclusive", "regressed"])
def test_a_comment_fits(verdict: Verdict) -> None:
    """However many cases there are and whatever they are named, GitHub takes the comment; what is missing is counted."""
    many = [case(verdict, 1.0, label="|" * 200 + str(i), warnings=("<" * 900 + str(i),)) for i in range(400)]
    whole = markdown.comparison(compared(REGRESSED, *many, quality=["&" * 9000] * 50))
    assert len(whole) <= markdown.LIMIT
    assert REGRESSED.label in whole
    (left_out,) = re.findall(r"^(\d+) cases left out", whole, re.MULTILINE)
    kept = len(re.findall(rf"^\| .*\| \**{verdict}\** \|", whole, re.MULTILINE))
    assert int(left_out) + kept == len(many) + (verdict == "regressed")
    assert "remarks more" in whole
    assert whole.count("<details>") == whole.count("</details>")


def test_unchanged_rows_are_dropped_first() -> None:
    """Where the room is short, what changed is shown in full."""
    changed = [case("regressed", 1 + i / 1000, params=[f"'{i}'"]) for i in range(300)]
    same = [case("unchanged", 1.0, params=[f"'same {i}'"]) for i in range(700)]
    whole = markdown.comparison(compared(*changed, *same))
    assert len(whole) <= markdown.LIMIT
    assert all(f"`{item.label}`" in whole for item in changed)
    assert re.search(r"^\d+ cases left out", whole, re.MULTILINE)


# A script


def test_document() -> None:
    """The document is as its schema says: verdicts, numbers in base units, counts and the exit code."""
    found = data(compared(*EVERY, quality=QUALITY))
    assert found["format"] == 1
    assert found["exit_code"] == 1
    assert found["summary"] == {
        "cases": 9, "regressed": 3, "improved": 1, "inconclusive": 1, "incomparable": 3, "unchanged": 1, "broken": 1,
    }  # fmt: skip
    shown = found["cases"][5]
    assert (shown["verdict"], shown["unit"], shown["tokens"], shown["broken"]) == (
        "regressed",
        "seconds",
        32,
        None,
    )
    assert [shown[key] for key in ("base", "head", "ratio", "low", "high")] == [
        0.1,
        0.1 * 1.1,
        1.1,
        1.05,
        1.15,
    ]
    assert found["base"]["environment"]["packages"] == {"psutil": "7.2.2"}
    assert (found["threshold"], found["error_rate"], found["wall_s"]) == (0.02, 0.01, 725.0)


def test_schema_names_every_field() -> None:
    """The schema is a valid one, and has exactly the fields that are written."""
    Draft202012Validator.check_schema(SCHEMA)
    found = data(compared(*EVERY))
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) == set(found)
    assert set(SCHEMA["$defs"]["case"]["properties"]) == set(found["cases"][0])
    assert set(SCHEMA["properties"]["summary"]["properties"]) == set(found["summary"])
    assert set(SCHEMA["$defs"]["side"]["properties"]) == set(found["base"])


def test_document_has_no_endless_numbers() -> None:
    """An interval without an end is null: JSON knows neither infinity nor not-a-number."""
    found = data(compared(case("inconclusive", 1.1, 0.0, math.inf), case("inconclusive", 2.0, math.nan, 3.0)))
    assert [found["cases"][0][key] for key in ("low", "high")] == [0.0, None]
    assert found["cases"][1]["low"] is None


@given(st.text(st.characters()))
def test_document_holds_any_name(name: str) -> None:
    """A name comes out of the document as it went in, and the document itself is plain ASCII."""
    done = compared(case("unchanged", 1.0, label=f"x{name}", warnings=(name,)))
    assert data(done)["cases"][0]["warnings"] == [name]
    assert document.comparison(done).isascii()


# All three


def test_an_empty_comparison() -> None:
    """A comparison without a case says so everywhere, promises nothing, and is undecided."""
    done = compared()
    assert "0 cases in 12:05: nothing was measured." in printed(done)
    assert "±2 %" not in printed(done)
    assert "Nothing was measured: `main` → `feature`" in markdown.comparison(done)
    assert data(done)["exit_code"] == 3
    assert data(done)["cases"] == []


def test_only_inconclusive() -> None:
    """Where nothing could be decided, advice stands beside it, and nothing is called unchanged."""
    done = compared(INCONCLUSIVE)
    assert data(done)["exit_code"] == 3
    assert "mlx-velocity doctor" in printed(done)
    assert "mlx-velocity doctor" in markdown.comparison(done)
    assert "unchanged</summary>" not in markdown.comparison(done)


def test_broken() -> None:
    """A case that works on the base and fails on the head is as loud as a regression."""
    done = compared(BROKEN, UNCHANGED)
    assert data(done)["exit_code"] == 1
    assert data(done)["cases"][0]["unit"] == ""
    assert "**1 broken**" in markdown.comparison(done)
    assert "1 broken, 1 unchanged" in printed(done)
    assert "no kernel" in printed(done)


def test_interrupted() -> None:
    """An interrupted comparison says that it is not all, and how it ended."""
    done = compared(WORSE, interrupted=True)
    assert "interrupted: cases that were not reached are missing" in printed(done)
    assert "**Interrupted**: cases that were not reached are missing" in markdown.comparison(done)
    assert (data(done)["interrupted"], data(done)["exit_code"]) == (True, 130)


def test_a_remark_on_an_unchanged_case_is_not_lost() -> None:
    """What the sides did differently is said even where the time is the same."""
    done = compared(dataclasses.replace(UNCHANGED, warnings=("the sides generate different tokens",)))
    assert "<summary>1 unchanged, 1 with a remark</summary>" in markdown.comparison(done)
    assert "the sides generate different tokens" in markdown.comparison(done)
    assert "the sides generate different tokens" in printed(done)
