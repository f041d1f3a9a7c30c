"""How fast is `mlx-velocity publish` beside stock `asv publish`, and how far does it reach?

Shows: the wall time, processor time and memory of both over the same made-up results (the first time, again without
a change, and after one new commit), whether both published the same, and ours alone on a history that is too large
for asv. Goal: at least 10 times faster than asv the first time, less than 5 s after one new commit, with the same
data published; and 10,000 commits × 500 benchmarks in less than 60 s and 2 GB.

How: made_up_store.py writes a git repository and result files with samples to a temporary folder, the same each time.
Every measured call is the whole program in a process of its own. Ours goes first, so that whatever the page cache
then holds helps asv. Memory is the resident size of the program and all its processes together, looked at
twenty times a second; what processes share counts for each. --readings writes our readings beside the results, which asv
does not read: what it costs us to know launches, failures and sensors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import made_up_store
import psutil
import same_tree
from made_up_store import Store

SPEEDUP_GOAL, AGAIN_GOAL_S = 10.0, 5.0
LARGE_GOAL_S, LARGE_GOAL_BYTES = 60.0, 2e9
LOOK_S = 0.05
MEMORY_EVERY = 10
"""Looks from one at the memory to the next."""
PUBLISH = ["mlx_velocity", "publish"]
STOCK = ["asv", "publish", "--no-pull", "--html-dir", "stock"]


class Incomplete(Exception):
    """A side did not do its work."""


def measured(module: list[str], folder: Path, fine: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Seconds of wall and processor time, and the most bytes of memory, of a module run as a program; Incomplete
    where it ends with another code than those that are `fine`.
    """
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        process = psutil.Popen(
            [sys.executable, "-m", *module], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
        most, used, looks = 0, {}, 0
        while process.poll() is None:
            resident = 0
            for one in [process, *children(process)]:
                try:
                    # Looking at memory costs the one that is looked at some milliseconds.
                    resident += held_by(one) if looks % MEMORY_EVERY == 0 else 0
                    times = one.cpu_times()
                    used[one.pid] = times.user + times.system
                except psutil.Error:
                    continue
            most, looks = max(most, resident), looks + 1
            time.sleep(LOOK_S)
    wall = time.monotonic() - began
    if process.returncode not in fine:
        raise Incomplete(
            f"{module[0]} ended with {process.returncode}:\n{(folder / 'output.txt').read_text()[-2000:]}"
        )
    return {"wall_s": wall, "processor_s": sum(used.values()), "memory_bytes": float(most)}


def held_by(process: psutil.Process) -> int:
    """Bytes of memory, of what several processes share each its part (where the system says so)."""
    return int(process.memory_full_info().pss if psutil.LINUX else process.memory_info().rss)


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def beside_asv(folder: Path, store: Store) -> dict[str, Any]:
    """Both sides over one history, and what differs in what they published."""
    commits = made_up_store.write(folder, store)
    rows = {"first": measured(PUBLISH, folder), "unchanged": measured(PUBLISH, folder)}
    made_up_store.add(folder, store, commits)
    rows["one commit more"] = measured(PUBLISH, folder)
    rows["asv"] = measured(STOCK, folder)
    site = folder / ".asv" / "html" / made_up_store.TRACK / "asv"
    return {"rows": rows, "differences": same_tree.differences(site, folder / "stock"),
            "speedup": rows["asv"]["wall_s"] / rows["first"]["wall_s"]}  # fmt: skip


def alone(folder: Path, store: Store) -> dict[str, Any]:
    """Ours over a large history, which is made where the folder does not hold it yet."""
    if (folder / "asv.conf.json").exists():
        done = subprocess.run(
            ["git", "rev-list", "--reverse", "main"],
            cwd=folder / "repo",
            capture_output=True,
            text=True,
            check=True,
        )
        commits = done.stdout.split()
    else:
        commits = made_up_store.write(folder, store)
    rows = {"first": measured(PUBLISH, folder)}
    made_up_store.add(folder, store, commits)
    rows["one commit more"] = measured(PUBLISH, folder)
    return {"rows": rows}


def show(title: str, store: Store, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}: {store.commits:,} commits × {store.benchmarks:,} benchmarks"
          f"{', with readings' if store.readings else ''}")  # fmt: skip
    print(f"{'':20}{'wall':>10}{'processor':>12}{'memory':>10}")
    for name, row in rows.items():
        print(
            f"{name:20}{row['wall_s']:8.1f} s{row['processor_s']:10.1f} s{row['memory_bytes'] / 1e9:7.2f} GB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small history of each kind; judges nothing")
    parser.add_argument("--json", type=Path, help="keep all figures")
    parser.add_argument("--readings", action="store_true", help="with readings beside the results")
    parser.add_argument("--only", choices=("asv", "large"), help="one of the two parts")
    parser.add_argument("--folder", type=Path, help="where the large history lies, or is to lie")
    parser.add_argument("--commits", type=int, default=2000, help="of the part beside asv")
    parser.add_argument("--benchmarks", type=int, default=300, help="of the part beside asv")
    options = parser.parse_args()
    if min(options.commits, options.benchmarks) < 2:
        parser.error("commits and benchmarks must be at least 2")
    small = Store(options.commits, options.benchmarks, readings=options.readings)
    large = Store(10_000, 500, readings=options.readings)
    if options.quick:
        small, large = Store(60, 6, parametrised=2, readings=True), Store(120, 12)
    report: dict[str, Any] = {
        "quick": options.quick, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1m": os.getloadavg()[0], "versions": {name: version(name) for name in ("asv", "mlx-velocity")},
        "goals": {},
    }  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(prefix="publish-speed-") as place:
            if options.only != "large":
                found = report["beside_asv"] = beside_asv(Path(place) / "small", small)
                show("Beside asv", small, found["rows"])
                print(f"asv takes {found['speedup']:.1f} times as long as ours the first time; "
                      f"{len(found['differences'])} differences in what was published")  # fmt: skip
                for line in found["differences"][:10]:
                    print(f"  {line}")
                report["goals"] |= {
                    f"at least {SPEEDUP_GOAL:g} times faster than asv": found["speedup"] >= SPEEDUP_GOAL,
                    f"less than {AGAIN_GOAL_S:g} s after one new commit":
                        found["rows"]["one commit more"]["wall_s"] < AGAIN_GOAL_S,
                    "the same data published": not found["differences"],
                }  # fmt: skip
            if options.only != "asv":
                found = report["large"] = alone(options.folder or Path(place) / "large", large)
                show("Large", large, found["rows"])
                first = found["rows"]["first"]
                report["goals"] |= {
                    f"large: less than {LARGE_GOAL_S:g} s": first["wall_s"] < LARGE_GOAL_S,
                    f"large: less than {LARGE_GOAL_BYTES / 1e9:g} GB": first["memory_bytes"]
                    < LARGE_GOAL_BYTES,
                }
    except Incomplete as error:
        print(f"publish_speed: {error}", file=sys.stderr)
        return 4
    print()
    for goal, met in report["goals"].items():
        print(f"goal: {goal}: {'not judged in quick mode' if options.quick else 'met' if met else 'not met'}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), "utf-8")
    return 0 if options.quick or all(report["goals"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
