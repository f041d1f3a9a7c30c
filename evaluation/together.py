"""Two calls at once: does either spoil the other's results?

Shows, for two `run`s and for a `run` beside a `compare`, a `bisect` or a `publish`: how often the second one, started at a random
moment of the first, went on beside it, and how often it said who holds the results; and what was found afterwards. Goal: no
sample under another commit, no file spoiled, no line lost, and when both are asked again the results of undisturbed calls.

How: on the project of faults.py, whose commits say which one they are. Every second time the first call is killed after a while,
so that a lock whose owner died is met too.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from faults import LIMIT_S, Command, commands, conclude, damage, environment, fresh, program
from toy_project import Project, make

BESIDE = ("run", "compare", "bisect", "publish")
TIMES = 12
FINE = (0, 1)
HELD = re.compile(r"mlx-velocity: .*process \d+ since .+; .+")
"""What the second one says where it does not wait: who holds what, since when, and how to go on."""


def start(project: Project, command: Command) -> subprocess.Popen[str]:
    """The command in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlx_velocity", *command.arguments], cwd=project.folder, env=environment(project),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def at_once(
    project: Project, first: Command, second: Command, after_s: float, kill: bool
) -> tuple[str, list[str]]:
    """How the second one ended, and what was wrong."""
    holder = start(project, first)
    time.sleep(after_s)
    beside = start(project, second)
    if kill:
        time.sleep(after_s / 2)
        holder.kill()
    said, _ = beside.communicate(timeout=LIMIT_S)
    other, _ = holder.communicate(timeout=LIMIT_S)
    wrong = []
    how = "went on"
    if beside.returncode not in FINE:
        how = "said who holds it" if HELD.search(" ".join(said.split())) else f"exit {beside.returncode}"
        if how.startswith("exit"):
            wrong.append(f"the second says: {said.strip().splitlines()[-1:]}")
    if not kill and holder.returncode not in FINE:
        wrong.append(f"the first ends with {holder.returncode}: {other.strip().splitlines()[-1:]}")
    for command in (first, second):
        wrong += damage(project, command, {})
    for text in (said, other):
        if "Traceback" in text:
            wrong.append(f"a traceback: {text.strip().splitlines()[-1]}")
    return how, wrong


def main() -> int:
    """Start two at a time, print, and return 1 where anything was spoiled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two runs at once, twice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keep all figures")
    options = parser.parse_args()
    draw, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="together-") as place:
        project = make(Path(place), 3 if options.quick else 5)
        by_name = {command.name: command for command in commands(project)}
        run = by_name["run"]
        fresh(project, run)
        began = time.monotonic()
        program(project, run.arguments)
        usual_s = time.monotonic() - began
        for name in BESIDE[:1] if options.quick else BESIDE:
            second = by_name[name]
            fresh(project, second)
            program(project, run.arguments)
            program(project, second.arguments)
            expected = [command.says(project) for command in (run, second)]
            row: dict[str, Any] = {
                "beside": name,
                "times": 2 if options.quick else TIMES,
                "how": Counter(),
                "wrong": [],
            }
            for number in range(row["times"]):
                for command in (second, run):
                    fresh(project, command)
                if name == "publish":
                    second.prepare(project)
                how, wrong = at_once(
                    project, run, second, draw.uniform(0.05, 0.9) * usual_s, kill=number % 2 == 1
                )
                row["how"][how] += 1
                for command in (run, second):
                    done = program(project, command.arguments)
                    if done.returncode not in FINE:
                        wrong.append(
                            f"asked again, {command.name} ends with {done.returncode}: {done.stderr[-200:]}"
                        )
                if [command.says(project) for command in (run, second)] != expected:
                    wrong.append("other results than undisturbed")
                row["wrong"] += wrong
            rows.append(row)
            ways = ", ".join(f"{times} {how}" for how, times in sorted(row["how"].items()))
            print(
                f"run beside {name:8} {row['times']:3} times: {ways}; {len(row['wrong'])} wrong", flush=True
            )
    return conclude({"quick": options.quick, "rows": rows}, "nothing spoiled", options.json)


if __name__ == "__main__":
    sys.exit(main())
