"""What each fuzzed format begins with where the program's own files are too long, or there are none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from toy_project import Project

from mlx_velocity import breakdown, profiles, records, regressions, releases
from mlx_velocity.offline import manifest


def brief(data: bytes) -> bytes:
    """The first line of each kind: what a reader does once it need not do again for every input."""
    kinds: dict[str, bytes] = {}
    for line in data.splitlines(keepends=True):
        kinds.setdefault(json.loads(line)["kind"], line)
    return b"".join(kinds.values())


def release_seed(folder: Path) -> bytes:
    """The first releases."""
    path = folder / "seed.json"
    releases.save(path, releases.load()[:12])
    return path.read_bytes()


def profile_seed() -> bytes:
    """A profile of two launches."""
    environment = records.Environment("velocity-py3.11-backendcpu", "cpu", "3.11", ["mlx"], {"mlx": "0.32.4"})
    task = breakdown.Task("tiny-float32", "decode", 1, 0, 8)
    header = breakdown.Header(
        "toy", "box", "cpu", "main", "a" * 40, "Change 1", environment, task, "2026-01-02T03:04:05Z"
    )
    part = breakdown.Part("model.layers.0.mlp", "MLP", 0, [[0.25, 0.125], [0.25, 0.25]], [0.375, 0.5])
    launch = breakdown.Launch(
        1,
        "2026-01-02T03:04:05Z",
        [0],
        {"mlx": "0.32.4"},
        8,
        [0.5, 0.75],
        [0.625, 0.875],
        [part],
        0.0625,
        True,
    )
    again = dataclasses.replace(launch, number=2)
    return "".join(profiles.dump(item) + "\n" for item in (header, launch, again)).encode()


def regression_seed(project: Project) -> bytes:
    """Two decisions."""
    good, bad, *_ = project.commits
    mark = regressions.Mark(
        "abcdefgh", "accepted", "box", "env", "suite.Stage.time_quick", ["0"], bad, good, bad, bad, "Change 1", 1.25,
        "wanted", None, "2026-01-02T03:04:05Z",
    )  # fmt: skip
    fixed = dataclasses.replace(mark, state="fixed", fixed_by=bad)
    return "".join(regressions.dump(item) + "\n" for item in (mark, fixed)).encode()


def wheelhouse_seed() -> bytes:
    """A folder of one wheel."""
    entry = manifest.Entry("mlx-0.32.4-py3-none-any.whl", "mlx", "0.32.4", 123, "0" * 64)
    held = manifest.Manifest(
        "manylinux_2_35_x86_64", "3.12", "cuda", "releases", ["a" * 40], ["torch"], [], [entry]
    )
    return json.dumps({"format": manifest.FORMAT, **dataclasses.asdict(held)}).encode()
