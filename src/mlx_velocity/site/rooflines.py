"""The least time that a machine could take for a case: from its published peaks, for prefill and decode (docs/roofline.md)."""

from __future__ import annotations

from typing import Any

from mlx_velocity import model_table, roofline_peaks, snapshots
from mlx_velocity.anatomy import Config
from mlx_velocity.errors import InputError
from mlx_velocity.model_table import Measured
from mlx_velocity.probe import models
from mlx_velocity.probe.workloads import PREFILL_CHUNK
from mlx_velocity.roofline import Peaks
from mlx_velocity.site import places, plain
from mlx_velocity.site.places import Place
from mlx_velocity.site.record import TrackRecord

Key = tuple[str, str, str, tuple[str, ...]]
"""Machine, environment, benchmark in its present version, parameters."""


def known(record: TrackRecord) -> list[Measured]:
    """The cases of language models."""
    return model_table.known(record.index.keys, snapshots.params_of, record.benchmarks)


def by_series(record: TrackRecord) -> dict[Key, tuple[float, str]]:
    """Of the series for which it is known: the least seconds, and whose peaks say so."""
    cases = known(record)
    found = {}
    for place in places.of(record.index, record.graph):
        told = of(record, place, cases)
        for number, seconds in told["least"].items():
            name, _, written = record.index.keys[number]
            key = (place.machine, place.environment, name, snapshots.params_of(str(written)))
            found[key] = (seconds, told["peaks"])
    return found


def of(record: TrackRecord, place: Place, known: list[Measured]) -> dict[str, Any]:
    """The least seconds of each case by its number in the index, and whose peaks say so; without peaks, why there are none."""
    found = _peaks(record, place)
    if found is None:
        machine = record.index.machines[place.machine]
        device = plain.text(str(machine.get("gpu") or machine.get("cpu") or "this machine"), 80)
        why = (
            "nobody publishes what MLX can reach on a CPU"
            if place.backend in ("cpu", "")
            else f"no peaks of {device} are known"
        )
        return {"least": {}, "peaks": "", "why": why}
    least = model_table.least_seconds(known, found, _config, PREFILL_CHUNK)
    return {"least": least, "peaks": f"{found.name}: {found.source}", "why": ""}


def _peaks(record: TrackRecord, place: Place) -> Peaks | None:
    machine = record.index.machines[place.machine]
    if place.backend in ("cpu", ""):
        return None
    memory = str(machine.get("ram", ""))
    device = str(machine.get("gpu") or machine.get("cpu") or "")
    return roofline_peaks.find(device, None, int(memory) if memory.isdecimal() and len(memory) < 20 else None)


def _config(model: str) -> Config | None:
    try:
        return models.config(model)
    except InputError:
        return None
