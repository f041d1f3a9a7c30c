"""What a reader clicks and reads on the pages of the site, in a real browser with the network closed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fixtures_pages as pages
import fixtures_site as made
import pytest
from fixtures_browser import Browser

from mlx_velocity import roofline, roofline_peaks, stats, tracks, units
from mlx_velocity.probe import models

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
import made_up_store

pytestmark = pytest.mark.browser

ROWS = "[...document.querySelectorAll('[data-changes] tbody tr')].filter(row => !row.hidden).length"
RATE = units.rate(32 / (made.LAST_VALUE_S * 1.0005))
"""Tokens/s of the small history's first case at its newest commit: of the middle of its two launches."""
MOST_BYTES = 1_000_000
WIDTHS = (390, 1400)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of six commits on two machines, whose newest commit takes half of everything."""
    folder = tmp_path_factory.mktemp("small")
    track = made.make_track(folder)
    made.fill(track, ("box", "other-box"))
    return made.built(track).html_dir


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up history with hundreds of commits, some failures, on two machines."""
    folder = tmp_path_factory.mktemp("large")
    made_up_store.write(folder, made_up_store.Store(300, 20, 2, 4, readings=True), 1)
    return made.built(tracks.load(folder / "asv.conf.json")).html_dir


@pytest.fixture(scope="module")
def committed() -> Path:
    """The site of the results in this repository."""
    found = made.committed_site()
    if found is None:
        pytest.skip("this checkout has no results of the release history")
    return found[1].html_dir


@pytest.fixture(scope="module", params=["small", "large", "committed"])
def site(request: pytest.FixtureRequest) -> Path:
    """Each of the three sites."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def window(browser: Browser) -> None:
    """Each test begins with a wide and light window."""
    browser.shape(1400)


def test_every_page_opens_from_a_folder(browser: Browser, site: Path) -> None:
    """Every kind of page opens without a server, and neither a script nor the policy complains of anything."""
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        assert browser.complaints() == [], name
        asked = [
            address for address in browser.requests() if not address.startswith((site.as_uri(), "data:"))
        ]
        assert asked == [], f"{name} asks for what is not the site's"
        assert browser.value("document.querySelectorAll('main h1').length") == 1, name


def test_no_link_leads_nowhere(browser: Browser, site: Path) -> None:
    """Every link of every kind of page to the site itself has something at its end."""
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        links = browser.value("[...document.querySelectorAll('a[href]')].map(a => a.href.split('#')[0])")
        for link in set(links):
            assert link.startswith(("http://", "https://")) or Path(link.removeprefix("file://")).is_file(), (
                f"{name}: {link}"
            )


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_its_window(browser: Browser, site: Path, width: int) -> None:
    """On a phone as on a wide screen nothing but tables in boxes of their own scrolls sideways."""
    browser.shape(width)
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        assert pages.too_wide(browser) == [], name


def test_the_first_view_is_small(browser: Browser, large: Path) -> None:
    """What a page loads by itself stays below 1 MB, in a history of hundreds of commits too."""
    for name, page in pages.every_kind(large).items():
        pages.visit(browser, page)
        loaded = {address for address in browser.requests() if address.startswith("file://")}
        size = sum(Path(address.removeprefix("file://").split("#")[0]).stat().st_size for address in loaded)
        assert size < MOST_BYTES, f"{name} loads {size:,} bytes"


# Models


def test_the_models_table_is_what_is_stored(browser: Browser, small: Path) -> None:
    """The table of models shows tokens/s of the newest commit, and what became of it since the one before."""
    pages.visit(browser, pages.every_kind(small)["models"])
    head, first = (browser.texts(f"table.models {part}") for part in ("thead th", "tbody tr:first-child > *"))
    assert head == ["model", "dtype", "pp32", "pp128"]
    assert first[0] == "tiny"
    assert first[1] == "float32"
    # Half the time: twice the tokens per second, well beyond noise.
    assert re.fullmatch(rf"{RATE}\s+▼ better \+100\.\d %", first[2]), first
    assert browser.texts("[data-roofline]") == [
        "% of roofline is missing: nobody publishes what MLX can reach on a CPU."
    ]


def test_the_models_table_against_another_commit(browser: Browser, small: Path) -> None:
    """Another commit to hold the table against is a choice on the page, kept in its address."""
    page = pages.every_kind(small)["models"]
    pages.visit(browser, page)
    oldest = browser.value("document.querySelector('select[name=base] option:last-child').value")
    browser.choose("select[name=base]", oldest)
    browser.until("location.hash", lambda found: oldest in found)
    browser.choose("select[name=base]", "")
    browser.until("document.querySelector('table.models tbody').innerText", lambda text: "%" not in text)
    state = browser.value("location.hash")
    pages.visit(browser, page, state)
    assert browser.value("document.querySelector('select[name=base]').value") == ""


def test_the_models_table_as_markdown(browser: Browser, small: Path) -> None:
    """A click copies the table as Markdown, with its commit, its machine and what it is held against."""
    pages.visit(browser, pages.every_kind(small)["models"])
    browser.click("[data-copy]")
    browser.until("document.querySelector('[data-copied]').textContent", lambda text: text == "Copied.")
    lines = browser.value("document.querySelector('[data-markdown]').textContent").splitlines()
    assert lines[0].startswith("made-up at ")
    assert lines[0].endswith(" on box")
    assert lines[2].startswith("| model | dtype | pp32 | pp128 |")
    assert lines[3] == "| --- | --- | ---: | ---: |"
    assert lines[4].startswith(f"| tiny | float32 | {RATE} (+100.")
    assert {line.count("|") for line in lines[2:6]} == {5}


def test_the_models_table_on_a_gpu_has_shares_and_joules(browser: Browser, tmp_path: Path) -> None:
    """On a machine whose peaks are published stand the share of the roofline, and joules per token where they were counted."""
    track = made.make_track(tmp_path)
    made.fill(track)
    made.on_gpu(track)
    pages.visit(browser, pages.every_kind(made.built(track).html_dir)["models"])
    cells = dict(
        zip(
            browser.texts("table.models thead th"),
            browser.texts("table.models tbody tr:first-child > *"),
            strict=True,
        )
    )
    peaks = roofline_peaks.find("NVIDIA H200")
    least = roofline.place(
        models.config("tiny-float32"),
        stage="prefill",
        tokens=32,
        seconds=None,
        peaks=peaks,
        chunk=512,
        logits=512,
    ).least_seconds
    assert least is not None
    assert cells["pp32 % of roofline"].split("\n")[0] == units.share(least / (made.LAST_VALUE_S * 1.0005))
    # Three samples took six joules.
    assert cells["pp32 J/token"].split("\n")[0] == units.energy(2 / 32)
    assert "NVIDIA's data sheet" in browser.texts("[data-roofline]")[0]


# One commit


def test_a_commits_page_from_the_list(browser: Browser, small: Path) -> None:
    """From the list to a commit: what failed with its reason, what it is held against, and how it was measured."""
    pages.visit(browser, pages.every_kind(small)["commits-list"])
    assert len(browser.texts("tbody tr")) == len(made.SUBJECTS)
    browser.write("[data-filter=text]", made.SUBJECTS[1])
    browser.until(
        "[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).length",
        lambda found: found == 1,
    )
    browser.click("tbody tr:not([hidden]) a")
    browser.until("document.querySelector('h1').innerText", lambda text: text == made.SUBJECTS[1])
    browser.until(ROWS, lambda found: found == 5)
    text = browser.text()
    assert "failed" in text
    assert "exit -9" in text
    assert "prefill.Prefill.time_prefill(tiny-4bit, 128)" in text
    assert "against its parent" in text
    assert re.search(r"mlx-velocity compare \S+ \S+ --track made-up", text)
    assert "Environment" in text
    assert browser.complaints() == []


def test_a_commit_whose_parent_was_not_measured_says_so(browser: Browser, tmp_path: Path) -> None:
    """Where the parent has no results the nearest ancestor that has stands in, and the page says which it is."""
    track = made.make_track(tmp_path)
    made.fill(track)
    second, third = made.commits_of(track)[1:3]
    for path in track.results_dir.glob(f"box/{second.hexsha[:8]}-*"):
        path.unlink()
    html = made.built(track).html_dir
    pages.visit(browser, html / "made-up" / "commits" / f"{third.hexsha[:12]}.html")
    assert "not its parent, which has no results here" in browser.text()
    first = made.commits_of(track)[0]
    assert first.hexsha[:12] in browser.value("document.querySelector('[data-at] a').href")


# Compare


def test_two_commits_are_compared(browser: Browser, small: Path) -> None:
    """Two chosen commits stand beside each other with ratio and interval, and the command that would decide it."""
    page = pages.every_kind(small)["compare"]
    pages.visit(browser, page)
    assert browser.value(ROWS) == 5
    said = browser.texts("[data-said]")[0]
    assert "5 cases: 0 grew and 5 shrank by more than noise and 2 %" in said
    interval = browser.texts("[data-changes] tbody tr")
    assert any("▼ -50.0 %" in row and "…" in row for row in interval)
    assert "not turn by turn" in browser.texts("[data-note]")[0]
    assert browser.texts("[data-command]")[0].startswith("mlx-velocity compare ")
    browser.click("[name=swap]")
    browser.until("document.querySelector('[data-said]').textContent", lambda text: "5 grew" in text)
    browser.click("[data-certain]")
    assert browser.value(ROWS) == 5
    browser.write("[data-text]", "track_peak")
    browser.until(ROWS, lambda found: found == 1)
    state = browser.value("location.hash")
    pages.visit(browser, page, state)
    assert "5 grew" in browser.texts("[data-said]")[0]


def test_two_machines_are_compared_with_a_warning(browser: Browser, small: Path) -> None:
    """Of two machines the page says that what differs may be theirs, and offers no command."""
    pages.visit(browser, pages.every_kind(small)["compare"])
    other = browser.value("document.querySelector('[name=a-place]').options[1].value")
    browser.choose("[name=b-place]", other)
    browser.until("document.querySelector('[data-note]').textContent", lambda text: "two machines" in text)
    assert browser.value("document.querySelector('[data-command]').hidden")


def test_intervals_are_those_of_the_program(browser: Browser, small: Path) -> None:
    """The page computes ratio and interval as stats.ratio does, to a thousandth."""
    pages.visit(browser, pages.every_kind(small)["compare"])
    for base, head in (
        ([1.0, 1.1], [1.3, 1.2]),
        ([2.0, 2.1, 1.9], [2.0, 2.05]),
        ([5.0, 5.0, 5.1, 4.9, 5.0], [4.0, 4.1, 4.2]),
    ):
        wanted = stats.ratio(base, head, 0.99)
        assert wanted is not None
        got = browser.value(f"""(async () => {{
            const side = values => {{ const logs = values.map(Math.log); const mean = logs.reduce((a, b) => a + b) / logs.length;
                const error = Math.sqrt(logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1) / logs.length);
                return {{ value: Math.exp(mean), mean, error, launches: values.length }}; }};
            const found = velocity.ratio(await velocity.stored("track"), side({base}), side({head}), false);
            return [found.value, found.low, found.high]; }})()""")
        assert got == pytest.approx([wanted.value, wanted.low, wanted.high], rel=1e-3)


def test_numbers_are_in_the_words_of_the_program(browser: Browser, small: Path) -> None:
    """A number reads the same on a page as in the terminal."""
    pages.visit(browser, pages.every_kind(small)["compare"])
    for value in (
        0.0,
        1e-10,
        0.000123456,
        0.0105,
        0.9999,
        1.0,
        2.5,
        1.125,
        1.375,
        12.25,
        0.0625,
        99.95,
        100.5,
        112.5,
        113.5,
        1234.5,
        987654.0,
        3.2e9,
        8.1e13,
    ):
        for unit in ("seconds", "bytes", "joules", "nodes"):
            assert browser.value(f"velocity.quantity({value!r}, '{unit}')") == units.quantity(value, unit)
        assert browser.value(f"velocity.rate({value!r})") == units.rate(value)
        assert browser.value(f"velocity.share({value!r})") == units.share(value)
    for ratio in (
        0.5,
        0.98765,
        0.9375,
        0.9999,
        1.0,
        1.0001,
        1.034,
        1.0625,
        1.15,
        1.45,
        1.5625,
        1.99949,
        9.99,
        10.0,
        12.5,
        12345.0,
        3e6,
    ):
        assert browser.value(f"velocity.change({ratio!r})") == units.percent_change(ratio)


# Machines


def test_the_machines_page_says_what_each_is_and_has(browser: Browser, large: Path) -> None:
    """Each machine has its fields, whether it changed, and how much of what it measured of which commits."""
    pages.visit(browser, pages.every_kind(large)["machines"])
    text = browser.text()
    for words in (
        "machine-0",
        "machine-1",
        "7 GiB",
        "300 commits",
        "the same at all of these commits",
        "stage6",
    ):
        assert words in text
    cells = browser.value("document.querySelector('table.coverage tbody td.failed').title")
    assert re.fullmatch(r"[\d,]+ measured, [\d,]+ failed", cells)
    assert 10 < browser.value("document.querySelectorAll('table.coverage')[0].tBodies[0].rows.length") <= 40
