"""Where the rows of `bench` stand on the roofline: a share of the machine's bandwidth or of its FLOP/s."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from mlx_velocity import roofline, roofline_peaks, units
from mlx_velocity.bench import Row, Share
from mlx_velocity.errors import InputError
from mlx_velocity.roofline import Peaks
from mlx_velocity.workers import Worker, WorkerError

STAGES: dict[str, roofline.Stage] = {
    "prefill": "prefill",
    "decode": "decode",
    "stepwise": "decode",
    "batched": "decode",
}
"""Stage of a trial → stage of the roofline; of the others not every token costs the same."""
LIMIT_S = 120.0


def ceilings(worker: Worker, backend: str) -> Peaks | None:
    """The published peaks of a known GPU, else what the worker's device reaches; None where it reaches nothing."""
    try:
        reading = worker.request({"op": "peaks"}, LIMIT_S)["peaks"]
    except WorkerError:
        return None
    device: dict[str, Any] = reading["device"]
    published = None
    if backend != "cpu":
        published = roofline_peaks.find(
            str(device.get("name") or ""), device.get("gpu_cores"), device.get("memory_bytes")
        )
    return published or roofline_peaks.measured(reading)


def placed(rows: Sequence[Row], peaks: Peaks | None) -> list[Row]:
    """The rows with their shares; a row of another stage, and of a model that can't be counted, has none."""
    return [dataclasses.replace(row, share=_share(row, peaks)) for row in rows]


def _share(row: Row, peaks: Peaks | None) -> Share | None:
    stage = STAGES.get(row.trial.stage)
    if peaks is None or stage is None or not row.samples or row.model.config is None:
        return None
    try:
        found = roofline.place(
            row.model.config, stage=stage, tokens=row.trial.tokens, seconds=statistics.median(row.samples),
            peaks=peaks, depth=row.trial.depth, batch=row.trial.batch,
        )  # fmt: skip
    except InputError:
        return None
    return Share(
        found.bytes,
        found.flops,
        found.bandwidth_utilization,
        found.mfu,
        found.bound,
        found.most_tokens_per_second,
    )


def peaks_in_words(peaks: Peaks | None) -> str:
    """The machine's peaks and who says so; empty where they are unknown."""
    if peaks is None:
        return ""
    known = [units.bandwidth(peaks.bandwidth)] if peaks.bandwidth else []
    known += [f"{units.flops(value)} {kind}" for kind, value in peaks.flops.items()]
    return f"{peaks.name} reaches {', '.join(known) or 'nobody knows what'} ({peaks.source})"
