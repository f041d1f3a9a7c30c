"""Our own pages in a real browser: what a reader sees, clicks and types; opened from a disk as from a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fixtures_site as made
import pytest
from fixtures_browser import Browser

from mlx_velocity import tracks
from mlx_velocity.site import publish
from mlx_velocity.site.record import case_page

pytestmark = pytest.mark.browser

CASE = (made.BENCHMARKS[0]["name"], ("'tiny-float32'", "32"))
FAILED = (made.BENCHMARKS[0]["name"], ("'tiny-4bit'", "128"))
READOUT = "document.querySelector('[data-readout]').innerText"
SAMPLES = "document.querySelector('[data-samples]').innerText"
CANVAS = "(() => { const box = document.querySelector('[data-canvas]').getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> tracks.Track:
    """A published track of two machines."""
    track = made.make_track(tmp_path_factory.mktemp("site"))
    made.fill(track, ["box", "other"])
    publish.publish([track], track.html_dir)
    return track


@pytest.fixture(scope="module")
def served(track: tracks.Track) -> Iterator[str]:
    """Address of the track's pages from a server."""
    with made.serving(track.root) as address:
        yield f"{address}made-up/"


@pytest.fixture(params=["served", "on disk"])
def site(request: pytest.FixtureRequest, track: tracks.Track, served: str) -> str:
    """Address of the track's pages: from `preview`, and from the disk as a double click opens them."""
    return served if request.param == "served" else f"{(track.html_dir / 'made-up').as_uri()}/"


def opened(browser: Browser, address: str) -> None:
    """Open a page, all of whose scripts have run."""
    browser.command("Log.enable")
    browser.open(address)
    browser.until("document.readyState", lambda state: state == "complete")


def complaints(browser: Browser) -> list[str]:
    """What the browser complains about: errors, and what the policy forbids."""
    found = [event["params"] for event in browser.events if event.get("method") == "Log.entryAdded"]
    return [
        json.dumps(item)[:300] for item in found if item["entry"]["level"] == "error"
    ] + browser.failures()


def press(browser: Browser, key: str, shift: bool = False) -> None:
    """A key on the keyboard."""
    for kind in ("keyDown", "keyUp"):
        text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
        browser.command("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0, **text)


def shown(browser: Browser) -> list[int]:
    """The places of the first and the last commit in the picture."""
    found: list[int] = browser.value("velocity.chart.shown")
    return found


def hash_of(browser: Browser) -> dict[str, str]:
    """The state that the address holds."""
    text = str(browser.value("location.hash"))
    return {
        key: unquote(value) for key, _, value in (part.partition("=") for part in text[1:].split("&") if part)
    }


@pytest.mark.parametrize("page", ["../index.html", "index.html", "cases/index.html", case_page(*CASE)])
def test_a_page_opens_without_a_complaint(browser: Browser, site: str, page: str) -> None:
    """Each page opens from a server as from a disk: nothing is forbidden, nothing lacks, nothing comes from elsewhere."""
    opened(browser, site + page)
    assert complaints(browser) == []
    place = site.removesuffix("made-up/")
    assert [address for address in browser.requests() if not address.startswith((place, "data:"))] == []
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")


def test_a_reader_steps_through_the_history_by_keyboard(browser: Browser, site: str) -> None:
    """Arrow keys go from commit to commit, and each is said with its number, subject and date."""
    opened(browser, site + case_page(*CASE))
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "End")
    browser.until(READOUT, lambda text: made.SUBJECTS[-1] in text)
    assert "10.5 ms" in browser.value(READOUT)
    assert "2 launches" in browser.value(READOUT)
    press(browser, "ArrowLeft")
    browser.until(READOUT, lambda text: made.SUBJECTS[-2] in text and "21 ms" in text)
    assert browser.value("document.querySelector('[data-readout]').getAttribute('aria-live')") == "polite"
    press(browser, "Escape")
    assert "arrow key" in browser.value(READOUT)
    assert complaints(browser) == []


def test_zoom_is_kept_in_the_address(browser: Browser, site: str) -> None:
    """Plus, minus, zero and shift with an arrow change what is shown, and the address opens the same view again."""
    opened(browser, site + case_page(*CASE))
    browser.value("document.querySelector('[data-canvas]').focus()")
    everything = shown(browser)
    press(browser, "End")
    press(browser, "+")
    near = shown(browser)
    assert everything[0] < near[0]
    assert near[1] == everything[1]
    press(browser, "ArrowLeft", shift=True)
    moved = shown(browser)
    assert moved[0] < near[0]
    assert moved[1] < near[1]
    assert {"from", "to", "at"} <= hash_of(browser).keys()
    address = browser.value("location.href")
    opened(browser, address)
    assert shown(browser) == moved
    browser.until(READOUT, lambda text: made.SUBJECTS[-1] in text)
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "0")
    assert shown(browser) == everything
    assert "from" not in hash_of(browser)


def test_dragging_zooms_and_a_double_click_shows_all(browser: Browser, site: str) -> None:
    """A drag across half of the picture shows that half."""
    opened(browser, site + case_page(*CASE))
    everything = shown(browser)
    left, top, width, height = browser.value(CANVAS)
    y = top + height / 2
    for kind, x in (
        ("mousePressed", 0.6),
        ("mouseMoved", 0.8),
        ("mouseMoved", 0.97),
        ("mouseReleased", 0.97),
    ):
        browser.command(
            "Input.dispatchMouseEvent",
            type=kind,
            x=left + width * x,
            y=y,
            button="left",
            buttons=1,
            clickCount=1,
        )
    assert everything[0] < shown(browser)[0]
    assert browser.value("document.querySelector('.selection').getAttribute('width')") == "0"
    browser.value("new Promise(done => setTimeout(done, 500))")  # so that the drag is no click before these
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            browser.command(
                "Input.dispatchMouseEvent",
                type=kind,
                x=left + width / 2,
                y=y,
                button="left",
                clickCount=count,
            )
    browser.until("velocity.chart.shown", lambda now: now == everything)


def test_the_machine_and_the_unit_can_be_chosen(browser: Browser, site: str) -> None:
    """Another machine's history is drawn where it is asked for, and the address says which."""
    opened(browser, site + case_page(*CASE) + "#machine=other&zero=1")
    assert browser.value("velocity.chart.series.name") == "other"
    assert "begins at 0;" in browser.text()
    choose = "(() => { const control = document.querySelector('[data-control=machine]'); control.value = '0'; control.dispatchEvent(new Event('change')); })()"
    browser.value(choose)
    assert browser.value("velocity.chart.series.name") == "box"
    assert "machine" not in hash_of(browser)
    browser.value("document.querySelector('[data-control=zero]').click()")
    assert "not at 0" in browser.text()


def test_raw_samples_are_shown_on_demand(browser: Browser, site: str) -> None:
    """A button or a key opens the samples of the chosen commit, launch by launch; the address opens them again."""
    opened(browser, site + case_page(*CASE))
    assert not [
        address
        for address in browser.requests()
        if "samples" in address.rpartition("/")[2] and "assets" not in address
    ]
    browser.click("[data-control=raw]")
    browser.until(SAMPLES, lambda text: "Choose a commit" in text)
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "End")
    text = browser.until(SAMPLES, lambda text: "10.61" in text)
    # Two launches of three samples, as stored: 0.99, 1 and 1.01 times 10.5 ms and a thousandth more.
    assert "10.39 10.50 10.61" in " ".join(text.split())
    assert browser.value("document.querySelectorAll('[data-samples] tbody tr').length") == 2
    assert hash_of(browser)["raw"] == "1"
    press(browser, "ArrowLeft")
    browser.until(SAMPLES, lambda text: "20.79" in text)
    address = browser.value("location.href")
    opened(browser, address)
    browser.until(SAMPLES, lambda text: "20.79" in text)
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "r")
    assert browser.value("document.querySelector('[data-samples]').hidden")
    assert "raw" not in hash_of(browser)
    assert complaints(browser) == []


def test_the_roofline_is_drawn_where_it_is_known(browser: Browser, tmp_path: Path) -> None:
    """On a machine with published peaks the least time is a line in the picture, and points say how much they reached."""
    track = made.make_track(tmp_path)
    made.fill(track)
    made.on_gpu(track)
    publish.publish([track], track.html_dir)
    page = (track.html_dir / "made-up" / case_page(*CASE)).as_uri()
    opened(browser, page + "#zero=1")
    assert browser.value("document.querySelectorAll('.chart .roofline').length") == 1
    assert "Roofline: " in browser.text()
    assert "NVIDIA's data sheet" in browser.text()
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "End")
    browser.until(READOUT, lambda text: "% of the roofline" in text)
    # Where all points lie close together the least of microseconds is not in the picture, and that is said.
    browser.value("document.querySelector('[data-control=zero]').click()")
    browser.value("velocity.chart.show([0, 2])")
    assert browser.value("document.querySelectorAll('.chart .roofline').length") == 0
    assert "outside of the picture" in browser.text()


def test_a_failure_is_marked_and_said(browser: Browser, site: str) -> None:
    """A commit at which the case failed has a mark of its own and says why there is no number."""
    opened(browser, site + case_page(*FAILED))
    assert browser.value("document.querySelectorAll('.chart .failed').length") == 1
    browser.value("document.querySelector('[data-canvas]').focus()")
    press(browser, "Home")
    press(browser, "ArrowRight")
    browser.until(READOUT, lambda text: "No number" in text and "exit -9" in text)


def test_changes_are_sorted_and_found(browser: Browser, site: str) -> None:
    """A click on a head sorts, a word finds, and the address keeps the word."""
    opened(browser, site + "index.html")
    rows = "[...document.querySelectorAll('[data-row]')].filter(row => !row.hidden).map(row => row.cells[2].innerText)"
    before = browser.value(rows)
    assert len(before) > 1
    browser.value("document.querySelectorAll('th button')[2].click()")
    assert browser.value(rows) == sorted(before)
    find = "(() => { const control = document.querySelector('[data-filter=text]'); control.value = 'PEAK'; control.dispatchEvent(new Event('input')); })()"
    browser.value(find)
    assert all("peak" in name for name in browser.value(rows))
    assert hash_of(browser) == {"text": "PEAK"}
    opened(browser, browser.value("location.href"))
    assert all("peak" in name for name in browser.value(rows))


def test_light_and_dark_are_remembered(browser: Browser, served: str) -> None:
    """The button changes between light and dark, here and on the next page."""
    opened(browser, served + "index.html")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    before = browser.value(paper)
    browser.value("document.querySelector('.tools button').click()")
    after = browser.value(paper)
    assert after != before
    opened(browser, served + "cases/index.html")
    assert browser.value(paper) == after
    browser.value("localStorage.clear()")


def test_a_long_history_is_drawn_from_ranges(browser: Browser, site: str) -> None:
    """With thousands of points the picture has few elements, and zooming in shows each point again."""
    opened(browser, site + case_page(*CASE))
    many: Any = """(() => { const {chart} = velocity; const {points} = chart.series; const first = points[0];
        const more = Array.from({length: 5000}, (_, index) => ({...first, index, commit: {place: index, hash: String(index), day: '2025-01-01'}}));
        chart.data.commits = more.map(point => point.commit); Object.assign(chart.series, {points: more, stops: more, failed: [], segments: []});
        chart.show(null); return [document.querySelectorAll('.chart svg *').length, document.querySelectorAll('.columns').length]; })()"""
    elements, columns = browser.value(many)
    assert elements < 200
    assert columns == 1
    browser.value("velocity.chart.show([100, 200])")
    assert browser.value("document.querySelectorAll('.columns').length") == 0
