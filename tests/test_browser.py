"""The site in a real browser that can reach nothing but this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fixtures_hostile as hostile
import fixtures_site as made
import pytest
from fixtures_browser import Browser

from mlx_velocity import tracks

pytestmark = pytest.mark.browser

BENCH = "prefill.Prefill.time_prefill"
MARKUP = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a published site, served by `mlx-velocity preview`. Its machine's processor is markup."""
    folder = tmp_path_factory.mktemp("site")
    track = made.make_track(folder)
    made.fill(track, cpu=MARKUP)
    made.built(track)
    with made.serving(folder) as address:
        yield f"{address}made-up/asv/"


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the site of a history full of hostile texts."""
    folder = tmp_path_factory.mktemp("hostile") / "history"
    hostile.write(folder)
    made.built(tracks.load(folder / "asv.conf.json"))
    with made.serving(folder) as address:
        yield address


DRAWN = """
[...document.querySelectorAll("canvas")].map(canvas => {
    const pixels = canvas.width && canvas.height
        ? canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data : [];
    let drawn = 0;
    for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0;
    return drawn;
})
"""
"""How many pixels of each canvas are not empty."""
TILES = """
Object.fromEntries([...document.querySelectorAll("[data-bench]")].map(
    tile => [tile.dataset.bench, [...tile.querySelectorAll(".foot span")].map(span => [span.innerText, span.className])]
))
"""
"""What stands below each benchmark's picture, with its style."""
CHART = """
(() => { const box = document.querySelector(".u-over").getBoundingClientRect();
         return [box.left, box.top, box.width, box.height]; })()
"""
"""Where the history is drawn."""


def drawn(count: int) -> Callable[[Any], bool]:
    """At least so many pictures with something in them."""
    return lambda pixels: sum(number > 100 for number in pixels) >= count


def test_the_network_is_closed(browser: Browser, site: str) -> None:
    """The browser of these tests reaches this machine and nobody else: what they see needs no network."""
    # Not from a page of the site: their policies let nobody else be asked anyway.
    browser.open(f"{site}index.json")
    assert browser.value("fetch('index.json').then(answer => answer.status)") == 200
    # The site's own policy would forbid the attempt before it is one.
    browser.open("data:text/html,<p>a page without a policy")
    browser.until("document.body.innerText")
    for address in ("https://cdn.jsdelivr.net/", "http://example.com/", "http://192.0.2.1/"):
        attempt = f"fetch('{address}', {{mode: 'no-cors'}}).then(() => 'reached', error => error.name)"
        assert browser.value(attempt) == "TypeError"
        assert address in browser.requests(), "a request that fails is seen too"


def test_the_overview_draws_every_benchmark(browser: Browser, site: str) -> None:
    """The first page names each benchmark and draws its history, with what changed in the right colour."""
    browser.open(site)
    browser.until(DRAWN, drawn(len(made.BENCHMARKS)))
    tiles = browser.until(TILES, lambda tiles: all("%" in str(line) for line in tiles.values()))
    assert set(tiles) == set(made.BY_NAME)
    for name, lines in tiles.items():
        assert lines[-1] == ["-50.0%", "delta-down"], f"{name}: fewer seconds and fewer bytes are good"


def test_the_history_of_a_benchmark_is_drawn_with_its_commits(browser: Browser, site: str) -> None:
    """A benchmark's page draws its series, and says of a point which release it is and when it came."""
    browser.open(f"{site}#view=explore&bench={BENCH}")
    browser.until(DRAWN, drawn(1))
    for place, subject in ((0.01, made.SUBJECTS[0]), (0.99, made.SUBJECTS[-1])):
        left, top, width, height = browser.until(CHART)
        browser.command(
            "Input.dispatchMouseEvent", type="mouseMoved", x=left + width * place, y=top + height / 3
        )
        browser.until("document.body.innerText", lambda text, subject=subject: f"{subject} (2025-" in text)
    assert "10.505ms" in browser.text()
    assert "model='tiny-float32', tokens=32" in browser.text()


@pytest.mark.parametrize("view", ["heatmap", "grid", "multiples", "compare", "regressions", "inventory"])
def test_every_view_opens(browser: Browser, site: str, view: str) -> None:
    """No page of the interface breaks on our data."""
    browser.open(f"{site}#view={view}")
    browser.until("document.querySelectorAll('.main').length")
    browser.until("document.body.innerText", lambda text: "Loading" not in text)
    assert browser.failures() == []


def test_markup_in_a_name_is_text(browser: Browser, site: str) -> None:
    """A processor that is called like an image of a page is shown by that name and never run."""
    browser.open(site)
    browser.until("document.body.innerText", lambda text: MARKUP in text)
    browser.until(DRAWN, drawn(len(made.BENCHMARKS)))
    assert browser.value("window.hacked") is None


VIEWS = ["overview", "explore", "heatmap", "grid", "multiples", "compare", "regressions", "inventory"]
BLOCKED = """
(() => { window.blocked = []; document.addEventListener("securitypolicyviolation",
         event => window.blocked.push(event.violatedDirective + " " + event.blockedURI)); })()
"""


@pytest.mark.parametrize("view", VIEWS)
def test_a_hostile_history_is_text_in_every_view(browser: Browser, hostile_site: str, view: str) -> None:
    """No text of a stranger runs or becomes an element in any view, and none of them breaks on it."""
    browser.open(f"{hostile_site}made-up/asv/#view={view}")
    browser.until("document.querySelectorAll('.main').length")
    browser.until("document.body.innerText", lambda text: "Loading" not in text)
    if view != "regressions":
        browser.until("document.body.innerText", lambda text: "onerror" in text)
    assert browser.value("window.hacked") is None
    assert browser.value("document.querySelectorAll('img, iframe, script:not([src])').length") == 0
    addresses = browser.value("[...document.querySelectorAll('a')].map(link => link.protocol)")
    assert set(addresses) <= {"http:", "https:", ""}
    assert browser.failures() == []


def test_the_policy_lets_the_interface_work_and_nothing_else(browser: Browser, site: str) -> None:
    """The page's policy stops an inline script, and blocks nothing that the interface does."""
    browser.open(site)
    browser.value(BLOCKED)
    browser.until(DRAWN, drawn(len(made.BENCHMARKS)))
    for view in VIEWS:
        browser.value(f"location.hash = 'view={view}'")
        browser.until("document.querySelectorAll('.main').length")
    assert browser.value("window.blocked") == []
    browser.value("(() => { const one = document.createElement('script'); one.textContent = 'window.hacked = 1';"
                  " document.body.append(one); })()")  # fmt: skip
    browser.until("window.blocked.length")
    assert browser.value("window.hacked") is None


def test_the_first_page_leads_to_each_track_and_back(browser: Browser, site: str) -> None:
    """From the first page a link leads to each track, from there one to asv-tachyon's views, and others lead back."""
    front = site.removesuffix("made-up/asv/")
    browser.open(front)
    browser.until(
        "document.body.innerText", lambda text: "says nothing about GPU kernels" in " ".join(text.split())
    )
    track = site.removesuffix("asv/")
    browser.click("main table a")
    browser.until("location.href", lambda here: here == f"{track}index.html")
    browser.until("document.querySelector('nav a[href$=\"asv/index.html\"]')?.innerText")
    browser.click("nav a[href$='asv/index.html']")
    browser.until("location.href", lambda here: here.startswith(site))
    browser.until(DRAWN, drawn(len(made.BENCHMARKS)))
    browser.click(".velocity-back a")
    browser.until("location.href", lambda here: here == f"{track}index.html")
    browser.until("document.querySelector('a.home')?.innerText")
    browser.click("a.home")
    browser.until("location.pathname", lambda path: path in ("/", "/index.html"))
    assert browser.failures() == []


def test_no_request_leaves_this_machine(browser: Browser, site: str) -> None:
    """The pages ask the preview's address for everything, and nobody else for anything."""
    browser.open(site)
    browser.until(DRAWN, drawn(len(made.BENCHMARKS)))
    asked = browser.requests()
    assert any(address.endswith(f"{BENCH}.json") for address in asked)
    assert [address for address in asked if not address.startswith((site, "data:", "blob:"))] == []
    assert browser.failures() == []


def test_the_committed_history_is_drawn(browser: Browser) -> None:
    """The results in this repository give a history that is drawn at once."""
    committed = made.committed_site()
    if committed is None:
        pytest.skip("this checkout has no results of the release history")
    with made.serving(committed[0]) as address:
        browser.open(f"{address}releases/asv/#view=explore&bench=decode.Decode.time_decode")
        browser.until(DRAWN, drawn(1))
        left, top, width, height = browser.until(CHART)
        browser.command(
            "Input.dispatchMouseEvent", type="mouseMoved", x=left + width * 0.99, y=top + height / 3
        )
        browser.until("document.body.innerText", lambda text: " → " in text)
        assert browser.failures() == []
