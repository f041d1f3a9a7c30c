"""The fixed probe: real mlx in a real worker, and what it would compute on other devices."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT

from mlx_velocity.environments import Prepared
from mlx_velocity.probe import control
from mlx_velocity.workers import LocalWorker, WorkerError


class Here(Prepared):
    """The environment that runs the tests."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[LocalWorker]:
    started = LocalWorker(Here("here", tmp_path, ENVIRONMENT), {})
    yield started
    started.close()


def test_real_reading(worker: LocalWorker) -> None:
    """A worker answers `control` with the seconds of a copy and of a product, as often as it is asked."""
    pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    for _ in range(2):
        answer = worker.request({"op": "control"}, 120.0)
        assert set(answer["control"]) == {"copy", "product"}
        assert all(math.isfinite(value) and value > 0 for value in answer["control"].values())


def test_without_mlx(worker: LocalWorker, tmp_path: Path) -> None:
    """Where mlx can't be imported, the worker says so; it does not answer with a number."""
    broken = tmp_path / "broken" / "mlx"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no device')", "utf-8")
    other = LocalWorker(Here("here", tmp_path, ENVIRONMENT), {"PYTHONPATH": str(broken.parent)})
    try:
        with pytest.raises(WorkerError, match="no device"):
            other.request({"op": "control"}, 120.0)
    finally:
        other.close()


def fake_mlx(monkeypatch: pytest.MonkeyPatch, device: str, metal: bool | None) -> Any:
    core = types.ModuleType("mlx.core")
    fields = {
        "cpu": "cpu",
        "Device": lambda name: name,
        "default_device": lambda: device,
        "matmul": lambda left, right: "product",
        "eval": lambda *_: None,
    }
    vars(core).update(fields)
    if metal is not None:
        vars(core)["metal"] = types.SimpleNamespace(is_available=lambda: metal)
    package = types.ModuleType("mlx")
    vars(package)["core"] = core
    monkeypatch.setitem(sys.modules, "mlx", package)
    monkeypatch.setitem(sys.modules, "mlx.core", core)
    return core


@pytest.mark.parametrize("metal", [False, True, None])
def test_sizes(monkeypatch: pytest.MonkeyPatch, metal: bool | None) -> None:
    """Work grows with the device, and a GPU that shares the machine's memory copies less than one that does not."""
    fake_mlx(monkeypatch, "cpu", metal)
    cpu = control.sizes()
    fake_mlx(monkeypatch, "gpu", metal)
    gpu = control.sizes()
    assert gpu[0] > cpu[0] >= 64 << 20
    assert gpu[1] > cpu[1]
    assert (cpu[2], gpu[2]) == ("float32", "float16")
    assert gpu[0] == (256 << 20 if metal else 1 << 30)


def test_the_faster_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time is that of the faster run, and the two kinds take turns."""
    fake_mlx(monkeypatch, "cpu", None)
    monkeypatch.setattr(control, "_arrays", lambda: (1.0, 2.0, 3.0))
    # Start and end of copy, product, copy, product.
    ticks = iter([0.0, 3.0, 3.0, 8.0, 8.0, 10.0, 10.0, 16.0])
    monkeypatch.setattr(control.time, "perf_counter", lambda: next(ticks))
    assert control.read() == {"copy": 2.0, "product": 5.0}
