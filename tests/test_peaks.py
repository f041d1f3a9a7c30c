"""Peaks: those in the table, and those that a real MLX reaches here."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT

from mlx_velocity import units
from mlx_velocity.environments import Prepared
from mlx_velocity.probe import control, peaks
from mlx_velocity.roofline_peaks import CHIPS, find, measured
from mlx_velocity.workers import LocalWorker

GIB = 2**30


class Here(Prepared):
    """The environment that runs the tests."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)


def test_real_reading(tmp_path: Path) -> None:
    """A worker answers `peaks` with raw seconds of several sizes, and they give a ceiling of each kind."""
    pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    # The source under test, wherever another one is installed.
    source = str(Path(peaks.__file__).parents[2])
    worker = LocalWorker(Here("here", tmp_path, ENVIRONMENT), {"PYTHONPATH": source})
    try:
        reading = worker.request({"op": "peaks", "dtypes": ["float32", "float16"]}, 300.0)["peaks"]
    finally:
        worker.close()
    assert set(reading["products"]) == {"float32", "float16"}
    sizes = [*reading["copies"], *(size for entries in reading["products"].values() for size in entries)]
    assert len(sizes) > 4
    for size in sizes:
        assert len(size["seconds"]) == peaks.RUNS
        assert all(math.isfinite(value) and value > 0 for value in size["seconds"])
    for size in reading["products"]["float32"]:
        assert size["flops"] == 2 * size["rows"] ** 3
    found = measured(reading)
    assert found.name == reading["device"]["name"] or found.name == "this machine"
    # Between a megabyte and a petabyte a second, and the like for FLOP/s: the units are right.
    assert found.bandwidth is not None
    assert 1e6 < found.bandwidth < 1e15
    assert all(1e6 < found.flops[kind] < 1e16 for kind in ("float32", "float16"))


def test_copies_move_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of n bytes is counted as n read and n written, and leaves the array changed once a run."""
    mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    work = peaks._copy(4096)
    assert work().nbytes == 4096
    assert mx.array_equal(work(), mx.full((1024,), 2.0)).item()
    monkeypatch.setattr(peaks, "_timed", lambda _: [1.0])
    monkeypatch.setattr(peaks, "_copy", lambda size: size)
    found = peaks._copies(available=1 << 40)
    assert [size["bytes"] / found[0]["bytes"] for size in found] == [1, 2, 4]
    assert found[1]["bytes"] >= 2 * peaks.LEAST_COPY


def test_small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short the copies get fewer and smaller, and never none."""
    pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    monkeypatch.setattr(peaks, "_timed", lambda _: [1.0])
    monkeypatch.setattr(peaks, "_copy", lambda size: size)
    assert len(peaks._copies(available=1 << 40)) == 3
    assert len(peaks._copies(available=1 << 20)) == 1


@pytest.mark.parametrize(("speed", "largest"), [(4e9, 512), (14e12, 8192), (1e15, 16384)])
def test_products_stay_quick(monkeypatch: pytest.MonkeyPatch, speed: float, largest: int) -> None:
    """Sizes double while a run is expected to stay short: a slow CPU stops early, a fast GPU at the end."""
    monkeypatch.setattr(peaks, "_timed", lambda rows: [2 * rows**3 / speed])
    monkeypatch.setattr(peaks, "_product", lambda rows, _: rows)
    found = peaks._products("float32", available=1 << 40)
    assert [size["rows"] for size in found] == [2**power for power in range(7, 15) if 2**power <= largest]
    assert sum(peaks.RUNS * size["seconds"][0] for size in found) < 2.5
    small = peaks._products("float32", available=8 * 3 * 4 * 1024**2)
    assert small[-1]["rows"] <= 1024


def test_a_type_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type whose product fails is skipped with the reason, and the others are measured."""
    pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)

    def products(kind: str, _: int) -> list[dict[str, Any]]:
        if kind == "bfloat16":
            raise ValueError("no such type here")
        return [{"rows": 1, "flops": 2, "seconds": [2.0, 1.0]}]

    monkeypatch.setattr(peaks, "_products", products)
    monkeypatch.setattr(peaks, "_copies", lambda _: [{"bytes": 8, "seconds": [2.0, 4.0]}])
    reading = peaks.read()
    assert reading["skipped"] == {"bfloat16": "ValueError: no such type here"}
    found = measured(reading)
    assert (found.bandwidth, found.flops) == (4.0, {"float32": 2.0, "float16": 2.0})
    assert found.why("bfloat16") == "ValueError: no such type here"


def test_the_best_run_counts() -> None:
    """A ceiling is the fastest run of all sizes."""
    reading = {
        "device": {"name": None},
        "copies": [{"bytes": 10, "seconds": [1.0, 0.5]}, {"bytes": 100, "seconds": [9.0, 4.0]}],
        "products": {"float16": [{"rows": 1, "flops": 6, "seconds": [3.0, 2.0]}]},
        "skipped": {},
    }
    found = measured(reading)
    assert (found.name, found.bandwidth, found.flops) == ("this machine", 25.0, {"float16": 3.0})


def test_timing_ends_when_the_result_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size is run once more than it is timed, and the clock is read around each run."""
    calls: list[int] = []
    monkeypatch.setattr(control, "once", lambda _: float(calls.append(1) or len(calls)))
    assert peaks._timed(lambda: None) == [2.0, 3.0, 4.0, 5.0, 6.0]


IOREG = """
+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X, id 0x100000410, registered, matched, active, busy 0, retain 112>
    {
      "IOClass" = "AGXAcceleratorG15X"
      "gpu-core-count" = 40
      "model" = "Apple M3 Max"
    }
"""
"""The form in which ioreg lists a GPU on macOS 14."""


@pytest.mark.parametrize(("listing", "cores"), [(IOREG, 40), ("", None), ('"gpu-core-count" = many', None)])
def test_gpu_cores_of_a_mac(monkeypatch: pytest.MonkeyPatch, listing: str, cores: int | None) -> None:
    """On a Mac the registry says how many GPU cores there are; a listing without it says nothing."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listing, stderr="")
    )
    assert peaks.gpu_cores() == cores


def test_gpu_cores_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere, and where the tool fails, the number of cores is unknown."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert peaks.gpu_cores() is None

    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError("ioreg")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", fails)
    assert peaks.gpu_cores() is None


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Tesla T4", "NVIDIA T4"),
        ("Tesla V100-SXM2-16GB", "NVIDIA V100 SXM2"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2"),
        ("Tesla V100-PCIE-32GB", "NVIDIA V100 PCIe"),
        ("Tesla V100S-PCIE-32GB", "NVIDIA V100S PCIe"),
        ("NVIDIA A10", "NVIDIA A10"),
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40GB SXM"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM"),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 40GB PCIe"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA L40", "NVIDIA L40"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL"),
        ("NVIDIA H200", "NVIDIA H200 SXM"),
        ("NVIDIA H200, 143771 MiB", "NVIDIA H200 SXM"),
        ("NVIDIA H200 NVL", "NVIDIA H200 NVL"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 96GB"),
        ("NVIDIA GH200 144G HBM3e", "NVIDIA GH200 144GB"),
        ("NVIDIA B200", "NVIDIA B200"),
        ("NVIDIA GB200", "NVIDIA GB200"),
    ],
)
def test_names_of_nvidia_parts(device: str, name: str) -> None:
    """A part is found by what nvidia-smi and our machine.json call it, and no other answers."""
    found = find(device)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "device", ["AMD EPYC", "NVIDIA GeForce RTX 3060", "Apple M9", "Apple", "", "NVIDIA A1000", "NVIDIA T400"]
)
def test_unknown_devices(device: str) -> None:
    """What is not in the table has no peaks, not those of something alike."""
    assert find(device) is None


@pytest.mark.parametrize(
    ("device", "cores", "memory", "gbs", "teraflops"),
    [
        ("Apple M1", 8, None, 68.25, 2.6),
        ("Apple M1 Max", 32, None, 400, 10.4),
        ("Apple M2 Ultra", 76, None, 800, 27.2),
        ("Apple M3 Max", 30, None, 300, 10.6),
        ("Apple M3 Max", None, 36 * GIB, 300, 10.6),
        ("Apple M3 Max", None, 128 * GIB, 400, 14.1),
        ("Apple M3 Ultra", None, 512 * GIB, 819, 28.3),
        ("Apple M4 Pro", 20, None, 273, 8.08),
        ("Apple M4 Max", None, 36 * GIB, 410, 12.9),
        ("Apple M4 Max", 40, 128 * GIB, 546, 16.2),
        ("Apple M5 Max", 32, None, 460, None),
        ("Apple M5 Max", None, 64 * GIB, 614, None),
    ],
)
def test_variants_of_apple_chips(
    device: str, cores: int | None, memory: int | None, gbs: float, teraflops: float | None
) -> None:
    """Cores, or else memory, tell variants apart; FLOP/s of the M5's matrix units are nowhere published."""
    found = find(device, cores, memory)
    assert found is not None
    assert found.bandwidth == gbs * 1e9
    expected = None if teraflops is None else pytest.approx(teraflops * 1e12, rel=0.01)
    assert found.flops.get("float16") == expected
    assert ("M5" in found.why("float16")) == (teraflops is None)


def test_variants_that_cannot_be_told() -> None:
    """What differs between the variants that fit is missing with the reason; what they share is there."""
    unclear = find("Apple M3 Max")
    assert unclear is not None
    assert unclear.bandwidth is None
    assert "30 or 40 GPU cores" in unclear.why("bandwidth")
    shared = find("Apple M1 Max", memory_bytes=64 * GIB)
    assert shared is not None
    assert shared.bandwidth == 400e9
    assert "24 or 32 GPU cores" in shared.why("float16")
    assert not shared.flops


def test_the_table_is_whole() -> None:
    """Families M1 to M5 are there with their Pro and Max; every figure is plausible and has a source."""
    names = {chip.name for chip in CHIPS}
    assert {f"Apple M{n}{kind}" for n in range(1, 6) for kind in ("", " Pro", " Max")} <= names
    assert {f"Apple M{n} Ultra" for n in range(1, 4)} <= names
    for chip in CHIPS:
        given = chip.peaks
        assert given.bandwidth is not None
        assert 50e9 < given.bandwidth < 10e12
        assert given.source
        # Every type has a figure or a reason.
        assert {"float32", "float16", "bfloat16"} <= given.flops.keys() | given.missing.keys() | (
            {"float32"} if "tf32" in given.flops else set()
        )
        for kind in given.flops:
            knee = given.knee(kind)
            assert knee is not None
            assert 10 < knee < 450


def test_float32_without_tensor_cores() -> None:
    """With MLX_ENABLE_TF32=0 the ceiling of float32 is that of the plain units."""
    default, plain = find("NVIDIA H200"), find("NVIDIA H200", tf32=False)
    assert default is not None
    assert plain is not None
    assert (default.peak("float32"), plain.peak("float32")) == (494.5e12, 67e12)
    assert default.peak("bfloat16") == plain.peak("bfloat16")


def test_the_table_in_the_docs() -> None:
    """Each row of the table in docs/roofline.md is what the look-up answers."""
    text = (Path(__file__).parents[1] / "docs" / "roofline.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(("| Apple M", "| NVIDIA", "| Tesla"))
    ]
    assert len(rows) > 20
    for device, cores, gbs, teraflops, knee in rows:
        found = find(device, int(cores) if cores.isdigit() else None)
        assert found is not None
        assert found.bandwidth is not None
        peak, turn = found.peak("float16"), found.knee("float16")
        assert gbs == units.rate(found.bandwidth / 1e9), device
        assert teraflops == ("–" if peak is None else units.rate(peak / 1e12)), device
        assert knee == ("–" if turn is None else f"{turn:.0f}"), device
