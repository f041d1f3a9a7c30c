"""Our own pages of a track, one module per page: the track's record → files. A page's looks are in templates/."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from mlx_velocity.site.pages import (
    case,
    cases,
    changed,
    commit,
    compare,
    machines,
    models,
    samples,
    snapshots,
)
from mlx_velocity.site.record import TrackRecord
from mlx_velocity.site.writer import Writer

PAGES = (changed, cases, case, models, commit, compare, machines, snapshots, samples)
"""Each has write(record, writer)."""


def build(record: TrackRecord, html: Path, before: Path | None, pool: Executor | None = None) -> int:
    """Write the pages of a track to the folder `html`, taking what did not change from `before`; how many were made."""
    writer = Writer(record, html, before, pool)
    for page in PAGES:
        page.write(record, writer)
    return writer.close()
