"""What is told of the files: never another answer than the files give, and nothing read twice."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import git
import pytest
from fixtures_history import PEAK, Lab

from mlx_velocity.commands import history as command
from mlx_velocity.history_report import HistoryReport
from mlx_velocity.store import files, reading

LEVELS = [0.1] * 8 + [0.12] * 7


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A machine with a time that changes, a count, a failure of it, and a commit that was not measured."""
    lab = Lab(tmp_path)
    lab.fill([*LEVELS, None, 0.12])
    lab.fill([1000.0] * 5, launches=1, benchmark=PEAK)
    return lab


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened, since it was cleared."""
    found: list[str] = []
    read = files.read_batch

    def watched(root: str, paths: list[str]) -> Any:
        found.extend(paths)
        return read(root, paths)

    monkeypatch.setattr(reading, "read_batch", watched)
    return found


def tell(lab: Lab, case: str | None = None) -> HistoryReport:
    return command.tell(lab.track, command.HistoryOptions(case))


def kept_file(lab: Lab) -> Path:
    (path,) = (lab.track.work_dir / "index").glob("*.sqlite3")
    return path


def from_files(lab: Lab) -> HistoryReport:
    """What the files say, without anything that is kept."""
    kept_file(lab).unlink()
    return tell(lab)


def test_what_did_not_change_is_not_read_again(lab: Lab, opened: list[str]) -> None:
    """The second call opens no file and says the same; one of a single case neither."""
    first = tell(lab)
    assert len(opened) == 2 * (len(LEVELS) + 1)
    opened.clear()
    assert tell(lab) == first
    tell(lab, "prefill")
    assert opened == []


def test_what_did_not_change_is_not_worked_out_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit more on the branch, without results, changes nothing; one with results does."""
    first = tell(lab)
    with monkeypatch.context() as patched:
        patched.setattr("mlx_velocity.told.indexed_series", None)
        assert tell(lab) == first
    lab.add(18, [0.12, 0.12])
    assert tell(lab) != first


def test_what_comes_to_lie_on_the_branch_is_told(lab: Lab) -> None:
    """Results of a commit that the branch did not have are told as soon as it has them."""
    with git.Repo(lab.repo_path) as repo:
        repo.create_head("shorter", lab.commits[14])
        options = command.HistoryOptions(branch="shorter")
        (before,) = command.tell(lab.track, options).machines
        repo.heads.shorter.set_commit("main")
        (after,) = command.tell(lab.track, options).machines
        repo.delete_head("shorter", force=True)
    assert (before.commits, before.elsewhere) == (15, 1)
    assert (after.commits, after.elsewhere) == (16, 0)
    assert after == tell(lab).machines[0]


def test_since_is_another_view_of_the_same(lab: Lab) -> None:
    """What is asked for does not change what is kept: with --since, without, and with it again."""
    whole = tell(lab)
    part = command.tell(lab.track, command.HistoryOptions(since=lab.commits[10]))
    (case,) = [case for case in part.machines[0].cases if case.benchmark.startswith("prefill")]
    assert case.first_shown == 11
    assert [shift.in_range for shift in case.shifts] == [False]
    assert tell(lab) == whole


def test_only_what_changed_is_read(lab: Lab, opened: list[str]) -> None:
    """A commit measured again and a new one are read, no other; the answer is that of all files."""
    tell(lab)
    lab.add(3, [0.1, 0.1])
    lab.add(18, [0.12, 0.12])
    opened.clear()
    told = tell(lab)
    assert {path.split("/")[1][:8] for path in opened} == {lab.commits[3][:8], lab.commits[18][:8]}
    assert told == from_files(lab)


def test_another_suite_is_another_answer(lab: Lab) -> None:
    """Where the suite changed, nothing that was told under the old one counts."""
    before = tell(lab)
    lab.track.results_dir.joinpath("benchmarks.json").unlink()
    told = tell(lab)
    assert told != before
    assert told == from_files(lab)


@pytest.mark.parametrize("what", ["cut", "another", "gone"])
def test_damaged_columns_cost_time_alone(lab: Lab, what: str) -> None:
    """The file of points is checked as a whole: whatever happens to it, the answer is that of the results."""
    told = tell(lab)
    (path,) = (lab.track.work_dir / "index").glob("*.columns")
    data = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-8] if what == "cut" else data[:8] + bytes([data[8] ^ 1]) + data[9:])
    left = path.with_name(f".{path.name}.999999999.new")
    left.write_bytes(b"of a process that was killed")
    assert tell(lab) == told
    assert path.read_bytes() == data
    assert not left.exists()


@pytest.mark.parametrize("harm", ["garbage", "cut", "columns", "derived", "other format"])
def test_a_damaged_index_costs_time_alone(lab: Lab, harm: str) -> None:
    """Whatever happens to what is kept, the answer is that of the files."""
    told, path = tell(lab), kept_file(lab)
    if harm == "garbage":
        path.write_bytes(os.urandom(5000))
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with sqlite3.connect(path) as base:
            base.execute(
                "PRAGMA user_version = 99" if harm == "other format" else f"UPDATE {harm} SET data = x'00'"
            )
        base.close()
    assert tell(lab) == told
    assert tell(lab) == told


def test_what_cannot_be_kept_is_told_all_the_same(lab: Lab) -> None:
    """A checkout where nothing can be written, a file where the folder should be, is no reason to say nothing."""
    told = tell(lab)
    index = lab.track.work_dir / "index"
    kept_file(lab).unlink()
    index.rename(index.with_name("away"))
    index.write_text("no folder", "utf-8")
    assert tell(lab) == told


def test_a_file_that_cannot_be_read_is_named_each_time(lab: Lab) -> None:
    """What is wrong with a file is never kept as if it were read: each call names it again."""
    path = next(lab.box().glob("*.readings.jsonl"))
    path.write_text(path.read_text("utf-8") + "no line\n", "utf-8")
    said: list[Any] = [tell(lab).machines[0].unread for _ in range(3)]
    assert said[0] == said[1] == said[2]
    assert path.name in said[0][0].file
