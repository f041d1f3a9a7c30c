"""What the pages of a track are made from, and the addresses that they know each other by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlx_velocity.chronicle import Line
from mlx_velocity.commit_graph import CommitGraph
from mlx_velocity.history_report import HistoryReport
from mlx_velocity.site import plain
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.tracks import Track

SHORT = 12
"""Signs of a commit's hash in an address. Two commits of one repository do not share them by accident."""


@dataclass(frozen=True)
class TrackRecord:
    """All that is known of a track."""

    track: Track
    graph: CommitGraph
    line: Line
    """The commits of the first branch, which its history is told along."""
    index: StoreIndex
    benchmarks: dict[str, dict[str, Any]]
    history: HistoryReport
    """Every machine with every case: points, levels and changes."""


def case_page(benchmark: str, params: Sequence[str]) -> str:
    """Address of a case's page below the track's folder: to be read, and one for each case whatever it is called."""
    key = json.dumps([benchmark, list(params)])
    words = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join([benchmark, *params])).strip("-.")[:90]
    return f"cases/{words}-{hashlib.sha256(key.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}.html"


def commit_page(commit_hash: str) -> str:
    """Address of a commit's page below the track's folder."""
    return f"commits/{re.sub('[^0-9a-f]', '', commit_hash)[:SHORT]}.html"


def machine_anchor(machine: str) -> str:
    """The name of a machine as the fragment of an address."""
    return quote(plain.text(machine), safe="")


def machine_page(machine: str) -> str:
    """Address of what is said of a machine, below the track's folder."""
    return f"machines.html#{machine_anchor(machine)}"


def graph_view(benchmark: str) -> str:
    """Address of asv-tachyon's graph of a benchmark, below the track's folder."""
    return f"asv/index.html#view=explore&bench={quote(plain.name(benchmark), safe='')}"
