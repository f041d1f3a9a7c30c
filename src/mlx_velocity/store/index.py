"""An index of a track's stored results: each file is read once, and again only when it changed.

An SQLite file under `.asv` that can always be made again from the results. A row is known by path, time of change,
size and inode of its file, and carries a checksum: a row that is damaged, and an index of another format, are
read anew. Several processes may use it at the same time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_velocity.errors import InputError
from mlx_velocity.store import columns as packed
from mlx_velocity.store import files as stored_files
from mlx_velocity.store import reading, walk
from mlx_velocity.store.columns import Columns, Key
from mlx_velocity.store.files import File
from mlx_velocity.store.rows import Stored, row_checksum
from mlx_velocity.tracks import Track

FORMAT = 6
"""Of the index. 1: first version; 2: joules of a call, and the control; 3 to 5: a checksum in every row; 6: machine and
bad lines beside the head. Another format is no
error: the index is made again."""
FOLDER = "index"
PATIENCE_S = 60.0
OUTSIDE = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM,
)  # fmt: skip
"""What is wrong outside of the index; anything else means that the index itself is damaged."""

TABLES = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, fingerprint TEXT NOT NULL, kind TEXT NOT NULL,
    problem TEXT NOT NULL, commit_hash TEXT NOT NULL, environment TEXT NOT NULL, machine TEXT NOT NULL,
    bad_lines TEXT NOT NULL, head TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE columns (file INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE keys (id INTEGER PRIMARY KEY, benchmark TEXT NOT NULL, version TEXT, params TEXT, checksum INTEGER NOT NULL);
CREATE TABLE derived (name TEXT PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL);
"""
ROW = ("path", "fingerprint", "kind", "problem", "commit_hash", "environment", "machine", "bad_lines", "head")
"""Columns of the table of files, which its checksum is of."""
Progress = Callable[[int, int], None]


class StoreIndex:
    """The index of one track, as of when it was opened. Use it as a context."""

    def __init__(
        self,
        track: Track,
        pool: Executor | None = None,
        progress: Progress | None = None,
        undescribed: bool = False,
    ) -> None:
        """Open the index and read what changed: many files in `pool`, or in processes that are started for them.
        `progress` hears how many of how many files were read. asv leaves out machines without a description that can be
        read; `undescribed` takes them too.

        Raises InputError where the disk refuses, or where another process holds the index for a minute.
        """
        self.root = track.results_dir
        self.machines: dict[str, dict[str, Any]] = {}
        """Folder → asv's description, of the machines that can be read."""
        self.problems: list[tuple[str, str]] = []
        """Path below the folder of results → why it could not be read."""
        self.fresh = 0
        """How many files had to be read."""
        self.keys: list[Key] = []
        """What the numbers in the columns `case` and `entry` mean: benchmark, version, parameters as JSON."""
        self._path = track.work_dir / FOLDER / f"{track.name}.sqlite3"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._start(pool, progress, undescribed)
            except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in OUTSIDE:
                    raise
                # Damaged: what it held can be read again.
                for suffix in ("", "-wal", "-shm", "-journal"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._start(pool, progress, undescribed)
        except (sqlite3.Error, OSError) as error:
            raise cannot_write(self._path, error) from error

    def __enter__(self) -> StoreIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    # What is stored

    def results(self, machine: str | None = None) -> list[Stored]:
        """asv's result files, by path: of all machines that can be read, or of one."""
        return _of(self._results, machine)

    def readings(self, machine: str | None = None) -> list[Stored]:
        """Our readings files, in the same way."""
        return _of(self._readings, machine)

    def measured_machines(self) -> list[str]:
        """The machines that have results, by name."""
        return list(self._results)

    def failures(self) -> Iterator[tuple[Stored, dict[str, Any]]]:
        """Each failure with the readings file it is in: outcome, reason, benchmark, version, params, exit_code."""
        for item in self.readings():
            for failure in item.head["failures"]:
                yield item, failure

    def columns(self, files: Iterable[Stored]) -> Iterator[tuple[Stored, Columns]]:
        """The numbers of each file: of a result `entry`, `started_ms` by benchmark and `case`, `value`, `low`, `high`
        (99 %), `samples` by case (a value that is not a number is a failure); of readings `case`, `launch` (place in
        `order`), `median`, `samples` and the sensors that were there, one row per case and launch.
        """
        for item in files:
            spec = item.head["columns"]
            row = self._row("SELECT checksum, data FROM columns WHERE file = ?", item.id)
            whole = row and row_checksum(item.path, json.dumps(spec), row[1]) == row[0]
            yield item, packed.unpack(spec, row[1]) if row and whole else self._again(item)

    def _row(self, query: str, value: Any) -> tuple[int, bytes] | None:
        """A checksum and what it is of; None where there is none, or where it can't be read."""
        try:
            (row,) = self._base.execute(query, (value,))
        except (sqlite3.DatabaseError, ValueError):
            return None
        return row if isinstance(row[1], bytes) else None

    def _again(self, item: Stored) -> Columns:
        """The columns of a file whose row is damaged, from the file itself."""
        (file,), keys = stored_files.read_batch(str(self.root), [item.path])
        known = {key: number for number, key in enumerate(self.keys)}
        if file.problem or any(key not in known for key in keys):
            raise InputError(f"the index {self._path.name} is damaged", f"delete {self._path}")
        numbers = np.array([known[key] for key in keys], np.int32)
        return _numbered(file, numbers)

    # What others derive from it, and want to find again

    def derived(self, names: Iterable[str]) -> dict[str, bytes]:
        """What was kept under these names; what is damaged is not there."""
        found = {}
        for name in names:
            row = self._row("SELECT checksum, data FROM derived WHERE name = ?", name)
            if row and packed.checksum(row[1]) == row[0]:
                found[name] = row[1]
        return found

    def keep_derived(self, items: dict[str, bytes]) -> None:
        """Keep bytes under names until the index is made again; raises InputError where the disk refuses."""
        rows = [(name, packed.checksum(data), data) for name, data in items.items()]
        try:
            # What was opened stays as it was, so this needs a connection of its own.
            with closing(sqlite3.connect(self._path, timeout=PATIENCE_S)) as base, base:
                base.executemany("INSERT OR REPLACE INTO derived VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise cannot_write(self._path, error) from error

    def beside(self, machine: str) -> Path:
        """A file for columns that are derived from what a machine has stored."""
        return self._path.with_name(f"{self._path.stem}-{machine}.columns")

    # Reading what changed

    def _start(self, pool: Executor | None, progress: Progress | None, undescribed: bool) -> None:
        self._base = sqlite3.connect(self._path, timeout=PATIENCE_S)
        try:
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version != FORMAT:
                self._clear()
            self._refresh(pool, progress, undescribed)
        except BaseException:
            self._base.close()
            raise

    def _clear(self) -> None:
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            names = self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                self._base.execute('DROP TABLE "{}"'.format(name.replace('"', '""')))
            for statement in TABLES.split(";"):
                self._base.execute(statement)
            self._base.execute(f"PRAGMA user_version = {FORMAT}")

    def _refresh(self, pool: Executor | None, progress: Progress | None, undescribed: bool) -> None:
        found = walk.of(self.root)
        there, self.machines, self.problems = found.files, found.machines, found.problems
        known = dict(self._base.execute("SELECT path, fingerprint FROM files"))
        gone = [path for path in known if path not in there]
        changed = [path for path, mark in there.items() if known.get(path) != mark]
        self.fresh = len(changed)
        if gone:
            with self._base:
                self._drop(gone)
        done = 0
        for files, keys in reading.read(str(self.root), changed, pool):
            # Each batch is kept at once: who is interrupted goes on from there.
            with self._base:
                self._base.execute("BEGIN IMMEDIATE")
                self._keep(files, keys)
            done += len(files)
            if progress is not None:
                progress(done, len(changed))
        self._results: dict[str, list[Stored]] = {}
        self._readings: dict[str, list[Stored]] = {}
        # What others write from now on is not seen: numbers of rows stay valid until this is closed.
        self._base.execute("BEGIN")
        # Looked at now: a damaged index is made again from the start.
        self.keys = _keys(self._base)
        seen = 0
        query = f"SELECT id, {', '.join(ROW)}, checksum FROM files ORDER BY path"
        for number, *row, checksum in self._base.execute(query):
            path, mark, kind, problem, commit, environment, named, bad_lines, head = row
            if path not in there:
                continue
            if row_checksum(*row) != checksum:
                raise ValueError("a damaged row")
            seen += 1
            machine = path.partition("/")[0]
            if not undescribed and machine not in self.machines:
                continue
            item = Stored(number, path, commit, environment, head, mark, int(bad_lines))
            name = self.machines.get(machine, {}).get("machine")
            is_result = kind == stored_files.RESULT
            if name and not problem and is_result and named != name:
                problem = f"it was not measured on {name}, as {walk.MACHINE_FILE} beside it says"
            if problem:
                self.problems.append((path, problem))
            else:
                (self._results if is_result else self._readings).setdefault(machine, []).append(item)
        if seen != len(there):
            raise ValueError("a row is lost, or there twice")

    def _drop(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._base.execute(
                "DELETE FROM columns WHERE file IN (SELECT id FROM files WHERE path = ?)", (path,)
            )
            self._base.execute("DELETE FROM files WHERE path = ?", (path,))

    def _keep(self, files: list[File], keys: list[Key]) -> None:
        numbers = self._numbers(keys)
        self._drop(item.path for item in files)
        for item in files:
            spec, data = packed.pack(_numbered(item, numbers))
            head = json.dumps({**item.head, "columns": spec})
            named = str(item.head.get("params", {}).get("machine", ""))
            row = (
                item.path, item.fingerprint, item.kind, item.problem, item.commit, item.environment, named,
                str(item.head.get("bad_lines", 0)), head,
            )  # fmt: skip
            made = self._base.execute(
                f"INSERT INTO files ({', '.join(ROW)}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, row_checksum(*row)),
            )
            checksum = row_checksum(item.path, json.dumps(spec), data)
            self._base.execute("INSERT INTO columns VALUES (?, ?, ?)", (made.lastrowid, checksum, data))

    def _numbers(self, keys: list[Key]) -> NDArray[np.int32]:
        """The number of each key in the index; new ones are added."""
        known = {key: number for number, key in enumerate(_keys(self._base))}
        for key in keys:
            if key not in known:
                known[key] = len(known)
                row = (known[key], *key)
                self._base.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (*row, row_checksum(*row)))
        return np.array([known[key] for key in keys], np.int32)


def _of(files: dict[str, list[Stored]], machine: str | None) -> list[Stored]:
    return list(chain.from_iterable(files.values())) if machine is None else files.get(machine, [])


def _keys(base: sqlite3.Connection) -> list[Key]:
    """The keys in their order; ValueError where one is damaged."""
    found: list[Key] = []
    for *row, checksum in base.execute(
        "SELECT id, benchmark, version, params, checksum FROM keys ORDER BY id"
    ):
        if row[0] != len(found) or row_checksum(*row) != checksum:
            raise ValueError("a damaged key")
        found.append((row[1], row[2], row[3]))
    return found


def _numbered(file: File, numbers: NDArray[np.int32]) -> Columns:
    """The columns of a file, counting in the keys of the index instead of those of its batch."""
    return {
        name: numbers[array] if name in ("case", "entry") else array for name, array in file.columns.items()
    }


def cannot_write(path: Path, error: Exception) -> InputError:
    """The error for an index that the disk or another process does not let us use."""
    return InputError(
        f"the index {path.name} can't be used: {error}",
        "free some room or mend the rights; if another mlx-velocity reads results just now, wait for it",
    )
