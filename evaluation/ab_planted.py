"""The planted changes, the hogs and stock asv, for evaluation/ab_real.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import git
import numpy
from packaging.version import Version
from uv import find_uv_bin

from mlx_velocity import requirements, scheduler, tracks
from mlx_velocity.environments import Prepared
from mlx_velocity.probe import profiles

PLANTED = {"plus-2": 0.02, "plus-3": 0.03, "plus-5": 0.05, "plus-10": 0.10}
"""Branch → share of a decode step's time that is added to it."""
PLANT = """
_COLUMNS = {columns}
_ZEROS = {{}}


def _planted(logits):
    if not _COLUMNS:
        return logits
    if _COLUMNS not in _ZEROS:
        _ZEROS[_COLUMNS] = mx.zeros((1, _COLUMNS)), mx.zeros((_COLUMNS, logits.shape[-1]))
        mx.eval(_ZEROS[_COLUMNS])
    return mx.addmm(logits, *_ZEROS[_COLUMNS])

"""
"""One more operation in each step. A loop that waits would add no such share: beside MLX's own thread on
one core it changes who runs when, and a host that slows down does not slow it."""
CALIBRATE = """
import json, os, statistics, sys, time
from mlx_velocity.probe import sensors, workloads
import mlx_lm
generate = sys.modules["mlx_lm.generate"]
sensors.pin(json.loads(sys.argv[1]))
sensors.run_until_waiting()
decode, times = workloads.Decode("tiny-float32", 0), {}
levels = [0, *json.loads(sys.argv[2])]
for turn in range(int(sys.argv[3])):
    for level in levels if turn % 2 else levels[::-1]:
        generate._COLUMNS = level
        decode.prepare()
        start = time.perf_counter()
        decode.run()
        times.setdefault(level, []).append(time.perf_counter() - start)
print(json.dumps([statistics.median(a / b for a, b in zip(times[x], times[0])) - 1 for x in levels[1:]]))
"""
CALIBRATION_COLUMNS, CALIBRATION_TURNS, CALIBRATION_LAUNCHES = (1, 128, 256, 512, 1024), 40, 3
KEPT_BYTES = 5_000_000
AUTHOR = git.Actor("mlx-velocity", "mlx-velocity@example.invalid")
DATE = "2026-01-01T00:00:00"

HOGS = {
    # One for each core: a single one would find the core that nothing else uses.
    "CPU": ("while True: pass", len(os.sched_getaffinity(0))),
    "memory": ("import numpy as n\\na = n.ones(1 << 27)\\nb = a.copy()\\nwhile True: n.add(a, 1, out=b)", 1),
}


def columns(prepared: Prepared, quick: bool) -> dict[str, int]:
    """How many columns of zeros make each branch as much slower as its share, measured here in one process.

    `prepared` holds a planted tree. Between the widths that are tried, the time is taken to grow evenly.
    """
    turns, launches = (2, 1) if quick else (CALIBRATION_TURNS, CALIBRATION_LAUNCHES)
    arguments = [json.dumps(scheduler.cores(prepared)), json.dumps(CALIBRATION_COLUMNS), str(turns)]
    environment = {**prepared.variables(), profiles.VARIABLE: "tiny"}
    added = [
        json.loads(
            subprocess.run(
                [str(prepared.python), "-c", CALIBRATE, *arguments], env=environment, check=True, capture_output=True
            ).stdout
        )
        for _ in range(launches)
    ]  # fmt: skip
    shares = [statistics.median(level) for level in zip(*added, strict=True)]
    text = ", ".join(
        f"{share:+.2%} with {wide}" for share, wide in zip(shares, CALIBRATION_COLUMNS, strict=True)
    )
    print(f"columns of zeros: {text}", flush=True)
    found = numpy.interp(list(PLANTED.values()), numpy.maximum.accumulate(shares), CALIBRATION_COLUMNS)
    return dict(zip(PLANTED, map(round, found.tolist()), strict=True))


def make_repository(folder: Path, package: Path, branches: dict[str, int]) -> None:
    """A git repository of `package` on branch `base`, and a branch for each number of columns."""
    if not folder.exists():
        with git.Repo.init(folder, initial_branch="base") as repo:
            shutil.copytree(package, folder / "mlx_lm", ignore=shutil.ignore_patterns("__pycache__"))
            _commit(repo, "mlx_lm as released")
    with git.Repo(folder) as repo:
        for name, wide in branches.items():
            if name in repo.heads:
                continue
            repo.git.checkout("-q", "-b", name, "base")
            source = folder / "mlx_lm" / "generate.py"
            text = source.read_text("utf-8")
            start = text.index("def generate_step(")
            step = re.compile(r"def _step\(.*?\n            logits = logits\[:, -1, :\]\n", re.DOTALL).search(
                text, start
            )
            assert step is not None
            text = text[: step.end()] + "            logits = _planted(logits)\n" + text[step.end() :]
            source.write_text(
                text[:start] + PLANT.lstrip().format(columns=wide) + "\n" + text[start:], "utf-8"
            )
            model = folder / "mlx_lm" / "models" / "llama.py"
            text = model.read_text("utf-8")
            call = "        out = self.model(inputs, cache, input_embeddings)\n"
            assert text.count(call) == 1
            keep = f"        if inputs.shape[1] > 1:\n            self._kept = [mx.zeros(({KEPT_BYTES // 4},))]\n"
            keep += "            mx.eval(self._kept)\n"
            model.write_text(text.replace(call, keep + call), "utf-8")
            _commit(
                repo,
                f"{name}: a product with {wide} columns more in each step, {KEPT_BYTES:,} bytes kept by prefill",
            )
        repo.git.checkout("-q", "base")


def _commit(repo: git.Repo, message: str) -> None:
    repo.git.add("--all")
    repo.index.commit(message, author=AUTHOR, committer=AUTHOR, author_date=DATE, commit_date=DATE)


def hog(what: str) -> list[subprocess.Popen[bytes]]:
    """Processes that disturb until they are killed."""
    code, count = HOGS[what]
    return [subprocess.Popen([sys.executable, "-c", code.replace("\\n", "\n")]) for _ in range(count)]


def asv_continuous(track: tracks.Track, head: str) -> list[dict[str, Any]]:
    """`asv continuous base HEAD` of the same cases, with its default factor 1.1 and with 1.02."""
    root = Path(__file__).resolve().parent.parent
    folder = track.root / "asv"
    if not (folder / "asv.conf.json").exists():
        _prepare_asv(folder, track, root)
    shutil.rmtree(folder / "results", ignore_errors=True)
    environment = {**os.environ, profiles.VARIABLE: "tiny", "HOME": str(folder)}
    environment["PATH"] = os.pathsep.join([str(Path(find_uv_bin()).parent), environment.get("PATH", "")])
    bench = [
        r"decode.Decode.time_decode\('tiny-float32', 0\)",
        r"prefill.Memory.track_peak_bytes\('tiny-float32', 128\)",
    ]
    affinity = [f"--cpu-affinity={max(os.sched_getaffinity(0))}"]
    began = time.monotonic()
    done = _asv(
        ["continuous", "--factor", "1.02", *affinity, *(f"--bench=^{b}" for b in bench), "base", head],
        folder,
        environment,
    )
    wall_s = time.monotonic() - began
    found = []
    for factor in (1.02, 1.1):
        table = _asv(["compare", "--factor", str(factor), "base", head], folder, environment)
        for case in ("decode.Decode.time_decode", "prefill.Memory.track_peak_bytes"):
            line = next((text for text in table.splitlines() if case in text and "tiny-float32" in text), "")
            mark = line.replace("|", " ").split()[:1]
            verdict = {"+": "regressed", "-": "improved"}.get(
                mark[0] if mark else "", "unchanged" if line else "missing"
            )
            ratio = re.search(r"(\d+\.\d+)\s*\|\s*" + re.escape(case), line)
            found.append({"case": f"{case}, factor {factor}", "verdict": verdict, "ratio": float(ratio[1]) if ratio else None,
                          "samples": 0, "deviation": None, "wall_s": wall_s})  # fmt: skip
    if any(row["verdict"] == "missing" for row in found):
        raise SystemExit(f"asv measured nothing:\n{done[-2000:]}")
    return found


def _prepare_asv(folder: Path, track: tracks.Track, root: Path) -> None:
    """asv's fastest sensible configuration: one environment with the same packages; mlx_lm is copied, not built."""
    folder.mkdir(parents=True)
    shutil.copytree(root / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "benchmarks" / "__init__.py").touch()
    build = [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(folder / "wheel"), str(root)]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    pins = {key: value[0] for key, value in track.conf.matrix["req"].items()}
    wanted = f"mlx[cpu]=={pins['mlx']} mlx-lm=={pins['mlx-lm']} asv_runner psutil"
    (folder / "requirements.txt").write_text("\n".join(wanted.split(" ")) + "\n", "utf-8")
    constraints = requirements.era_constraints(Version(pins["mlx-lm"]))
    (folder / "constraints.txt").write_text(constraints, "utf-8")
    site = "{env_dir}/lib/python" + f"{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    install = "in-dir={env_dir} python -m uv pip install --quiet --python {env_dir}/bin/python"
    # asv finds no cp: it looks for programs in the environment alone.
    copy = "import shutil, sys\nshutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)\n"
    (folder / "put_mlx_lm.py").write_text(copy, "utf-8")
    configuration = {
        "version": 1, "project": "planted", "repo": str(track.conf.repo), "dvcs": "git", "branches": ["base"],
        "environment_type": "uv", "pythons": [f"{sys.version_info.major}.{sys.version_info.minor}"],
        "matrix": {"req": {"uv": [version("uv")]}}, "build_command": [], "uninstall_command": [],
        "install_command": [
            f"{install} --constraints {folder / 'constraints.txt'} --requirements {folder / 'requirements.txt'}", f"{install} --no-deps {wheel}",
            f"in-dir={{env_dir}} python {folder / 'put_mlx_lm.py'} {{build_dir}}/mlx_lm {site}/mlx_lm",
        ],
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(configuration, indent=2), "utf-8")
    _asv(["machine", "--yes"], folder, {**os.environ, "HOME": str(folder)})


def _asv(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "asv", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
