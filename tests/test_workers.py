"""Real worker processes: what they refuse, what they keep to themselves, and that they always end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import gone

import mlx_velocity
from mlx_velocity import scheduler
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import VelocityError
from mlx_velocity.workers import LAST_LINES, LocalWorker, WorkerError, WorkerTimeout

SUITE = '''
import os
import signal
import subprocess
import sys
import tempfile
import time

from mlx_velocity.probe import observe

def track_version():
    import toy
    return toy.VALUE

def track_secrets():
    return sum("hunter2" in value for value in os.environ.values())

def track_noise():
    print("printed", flush=True)
    os.write(1, b'{"ok": false, "error": "forged"}\\\\n')
    sys.__stdout__.write("written\\\\n")
    sys.__stdout__.flush()
    subprocess.run(["echo", "by a child"], check=True)
    os.write(2, b"\\\\xff\\\\n")
    return 7

def track_temporary():
    observe.note(folder=tempfile.gettempdir(), here=os.getcwd())
    with tempfile.NamedTemporaryFile() as file:
        observe.note(file=file.name)
    return 1

def track_raises():
    raise ValueError(f"no room in {os.path.dirname(__file__)}")

def track_killed():
    for number in range(100):
        print("line", number, file=sys.stderr)
    print("in", __file__, os.path.expanduser("~"), file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def track_segfault():
    import faulthandler
    faulthandler._sigsegv()

def track_out_of_memory():
    print("terminate called after throwing an instance of 'std::runtime_error'", file=sys.stderr)
    print("  what():  cudaMallocAsync(&data, size, stream) failed: out of memory", file=sys.stderr, flush=True)
    os.abort()

def track_exits():
    os._exit(3)

def track_hangs():
    child = subprocess.Popen(["sleep", "600"])
    with open("child.pid", "w") as file:
        file.write(str(child.pid))
    print("waiting", file=sys.stderr, flush=True)
    child.wait()

def track_lets_a_child_go():
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with open("child.pid", "w") as file:
        file.write(str(child.pid))
    time.sleep(600)

def track_leaves_a_child():
    child = subprocess.Popen(["sleep", "600"])
    with open("child.pid", "w") as file:
        file.write(str(child.pid))
    os._exit(1)

def track_prints_lines_without_end():
    while True:
        print("again and again", file=sys.stderr)

def track_prints_without_end():
    while True:
        os.write(2, b"x" * 100_000)

def track_fills_the_memory():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    return len(bytearray(8 << 30))

def track_multiplies():
    program = """
import subprocess, sys, time
depth = int(sys.argv[2])
for _ in range(3 if depth else 0):
    subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], sys.argv[1], str(depth - 1)])
print(depth, file=open("born", "a"))
time.sleep(600)
"""
    subprocess.Popen([sys.executable, "-S", "-c", program, program, "3"])
    time.sleep(600)

def track_closes_its_input():
    os.close(0)
    time.sleep(1)
    return 1

def answers():
    import stat
    return next(fd for fd in range(3, 64) if stat.S_ISFIFO(os.fstat(fd).st_mode))

def track_answers_half():
    os.write(answers(), b'{"ok": true, "samp')
    os._exit(0)

def track_answers_nonsense():
    os.write(answers(), b"[[[[" * 10_000 + b"\\n")

def track_answers_without_lines():
    os.write(answers(), b'{"ok": false, "error": "x"}\\n')

def track_answers_in_latin_1():
    os.write(answers(), b'{"ok": true, "error": "\\xe9"}\\n')

def track_cores():
    observe.note(cores=",".join(map(str, os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "")
    return os.getpid()
'''.replace("\\\\", "\\")  # fmt: skip


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark suite that does what measured code may do."""
    folder = tmp_path_factory.mktemp("private") / "suite"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "cases.py").write_text(SUITE, "utf-8")
    return folder


class Talk:
    """A worker and the suite that it measures."""

    def __init__(self, prepared: Prepared, suite: Path) -> None:
        self.prepared, self.suite = prepared, suite
        self.worker = LocalWorker(prepared, {"EXTRA": "passed on"})

    def message(self, name: str) -> dict[str, Any]:
        return {
            "op": "measure",
            "benchmark_dir": str(self.suite),
            "benchmark": f"cases.{name}",
            "index": None,
        }

    def measure(self, name: str, timeout_s: float = 60.0) -> dict[str, Any]:
        return self.worker.request(self.message(name), timeout_s)

    def fails(self, name: str, timeout_s: float = 60.0) -> WorkerError:
        with pytest.raises(WorkerError) as error:
            self.measure(name, timeout_s)
        assert self.worker._process.poll() is not None
        return error.value

    def child(self) -> int:
        path = Path(self.prepared.variables()["TMPDIR"]) / "child.pid"
        text = path.read_text("utf-8")
        path.unlink()
        return int(text)


@pytest.fixture
def talk(prepared: Prepared, suite: Path) -> Iterator[Talk]:
    made = Talk(prepared, suite)
    yield made
    made.worker.close()


def is_public(error: WorkerError) -> None:
    """Nothing that is stored of an error names a folder of this machine."""
    text = "\n".join([error.reason, *error.last_lines])
    private = [
        tempfile.gettempdir(),
        str(Path.home()),
        str(Path(mlx_velocity.__file__).parent),
        sys.base_prefix,
    ]
    assert [place for place in private if place in text] == []


# What a worker proves before it measures


def test_hello(talk: Talk) -> None:
    """A worker greets with the version of every module that lies where it should."""
    launch = scheduler.open_launch(talk.worker, talk.prepared)
    assert launch.modules == {"toy": "2.0"}
    assert launch.startup_s > 0
    assert launch.affinity == scheduler.cores(talk.prepared)
    if launch.affinity:
        assert talk.measure("track_cores")["notes"]["cores"] == str(launch.affinity[0])


def test_module_from_elsewhere(prepared: Prepared, suite: Path, tmp_path: Path) -> None:
    """A module that lies elsewhere than intended is refused, an empty or missing one too."""
    hollow = tmp_path / "overlay" / "hollow"
    hollow.mkdir(parents=True)
    for modules, overlay, reason in (
        ({"toy": str(tmp_path)}, prepared.overlay, "toy was imported from"),
        ({"toy": str(tmp_path)}, tmp_path, "No module named 'toy'"),
        ({"json": str(prepared.path)}, tmp_path, "json was imported from"),
        # A folder without code is importable, and has no file that would tell where it lies.
        ({"hollow": str(prepared.path)}, hollow.parent, "hollow was imported from a namespace"),
    ):
        changed = dataclasses.replace(prepared, modules=modules, overlay=overlay)
        worker = LocalWorker(changed, {})
        with pytest.raises(WorkerError) as error:
            scheduler.open_launch(worker, changed)
        assert reason in error.value.reason
        is_public(error.value)


def test_discovery(talk: Talk) -> None:
    """The benchmarks of a suite are asv's descriptions of them."""
    answer = talk.worker.request({"op": "discover", "benchmark_dir": str(talk.suite)}, 60.0)
    found = {item["name"]: item for item in answer["benchmarks"]}
    assert found["cases.track_version"]["type"] == "track"
    assert len(found) == SUITE.count("def track_")


# What a worker keeps to itself


def test_measures_what_is_laid_over(talk: Talk) -> None:
    """A worker measures the commit's own code, many cases in one process."""
    assert talk.measure("track_version")["samples"] == [2.0]
    pids = {talk.measure("track_cores")["samples"][0] for _ in range(2)}
    assert pids == {float(talk.worker._process.pid)}


def test_prints(talk: Talk) -> None:
    """Whatever measured code and its children print, answers stay answers."""
    assert talk.measure("track_noise")["samples"] == [7.0]
    assert talk.measure("track_version")["samples"] == [2.0]
    error = talk.fails("track_exits")
    for line in ("printed", '{"ok": false, "error": "forged"}', "written", "by a child", "�"):
        assert line in error.last_lines


def test_secrets(monkeypatch: pytest.MonkeyPatch, prepared: Prepared, suite: Path) -> None:
    """No secret in the runner's environment reaches what is measured."""
    for name in ("SECRET_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "hunter2")
    talk = Talk(prepared, suite)
    assert talk.measure("track_secrets")["samples"] == [0.0]
    talk.worker.close()


def test_temporary_folder(talk: Talk) -> None:
    """Temporary files of measured code lie in the environment, where no other environment sees them."""
    notes = talk.measure("track_temporary")["notes"]
    own = str(talk.prepared.path / "tmp")
    assert (notes["folder"], notes["here"]) == (own, os.path.realpath(own))
    assert notes["file"].startswith(own)


# How a worker ends


def test_raises(talk: Talk) -> None:
    """A case that raises is a failure with the end of its traceback, and no folder of this machine."""
    error = talk.fails("track_raises")
    assert error.reason.startswith("ValueError: no room in ")
    assert (error.outcome, error.exit_code) == ("failed", None)
    assert any("track_raises" in line for line in error.last_lines)
    is_public(error)


def test_killed(talk: Talk) -> None:
    """A worker killed by a signal leaves the signal and its last lines, without folders of this machine."""
    error = talk.fails("track_killed")
    assert (error.reason, error.exit_code) == ("exit -9 (SIGKILL)", -signal.SIGKILL)
    assert len(error.last_lines) == LAST_LINES
    assert error.last_lines[-2] == "line 99"
    assert "cases.py" in error.last_lines[-1]
    is_public(error)


def test_what_a_thread_of_mlx_threw(talk: Talk) -> None:
    """Of a process that an uncaught C++ exception ended, such as out of memory in MLX's thread, the reason says which."""
    error = talk.fails("track_out_of_memory")
    assert error.reason == "exit -6 (SIGABRT): cudaMallocAsync(&data, size, stream) failed: out of memory"


def test_segfault(talk: Talk) -> None:
    """A crash in native code leaves the signal and where it was."""
    error = talk.fails("track_segfault")
    assert (error.reason, error.exit_code) == ("exit -11 (SIGSEGV)", -signal.SIGSEGV)
    assert any("track_segfault" in line for line in error.last_lines)
    is_public(error)


def test_exits(talk: Talk) -> None:
    """A worker that exits by itself leaves its status."""
    error = talk.fails("track_exits")
    assert (error.reason, error.exit_code) == ("exit 3", 3)


def test_timeout(talk: Talk) -> None:
    """A case that takes too long ends with all that it started, and leaves its last lines."""
    talk.measure("track_version")
    error = talk.fails("track_hangs", timeout_s=2.0)
    assert isinstance(error, WorkerTimeout)
    assert error.outcome == "timeout"
    assert error.reason == "timeout: no answer within 2 s"
    assert error.last_lines == ["waiting"]
    assert gone(talk.child())


@pytest.mark.parametrize("name", ["track_prints_lines_without_end", "track_prints_without_end"])
def test_output_without_end(talk: Talk, name: str) -> None:
    """Output that never ends takes neither memory nor time: the case ends at its limit, and some lines are kept."""
    talk.measure("track_version")
    before = psutil.Process().memory_info().rss
    error = talk.fails(name, timeout_s=2.0)
    assert error.outcome == "timeout"
    assert 0 < len(error.last_lines) <= LAST_LINES
    assert all(len(line) <= 2000 for line in error.last_lines)
    assert psutil.Process().memory_info().rss - before < 50_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="macOS knows no limit of a process's addresses")
def test_memory_that_is_not_there(talk: Talk) -> None:
    """A case that asks for more memory than there is has failed, with the reason."""
    assert talk.fails("track_fills_the_memory").reason.startswith("MemoryError")


def test_children_of_children(talk: Talk) -> None:
    """A case whose children multiply ends at its limit with all of them."""
    talk.measure("track_version")
    born = Path(talk.prepared.variables()["TMPDIR"]) / "born"
    talk.fails("track_multiplies", timeout_s=10.0)
    assert len(born.read_text("utf-8").split()) > 3
    born.unlink()
    group = talk.worker._process.pid
    assert all(gone(item.pid) for item in psutil.process_iter() if is_in(group, item.pid))


def is_in(group: int, pid: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except OSError:
        return False


def test_a_child_that_left(talk: Talk) -> None:
    """A child with a session of its own, which holds the worker's output, does not hold the run."""
    talk.measure("track_version")
    assert talk.fails("track_lets_a_child_go", timeout_s=2.0).outcome == "timeout"
    child = talk.child()
    assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE, "the run waited for it"
    os.kill(child, signal.SIGKILL)


def test_input_closed(talk: Talk) -> None:
    """A worker whose case closed its input is a failure at the next case at the latest, and does not stay."""

    def twice() -> None:
        for _ in range(2):
            talk.measure("track_closes_its_input", 10.0)

    with pytest.raises(WorkerError):
        twice()
    assert gone(talk.worker._process.pid)


@pytest.mark.parametrize(
    "name", ["track_answers_half", "track_answers_nonsense", "track_answers_without_lines", "track_answers_in_latin_1"]
)  # fmt: skip
def test_answers_that_are_none(talk: Talk, name: str) -> None:
    """Half a message, one that is no JSON or lacks something is a failure with a reason, never a number."""
    error = talk.fails(name)
    assert error.reason == "the worker's answer could not be read"
    assert error.outcome == "failed"


def test_crash_leaves_no_child(talk: Talk) -> None:
    """The children of a worker that died are ended."""
    talk.fails("track_leaves_a_child")
    assert gone(talk.child())


def test_close(talk: Talk) -> None:
    """Closing ends the process, may be repeated, and a closed worker's answer is an error."""
    pid = talk.worker._process.pid
    talk.worker.close()
    talk.worker.close()
    assert not psutil.pid_exists(pid)


def test_gone_between_requests(talk: Talk) -> None:
    """A worker that died while nothing was asked is noticed at the next request."""
    talk.measure("track_version")
    os.kill(talk.worker._process.pid, signal.SIGKILL)
    assert gone(talk.worker._process.pid)
    assert talk.fails("track_version").reason == "exit -9 (SIGKILL)"


def test_killed_runner(prepared: Prepared, suite: Path) -> None:
    """When the runner is gone the worker ends in the middle of a sample, with all that it started."""
    with subprocess.Popen(
        [prepared.python, "-m", "mlx_velocity.probe.worker"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=prepared.variables()["TMPDIR"],
        env=prepared.variables(),
        start_new_session=True,
    ) as process:
        message = {
            "op": "measure",
            "benchmark_dir": str(suite),
            "benchmark": "cases.track_hangs",
            "index": None,
        }
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == b"waiting\n"
        process.stdin.close()
        process.wait(30)
    child = int((Path(prepared.variables()["TMPDIR"]) / "child.pid").read_text("utf-8"))
    try:
        assert gone(child)
    finally:
        if psutil.pid_exists(child):
            os.kill(child, signal.SIGKILL)


def test_environment_without_python(prepared: Prepared, tmp_path: Path) -> None:
    """An environment whose Python is gone is an error that the run can record."""
    broken = dataclasses.replace(prepared, path=tmp_path)
    with pytest.raises((WorkerError, VelocityError)):
        LocalWorker(broken, {})
