"""`mlx-velocity monitor`: sample the machine while a command runs, and get out of its way."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape

import mlx_velocity
from mlx_velocity import markers, units
from mlx_velocity.errors import InputError, VelocityError
from mlx_velocity.monitor import recording, sampler
from mlx_velocity.monitor.processes import Tree, alive
from mlx_velocity.monitor.sources import Sources, machine

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of a shell for a command that can't be started."""
BY_SIGNAL = 128
"""A shell's exit code for a command that a signal ended is this and the signal's number."""
FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
FROM_KEYS = (signal.SIGINT, signal.SIGQUIT)
"""What a terminal sends to the command as well."""
LONG_ENOUGH_S = 5.0
"""To say what watching costs: the first samples cost more than the others."""

Line = dict[str, Any]


@dataclass(frozen=True)
class MonitorOptions:
    """What `monitor` was asked for."""

    command: list[str]
    """Empty: watch until Ctrl-C, or for `seconds`."""
    output: Path | None
    interval_s: float
    seconds: float | None
    budget: float
    """Share of a core that reading may cost."""
    force: bool
    quiet: bool


class NotStarted(VelocityError):
    """The command can't be started."""

    def __init__(self, command: str, error: OSError) -> None:
        missing = isinstance(error, FileNotFoundError)
        advice = (
            "see that it is installed and on PATH" if missing else "see that it is a program that you may run"
        )
        super().__init__(f"'{command}' can't be started: {error.strerror}", advice)
        self.exit_code = NOT_FOUND if missing else NOT_EXECUTABLE


class Bell:
    """Rung by a signal or a thread; a wait ends at once when it has been rung. An Event would deadlock in a handler."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)

    def ring(self) -> None:
        """End this wait and all later ones."""
        with contextlib.suppress(OSError):
            os.write(self._writes, b".")

    def wait(self, seconds: float) -> bool:
        """Whether it has been rung within `seconds`."""
        return bool(select.select([self._reads], [], [], seconds)[0])

    def close(self) -> None:
        """Give back both ends."""
        os.close(self._reads)
        os.close(self._writes)


def monitor(options: MonitorOptions) -> int:
    """Watch a command, or the machine alone, and return the exit code: the command's own, or 0.

    Raises InputError for wrong input, NotStarted where the command can't be started.
    """
    if options.command and options.seconds:
        raise InputError(
            "--seconds is for watching without a command", "leave it out, or put timeout before the command"
        )
    said = Console(stderr=True, quiet=options.quiet)
    path = options.output or Path(f"monitor-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    writer = recording.Writer(path, options.force)
    sources, bell = Sources(), Bell()
    try:
        with tempfile.TemporaryDirectory(prefix="mlx-velocity-") as folder:
            return _watch(options, writer, sources, bell, Path(folder) / "markers.jsonl", said)
    except NotStarted:
        writer.close()
        path.unlink(missing_ok=True)
        raise
    finally:
        sources.close()
        writer.close()
        bell.close()


def _watch(
    options: MonitorOptions,
    writer: recording.Writer,
    sources: Sources,
    bell: Bell,
    marker_file: Path,
    said: Console,
) -> int:
    # Before the command starts: the first reading of each source imports and searches.
    tree = Tree(str(marker_file))
    tree.look()
    primed = sampler.Sampler(sources.reads, options.interval_s, options.budget)
    primed.prime()
    command: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if command is None:
            bell.ring()
        elif not (number in FROM_KEYS and _in_foreground()):
            command.send_signal(number)

    with _handled(on_signal):
        if options.command:
            command = _start(options.command, marker_file)
            tree.begin(command.pid)
            threading.Thread(target=_ring_at_end, args=(command, bell), daemon=True).start()
            _leave_last_core()
        reads = {**sources.reads, "processes": tree.read} if command else sources.reads
        sampling = sampler.Sampler(reads, options.interval_s, options.budget)
        writer.write([_header(options, sources), *(_note(text) for text in sources.missing)])
        for text in sources.missing:
            said.print(f"[dim]monitor: {escape(text)}[/]", highlight=False, soft_wrap=True)
        taken = Taken(sampling, recording.Markers(marker_file), writer)
        began, (own, _) = time.monotonic(), sampler.core_seconds()
        until = began + options.seconds if options.seconds else None
        missed = sampler.follow(taken.take, options.interval_s, bell.wait, until)
        wall_s, cpu_s = time.monotonic() - began, sampler.core_seconds()[0] - own + sampling.children_s
        orphans = tree.orphans() if command else []
        taken.take()
    code = command.wait() if command else None
    cost = {"cpu_s": round(cpu_s, 4), "wall_s": round(wall_s, 3), "sources": sampling.pace()}
    end = {
        **_line("end"), "exit_code": code if code is None or code >= 0 else None,
        "signal": signal.Signals(-code).name if code is not None and code < 0 else None, "orphans": orphans,
        "samples": taken.count, "missed": missed, "unreadable_markers": taken.markers.unreadable, "cost": cost,
    }  # fmt: skip
    broken = [f"{name} is read no more: {reason}" for name, reason in sampling.broken.items()]
    writer.write([*(_note(text) for text in broken), end])
    for sentence in [*broken, *summary(end, taken, writer)]:
        said.print(f"monitor: {escape(sentence)}", highlight=False, soft_wrap=True)
    if code is None:
        return BY_SIGNAL + received[0] if received and received[0] != signal.SIGINT else 0
    return code if code >= 0 else BY_SIGNAL - code


class Taken:
    """What was sampled so far: it goes to the file, and what was highest and lowest is kept for the summary."""

    def __init__(self, sampling: sampler.Sampler, marks: recording.Markers, writer: recording.Writer) -> None:
        self._sampling, self._writer = sampling, writer
        self.markers = marks
        self.count = 0
        self.most: dict[str, float] = {}
        self.least_available: float | None = None

    def take(self) -> None:
        """One sample, and the markers that came since the last."""
        sample = self._sampling.sample()
        self.count += 1
        marks = self.markers.new()
        self._writer.write([*marks, *self.markers.of_the_dead(alive, sample), sample])
        self._keep("resident_bytes", sample.get("tree", {}).get("resident_bytes"))
        self._keep("swap_used_bytes", sample.get("swap_used_bytes"))
        available = sample.get("available_bytes")
        if available is not None and (self.least_available is None or available < self.least_available):
            self.least_available = available

    def _keep(self, name: str, value: float | None) -> None:
        if value is not None:
            self.most[name] = max(value, self.most.get(name, 0.0))


def summary(end: Line, taken: Taken, writer: recording.Writer) -> list[str]:
    """What a reader should know at once, a sentence each."""
    found = []
    if end["signal"]:
        found.append(f"the command was ended by {end['signal']}.")
    for orphan in end["orphans"]:
        what = orphan.get("command", orphan["name"])
        found.append(
            f"still running after the command: {orphan['name']} (process {orphan['pid']}: {what[:80]})."
        )
    parts = []
    if resident := taken.most.get("resident_bytes"):
        parts.append(f"the command held {units.bytes_(resident)} at most")
    if taken.least_available is not None:
        parts.append(f"{units.bytes_(taken.least_available)} were available at least")
    if swap := taken.most.get("swap_used_bytes"):
        parts.append(f"{units.bytes_(swap)} lay in swap")
    if parts:
        found.append(f"{', '.join(parts)}.")
    if taken.markers.unreadable:
        found.append(f"{units.count(taken.markers.unreadable, 'marker')} could not be read.")
    if end["missed"]:
        found.append(f"{units.count(end['missed'], 'sample')} were missed: the machine slept or stalled.")
    if writer.problem:
        found.append(f"{writer.path} could not be written to its end: {writer.problem}.")
    wall_s = end["cost"]["wall_s"]
    cost = f", at {end['cost']['cpu_s'] / wall_s * 100:.1f} % of a core" if wall_s >= LONG_ENOUGH_S else ""
    found.append(
        f"{units.count(end['samples'], 'sample')} in {units.clock(wall_s)}{cost}. "
        f"See them: mlx-velocity timeline {writer.path}"
    )
    return found


def _start(words: list[str], marker_file: Path) -> subprocess.Popen[bytes]:
    """Start the command in our own process group, as a shell does: keys reach it, and what it prints is its own."""
    marker_file.touch(mode=0o600)
    try:
        return subprocess.Popen(words, env={**os.environ, markers.VARIABLE: str(marker_file)})
    except OSError as error:
        raise NotStarted(words[0], error) from error
    except ValueError as error:
        # A null byte in an argument.
        raise InputError(f"'{words[0]}' can't be started: {error}", "see what stands after --") from error


def _ring_at_end(command: subprocess.Popen[bytes], bell: Bell) -> None:
    command.wait()
    bell.ring()


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals go to `handler`; one that is ignored, as under nohup, stays ignored."""
    before = {number: signal.getsignal(number) for number in FORWARDED}
    wanted = [number for number, was in before.items() if was is not signal.SIG_IGN]
    for number in wanted:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, before[number])


def _in_foreground() -> bool:
    """Whether our group has the terminal, which then sends its keys' signals to the command itself."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _leave_last_core() -> None:
    """Keep off the core that CPU series are measured on."""
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        if len(allowed) > 1:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, allowed - {max(allowed)})


def _header(options: MonitorOptions, sources: Sources) -> Line:
    return {
        **_line("header"), "version": mlx_velocity.__version__, "platform": sys.platform,
        "interval_s": options.interval_s, "budget_share": options.budget, **machine(), "gpus": sources.gpu_names,
        "sources": sorted(sources.reads), "command": options.command or None,
    }  # fmt: skip


def _note(text: str) -> Line:
    return {**_line("note"), "text": text}


def _line(kind: str) -> Line:
    return {
        "format": sampler.FORMAT, "kind": kind, "time_s": round(time.time(), 3), "monotonic_s": round(time.monotonic(), 3),
    }  # fmt: skip
