"""What was made of files, kept for the next time, each with a mark that changes when the files do."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from pathlib import Path

from mlx_velocity.store.files import fingerprint

PATIENCE_S = 10.0
MISSING = "-"
"""Stands for a file that is not there in what mark_of says."""
WAITING = 256
"""Notes that are written at a time: who is interrupted goes on from there."""


class Kept:
    """Texts by name, in an SQLite file that can always be made again: damage or a disk that refuses only costs time."""

    def __init__(self, path: Path, form: int) -> None:
        self._path, self._new = path, list[tuple[str, str, int, bytes]]()
        self._base = self._opened(form)

    def _opened(self, form: int) -> sqlite3.Connection | None:
        for _ in range(2):
            with contextlib.suppress(sqlite3.Error, OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                base = sqlite3.connect(self._path, timeout=PATIENCE_S)
                try:
                    (held,) = base.execute("PRAGMA user_version").fetchone()
                    if held != form:
                        base.execute("DROP TABLE IF EXISTS kept")
                    base.execute(
                        "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, mark TEXT, checksum INTEGER, data BLOB)"
                    )
                    base.execute(f"PRAGMA user_version = {form}")
                    return base
                except sqlite3.OperationalError:
                    # Another process, or the disk: what is there stays.
                    base.close()
                    return None
                except (sqlite3.DatabaseError, UnicodeDecodeError):
                    # What is wrong may be said in bytes that are no text.
                    base.close()
                    self._path.unlink(missing_ok=True)
        return None

    def get(self, name: str, mark: str) -> str | None:
        """What was kept under a name with this mark."""
        if self._base is None:
            return None
        with contextlib.suppress(sqlite3.Error, zlib.error, UnicodeDecodeError, TypeError):
            row = self._base.execute(
                "SELECT mark, checksum, data FROM kept WHERE name = ?", (name,)
            ).fetchone()
            if row and row[0] == mark and _checksum(name, mark, row[2]) == row[1]:
                return zlib.decompress(row[2]).decode()
        return None

    def put(self, name: str, mark: str, text: str) -> None:
        """Keep a text."""
        data = zlib.compress(text.encode("utf-8", "backslashreplace"), 1)
        self._new.append((name, mark, _checksum(name, mark, data), data))
        if len(self._new) >= WAITING:
            self.write()

    def write(self) -> None:
        """Write what waits for it."""
        if self._base is not None and self._new:
            with contextlib.suppress(sqlite3.Error), self._base:
                self._base.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", self._new)
        self._new.clear()

    def close(self) -> None:
        """Write, and let go of the file."""
        self.write()
        if self._base is not None:
            self._base.close()


def _checksum(name: str, mark: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(ascii((name, mark)).encode()))


def mark_of(*paths: Path) -> str:
    """What changes when any of the files is written, replaced, made or removed."""
    marks = []
    for path in paths:
        try:
            marks.append(fingerprint(path.stat()))
        except OSError:
            marks.append(MISSING)
    return " ".join(marks)
