"""How often does `bisect` blame the right commit, and how many pairs of launches does that take?

Shows, on simulated pairs of launches: searches among 128 commits with one step of 3 %, with its two confidences,
beside a binary search that measures each commit a fixed number of times; then what the search says where there is no
change, a slope, two steps, where commits can't be measured, in noise with outliers, in drift, and with a step of 10 %.

Goal: the right commit in at least 95 % of searches, with at most 40 % of the pairs which a binary search with a
fixed count needs for the same share of right answers.

How: only the noise is made here (ab_noise.py); every decision comes from the function that `bisect` uses, `search.decide`.
1.5 % noise means: each turn's logarithm has a standard deviation of 1.5 %, and a pair is two turns a side in ABBA or
BAAB order, of which the faster one of each side counts, as in `compare`. The logarithm of a pair's ratio then has a standard
deviation of 1.75 %. A pair is 2 samples a side, whatever it is spent on: comparing the ends, searching, confirming.

The binary search measures the ends n times and then each middle commit n times against the good end, in the same
pairs; a commit is bad where the mean of its n pairs lies above half of the ends' mean. The smallest n is sought, in so many
simulated searches of its own, that is right as often as is asked. A second one is told the size of the step beforehand and needs not measure the ends.

The same seed gives the same tables, and every row has its own random numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ab_noise import Layout, Noise, Times, in_pairs, times
from numpy.random import Generator

from mlx_velocity import search
from mlx_velocity.records import Pair
from mlx_velocity.search import Answer, Taken, Terms

COMMITS = 128
RIGHT_GOAL, PAIRS_GOAL = 0.95, 0.40
QUICK_RUNS = 3
FIXED_RUNS = 20_000
MOST_PAIRS = 400
NOISE = Noise("1.5 % Gaussian", gauss=0.015)
OUTLIERS = Noise("outliers", gauss=0.015, outliers=0.06)
DRIFT = Noise("drift", gauss=0.015, drift=0.02)
Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """What a search should find."""

    levels: Times
    """Logarithm of each commit's time over the good end's."""
    guilty: tuple[int, ...] = ()
    unusable: frozenset[int] = frozenset()


def step(size: float) -> Callable[[Generator], Truth]:
    """One commit, anywhere."""

    def make(draw: Generator) -> Truth:
        guilty = int(draw.integers(1, COMMITS + 1))
        return Truth(math.log1p(size) * (np.arange(COMMITS + 1) >= guilty), (guilty,))

    return make


def two_steps(size: float) -> Callable[[Generator], Truth]:
    """Two commits, anywhere, each of this size."""

    def make(draw: Generator) -> Truth:
        first, second = sorted(map(int, draw.choice(np.arange(1, COMMITS + 1), 2, replace=False)))
        places = np.arange(COMMITS + 1)
        return Truth(math.log1p(size) * ((places >= first) * 1.0 + (places >= second)), (first, second))

    return make


def slope(size: float, begin: int, end: int) -> Callable[[Generator], Truth]:
    """A little by every commit from one to another."""
    rise = np.clip((np.arange(COMMITS + 1) - begin) / (end - begin), 0, 1)
    return lambda _: Truth(math.log1p(size) * rise)


def unbuildable(share: float, guilty_too: bool) -> Callable[[Generator], Truth]:
    """One commit of 3 %; this share of the others can't be measured, and the guilty one where that is wanted."""

    def make(draw: Generator) -> Truth:
        truth = step(0.03)(draw)
        (guilty,) = truth.guilty
        lost = {place for place in range(1, COMMITS) if draw.random() < share} - {guilty}
        return Truth(
            truth.levels, truth.guilty, frozenset(lost | ({guilty} - {COMMITS} if guilty_too else set()))
        )

    return make


def right(truth: Truth, answer: Answer) -> bool:
    """Whether the answer is what a perfect search would say."""
    if not truth.guilty:
        return answer.outcome == ("slope" if truth.levels.any() else "unchanged")
    if len(answer.blamed) != len(truth.guilty):
        return False
    for item, guilty in zip(sorted(answer.blamed, key=lambda item: item.high), truth.guilty, strict=True):
        # A group must be no wider than what can't be measured makes it.
        inside = set(range(item.low + 1, item.high)) - truth.unusable
        if inside or not item.low < guilty <= item.high:
            return False
    return True


def accused(truth: Truth, answer: Answer) -> bool:
    """Whether a commit is blamed that did nothing."""
    return any(not set(range(item.low + 1, item.high + 1)) & set(truth.guilty) for item in answer.blamed)


ROWS: dict[str, tuple[Callable[[Generator], Truth], Noise, float]] = {
    "3 % step": (step(0.03), NOISE, 0.99),
    "3 % step, confidence 95 %": (step(0.03), NOISE, 0.95),
    "10 % step": (step(0.10), NOISE, 0.99),
    "no change": (lambda _: Truth(np.zeros(COMMITS + 1)), NOISE, 0.99),
    "3 % step, outliers": (step(0.03), OUTLIERS, 0.99),
    "3 % step, drift": (step(0.03), DRIFT, 0.99),
    "3 % step, 20 % unbuildable": (unbuildable(0.2, False), NOISE, 0.99),
    "3 % step, guilty one and 20 % unbuildable": (unbuildable(0.2, True), NOISE, 0.99),
    "two steps of 2 %": (two_steps(0.02), NOISE, 0.99),
    "two steps of 5 %": (two_steps(0.05), NOISE, 0.99),
    "slope of 10 % over 128 commits": (slope(0.10, 0, COMMITS), NOISE, 0.99),
    "slope of 3 % over 40 commits": (slope(0.03, 40, 80), NOISE, 0.99),
    "slope of 3 % over 128 commits": (slope(0.03, 0, COMMITS), NOISE, 0.99),
}


def main() -> int:
    """Simulate, print, and return the exit code: 1 where a goal is missed in full mode."""
    options = arguments()
    report = simulated(options)
    report["quick"] = options.quick
    for name, met in report["goals"].items():
        print(f"{'met' if met else 'not met':8}{name}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(report["goals"].values()) or options.quick else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=500, help="searches for each row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} searches a row; judges nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    parser.add_argument("--rows", default="", help="only rows with these words in their names")
    options = parser.parse_args()
    if options.quick:
        options.runs = QUICK_RUNS
    if options.runs < 1 or options.seed < 0:
        parser.error("--runs has to be at least 1, --seed at least 0")
    return options


def simulated(options: argparse.Namespace) -> Row:
    """All tables, printed as they come."""
    runs, seed = options.runs, options.seed
    print(f"{runs:,} searches a row among {COMMITS} commits, seed {seed}\n")
    print(f"{'':44}{'right':>8}{'wrong':>8}{'undecided':>11}{'pairs':>8}{'of these to confirm':>21}")
    rows: dict[str, Row] = {}
    for name in (name for name in ROWS if options.rows in name):
        rows[name] = row = tally(name, runs, seed)
        print(f"{name:44}{row['right']:8.1%}{row['wrong']:8.1%}{row['undecided']:11.1%}{row['pairs']:8.1f}"
              f"{row['confirm']:21.1f}", flush=True)  # fmt: skip
    print("wrong: an innocent commit is blamed, or another answer than is true; pairs: mean, ends included\n")
    goals: dict[str, bool] = {}
    beside: dict[str, Row] = {}
    fixed_runs = FIXED_RUNS if not options.quick else 2_000
    for name in ("3 % step", "3 % step, confidence 95 %"):
        if name not in rows:
            continue
        row = rows[name]
        for asked in sorted({RIGHT_GOAL, max(RIGHT_GOAL, min(row["right"], 0.999))}):
            for told in (False, True):
                found = smallest(asked, told, fixed_runs, seed)
                found["share"] = row["pairs"] / found["pairs"]
                found["share_named"] = (row["pairs"] - row["confirm"]) / found["pairs"]
                key = f"{name}, against {asked:.1%} right, {'told the size' if told else 'not told'}"
                beside[key] = found
                print(f"{key}: binary search with n = {found['n']} takes {found['pairs']} pairs "
                      f"({found['right']:.1%} right); bisect {found['share']:.0%} of that, "
                      f"{found['share_named']:.0%} before it confirms", flush=True)  # fmt: skip
    if "3 % step" in rows:
        row = rows["3 % step"]
        same = f"3 % step, against {max(RIGHT_GOAL, min(row['right'], 0.999)):.1%} right, not told"
        goals[f"right commit in at least {RIGHT_GOAL:.0%}"] = row["right"] >= RIGHT_GOAL
        goals[f"at most {PAIRS_GOAL:.0%} of the pairs for the same share of right answers"] = (
            beside[same]["share"] <= PAIRS_GOAL
        )
    return {"runs": runs, "seed": seed, "commits": COMMITS, "rows": rows, "beside": beside, "goals": goals}


def generator(seed: int, *names: str) -> Generator:
    """Random numbers that depend on the seed and the names alone."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def tally(name: str, runs: int, seed: int) -> Row:
    """What so many searches of a row end with."""
    make, noise, confidence = ROWS[name]
    draw = generator(seed, name)
    done = [
        searched(make(draw), noise, Terms(confidence=confidence, most_pairs=MOST_PAIRS), draw)
        for _ in range(runs)
    ]
    outcomes = [item["outcome"] for item in done]
    return {
        "right": sum(item["right"] for item in done) / runs,
        "undecided": sum(item["undecided"] for item in done) / runs,
        "wrong": sum(not item["right"] and not item["undecided"] for item in done) / runs,
        "accused": sum(item["accused"] for item in done) / runs,
        "outcomes": {word: outcomes.count(word) for word in sorted(set(outcomes))},
        "pairs": statistics.fmean(item["pairs"] for item in done),
        "median_pairs": statistics.median(item["pairs"] for item in done),
        "most_pairs": max(item["pairs"] for item in done),
        "confirm": statistics.fmean(item["confirm"] for item in done),
        "commits": statistics.fmean(item["commits"] for item in done),
    }


def searched(truth: Truth, noise: Noise, terms: Terms, draw: Generator) -> Row:
    """One search, from the ends to the answer."""
    layout = in_pairs(1, MOST_PAIRS + 100, draw)
    turns = iter(_by_pair(times(noise, layout, 0.0, draw)[0], layout))
    taken: list[Taken] = []
    confirm = 0
    while not isinstance(step := search.decide(COMMITS, taken, truth.unusable, terms), Answer):
        slower = math.exp(truth.levels[step.high] - truth.levels[step.low])
        for _ in range(min(step.times, terms.most_pairs - len(taken))):
            base, head = next(turns)
            taken.append(Taken(step.low, step.high, Pair(base, tuple(turn * slower for turn in head))))
            confirm += step.purpose == "confirm"
    is_right = right(truth, step)
    # Nothing is claimed: also of a commit that is likely, but not confirmed.
    undecided = step.outcome == "unclear" or any(not item.confirmed for item in step.blamed)
    return {
        "outcome": step.outcome,
        "right": is_right and not undecided,
        "undecided": undecided,
        "accused": accused(truth, step),
        "pairs": len(taken),
        "confirm": confirm,
        "commits": len({place for item in taken for place in (item.low, item.high)}),
    }


def _by_pair(values: Times, layout: Layout) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    sides = layout.side[0].reshape(-1, 4)
    found = []
    for row, side in zip(values.reshape(-1, 4), sides, strict=True):
        found.append((tuple(row[side == 0].tolist()), tuple(row[side == 1].tolist())))
    return found


def smallest(asked: float, told: bool, runs: int, seed: int) -> Row:
    """The smallest count with which a binary search is right as often as is asked."""
    draw = generator(seed, "fixed", str(asked), str(told))
    steps = math.ceil(math.log2(COMMITS))
    for count in range(1, 200):
        share = fixed(count, told, runs, draw)
        if share >= asked:
            return {"n": count, "pairs": count * (steps + (not told)), "right": share}
    raise SystemExit("no count is enough")


def fixed(count: int, told: bool, runs: int, draw: Generator) -> float:
    """How often a binary search with so many pairs at each commit ends with the right one."""
    size = math.log1p(0.03)
    guilty = draw.integers(1, COMMITS + 1, runs)
    low, high = np.zeros(runs, int), np.full(runs, COMMITS)
    half = np.full(runs, size / 2) if told else (size + _means(count, runs, draw)) / 2
    while (high - low > 1).any():
        middle = (low + high) // 2
        bad = size * (middle >= guilty) + _means(count, runs, draw) > half
        low, high = np.where(bad, low, middle), np.where(bad, middle, high)
    return float((high == guilty).mean())


def _means(count: int, runs: int, draw: Generator) -> Times:
    """Means of so many pairs' effects of equal commits."""
    turns = draw.normal(0.0, NOISE.gauss, (runs, count, 2, 2)).min(axis=3)
    means: Times = (turns[:, :, 1] - turns[:, :, 0]).mean(axis=1)
    return means


if __name__ == "__main__":
    sys.exit(main())
