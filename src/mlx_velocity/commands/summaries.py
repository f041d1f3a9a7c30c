"""What history makes of a machine's files and finds in its series, kept: only what changed is read and searched again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

from mlx_velocity import archive, changepoints, readings, stored_series
from mlx_velocity.changepoints import Rule
from mlx_velocity.series import Found, Point, Series
from mlx_velocity.store.index import FOLDER
from mlx_velocity.store.kept import Kept, mark_of
from mlx_velocity.stored_series import Benchmarks, Condensed, Summary, Surroundings
from mlx_velocity.tracks import Track
from mlx_velocity.windows import Memory

FORMAT = 2
"""Of a kept summary. 1: first version; 2: its checksum is of its name too. Another format is no error: the files are read again."""


WINDOWS = "windows"
"""Name under which the searched windows are kept; no stem of a file."""


@contextmanager
def keeping(track: Track, machine: str) -> Iterator[Kept]:
    """What is kept of a machine, in a file below `.asv` that can always be made again."""
    kept = Kept(track.work_dir / FOLDER / f"{track.name}-{machine}.history.sqlite3", FORMAT)
    try:
        yield kept
    finally:
        kept.close()


class Detector:
    """changepoints.find_many of a machine, which searches only the windows that changed since the last time."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._known: Memory = json.loads(kept.get(WINDOWS, WINDOWS) or "{}")
        self._used: Memory = {}

    def __call__(self, many: Sequence[Series], rule: Rule) -> list[Found]:
        """As changepoints.find_many."""
        memory = dict(self._known)
        found = changepoints.find_many(many, rule, memory)
        self._used.update(memory)
        return found

    def keep(self) -> None:
        """Remember what was searched, and nothing that is not there any more."""
        if self._used.keys() != self._known.keys():
            self._kept.put(WINDOWS, WINDOWS, json.dumps(self._used))


def of_machine(
    kept: Kept, folder: Path, commits: Sequence[str], benchmarks: Benchmarks, survey: archive.Survey
) -> Iterator[Summary]:
    """What a machine has of these commits; as archive.walk, what can't be read is added to `survey`, and is never kept."""
    suite = _digest(benchmarks)
    marks: dict[str, str] = {}
    known: list[Summary] = []

    def is_known(commit: str, stem: str) -> bool:
        # Taken before the files are read: who writes to them meanwhile is noticed the next time.
        marks[stem] = (
            f"{suite} {commit} {mark_of(folder / f'{stem}.json', folder / f'{stem}{readings.SUFFIX}')}"
        )
        if (text := kept.get(stem, marks[stem])) is None:
            return False
        known.append(load(text))
        return True

    seen = len(survey.unread)
    for entry in archive.walk(folder, commits, benchmarks, survey, is_known):
        yield from known
        known.clear()
        said = stored_series.condense(entry, benchmarks)
        if len(survey.unread) == seen:
            stem = f"{entry.commit[:8]}-{entry.environment}"
            kept.put(stem, marks[stem], dump(said))
        seen = len(survey.unread)
        yield said
    yield from known


def _digest(benchmarks: Benchmarks) -> str:
    """What of the suite a summary depends on: which of asv's numbers count, and which numbers are counted."""
    used = [
        [name, item.get("version"), item["params"], item.get("unit"), item.get("noise")]
        for name, item in sorted(benchmarks.items())
    ]
    return hashlib.sha256(json.dumps(used, default=str).encode()).hexdigest()[:16]


def dump(said: Summary) -> str:
    """A summary as text; what many cases share is written once."""
    around: dict[Surroundings, int] = {}
    rows = [
        [*key[1:], *astuple(held.point)[1:], around.setdefault(held.surroundings, len(around)), held.unit]
        for key, held in said.cases.items()
    ]
    reasons = [[*key[1:], reason] for key, reason in said.reasons.items()]
    return json.dumps(
        [said.commit, said.environment, said.broken, said.packages, list(around), rows, reasons],
        separators=(",", ":"),
    )


def load(text: str) -> Summary:
    """The summary again."""
    commit, environment, broken, packages, around, rows, reasons = json.loads(text)
    shared = [tuple((key, value) for key, value in pairs) for pairs in around]
    return Summary(
        commit,
        environment,
        {
            (environment, name, tuple(params), version): Condensed(Point(commit, *point), shared[place], unit)
            for name, params, version, *point, place, unit in rows
        },
        {(environment, name, tuple(params), version): reason for name, params, version, reason in reasons},
        broken,
        packages,
    )
