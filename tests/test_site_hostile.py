"""A history full of hostile texts is published: nothing leaves the site's folder, nothing is lost, nothing runs."""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fixtures_hostile as hostile
import fixtures_site as made
import pytest

from mlx_velocity import tracks
from mlx_velocity.site import plain
from mlx_velocity.site.publish import Published


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history."""
    place = tmp_path_factory.mktemp("outside") / "deep" / "down" / "here"
    hostile.write(place)
    return place


@pytest.fixture(scope="module")
def built(folder: Path) -> Published:
    """Its site."""
    return made.built(tracks.load(folder / "asv.conf.json"))


def texts(data: Any) -> list[str]:
    """Every text of a JSON value, keys included."""
    if isinstance(data, str):
        return [data]
    if isinstance(data, dict):
        return [*data, *(text for item in data.values() for text in texts(item))]
    return [text for item in data for text in texts(item)] if isinstance(data, list) else []


def index(built: Published) -> Any:
    return json.loads((made.data_of(built) / "index.json").read_text("utf-8"))


def test_everything_is_published(built: Published) -> None:
    """Each benchmark, machine and tag is there, under a name of its own; nothing was left out."""
    (track,) = built.tracks
    assert (track.left_out, track.notes, track.commits) == ([], [], hostile.STORE.commits + 1)
    held = index(built)
    assert len(held["benchmarks"]) == hostile.STORE.benchmarks + len(hostile.NAMES) + 1
    assert "größe.速度.time_x" in held["benchmarks"]
    assert list(held["machines"]) == [hostile.MARKUP]
    assert {"<img/src=x/onerror=window.hacked=1>", "'\";alert(1)", "--output=x"} <= set(held["tags"])


def test_no_file_is_outside(folder: Path, built: Published) -> None:
    """No name leads out of the site's folder, or to a file that something else has."""
    root = folder.parents[2]
    outside = [path for path in root.rglob("*") if path.is_file() and folder not in path.parents]
    assert outside == []
    assert not list(folder.glob("*escaped*"))
    inside = made.data_of(built)
    graphs = [path for path in inside.rglob("*.json") if inside / "graphs" in path.parents]
    assert len(graphs) == 2 * len(index(built)["benchmarks"]) + 1, "a graph and a summary each, and one list"
    assert all(isinstance(json.loads(path.read_text("utf-8")), list) for path in graphs)


def test_the_interface_finds_each_graph(built: Published) -> None:
    """The address that asv-tachyon makes of a benchmark and its parameters is that of its file."""
    held = index(built)
    (params,) = held["graph_param_list"]

    def part(text: str) -> str:
        return "".join("_" if sign in '<>:"/\\|?*' or sign < " " else sign for sign in text)

    parts = sorted(part(key if value == "" else f"{key}-{'null' if value is None else value}") for key, value in params.items())  # fmt: skip
    for name in held["benchmarks"]:
        path = made.data_of(built).joinpath("graphs", *parts, f"{part(name)}.json")
        assert path.is_file(), name
        assert path.resolve().is_relative_to(made.data_of(built).resolve())


def test_no_text_hides_anything(built: Published) -> None:
    """No control character and none that turns the direction of writing is left, and no text is endless."""
    for path in made.data_of(built).rglob("*.json"):
        for text in texts(json.loads(path.read_text("utf-8"))):
            assert not [sign for sign in text if sign in plain.TURNING]
            assert not [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cs") and sign != "\n"]
            if not text.startswith("graphs/"):
                assert max(map(len, text.split("\n"))) <= 2 * plain.LONGEST_TEXT, (
                    "a line is made of a few texts"
                )


def test_no_address_runs(built: Published) -> None:
    """An address that is none of a page is none."""
    held = index(built)
    assert (held["project_url"], held["show_commit_url"]) == ("", "")


def test_the_feed_is_harmless(built: Published) -> None:
    """The feed is XML, has the regressions, and its HTML holds asv's own elements alone."""
    root = ElementTree.parse(made.data_of(built) / "regressions.xml").getroot()
    contents = [item.text or "" for item in root.iter() if item.tag.endswith("content")]
    assert len(contents) >= len(hostile.NAMES)

    class Elements(HTMLParser):
        seen: list[tuple[str, list[str]]]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.append((tag, [name for name, _ in attrs]))
            assert all(not str(value).startswith("javascript:") for _, value in attrs)

    for content in contents:
        parser = Elements()
        parser.seen = []
        parser.feed(content)
        assert {(tag, *names) for tag, names in parser.seen} <= {("a", "href"), ("br",)}


def test_the_pages_hold_only_their_own_elements(built: Published) -> None:
    """What the first page says of a track is text."""
    page = (built.html_dir / "index.html").read_text("utf-8")
    assert "<img" not in page
    assert re.findall(r"<script[^>]*>", page) == [
        '<script src="assets/site.js">', '<script src="assets/tracks.js" defer>',
    ]  # fmt: skip
    assert "&lt;img src=x onerror" in page
    assert "\u202e" not in page


def test_a_second_publish_changes_nothing(folder: Path, built: Published) -> None:
    """What was made of hostile names is found again."""
    again = made.built(tracks.load(folder / "asv.conf.json"))
    assert again.tracks[0].made == 0
