"""The site's first page and what all pages share: what is measured, on which machines, and where to look."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlx_velocity.history_report import STATES
from mlx_velocity.site.writer import data, templates

ASSETS = Path(__file__).with_name("assets")
FOLDER = "assets"


@dataclass(frozen=True)
class Listed:
    """A track as the first page lists it."""

    name: str
    folder: str
    """Below the site."""
    commits: int
    machines: Sequence[str]
    newest: str = ""
    """The newest measured commit: its subject and date."""
    backends: frozenset[str] = field(default=frozenset())
    changes: Mapping[str, int] = field(default_factory=dict)
    """State → how many changes are in it."""


def write(html: Path, tracks: Sequence[Listed]) -> None:
    """Write the first page to the folder `html`, and the style and script of all pages."""
    (html / "index.html").write_text(page(tracks), "utf-8")
    shutil.copytree(ASSETS, html / FOLDER, dirs_exist_ok=True)
    listed = [{"name": track.name, "folder": track.folder} for track in tracks]
    (html / FOLDER / "tracks.js").write_text(f"window.velocityTracks = {data(listed)};\n", "utf-8")


def page(tracks: Sequence[Listed]) -> str:
    """The first page; without tracks it says how to get results."""
    cpu = any("cpu" in track.backends for track in tracks)
    return (
        templates()
        .get_template("front.html")
        .render(root="", here="", track="", tracks=tracks, cpu=cpu, states=STATES)
    )
