"""Whether everybody can use the pages: axe-core finds nothing serious, and the keyboard reaches everything."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import fixtures_pages as pages
import fixtures_site as made
import pytest
from fixtures_browser import Browser

pytestmark = pytest.mark.browser

AXE = "axe-core@4.10.3"
TAB, ENTER, SPACE = 9, 13, 32
FOCUSABLE = "a[href], button, select, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository's results, or of a small history where there are none."""
    if (found := made.committed_site()) is not None:
        return found[1].html_dir
    track = made.make_track(tmp_path_factory.mktemp("site"))
    made.fill(track, ("box", "other-box"))
    return made.built(track).html_dir


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, fetched once with npm; the tests are skipped where there is neither npm nor network."""
    folder = Path(tempfile.gettempdir()) / f"mlx-velocity-{AXE}"
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("there is no npm, which gets axe-core")
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [npm, "pack", "--silent", AXE],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"npm can't get {AXE}: {done.stderr.strip()[-200:]}")
        with tarfile.open(next(folder.glob("*.tgz"))) as packed:
            packed.extract("package/axe.min.js", folder, filter="data")
    return script.read_text("utf-8")


@pytest.mark.network
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_serious(browser: Browser, site: Path, axe: str, width: int, dark: bool) -> None:
    """On every kind of page axe-core has no serious and no critical finding: contrast, names, order, tables."""
    browser.shape(width, dark=dark)
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        browser.value(f"{axe}; undefined")
        found = browser.value("axe.run().then(all => all.violations.filter(one => ['serious', 'critical'].includes(one.impact))"
                              ".map(one => [one.id, one.nodes.length, one.nodes[0].html, one.nodes[0].failureSummary]))")  # fmt: skip
        assert found == [], name


def test_the_keyboard_reaches_everything(browser: Browser, site: Path) -> None:
    """Tab goes through everything that can be operated, in the order of reading, and shows where it is."""
    browser.shape(1400)
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        wanted = browser.value(
            f"[...document.querySelectorAll({FOCUSABLE!r})].filter(e => e.checkVisibility() && !e.disabled"
            " && e.tabIndex >= 0).slice(0, 25).map((e, n) => (e.dataset.tabNumber = n))"
        )
        seen = []
        for _ in wanted:
            browser.key("Tab", TAB)
            seen.append(browser.value("document.activeElement.dataset.tabNumber"))
            visible = "(style => style.outlineStyle !== 'none' && style.outlineWidth !== '0px')(getComputedStyle(document.activeElement))"
            assert browser.value(visible), (
                f"{name}: {browser.value('document.activeElement.outerHTML')[:200]}"
            )
        assert seen == [str(number) for number in wanted], name


def test_the_first_stop_skips_to_the_content(browser: Browser, site: Path) -> None:
    """The first stop of the keyboard leads over the head to the content."""
    for name, page in pages.every_kind(site).items():
        pages.visit(browser, page)
        browser.key("Tab", TAB)
        assert browser.value("document.activeElement.innerText") == "Skip to the content", name
        browser.key("Enter", ENTER, "\r")
        browser.until("document.activeElement.id", lambda found: found == "content")


def test_commits_are_chosen_by_keyboard(browser: Browser, site: Path) -> None:
    """Who has no mouse compares other commits, filters cases and copies the table of models all the same."""
    browser.shape(1400)
    pages.visit(browser, pages.every_kind(site)["compare"])
    before = browser.texts("[data-said]")
    browser.value("document.querySelector('[name=a-commit]').focus()")
    state = browser.value("location.hash")
    browser.key("End", 35)
    browser.until("location.hash", lambda found: found != state)
    assert before
    browser.value("document.querySelector('[data-certain]').focus()")
    browser.key(" ", SPACE, " ")
    browser.until("document.querySelector('[data-certain]').checked")
    pages.visit(browser, pages.every_kind(site)["models"])
    browser.value("document.querySelector('[data-copy]').focus()")
    browser.key("Enter", ENTER, "\r")
    browser.until("document.querySelector('[data-copied]').textContent")
