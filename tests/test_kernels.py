"""Kernels compiled beforehand: every case once, side by side, and nothing that is measured or lost by it."""

from __future__ import annotations

import dataclasses
import functools
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import COMMITS, ENVIRONMENT, Office, Store, benchmark, case_of

from mlx_velocity import cases as case_list
from mlx_velocity import installed, kernels, scheduler, tracks
from mlx_velocity.environments import Prepared
from mlx_velocity.records import Case
from mlx_velocity.workers import LocalWorker, WorkerError

ROOT = Path(__file__).parents[1]
TRACK: Any = SimpleNamespace(benchmark_dir=Path("benchmarks"))


@pytest.fixture
def cuda(tmp_path: Path) -> Prepared:
    """An environment of a GPU series."""
    return Prepared("env", tmp_path, dataclasses.replace(ENVIRONMENT, backend="cuda"))


def cases_of(name: str, *models: str) -> list[Case]:
    """A case of a benchmark for each model."""
    described = benchmark(name, [[repr(model) for model in models]])
    return [case_of(described, index) for index in range(len(models))]


CASES = [*cases_of("decode.Decode.time_decode", "a", "b"), *cases_of("decode.Memory.track_peak_bytes", "a")]


def warmed(office: Office) -> list[list[tuple[str, int]]]:
    """What each worker was asked to warm up."""
    return [
        [(item["benchmark"], item["index"]) for item in worker.messages if item["op"] == "warm"]
        for worker in office.started
    ]


def test_each_case_is_warmed_up_once_in_a_process_for_each_model(cuda: Prepared, office: Office) -> None:
    """Cases of one model and file share a process; nothing is measured, and all processes are ended."""
    said: list[str] = []
    assert kernels.compile_ahead(TRACK, cuda, CASES, office, said.append) == 2
    decode, memory = "decode.Decode.time_decode", "decode.Memory.track_peak_bytes"
    assert sorted(warmed(office)) == [[(decode, 0), (memory, 0)], [(decode, 1)]]
    assert {item["op"] for worker in office.started for item in worker.messages} == {"hello", "warm"}
    assert all(worker.closed for worker in office.started)
    assert said[-1] == "compiling kernels: 2 of 2 groups of cases"


def test_many_cases_of_one_model_are_split(cuda: Prepared, office: Office) -> None:
    """No process has more cases than CASES_EACH, so that the operators of one shape don't hold up the rest."""
    many = [
        cases_of(f"operators.Operator{number}.time_it", "a")[0] for number in range(kernels.CASES_EACH + 1)
    ]
    assert kernels.compile_ahead(TRACK, cuda, many, office) == 2
    assert sorted(map(len, warmed(office))) == [1, kernels.CASES_EACH]


def test_what_was_compiled_is_not_compiled_again(cuda: Prepared, office: Office) -> None:
    """A second call starts no process, and one with more cases takes only the new ones."""
    kernels.compile_ahead(TRACK, cuda, CASES, office)
    office.started.clear()
    assert kernels.compile_ahead(TRACK, cuda, CASES, office) == 0
    more = cases_of("prefill.Prefill.time_prefill", "a", "b")
    assert kernels.compile_ahead(TRACK, cuda, [*CASES, *more], office) == 2
    assert {name for asked in warmed(office) for name, _ in asked} == {"prefill.Prefill.time_prefill"}


def test_other_backends_compile_nothing(cuda: Prepared, office: Office) -> None:
    """On a CPU no process is started, and none for a single case."""
    on_cpu = dataclasses.replace(cuda, record=ENVIRONMENT)
    assert kernels.compile_ahead(TRACK, on_cpu, CASES, office) == 0
    assert kernels.compile_ahead(TRACK, cuda, CASES[:1], office) == 0
    assert office.started == []


def test_a_case_that_fails_is_passed_over(cuda: Prepared, office: Office) -> None:
    """Where a case kills its process the next one goes on in a new one; where none starts, the group is left."""
    office.answers = {"warm": [WorkerError("no such kernel")]}
    same = cases_of("decode.Decode.time_decode", "a") + cases_of("decode.Memory.track_peak_bytes", "a")
    assert kernels.compile_ahead(TRACK, cuda, same, office) == 1
    assert [name for asked in warmed(office) for name, _ in asked] == [case.benchmark for case in same]
    assert len(office.started) == 2
    assert all(worker.closed for worker in office.started)
    broken = Office({"hello": WorkerError("no MLX")})
    other = cases_of("prefill.Prefill.time_prefill", "a", "b")
    assert kernels.compile_ahead(TRACK, cuda, other, broken) == 2
    assert [len(worker.messages) for worker in broken.started] == [1, 1]


def test_an_interrupt_ends_the_processes(cuda: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C does not wait for kernels that are being compiled: their processes are ended, and nothing is noted."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    waiting, closed = threading.Event(), []

    class Slow:
        def __init__(self) -> None:
            self.ended = threading.Event()

        def request(self, message: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
            if message["op"] == "hello":
                return {"affinity": [], "modules": {}, "startup_s": 0.1}
            if message["index"] == 1:
                assert waiting.wait(10)
                raise KeyboardInterrupt
            waiting.set()
            assert self.ended.wait(10)
            raise WorkerError("ended")

        def close(self) -> None:
            self.ended.set()
            closed.append(self)

    with pytest.raises(KeyboardInterrupt):
        kernels.compile_ahead(TRACK, cuda, CASES, lambda _: Slow())
    assert len(set(map(id, closed))) == 2
    assert not (cuda.working_folder / kernels.DONE).exists()


def test_a_kernel_that_was_half_written_is_made_again(cuda: Prepared, office: Office) -> None:
    """Modules that a killed process left without their names or their source are removed; whole ones stay."""
    folder = cuda.working_folder / "mlx" / "0.32.4" / "ptx"
    folder.mkdir(parents=True)
    for name, parts in {"whole": 3, "no_source": 2, "no_names": 1}.items():
        for end in (".ptx", ".txt", ".cu")[:parts]:
            (folder / f"{name}{end}").write_text("x", "utf-8")
    for end in (".ptx", ".txt", ".cu"):
        (folder / f"empty{end}").write_text("" if end == ".cu" else "x", "utf-8")
    kernels.compile_ahead(TRACK, cuda, CASES, office)
    assert [path.name for path in folder.glob("*.ptx")] == ["whole.ptx"]


def test_a_run_compiles_before_it_measures(
    store: Store, office: Office, fake_environments: dict[str, Exception]
) -> None:
    """Before the first launch of each commit its cases are handed over; then they are measured as ever."""
    described = benchmark("toy.time_it", [["'a'", "'b'"]])
    both = [case_of(described, index) for index in range(2)]
    plans = [scheduler.plan(store(item.hash), item, both, None) for item in COMMITS[:2]]
    seen: list[tuple[list[str], int]] = []

    def ahead(_prepared: Prepared, cases: list[Case], _say: Any) -> None:
        seen.append(([case.label for case in cases], len(office.measured())))

    summary = scheduler.run_plans(
        TRACK, "repo", plans, {"toy.time_it": described}, profile="tiny", start_worker=office, ahead=ahead
    )
    labels = [case.label for case in both]
    assert seen == [(labels, 0), (labels, 4)]
    assert summary.measured == 8


def test_real_cases_are_warmed_up_by_real_processes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Real MLX, the tiny model: two groups of cases are warmed up side by side, and noted as done."""
    monkeypatch.setattr(kernels, "COMPILED_FOR", frozenset({"cpu"}))
    track = tracks.load(ROOT / tracks.CONFIG_NAME, backend="cpu")
    here = installed.here(backend="cpu")
    (here.working_folder / kernels.DONE).unlink(missing_ok=True)
    start = functools.partial(LocalWorker, extra_variables={"MLX_VELOCITY_PROFILE": "tiny"})
    found = scheduler.discover_in(here, track)
    wanted = r"time_(softmax|prefill)\(tiny-float32, 32\)$"
    cases = case_list.expand(found.values(), "tiny", wanted, 60.0)
    assert kernels.compile_ahead(track, here, cases, start) == 2
    noted = (here.working_folder / kernels.DONE).read_text("utf-8").splitlines()
    assert sorted(noted) == sorted(case.label for case in cases)
    (here.working_folder / kernels.DONE).unlink()
    assert "Traceback" not in capfd.readouterr().err
