"""A monitor's file: a header, samples, markers, notes and an end, one checked JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mlx_velocity import readings
from mlx_velocity.errors import InputError
from mlx_velocity.monitor.sampler import FORMAT

SCHEMA = "monitor.schema.json"

Line = dict[str, Any]


@dataclass
class Recording:
    """What a file holds. `header` and `end` are empty where it has none, as that of a monitor that was killed."""

    header: Line = field(default_factory=dict)
    samples: list[Line] = field(default_factory=list)
    markers: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    end: Line = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Lines that are none of these, each with the reason; they are left out of all else."""


def parse(line: str) -> Line:
    """The object on a line; raises ValueError that says what is wrong with it."""
    return readings.load(line, SCHEMA, FORMAT)


def read(path: Path) -> Recording:
    """What a monitor's file holds; unreadable lines are skipped and kept with their reasons.

    Raises InputError where there is no such file, a later mlx-velocity wrote it, or nothing in it is a monitor's.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", "record one: mlx-velocity monitor -- COMMAND")
    try:
        lines, unreadable = readings.read_lines(path, parse)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}", "mend its rights") from error
    found = Recording(unreadable=unreadable)
    for line in lines:
        add(found, line)
    if not lines:
        raise InputError(f"{path} is no file of a monitor", "record one: mlx-velocity monitor -- COMMAND")
    return found


def add(found: Recording, line: Line) -> None:
    """Put a line where it belongs."""
    if line["kind"] == "header":
        found.header = found.header or line
    elif line["kind"] == "end":
        found.end = line
    elif line["kind"] == "note":
        found.notes.append(line["text"])
    else:
        (found.samples if line["kind"] == "sample" else found.markers).append(line)


def dump(line: Line) -> str:
    """The text of a line. What a monitor writes is not checked each time: that would cost more than a sample."""
    return json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class Writer:
    """Appends lines to a new file; each one is whole when the next one is begun.

    Raises InputError where the file can't be made. A disk that fills up later ends the writing, not the command:
    `problem` then says why.
    """

    def __init__(self, path: Path, replace: bool = False) -> None:
        self.path = path
        self.problem = ""
        if path.exists() and not replace:
            raise InputError(f"{path} exists", "name another file, or add --force to replace it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[str] | None = path.open("w", encoding="ascii")
        except OSError as error:
            raise readings.cannot_write(path, error) from error

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines."""
        if self._stream is None:
            return
        try:
            self._stream.write("".join(f"{dump(line)}\n" for line in lines))
            self._stream.flush()
        except OSError as error:
            self.problem = error.strerror or str(error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:
                self.problem = self.problem or error.strerror or str(error)


class Markers:
    """Takes in the markers that a command and its children append to a file, and ends those of the dead."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._rest = b""
        self._open: dict[tuple[str, str, int], int] = {}
        self.unreadable = 0

    def new(self) -> list[Line]:
        """The markers that have come since the last call."""
        try:
            if self._path.stat().st_size <= self._place:
                return []
            with self._path.open("rb") as stream:
                stream.seek(self._place)
                text = stream.read()
        except OSError:
            return []
        self._place += len(text)
        *whole, self._rest = (self._rest + text).split(b"\n")
        found = []
        for line in whole:
            try:
                marker = parse(line.decode("utf-8", "replace"))
                if marker["kind"] != "marker":
                    raise ValueError("not a marker")
            except (ValueError, RecursionError):
                self.unreadable += bool(line.strip())
                continue
            self._count(marker)
            found.append(marker)
        return found

    def of_the_dead(self, alive: Callable[[int], bool], now: Line) -> list[Line]:
        """Ends for what a process began and, killed, could not end; `now` holds the two clocks."""
        found = []
        for (what, name, pid), count in list(self._open.items()):
            if not alive(pid):
                del self._open[what, name, pid]
                found += count * [
                    {"format": 1, "kind": "marker", "event": "end", "what": what, "name": name, "pid": pid, "gone": True,
                     "time_s": now["time_s"], "monotonic_s": now["monotonic_s"]}
                ]  # fmt: skip
        return found

    def _count(self, marker: Line) -> None:
        key = (marker["what"], marker["name"], marker["pid"])
        count = self._open.get(key, 0) + (1 if marker["event"] == "begin" else -1)
        if count > 0:
            self._open[key] = count
        else:
            self._open.pop(key, None)
