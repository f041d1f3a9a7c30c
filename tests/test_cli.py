"""The command line: what it says to wrong input, to a broken machine, and for help."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import fixtures_site as made
import pytest
import typer
from conftest import ENVIRONMENT, HELLO, SAMPLES
from fixtures_site import Done, Project

import mlx_velocity
from mlx_velocity import cases, readings, results, scheduler, tracks
from mlx_velocity import history as history_of
from mlx_velocity.cli import app
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import EnvironmentFailure
from mlx_velocity.offline import manifest
from mlx_velocity.probe import profiles
from mlx_velocity.workers import WorkerError

WRONG, FAILED, INTERRUPTED = 2, 4, 130
COMMANDS = sorted(typer.main.get_command(app).commands)

Run = Callable[..., Done]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program in this process, which is faster: the same entry, the same exit codes."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Done:
        return made.in_process(monkeypatch, capsys, *arguments)

    return run


def refused(done: Done, code: int, *words: str) -> str:
    """The one line of a command that failed: what is wrong, and after a semicolon what to do."""
    assert done.code == code, f"exit {done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.out + done.err
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert re.fullmatch(r"mlx-velocity: \S.*; \S.*", lines[0]), lines[0]
    assert "this is a bug" not in lines[0]
    for word in words:
        assert word in lines[0]
    return lines[0]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tracks.Track:
    """A made-up track without results; the working folder is its folder."""
    monkeypatch.chdir(tmp_path)
    return made.make_track(tmp_path)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made-up track and its results."""
    folder = tmp_path_factory.mktemp("history")
    made.fill(made.make_track(folder))
    return folder


@pytest.fixture
def filled(history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tracks.Track:
    """A copy of it; the working folder is its folder."""
    shutil.copytree(history, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return made.make_track(tmp_path)


# Help


def test_the_version_is_printed(here: Run) -> None:
    """`--version` prints the version and nothing else."""
    assert here("--version") == Done(0, f"mlx-velocity {mlx_velocity.__version__}\n", "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal(here: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """The help of the program and of each command fits 80 columns, and `-h` is the same."""
    monkeypatch.setenv("COLUMNS", "80")
    done = here(*filter(None, [command]), "--help")
    assert done.code == 0
    assert "Usage:" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert here(*filter(None, [command]), "-h").out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_everything(command: str) -> None:
    """Each command says what it does, and each of its arguments and options what it means."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group | typer.core.TyperGroup)
    found = group.commands[command]
    assert found.help
    for parameter in found.params:
        assert getattr(parameter, "help", None), f"{command} {parameter.name} is not explained"


@pytest.mark.parametrize("command", ["run", "show"])
def test_help_of_what_takes_arguments_has_examples(here: Run, command: str) -> None:
    """Commands with arguments show how they are used."""
    text = here(command, "--help").out
    assert "Examples:" in text
    assert text.count(f"mlx-velocity {command} ") >= 2


def test_the_program_lists_all_commands(here: Run) -> None:
    """The program's own help names every command and the exit codes."""
    text = here("--help").out
    assert all(re.search(rf"^│ {command}\b", text, re.M) for command in COMMANDS)
    assert "Exit codes" in text


@pytest.mark.parametrize("arguments", [["frobnicate"], ["run", "--frobnicate"], ["run", "--launches", "0"], ["preview", "--port", "65536"]])  # fmt: skip
def test_wrong_usage(here: Run, arguments: list[str]) -> None:
    """An unknown command or option, or a number out of bounds, is wrong usage and no traceback."""
    done = here(*arguments)
    assert done.code == WRONG
    assert "Usage:" in done.err
    assert "Traceback" not in done.err


# Wrong input


@pytest.mark.parametrize("spec", ["nothing", "nothing..main", "main..nothing", "main..main~1", "main~99", "0" * 40, "--all", "", "main:requirements.txt"])  # fmt: skip
def test_a_range_that_names_nothing(here: Run, track: tracks.Track, spec: str) -> None:
    """A range that names no commit is refused before anything is made."""
    refused(here("run", "--", spec), WRONG, f"'{spec.replace('main..nothing', 'nothing').replace('nothing..main', 'nothing')}'")  # fmt: skip
    assert not track.results_dir.exists()
    assert not (track.root / "environments").exists()


def test_a_list_of_commits_that_is_not_there(here: Run, track: tracks.Track) -> None:
    """A HASHFILE that can't be read is named."""
    refused(here("run", "HASHFILE:none.txt"), WRONG, "none.txt")


@pytest.mark.parametrize("arguments", [["show", "nothing"], ["show", "main", "nothing"]])
def test_a_commit_that_is_none(here: Run, filled: tracks.Track, arguments: list[str]) -> None:
    """`show` of a name that is no commit says so and suggests some that are."""
    assert "mlx-" in refused(here(*arguments, "--machine", "box"), WRONG, "'nothing'")


def test_a_commit_without_results(here: Run, filled: tracks.Track) -> None:
    """`show` of a commit that was not measured says how to measure it."""
    for path in (filled.results_dir / "box").glob(f"{made.commits_of(filled)[0].hexsha[:8]}-*"):
        path.unlink()
    refused(here("show", "main~4", "--machine", "box"), WRONG, "mlx-velocity run main~4")


@pytest.mark.parametrize("command", ["run", "show", "publish", "preview"])
def test_an_unknown_track(here: Run, track: tracks.Track, command: str) -> None:
    """An unknown track is refused with the names of those that there are."""
    refused(here(command, "--track", "nope"), WRONG, "'nope'", "made-up")


@pytest.mark.parametrize("command", ["run", "show", "publish", "preview"])
def test_no_configuration(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Outside of any suite, and with a configuration that is not there, the program says so."""
    monkeypatch.chdir(tmp_path)
    refused(here(command), WRONG, "asv.conf.json")
    refused(here(command, "--config", "none.json"), WRONG, "none.json")


GOOD = {"version": 1, "project": "p", "repo": "releases:mlx,mlx-lm", "dvcs": "releases", "branches": ["main"]}
BROKEN_CONFIGURATIONS = {
    "cut off": "{",
    "empty": "",
    "a list": "[]",
    "a number": "3",
    "nothing": "null",
    "without a version": "{}",
    "of a newer format": '{"version": 99, "repo": "x"}',
    "without a repository": '{"version": 1}',
    "with a plugin that is not there": {**GOOD, "plugins": [".not_there"]},
    "with a plugin that is no list": {**GOOD, "plugins": ".not_there"},
    "with an unknown setting": {**GOOD, "mlx_velocity": {"bogus": 1}},
    "with settings that are none": {**GOOD, "mlx_velocity": 3},
    "with a setting of the wrong kind": {**GOOD, "mlx_velocity": {"overlay": 5}},
    "with a folder that is a number": {**GOOD, "results_dir": 5},
    "with a project that is a number": {**GOOD, "project": 7},
    "without a Python": {**GOOD, "pythons": []},
    "with a matrix that is a list": {**GOOD, "matrix": []},
    "without branches": {**GOOD, "branches": []},
    "with a timeout in words": {**GOOD, "default_benchmark_timeout": "long"},
    "without benchmarks": {**GOOD, "benchmark_dir": "nowhere"},
}


@pytest.mark.parametrize("what", list(BROKEN_CONFIGURATIONS))
def test_a_broken_configuration(
    here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A configuration that is broken is named, with what is wrong in it."""
    content = BROKEN_CONFIGURATIONS[what]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "asv.conf.json").write_text(
        content if isinstance(content, str) else json.dumps(content), "utf-8"
    )
    for command in ("run", "show", "publish"):
        refused(here(command), WRONG, "asv.conf.json")
    assert not (tmp_path / "results").exists()


def test_a_configuration_that_is_no_text(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no UTF-8 are a broken configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asv.conf.json").write_bytes(b"\xff\xfe")
    refused(here("show"), WRONG, "asv.conf.json")


@pytest.mark.parametrize("arguments", [
    ["run", "main", "--profile", "huge"],
    ["run", "--list", "--profile", "huge"],
])  # fmt: skip
def test_an_unknown_profile(here: Run, track: tracks.Track, arguments: list[str]) -> None:
    """An unknown profile is refused with the names of those that there are, before anything is made."""
    refused(here(*arguments), WRONG, "'huge'", *profiles.PROFILES)
    assert not (track.root / "environments").exists()


@pytest.mark.parametrize("arguments", [["run", "main"], ["show", "main", "--machine", "box"]])
def test_an_unknown_backend(here: Run, filled: tracks.Track, arguments: list[str]) -> None:
    """An unknown backend is refused with the names of those that there are."""
    refused(here(*arguments, "--backend", "tpu"), WRONG, "'tpu'", "cpu, metal, cuda")


@pytest.mark.parametrize("name", ["Upper", "a b", "../up", "", "x" * 65])
def test_a_machine_that_cannot_be_a_folder(here: Run, track: tracks.Track, name: str) -> None:
    """A machine's name is a folder's name, in lower case."""
    if name:
        refused(here("run", "main", "--machine", name), WRONG, f"'{name}'")
    assert not track.results_dir.exists()


def test_a_machine_without_results(here: Run, filled: tracks.Track) -> None:
    """An unknown machine is answered with those that have results."""
    refused(here("show", "--machine", "other"), WRONG, "other", "box")


def test_an_expression_that_is_none(here: Run, filled: tracks.Track) -> None:
    """A broken regular expression is quoted back."""
    refused(here("show", "--machine", "box", "--bench", "("), WRONG, "'('")


@pytest.mark.parametrize("command", [["run", "main"], ["show"], ["publish"]])
def test_a_repository_that_is_not_there(here: Run, filled: tracks.Track, command: list[str]) -> None:
    """A clone or an address that can't be had is named, and no other one is taken for it."""
    refused(here(*command, "--repo", "/nowhere/at/all"), WRONG, "/nowhere/at/all", "--repo")
    refused(
        here(*command, "--repo", "http://127.0.0.1:1/nothing.git"), WRONG, "http://127.0.0.1:1/nothing.git"
    )


def test_another_address_is_another_clone(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone that an earlier address left behind is not taken for that of a new one."""
    monkeypatch.chdir(tmp_path)
    track = made.make_track(tmp_path)
    first, second = f"file://{track.conf.repo}", "http://127.0.0.1:1/second.git"
    opened = tracks.open_repo(tracks.load(tmp_path / "asv.conf.json", first))
    assert Path(opened._path).is_relative_to(tmp_path / ".asv")
    refused(here("show", "--repo", second), WRONG, second)


def test_a_repository_is_looked_for_where_the_user_stands(
    here: Run, filled: tracks.Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--repo ../clone` is taken from the working folder, not from the configuration's."""
    below = filled.root / "some" / "folder"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert here("show", "--machine", "box", "--repo", "../../releases").code == 0


def test_a_folder_that_is_no_repository(here: Run, filled: tracks.Track, tmp_path: Path) -> None:
    """A folder without git in it is no repository."""
    (tmp_path / "empty").mkdir()
    refused(here("show", "--repo", str(tmp_path / "empty")), WRONG, "empty")


def test_a_branch_that_is_not_there(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch that the configuration names and the repository lacks is named."""
    monkeypatch.chdir(tmp_path)
    made.make_track(tmp_path, branches=["trunk"])
    refused(here("run"), WRONG, "'trunk'", "branches")
    # Whatever was left open by then is this test's failure, not that of one that follows.
    gc.collect()


def test_a_port_that_is_taken(here: Run, filled: tracks.Track) -> None:
    """A preview on a taken port says so."""
    filled.html_dir.mkdir(parents=True)
    (filled.html_dir / "index.html").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(here("preview", "--port", str(port)), WRONG, str(port), "--port")


def test_nothing_to_publish_or_preview(here: Run, track: tracks.Track) -> None:
    """Without results the site says how to get some, and each command says which one comes first."""
    refused(here("preview"), WRONG, "mlx-velocity publish")
    refused(here("show"), WRONG, "mlx-velocity run")
    done = here("publish")
    assert (done.code, done.err) == (0, "")
    assert "mlx-velocity run" in done.out
    assert "mlx-velocity run" in (track.html_dir / "index.html").read_text("utf-8")


# Broken results


@pytest.mark.parametrize("text", ["", "{", "[]", "<html>", '["version"]'])
def test_a_result_that_is_not_json_is_published_around(here: Run, filled: tracks.Track, text: str) -> None:
    """`publish` names a result that can't be read and publishes the rest."""
    path = sorted(filled.results_dir.glob("box/*-*.json"))[0]
    path.write_text(text, "utf-8")
    done = here("publish")
    assert done.code == 0, done.err
    assert f"left out box/{path.name}" in done.out
    assert "4 commits" in done.out or "5 commits" in done.out
    assert (filled.html_dir / "index.html").is_file()
    assert done.err == ""


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_benchmarks_that_are_not_json(here: Run, filled: tracks.Track, text: str) -> None:
    """A benchmarks.json that can't be read is named by each command that needs it."""
    (filled.results_dir / "benchmarks.json").write_text(text, "utf-8")
    refused(here("show", "--machine", "box"), WRONG, "benchmarks.json")
    refused(here("publish"), WRONG, "benchmarks.json")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_machine_that_is_not_json(here: Run, filled: tracks.Track, text: str) -> None:
    """A machine.json that can't be read is named, and nothing is measured under its name."""
    (filled.results_dir / "box" / "machine.json").write_text(text, "utf-8")
    refused(here("show", "--machine", "box"), WRONG, "machine.json of box")


# A run with workers that are no processes


@dataclass
class Worker:
    """Answers every request, unless `measure` says otherwise."""

    measure: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: dict(SAMPLES)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.requests.append(message)
        if message["op"] == "discover":
            return {"benchmarks": json.loads(json.dumps(made.BENCHMARKS))}
        return dict(HELLO) if message["op"] == "hello" else self.measure(message)

    def close(self) -> None:
        """Nothing to end."""

    @property
    def measured(self) -> int:
        return sum(message["op"] == "measure" for message in self.requests)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Worker:
    """A worker that measures everything at once, in an environment that is there."""
    made_here = Worker()
    prepared = Prepared(made.ENV_NAME, tmp_path, ENVIRONMENT)
    monkeypatch.setattr(scheduler.environments, "prepare", lambda *_, **__: prepared)
    monkeypatch.setattr(scheduler, "LocalWorker", lambda *_: made_here)
    return made_here


RUN = ["run", "main", "--machine", "box"]
CASES = 3
"""Cases of the made-up suite in profile tiny."""


def test_a_second_run_measures_nothing_and_says_so(here: Run, track: tracks.Track, worker: Worker) -> None:
    """What is stored is not measured again."""
    assert here(*RUN).code == 0
    assert worker.measured > 0
    before, count = files_of(track.results_dir), worker.measured
    done = here(*RUN)
    assert (done.code, done.err) == (0, "")
    assert "Nothing to measure" in done.out
    assert worker.measured == count
    assert files_of(track.results_dir) == before


def test_commits_that_lack_nothing_are_not_opened(
    here: Run, track: tracks.Track, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run NEW` opens no file of a commit that lacked nothing the last time; one that was touched since, it does."""
    new = ["run", "NEW", "--machine", "box"]
    assert here(*new).code == 0
    count = worker.measured
    assert "Nothing to measure" in here(*new).out
    opened: list[str] = []

    class Watched(results.CommitResults):
        def __post_init__(self) -> None:
            opened.append(self.commit)
            super().__post_init__()

    monkeypatch.setattr(results, "CommitResults", Watched)
    assert "Nothing to measure" in here(*new).out
    assert opened == []
    # A case more to measure, a file that is gone, or one that is broken: each makes it a candidate again.
    touched = sorted(track.results_dir.glob("box/*-*.json"))[0]
    touched.unlink()
    assert "Nothing to measure" in here(*new).out
    assert len(opened) == 1
    assert touched.exists()
    (notes,) = (track.work_dir / "index").glob("*.complete.json")
    notes.write_text("{", "utf-8")
    opened.clear()
    assert "Nothing to measure" in here(*new).out
    assert opened
    assert worker.measured == count
    readings_of = next(track.results_dir.glob(f"box/*{readings.SUFFIX}"))
    lines = readings_of.read_text("utf-8").splitlines(keepends=True)
    readings_of.write_text("".join(line for line in lines if '"measurement"' not in line), "utf-8")
    assert "Measuring" in here(*new).out
    assert worker.measured == count + sum('"measurement"' in line for line in lines)


def test_a_list_of_cases_measures_nothing(here: Run, track: tracks.Track, worker: Worker) -> None:
    """`run --list` prints the names of the cases, one a line, and measures none."""
    done = here("run", "main", "--list")
    assert done.code == 0
    assert "prefill.Prefill.time_prefill(tiny-float32, 32)" in done.out.splitlines()
    assert worker.measured == 0


def test_a_wheelhouse_says_what_is_new(
    here: Run, track: tracks.Track, worker: Worker, tmp_path: Path
) -> None:
    """Without a range, the commits are measured that the wheelhouse was filled for; one for another track is refused."""
    commit = history_of.one(track.conf.repo, "main").hash
    for commits in ([commit], ["d" * 40]):
        manifest.write(tmp_path, manifest.Manifest("x", "3.12", "cpu", "made-up", commits))
        done = here("run", "--machine", "box", "--wheelhouse", str(tmp_path))
        if commits == [commit]:
            assert "at 1 commit of" in done.out, done.err
    refused(done, WRONG, "for no commit of this track")


def test_no_case_of_that_name(here: Run, track: tracks.Track, worker: Worker) -> None:
    """An expression that matches nothing is quoted back, with the profile."""
    refused(here("run", "main", "--bench", "zzz"), WRONG, "'zzz'", "tiny")


def test_a_failed_case_is_a_failure_and_the_rest_is_stored(
    here: Run, track: tracks.Track, worker: Worker
) -> None:
    """A worker that dies costs its case: the reason is printed and stored, all else is measured."""

    def dies(message: dict[str, Any]) -> dict[str, Any]:
        if message["index"] == 0:
            raise WorkerError("exit -9 (SIGKILL)", -9, ["Killed"])
        return dict(SAMPLES)

    worker.measure = dies
    done = here(*RUN)
    assert "exit -9 (SIGKILL)" in refused_after_output(done, FAILED).out
    (path,) = track.results_dir.glob(f"box/*{readings.SUFFIX}")
    stored, _ = readings.read(path)
    assert sum(item.kind == "failure" for item in stored) == 1
    assert {item.benchmark for item in stored if item.kind == "measurement"} == set(made.BY_NAME)  # type: ignore[union-attr]


def refused_after_output(done: Done, code: int) -> Done:
    """The same as `refused` for a command that printed before."""
    refused(done, code)
    return done


def test_an_environment_that_cannot_be_had_is_recorded(
    here: Run, track: tracks.Track, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose environment can't be built gets its reason stored, even where it is the only one asked for."""
    assert here(*RUN).code == 0

    def fails(*_: Any, **__: Any) -> Prepared:
        raise EnvironmentFailure("mlx-lm 0.31.3 needs mlx>=0.31.2", incompatible=True)

    monkeypatch.setattr(scheduler.environments, "prepare", fails)
    done = here("run", "main~1", "--machine", "box")
    refused(done, FAILED)
    assert "needs mlx>=0.31.2" in done.out
    (path,) = track.results_dir.glob(f"box/{made.commits_of(track)[-2].hexsha[:8]}-*{readings.SUFFIX}")
    (failure,) = readings.read(path)[0]
    assert (failure.outcome, failure.reason) == ("incompatible", "mlx-lm 0.31.3 needs mlx>=0.31.2")  # type: ignore[union-attr]
    assert "needs mlx>=0.31.2" in here("show", "main~1", "--machine", "box").out


def test_ctrl_c_keeps_what_was_measured(here: Run, track: tracks.Track, worker: Worker) -> None:
    """An interrupted run ends with 130 and one line; the next one goes on where it stopped."""
    done_before = 2

    def interrupted(_: dict[str, Any]) -> dict[str, Any]:
        if worker.measured > done_before:
            raise KeyboardInterrupt
        return dict(SAMPLES)

    worker.measure = interrupted
    refused(here(*RUN), INTERRUPTED, "kept")
    (path,) = track.results_dir.glob(f"box/*{readings.SUFFIX}")
    before = path.read_bytes()
    assert before.count(b'"kind":"measurement"') == done_before
    worker.measure = lambda _: dict(SAMPLES)
    assert here(*RUN).code == 0
    assert path.read_bytes().startswith(before)


def test_a_disk_that_fills_up_loses_nothing(
    here: Run, track: tracks.Track, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk refuses in the middle of a run the program says so; what was measured is there and complete."""
    assert here(*RUN, "--bench", "track_peak").code == 0
    before = {name: data for name, data in files_of(track.results_dir).items() if "box" in name}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(readings.os, "fsync", full)
        refused(here(*RUN), WRONG, "No space left on device", "kept")
    after = files_of(track.results_dir)
    for name, data in before.items():
        assert after[name].startswith(data), f"{name} lost something"
    assert here(*RUN).code == 0
    assert "Nothing to measure" in here(*RUN).out


def test_a_full_disk_is_no_bug(
    here: Run, track: tracks.Track, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for whatever else is written is a full disk as well, and is said in the same way."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
    monkeypatch.setattr(cases, "save", lambda *_, **__: (_ for _ in ()).throw(error))
    refused(here(*RUN), WRONG, "No space left on device")


def test_another_run_holds_the_results(here: Run, track: tracks.Track, worker: Worker) -> None:
    """A second run on the same results is refused with who holds them, and disturbs nothing."""
    answers = []

    def again(_: dict[str, Any]) -> dict[str, Any]:
        if not answers:
            answers.append(made.program("run", "main", "--machine", "box", cwd=track.root))
        return dict(SAMPLES)

    worker.measure = again
    assert here(*RUN).code == 0
    refused(answers[0], WRONG, f"process {os.getpid()}", "box")


def test_results_of_another_machine_are_not_mixed(here: Run, filled: tracks.Track, worker: Worker) -> None:
    """A name that belongs to another machine is refused: its history would get a false step."""
    refused(here(*RUN), WRONG, "another machine", "--machine NAME")


def test_a_corrupt_result_is_set_aside_and_measured_again(
    here: Run, track: tracks.Track, worker: Worker
) -> None:
    """A result that is not JSON is moved out of the way with its reason, and its commit is measured again."""
    assert here(*RUN).code == 0
    (path,) = track.results_dir.glob("box/*-*.json")
    (own,) = track.results_dir.glob(f"box/*{readings.SUFFIX}")
    path.write_text("half a res", "utf-8")
    own.unlink()
    count = worker.measured
    done = here(*RUN)
    assert done.code == 0, done.err
    assert "set aside" in done.out
    (aside,) = track.results_dir.glob("box/*.corrupt-*")
    assert aside.name in done.out
    assert aside.read_text("utf-8") == "half a res"
    assert worker.measured == 2 * count
    json.loads(path.read_text("utf-8"))


def test_a_corrupt_result_with_its_readings_is_made_again(
    here: Run, track: tracks.Track, worker: Worker
) -> None:
    """Where our readings are whole, asv's file is derived from them, and nothing is measured."""
    assert here(*RUN).code == 0
    (path,) = track.results_dir.glob("box/*-*.json")
    whole = json.loads(path.read_text("utf-8"))
    path.write_text("{", "utf-8")
    count = worker.measured
    done = here(*RUN)
    assert done.code == 0, done.err
    assert "set aside" in done.out
    assert worker.measured == count
    again = json.loads(path.read_text("utf-8"))
    assert again["results"].keys() == whole["results"].keys()
    for name, row in whole["results"].items():
        assert again["results"][name][:3] == row[:3]


def test_quiet_prints_errors_only(here: Run, track: tracks.Track, worker: Worker) -> None:
    """`--quiet` says nothing when all is well."""
    assert here(*RUN, "--quiet") == Done(0, "", "")
    assert here(*RUN, "--quiet") == Done(0, "", "")


# The program as a process of its own


def test_a_mistake_of_ours_is_one_line(
    here: Run, track: tracks.Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is one line that asks for a report, exit 4."""

    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("several\nlines")

    monkeypatch.setattr(tracks, "load", breaks)
    done = here("show")
    assert done.code == FAILED
    assert done.err == (
        "mlx-velocity: this is a bug: RuntimeError: several lines; run again with --debug and report what it shows\n"
    )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_where_an_error_came_from(tmp_path: Path, place: int) -> None:
    """`--debug` anywhere on the line shows the traceback."""
    words = ["show", "main"]
    words.insert(place, "--debug")
    done = made.program(*words, cwd=tmp_path)
    assert done.code != 0
    assert "Traceback" in done.err
    assert "InputError" in done.err


def test_debug_of_another_program_is_its_own(tmp_path: Path) -> None:
    """What stands after `--` reaches the command as it is."""
    words = [
        "monitor",
        "--quiet",
        "-o",
        "m.jsonl",
        "--",
        sys.executable,
        "-c",
        "import sys; print(sys.argv[1:])",
        "--debug",
    ]
    done = made.program(*words, cwd=tmp_path)
    assert (done.code, done.out) == (0, "['--debug']\n")


def test_the_program_is_installed_under_its_name(tmp_path: Path) -> None:
    """`mlx-velocity` is a command of the environment that the package is in, and starts from anywhere."""
    command = Path(sys.executable).with_name("mlx-velocity")
    done = subprocess.run(
        [str(command), "--version"], cwd=tmp_path, env=made.basic_environment(), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"mlx-velocity {mlx_velocity.__version__}\n")


@pytest.mark.parametrize("arguments", [["show"], ["run", "main"], ["publish"], ["releases", "--update"]])
def test_git_is_missing(history: Path, tmp_path: Path, arguments: list[str]) -> None:
    """Without git each command that needs it says so."""
    done = made.program(*arguments, cwd=history, env={"PATH": str(tmp_path), "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple"})  # fmt: skip
    if arguments[0] == "releases":
        assert done.code == WRONG
    else:
        refused(done, WRONG, "git")


def test_help_and_version_need_no_git(tmp_path: Path) -> None:
    """What needs no git works without it."""
    for arguments in (["--help"], ["--version"], ["run", "--help"]):
        assert made.program(*arguments, cwd=tmp_path, env={"PATH": str(tmp_path)}).code == 0


NO_UV = """
import uv

def gone():
    raise FileNotFoundError("no uv here")

uv.find_uv_bin = gone
from mlx_velocity.__main__ import main
main()
"""


def test_uv_is_missing(tmp_path: Path) -> None:
    """Without uv, and with an environment to make, the program says how to get it."""
    made.make_track(tmp_path)
    command = [sys.executable, "-c", NO_UV, "run", "main", "--machine", "box"]
    done = subprocess.run(
        command, cwd=tmp_path, env=made.basic_environment(), capture_output=True, text=True, check=False
    )  # fmt: skip
    refused(Done(done.returncode, done.stdout, done.stderr), WRONG, "uv is missing", "pip install uv")
    assert not list(tmp_path.glob("results/**/*.jsonl")), "a missing program is no result"


# The package index


@contextlib.contextmanager
def index(status: int) -> Iterator[str]:
    """An index that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody listens."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()


def without_cache(folder: Path, address: str) -> dict[str, str]:
    """An environment in which uv has nothing but an index."""
    return {
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "UV_DEFAULT_INDEX": address,
        "UV_HTTP_RETRIES": "0",
        "UV_NO_CONFIG": "1",
        "UV_FIND_LINKS": "",
        "PIP_FIND_LINKS": "",
    }


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/simple", "http://index.invalid/simple"])
def test_the_index_is_out_of_reach(tmp_path: Path, address: str) -> None:
    """An index that can't be reached ends the run with exit 4, and is no result of any commit."""
    track = made.make_track(tmp_path)
    made.fill(track)
    newest = made.commits_of(track)[-1].hexsha[:8]
    for path in track.results_dir.glob(f"box/{newest}-*"):
        path.unlink()
    before = files_of(track.results_dir)
    done = made.program("run", "main", "--machine", "box", cwd=tmp_path, env=without_cache(tmp_path, address))
    refused(done, FAILED, "index", "can't be reached", "kept")
    assert files_of(track.results_dir) == before


@pytest.mark.parametrize("status", [500, 503, 401, 403])
def test_an_index_that_refuses_is_out_of_reach(tmp_path: Path, status: int) -> None:
    """An index that answers with an error of its own is no reason to call a commit incompatible."""
    track = made.make_track(tmp_path)
    with index(status) as address:
        done = made.program(
            "run", "main", "--machine", "box", cwd=tmp_path, env=without_cache(tmp_path, address)
        )
    refused(done, FAILED, "index")
    assert not list(track.results_dir.glob("**/*.jsonl"))


def test_a_network_that_is_disabled_is_no_incompatibility(tmp_path: Path) -> None:
    """Where uv may not use the network and the cache is empty, no commit is called incompatible."""
    track = made.make_track(tmp_path)
    env = without_cache(tmp_path, "http://127.0.0.1:1/simple") | {"UV_OFFLINE": "1"}
    refused(made.program("run", "main", "--machine", "box", cwd=tmp_path, env=env), FAILED, "index")
    assert not list(track.results_dir.glob("**/*.jsonl"))


def test_an_update_without_an_index(here: Run) -> None:
    """`releases --update` without an index changes nothing and says what to do."""
    listed = Path(mlx_velocity.__file__).with_name("releases.json").read_bytes()
    refused(
        here("releases", "--update", "--index-url", "http://127.0.0.1:1/simple"),
        WRONG,
        "index",
        "--index-url",
    )
    assert Path(mlx_velocity.__file__).with_name("releases.json").read_bytes() == listed


def test_the_release_history_is_listed(here: Run) -> None:
    """`releases` prints a line for each commit and names what was left out."""
    done = here("releases")
    assert done.code == 0
    assert "mlx-lm 0.31.0" in done.out, "it was withdrawn"
    assert re.search(r"mlx 0\.31\.1 → 0\.31\.2", done.out)


# A real disk, a real run

SMALL = rf"^prefill\.Prefill\.time_prefill\(tiny-float32, {profiles.PROFILES['tiny']['tokens'][0]}\)$"

MORE = r"^prefill\.Prefill\.time_prefill\(tiny-float32"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here: only root can")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.network
def test_a_real_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """On a disk that is really full a run ends with one line; with room again it goes on, and nothing is lost."""
    project: Project = made.make_project(tmp_path / "project", results_dir=str(small_disk / "releases"))
    run = ["run", "main", "--machine", "box", "--launches", "1", "--bench"]
    first = project.ours(*run, SMALL)
    assert first.code == 0, first.err
    before = {name: data for name, data in files_of(small_disk).items() if "/box/" in name}
    assert before
    with (small_disk / "junk").open("wb", buffering=0) as junk, contextlib.suppress(OSError):
        while True:
            junk.write(b"x" * 4096)
    refused(project.ours(*run, MORE), WRONG, "No space left on device", "kept")
    after = files_of(small_disk)
    assert all(after[name].startswith(data) for name, data in before.items())
    (small_disk / "junk").unlink()
    again = project.ours(*run, MORE)
    assert again.code == 0, again.err
    assert project.ours(*run, MORE).out.count("Nothing to measure") == 1
