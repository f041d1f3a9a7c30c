"""Models: per machine and commit the table that people paste into issues, beside an earlier commit."""

from __future__ import annotations

from mlx_velocity import model_table
from mlx_velocity.site import places, plain, rooflines
from mlx_velocity.site.record import TrackRecord
from mlx_velocity.site.writer import Writer


def write(record: TrackRecord, writer: Writer) -> None:
    """The page."""
    known = rooflines.known(record)
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
            place.key: rooflines.of(record, place, known) for place in places.of(record.index, record.graph)
        },
    }
    writer.page("models.html", "models.html", held, lambda: {"held": held})
