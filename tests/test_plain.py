"""Texts of strangers in the published data: shown as they are where that is harmless, and marked where not."""

from __future__ import annotations

import pytest
from asv.graph import Graph

from mlx_velocity.site import plain

ORDINARY = [
    "decode.Decode.time_decode",
    "Linux 6.1",
    "AMD EPYC",
    "<b>bold</b>",
    "größer",
    "速度",
    "a/b",
    "'tiny-4bit'",
]


@pytest.mark.parametrize("word", ORDINARY)
def test_ordinary_text_stays(word: str) -> None:
    """What hides nothing and breaks nothing is not touched; markup is text to whoever shows it."""
    assert plain.text(word) == plain.name(word) == plain.value(word) == word


@pytest.mark.parametrize(
    "sign", ["\x00", "\x1b", "\n", "\u202e", "\u2066", "\u200f", "\ud800", "\x85", "\ufeff"]
)
def test_signs_that_hide_or_turn_text_are_replaced(sign: str) -> None:
    """Control characters, half surrogates and what turns the direction of writing are shown as a mark."""
    for made in (plain.text(f"a{sign}b"), plain.name(f"a{sign}b"), plain.value(f"a{sign}b")):
        assert sign not in made
        assert plain.REPLACED in made
        made.encode("utf-8")


def test_code_keeps_its_lines() -> None:
    """Source code keeps its line ends, but no other control character and no endless line."""
    made = plain.code("def f():\n    return '\x1b'\n" + "x" * 10_000)
    assert made.startswith("def f():\n    return '\ufffd'\n")
    assert len(made) < 400


@pytest.mark.parametrize(
    "name",
    [
        "x" * 10_000,
        "速" * 200,
        "..",
        ".",
        "",
        "summary",
        "a\\b",
        "a^b",
        "a(b",
        "CON",
        "lpt1",
        "\x00",
        "\ud800",
    ],
)
def test_a_name_can_be_a_file(name: str) -> None:
    """Every name makes a file name that exists once, of at most 255 bytes, that is neither a folder nor asv's own."""
    made = plain.name(name)
    assert 0 < len(made.encode()) <= plain.LONGEST_NAME
    assert made.lower() not in plain.RESERVED
    assert plain.name(made) == made
    assert plain.name(name + "!") != made
    path = Graph.get_file_path({plain.name(name, plain.LONGEST_KEY): plain.value(name)}, made)
    assert ".." not in path.split("/")
    assert all(0 < len(part.encode()) <= 250 for part in path.split("/"))


def test_no_two_names_become_one() -> None:
    """Names that differ only in what is replaced stay different."""
    names = [f"a{sign}b" for sign in "\x00\x01\x02\u202e\u202d\\^("] + ["a_b", "a\ufffdb"]
    assert len({plain.name(name) for name in names}) == len(names)
    assert len({plain.value(name) for name in names if name != "a(b"}) == len(names) - 1


def test_only_addresses_of_pages_are_links() -> None:
    """http and https lead somewhere; anything else leads nowhere, and nothing ends an attribute."""
    assert plain.link("https://example.invalid/commit/") == "https://example.invalid/commit/"
    assert plain.link("http://example.invalid/a?b=c#d") == "http://example.invalid/a?b=c#d"
    assert plain.link("#") == "#"
    for wrong in (
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "//x",
        " https://x",
        "",
        None,
        3,
    ):
        assert plain.link(wrong) == ""
    assert plain.link("https://x/\"'><script>\x00") == "https://x/script"


def test_a_tree_is_plain_throughout() -> None:
    """Every key and value of a JSON document becomes a line."""
    assert plain.tree({"a\nb": ["c\x00", 1, None, {"d": "e" * 1000}]}) == {
        "a\ufffdb": ["c\ufffd", 1, None, {"d": "e" * 299 + "…"}]
    }
