"""Models: per machine and commit the table that people paste into issues, beside an earlier commit."""

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
from mlx_velocity.site.writer import Writer


def write(record: TrackRecord, writer: Writer) -> None:
    """The page."""
    known = model_table.known(record.index.keys, snapshots.params_of, record.benchmarks)
    columns = model_table.columns(known)
    listed = model_table.models(known)
    held = {
        "models": [[plain.text(part) for part in names] for names in listed],
        "columns": [
            {
                **{key: getattr(column, key) for key in ("label", "hint", "view", "better")},
                "cases": [column.cells.get(name, -1) for name, _, _ in listed],
            }
            for column in columns
        ],
        "places": {
            place.key: _roofline(record, place, known) for place in places.of(record.index, record.graph)
        },
    }
    writer.page("models.html", "models.html", held, lambda: {"held": held})


def _roofline(record: TrackRecord, place: Place, known: list[Measured]) -> dict[str, Any]:
    """What a machine's peaks make of each case; without peaks, why there are none."""
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
