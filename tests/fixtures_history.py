"""A small repository with results, for whatever reads the stored history."""

from __future__ import annotations

import atexit
import itertools
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fixtures_site as made
import git
import pytest

from mlx_velocity import (
    cases,
    changepoints,
    history,
    machine,
    parameters,
    readings,
    records,
    results,
    told,
    tracks,
)
from mlx_velocity.series import ChangePoint, Found, Segment, Series

Run = Callable[..., made.Done]
ENV_NAME, SERIES = made.ENV_NAME, made.SERIES
PREFILL: dict[str, Any] = {**made.BENCHMARKS[0], "tokens_from": "tokens"}
PEAK: dict[str, Any] = {**made.BENCHMARKS[1], "rounds": 1}
BENCHMARKS = {item["name"]: item for item in (PREFILL, PEAK)}
FIRST = ("'tiny-float32'", "32")
LABEL = "prefill.Prefill.time_prefill(tiny-float32, 32)"
WOBBLE = itertools.cycle((1.0, 1.002, 0.999, 1.001, 0.998))
QUIET = {"own_busy_cores": 1.0, "others_busy_cores": 0.0, "allowed_cores": 1}
QUEUE = {"own_busy_cores": 0.4, "others_busy_cores": 0.9, "allowed_cores": 1}
FIELDS = {
    "os": "Linux 6.1", "arch": "x86_64", "cpu": "made-up", "num_cpu": "2", "ram": "8000000000", "gpu": "",
}  # fmt: skip


@cache
def repository(size: int, dates: tuple[int, ...] | None) -> tuple[Path, list[str]]:
    """A repository of so many commits on `main`, made once, and their hashes, oldest first; `dates` are in seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mlx-velocity-history-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    author = git.Actor("Somebody", "somebody@example.invalid")
    hashes = []
    with git.Repo.init(folder, initial_branch="main") as repo:
        for number in range(size):
            at = f"{(dates or range(1_767_225_600, 2**33, 86_400))[number]} +0000"
            commit = repo.index.commit(
                f"change {number}", author=author, committer=author, author_date=at, commit_date=at
            )
            hashes.append(commit.hexsha)
    return folder, hashes


class Lab:
    """A track over a repository of its own, whose results are written as the scheduler writes them."""

    def __init__(self, folder: Path, size: int = 20, dates: Sequence[int] | None = None) -> None:
        self.folder = folder
        path, self.commits = repository(size, tuple(dates) if dates else None)
        self.repo_path = str(path)
        self.track: tracks.Track = made.make_track(folder, repo=self.repo_path)
        cases.save(self.track, list(BENCHMARKS.values()))

    def box(self, name: str = "box") -> Path:
        return self.track.results_dir / name

    def open(
        self, commit: str, name: str = "box", environment: str = ENV_NAME, **fields: str
    ) -> results.CommitResults:
        folder = self.box(name)
        if not (folder / "machine.json").exists():
            readings.replace(folder / "machine.json", machine.text_of({"machine": name, **FIELDS}))
        params = {"machine": name, **FIELDS, "python": "3.11", **SERIES, **fields}
        return results.CommitResults(folder, params, SERIES, commit, 0, environment, "3.11")

    def add(
        self,
        place: int,
        values: Iterable[float],
        benchmark: dict[str, Any] = PREFILL,
        params: tuple[str, ...] | None = None,
        name: str = "box",
        environment: str = ENV_NAME,
        cores: list[int] | None = None,
        sensors: dict[str, Any] | None = None,
        **fields: str,
    ) -> None:
        """One launch for each value, at the commit of that place."""
        stored = self.open(self.commits[place], name, environment, **fields)
        params = params if params is not None else next(iter(parameters.sets(benchmark)))
        new: list[records.Reading] = []
        if not any(isinstance(item, records.Environment) for item in stored.stored):
            packages = {"mlx": f"0.30.{place}"}
            new.append(records.Environment(environment, "cpu", fields.get("python", "3.11"), [], packages))
        at, spread = "2026-01-02T03:04:05.000Z", (0.99, 1.0, 1.01) if benchmark["unit"] == "seconds" else (1,)
        for value in values:
            launch = f"{place}-{len(stored.stored)}-{len(new)}"
            new.append(records.Launch(launch, at, [1] if cores is None else cores, {}, 0.1))
            new.append(
                records.Measurement(
                    launch, benchmark["name"], str(benchmark["version"]), list(params), benchmark["unit"],
                    [value * factor for factor in spread], [], at, 0.5, {}, QUIET if sensors is None else sensors,
                )
            )  # fmt: skip
        # All at once: a test writes more than it reads.
        readings.append(stored.readings_path, new[:-1])
        stored.stored += new[:-1]
        stored.add(new[-1], benchmark)

    def fill(self, levels: Sequence[float | None], launches: int = 3, **keys: Any) -> None:
        """Launches around each level, from the first commit on; None is a commit that is not measured."""
        for place, level in enumerate(levels):
            if level is not None:
                self.add(place, [level * next(WOBBLE) for _ in range(launches)], **keys)

    def line(self, since: int = 0) -> list[history.Commit]:
        return history.line(self.repo_path, "main")[since:]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A track of 20 commits without results; the working folder is its folder."""
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program in this process, on a wide terminal: the same entry, the same exit codes."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: made.in_process(monkeypatch, capsys, *arguments)


def step(index: int, ratio: float, first: int | None = None, last: int | None = None, confirmed: bool = True) -> ChangePoint:  # fmt: skip
    """A change as a detector says it."""
    return ChangePoint(
        index,
        index if first is None else first,
        index if last is None else last,
        ratio, ratio * 0.99, ratio * 1.01, 0.99, 1e-6, confirmed,
    )  # fmt: skip


class Detector:
    """Says these changes of every case, with the medians of the points between as levels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def says(self, *changes: ChangePoint) -> None:
        def find(series: Series) -> Found:
            own = [change for change in changes if change.index < len(series.points)]
            ends = [0, *(change.index for change in own), len(series.points)]
            segments = []
            for first, end in itertools.pairwise(ends):
                level = statistics.median(point.value for point in series.points[first:end])
                segments.append(Segment(first, end - 1, level, level, level))
            return Found(tuple(own), tuple(segments))

        # What another detector said is not told again.
        self.monkeypatch.setattr(told, "stamp", lambda: repr(changes))
        self.monkeypatch.setattr(
            changepoints,
            "find_many",
            lambda many, rule=None, memory=None, each=None: [find(series) for series in many],
        )
