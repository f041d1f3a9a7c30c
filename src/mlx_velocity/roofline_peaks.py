"""Peaks of known machines, looked up by the names that MLX and nvidia-smi give them, and measured ones.

A figure is the vendor's where the vendor publishes one. Apple publishes bandwidths and, after the M2, no
FLOP/s: those are derived from cores and clock, and say so. What nobody publishes is missing with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_velocity.roofline import Peaks

GB = 1e9
TERA = 1e12

_FLOPS_PER_CORE_CLOCK = 256
"""An Apple GPU core has 128 lanes, each one multiply-add a clock, in float32 and float16 alike
(https://github.com/philipturner/metal-benchmarks); bfloat16 is widened to float32 on the way."""


@dataclass(frozen=True)
class Chip:
    """A variant of a machine's processor."""

    name: str
    """As the device says it, without `NVIDIA`, `Tesla` and form."""
    peaks: Peaks
    gpu_cores: int | None = None
    memory_gib: tuple[int, ...] = ()
    """Memory sizes that this variant is sold with; empty where they don't tell variants apart."""
    pattern: str = ""
    """A regular expression for the device's name; empty where the name alone decides."""

    def answers_to(self, device: str) -> bool:
        """Whether a device of that name may be this chip."""
        if self.pattern:
            return re.search(self.pattern, device, re.IGNORECASE) is not None
        return device.strip().lower() == self.name.lower()


def find(device: str, gpu_cores: int | None = None, memory_bytes: int | None = None) -> Peaks | None:
    """The published peaks of a device; None for one that is not in the table.

    `device` is what `mx.device_info()["device_name"]`, `machine.describe()["gpu"]` or `nvidia-smi` calls
    it (`Apple M3 Max`, `NVIDIA H200`, `NVIDIA H200, 143771 MiB`). Where a chip has variants, cores or memory tell
    them apart; what still differs between those that fit is missing from the answer, with the reason.
    """
    name = device.split(",")[0].strip()
    fitting = [chip for chip in CHIPS if chip.answers_to(name)]
    if fitting and not fitting[0].pattern:
        fitting = _of_variant(fitting, gpu_cores, memory_bytes)
    else:
        # Patterns go from special to general.
        fitting = fitting[:1]
    return _common([chip.peaks for chip in fitting], name) if fitting else None


def _of_variant(chips: list[Chip], gpu_cores: int | None, memory_bytes: int | None) -> list[Chip]:
    if gpu_cores is not None:
        exact = [chip for chip in chips if chip.gpu_cores == gpu_cores]
        if exact:
            return exact
    if memory_bytes is not None:
        size = round(memory_bytes / 2**30)
        sold = [chip for chip in chips if size in chip.memory_gib]
        if sold:
            return sold
    return chips


def _common(variants: Sequence[Peaks], name: str) -> Peaks:
    """What all variants agree on."""
    first = variants[0]
    if len(variants) == 1:
        return first
    reason = f"{name} comes in variants that differ in it: {', '.join(peaks.name for peaks in variants)}"
    missing = dict(first.missing)
    bandwidth = first.bandwidth
    if len({peaks.bandwidth for peaks in variants}) > 1:
        bandwidth, missing["bandwidth"] = None, reason
    flops = dict(first.flops)
    for dtype in first.flops:
        if len({peaks.flops.get(dtype) for peaks in variants}) > 1:
            del flops[dtype]
            missing[dtype] = reason
    return Peaks(name, bandwidth, flops, first.source, missing)


def measured(reading: Mapping[str, Any]) -> Peaks:
    """The ceiling that a reading of the worker's `peaks` shows: the best run of each kind."""
    name = reading["device"].get("name") or "this machine"
    copies = [size["bytes"] / min(size["seconds"]) for size in reading["copies"]]
    flops = {
        dtype: max(size["flops"] / min(size["seconds"]) for size in sizes)
        for dtype, sizes in reading["products"].items()
    }
    source = "measured through MLX: the best of several copies in place and square matrix products"
    return Peaks(name, max(copies) if copies else None, flops, source, dict(reading.get("skipped", {})))


def _apple(
    chip: str,
    bandwidth: float,
    cores: int,
    memory: tuple[int, ...],
    ghz: float | None,
    teraflops: float | None = None,
) -> Chip:
    """A variant of an Apple chip: GB/s and, where Apple says it, TFLOP/s in float32; else cores × clock."""
    name = f"Apple {chip}"
    bytes_per_second = "bandwidth: Apple's technical specifications"
    if teraflops is None and ghz is None:
        source, flops = bytes_per_second, {}
        missing = dict.fromkeys(("float32", "float16", "bfloat16"), _NO_M5_FLOPS)
    else:
        missing = {}
        if teraflops is not None:
            peak, origin = (
                teraflops * TERA,
                "FLOP/s in float32: Apple's announcement; float16 runs at the same rate",
            )
        else:
            peak = cores * _FLOPS_PER_CORE_CLOCK * (ghz or 0.0) * GB
            origin = f"FLOP/s derived, not published: {cores} cores × 128 lanes × 2 × {ghz} GHz, a clock that others read"
        flops = dict.fromkeys(("float32", "float16", "bfloat16"), peak)
        source = f"{bytes_per_second}; {origin}"
    return Chip(
        name, Peaks(f"{name}, {cores} GPU cores", bandwidth * GB, flops, source, missing), cores, memory
    )


_NO_M5_FLOPS = "Apple publishes no FLOP/s of the M5's matrix units and others disagree about its clock: measure the peaks"

_APPLE = (
    _apple("M1", 68.25, 7, (8, 16), 1.278),
    _apple("M1", 68.25, 8, (8, 16), 1.278, 2.6),
    _apple("M1 Pro", 200, 14, (16, 32), 1.296),
    _apple("M1 Pro", 200, 16, (16, 32), 1.296, 5.2),
    _apple("M1 Max", 400, 24, (32, 64), 1.296),
    _apple("M1 Max", 400, 32, (32, 64), 1.296, 10.4),
    _apple("M1 Ultra", 800, 48, (64, 128), 1.296),
    _apple("M1 Ultra", 800, 64, (64, 128), 1.296, 21.0),
    _apple("M2", 100, 8, (8, 16, 24), 1.398),
    _apple("M2", 100, 10, (8, 16, 24), 1.398, 3.6),
    _apple("M2 Pro", 200, 16, (16, 32), 1.398),
    _apple("M2 Pro", 200, 19, (16, 32), 1.398),
    _apple("M2 Max", 400, 30, (32, 64), 1.398),
    _apple("M2 Max", 400, 38, (32, 64, 96), 1.398),
    _apple("M2 Ultra", 800, 60, (64, 128, 192), 1.398),
    _apple("M2 Ultra", 800, 76, (64, 128, 192), 1.398),
    _apple("M3", 100, 8, (8, 16, 24), 1.38),
    _apple("M3", 100, 10, (8, 16, 24), 1.38),
    _apple("M3 Pro", 150, 14, (18, 36), 1.38),
    _apple("M3 Pro", 150, 18, (18, 36), 1.38),
    _apple("M3 Max", 300, 30, (36, 96), 1.38),
    _apple("M3 Max", 400, 40, (48, 64, 128), 1.38),
    _apple("M3 Ultra", 819, 60, (96, 256), 1.38),
    _apple("M3 Ultra", 819, 80, (96, 256, 512), 1.38),
    _apple("M4", 120, 8, (16, 24), 1.47),
    _apple("M4", 120, 10, (16, 24, 32), 1.47),
    _apple("M4 Pro", 273, 16, (24, 48, 64), 1.578),
    _apple("M4 Pro", 273, 20, (24, 48, 64), 1.578),
    _apple("M4 Max", 410, 32, (36,), 1.578),
    _apple("M4 Max", 546, 40, (48, 64, 128), 1.578),
    _apple("M5", 153, 8, (16, 24, 32), None),
    _apple("M5", 153, 10, (16, 24, 32), None),
    _apple("M5 Pro", 307, 16, (24, 48, 64), None),
    _apple("M5 Pro", 307, 20, (24, 48, 64), None),
    _apple("M5 Max", 460, 32, (36,), None),
    _apple("M5 Max", 614, 40, (48, 64, 128), None),
)


def _nvidia(
    name: str,
    pattern: str,
    bandwidth: float,
    half: float | None,
    tf32: float | None,
    bfloat16: bool = True,
    source: str = "NVIDIA's data sheet, tensor cores without sparsity",
) -> Chip:
    """An NVIDIA part: GB/s, and TFLOP/s of its tensor cores in float16 (and bfloat16) and TF32.

    MLX multiplies float32 arrays in TF32 unless `MLX_ENABLE_TF32=0`, so that is the ceiling of float32; parts
    without TF32 give their float32 rate instead.
    """
    flops: dict[str, float] = {}
    missing: dict[str, str] = {}
    if tf32 is not None:
        flops["float32"] = tf32 * TERA
    if half is not None:
        flops["float16"] = half * TERA
    if half is not None and bfloat16:
        flops["bfloat16"] = half * TERA
    if not bfloat16:
        missing["bfloat16"] = f"{name} has no bfloat16 in its tensor cores"
    return Chip(name, Peaks(f"NVIDIA {name}", bandwidth * GB, flops, source, missing), pattern=pattern)


_HALVED = "NVIDIA's data sheet, which gives tensor cores with sparsity: halved"
_SHARED = "NVIDIA's specification of memory; it gives no dense FLOP/s in float16"

# From special to general: the first pattern that fits a name decides.
_NVIDIA = (
    _nvidia("T4", r"\bT4\b", 320, 65, 8.1, bfloat16=False),
    _nvidia("V100S PCIe", r"V100S", 1134, 130, 16.4, bfloat16=False),
    _nvidia("V100 PCIe", r"V100-(PCIE|FHHL)", 900, 112, 14, bfloat16=False),
    _nvidia("V100 SXM2", r"V100", 900, 125, 15.7, bfloat16=False),
    _nvidia("A10G", r"\bA10G\b", 600, None, None, source=_SHARED),
    _nvidia("A10", r"\bA10\b", 600, 125, 62.5),
    _nvidia("A30", r"\bA30\b", 933, 165, 82),
    _nvidia("A40", r"\bA40\b", 696, 149.7, 74.8),
    _nvidia("A100 40GB SXM", r"A100-SXM4-40GB", 1555, 312, 156),
    _nvidia("A100 80GB SXM", r"A100-SXM4-80GB", 2039, 312, 156),
    _nvidia("A100 40GB PCIe", r"A100-PCIE-40GB", 1555, 312, 156),
    _nvidia("A100 80GB PCIe", r"A100 80GB PCIe", 1935, 312, 156),
    _nvidia("L4", r"\bL4\b", 300, 121, 60, source=_HALVED),
    _nvidia("L40S", r"\bL40S\b", 864, 362.05, 183),
    _nvidia("L40", r"\bL40\b", 864, 181.05, 90.5),
    _nvidia("H100 NVL", r"H100 NVL", 3900, 835.5, 417.5, source=_HALVED),
    _nvidia("H100 PCIe", r"H100 PCIe", 2000, 756.5, 378, source=_HALVED),
    _nvidia("H100 SXM", r"H100( 80GB HBM3|.*SXM)", 3350, 989.5, 494.5, source=_HALVED),
    _nvidia("H200 NVL", r"H200 NVL", 4800, 835.5, 417.5, source=_HALVED),
    _nvidia("H200 SXM", r"\bH200\b", 4800, 989.5, 494.5, source=_HALVED),
    _nvidia("GH200 144GB", r"GH200 144G", 4900, 990, 494, source=_HALVED),
    _nvidia("GH200 96GB", r"GH200 480GB", 4000, 990, 494, source=_HALVED),
    _nvidia("GB200", r"\bGB200\b", 8000, 2500, 1250, source=_HALVED),
    _nvidia("B200", r"\bB200\b", 8000, 2250, 1100, source=_HALVED),
    _nvidia("GB10", r"\bGB10\b", 273, None, None, source=_SHARED),
)

CHIPS: tuple[Chip, ...] = (*_APPLE, *_NVIDIA)
"""All that is known, an entry for each variant."""
