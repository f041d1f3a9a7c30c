"""What is lost where the disk is full, over its quota, or read-only?

Shows, for `run`, `compare`, `bisect` and `publish`: how often each met a disk that refused, how it ended, and what was found
afterwards. Goal: a line that says what is wrong, no traceback, nothing that was stored gone or half written, and once
there is room the same call ends with the results of one that was left alone.

How: on the project of faults.py. *Full*: the folder that a command writes to is a file system of its own of 4 KiB, 8 KiB and so on, until
all that it writes fits: so it is full at each page in turn. *Refused*: strace makes the first, second … call of fsync,
rename and pwrite64 of the program fail, each once. *Read-only*: nothing can be written at all. It needs root (mount) and strace.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from faults import LIMIT_S, Command, commands, conclude, contents, damage, environment, fresh, program
from toy_project import Project, make

PAGE_KIB = 4
ROOM_KIB = 65_536
COMMANDS = ("run", "compare", "bisect", "publish")
CALLS = {"fsync": "EDQUOT", "rename": "ENOSPC", "pwrite64": "ENOSPC"}
"""Calls that fail, and how; write() itself fails on the full disk."""
FINE = (0, 1)
SAID = (2, 3, 4)
"""Exit codes of a call that could not do its work."""


@contextmanager
def mounted(folder: Path, kib: int) -> Iterator[None]:
    """A file system of so many KiB in place of a folder, which keeps what it holds."""
    held = Path(tempfile.mkdtemp(prefix="disk-"))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, held, dirs_exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(held, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(held)
        shutil.copytree(folder, held)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    shutil.copytree(held, folder, dirs_exist_ok=True)
    shutil.rmtree(held)


def remounted(folder: Path, options: str) -> None:
    """Give a mounted folder other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def ended(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is wrong with how a call ended."""
    text = done.stdout + done.stderr
    wrong = []
    if "Traceback" in text:
        wrong.append(f"a traceback: {text.strip().splitlines()[-1][:150]}")
    if done.returncode not in (*FINE, *SAID):
        wrong.append(f"exit {done.returncode}")
    if done.returncode in SAID and not re.search(r"mlx-velocity: .+; .+", done.stderr + done.stdout):
        wrong.append(f"no line that says what to do: {text.strip().splitlines()[-1:]}")
    return wrong


def goes_on(project: Project, command: Command, expected: Any) -> list[str]:
    """What is wrong with the same call now that there is room."""
    done = program(project, command.arguments)
    if done.returncode not in FINE:
        return [f"the next call fails with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"]
    return [] if command.says(project) == expected else ["other results than undisturbed"]


def full(
    project: Project, command: Command, expected: Any, turns: Iterable[int]
) -> Iterator[tuple[int, list[str]]]:
    """Exit code and what was wrong, with a disk of so many pages, turn by turn until all fits."""
    (folder,) = (project.folder / name for name in command.stored)
    for kib in (PAGE_KIB * pages for pages in turns):
        fresh(project, command)
        with mounted(folder, kib):
            before = contents(project, command.stored)
            done = program(project, command.arguments)
            wrong = ended(done) + damage(project, command, before)
            remounted(folder, f"size={ROOM_KIB}k")
            wrong += goes_on(project, command, expected)
        yield done.returncode, [f"{kib} KiB: {told}" for told in wrong]
        if done.returncode in FINE:
            return


def read_only(project: Project, command: Command, expected: Any) -> Iterator[tuple[int, list[str]]]:
    """Exit code and what was wrong, where nothing can be written."""
    (folder,) = (project.folder / name for name in command.stored)
    fresh(project, command)
    with mounted(folder, ROOM_KIB):
        remounted(folder, "ro")
        done = program(project, command.arguments)
        wrong = ended(done)
        remounted(folder, "rw")
        wrong += goes_on(project, command, expected)
    yield done.returncode, wrong


def refused(
    project: Project, command: Command, expected: Any, call: str, turns: Iterable[int]
) -> Iterator[tuple[int, list[str]]]:
    """Exit code and what was wrong, with the call of that number of a kind failing, turn by turn."""
    for number in turns:
        fresh(project, command)
        before = contents(project, command.stored)
        log = project.folder / "strace.log"
        done = subprocess.run(
            ["strace", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:error={CALLS[call]}:when={number}",
             sys.executable, "-m", "mlx_velocity", *command.arguments],
            cwd=project.folder, env=environment(project), timeout=LIMIT_S, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "(INJECTED)" not in log.read_text("utf-8", "replace"):
            return
        wrong = ended(done) + damage(project, command, before) + goes_on(project, command, expected)
        yield done.returncode, [f"{call} {number}: {told}" for told in wrong]


def counted(name: str, part: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """The same, with a line for each hundred and for each that went wrong: a part may take half an hour."""
    for number, found in enumerate(part, 1):
        if found[1] or number % 100 == 0:
            print(f"  {name}: {number} so far {'; '.join(found[1])}", file=sys.stderr, flush=True)
        yield found


def share(text: str) -> tuple[int, int]:
    """The two numbers of `1/2`."""
    number, of = map(int, text.split("/"))
    if not 1 <= number <= of:
        raise ValueError(text)
    return number, of


def main() -> int:
    """Disturb, print, and return 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few sizes and calls of `run`")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="only this command")
    parser.add_argument(
        "--share", type=share, default=(1, 1), metavar="I/N", help="each Nth size and call, from the Ith on"
    )
    parser.add_argument("--json", type=Path, help="keep all figures")
    options = parser.parse_args()
    needed = (["unshare", "-m", "true"], ["strace", "-o", os.devnull, "true"])
    if any(not shutil.which(words[0]) or subprocess.run(words, check=False).returncode for words in needed):
        print(
            "disk: it mounts file systems and traces calls: run it as root, with strace installed",
            file=sys.stderr,
        )
        return 2
    wanted = options.only or (COMMANDS[:1] if options.quick else COMMANDS)
    first, step = options.share
    sizes, calls = ((8, 8), (1, 50)) if options.quick else ((first, step), (first, step))
    rows = []
    print(
        f"{'command':10}{'disk':12}{'times':>6}{'refused and said':>18}{'went well':>11}{'wrong':>7}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="disk-") as place:
        project = make(Path(place), 2 if options.quick else 4)
        for command in commands(project):
            if command.name not in wanted:
                continue
            fresh(project, command)
            done = program(project, command.arguments)
            if done.returncode not in FINE:
                raise SystemExit(f"disk: {command.name} fails by itself:\n{done.stdout}{done.stderr}")
            expected = command.says(project)
            parts = {
                "full": full(project, command, expected, count(*sizes)),
                "read-only": read_only(project, command, expected),
            }
            parts |= {
                f"{call} fails": refused(project, command, expected, call, count(*calls)) for call in CALLS
            }
            for name, part in parts.items():
                found = list(counted(f"{command.name}, {name}", part))
                row = {"command": command.name, "disk": name, "times": len(found),
                       "said": sum(code in SAID for code, _ in found), "well": sum(code in FINE for code, _ in found),
                       "wrong": [told for _, all_told in found for told in all_told]}  # fmt: skip
                rows.append(row)
                print(f"{row['command']:10}{row['disk']:12}{row['times']:6}{row['said']:18}{row['well']:11}"
                      f"{len(row['wrong']):7}", flush=True)  # fmt: skip
    return conclude({"quick": options.quick, "rows": rows}, "nothing lost", options.json)


if __name__ == "__main__":
    sys.exit(main())
