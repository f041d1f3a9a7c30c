"""`mlx-velocity compare` from end to end: real launches of a small project, files, exit codes, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fixtures_site as made
import git
import pytest
from conftest import MakeTrack
from fixtures_site import Done

from mlx_velocity import quality
from mlx_velocity.comparisons import SUFFIX
from mlx_velocity.report.markdown import MARKER

SUITE = """
import time
import toy

def compute(seconds):
    # Sleeping would look like waiting for a core that somebody else has.
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Speed:
    repeat, warmup_time, timeout, version = 1, 0.0, 20, "1"

    def time_work(self):
        compute(0.002 * toy.WORK)

    def time_same(self):
        compute(0.002)

    def track_bytes(self):
        return toy.BYTES
    track_bytes.unit = "bytes"

    def time_breaks(self):
        if toy.BROKEN:
            raise RuntimeError("toy is broken")
        compute(0.002)
"""
VERSIONS = {
    "base": (1.0, 1000, False),
    "slow": (2.0, 1000, False),
    "fat": (1.0, 2000, False),
    "broken": (1.0, 1000, True),
}


@pytest.fixture
def project(toy_track: MakeTrack, tmp_path: Path) -> Path:
    """A suite beside a project with a branch for each kind of change."""
    clone = tmp_path / "toy-project"
    author = git.Actor("Somebody", "somebody@example.invalid")
    with git.Repo.init(clone, initial_branch="main") as repo:
        for name, (work, size, broken) in VERSIONS.items():
            repo.git.checkout("-q", *(["-b", name, "main"] if name != "base" else ["-B", "main"]))
            (clone / "toy").mkdir(exist_ok=True)
            text = f'__version__ = "1"\nWORK, BYTES, BROKEN = {work}, {size}, {broken}\n'
            (clone / "toy" / "__init__.py").write_text(text, "utf-8")
            repo.git.add("--all")
            repo.index.commit(name, author=author, committer=author)
        repo.git.checkout("-q", "main")
    toy_track(repo=str(clone))
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "speed.py").write_text(SUITE, "utf-8")
    return tmp_path


@pytest.fixture
def compare(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs `mlx-velocity compare` in the project, without the control, whose environment holds all of mlx."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "120")
    # The machine that runs tests may be busy, and a doubling is seen all the same.
    monkeypatch.setattr(quality, "BUSY_CORES", 1000)
    monkeypatch.setattr(quality, "BUSY_ON_CORE", 1000)

    def run(*arguments: str) -> Done:
        words = [
            "compare",
            *arguments,
            "--machine",
            "here",
            *([] if "--from-results" in arguments else ["--no-control"]),
        ]
        return made.in_process(monkeypatch, capsys, *words)

    return run


def verdicts(said: Done) -> dict[str, str]:
    """Verdict by benchmark, from the JSON output."""
    return {case["benchmark"]: case["verdict"] for case in json.loads(said.out)["cases"]}


def test_a_slower_branch_exits_with_1(compare: Callable[..., Done], project: Path) -> None:
    """A real slow-down is found, the rest is not touched by it, and files and exit code say so."""
    done = compare("main", "slow", "--bench", "work|bytes", "--json", "out.json", "--markdown", "out.md")
    assert done.code == 1, done.err
    assert "regressed" in done.out
    found = json.loads((project / "out.json").read_text("utf-8"))
    by_name = {case["benchmark"]: case for case in found["cases"]}
    assert by_name["speed.Speed.time_work"]["verdict"] == "regressed"
    assert by_name["speed.Speed.track_bytes"]["verdict"] == "unchanged"
    assert (project / "out.md").read_text("utf-8").startswith(MARKER)
    stored = list((project / "results/toy/here/comparisons").glob(f"*{SUFFIX}"))
    assert len(stored) == 1


def test_it_can_be_shown_again(compare: Callable[..., Done]) -> None:
    """A stored comparison is shown without measuring, with the same verdicts and exit code."""
    first = compare("main", "slow", "--bench", "work|bytes", "--json", "-")
    again = compare("main", "slow", "--from-results", "--json", "-")
    assert (again.code, verdicts(again)) == (first.code, verdicts(first))
    assert compare("main", "fat", "--from-results").code == 2


def test_more_bytes_are_a_regression(compare: Callable[..., Done]) -> None:
    """Memory is compared exactly."""
    done = compare("main", "fat", "--bench", "bytes", "--json", "-")
    assert (done.code, verdicts(done)) == (1, {"speed.Speed.track_bytes": "regressed"})


def test_a_case_that_breaks_is_a_regression(compare: Callable[..., Done]) -> None:
    """A case that fails at head alone is reported as broken with its reason, and the exit code is 1."""
    done = compare("main", "broken", "--bench", "breaks|bytes")
    assert done.code == 1
    assert "toy is broken" in done.out


def test_nothing_decided_exits_with_3(compare: Callable[..., Done]) -> None:
    """With too few samples nothing is decided, nothing is claimed, and it says what to do."""
    done = compare("main", "slow", "--bench", "work", "--max-samples", "4")
    assert done.code == 3
    assert "--max-samples" in done.out


def test_the_working_tree(compare: Callable[..., Done], project: Path) -> None:
    """Without names, the changed working tree is compared with where it left the default branch."""
    package = project / "toy-project" / "toy" / "__init__.py"
    package.write_text(
        package.read_text("utf-8").replace("BYTES, BROKEN = 1.0, 1000", "BYTES, BROKEN = 1.0, 3000"), "utf-8"
    )
    done = compare("--bench", "bytes", "--json", "-")
    found = json.loads(done.out)
    assert (done.code, found["head"]["name"]) == (1, ".")
    assert found["cases"][0]["ratio"] == 3.0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("main", "main"), 2, "--force"),
        (("nothing", "main"), 2, "is no commit"),
        (("main", "slow", "--bench", "no such case"), 2, "no benchmark matches"),
        (("main", "slow", "--bench", "("), 2, "regular expression"),
        (("main", "slow", "--profile", "huge"), 2, "profile"),
        (("main", "slow", "--max-time", "soon"), 2, "no duration"),
        (("--from-results",), 2, "no comparison"),
        (("main", "slow", "--json", "-", "--markdown", "-"), 2, "both go to the terminal"),
        (("toy===1", "main"), 2, "names no"),
        (("main", "slow", "--json", "benchmarks/speed.py/out.json"), 2, "can't be written"),
        (("main", "slow", "--markdown", "benchmarks"), 2, "can't be written"),
    ],
)  # fmt: skip
def test_bad_input(compare: Callable[..., Done], arguments: tuple[str, ...], code: int, words: str) -> None:
    """Wrong input is one line that says what and what to do, with the right exit code."""
    done = compare(*arguments)
    lines = done.err.strip().splitlines()
    assert (done.code, len(lines)) == (code, 1), done.err
    assert words in lines[0]
    assert "; " in lines[0]


def test_the_same_code_can_be_forced(compare: Callable[..., Done]) -> None:
    """A commit is compared with itself when that is asked for."""
    done = compare("main", "main", "--force", "--bench", "bytes", "--json", "-")
    assert (done.code, verdicts(done)) == (0, {"speed.Speed.track_bytes": "unchanged"})


def test_a_side_without_an_environment(compare: Callable[..., Done], project: Path) -> None:
    """Where one side can't be had, the other side's numbers are shown, and the exit code is 4."""
    with git.Repo(project / "toy-project") as repo:
        repo.git.checkout("-q", "-b", "empty", "main")
        repo.git.rm("-rq", "toy")
        author = git.Actor("Somebody", "somebody@example.invalid")
        repo.index.commit("empty", author=author, committer=author)
        repo.git.checkout("-q", "main")
    done = compare("main", "empty", "--bench", "bytes|same")
    assert done.code == 4
    assert "speed.Speed.track_bytes: 1000 B" in done.out
    assert "has no toy" in done.err


def test_ctrl_c_keeps_what_is_decided(project: Path) -> None:
    """An interrupted comparison prints what it knows, keeps it, leaves no process, and exits with 130."""
    words = ["compare", "main", "slow", "--bench", "work|bytes", "--machine", "here", "--no-control"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_velocity", *words], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "COLUMNS": "160"}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    folder = project / "results/toy/here/comparisons"
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(
        p.read_text("utf-8").count("\n") > 3 for p in folder.glob("*")
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "speed.Speed.track_bytes" in out
    (stored,) = folder.glob(f"*{SUFFIX}")
    assert stored.read_text("utf-8").count("\n") > 3


def test_filtering_what_is_shown_changes_no_verdict(compare: Callable[..., Done]) -> None:
    """A stored comparison is judged as it was measured, also where only some of its cases are shown."""
    first = verdicts(compare("main", "slow", "--bench", "work|bytes|same", "--json", "-"))
    shown = verdicts(compare("--from-results", "--bench", "work", "--json", "-"))
    assert shown == {name: verdict for name, verdict in first.items() if "work" in name}


def test_a_branch_with_the_same_code(compare: Callable[..., Done], project: Path) -> None:
    """Two commits whose measured packages are equal are the same code."""
    with git.Repo(project / "toy-project") as repo:
        repo.git.checkout("-q", "-b", "readme", "main")
        (project / "toy-project" / "README.md").write_text("hello", "utf-8")
        repo.git.add("--all")
        author = git.Actor("Somebody", "somebody@example.invalid")
        repo.index.commit("readme", author=author, committer=author)
        repo.git.checkout("-q", "main")
    done = compare("main", "readme", "--bench", "bytes")
    assert done.code == 2
    assert "same code" in done.err


def test_the_merge_base_is_named(compare: Callable[..., Done]) -> None:
    """With --merge-base it says which commit was really measured."""
    done = compare("slow", "fat", "--merge-base", "--bench", "bytes")
    assert "where the head left it" in done.out
