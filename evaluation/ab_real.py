"""Are the verdicts of `compare` right on a real machine, with real launches of real code?

Shows, on this machine and with the tiny model on CPU:
- `aa`: the same commit on both sides; a verdict other than `unchanged` or `inconclusive` is false;
- `planted`: a copy of mlx-lm that spends 2, 3, 5 or 10 % more time in each decode step and keeps 5 MB in each
  call of the model; how many are found, with how many samples, in what time;
- `disturbed`: equal and 5 % different sides while a hog computes or moves memory from the third pair of launches on;
- `asv`: `asv continuous` on the planted commits.

How: the installed mlx_lm becomes a small git repository with a branch per change. Each comparison is
what the command does: interleave.compare, then judge. Cases are judged one by one, as if each had been
compared alone. Results are appended to a file as they come: a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ab_planted import PLANTED, asv_continuous, columns, hog, make_repository
from scipy.stats import beta

from mlx_velocity import cases, interleave, results, scheduler, sides, tracks, verdict
from mlx_velocity.comparison import Break, PairReading
from mlx_velocity.environments import Prepared
from mlx_velocity.interleave import Budget, Subject
from mlx_velocity.verdict import Rule
from mlx_velocity.workers import LocalWorker, Worker

DECODE = r"^decode\.Decode\.time_decode\(tiny-float32, 0\)$"
AA_CASES = (
    DECODE + r"|^prefill\.Prefill\.time_prefill\(tiny-(float32|bfloat16), 32\)$"
    r"|^first_token\.FirstToken\.time_first_token\(tiny-float32, 128\)$"
)
PLANTED_CASES = DECODE + r"|^prefill\.Memory\.track_peak_bytes\(tiny-float32, 128\)$"
RUNS = {"aa": 50, "planted": 20, "disturbed": 10, "asv": 20}
HOG_FROM_PAIR = 3
LOUD_PAIRS = 4
"""A run of equal sides is not quiet where so many pairs of a case were thrown out as disturbed: shown, not judged by."""
RULE = Rule()


def main() -> int:
    """Run the wanted part and print its table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=RUNS)
    parser.add_argument("--runs", type=int, help="comparisons of each kind (aa: of four cases each)")
    parser.add_argument("--work", type=Path, default=Path(".asv/ab"), help="folder of the planted repository")
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results", help="folder of rows"
    )
    parser.add_argument("--quick", action="store_true", help="one run of the smallest kind; judges nothing")
    options = parser.parse_args()
    options.runs = 1 if options.quick else options.runs or RUNS[options.part]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    budget = Budget(samples=8 if options.quick else None)
    track = make_track(work, options.quick)
    # A quick run leaves no rows among those that count.
    store = (work if options.quick else options.results) / f"ab_{options.part}.jsonl"
    store.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(kinds(options.part))[: 1 if options.quick else None]
    for number in range(options.runs):
        for kind in wanted:
            if not any(row["kind"] == kind and row["run"] == number for row in rows(store)):
                for row in one(options.part, kind, track, budget):
                    with store.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps({"kind": kind, "run": number, **row}) + "\n")
                    print(f"  {number:3} {kind:22} {row['case']:55} {row['verdict']:13} {row['ratio'] or 0:.4f} "
                          f"{row['samples']:3} samples {row['wall_s']:6.1f} s", flush=True)  # fmt: skip
    return show(options.part, rows(store)) if not options.quick else 0


def kinds(part: str) -> list[str]:
    """The comparisons of a part."""
    if part == "disturbed":
        return [f"{side} with a {what} hog" for what in ("CPU", "memory") for side in ("equal", "plus-5")]
    return ["equal"] if part == "aa" else list(PLANTED)


def one(part: str, kind: str, track: tracks.Track, budget: Budget) -> list[dict[str, Any]]:
    """One comparison of a kind: a row per case."""
    head = "base" if kind.startswith("equal") else kind.split(" ")[0]
    if part == "asv":
        return asv_continuous(track, head)
    bench = AA_CASES if part == "aa" else PLANTED_CASES if part == "planted" else DECODE
    disturb = kind.split(" ")[-2] if part == "disturbed" else None
    return compare(track, head, bench, disturb, budget)


def compare(
    track: tracks.Track, head: str, bench: str, disturb: str | None, budget: Budget
) -> list[dict[str, Any]]:
    """What `mlx-velocity compare base HEAD` measures and decides, as a row per case."""
    began = time.monotonic()
    repo = str(track.conf.repo)
    prepared = [
        sides.prepare(track, repo, target) for target in sides.resolve(track, repo, "base", head, False)
    ]
    control = sides.control(track)
    benchmarks = scheduler.discover_in(prepared[0], track)
    subjects = [Subject(case) for case in cases.expand(benchmarks.values(), "tiny", bench, 120.0)]
    kept: list[PairReading | Break] = []
    hogs: list[subprocess.Popen[bytes]] = []

    def tell(event: interleave.Event) -> None:
        if disturb and event.launch >= HOG_FROM_PAIR and not hogs:
            hogs.extend(hog(disturb))

    with results.lock(track.work_dir, track.name, "evaluation"):
        try:
            interleave.compare(
                track, (prepared[0], prepared[1]), control, subjects, RULE, budget, start_worker=start,
                record=kept.append, seed=time.time_ns() % 2**31, say=tell,
            )  # fmt: skip
        finally:
            for process in hogs:
                process.kill()
                process.wait()
    wall_s = time.monotonic() - began
    return [row_of(subject, kept, wall_s) for subject in subjects]


def start(prepared: Prepared) -> Worker:
    """A worker of profile tiny."""
    return LocalWorker(prepared, {"MLX_VELOCITY_PROFILE": "tiny"})


def row_of(subject: Subject, kept: list[PairReading | Break], wall_s: float) -> dict[str, Any]:
    """One case as a row."""
    mine = [p for p in kept if isinstance(p, PairReading) and p.benchmark == subject.case.benchmark
            and tuple(p.params) == subject.case.params]  # fmt: skip
    used = interleave.effects(mine)
    if subject.counted:
        decided, ratio = verdict.counted(*interleave.counts(mine), RULE)
        deviation = None
    else:
        found = subject.evidence(RULE)
        decided, ratio = verdict.decide({0: found}, RULE)[0], found.ratio
        deviation = statistics.stdev(map(verdict.effect, used)) if len(used) > 1 else None
    return {"case": subject.case.label, "verdict": decided, "ratio": ratio and ratio.value, "low": ratio and ratio.low,
            "high": ratio and ratio.high, "samples": sum(len(pair.base) for pair in used), "disturbed": len(mine) - len(used),
            "deviation": deviation, "wall_s": wall_s, "breaks": len(subject.breaks)}  # fmt: skip


def make_track(work: Path, quick: bool) -> tracks.Track:
    """A track of the planted copies of mlx-lm, in the newest release's environment."""
    root = Path(__file__).resolve().parent.parent
    releases = tracks.load(root / tracks.CONFIG_NAME, backend="cpu")
    repo = str(tracks.open_repo(releases)._path)
    newest = sides.prepare(releases, repo, sides.resolve(releases, repo, "main", "main", False)[0])
    (package,) = newest.path.glob("lib/python3*/site-packages/mlx_lm")
    versions = {name: newest.record.packages[name] for name in ("mlx", "mlx-lm")}
    configuration = {
        "version": 1, "project": "planted", "repo": str(work / "mlx-lm"), "dvcs": "git", "branches": ["base"],
        "environment_type": "velocity", "benchmark_dir": str(root / "benchmarks"), "results_dir": str(work / "results"),
        "env_dir": str(releases.conf.env_dir), "matrix": {"req": {key: [value] for key, value in versions.items()}},
        "mlx_velocity": {"overlay": ["mlx_lm"], "modules": ["mlx.core", "mlx_lm"], "backend": "cpu"},
    }  # fmt: skip
    (work / tracks.CONFIG_NAME).write_text(json.dumps(configuration, indent=2), "utf-8")
    make_repository(work / "mlx-lm", package, {"calibration": 0})
    track = tracks.load(work / tracks.CONFIG_NAME)
    calibrated = work / "columns.json"
    if not calibrated.exists():
        repo = str(track.conf.repo)
        planted = sides.resolve(track, repo, "calibration", "calibration", False)[0]
        calibrated.write_text(json.dumps(columns(sides.prepare(track, repo, planted), quick)), "utf-8")
    make_repository(work / "mlx-lm", package, json.loads(calibrated.read_text("utf-8")))
    return track


def rows(store: Path) -> list[dict[str, Any]]:
    """What is stored so far."""
    return [json.loads(line) for line in store.read_text("utf-8").splitlines()] if store.exists() else []


CHANGED = ("improved", "regressed")


def wrong(row: dict[str, Any]) -> bool:
    """Whether a verdict contradicts what was planted; `inconclusive` contradicts nothing."""
    if row["kind"].startswith("equal"):
        return row["verdict"] in CHANGED
    return row["verdict"] in ("improved", "unchanged")


def met(part: str, found: list[dict[str, Any]]) -> bool:
    """Whether the part's goal is reached: at most 1 % wrong and 2 % declined of equal sides, none wrong of others."""
    errors = sum(map(wrong, found))
    if part == "aa":
        return errors <= 0.01 * len(found) and sum(map(declined, found)) <= 0.02 * len(found)
    return part == "asv" or errors == 0


def declined(row: dict[str, Any]) -> bool:
    """Whether a comparison ended without a verdict."""
    return bool(row["verdict"] == "inconclusive")


def quiet(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the runs in which the sensors found the machine fit: the cases of a run are measured in turn."""
    loud = {row["run"] for row in found if row["disturbed"] >= LOUD_PAIRS}
    return [row for row in found if row["run"] not in loud]


def show(part: str, found: list[dict[str, Any]]) -> int:
    """Print the table of a part; 1 where its goal is missed."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["kind"], row["case"]), []).append(row)
    print(f"\n{'':22} {'case':55} {'n':>4} {'regr.':>6} {'impr.':>6} {'unch.':>6} {'incon.':>6} {'ratio':>8} "
          f"{'samples':>8} {'deviation':>9} {'seconds':>8}")  # fmt: skip
    for (kind, case), group in groups.items():
        count = {name: sum(row["verdict"] == name for row in group)
                 for name in ("regressed", "improved", "unchanged", "inconclusive")}  # fmt: skip
        ratios = [row["ratio"] for row in group if row["ratio"]]
        spread = [row["deviation"] for row in group if row["deviation"]]
        print(f"{kind:22} {case:55} {len(group):4} {count['regressed']:6} {count['improved']:6} {count['unchanged']:6} "
              f"{count['inconclusive']:6} {statistics.median(ratios) if ratios else math.nan:8.4f} "
              f"{statistics.median(row['samples'] for row in group):8.0f} "
              f"{statistics.median(spread) if spread else math.nan:9.2%} "
              f"{statistics.median(row['wall_s'] for row in group):8.1f}")  # fmt: skip
    if part == "aa":
        false = sum(row["verdict"] in CHANGED for row in found)
        upper = beta.ppf(0.95, false + 1, len(found) - false)
        print(f"false verdicts: {false} of {len(found)} (with 95 % confidence at most {upper:.1%})")
        calm = quiet(found)
        print(f"declined: {sum(map(declined, found))} of {len(found)}, of these on a quiet machine "
              f"{sum(map(declined, calm))} of {len(calm)}")  # fmt: skip
    reached = met(part, found)
    print("no goal: for comparison" if part == "asv" else "goal met" if reached else "goal missed")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
