"""The processes that share the work of reading and building."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import os, time
from mlx_velocity.store import reading
if __name__ == "__main__":
    with reading.processes() as pool:
        reading.get_ready()
        waits = [pool.submit(time.sleep, 0.2) for _ in range(8)]
        print(*{pool.submit(os.getpid).result() for _ in range(4)}, flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("folder", ["forked", "spawned"])
def test_none_is_left_of_one_that_was_killed(folder: str, tmp_path: Path) -> None:
    """Whoever is killed leaves no process that waits for work, and none that made the others; where the folder of
    temporary files has too long a name for a socket, too."""
    place = Path(tempfile.gettempdir()) if folder == "forked" else tmp_path / ("t" * 90)
    place.mkdir(exist_ok=True)
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    assert parent.stdout is not None
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        family = [psutil.Process(pid) for pid in pids]
        family += psutil.Process(parent.pid).children(recursive=True)
        assert pids
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
