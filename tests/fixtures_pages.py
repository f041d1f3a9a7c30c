"""Every kind of page of a published site, opened from its folder as a reader may do without a server."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures_browser import Browser

READY = "document.readyState === 'complete' && !document.querySelector('[aria-busy=true]')"


def every_kind(html: Path) -> dict[str, Path]:
    """One page of each kind, by a name: the site's first page, and of the first track all of them."""
    track = json.loads((html / "site.json").read_text("utf-8"))["tracks"][0]["folder"]
    folder = html / track
    pages = {"front": html / "index.html"}
    for page in sorted(folder.glob("*.html")):
        pages[page.stem if page.stem != "index" else "changed"] = page
    for inner in sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name not in ("asv", "data")
    ):
        listed = sorted(inner.glob("*.html"))
        others = [page for page in listed if page.stem != "index"]
        pages |= {f"{inner.name}-list": page for page in listed if page.stem == "index"}
        # The last one in the alphabet is any one.
        pages |= {f"one-of-{inner.name}": page for page in others[-1:]}
    return pages


def explore(html: Path) -> Path:
    """asv-tachyon's page of the first track."""
    track = json.loads((html / "site.json").read_text("utf-8"))["tracks"][0]["folder"]
    return html / track / "asv" / "index.html"


def visit(browser: Browser, page: Path, state: str = "") -> None:
    """Open a page and wait until its scripts have put in what they put in."""
    browser.open(page.as_uri() + state)
    browser.until("document.readyState", lambda found: found == "complete")
    browser.until("[...document.querySelectorAll('[aria-busy=true]')].length", lambda found: found == 0)
    if browser.value("!!document.querySelector('[data-changes]')"):
        browser.until("document.querySelector('[data-said]').textContent")
    if browser.value("!!document.querySelector('form[data-models]')"):
        browser.until("document.querySelector('[data-markdown]').textContent")


def too_wide(browser: Browser) -> list[str]:
    """What makes the page itself wider than its window; what scrolls in a box of its own does not."""
    return list(
        browser.value("""(() => {
            const room = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= room) return [];
            return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > room + 1
                && !e.closest(".scroll, pre, svg, .hidden")).slice(0, 5).map(e => e.outerHTML.slice(0, 200));
        })()""")
    )
