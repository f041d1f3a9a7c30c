"""How much does each page of the site load before a reader has seen it, and how long does that take?

Shows: of every kind of page the bytes that it loads by itself and the time until all of that is drawn, in headless
Chromium with the network closed, the slowest of five visits each. Goal: less than 1 MB and less than 1 s.

How: made_up_store.py writes a history with readings to a temporary folder, the same each time, `mlx-velocity publish`
makes its site, and the browser of the tests opens the pages from the folder. A page is drawn when the browser has loaded
everything and its scripts have put in what they put in at once, which is looked at twenty times a second: times are up
to 0.1 s too long. Each visit begins with an empty page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import made_up_store
from made_up_store import Store
from publish_speed import PUBLISH, Incomplete, measured

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import fixtures_pages as pages
from fixtures_browser import Browser, installed

GOAL_BYTES, GOAL_S = 1_000_000, 1.0
VISITS = 5


def seen(browser: Browser, page: Path, visits: int) -> dict[str, float]:
    """Bytes that a page loads by itself, and seconds until it is drawn."""
    seconds = []
    for _ in range(visits):
        began = time.perf_counter()
        pages.visit(browser, page)
        seconds.append(time.perf_counter() - began)
    loaded = {address.split("#")[0] for address in browser.requests() if address.startswith("file://")}
    size = sum(Path(address.removeprefix("file://")).stat().st_size for address in loaded)
    return {"bytes": size, "seconds": max(seconds)}


def main() -> int:
    """Publish, look at every kind of page, and return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small history, one visit; judges nothing")
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument("--benchmarks", type=int, default=300)
    parser.add_argument("--json", type=Path, help="keep all figures")
    options = parser.parse_args()
    chromium = installed()
    if chromium is None:
        print("first_view: no chromium on this machine", file=sys.stderr)
        return 4
    store = Store(options.commits, options.benchmarks, 2, 10, readings=True)
    if options.quick:
        store = Store(60, 6, 2, 2, readings=True)
    with tempfile.TemporaryDirectory(prefix="first-view-") as place:
        folder = Path(place)
        made_up_store.write(folder / "store", store)
        try:
            measured(PUBLISH, folder / "store")
        except Incomplete as error:
            print(f"first_view: {error}", file=sys.stderr)
            return 4
        # A browser that is ended leaves files there.
        os.environ["TMPDIR"] = place
        browser = Browser(chromium, folder / "profile")
        try:
            found: dict[str, dict[str, float]] = {
                name: seen(browser, page, 1 if options.quick else VISITS)
                for name, page in pages.every_kind(folder / "store" / ".asv" / "html").items()
            }
        finally:
            browser.close()
    print(
        f"{store.commits:,} commits × {store.benchmarks:,} benchmarks × {store.machines} machines, with readings"
    )
    print(f"{'page':22}{'loads':>11}{'drawn after':>14}")
    for name, row in found.items():
        print(f"{name:22}{row['bytes'] / 1000:8,.0f} kB{row['seconds'] * 1000:11,.0f} ms")
    goals = {
        "every page loads less than 1 MB": all(row["bytes"] < GOAL_BYTES for row in found.values()),
        "every page is drawn in less than 1 s": all(row["seconds"] < GOAL_S for row in found.values()),
    }
    for goal, met in goals.items():
        print(f"goal: {goal}: {'not judged in quick mode' if options.quick else 'met' if met else 'not met'}")
    report: dict[str, Any] = {"quick": options.quick, "pages": found, "goals": goals}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), "utf-8")
    return 0 if options.quick or all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
