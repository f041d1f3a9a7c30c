"""A made-up repository and the results of its commits, the same each time: for publish_speed.py, load.py and the tests.

The result files look like ours: asv's format with samples, and readings beside them where they are asked for.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha1
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

FIRST_DAY_S = 1_600_000_000
HOUR_S = 3600
SAMPLES, LAUNCHES = 6, 2
COLUMNS = [
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
    "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
]  # fmt: skip
PARAMS = [["'tiny-float32'", "'tiny-4bit'"], ["32", "128"]]
TRACK = "made-up"
ENVIRONMENT = "velocity-py3.11-backendcpu"
MACHINE = {
    "os": "Linux 6.1", "arch": "x86_64", "cpu": "made-up", "num_cpu": "2", "ram": "8000000000", "gpu": "",
}  # fmt: skip


@dataclass(frozen=True)
class Store:
    """What to make up."""

    commits: int
    benchmarks: int
    machines: int = 1
    parametrised: int = 0
    """How many of the benchmarks have parameters."""
    readings: bool = False
    missing: float = 0.02
    """Share of numbers that failed."""


def write(folder: Path, store: Store, processes: int = 2) -> list[str]:
    """Write configuration, repository and results to an empty folder; returns the commits, oldest first."""
    _configuration(folder)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", "repo"], cwd=folder, check=True)
    commits = add_commits(folder, 0, store.commits)
    names = [f"machine-{number}" for number in range(store.machines)]
    results = folder / "results" / TRACK
    for name in names:
        (results / name).mkdir(parents=True)
        described = {**MACHINE, "machine": name, "version": 1}
        (results / name / "machine.json").write_text(json.dumps(described), "utf-8")
    described = {item["name"]: item for item in suite(store)}
    (results / "benchmarks.json").write_text(json.dumps({**described, "version": 2}), "utf-8")
    parts = [(folder, store, name, commits, range(start, len(commits), processes)) for name in names
             for start in range(processes)]  # fmt: skip
    if store.commits * store.benchmarks < 10_000:
        for part in parts:
            _results(*part)
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            list(pool.map(_results, *zip(*parts, strict=True)))
    return commits


def add(folder: Path, store: Store, commits: list[str]) -> list[str]:
    """One commit more, with results on every machine; returns all commits."""
    commits = [*commits, *add_commits(folder, len(commits), 1)]
    for number in range(store.machines):
        _results(folder, store, f"machine-{number}", commits, range(len(commits) - 1, len(commits)))
    return commits


def add_commits(folder: Path, first: int, count: int) -> list[str]:
    """Commits on the main branch, an hour apart, every fiftieth with a tag; returns their hashes."""
    lines = []
    for number in range(first, first + count):
        when = f"made-up <made-up@example.invalid> {FIRST_DAY_S + number * HOUR_S} +0000"
        subject = f"Change number {number} of what is computed"
        lines += ["commit refs/heads/main", f"mark :{number + 1}", f"author {when}", f"committer {when}",
                  f"data {len(subject)}", subject]  # fmt: skip
        if number and number == first:
            lines.append("from refs/heads/main^0")
        if not number:
            lines.append("M 100644 inline made_up/__init__.py\ndata 0")
        lines += [f"M 100644 inline number\ndata {len(str(number))}\n{number}", ""]
        if number % 50 == 0:
            lines += [f"reset refs/tags/v{number}", f"from :{number + 1}", ""]
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=folder / "repo", input="\n".join(lines), text=True, check=True
    )
    done = subprocess.run(
        ["git", "rev-list", "--reverse", f"--max-count={count}", "main"],
        cwd=folder / "repo", capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def _configuration(folder: Path) -> None:
    (folder / "benchmarks").mkdir(parents=True)
    settings = {
        "version": 1, "project": "made-up", "project_url": "https://example.invalid/made-up", "repo": "repo",
        "dvcs": "git", "branches": ["main"], "plugins": [".mlx_velocity.asv_plugin"],
        "environment_type": "velocity", "benchmark_dir": "benchmarks", "results_dir": f"results/{TRACK}",
        "env_dir": ".asv/environments", "html_dir": ".asv/html",
        "show_commit_url": "https://example.invalid/commit/", "mlx_velocity": {"backend": "cpu"},
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(settings), "utf-8")


def suite(store: Store) -> list[dict[str, Any]]:
    """asv's description of each benchmark."""
    return [
        {
            "name": f"stage{number % 7}.Case{number}.time_case",
            "params": PARAMS if number < store.parametrised else [],
            "param_names": ["model", "tokens"] if number < store.parametrised else [],
            "version": "1", "unit": "seconds", "type": "time", "timeout": 60.0,
            "code": "def time_case(self):\n    self.run()", "rounds": LAUNCHES,
        }
        for number in range(store.benchmarks)
    ]  # fmt: skip


def params_of(benchmark: dict[str, Any]) -> list[list[str]]:
    """The parameter sets of a benchmark, one that is empty where it has none."""
    return [list(values) for values in itertools.product(*benchmark["params"])]


def levels(store: Store, machine: str, commits: int) -> np.ndarray:
    """The true value of each case (row) at each commit: some steps up and down, of 2 to 10 %."""
    rows = sum(len(PARAMS[0]) * len(PARAMS[1]) if item["params"] else 1 for item in suite(store))
    seed = int(sha1(machine.encode()).hexdigest()[:8], 16)
    made = np.random.default_rng(seed).lognormal(-5, 1, rows)[:, None].repeat(commits, axis=1)
    for row in range(rows):
        # Of the row alone, so that one commit more changes nothing before it.
        random = np.random.default_rng([seed, row])
        places = np.exp(random.uniform(np.log(10), np.log(20_000), 12)).astype(int)
        for place, size in zip(places.tolist(), random.uniform(0.02, 0.1, 12), strict=True):
            made[row, place:] *= 1 + size * (1 if place % 2 else -1)
    return made


def _results(folder: Path, store: Store, machine: str, commits: list[str], places: Iterable[int]) -> None:
    true = levels(store, machine, len(commits))
    benchmarks = suite(store)
    for place in places:
        random = np.random.default_rng([place, len(machine), int(machine.rpartition("-")[2])])
        taken = true[:, place, None] * (1 + 0.01 * random.standard_normal((len(true), SAMPLES)))
        failed = random.random(len(true)) < store.missing
        stem = folder / "results" / TRACK / machine / f"{commits[place][:8]}-{ENVIRONMENT}"
        stem.with_name(stem.name + ".json").write_text(
            _text(benchmarks, machine, commits[place], place, taken, failed), "utf-8"
        )
        if store.readings:
            stem.with_name(stem.name + ".readings.jsonl").write_text(
                _readings(benchmarks, taken, failed), "utf-8"
            )


def _text(
    benchmarks: list[dict[str, Any]],
    machine: str,
    commit: str,
    place: int,
    taken: np.ndarray,
    failed: np.ndarray,
) -> str:
    middle = np.median(taken, axis=1)
    quarters = [
        [float(f"{value:.5g}") for value in row] for row in np.quantile(taken, [0.0, 1.0, 0.25, 0.75], axis=1)
    ]
    rows: dict[str, list[Any]] = {}
    row = 0
    for benchmark in benchmarks:
        width = 4 if benchmark["params"] else 1
        chosen = range(row, row + width)
        row += width

        def column(values: Any, chosen: range = chosen) -> list[Any]:
            return [None if failed[index] else values[index] for index in chosen]

        rows[benchmark["name"]] = [
            column(middle.tolist()), benchmark["params"], "1", (FIRST_DAY_S + place * HOUR_S) * 1000 + row, 1.5,
            *(column(values) for values in quarters), column([1] * len(taken)), column([SAMPLES] * len(taken)),
            column(taken.tolist()),
        ]  # fmt: skip
    return json.dumps(
        {
            "commit_hash": commit, "env_name": ENVIRONMENT, "date": (FIRST_DAY_S + place * HOUR_S) * 1000,
            "params": {**MACHINE, "machine": machine, "python": "3.11", "backend": "cpu"}, "python": "3.11",
            "requirements": {"backend": "cpu"}, "env_vars": {}, "result_columns": COLUMNS, "results": rows,
            "durations": {}, "version": 2,
        }
    )  # fmt: skip


def _readings(benchmarks: list[dict[str, Any]], taken: np.ndarray, failed: np.ndarray) -> str:
    started = "2026-01-01T00:00:00.000Z"
    lines: list[dict[str, Any]] = [
        {"kind": "environment", "name": ENVIRONMENT, "backend": "cpu", "python": "3.11", "requirements": [],
         "packages": {f"package-{number}": "1.0" for number in range(40)}}
    ]  # fmt: skip
    for launch in range(LAUNCHES):
        lines.append({"kind": "launch", "launch": f"launch-{launch}", "started": started, "affinity": [1],
                      "modules": {"mlx.core": "0.31.0"}, "startup_s": 1.5})  # fmt: skip
        row = 0
        for benchmark in benchmarks:
            for params in params_of(benchmark):
                case = {"launch": f"launch-{launch}", "benchmark": benchmark["name"], "version": "1",
                        "params": params, "started": started}  # fmt: skip
                if failed[row]:
                    lines.append({"kind": "failure", **case, "outcome": "failed", "reason": "exit -9",
                                  "exit_code": -9, "last_lines": []})  # fmt: skip
                else:
                    samples = taken[row].tolist()[launch::LAUNCHES]
                    lines.append({"kind": "measurement", **case, "unit": "seconds", "samples": samples,
                                  "warmup": samples[:1], "duration_s": 0.5, "notes": {"digest": "a7b6cce9de52104f"},
                                  "sensors": {"load_1m": 0.5, "cpu_mhz": 2596, "available_bytes": 24051834880,
                                              "swap_growth_bytes": 0, "others_busy_cores": 0.1}})  # fmt: skip
                row += 1
    return "".join(json.dumps({"format": 1, **line}, separators=(",", ":")) + "\n" for line in lines)


def copy(source: Path, target: Path) -> None:
    """A store of its own."""
    shutil.copytree(source, target, symlinks=True)
