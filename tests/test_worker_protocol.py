"""The worker's end of the conversation: every request gets one answer that is plain JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_velocity.probe import sensors, worker


def ask(**request: Any) -> dict[str, Any]:
    answer = worker.answer(request)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    return answer


def test_hello() -> None:
    """A greeting tells the version of each module that lies where it should."""
    import psutil

    place = str(Path(psutil.__file__).parent.parent)
    answer = ask(op="hello", modules={"psutil": place}, cores=[])
    assert answer["ok"]
    assert answer["modules"] == {"psutil": psutil.__version__}
    assert answer["affinity"] == []
    assert answer["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ({"no_such_module": "/"}, "ModuleNotFoundError"),
        ({"psutil": "/nowhere"}, "psutil was imported from"),
        ({"sys": "/nowhere"}, "sys was imported from"),
    ],
)
def test_hello_refuses(modules: dict[str, str], reason: str) -> None:
    """A module that is missing, built in or elsewhere is refused."""
    answer = ask(op="hello", modules=modules, cores=[])
    assert not answer["ok"]
    assert reason in answer["error"]


def test_neighbouring_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose name merely begins like the intended one is another folder; a link to it is the same."""
    (tmp_path / "tree-old").mkdir()
    (tmp_path / "tree-old" / "neighbour_module.py").write_text("__version__ = '1'", "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "tree-old")
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    assert not ask(op="hello", modules={"neighbour_module": str(tmp_path / "tree")}, cores=[])["ok"]
    answer = ask(op="hello", modules={"neighbour_module": str(tmp_path / "tree-old")}, cores=[])
    assert answer["modules"] == {"neighbour_module": "1"}


@pytest.mark.parametrize("request_", [{"op": "rumour"}, {}, {"op": "measure"}, {"op": "hello"}])
def test_unknown_request(request_: dict[str, Any]) -> None:
    """A request that the worker does not understand is an error, not its end."""
    answer = ask(**request_)
    assert not answer["ok"]
    assert answer["error"]
    assert answer["last_lines"]


def test_skip_and_failure(tmp_path: Path) -> None:
    """A skip is an answer with its reason; a case that raises is an error with the end of its traceback."""
    folder = tmp_path / "suite_protocol"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "cases.py").write_text(
        "def track_skip(): raise NotImplementedError('no GPU')\n"
        "def track_deep(n=50):\n    return track_deep(n - 1) if n else [][0]\n",
        "utf-8",
    )
    case = {"op": "measure", "benchmark_dir": str(folder), "index": None}
    assert ask(**case, benchmark="cases.track_skip") == {"ok": True, "skipped": "no GPU"}
    answer = ask(**case, benchmark="cases.track_deep")
    assert answer["error"] == "IndexError: list index out of range"
    assert len(answer["last_lines"]) <= 12
    assert answer["last_lines"][-1] == answer["error"]


def test_conversation(tmp_path: Path) -> None:
    """One line in, one line out, in order, and the end of the input is the end of the process."""
    requests = [
        {"op": "hello", "modules": {}, "cores": []},
        {"op": "rumour"},
        {"op": "hello", "modules": {}, "cores": []},
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "mlx_velocity.probe.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        answers = []
        for request in requests:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
        assert [answer["ok"] for answer in answers] == [True, False, True]
        process.stdin.close()
        process.wait(30)


def test_sensors() -> None:
    """Two looks at the machine give what lies between them; a sensor that is missing is absent."""
    before = sensors.read()
    found = sensors.between(before, sensors.read())
    assert found["others_busy_cores"] >= 0
    later = {
        **before,
        "monotonic_s": before["monotonic_s"] + 2,
        "busy_s": before["busy_s"] + 3,
        "own_s": before["own_s"] + 1,
    }
    del later["load_1m"]
    found = sensors.between(before, later)
    assert found["others_busy_cores"] == 1.0
    assert "load_1m" not in found
    assert "others_busy_cores" not in sensors.between(before, before)


def test_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is pinned where the system can, and says so only where it was."""
    pinned: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: pinned.append(cores), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert (sensors.pin([3]), sensors.pin([])) == ([3], [])
    assert pinned == [[3]]
    monkeypatch.delattr(os, "sched_setaffinity")
    assert sensors.pin([3]) == []


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has this policy")
@pytest.mark.parametrize("batch", [True, False])
def test_threads_of_a_comparison_do_not_interrupt_each_other(batch: bool) -> None:
    """Only a worker that is told to runs by the batch policy, in the threads that it starts later too."""
    ask = {"op": "hello", "modules": {}, "cores": [max(os.sched_getaffinity(0))], "batch": batch}
    code = (
        "import concurrent.futures, json, os, sys\n"
        "from mlx_velocity.probe import sensors, worker\n"
        "said = worker.answer(json.loads(sys.argv[1]))\n"
        "with concurrent.futures.ThreadPoolExecutor(1) as pool:\n"
        "    later = pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_BATCH\n"
        "print(json.dumps([said['batch'], sensors.read().get('batch', False), later]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(ask)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [batch] * 3


def test_broken_line() -> None:
    """What is no request ends the worker, with a word why, and does not leave it waiting for ever."""
    with subprocess.Popen(
        [sys.executable, "-m", "mlx_velocity.probe.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(b"no JSON\n", timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert out == b""
    assert b"JSON" in err
