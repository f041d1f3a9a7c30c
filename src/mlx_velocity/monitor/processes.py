"""The processes that a command started, whatever became of their parents, and those that outlive it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from mlx_velocity import markers

TOP = 3
"""Processes that a sample names: those that compute most, and those that hold most memory."""
GRACE_S = 0.5
"""How long what is left of a command may take to end by itself before it is called an orphan."""
COMMAND_CHARACTERS = 200

Reading = dict[str, Any]


class Tree:
    """The processes of a command: those that it started, and those that inherited its marker file.

    The second rule finds a process whose parents ended before anybody looked. Each process of the machine is
    asked once, when it appears, so that a look costs little. It is empty until `begin`; a look before
    that passes over all that runs already.
    """

    def __init__(self, marker_file: str) -> None:
        self._root: int | None = None
        self._token = marker_file
        self._seen: set[int] = set()
        self._members: dict[int, psutil.Process] = {}
        self._spent: dict[int, float] = {}
        self._looked: float | None = None

    def begin(self, root: int) -> None:
        """The process of the command has been started."""
        self._root = root

    def look(self) -> None:
        """See who came and who went."""
        running = set(psutil.pids())
        for pid in self._members.keys() - running:
            del self._members[pid]
            self._spent.pop(pid, None)
        # A child has a higher number than its parent, but for the rare time that numbers begin anew.
        for pid in sorted(running - self._seen):
            if self._root is not None and pid != os.getpid() and self._belongs(pid):
                with contextlib.suppress(psutil.Error):
                    self._members[pid] = psutil.Process(pid)
        self._seen = running

    def read(self, clock: Callable[[], float] = time.monotonic) -> Reading:
        """Resident bytes and cores of the whole tree since the last look, and its few largest processes."""
        self.look()
        now, rows = clock(), []
        elapsed = now - self._looked if self._looked is not None else 0.0
        self._looked = now
        for pid, process in self._members.items():
            try:
                with process.oneshot():
                    times, resident, name = process.cpu_times(), process.memory_info().rss, process.name()
            except psutil.Error:
                continue
            spent = times.user + times.system
            row: Reading = {"pid": pid, "name": name, "resident_bytes": resident}
            if elapsed > 0 and pid in self._spent:
                row["cores"] = round(max(0.0, spent - self._spent[pid]) / elapsed, 3)
            self._spent[pid] = spent
            rows.append(row)
        if not rows:
            return {}
        tree = {
            "processes": len(rows),
            "resident_bytes": sum(row["resident_bytes"] for row in rows),
            "cores": round(sum(row.get("cores", 0.0) for row in rows), 3),
            "top": top(rows),
        }
        return {"tree": tree}

    def orphans(self, wait: Callable[[float], object] = time.sleep) -> list[Reading]:
        """Who still lives after the command has ended, and had a moment to end too."""
        step = GRACE_S / 10
        for _ in range(10):
            if not (left := self._living()):
                return []
            wait(step)
        return left and self._living()

    def _living(self) -> list[Reading]:
        self.look()
        found = []
        for pid, process in sorted(self._members.items()):
            if pid == self._root:
                continue
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = process.cmdline()
                item: Reading = {"pid": pid, "name": process.name()}
            except psutil.Error:
                continue
            if words:
                item["command"] = " ".join(words)[:COMMAND_CHARACTERS]
            found.append(item)
        return found

    def _belongs(self, pid: int) -> bool:
        if pid == self._root:
            return True
        try:
            process = psutil.Process(pid)
            if process.ppid() in self._members:
                return True
            return process.environ().get(markers.VARIABLE) == self._token
        except (psutil.Error, OSError, SystemError):
            # Somebody else's, or gone: its environment is none of our business.
            return False


def alive(pid: int) -> bool:
    """Whether there is such a process; one that has ended and that nobody collected counts."""
    return psutil.pid_exists(pid)


def top(rows: list[Reading]) -> list[Reading]:
    """The rows that compute most and those that hold most, each once, those that compute most first."""
    busiest = sorted(rows, key=lambda row: -row.get("cores", 0.0))[:TOP]
    largest = sorted(rows, key=lambda row: -row["resident_bytes"])[:TOP]
    return list({row["pid"]: row for row in (*busiest, *largest)}.values())
