"""A small made-up history with results, and the program as a user starts it."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import git
import pytest
from asv import util

from mlx_velocity import __main__ as entry
from mlx_velocity import cases, machine, parameters, readings, records, releases, results, tracks
from mlx_velocity.site import publish
from mlx_velocity.site.publish import Published

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".asv" / "environments"
"""Where `make demo` makes environments: the tests use the same ones, since making one costs a download."""

LISTED = [
    releases.Release("2025-01-01T00:00:00Z", "mlx", "0.25.0"),
    releases.Release("2025-01-02T00:00:00Z", "mlx-lm", "0.24.0"),
    releases.Release("2025-01-03T10:00:00Z", "mlx", "0.25.1"),
    releases.Release("2025-01-04T10:00:00Z", "mlx-lm", "0.24.1"),
    releases.Release("2025-01-05T10:00:00Z", "mlx", "0.25.2"),
    releases.Release("2025-01-06T10:00:00Z", "mlx", "0.26.0"),
]
SUBJECTS = [step.subject for step in releases.steps(LISTED)]
ENV_NAME = "velocity-py3.11-backendcpu"
SERIES = {"backend": "cpu"}

BENCHMARKS: list[dict[str, Any]] = [
    {
        "name": "prefill.Prefill.time_prefill",
        "params": [["'tiny-float32'", "'tiny-4bit'"], ["32", "128"]],
        "param_names": ["model", "tokens"],
        "tokens_from": "tokens",
        "version": "1",
        "unit": "seconds",
        "type": "time",
        "code": "def time_prefill(self, model, tokens):\n    self.run()",
        "rounds": 2,
        "timeout": 60.0,
    },
    {
        "name": "decode.Memory.track_peak_bytes",
        "params": [],
        "param_names": [],
        "version": "1",
        "unit": "bytes",
        "type": "track",
        "code": "def track_peak_bytes(self):\n    return 1",
    },
]
BY_NAME = {item["name"]: item for item in BENCHMARKS}
LAST_VALUE_S = 0.0105
"""What the first case takes at the newest commit: half of what it took before."""


def make_track(folder: Path, **keys: Any) -> tracks.Track:
    """The track `made-up` over a repository of `LISTED`, without results."""
    repository = folder / "releases"
    if not repository.exists():
        releases.build(repository, LISTED).close()
    (folder / "benchmarks").mkdir(exist_ok=True)
    (folder / "benchmarks" / "__init__.py").touch()
    settings = {
        "version": 1,
        "project": "made-up",
        "project_url": "https://example.invalid/made-up",
        "repo": str(repository),
        "dvcs": "git",
        "branches": ["main"],
        "plugins": [tracks.PLUGIN],
        "environment_type": "velocity",
        "results_dir": "results/made-up",
        "env_dir": "environments",
        "html_dir": ".asv/html",
        "mlx_velocity": {"requirements": "requirements.txt", "backend": "cpu"},
        **keys,
    }
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(settings), "utf-8")
    return tracks.load(path)


def commits_of(track: tracks.Track) -> list[git.Commit]:
    """The commits of the made-up history, oldest first."""
    with git.Repo(track.conf.repo) as repository:
        return list(repository.iter_commits("main", reverse=True))


def open_results(
    track: tracks.Track, commit: git.Commit, name: str = "box", cpu: str = "made-up"
) -> results.CommitResults:
    """The results of a commit on a machine, whose description is written where it is missing."""
    description = {**machine.describe(name), "cpu": cpu, "os": "Linux 6.1", "ram": "8000000000", "gpu": ""}
    folder = track.results_dir / name
    if not (folder / "machine.json").exists():
        readings.replace(folder / "machine.json", machine.text_of(description))
    params = {**{key: str(value) for key, value in description.items()}, "python": "3.11", **SERIES}
    return results.CommitResults(
        folder, params, SERIES, commit.hexsha, commit.authored_date, ENV_NAME, "3.11"
    )  # fmt: skip


def fill(track: tracks.Track, names: Iterable[str] = ("box",), cpu: str = "made-up") -> None:
    """Two launches of every case at every commit; the newest takes half of everything, and one case failed."""
    cases.save(track, BENCHMARKS)
    listed = commits_of(track)
    for name in names:
        for number, commit in enumerate(listed):
            stored = open_results(track, commit, name, cpu)
            stored.add(records.Environment(ENV_NAME, "cpu", "3.11", ["mlx"], {"mlx": "0.25.0"}))
            for benchmark in BENCHMARKS:
                for index, params in enumerate(parameters.sets(benchmark)):
                    for launch in ("first", "second"):
                        at = f"2026-01-0{number + 1}T00:00:00.000Z"
                        if number == 1 and index == 3:
                            reading: records.Reading = records.Failure(
                                "failed",
                                "exit -9",
                                benchmark["name"],
                                "1",
                                list(params),
                                launch,
                                -9,
                                started=at,
                            )
                        else:
                            reading = records.Measurement(
                                launch, benchmark["name"], "1", list(params), benchmark["unit"],
                                samples(benchmark, index, number == len(listed) - 1, launch), [], at, 0.5,
                            )  # fmt: skip
                        stored.add(reading, benchmark)


def on_gpu(track: tracks.Track) -> None:
    """Make it so that the machine `box` measured with a GPU whose peaks are published, and counted six joules."""
    for path in track.results_dir.glob("box/*"):
        text = path.read_text("utf-8").replace('"backend": "cpu"', '"backend": "cuda"')
        text = text.replace('"gpu": ""', '"gpu": "NVIDIA H200, 143771 MiB"')
        path.write_text(text.replace('"notes":{}', '"notes":{"sampled_energy_j":6.0}'), "utf-8")


def samples(benchmark: dict[str, Any], index: int, newest: bool, launch: str) -> list[float]:
    """Three samples of a case."""
    if benchmark["unit"] == "bytes":
        return [500_000.0 if newest else 1_000_000.0]
    base = LAST_VALUE_S * (index + 1) * (1 if newest else 2)
    shift = 1.0 if launch == "first" else 1.001
    return [base * shift * factor for factor in (0.99, 1.0, 1.01)]


def has_results(results_dir: Path) -> bool:
    """Whether a folder holds results of a machine that is not just for show."""
    return any(path.name != "machine.json" for path in results_dir.glob("*/*.json"))


@cache
def committed_site() -> tuple[Path, Published] | None:
    """A folder with the site of this repository's own results, built once; None without such results."""
    stored = ROOT / "results" / "releases"
    if not has_results(stored):
        return None
    folder = Path(tempfile.mkdtemp(prefix="mlx-velocity-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = {"repo": "releases:mlx,mlx-lm", "dvcs": "releases", "results_dir": str(stored)}
    return folder, built(make_track(folder, **settings))


def built(track: tracks.Track) -> Published:
    """The site of one track, where its configuration says."""
    return publish.publish([track], track.html_dir)


def data_of(site: Published) -> Path:
    """Where the data of the only track lie, with asv-tachyon over it."""
    (track,) = site.tracks
    return site.html_dir / track.folder / publish.ASV_FOLDER


# The program


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def program(
    *arguments: str,
    cwd: Path,
    env: dict[str, str] | None = None,
    stdin: str = "",
    module: str = "mlx_velocity",
    timeout_s: float = 300.0,
) -> Done:
    """Run `python -m mlx_velocity` (or another module) as a user would, with only a basic environment."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd, env=basic_environment() | (env or {}), input=stdin, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Runs the program in this process, which is faster: the same entry, the same exit codes."""
    monkeypatch.setattr(sys, "argv", ["mlx-velocity", *arguments])
    capsys.readouterr()
    code: Any = 0
    try:
        entry.main()
    except SystemExit as ended:
        code = ended.code or 0
    out, err = capsys.readouterr()
    return Done(int(code), out, err)


def basic_environment() -> dict[str, str]:
    """What a command needs of ours, and the package cache, wherever HOME points."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "COVERAGE_PROCESS_START")
        or key.startswith(("UV_", "PIP_", "SSL_", "COV_CORE", "http", "HTTP", "no_", "NO_"))
    }
    home = Path(os.environ.get("HOME", "/"))
    kept.setdefault("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR") or str(home / ".cache" / "uv"))
    return kept | {"COLUMNS": "80", "TERM": "dumb"}


@contextmanager
def serving(cwd: Path) -> Iterator[str]:
    """`mlx-velocity preview` on a free port; gives the site's address."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "mlx_velocity", "preview", "--port", "0"],
        cwd=cwd, env=basic_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line or process.communicate()[1]
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=10)


@dataclass(frozen=True)
class Project:
    """A folder with a configuration, our benchmarks, and a home of its own."""

    folder: Path

    @property
    def results(self) -> Path:
        """Where its results are."""
        return self.folder / "results" / "releases"

    def asv(self, *arguments: str) -> Done:
        """Run stock asv in it."""
        return program(*arguments, cwd=self.folder, env={"HOME": str(self.folder / "home")}, module="asv")

    def ours(self, *arguments: str, **env: str) -> Done:
        """Run our program in it."""
        return program(*arguments, cwd=self.folder, env={"HOME": str(self.folder / "home")} | env)


def make_project(folder: Path, **keys: Any) -> Project:
    """The release history and the benchmarks of this repository in a folder of its own, without results."""
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    settings = util.load_json(str(ROOT / "asv.conf.json"), js_comments=True)
    settings |= {"env_dir": str(ENVIRONMENTS), **keys}
    settings["mlx_velocity"] |= {"backend": "cpu"}
    (folder / "asv.conf.json").write_text(json.dumps(settings), "utf-8")
    (folder / "home").mkdir()
    return Project(folder)
