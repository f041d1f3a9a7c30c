"""Our own pages: records in, files out."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fixtures_site as made
import numpy as np
import pytest
import test_profile
from fixtures_history import QUIET, Lab

from mlx_velocity import (
    cases,
    chronicle,
    commit_graph,
    profiles,
    records,
    told,
    tracks,
)
from mlx_velocity.breakdown import Task
from mlx_velocity.site import front, pages, publish, writer
from mlx_velocity.site.pages import case, changed, samples
from mlx_velocity.site.record import SHORT, TrackRecord, case_page, commit_page
from mlx_velocity.store.index import StoreIndex

ATOM = "{http://www.w3.org/2005/Atom}"
HOSTILE = "</script><img src=x onerror=window.hacked=1>\u202e\"'&\x07" + "long" * 100


@pytest.fixture
def track(tmp_path: Path) -> tracks.Track:
    """A track with results of two machines; the newest commit halves everything."""
    track = made.make_track(tmp_path)
    made.fill(track, ["box", "other"])
    return track


def build(track: tracks.Track) -> Path:
    """The folder of the track's pages."""
    done = publish.publish([track], track.html_dir)
    return track.html_dir / done.tracks[0].folder


def recorded(track: tracks.Track, index: StoreIndex) -> TrackRecord:
    repo = tracks.open_repo(track)
    graph = commit_graph.read(str(repo._path))
    line = told.line_of(graph, repo.get_hash_from_name("main"))
    benchmarks = cases.load(track)
    history = told.history(track, line, "main", graph, index, benchmarks)
    return TrackRecord(track, graph, line, index, benchmarks, history)


class Seen(HTMLParser):
    """The texts, addresses and data of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self._in_data = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.tags.append((tag, held))
        self.links += [value for key, value in held.items() if key in ("href", "src") and value]
        self._in_data = tag == "script" and held.get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data
            self._in_data = False
        else:
            self.texts.append(data)


def seen(path: Path) -> Seen:
    return Seen(path.read_text("utf-8"))


# What the pages say


def test_every_case_has_a_page_that_tells_each_machine(track: tracks.Track) -> None:
    """The page of a case names every machine, and holds all its points as data."""
    folder = build(track)
    for benchmark in made.BENCHMARKS:
        for params in made.parameters.sets(benchmark):
            page = seen(folder / case_page(benchmark["name"], params))
            held = json.loads(page.data)
            assert [item["name"] for item in held["series"]] == ["box", "other"]
            assert len(held["hash"]) == SHORT * len(held["place"]) == SHORT * len(made.commits_of(track))
            assert {"box", "other"} <= {text.strip() for text in page.texts}


def test_the_data_of_a_page_are_the_points(track: tracks.Track) -> None:
    """What the picture is drawn from are the numbers of the series, to seven digits."""
    with StoreIndex(track) as index:
        record = recorded(track, index)
    found = case.by_case(record.history)[made.BENCHMARKS[0]["name"], ("'tiny-float32'", "32")]
    drawn = case._data(case.Axis.of(record.line), found, {})["series"][0]
    values = np.frombuffer(base64.b64decode(drawn["value"]), "<f4")
    assert values == pytest.approx([point.value for point in found[0].points], rel=1e-6)
    assert np.cumsum(drawn["at"]).tolist() == list(range(len(found[0].points)))


def test_an_interval_that_is_too_wide_says_nothing(track: tracks.Track) -> None:
    """Where few commits leave a level open, that is said, and no band fills the picture."""
    with StoreIndex(track) as index:
        record = recorded(track, index)
    (one, *_) = case.by_case(record.history)[made.BENCHMARKS[0]["name"], ("'tiny-float32'", "32")]
    last = one.segments[-1]
    for width, said, band in ((1.5, True, True), (5.0, False, False)):
        segment = dataclasses.replace(last, low=last.level / width, high=last.level * width)
        held = dataclasses.replace(one, segments=(*one.segments[:-1], segment))
        assert (case._series(record, held, [held])["now_interval"] != "says nothing") == said
        *_, level, low, high = case._data(case.Axis.of(record.line), [held], {})["series"][0]["segments"][-1]
        assert (low < level < high) == band


def test_a_failure_and_its_reason_are_on_the_page(track: tracks.Track) -> None:
    """A commit at which a case failed is told with the reason, in words and as data."""
    folder = build(track)
    name, params = made.BENCHMARKS[0]["name"], ("'tiny-4bit'", "128")
    page = seen(folder / case_page(name, params))
    held = json.loads(page.data)
    assert held["series"][0]["reasons"] == ["failed: exit -9"]
    assert [at for at, _ in held["series"][0]["failed"]] == [1]
    assert any("failed: exit -9" in text for text in page.texts)


def test_what_changed_lists_each_change_with_its_commit_and_command(track: tracks.Track) -> None:
    """Each change has its size, its commit, its state, a link to its case, and a command."""
    folder = build(track)
    page = seen(folder / "index.html")
    text = " ".join(page.texts)
    with StoreIndex(track) as index:
        shifts = list(recorded(track, index).history.shifts())
    assert shifts, "the made-up history has changes"
    for found, shift in shifts:
        assert shift.id in text
        assert shift.commit.subject in text
        assert f"{case_page(found.benchmark, found.params)}#{shift.id}" in page.links
    assert re.search("mlx-velocity (history|compare|bisect) ", text)


def test_the_newest_changes_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more changes than a page holds the newest are on it, and not those that were larger long ago."""
    monkeypatch.setattr(changed, "LISTED", 1)
    lab = Lab(tmp_path, 40)
    lab.fill([1.0] * 12 + [2.0] * 12 + [2.3] * 12)
    with StoreIndex(lab.track) as index:
        large, small = (shift for _, shift in recorded(lab.track, index).history.shifts())
    assert large.ratio > small.ratio
    text = " ".join(seen(build(lab.track) / "index.html").texts)
    assert small.id in text
    assert large.id not in text
    assert "newest 1 are listed" in " ".join(text.split())


def test_the_control_is_drawn_at_every_commit(tmp_path: Path) -> None:
    """What a fixed computation took beside the measurements is a picture with a point for each commit, in its order."""
    lab = Lab(tmp_path, 60)
    for place in range(60):
        lab.add(place, [1.0, 1.0], sensors={**QUIET, "control_s": 0.05 if place < 30 else 0.06})
    page = seen(build(lab.track) / "machines.html")
    (points,) = [held["points"] or "" for tag, held in page.tags if tag == "polyline"]
    places = [tuple(map(float, point.split(","))) for point in points.split(" ")]
    assert len(places) == 60
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    # Slower is higher up, as on the pages of the cases.
    assert places[0][1] > places[-1][1]
    assert any("last third against first third: +20.0 %" in text for text in page.texts)


def test_every_link_within_our_pages_leads_somewhere(track: tracks.Track) -> None:
    """A link from a page of ours to another file of the site has that file."""
    folder = build(track)
    for path in [track.html_dir / "index.html", *folder.glob("*.html"), *folder.glob("*/*.html")]:
        for link in seen(path).links:
            if link.startswith(("data:", "#")):
                continue
            assert not link.startswith(("http:", "javascript:")), link
            target = Path(os.path.normpath(path.parent / link.partition("#")[0]))
            assert target.exists(), f"{path.name}: {link}"


def test_the_feed_is_valid_and_names_each_change_once(track: tracks.Track) -> None:
    """The feed has what RFC 4287 asks for: an absolute id, a title, a time and an author for each entry."""
    root = ElementTree.fromstring((build(track) / "changes.atom").read_text("utf-8"))
    entries = root.findall(f"{ATOM}entry")
    ids = [root.findtext(f"{ATOM}id"), *(entry.findtext(f"{ATOM}id") for entry in entries)]
    assert len(set(ids)) == len(ids) > 1
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", each or "") for each in ids)
    for item in (root, *entries):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item.findtext(f"{ATOM}updated") or "")
        assert item.findtext(f"{ATOM}title")
    assert all(entry.findtext(f"{ATOM}author/{ATOM}name") for entry in entries)


def test_the_first_page_counts_what_changed(tmp_path: Path) -> None:
    """Beside each track stands how many changes are in which state, each count linked to its changes."""
    lab = Lab(tmp_path)
    lab.fill([1.0] * 8 + [1.2] * 8)
    with StoreIndex(lab.track) as index:
        ((_, shift),) = recorded(lab.track, index).history.shifts()
    build(lab.track)
    page = seen(lab.track.html_dir / "index.html")
    assert f"1 {shift.state}" in page.texts
    assert f"made-up/index.html#state={shift.state}" in page.links


def test_a_site_without_results_says_how_to_get_some() -> None:
    """The first page without tracks names the command that measures."""
    page = front.page([])
    assert "mlx-velocity run" in page
    assert Seen(page).links[0] == "data:,"


def test_a_suite_that_was_never_measured_has_pages(tmp_path: Path) -> None:
    """With results of a benchmark that is gone alone, the pages are there and say what they lack."""
    track = made.make_track(tmp_path)
    made.fill(track)
    path = track.results_dir / "benchmarks.json"
    held = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({"version": held["version"]}), "utf-8")
    assert "Cases" in (build(track) / "cases" / "index.html").read_text("utf-8")


def test_the_samples_of_a_commit_are_those_of_its_launches(track: tracks.Track) -> None:
    """What a page loads of a commit's samples is what its readings hold, launch by launch, for the case that asks."""
    folder = build(track)
    (newest,) = track.results_dir.glob(f"box/{made.commits_of(track)[-1].hexsha[:8]}-*.readings.jsonl")
    found = samples.by_case(newest.read_bytes())
    name, params = made.BENCHMARKS[0]["name"], ("'tiny-float32'", "32")
    wanted = [made.samples(made.BENCHMARKS[0], 0, True, launch) for launch in ("first", "second")]
    own = found[samples.case_key(name, "1", params)]
    assert [launch for launch, _, _ in own] == [1, 2]
    assert [held for _, held, _ in own] == [pytest.approx(launch, rel=1e-5) for launch in wanted]
    drawn = json.loads(seen(folder / case_page(name, params)).data)["series"][0]
    assert drawn["key"] in found
    file = folder / "data" / drawn["place"] / f"{made.commits_of(track)[-1].hexsha[:SHORT]}.samples.js"
    assert json.dumps(own, separators=(",", ":")) in file.read_text("utf-8")


def test_samples_tell_what_disturbed_a_launch(tmp_path: Path) -> None:
    """A launch beside which the machine swapped says so; a broken line is passed over, and so is a later format."""
    stored = made.open_results(track := made.make_track(tmp_path), made.commits_of(track)[0])
    reading = records.Measurement(
        "one", made.BENCHMARKS[0]["name"], "1", ["'tiny-float32'", "32"], "seconds", [1.0, 1.5], [],
        "2026-01-01T00:00:00.000Z", 1.0, {}, {"swap_growth_bytes": 1 << 30},
    )  # fmt: skip
    stored.add(reading, made.BENCHMARKS[0])
    text = stored.readings_path.read_bytes()
    assert list(samples.by_case(b"{broken\n" + text).values()) == [[[1, [1, 1.5], ["degraded_swap"]]]]
    assert samples.by_case(text.replace(b'"format":1', b'"format":99')) == {}


def test_old_commits_are_published_without_samples(
    track: tracks.Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each machine the newest commits alone have samples in the site, however many it measured."""
    monkeypatch.setattr(samples, "MOST", 2)
    folder = build(track)
    for place in folder.glob("data/*/"):
        names = {path.name.partition(".")[0] for path in place.glob("*.samples.js")}
        assert names == {commit.hexsha[:SHORT] for commit in made.commits_of(track)[-2:]}


def test_a_change_says_which_part_grew(tmp_path: Path) -> None:
    """Where the two commits of a change were profiled together, its page and the list of changes say what grew."""
    lab = Lab(tmp_path)
    lab.fill([1.0] * 8 + [1.2] * 8)
    track = lab.track
    with StoreIndex(track) as index:
        ((found, shift),) = recorded(track, index).history.shifts()
    model, tokens = found.params[0].strip("'"), int(found.params[1])
    for commit, slower in ((shift.good, 0.0), (shift.commit, 0.05)):
        taken = test_profile.profile(slower, noise=0.001, commit=commit.hash, together="ab", machine="box")
        task = Task(model, "prefill", tokens, 0, 1)
        header = dataclasses.replace(taken.header, task=task)
        profiles.save(track.results_dir / "box", dataclasses.replace(taken, header=header))
    folder = build(track)
    for page in (folder / "index.html", folder / case_page(found.benchmark, found.params)):
        (said,) = [" ".join(text.split()) for text in seen(page).texts if "Profile in" in text]
        assert re.fullmatch(
            rf"Profile in a prefill of {tokens} tokens through {model}: mlp rest \+[45]\d\.\d ms \(\+1\d % of the step\)",
            said,
        )


# What nobody may break


def test_a_name_may_be_folded_at_its_dots_and_before_its_parameters() -> None:
    """The places where a name may be folded are all in it that is no text."""
    assert writer.foldable("a.<B>.c(<b>, (0.5))") == "a.<wbr>&lt;B&gt;.<wbr>c<wbr>(&lt;b&gt;, (0.5))"
    assert writer.foldable("a") == "a"


def test_text_is_shown_as_text() -> None:
    """Markup, quotes, control and bidi characters and long lines from a result end up as text in a page."""
    listed = [front.Listed(HOSTILE, "x", 1, [HOSTILE], HOSTILE, frozenset({"cpu"}))]
    page = Seen(front.page(listed))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    texts = [text for text in page.texts if "onerror" in text]
    assert len(texts) >= 3
    assert all("\u202e" not in text and "\x07" not in text and len(text) < 310 for text in texts)


@pytest.mark.parametrize(
    "text", [HOSTILE, "<!--<script>", "\\u202e", "\\\u202e", "\u2028", "\u2066x\u2069", "\x00\x1b[31m"]
)
def test_data_in_a_page_ends_nothing_and_turns_nothing(text: str) -> None:
    """JSON in a page holds no sign that could end it, and none that turns text; ordinary text comes out as it was."""
    held = str(writer.data({text: [text]}))
    assert not set(held) & set("<>&\u202e\u2028")
    read = json.loads(held)
    assert list(read) == read[next(iter(read))]
    shown = next(iter(read))
    assert not set(shown) & set("\u202e\u2028\u2066\u2069\x00\x1b")
    assert writer.data("ordinary \\u0041 “text” – µ") == json.dumps("ordinary \\u0041 “text” – µ")


def test_every_page_forbids_what_is_inline(track: tracks.Track) -> None:
    """Each page has a policy against inline script and style, and holds none itself."""
    folder = build(track)
    for path in [track.html_dir / "index.html", *folder.glob("*.html"), *folder.glob("cases/*.html")]:
        page = seen(path)
        policies = [
            held["content"] for tag, held in page.tags if held.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policies == [writer.POLICY]
        assert "unsafe" not in writer.POLICY
        for tag, held in page.tags:
            assert tag != "style"
            assert "style" not in held
            assert not [key for key in held if key.startswith("on")]
            assert tag != "script" or "src" in held or held.get("type") == "application/json"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a.b", ("1",)), ("a.b", ("2",))), (("a.b", ("1", "2")), ("a.b", ("1-2",))), (("a/b", ()), ("a-b", ())),
        (("../../x", ()), ("x", ())), (("a" * 500, ()), ("a" * 501, ())), (("é", ()), ("è", ())),
    ],
)  # fmt: skip
def test_no_two_cases_share_a_page(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    """Whatever cases are called, their pages are different files in one folder, with names that any disk can hold."""
    addresses = [case_page(*each) for each in (one, other)]
    assert len(set(addresses)) == 2
    for address in addresses:
        assert re.fullmatch(r"cases/[A-Za-z0-9.-]{1,120}\.html", address)
        assert ".." not in address


def test_a_hash_that_is_none_leads_nowhere_else() -> None:
    """The address of a commit's page holds nothing but a hash."""
    assert commit_page('../../etc/passwd"><b>') == "commits/ecadb.html"


# What is not done twice


def test_pages_that_did_not_change_are_the_same_files(track: tracks.Track) -> None:
    """A second publish takes every page of a case from the first one."""
    folder = build(track)
    before = {path: path.stat().st_ino for path in folder.glob("cases/*.html")}
    assert {path: path.stat().st_ino for path in build(track).glob("cases/*.html")} == before
    page = next(iter(before))
    page.unlink()
    page.write_text("damaged", "utf-8")
    assert "damaged" not in (build(track) / "cases" / page.name).read_text("utf-8")


def test_what_was_searched_is_not_searched_again(
    track: tracks.Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changes of series that stayed the same come from the index, and are the same."""
    with StoreIndex(track) as index:
        first = recorded(track, index).history
    monkeypatch.setattr("mlx_velocity.windows.searched", lambda batch: pytest.fail("searched again"))
    with StoreIndex(track) as index:
        assert recorded(track, index).history == first


def test_a_line_without_results_is_told(track: tracks.Track, tmp_path: Path) -> None:
    """A machine whose commits are all elsewhere has a history without cases, and the page says so."""
    with StoreIndex(track) as index:
        repo = tracks.open_repo(track)
        graph = commit_graph.read(str(repo._path))
        line = chronicle.Line([])
        told_ = told.history(track, line, "main", graph, index, cases.load(track))
        record = TrackRecord(track, graph, line, index, cases.load(track), told_)
        assert pages.build(record, tmp_path / "pages", None) > 0
    assert [machine.elsewhere for machine in told_.machines] == [len(made.commits_of(track))] * 2
    assert "not on the branch" in (tmp_path / "pages" / "index.html").read_text("utf-8")
