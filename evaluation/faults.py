"""What is lost when mlx-velocity is killed, and does it go on?

Shows, for `run`, `compare`, `bisect`, `publish` and `releases --update`: how often each was killed (SIGKILL) or
interrupted (SIGINT) at a random moment, and what was found afterwards. Goal: nothing. No process and no lock left, no
file that can't be read, no measurement gone that was there, none under another commit, and in the end exactly the
results of a run that was left alone.

How: the real program as a process of its own, on a small project whose commits say which one they are (toy_project.py).
A command is started and killed at a moment drawn from its usual duration, again and again, until it ends by itself; then what
it stored is compared with what it stores undisturbed, and it begins anew, until there were enough kills. After
each kill the files are read: what was whole before must be whole now, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from toy_project import Project, make, size

ROOT = Path(__file__).resolve().parent.parent
KILLS = {"run": 90, "compare": 40, "bisect": 40, "publish": 40, "releases": 10}
INTERRUPTS = {"run": 20, "compare": 10, "bisect": 10, "publish": 10}
ANEW = 0.3
"""How often environments are made again too, so that kills meet that as well."""
GONE_S = 10.0
"""In which a process that lost its runner must have ended."""
LIMIT_S = 300.0
INTERRUPTED = 130
MACHINE = ["--machine", "faulty"]
RUN = ["run", "ALL", "--no-control", *MACHINE]
COPY = "copy"
"""Where a copy of the package lies whose list of releases is updated."""
TEMPORARY = "t"
"""The commands' temporary folder; a short name, since a socket's path may have some 100 characters."""
SHORTER = 3
"""Releases that are taken from that list, to be found again."""


@dataclass
class Command:
    """What is disturbed: its arguments, where its results lie, and what they say when all went well."""

    name: str
    arguments: list[str]
    stored: list[str]
    """Folders of the project that it writes to."""
    says: Callable[[Project], Any]
    """What its results say, without what differs from time to time."""
    grows: bool = True
    """Its files only grow: what was in them stays at their beginning."""
    prepare: Callable[[Project], None] = lambda project: None
    """Makes what it needs."""


def commands(project: Project) -> list[Command]:
    """What is disturbed, on the commits of the project."""
    first, last = project.commits[0], project.commits[-1]
    few = ["--bench", "track_bytes", "--no-control", *MACHINE]
    return [
        Command("run", [*RUN, "--launches", "2"], ["results"], coverage),
        Command("compare", ["compare", first, last, *few, "--max-samples", "24"], ["results"], compared),
        Command("bisect", ["bisect", first, last, "--case", "suite.Stage.track_bytes(1)", "--no-control", *MACHINE],
                ["results"], culprit),
        Command("publish", ["publish"], ["html"], site, grows=False, prepare=with_results),
        Command("releases", ["releases", "--update"], [COPY], listed, grows=False, prepare=own_copy),
    ]  # fmt: skip


def with_results(project: Project) -> None:
    """Results to publish."""
    if not (project.folder / "results").exists():
        done = program(project, [*RUN, "--launches", "1"])
        assert done.returncode == 0, done.stderr


def own_copy(project: Project) -> None:
    """A copy of the package whose list of releases may be written, without its newest ones."""
    shutil.copytree(ROOT / "src", project.folder / COPY, ignore=shutil.ignore_patterns("__pycache__"))
    path = project.folder / COPY / "mlx_velocity" / "releases.json"
    text = json.loads(path.read_text("utf-8"))
    text["releases"] = text["releases"][:-SHORTER]
    path.write_text(json.dumps(text), "utf-8")


def listed(project: Project) -> Any:
    """The releases that the list has."""
    return json.loads((project.folder / COPY / "mlx_velocity" / "releases.json").read_text("utf-8"))[
        "releases"
    ]


def coverage(project: Project) -> Any:
    """How many launches measured each case of each commit; raises AssertionError for a sample of another commit."""
    counted: Counter[str] = Counter()
    for path in sorted(project.folder.glob("results/toy/faulty/*.readings.jsonl")):
        number = next(n for n, commit in enumerate(project.commits) if path.name.startswith(commit[:8]))
        for line in path.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            if record.get("kind") == "measurement":
                counted[f"{number} {record['benchmark']} {record['params']}"] += 1
                if "track_bytes" in record["benchmark"]:
                    assert record["samples"] == [size(number)], f"{path.name} holds {record['samples']}"
    return dict(counted)


def compared(project: Project) -> Any:
    """Which cases the newest comparison has pairs of."""
    files = sorted(project.folder.glob("results/**/*.comparison.jsonl"))
    newest = [json.loads(line) for line in files[-1].read_bytes().split(b"\n")[:-1]] if files else []
    return sorted({str(record["params"]) for record in newest if record.get("kind") == "pair"})


def culprit(project: Project) -> Any:
    """The commit that the search ended with."""
    done = program(project, [*commands(project)[2].arguments, "--json", "-"])
    found = json.loads(done.stdout)
    return found["outcome"], [point["commit"] for one in found["culprits"] for point in one["commits"]]


def site(project: Project) -> Any:
    """What was published, but for when."""
    pages = project.folder / "html"
    return sorted(str(path.relative_to(pages)) for path in pages.rglob("*.json"))


def program(project: Project, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """A command that is left alone."""
    return subprocess.run(
        [sys.executable, "-m", "mlx_velocity", *arguments], cwd=project.folder, env=environment(project), timeout=LIMIT_S,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def environment(project: Project) -> dict[str, str]:
    copy = project.folder / COPY
    temporary = project.folder / TEMPORARY
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": str(copy if copy.exists() else ROOT / "src"), "COLUMNS": "160",
            "TMPDIR": str(temporary)}  # fmt: skip


def contents(project: Project, folders: list[str]) -> dict[str, bytes]:
    """Every whole line of the files that only grow."""
    return {
        str(path): path.read_bytes().rpartition(b"\n")[0]
        for folder in folders
        for path in sorted((project.folder / folder).rglob("*.jsonl"))
    }


def disturbed(
    project: Project, command: Command, after_s: float, what: signal.Signals
) -> tuple[bool, list[str]]:
    """Start the command and signal it: whether it ended by itself before, and what was wrong afterwards."""
    before = contents(project, command.stored)
    shutil.rmtree(project.folder / TEMPORARY, ignore_errors=True)
    process = psutil.Popen(
        [sys.executable, "-m", "mlx_velocity", *command.arguments],
        cwd=project.folder, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=after_s)
        ended = True
    except subprocess.TimeoutExpired:
        ended = False
        with_it = process.children(recursive=True)
        process.send_signal(what)
        output, _ = process.communicate(timeout=LIMIT_S)
    wrong = []
    if not ended:
        _, alive = psutil.wait_procs(with_it, timeout=GONE_S)
        wrong += [f"{len(alive)} processes left" for _ in alive[:1]]
    # Ended by the signal itself, without a word of Python, is 130 to a shell too: before Python minds signals, or where
    # the interrupt came inside of exec(), which CPython remembers to its end.
    orderly = process.returncode in (INTERRUPTED, 0, 1, -what)
    if what == signal.SIGINT and not ended and not orderly:
        wrong.append(f"exit {process.returncode} after Ctrl-C: {output.strip().splitlines()[-3:]}")
    if ended and process.returncode not in (0, 1):
        wrong.append(f"exit {process.returncode}: {output.strip().splitlines()[-1:]}")
    # What a killed process has in the temporary folder is the system's to remove.
    left = [path.name for path in (project.folder / TEMPORARY).iterdir() if path.name != "mlx"]
    wrong += ["it ended and left temporary files" for _ in left[:1] if ended]
    if "Traceback" in output:
        wrong.append(f"a traceback: {output.strip().splitlines()[-1]}")
    return ended, wrong + damage(project, command, before)


def damage(project: Project, command: Command, before: dict[str, bytes]) -> list[str]:
    """What is broken or gone of what is stored."""
    wrong = []
    after = contents(project, command.stored)
    for path, text in before.items() if command.grows else ():
        if not after.get(path, b"").startswith(text):
            wrong.append(f"{Path(path).name} lost lines")
    for folder in command.stored:
        for path in sorted((project.folder / folder).rglob("*")):
            try:
                if path.suffix == ".json":
                    json.loads(path.read_bytes())
                elif path.suffix == ".jsonl":
                    [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
            except ValueError:
                wrong.append(f"{path.name} can't be read")
    if command.name == "run":
        try:
            coverage(project)
        except AssertionError as error:
            wrong.append(str(error))
    return wrong


def ordeal(
    project: Project, command: Command, signals: int, what: signal.Signals, draw: random.Random
) -> dict[str, Any]:
    """Disturb a command so many times; what came of it."""
    for _ in range(2):
        # The second time without making environments: kills are spread over what a call usually takes.
        fresh(project, command)
        began = time.monotonic()
        done = program(project, command.arguments)
        usual_s = time.monotonic() - began
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{command.name} fails by itself:\n{done.stdout}{done.stderr}")
    expected = command.says(project)
    found: dict[str, Any] = {"command": command.name, "signal": what.name, "usual_s": usual_s, "signals": 0,
                             "ended": 0, "differences": 0, "wrong": []}  # fmt: skip
    fresh(project, command)
    while found["signals"] < signals:
        ended, wrong = disturbed(project, command, draw.uniform(0.05, 1.0) * usual_s, what)
        found["signals"] += not ended
        found["wrong"] += wrong
        if ended:
            found["ended"] += 1
            found["differences"] += command.says(project) != expected
            fresh(project, command, environments_too=draw.random() < ANEW)
        print(f"\r{command.name:10}{what.name:9}{found['signals']:4} of {signals}, "
              f"{len(found['wrong'])} wrong", end="", file=sys.stderr, flush=True)  # fmt: skip
    # Whatever state the last one left, the next call goes on to the end.
    done = program(project, command.arguments)
    found["ended"] += 1
    if done.returncode not in (0, 1):
        found["wrong"].append(f"the next call fails: {done.stderr.strip().splitlines()[-1:]}")
    found["differences"] += command.says(project) != expected
    print(file=sys.stderr)
    return found


def fresh(project: Project, command: Command, environments_too: bool = False) -> None:
    """Nothing stored but what the command needs; without its environments as on a new machine."""
    for folder in [*command.stored, *([".asv"] if environments_too else [])]:
        shutil.rmtree(project.folder / folder, ignore_errors=True)
    command.prepare(project)


def conclude(report: dict[str, Any], goal: str, path: Path | None) -> int:
    """Print what was wrong and whether the goal is met, keep the report where asked; the exit code."""
    rows = report["rows"]
    for text, times in Counter(text for row in rows for text in row["wrong"]).most_common():
        print(f"  {times} × {text}")
    good = not any(row["wrong"] or row.get("differences") for row in rows)
    print(f"goal: {goal}: {'met' if good else 'not met'}")
    if path:
        path.write_text(json.dumps(report, indent=1), "utf-8")
    return 0 if good else 1


def main() -> int:
    """Disturb, print, and return 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two kills and an interrupt of `run` and `publish`"
    )
    parser.add_argument("--only", choices=sorted(KILLS), action="append", help="only this command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keep all figures")
    options = parser.parse_args()
    kills, interrupts = KILLS, INTERRUPTS
    if options.quick:
        kills, interrupts = {"run": 2, "publish": 2}, {"run": 1}
    draw, found = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        project = make(Path(place), 3 if options.quick else 6)
        for command in commands(project):
            if options.only and command.name not in options.only:
                continue
            for what, numbers in ((signal.SIGKILL, kills), (signal.SIGINT, interrupts)):
                if command.name in numbers:
                    found.append(ordeal(project, command, numbers[command.name], what, draw))
    print(f"{'command':10}{'signal':10}{'times':>6}{'usual':>9}{'ended':>7}{'other results':>15}{'wrong':>7}")
    for row in found:
        print(f"{row['command']:10}{row['signal']:10}{row['signals']:6}{row['usual_s']:7.1f} s{row['ended']:7}"
              f"{row['differences']:15}{len(row['wrong']):7}")  # fmt: skip
    return conclude(
        {"quick": options.quick, "seed": options.seed, "rows": found}, "nothing lost", options.json
    )


if __name__ == "__main__":
    sys.exit(main())
