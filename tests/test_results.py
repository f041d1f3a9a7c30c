"""The store of a machine: asv's files beside the readings, resumed, restored, and never half written."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asv.results import Results
from asv.runner import BenchmarkResult
from conftest import STARTED, Benchmark, Store, benchmark, case_of, failed, measured, one_line

from mlx_velocity import archive, readings, records, results, scheduler
from mlx_velocity.errors import InputError
from mlx_velocity.results import CommitResults

DECODE = benchmark("decode.time_decode", [["'a'", "'b'", "'c'"]])
A, B, C = (case_of(DECODE, index) for index in range(3))
PLAIN = benchmark("prefill.time_prefill")
BENCHMARKS = {item["name"]: item for item in (DECODE, PLAIN)}


def asv_file(stored: CommitResults) -> Results:
    """What stock asv reads."""
    return Results.load(str(stored.path), machine_name="machine")


def values(stored: CommitResults, description: Benchmark = DECODE) -> list[float | None]:
    return asv_file(stored).get_result_value(description["name"], description["params"])


def samples(stored: CommitResults, description: Benchmark = DECODE) -> list[list[float] | None]:
    return asv_file(stored).get_result_samples(description["name"], description["params"])


# What is stored


def test_what_asv_reads(store: Store) -> None:
    """A saved case is in asv's file with the median of all launches and their samples; the rest is missing."""
    stored = store()
    stored.add(measured(A, [3.0, 1.0]), DECODE)
    stored.add(measured(A, [2.0], "second"), DECODE)
    median, *rest = values(stored)
    assert median == 2.0
    assert all(value is not None and math.isnan(value) for value in rest)
    assert samples(stored) == [[3.0, 1.0, 2.0], None, None]
    found = asv_file(stored)
    assert (found.commit_hash, found.date) == (stored.commit, stored.date_s * 1000)
    assert found.params == {"machine": "machine", "python": "3.11", "backend": "cpu"}
    assert found.benchmark_version[DECODE["name"]] == "1"
    assert found.started_at[DECODE["name"]] == 1_767_323_045_000
    assert found.duration[DECODE["name"]] == 1.0
    stats = found.get_result_stats(DECODE["name"], DECODE["params"])[0]
    assert stats["repeat"] == 3


def test_failed_and_skipped(store: Store) -> None:
    """A failure is null and a skip is not-a-number in asv's file, as asv writes them; neither is a zero."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    stored.add(failed(B), DECODE)
    stored.add(failed(C, "skipped", "needs 16 GB"), DECODE)
    one, none, nan = values(stored)
    assert (one, none) == (1.0, None)
    assert nan is not None
    assert math.isnan(nan)


def test_no_parameters(store: Store) -> None:
    """A benchmark without parameters is stored as asv stores it."""
    stored = store()
    stored.add(measured(case_of(PLAIN), [1.0, 2.0]), PLAIN)
    assert values(stored, PLAIN) == [1.5]
    assert samples(stored, PLAIN) == [[1.0, 2.0]]


def test_readings_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is kept where the disk fills up before asv's file is written."""
    stored = store()

    def full(*_: Any) -> None:
        raise InputError("the disk is full", "free some room")

    with monkeypatch.context() as patch:
        patch.setattr(readings, "put_in_place", full)
        with pytest.raises(InputError):
            stored.add(measured(A, [1.0]), DECODE)
    again = store()
    again.restore(BENCHMARKS)
    assert values(again)[0] == 1.0


def test_environment_failure(store: Store) -> None:
    """An environment that can't be had makes every benchmark null, without touching what was measured."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    stored.fail_all(records.Failure("failed", "uv took too long", started=STARTED), BENCHMARKS)
    assert values(stored)[0] == 1.0
    assert values(stored, PLAIN) == [None]


def test_measured_after_environment_failure(store: Store) -> None:
    """What is measured once the environment can be had is stored, whatever failed before."""
    stored = store()
    stored.fail_all(records.Failure("failed", "uv took too long", started=STARTED), BENCHMARKS)
    assert stored.launches_done(A) == 0
    stored.add(measured(A, [1.0]), DECODE)
    assert values(stored)[0] == 1.0
    assert samples(stored) == [[1.0], None, None]


# Going on where a run was ended


def test_launches_are_counted(store: Store) -> None:
    """Each launch that measured a case counts once, in whichever process it was; another case's do not."""
    store().add(measured(A, [1.0]), DECODE)
    stored = store()
    assert (stored.launches_done(A), stored.launches_done(B)) == (1, 0)
    stored.add(measured(A, [1.0]), DECODE)
    stored.add(measured(A, [1.0], "second"), DECODE)
    assert store().launches_done(A) == 2


@pytest.mark.parametrize("outcome", ["failed", "timeout", "skipped"])
def test_failed_case_is_done(outcome: Any, store: Store) -> None:
    """A case that failed or was skipped is not measured again by itself."""
    store().add(failed(A, outcome), DECODE)
    assert store().launches_done(A) == A.launches
    assert store().launches_done(B) == 0


def test_incompatible_commit_is_done(store: Store) -> None:
    """A commit whose requirements contradict each other is not tried again; a failed install is."""
    stored = store()
    stored.fail_all(records.Failure("incompatible", "no wheel", started=STARTED), BENCHMARKS)
    assert store().launches_done(A) == A.launches
    other = store("d" * 40)
    other.fail_all(records.Failure("failed", "uv took too long", started=STARTED), BENCHMARKS)
    assert store("d" * 40).launches_done(A) == 0


def test_forget_failures(store: Store) -> None:
    """Forgotten failures are missing again, on the disk too; measurements and skips stay."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    stored.add(failed(B), DECODE)
    stored.add(failed(C, "skipped"), DECODE)
    stored.fail_all(records.Failure("incompatible", "no wheel", started=STARTED), BENCHMARKS)
    assert stored.forget_failures() == 2
    for one in (stored, store()):
        assert [one.launches_done(case) for case in (A, B, C)] == [1, 0, C.launches]
        assert one.forget_failures() == 0


def test_new_version(store: Store) -> None:
    """A benchmark whose version changed is missing again, and its old numbers are not mixed with new ones."""
    store().add(measured(A, [1.0]), DECODE)
    newer = {**DECODE, "version": "2"}
    case = case_of(newer)
    stored = store()
    assert stored.launches_done(case) == 0
    stored.add(measured(case, [5.0]), newer)
    assert samples(stored, newer) == [[5.0], None, None]
    assert asv_file(stored).benchmark_version[newer["name"]] == "2"


def test_stock_asv_is_kept(store: Store) -> None:
    """What stock asv measured stays when ours is added: another benchmark, another parameter, a new one."""
    stored = store()
    theirs = Results(stored.params, {}, stored.commit, stored.date_s * 1000, "3.11", "toy-env", {})
    other = benchmark("theirs.time_other")
    theirs.add_result(other, BenchmarkResult([7.0], [[7.0]], [1], 0, "", None), record_samples=True)
    older = {**DECODE, "params": [["'b'", "'c'"]]}
    theirs.add_result(older, BenchmarkResult([8.0, 9.0], [[8.0], None], [1, None], 0, "", None), record_samples=True)  # fmt: skip
    theirs.save(str(stored.folder.parent))
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    assert values(stored) == [1.0, 8.0, 9.0]
    assert samples(stored) == [[1.0], [8.0], None]
    assert values(stored, other) == [7.0]


def test_stock_asv_is_kept_after_an_environment_failure(store: Store) -> None:
    """What stock asv measured after our environment had failed stays when ours is added."""
    stored = store()
    stored.fail_all(records.Failure("failed", "uv took too long", started=STARTED), BENCHMARKS)
    theirs = Results.load(str(stored.path))
    result = BenchmarkResult([7.0, 8.0, 9.0], [[7.0], [8.0], [9.0]], [1, 1, 1], 0, "", None)
    theirs.add_result(DECODE, result, record_samples=True)
    theirs.save(str(stored.folder.parent))
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    assert values(stored) == [1.0, 8.0, 9.0]


def test_measured_commits(store: Store) -> None:
    """The measured commits are those of readable files; a broken file counts for nothing."""
    for commit in ("a" * 40, "b" * 40):
        store(commit).add(measured(A, [1.0]), DECODE)
    (store.folder / "machine.json").write_text('{"commit_hash": "no"}', "utf-8")
    (store.folder / "cccccccc-env.json").write_text("{", "utf-8")
    (store.folder / "dddddddd-env.json").write_text("[]", "utf-8")
    assert archive.measured_commits(store.folder) == {"a" * 40, "b" * 40}


# Broken files


BREAK: dict[str, Callable[[str], str]] = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "no JSON": lambda _: "<html>",
    "a list": lambda _: "[]",
    "another commit": lambda text: json.dumps({**json.loads(text), "commit_hash": "f" * 40}),
    "another machine": lambda text: text.replace('"machine": "machine"', '"machine": "other"'),
    "missing keys": lambda _: '{"version": 2}',
    "results of no shape": lambda text: json.dumps({**json.loads(text), "results": {"a": [[1.0], 5]}}),
}


@pytest.mark.parametrize("kind", BREAK)
def test_broken_asv_file(kind: str, store: Store) -> None:
    """A broken result file is set aside with its reason, and made again from the readings."""
    stored = store()
    stored.add(measured(A, [1.0, 2.0]), DECODE)
    before = stored.path.read_text("utf-8")
    text = BREAK[kind](before)
    assert text != before
    stored.path.write_text(text, "utf-8")
    again = store()
    (note,) = again.set_aside
    assert note.reason
    assert "\n" not in note.reason
    assert (store.folder / note.file).read_text("utf-8") == text
    assert not note.file.endswith(".json")
    again.restore(BENCHMARKS)
    assert samples(again) == [[1.0, 2.0], None, None]
    assert again.launches_done(A) == 1
    assert note in store().stored
    assert store().set_aside == []


def test_broken_asv_file_without_readings(store: Store) -> None:
    """Where nothing but a broken file is left, its commit is measured again."""
    stored = store()
    stored.path.write_bytes(b'{"commit_hash": "\xff\x00')
    again = store()
    assert len(again.set_aside) == 1
    again.restore(BENCHMARKS)
    commit = scheduler.Commit(again.commit, again.date_s, "toy")
    assert scheduler.plan(again, commit, [A, B], None).size == 4
    # An empty file would tell stock asv that this commit is done.
    assert not again.path.exists()
    again.add(measured(A, [1.0]), DECODE)
    assert values(again)[0] == 1.0


@pytest.mark.parametrize(
    "params", [["result", "version", "started_at", "stats_ci_99_a"] * 3, [["1"] * 10] * 9]
)
def test_asv_file_with_more_cases_than_fit_into_memory(store: Store, params: list[Any]) -> None:
    """A file whose parameters multiply beyond measure is set aside at once: asv would list all their combinations."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    held = json.loads(stored.path.read_text("utf-8"))
    held["results"]["decode.time_decode"][1] = params
    stored.path.write_text(json.dumps(held), "utf-8")
    (note,) = store().set_aside
    assert "decode.time_decode has" in note.reason


def test_lost_asv_file(store: Store) -> None:
    """A deleted asv file is made again from the readings, failures included."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    stored.add(failed(case_of(PLAIN)), PLAIN)
    before = stored.path.read_text("utf-8")
    stored.path.unlink()
    store().restore(BENCHMARKS)
    again = json.loads(stored.path.read_text("utf-8"))["results"]
    assert again["decode.time_decode"] == json.loads(before)["results"]["decode.time_decode"]
    assert again["prefill.time_prefill"][0] is None


def test_broken_readings(store: Store) -> None:
    """An unreadable line sets the file aside with the reason, and every good line is kept."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    with stored.readings_path.open("a", encoding="utf-8") as stream:
        stream.write('{"format":1,"kind":"measurement","laun')
    torn = stored.readings_path.read_text("utf-8")
    again = store()
    (note,) = again.set_aside
    assert "1 unreadable" in note.reason
    assert (store.folder / note.file).read_text("utf-8") == torn
    assert again.launches_done(A) == 1
    assert readings.read(again.readings_path) == ([measured(A, [1.0]), note], [])
    again.add(measured(A, [2.0], "second"), DECODE)
    assert store().launches_done(A) == 2
    assert store().set_aside == []


def test_full_disk_while_setting_aside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while a torn file is mended loses nothing of it."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    with stored.readings_path.open("a", encoding="utf-8") as stream:
        stream.write("torn")

    opens = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **keys: Any) -> Any:
        if "r" not in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opens(path, mode, *rest, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(InputError) as error:
            store()
    assert "No space left" in one_line(error)
    assert store().launches_done(A) == 1


# The lock

HOLD = """
import sys, time
from pathlib import Path
from mlx_velocity import results
with results.lock(Path(sys.argv[1]), "toy", "machine"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_lock(tmp_path: Path) -> None:
    """A second writer gets one line that names the first; the lock of a killed one is free."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InputError) as error, results.lock(tmp_path, "toy", "machine"):
                pass
            assert f"process {holder.pid}" in one_line(error)
            with results.lock(tmp_path, "toy", "other"), results.lock(tmp_path, "other", "machine"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    for _ in range(2):
        with results.lock(tmp_path, "toy", "machine"):
            pass


def test_looking_moves_nothing(store: Store) -> None:
    """Whoever only looks leaves broken files where they are, since a run may be writing them."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    with stored.readings_path.open("a", encoding="utf-8") as stream:
        stream.write("torn")
    stored.path.write_text("{", "utf-8")
    before = {path.name: path.read_bytes() for path in stored.folder.iterdir()}
    looked = dataclasses.replace(stored, read_only=True, stored=[], set_aside=[])
    assert len(looked.set_aside) == 2
    assert looked.launches_done(A) == 1
    assert {path.name: path.read_bytes() for path in stored.folder.iterdir()} == before


def test_newer_readings_stay(store: Store) -> None:
    """Readings of a later format are not broken: the run stops, says so, and moves nothing."""
    stored = store()
    stored.add(measured(A, [1.0]), DECODE)
    later = stored.readings_path.read_text("utf-8").replace('"format":1', '"format":2')
    stored.readings_path.write_text(later, "utf-8")
    with pytest.raises(InputError, match="upgrade mlx-velocity"):
        store()
    assert stored.readings_path.read_text("utf-8") == later
