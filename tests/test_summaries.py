"""What history keeps of the files: never another answer than the files give, and nothing read twice."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from fixtures_history import PEAK, Lab

from mlx_velocity import results
from mlx_velocity.commands import history as command
from mlx_velocity.commands import summaries
from mlx_velocity.history_report import HistoryReport

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
    """The commits whose files were opened, since it was cleared."""
    found: list[str] = []

    class Watched(results.CommitResults):
        def __post_init__(self) -> None:
            found.append(self.commit)
            super().__post_init__()

    monkeypatch.setattr(results, "CommitResults", Watched)
    return found


def tell(lab: Lab, case: str | None = None) -> HistoryReport:
    return command.tell(lab.track, command.HistoryOptions(case))


def kept_file(lab: Lab) -> Path:
    (path,) = (lab.track.work_dir / "index").glob("*.history.sqlite3")
    return path


def from_files(lab: Lab) -> HistoryReport:
    """What the files say, without anything that is kept."""
    kept_file(lab).unlink()
    return tell(lab)


def test_what_did_not_change_is_not_read_again(lab: Lab, opened: list[str]) -> None:
    """The second call opens no file and says the same; one of a single case neither."""
    first = tell(lab)
    assert len(opened) == len(LEVELS) + 1
    opened.clear()
    assert tell(lab) == first
    tell(lab, "prefill")
    assert opened == []


def test_only_what_changed_is_read(lab: Lab, opened: list[str]) -> None:
    """A commit measured again and a new one are read, no other; the answer is that of all files."""
    tell(lab)
    lab.add(3, [0.1, 0.1])
    lab.add(18, [0.12, 0.12])
    opened.clear()
    told = tell(lab)
    assert sorted(opened) == sorted([lab.commits[3], lab.commits[18]])
    assert told == from_files(lab)


def test_another_suite_is_another_answer(lab: Lab, opened: list[str]) -> None:
    """Where the suite changed, nothing that was kept under the old one counts."""
    tell(lab)
    lab.track.results_dir.joinpath("benchmarks.json").unlink()
    opened.clear()
    told = tell(lab)
    assert len(opened) == len(LEVELS) + 1
    assert told == from_files(lab)


@pytest.mark.parametrize("harm", ["garbage", "cut", "rows", "other format"])
def test_a_damaged_file_of_summaries_costs_time_alone(lab: Lab, harm: str) -> None:
    """Whatever happens to what is kept, the answer is that of the files."""
    told, path = tell(lab), kept_file(lab)
    if harm == "garbage":
        path.write_bytes(os.urandom(5000))
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with sqlite3.connect(path) as base:
            base.execute(
                "PRAGMA user_version = 99" if harm == "other format" else "UPDATE kept SET data = x'00'"
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


def test_a_summary_comes_back_as_it_was(lab: Lab) -> None:
    """Every field of a summary survives being kept."""
    from mlx_velocity import archive, stored_series

    benchmarks: dict[str, Any] = {}
    for entry in archive.walk(lab.box(), lab.commits, benchmarks, archive.Survey()):
        said = stored_series.condense(entry, benchmarks)
        said = dataclasses.replace(said, broken="failed: no wheel")
        assert summaries.load(summaries.dump(said)) == said
