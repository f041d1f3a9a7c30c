"""Which commits of a machine lack no launch: who asks again need not open their files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from asv.results import get_filename

from mlx_velocity import readings
from mlx_velocity.errors import InputError
from mlx_velocity.records import Case
from mlx_velocity.store.files import fingerprint
from mlx_velocity.store.index import FOLDER
from mlx_velocity.tracks import Track

FORMAT = 1
"""Of the notes. Another format is no error: the commits are looked at again."""
MISSING = "-"
"""Stands for a file that is not there in what mark_of says."""
KEPT = 4
"""Suites that notes are kept of: profiles and choices of cases that are asked for in turn."""


class Complete:
    """Notes on one machine's commits, for one list of cases. Whatever is wrong with them costs time alone."""

    def __init__(
        self, track: Track, folder: Path, environment: str, cases: Iterable[Case], launches: int | None
    ) -> None:
        asked = sorted([*case.key, launches or case.launches] for case in cases)
        text = json.dumps([environment, asked])
        self._name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder, self._environment = folder, environment
        self._path = track.work_dir / FOLDER / f"{track.name}-{folder.name}.complete.json"
        self._suites = read(self._path)
        self._known = self._suites.pop(self._name, {})
        self._changed = False

    def holds(self, commit: str) -> bool:
        """Whether a commit lacked nothing, and neither of its files was touched since."""
        return commit in self._known and self._known[commit] == self.mark(commit)

    def mark(self, commit: str) -> str:
        """What changes with the files of a commit; take it before they are read. Empty where one is missing."""
        stem = Path(get_filename(self._folder.name, commit, self._environment)).stem
        mark = mark_of(*(self._folder / f"{stem}{suffix}" for suffix in (".json", readings.SUFFIX)))
        return "" if MISSING in mark.split() else hashlib.sha256(mark.encode()).hexdigest()[:16]

    def add(self, commit: str, mark: str) -> None:
        """Note that a commit lacks nothing."""
        if mark and self._known.get(commit) != mark:
            self._known[commit] = mark
            self._changed = True

    def save(self) -> None:
        """Keep the notes; a disk that refuses is no reason to measure nothing."""
        if not self._changed:
            return
        kept = dict([*self._suites.items()][-KEPT + 1 :]) | {self._name: self._known}
        with contextlib.suppress(InputError):
            readings.replace(self._path, json.dumps({"format": FORMAT, "suites": kept}))


def read(path: Path) -> dict[str, dict[str, str]]:
    """Per suite the commits that lacked nothing, with their marks; empty where nothing can be read."""
    try:
        held = json.loads(path.read_text("utf-8"))
        if held["format"] != FORMAT:
            return {}
        return {str(name): dict(known) for name, known in held["suites"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def mark_of(*paths: Path) -> str:
    """What changes when any of the files is written, replaced, made or removed."""
    marks = []
    for path in paths:
        try:
            marks.append(fingerprint(path.stat()))
        except OSError:
            marks.append(MISSING)
    return " ".join(marks)
