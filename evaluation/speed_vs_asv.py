"""How much faster is `mlx-velocity run` than stock asv at the same work?

Shows: the wall time of both over the same suite (benchmarks/, profile tiny), the same commits (the
newest five of the release history) and the same samples per case; their ratio; and the share of each
wall time that passed inside timed samples. Goal: at least 3 times faster, at least half inside samples.

How: in a temporary folder, from a warm package cache, one after the other, pinned to one core. The
suite is copied with a fixed number of launches and samples, and the counts are checked in what both
sides stored: a count that differs, or a case that either side lacks, ends the script with an error.

Stock asv gets its fastest sensible configuration, with its own `uv` environment type:
- a plain git repository of the release history: nothing of ours in between, no plugin;
- one environment for all commits, as asv makes one per matrix; uv in it, as asv calls only what is in it;
- no build and no uninstall command: uv swaps only what differs from the commit before. Its defaults
  build twice and reinstall with pip;
- the same pins, backend and era constraints as ours, resolved beforehand; our package from a ready
  wheel with `--no-deps`. Neither the resolving of eras nor that wheel counts as asv's time;
- only the cases of the profile, by `--bench`: else it starts a process for each of all others as well,
  only to hear that it is skipped;
- the forkserver, which saves the start of Python and of asv_runner for each case. The suite imports
  mlx only inside functions, so none of its threads exist when it forks. (On macOS forked processes
  can't reach Metal: spawn.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from asv.results import Results
from uv import find_uv_bin

from mlx_velocity import cases, history, releases, requirements
from mlx_velocity.history import Commit
from mlx_velocity.probe import profiles, worker
from mlx_velocity.records import Case

ROOT = Path(__file__).resolve().parent.parent
SPEEDUP_GOAL = 3.0
SHARE_GOAL = 0.5
PROFILE = "tiny"
MACHINE = "evaluation"
QUICK = r"^prefill\.(Prefill\.time_prefill|Memory\.track_peak_bytes)\(tiny-float32"
TELL_S = 10.0

FIXED = """
# Written by evaluation/speed_vs_asv.py: the same launches and samples on both sides.
from mlx_velocity.probe.case import Case


def _fix(cls):
    # Imports and LoRA steps take seconds: the suite asks for one sample of theirs, and they keep that.
    least = cls.repeat[0] if isinstance(cls.repeat, tuple) else cls.repeat
    cls.repeat = 1 if least == 1 else {samples}
    for holder in (cls, *(item for item in vars(cls).values() if hasattr(item, "rounds"))):
        holder.rounds = min(holder.rounds, {launches})


Case.__init_subclass__ = classmethod(_fix)
"""

Stored = dict[tuple[str, str, tuple[str, ...]], tuple[float, list[float] | None]]
"""(commit, benchmark, parameters) → (value, samples)."""


class Incomplete(Exception):
    """The two sides did not do the same work, or one did not do it."""


def main() -> int:
    """Run both sides, print, and return the exit code: 1 where a goal is missed, 4 where work is."""
    options = arguments()
    # A short name: asv's forkserver makes a socket in it, whose path may have some 100 characters.
    with tempfile.TemporaryDirectory(prefix="mv-") as place:
        try:
            report = evaluate(Path(place).resolve(), options)
        except Incomplete as error:
            print(f"speed_vs_asv: {error}", file=sys.stderr)
            return 4
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["met"] or options.quick else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--commits", type=int, default=5, help="newest commits of the release history")
    parser.add_argument(
        "--launches", type=int, default=3, help="processes per case at most; the suite asks for 1 to 3"
    )
    parser.add_argument(
        "--samples", type=int, default=5, help="samples per launch; 1 for imports and LoRA steps"
    )
    parser.add_argument("--bench", help="only cases whose name matches this regular expression")
    method = "spawn" if sys.platform == "darwin" else "forkserver"
    parser.add_argument("--launch-method", choices=("forkserver", "spawn"), default=method, help="asv's")
    parser.add_argument("--quick", action="store_true", help="2 commits, few cases; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    if options.quick:
        options.commits, options.launches, options.samples, options.bench = 2, 2, 2, QUICK
    if min(options.commits, options.launches, options.samples) < 1:
        parser.error("at least one commit, one launch and one sample")
    return options


def evaluate(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run both sides in `place`; raises Incomplete where they did not do the same."""
    environment, repo = environment_variables(place), place / "history.git"
    releases.build(repo, releases.load())
    commits = history.select(str(repo), "ALL", ["main"], [])[: options.commits]
    (place / "commits.txt").write_text("".join(f"{commit.hash}\n" for commit in commits), "utf-8")
    (place / "ours").mkdir()
    shutil.copy(ROOT / "asv.conf.json", place / "ours")
    copy_suite(place / "ours/benchmarks", options)
    copy_suite(place / "asv/benchmarks", options)
    prepare_stock(place / "asv", repo, commits, environment)
    found = worker.discover({"benchmark_dir": str(place / "asv/benchmarks")})["benchmarks"]
    wanted = cases.expand(found, PROFILE, options.bench, 120.0)
    print(f"{len(wanted)} cases at {len(commits)} commits, the newest {commits[0].subject}", flush=True)
    if not options.quick:
        warm(place, commits, environment)
    common = [f"HASHFILE:{place / 'commits.txt'}", "--machine", MACHINE]
    labels = "|".join(f"^{re.escape(case.label)}$" for case in wanted)
    patterns = [
        f"--bench=^{re.escape(case.benchmark)}\\({re.escape(', '.join(case.params))}\\)$" for case in wanted
    ]
    # Whoever comes second finds more in the page cache: ours goes first.
    ours_s = run("mlx-velocity", ["mlx_velocity", "run", *common, "--profile", PROFILE, "--bench", labels],
                 place / "ours", environment)  # fmt: skip
    stock_s = run("asv", ["asv", "run", *common, "--record-samples", "--no-pull", "--launch-method",
                  options.launch_method, *affinity(), *patterns],
                  place / "asv", environment)  # fmt: skip
    ours, stock = stored(place / "ours/results/releases"), stored(place / "asv/results")
    check(ours, stock, commits, wanted)
    # Not a goal, but the reader's check that the same thing was timed.
    agreement = median(ours[key][0] / stock[key][0] for key in ours if is_timed(key[1]))
    return report_of([side("mlx-velocity", ours_s, ours), side("asv", stock_s, stock)], agreement, options)


def environment_variables(place: Path) -> dict[str, str]:
    """The variables of both sides: a home of our own, since asv keeps its machine there."""
    home = place / "home"
    home.mkdir()
    for entry in Path.home().iterdir():
        # Caches and settings of uv and pip are wherever this user has them.
        if entry.name != ".asv-machine.json":
            (home / entry.name).symlink_to(entry)
    (place / "tmp").mkdir()
    # Workers of ours get no PYTHON... variable; with this one, asv's would compile mlx_lm in every process.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([str(Path(find_uv_bin()).parent), os.environ.get("PATH", "")])
    return kept | {"HOME": str(home), "TMPDIR": str(place / "tmp"), "PATH": path, profiles.VARIABLE: PROFILE}


def copy_suite(target: Path, options: argparse.Namespace) -> None:
    """Copy the benchmarks, with launches and samples fixed."""
    shutil.copytree(ROOT / "benchmarks", target, ignore=shutil.ignore_patterns("__pycache__"))
    with (target / "__init__.py").open("a", encoding="utf-8") as stream:
        stream.write(FIXED.format(launches=options.launches, samples=options.samples))


def prepare_stock(folder: Path, repo: Path, commits: list[Commit], environment: dict[str, str]) -> None:
    """asv's configuration, the pins of each commit, and the wheel of our package."""
    (folder / "pins").mkdir()
    backend = requirements.backend_here("auto")
    for commit in commits:
        show_pins = ["git", "-C", str(repo), "show", f"{commit.hash}:requirements.txt"]
        text = subprocess.run(show_pins, capture_output=True, text=True, check=True).stdout
        wanted = requirements.requirement_set(requirements.read_pins(text, commit.short), backend)
        (folder / "pins" / f"{commit.hash}.constraints").write_text(wanted.constraints, "utf-8")
        lines = [*wanted.requirements, *requirements.HARNESS, f"uv=={version('uv')}"]
        (folder / "pins" / f"{commit.hash}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    build = [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(folder / "wheel"), str(ROOT)]
    call(build, folder, environment)
    (wheel,) = (folder / "wheel").glob("*.whl")
    install = "in-dir={env_dir} python -m uv pip install --quiet --python {env_dir}/bin/python"
    configuration = {
        "version": 1,
        "project": "history",
        "repo": str(repo),
        "dvcs": "git",
        "branches": ["main"],
        "environment_type": "uv",
        "pythons": [f"{sys.version_info.major}.{sys.version_info.minor}"],
        "matrix": {"req": {"uv": [version("uv")]}},
        "build_command": [],
        "uninstall_command": [],
        "install_command": [
            install + " --constraints {conf_dir}/pins/{commit}.constraints --requirements {conf_dir}/pins/{commit}.txt",
            install + f" --no-deps {wheel}",
        ],
        "install_timeout": 1800,
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(configuration, indent=2), "utf-8")
    call([sys.executable, "-m", "asv", "machine", "--yes", "--machine", MACHINE], folder, environment)


def warm(place: Path, commits: list[Commit], environment: dict[str, str]) -> None:
    """Have pip and uv download all that either side will ask for, and throw the environments away."""
    print("warming the package cache …", flush=True)
    folder = place / "warm"
    shutil.copytree(place / "asv", folder)
    # asv's word for making its environment and measuring nothing; `asv setup` always ends with 1.
    discover = ["run", f"HASHFILE:{place / 'commits.txt'}", "--machine", MACHINE, "--bench=just-discover"]
    call([sys.executable, "-m", "asv", *discover], folder, environment)
    (python,) = folder.glob("env/*/bin/python")
    for commit in commits:
        pins = place / "asv/pins" / commit.hash
        call([find_uv_bin(), "pip", "install", "--quiet", "--python", str(python), "--constraints",
              f"{pins}.constraints", "--requirements", f"{pins}.txt"], folder, environment)  # fmt: skip
    shutil.rmtree(folder)


def affinity() -> list[str]:
    """asv's option for the core that ours is pinned to (scheduler.cores); none where it is not."""
    pinned = requirements.backend_here("auto") == "cpu" and hasattr(os, "sched_getaffinity")
    return [f"--cpu-affinity={max(os.sched_getaffinity(0))}"] if pinned else []


def call(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command that is not timed; raises Incomplete where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise Incomplete(f"{' '.join(command[:4])} ended with {done.returncode}:\n{last}")


def run(name: str, module: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that `python -m module` took, telling now and then where it is; raises Incomplete."""
    last: deque[str] = deque(maxlen=40)
    told = -math.inf
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", *module], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            elapsed = time.monotonic() - began
            if elapsed - told >= TELL_S and line.strip():
                told = elapsed
                print(f"  {name:12} {elapsed:5.0f} s  {line.strip()[:90]}", flush=True)
    wall = time.monotonic() - began
    print(f"  {name:12} {wall:5.0f} s  done", flush=True)
    if process.returncode:
        raise Incomplete(f"{name} ended with {process.returncode}:\n" + "\n".join(last))
    return wall


def stored(results: Path) -> Stored:
    """What a side stored, read as asv reads it."""
    found: Stored = {}
    for path in (results / MACHINE).glob("*.json"):
        if path.name == "machine.json":
            continue
        held = Results.load(str(path), machine_name=MACHINE)
        for name in held.get_all_result_keys():
            axes = held.get_result_params(name)
            values, samples = held.get_result_value(name, axes), held.get_result_samples(name, axes)
            for params, value, of_case in zip(product(*axes), values, samples, strict=True):
                if value is not None and not math.isnan(value):
                    found[held.commit_hash, name, params] = (value, of_case)
    return found


def check(ours: Stored, stock: Stored, commits: list[Commit], wanted: list[Case]) -> None:
    """Raise Incomplete unless both sides hold every case, with as many samples."""
    expected = {(commit.hash, case.benchmark, case.params): case for commit in commits for case in wanted}
    for name, held in (("mlx-velocity", ours), ("asv", stock)):
        if set(held) != set(expected):
            wrong = sorted(map(str, set(held) ^ set(expected)))
            raise Incomplete(f"{name} stored other cases than asked for, {len(wrong)} differ: {wrong[:3]}")
    for key, case in expected.items():
        mine, theirs = ours[key][1] or [], stock[key][1] or []
        # asv keeps no samples of a number that a benchmark returned, only the number.
        if not is_timed(case.benchmark) and not theirs:
            continue
        if len(mine) != len(theirs) or not mine:
            raise Incomplete(
                f"{case.label} at {key[0][:8]} has {len(mine)} samples of ours, {len(theirs)} of asv's"
            )


def side(name: str, wall_s: float, held: Stored) -> dict[str, Any]:
    """A side's sums over all commits; what counts bytes has no seconds in its samples."""
    timed = [samples for (_, benchmark, _), (_, samples) in held.items() if samples and is_timed(benchmark)]
    sampled_s = sum(map(sum, timed))
    return {"name": name, "wall_s": wall_s, "sampled_s": sampled_s, "share": sampled_s / wall_s,
            "cases": len(held), "timed_cases": len(timed), "samples": sum(map(len, timed))}  # fmt: skip


def is_timed(benchmark: str) -> bool:
    """Whether a benchmark's samples are seconds, by asv's rule for its name."""
    return benchmark.rpartition(".")[2].startswith("time_")


def report_of(sides: list[dict[str, Any]], agreement: float, options: argparse.Namespace) -> dict[str, Any]:
    """All that is printed."""
    ours, stock = sides
    speedup = stock["wall_s"] / ours["wall_s"]
    return {
        **{key: vars(options)[key] for key in ("quick", "commits", "launches", "samples", "launch_method")},
        "affinity": affinity(),
        "load_1m": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("asv", "uv", "mlx-velocity")},
        "sides": sides,
        "speedup": speedup,
        "speedup_goal": SPEEDUP_GOAL,
        "share_goal": SHARE_GOAL,
        "times_ours_over_asv": agreement,
        "met": speedup >= SPEEDUP_GOAL and ours["share"] >= SHARE_GOAL,
    }


def show(report: dict[str, Any]) -> None:
    """Print it for a reader."""
    print(f"\n{report['commits']} commits, up to {report['launches']} launches a case and {report['samples']} "
          f"samples a launch, as the suite asks (asv: {report['launch_method']})")  # fmt: skip
    print(f"{'':14}{'wall':>10}{'in samples':>12}{'share':>8}{'cases':>8}{'samples':>9}")
    for one in report["sides"]:
        print(f"{one['name']:14}{one['wall_s']:8.1f} s{one['sampled_s']:10.1f} s{one['share']:8.0%}"
              f"{one['cases']:8}{one['samples']:9}")  # fmt: skip
    print(
        f"the measured times themselves: ours / asv's, median over cases: {report['times_ours_over_asv']:.3f}"
    )
    verdict = "not judged in quick mode" if report["quick"] else "met" if report["met"] else "not met"
    print(
        f"asv takes {report['speedup']:.2f} times as long; ours spends {report['sides'][0]['share']:.0%} inside samples"
    )
    print(f"goal: at least {SPEEDUP_GOAL:g} times, and at least {SHARE_GOAL:.0%}: {verdict}")


if __name__ == "__main__":
    sys.exit(main())
