"""A real runner that is killed in the middle of a real run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import MakeTrack, Toy, gone

from mlx_velocity import readings, records

# Six quick cases in two launches: a kill meets any of them.
SUITE = """
import time

class Stage:
    params = list(range(6))
    param_names = ["n"]
    version, rounds, repeat, warmup_time = "1", 2, 2, 0

    def setup(self, n):
        pass

    def time_quick(self, n):
        time.sleep(0.02)
"""
CASES, LAUNCHES = 6, 2


def start(folder: Path, commit: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlx_velocity", "run", commit, "--machine", "killed"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measured(folder: Path) -> list[records.Measurement]:
    found = [
        reading
        for path in folder.glob(f"results/toy/killed/*{readings.SUFFIX}")
        for reading in readings.read(path)[0]
    ]
    return [reading for reading in found if isinstance(reading, records.Measurement)]


@pytest.mark.parametrize("after", [1, 5, 9])
def test_kill_9_loses_at_most_the_case_in_flight(toy_track: MakeTrack, toy: Toy, after: int) -> None:
    """What was stored when the runner was killed is there afterwards, and the next run does only the rest."""
    folder = toy_track.folder
    toy_track()
    (folder / "benchmarks" / "__init__.py").touch()
    (folder / "benchmarks" / "suite.py").write_text(SUITE, "utf-8")

    runner = start(folder, toy.commits["two"])
    deadline = time.monotonic() + 120
    while len(measured(folder)) < after:
        assert runner.poll() is None, runner.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    workers = psutil.Process(runner.pid).children(recursive=True)
    os.kill(runner.pid, signal.SIGKILL)
    runner.communicate()
    before = measured(folder)
    assert len(before) >= after
    assert all(gone(worker.pid) for worker in workers), "a worker was left behind"

    again = start(folder, toy.commits["two"])
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, output + errors
    everything = measured(folder)
    assert everything[: len(before)] == before
    assert len(everything) == CASES * LAUNCHES
    assert f"{CASES * LAUNCHES - len(before)} case launches measured" in output
    (stored,) = folder.glob("results/toy/killed/*-*.json")
    columns = json.loads(stored.read_text("utf-8"))
    values = dict(zip(columns["result_columns"], columns["results"]["suite.Stage.time_quick"], strict=False))
    assert [len(samples) for samples in values["samples"]] == [2 * LAUNCHES] * CASES
    third = start(folder, toy.commits["two"])
    assert "Nothing to measure" in third.communicate(timeout=120)[0]
