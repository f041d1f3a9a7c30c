"""What clocks and dates decide, and what they do not: order comes from the graph of commits."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Store, benchmark, case_of, measured
from fixtures_history import Lab
from test_comparisons import END, HEADER, PAIR

import mlx_velocity
from mlx_velocity import commit_graph, comparisons, history, results, units
from mlx_velocity.commands import compare
from mlx_velocity.commands import history as history_command
from mlx_velocity.errors import InputError

DAY_S, SIZE = 86_400, 20
NOW = 1_767_225_600
DATES: dict[str, Callable[[int], int]] = {
    "forwards": lambda number: NOW + number * DAY_S,
    "backwards": lambda number: NOW - number * DAY_S,
    "equal": lambda number: NOW,
    "from the future": lambda number: NOW + 50 * 365 * DAY_S - number,
    "forty years old": lambda number: NOW - 40 * 365 * DAY_S + (number * 7919) % 100,
    "one set back": lambda number: NOW + number * DAY_S - (number == 6) * 3000 * DAY_S,
}
ODD = ["1700000000 +0000", "-5000 +0000", "253402300900 +0000", "99999999999999999 +0000", "1700000000 +1400",
       "0 -1200", "99999999999999999999999 +0000", "1700000000 -2359"]  # fmt: skip


@pytest.fixture(params=sorted(DATES))
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """A repository whose commits are dated in some way."""
    return Lab(tmp_path, SIZE, [DATES[request.param](number) for number in range(SIZE)])


@pytest.fixture
def odd(tmp_path: Path) -> tuple[str, list[str]]:
    """A repository whose commits have dates that no calendar has, and their hashes, oldest first."""
    folder, commits = tmp_path / "odd", list[str]()

    def git(*arguments: str, given: str = "") -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, input=given, capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout.strip()

    folder.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    tree = git("mktree")
    for date in ODD:
        parent = f"parent {commits[-1]}\n" if commits else ""
        who = f"Somebody <somebody@example.invalid> {date}"
        text = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\ndated {date}\n"
        commits.append(git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=text))
    git("update-ref", "refs/heads/main", commits[-1])
    return str(folder), commits


# The graph


def test_the_order_is_that_of_the_graph(lab: Lab) -> None:
    """Ranges, branches and the site's revisions go from parent to child, whatever the dates say."""
    newest_first = lab.commits[::-1]
    assert [item.hash for item in history.line(lab.repo_path, "main")] == lab.commits
    assert [item.hash for item in history.select(lab.repo_path, "ALL", ["main"], [])] == newest_first
    spec = f"{lab.commits[2]}..{lab.commits[9]}"
    assert [item.hash for item in history.select(lab.repo_path, spec, ["main"], [])] == lab.commits[9:2:-1]
    assert list(commit_graph.read(lab.repo_path).commits) == lab.commits
    assert history.newest_first(lab.repo_path, sorted(lab.commits)) == newest_first


def test_new_is_what_has_no_results(lab: Lab) -> None:
    """NEW are the commits of the branch that were not measured, in the graph's order: no date makes one old."""
    known = {lab.commits[0], lab.commits[5], lab.commits[19]}
    found = [item.hash for item in history.select(lab.repo_path, "NEW", ["main"], known)]
    assert found == [commit for commit in reversed(lab.commits) if commit not in known]


def test_a_change_is_found_at_its_commit(lab: Lab) -> None:
    """The history has the same points, change and newest commit, however the commits are dated."""
    for place in range(SIZE):
        level = 0.1 if place < SIZE // 2 else 0.2
        lab.add(place, [level * (1 + 0.002 * ((7 * place + 3 * launch) % 11 - 5)) for launch in range(3)])
    told = history_command.tell(lab.track, history_command.HistoryOptions())
    (case,) = [case for item in told.machines for case in item.cases if case.points]
    assert [point.commit for point in case.points] == lab.commits
    assert case.newest is not None
    assert case.newest.hash == lab.commits[-1]
    (shift,) = case.shifts
    assert (shift.commit.hash, shift.good.hash) == (lab.commits[SIZE // 2], lab.commits[SIZE // 2 - 1])


def test_dates_that_no_calendar_has(odd: tuple[str, list[str]]) -> None:
    """A commit dated before 1970 or behind the year 9999 is in its place, and its day can be shown."""
    path, commits = odd
    for found in (
        history.line(path, "main"),
        list(commit_graph.read(path).commits.values()),
        [history.one(path, commit) for commit in commits],
    ):
        assert [item.hash for item in found] == commits
        assert [item.day for item in found] == [
            "2023-11-14", "1970-01-01", "9999-12-31", "9999-12-31", "2023-11-14", "1970-01-01", "9999-12-31", "2023-11-14",
        ]  # fmt: skip
        assert all(units.moment(item.date_s) for item in found)


# Clocks


def test_a_clock_set_back_does_not_hide_the_newest_comparison(tmp_path: Path) -> None:
    """What was begun last has the last name, though the clock says that it was begun years before."""
    folder, paths = tmp_path / "comparisons", []
    stamps = ["2026-03-01T00:00:00Z", "2099-01-01T00:00:00Z", "2026-03-01T00:00:01Z", "2016-12-31T23:59:60Z", "2026-03-01T00:00:01Z"]  # fmt: skip
    for number, started in enumerate(stamps):
        # The names of the sides run backwards, so that they do not help.
        side = dataclasses.replace(HEADER.base, name=f"side-{9 - number}")
        header = dataclasses.replace(HEADER, started=started, base=side)
        paths.append(comparisons.path_for(folder, header))
        comparisons.append(paths[-1], [header])
        assert comparisons.newest_first(folder, None, None)[0] == paths[-1]
    assert sorted(paths) == paths
    assert [comparisons.read(path).header.started for path in paths] == stamps


def test_a_named_comparison_is_found_without_reading_the_others(
    make_track: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many stored comparisons only those of the named sides are opened, the one begun last first."""
    track = make_track()
    folder = track.results_dir / "m4" / comparisons.FOLDER
    for number in range(6):
        sides = [dataclasses.replace(HEADER.base, name=f"{end}/{number % 3}") for end in ("old", "new")]
        header = dataclasses.replace(HEADER, base=sides[0], head=sides[1], seed=number)
        comparisons.append(comparisons.path_for(folder, header), [header, PAIR, END])
    opened: list[str] = []
    read = comparisons.read
    monkeypatch.setattr(comparisons, "read", lambda path: opened.append(path.name) or read(path))
    options = compare.CompareOptions(
        "old/1", "new/1", False, None, None, "m4", compare.Rule(), compare.interleave.Budget(), False, False, True
    )  # fmt: skip
    assert compare.stored(track, options).header.seed == 4
    assert len(opened) == 1


def test_a_lock_says_the_day_and_the_zone(tmp_path: Path) -> None:
    """Who holds a lock since yesterday is not taken for one who began today: the message has the date, in UTC."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    with (
        results.lock(tmp_path, "toy", "box"),
        pytest.raises(InputError) as error,
        results.lock(tmp_path, "toy", "box"),
    ):
        pass
    since = str(error.value).partition(" since ")[2][:23]
    assert before <= datetime.strptime(since, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC) + timedelta(
        seconds=1
    )


def test_nothing_that_was_set_aside_is_overwritten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two broken files of a commit keep names of their own, though the clock says the same of both."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(results, "datetime", Stopped)
    for text in ("first", "second", "third"):
        opened = store()
        opened.folder.mkdir(parents=True, exist_ok=True)
        opened.path.write_text(text, "utf-8")
        store()
    kept = [path.read_text("utf-8") for path in sorted(store.folder.glob("*.corrupt-*"))]
    assert kept == ["first", "second", "third"]


def test_a_leap_second_is_a_moment(store: Store) -> None:
    """A measurement that began in a leap second is stored, and asv's file derived from it."""
    description = benchmark("toy.time_it")
    opened = store()
    opened.add(measured(case_of(description), [1.0, 2.0], started="2016-12-31T23:59:60.250Z"), description)
    assert store().launches_done(case_of(description)) == 1
    assert opened.path.exists()


LABELS = {
    "commands/bench.py", "commands/monitor.py", "markers.py", "monitor/sampler.py", "profiling/benchmark.py",
    "results.py", "site/asv_tree.py", "site/publish.py",
}  # fmt: skip
"""Modules that read the clock of the day, to write down when something was."""


def test_no_limit_is_taken_from_a_clock_that_can_be_set() -> None:
    """Durations and time limits come from the monotonic clock: what reads the time of day only labels with it."""
    root = Path(mlx_velocity.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and (getattr(node.value, "id", ""), node.attr)
        in {
            ("time", "time"),
            ("time", "time_ns"),
            ("datetime", "now"),
            ("datetime", "utcnow"),
            ("date", "today"),
        }
    }
    assert found == LABELS
