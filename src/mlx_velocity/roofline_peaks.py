"""Peaks of known machines, looked up by the names that MLX and nvidia-smi give them, and measured ones.

A figure is the vendor's where the vendor publishes one. Apple publishes bandwidths and, after the M2, no
FLOP/s: those are derived from cores and clock, and say so. What nobody publishes is missing with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_velocity.roofline import Peaks

_FLOPS_PER_CORE_CLOCK = 256
"""An Apple GPU core has 128 lanes, each one multiply-add a clock, in float32 and float16 alike
(https://github.com/philipturner/metal-benchmarks); bfloat16 is widened to float32 on the way."""

_TYPES = ("float32", "float16", "bfloat16")
_GB = 1e9
_TERA = 1e12
_BANDWIDTH = "bandwidth: Apple's technical specifications"
_NO_M5_FLOPS = "Apple publishes no FLOP/s of the M5's matrix units, and others disagree about its clock: measure the peaks"
_DENSE = "tensor cores without sparsity: half of what it gives with"


@dataclass(frozen=True)
class Chip:
    """A variant of a machine's processor."""

    name: str
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
        return device.lower() == self.name.lower()


def find(
    device: str, gpu_cores: int | None = None, memory_bytes: int | None = None, *, tf32: bool = True
) -> Peaks | None:
    """The published peaks of a device; None for one that is not in the table.

    `device` is what `mx.device_info()["device_name"]`, `machine.describe()["gpu"]` or `nvidia-smi` calls it
    (`Apple M3 Max`, `NVIDIA H200`, `NVIDIA H200, 143771 MiB`). Where a chip has variants, cores or memory tell
    them apart; what still differs between those that fit is missing from the answer, with the reason.
    `tf32` false is for `MLX_ENABLE_TF32=0`: float32 products then run without tensor cores.
    """
    name = device.split(",")[0].strip()
    fitting = [chip for chip in CHIPS if chip.answers_to(name)]
    if not fitting:
        return None
    # Patterns go from special to general.
    found = _common(fitting[:1] if fitting[0].pattern else _variants(fitting, gpu_cores, memory_bytes))
    return replace(found, flops={kind: peak for kind, peak in found.flops.items() if tf32 or kind != "tf32"})


def _variants(chips: list[Chip], gpu_cores: int | None, memory_bytes: int | None) -> list[Chip]:
    """Those with that many cores, else those sold with that much memory, else all."""
    size = None if memory_bytes is None else round(memory_bytes / 2**30)
    return (
        [chip for chip in chips if chip.gpu_cores == gpu_cores]
        or [chip for chip in chips if size in chip.memory_gib]
        or chips
    )


def _common(variants: Sequence[Chip]) -> Peaks:
    """What all variants agree on."""
    first = variants[0].peaks
    if len(variants) == 1:
        return first
    cores = " or ".join(str(chip.gpu_cores) for chip in variants)
    reason = f"{variants[0].name} is sold with {cores} GPU cores, and nobody said which one this is"
    missing = dict(first.missing)
    bandwidth = first.bandwidth
    if any(chip.peaks.bandwidth != bandwidth for chip in variants):
        bandwidth, missing["bandwidth"] = None, reason
    flops = dict(first.flops)
    for kind, peak in first.flops.items():
        if any(chip.peaks.flops.get(kind) != peak for chip in variants):
            del flops[kind]
            missing[kind] = reason
    return Peaks(variants[0].name, bandwidth, flops, _BANDWIDTH, missing)


def measured(reading: Mapping[str, Any]) -> Peaks:
    """The ceiling that a reading of the worker's `peaks` shows: the best run of each kind."""
    copies = [size["bytes"] / min(size["seconds"]) for size in reading["copies"]]
    flops = {
        kind: max(size["flops"] / min(size["seconds"]) for size in sizes)
        for kind, sizes in reading["products"].items()
    }
    return Peaks(
        name=reading["device"].get("name") or "this machine",
        bandwidth=max(copies, default=None),
        flops=flops,
        source="measured through MLX: the best of several copies and square matrix products",
        missing=dict(reading.get("skipped", {})),
    )


def _apple(
    chip: str,
    bandwidth: float,
    cores: int,
    memory: tuple[int, ...],
    ghz: float | None,
    teraflops: float | None = None,
) -> Chip:
    """A variant of an Apple chip: GB/s, GPU cores, GiB it is sold with, clock, and TFLOP/s if Apple says it."""
    name = f"Apple {chip}"
    flops: dict[str, float] = {}
    missing: dict[str, str] = {}
    source = _BANDWIDTH
    if teraflops is not None:
        flops = dict.fromkeys(_TYPES, teraflops * _TERA)
        source += "; FLOP/s in float32: Apple's announcement, the other types run at the same rate"
    elif ghz is not None:
        flops = dict.fromkeys(_TYPES, cores * _FLOPS_PER_CORE_CLOCK * ghz * 1e9)
        source += f"; FLOP/s derived, not published: {cores} cores × 128 lanes × 2 × {ghz} GHz"
    else:
        missing = dict.fromkeys(_TYPES, _NO_M5_FLOPS)
    peaks = Peaks(f"{name}, {cores} GPU cores", bandwidth * _GB, flops, source, missing)
    return Chip(name, peaks, cores, memory)


def _nvidia(
    name: str,
    pattern: str,
    bandwidth: float,
    float32: float | None,
    tf32: float | None,
    half: float | None,
    note: str = "",
) -> Chip:
    """An NVIDIA part: GB/s, and TFLOP/s in float32 without and with TF32 and in float16 and bfloat16."""
    bfloat16 = half if tf32 is not None else None
    given = {"float32": float32, "tf32": tf32, "float16": half, "bfloat16": bfloat16}
    flops = {kind: value * _TERA for kind, value in given.items() if value is not None}
    missing: dict[str, str] = {}
    if half is None:
        missing = dict.fromkeys(_TYPES, f"NVIDIA gives no such figure of the {name}: measure the peaks")
    elif bfloat16 is None:
        missing["bfloat16"] = f"the tensor cores of the {name} have no bfloat16"
    source = "NVIDIA's data sheet" + (f", {note}" if note else "")
    return Chip(name, Peaks(f"NVIDIA {name}", bandwidth * _GB, flops, source, missing), pattern=pattern)


CHIPS: tuple[Chip, ...] = (
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
    # From special to general: the first pattern that fits a name decides.
    _nvidia("T4", r"\bT4\b", 320, 8.1, None, 65),
    _nvidia("V100S PCIe", r"V100S", 1134, 16.4, None, 130),
    _nvidia("V100 PCIe", r"V100-PCIE", 900, 14, None, 112),
    _nvidia("V100 SXM2", r"V100-SXM2", 900, 15.7, None, 125),
    _nvidia("A10G", r"\bA10G\b", 600, None, None, None),
    _nvidia("A10", r"\bA10\b", 600, 31.2, 62.5, 125),
    _nvidia("A30", r"\bA30\b", 933, 10.3, 82, 165),
    _nvidia("A40", r"\bA40\b", 696, 37.4, 74.8, 149.7),
    _nvidia("A100 40GB SXM", r"A100-SXM4-40GB", 1555, 19.5, 156, 312),
    _nvidia("A100 80GB SXM", r"A100-SXM4-80GB", 2039, 19.5, 156, 312),
    _nvidia("A100 40GB PCIe", r"A100-PCIE-40GB", 1555, 19.5, 156, 312),
    _nvidia("A100 80GB PCIe", r"A100 80GB PCIe", 1935, 19.5, 156, 312),
    _nvidia("L4", r"\bL4\b", 300, 30.3, 60, 121, _DENSE),
    _nvidia("L40S", r"\bL40S\b", 864, 91.6, 183, 362.05),
    _nvidia("L40", r"\bL40\b", 864, 90.5, 90.5, 181.05),
    _nvidia("H100 NVL", r"H100 NVL", 3900, 60, 417.5, 835.5, _DENSE),
    _nvidia("H100 PCIe", r"H100 PCIe", 2000, 51, 378, 756.5, _DENSE),
    _nvidia("H100 SXM", r"H100 80GB HBM3|H100.*SXM", 3350, 67, 494.5, 989.5, _DENSE),
    _nvidia("H200 NVL", r"\bH200 NVL", 4800, 60, 417.5, 835.5, _DENSE),
    _nvidia("H200 SXM", r"\bH200\b", 4800, 67, 494.5, 989.5, _DENSE),
    _nvidia("GH200 144GB", r"GH200 144G", 4900, 67, 494.5, 989.5, _DENSE),
    _nvidia("GH200 96GB", r"GH200 480GB", 4000, 67, 494.5, 989.5, _DENSE),
    _nvidia("GB200", r"\bGB200\b", 8000, None, 1250, 2500, _DENSE),
    _nvidia("B200", r"\bB200\b", 8000, None, 1100, 2250, _DENSE),
    _nvidia("GB10", r"\bGB10\b", 273, None, None, None),
)
"""All that is known, an entry for each variant."""
