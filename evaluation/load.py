"""How long do `history`, `compare --from-results` and `run NEW` take to answer over a large store, and in how much memory?

Shows: the processor time, wall time and memory of each command over a made-up store, the first time and again: the
history of everything and of one case, the newest stored comparison and one of long ago, and a `run` that finds nothing
to measure. Goal: less than 2 s and 500 MB for each that is asked again, over 10,000 commits × 500 cases × 5 machines.

How: made_up_store.py writes a git repository, results and readings to a temporary folder, the same each time; this
adds comparisons, and a suite that has the same cases. Every measured call is the whole program in a process of
its own. Memory is the resident size of the program and all its processes together. The goal is judged by processor
time, which hardly depends on what else the machine does. A smaller store is chosen with --commits, --cases and
--machines; without readings (--no-readings) the full size needs some 8 GB instead of 50 GB, and `run NEW` is not asked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import made_up_store
import numpy as np
from made_up_store import Store
from publish_speed import Incomplete, measured

from mlx_velocity import comparisons, machine
from mlx_velocity.comparison import End, Header, PairReading, Side
from mlx_velocity.records import Environment

GOAL_S, GOAL_BYTES = 2.0, 500e6
PAIRS = 12
PROGRAM = "mlx_velocity"
ASKED = "machine-0"


def write(folder: Path, store: Store, comparisons_kept: int) -> list[str]:
    """The store, with what `run` and `compare` look for; returns the commits, oldest first."""
    commits = made_up_store.write(folder, store)
    # `run` refuses results of another machine than this one.
    described = folder / "results" / made_up_store.TRACK / ASKED / "machine.json"
    described.write_text(machine.text_of(machine.describe(ASKED)), "utf-8")
    path = folder / "asv.conf.json"
    settings = json.loads(path.read_text("utf-8"))
    settings["mlx_velocity"] |= {"overlay": ["made_up"], "modules": ["made_up"], "inherit": True}
    path.write_text(json.dumps(settings), "utf-8")
    _suite(folder, store)
    _comparisons(folder, store, comparisons_kept)
    return commits


def _suite(folder: Path, store: Store) -> None:
    """The benchmarks that the results are of."""
    files: dict[str, list[str]] = {"__init__": []}
    for item in made_up_store.suite(store):
        module, name, _ = item["name"].split(".")
        files.setdefault(module, []).append(
            f"class {name}:\n    version, rounds, timeout = '1', {made_up_store.LAUNCHES}, 60.0\n"
            f"    params = {[[eval(text) for text in values] for values in item['params']]!r}\n"
            f"    param_names = {item['param_names']!r}\n\n"
            f"    def time_case(self{''.join(f', {name}' for name in item['param_names'])}):\n        pass\n"
        )
    for module, classes in files.items():
        (folder / "benchmarks" / f"{module}.py").write_text("\n".join(classes), "utf-8")


def _comparisons(folder: Path, store: Store, count: int) -> None:
    """Stored comparisons of the machine, an hour apart, each of other sides."""
    place = folder / "results" / made_up_store.TRACK / ASKED / "comparisons"
    environment = Environment(
        made_up_store.ENVIRONMENT, "cpu", "3.11", [], {f"package-{n}": "1.0" for n in range(40)}
    )
    cases = [(item["name"], params) for item in made_up_store.suite(store)
             for params in made_up_store.params_of(item)]  # fmt: skip
    random = np.random.default_rng(0)
    for number in range(count):
        started = f"2026-01-{number // 24 % 28 + 1:02d}T{number % 24:02d}:{number // 672:02d}:00Z"
        sides = [Side(f"side-{number + end}", "", "made up", environment) for end in (0, 1)]
        header = Header(made_up_store.TRACK, ASKED, "cpu", "tiny", started, 0.02, 0.01, number, *sides)
        # The ones between the first and the newest are there to be passed over.
        pairs = PAIRS if number in (0, count - 1) else 1
        lines: list[comparisons.Record] = [header]
        for pair in range(1, pairs + 1):
            for name, params in cases:
                base, head = (1 + 0.01 * random.standard_normal((2, 2, 3))).tolist()
                lines.append(PairReading(pair, name, "1", params, "seconds", "ABBA", base, head, started, 0.5,
                                         control={"copy": 0.01, "product": 0.02}, sensors={"load_1m": 0.5}))  # fmt: skip
        comparisons.append(comparisons.path_for(place, header), [*lines, End(3600.0, False)])


def questions(store: Store) -> dict[str, list[str]]:
    """Name → arguments of the program."""
    one = made_up_store.suite(store)[-1]["name"].replace(".", r"\.") + "$"
    asked = {
        "history": ["history", "--quiet"],
        "history of one case": ["history", one, "--quiet"],
        "compare --from-results": ["compare", "--from-results", "--machine", ASKED, "--quiet"],
        "the same, long ago": [
            "compare",
            "side-0",
            "side-1",
            "--from-results",
            "--machine",
            ASKED,
            "--quiet",
        ],
    }
    if store.readings:
        # Without readings nothing says that our launches were made: it would measure all of it.
        asked["run NEW"] = ["run", "NEW", "--profile", "all", "--machine", ASKED, "--no-control"]
    return asked


def ask(arguments: list[str], folder: Path) -> dict[str, float]:
    """What a call took; raises Incomplete where it did not answer."""
    # 1 and 3 are answers of history and compare.
    return measured([PROGRAM, *arguments], folder, fine=(0, 1, 3))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small store; judges nothing")
    parser.add_argument("--json", type=Path, help="keep all figures")
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--machines", type=int, default=5)
    parser.add_argument(
        "--comparisons", type=int, default=500, help="stored ones of the machine that is asked for"
    )
    parser.add_argument("--readings", action=argparse.BooleanOptionalAction, default=True,
                        help="with our readings beside the results")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="keep the store there, and use what is there already")
    options = parser.parse_args()
    if min(options.commits, options.cases) < 2 or min(options.machines, options.comparisons) < 1:
        parser.error("commits and cases must be at least 2, machines and comparisons at least 1")
    store, kept = (
        Store(options.commits, options.cases, options.machines, readings=options.readings),
        options.comparisons,
    )
    if options.quick:
        store, kept = Store(20, 4, 2, parametrised=1, readings=True), 3
    report: dict[str, Any] = {
        "quick": options.quick, "store": dataclasses.asdict(store), "comparisons": kept, "load_1m": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("asv", "mlx-velocity")}, "rows": {}, "goals": {},
    }  # fmt: skip
    print(
        f"{store.commits:,} commits × {store.benchmarks:,} benchmarks × {store.machines} machines, {kept:,} comparisons"
    )
    print(f"{'':34}{'processor':>12}{'wall':>10}{'memory':>10}")
    try:
        with tempfile.TemporaryDirectory(prefix="load-") as place:
            folder = options.folder or Path(place) / "store"
            if not (folder / "asv.conf.json").exists():
                write(folder, store, kept)
            for name, arguments in questions(store).items():
                for time in ("first", "again"):
                    row = report["rows"][f"{name}, {time}"] = ask(arguments, folder)
                    print(f"{f'{name}, {time}':34}{row['processor_s']:10.1f} s{row['wall_s']:8.1f} s"
                          f"{row['memory_bytes'] / 1e6:7.0f} MB", flush=True)  # fmt: skip
                report["goals"][name] = row["processor_s"] < GOAL_S and row["memory_bytes"] < GOAL_BYTES
    except Incomplete as error:
        print(f"load: {error}", file=sys.stderr)
        return 4
    print()
    for name, met in report["goals"].items():
        print(f"goal: {name}, asked again, in less than {GOAL_S:g} s and {GOAL_BYTES / 1e6:g} MB: "
              f"{'not judged in quick mode' if options.quick else 'met' if met else 'not met'}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), "utf-8")
    return 0 if options.quick or all(report["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
