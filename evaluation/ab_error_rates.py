"""How often is a verdict of `compare` wrong, and how soon is a real change found?

Shows, on simulated noise of eight kinds: how often two equal sides are called changed; how often, and
after how many samples a side, a change is found; what is false among the changes called when 20 cases
are compared at once. Beside it the same for what else one may decide by, on the same noise. A ninth
kind of noise, launches of two modes, is shown without a goal.

Goal: at most 1 % false verdicts in each kind of noise, at least 95 % of changes of 2 % found in 1 %
Gaussian noise and 90 % of changes of 3 % in outliers, drift and two modes together, with a median of at
most 20 samples a side each; at most 1 % false ones among the changes called.

How: only the noise is made here (ab_noise.py). The verdicts come from the functions that `compare` uses,
`verdict.evidence` and `verdict.decide`, pair by pair: asked at each look, over as soon as decided,
inconclusive after the last look. A pair is one launch of each side with two turns a side, ABBA or BAAB
by lot. In a comparison of many cases each one stops when it is decided and keeps its evidence.

The others get 10 samples a side and must decide then:

asv: its own `compute_stats` and `_is_result_better`, on which `asv continuous` and `asv compare` rest.
    `1 × 10` is one process a side; `2 × 5` is what `asv continuous` does unless told otherwise: two
    processes a side in the order ABBA with 5 samples each. asv throws samples away in the end and then
    compares confidence intervals; with `--record-samples` it uses its Mann-Whitney test (p < 0.002). 1.1 is
    its factor unless told otherwise, and hides by design what is smaller.
Mann-Whitney: two-sided, exact, p < 0.05, all samples of one process and then all of the other.
bootstrap: the 95 % percentile interval of the ratio of medians, taken in the same way.

The same seed gives the same tables, and every row has its own random numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ab_noise import CLASSES, GAUSS, MIXED, MODES, Noise, Times, Whole, in_blocks, in_pairs, times
from asv.commands.compare import _is_result_better
from asv_runner.statistics import compute_stats
from numpy.random import Generator
from scipy.stats import beta, mannwhitneyu

from mlx_velocity import verdict
from mlx_velocity.records import Pair

FALSE_GOAL = 0.01
SAMPLES_GOAL = 20
CHANGES = ((GAUSS, 0.02, 0.95), (MIXED, 0.03, 0.90), *((noise, 0.05, None) for noise in (*CLASSES, MIXED)))
"""Noise, change, and the share of comparisons that must find it."""
CASES, CHANGED, MANY_CHANGE = 20, 2, 0.05
QUICK_RUNS = 24
RESAMPLES = 1000
PER_SIDE = 10
"""Samples a side of the others."""

RULE = verdict.Rule()
OURS = "mlx-velocity"

Word = Literal["improved", "regressed", "unchanged", "inconclusive"]
Side = Sequence[float]
Row = dict[str, Any]


@dataclass(frozen=True)
class Other:
    """Another way to decide: in how many processes a side it samples, and what it says."""

    rounds: int
    decide: Callable[[Side, Side, Generator], Word]


def main() -> int:
    """Simulate, print, and return the exit code: 1 where a goal is missed in full mode."""
    options = arguments()
    report = simulated(options.runs, options.seed)
    report["quick"] = options.quick
    show_goals(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["met"] or options.quick else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="comparisons for each row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_RUNS} comparisons a row; judges nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args()
    if options.quick:
        options.runs = QUICK_RUNS
    if options.runs < 1 or options.seed < 0:
        parser.error("--runs has to be at least 1, --seed at least 0")
    return options


def simulated(runs: int, seed: int) -> dict[str, Any]:
    """All tables, printed as they come."""
    equal: dict[str, dict[str, Row]] = {}
    changed: dict[str, dict[str, Row]] = {}
    print(f"{runs:,} comparisons a row, seed {seed}, asv {version('asv')}\n\nTwo equal sides")
    print(f"{'':26}{'false':>8}{'at most':>9}{'unchanged':>11}{'inconclusive':>14}{'samples a side':>16}")
    for noise in (*CLASSES, MODES):
        rows = {name: tally(name, noise, 0.0, runs, seed) for name in (OURS, *OTHERS)}
        equal[noise.name], row = rows, rows[OURS]
        print(f"{noise.name:26}{row['false']:8.2%}{row['false_at_most']:9.2%}{row['unchanged']:11.1%}"
              f"{row['inconclusive']:14.1%}{row['median_samples']:16.0f}", flush=True)  # fmt: skip
    print("at most: upper end of the one-sided 95 % interval of Clopper and Pearson; samples: median\n")
    print("Head slower")
    print(f"{'':32}{'found':>8}{'wrong':>8}{'unchanged':>11}{'inconclusive':>14}{'samples a side':>16}")
    for noise, change, _ in CHANGES:
        label = f"{change:.0%} in {noise.name}"
        rows = {name: tally(name, noise, change, runs, seed) for name in (OURS, *OTHERS)}
        changed[label], row = rows, rows[OURS]
        print(f"{label:32}{row['regressed']:8.1%}{row['improved']:8.2%}{row['unchanged']:11.1%}"
              f"{row['inconclusive']:14.1%}{row['median_samples']:16.0f}", flush=True)  # fmt: skip
    print(f"\n{CASES} cases at once, {CHANGED} of them {MANY_CHANGE:.0%} slower, 1 % Gaussian")
    print(f"{'':40}{'called':>9}{'false':>8}{'share':>9}{'at most':>9}{'found':>8}")
    many = {name: many_cases(name, runs, seed) for name in (OURS, *OTHERS)}
    for name, row in many.items():
        print(f"{name:40}{row['called']:9,}{row['false']:8,}{row['share']:9.2%}{row['share_at_most']:9.2%}"
              f"{row['found']:8.1%}", flush=True)  # fmt: skip
    show_matrix("Two equal sides called changed", equal, lambda row: f"{row['false']:.1%}")
    show_matrix("Slower head found", changed, lambda row: f"{row['regressed']:.1%}")
    goals = judged(equal, changed, many)
    return {
        "runs": runs, "seed": seed, "asv": version("asv"), "rule": {"looks": RULE.looks, "threshold": RULE.threshold},
        "equal": equal, "changed": changed, "many": many, "goals": goals, "met": all(goals.values()),
    }  # fmt: skip


def generator(seed: int, *names: str) -> Generator:
    """Random numbers that depend on the seed and the names alone."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def tally(name: str, noise: Noise, change: float, runs: int, seed: int) -> Row:
    """What a method says of so many comparisons."""
    # The same noise for all that sample in the same way.
    draw, own = generator(seed, noise.name, str(change)), generator(seed, name)
    said: Counter[Word] = Counter()
    used: list[int] = []
    if name == OURS:
        layout = in_pairs(runs, RULE.most_pairs, draw)
        for values, sides in zip(times(noise, layout, change, draw), layout.side, strict=True):
            (word,), (count,) = ours([pairs_of(values, sides)])
            said[word] += 1
            used.append(count)
    else:
        other = OTHERS[name]
        layout = in_blocks(runs, other.rounds, PER_SIDE // other.rounds, draw)
        for values, sides in zip(times(noise, layout, change, draw), layout.side, strict=True):
            said[other.decide(*split(values, sides), own)] += 1
            used.append(PER_SIDE)
    false = said["improved"] + said["regressed"] if change == 0 else said["improved"]
    words: tuple[Word, ...] = ("improved", "regressed", "unchanged", "inconclusive")
    return {
        **{word: said[word] / runs for word in words},
        "false": false / runs,
        "false_at_most": at_most(false, runs),
        "median_samples": statistics.median(used),
    }


def many_cases(name: str, runs: int, seed: int) -> Row:
    """What is false among what is called changed, when many cases are compared at once."""
    draw, own = generator(seed, "many"), generator(seed, name, "many")
    called = false = found = 0
    for _ in range(runs):
        words: list[Word]
        if name == OURS:
            layout = in_pairs(CASES, RULE.most_pairs, draw)
            values = slowed(times(GAUSS, layout, 0.0, draw), layout.side)
            words, _ = ours([pairs_of(*row) for row in zip(values, layout.side, strict=True)])
        else:
            other = OTHERS[name]
            layout = in_blocks(CASES, other.rounds, PER_SIDE // other.rounds, draw)
            values = slowed(times(GAUSS, layout, 0.0, draw), layout.side)
            words = [other.decide(*split(*row), own) for row in zip(values, layout.side, strict=True)]
        wrong = sum(word in ("improved", "regressed") for word in words[CHANGED:])
        wrong += sum(word == "improved" for word in words[:CHANGED])
        right = sum(word == "regressed" for word in words[:CHANGED])
        called, false, found = called + wrong + right, false + wrong, found + right
    return {
        "called": called,
        "false": false,
        "share": false / called if called else 0.0,
        "share_at_most": at_most(false, called) if called else 0.0,
        "found": found / (runs * CHANGED),
    }


def slowed(values: Times, sides: Whole) -> Times:
    """The head of the first cases made slower."""
    case = np.arange(len(values))[:, None] < CHANGED
    slower: Times = values * np.where(case & (sides == 1), 1 + MANY_CHANGE, 1.0)
    return slower


def split(values: Times, sides: Whole) -> tuple[list[float], list[float]]:
    """The samples of the base and of the head."""
    return values[sides == 0].tolist(), values[sides == 1].tolist()


def pairs_of(values: Times, sides: Whole) -> list[Pair]:
    """Pairs of launches from turns in time order: two turns a side each."""
    base, head = split(values, sides)
    return [
        Pair(tuple(base[turn : turn + 2]), tuple(head[turn : turn + 2])) for turn in range(0, len(base), 2)
    ]


def ours(cases: Sequence[Sequence[Pair]]) -> tuple[list[Word], list[int]]:
    """The verdicts of a comparison that stops each case when it is decided, and samples a side."""
    found: dict[int, verdict.Evidence] = {}
    left = list(range(len(cases)))
    for count, _ in RULE.looks:
        for case in left:
            found[case] = verdict.evidence(cases[case][:count], RULE)
        said = verdict.decide(found, RULE)
        left = [case for case in left if said[case] == "inconclusive"]
        if not left:
            break
    words: list[Any] = [said[case] for case in range(len(cases))]
    return words, [2 * found[case].pairs for case in range(len(cases))]


def by_asv(factor: float, samples_kept: bool) -> Callable[[Side, Side, Generator], Word]:
    """What `asv continuous` marks: + and - in its table."""

    def decide(base: Side, head: Side, _: Generator) -> Word:
        (before, stats_before), (after, stats_after) = compute_stats(base, 1), compute_stats(head, 1)
        kept_before = (stats_before, base if samples_kept else None)
        kept_after = (stats_after, head if samples_kept else None)
        if _is_result_better(after, before, kept_after, kept_before, factor):
            return "improved"
        if _is_result_better(before, after, kept_before, kept_after, factor):
            return "regressed"
        return "inconclusive"

    return decide


def by_mann_whitney(base: Side, head: Side, _: Generator) -> Word:
    """Two-sided p < 0.05."""
    if mannwhitneyu(base, head, method="exact").pvalue >= 0.05:
        return "inconclusive"
    return "regressed" if statistics.median(head) > statistics.median(base) else "improved"


def by_bootstrap(base: Side, head: Side, draw: Generator) -> Word:
    """Whether 1 lies outside the 95 % interval of the ratio of medians."""
    again = [
        np.median(np.asarray(side)[draw.integers(0, len(side), (RESAMPLES, len(side)))], axis=1)
        for side in (base, head)
    ]
    low, high = np.quantile(again[1] / again[0], (0.025, 0.975))
    return "regressed" if low > 1 else "improved" if high < 1 else "inconclusive"


OTHERS = {
    "asv 1 × 10, factor 1.1": Other(1, by_asv(1.1, False)),
    "asv 1 × 10, factor 1.02": Other(1, by_asv(1.02, False)),
    "asv 2 × 5, factor 1.1": Other(2, by_asv(1.1, False)),
    "asv 2 × 5, factor 1.02": Other(2, by_asv(1.02, False)),
    "asv 2 × 5, factor 1.02, record-samples": Other(2, by_asv(1.02, True)),
    "Mann-Whitney, p < 0.05": Other(1, by_mann_whitney),
    "bootstrap, 95 %": Other(1, by_bootstrap),
}


def at_most(hits: int, runs: int) -> float:
    """Upper end of the one-sided 95 % interval of a share (Clopper and Pearson 1934)."""
    return 1.0 if hits == runs else float(beta.ppf(0.95, hits + 1, runs - hits))


def judged(
    equal: dict[str, dict[str, Row]], changed: dict[str, dict[str, Row]], many: dict[str, Row]
) -> dict[str, bool]:
    """Each goal and whether it is met."""
    goals = {
        f"at most {FALSE_GOAL:.0%} false in {name}": rows[OURS]["false"] <= FALSE_GOAL
        for name, rows in equal.items()
        if name != MODES.name
    }
    for noise, change, least in CHANGES:
        if least is not None:
            row = changed[f"{change:.0%} in {noise.name}"][OURS]
            what = f"{change:.0%} in {noise.name}"
            goals[f"{what}: at least {least:.0%} found"] = row["regressed"] >= least
            goals[f"{what}: at most {SAMPLES_GOAL} samples a side"] = row["median_samples"] <= SAMPLES_GOAL
    goals[f"{CASES} cases: at most {FALSE_GOAL:.0%} false among the called"] = (
        many[OURS]["share"] <= FALSE_GOAL
    )
    return goals


def show_matrix(title: str, rows: dict[str, dict[str, Row]], text: Callable[[Row], str]) -> None:
    """Print one number for each row and method."""
    print(f"\n{title}")
    letters = "abcdefgh"
    print(f"{'':32}" + "".join(f"{letter:>9}" for letter in letters))
    for label, methods in rows.items():
        print(f"{label:32}" + "".join(f"{text(row):>9}" for row in methods.values()))
    print("; ".join(f"{letter} {name}" for letter, name in zip(letters, (OURS, *OTHERS), strict=True)))


def show_goals(report: dict[str, Any]) -> None:
    """Print each goal for a reader."""
    print("\nGoals" + (" (not judged in quick mode)" if report["quick"] else ""))
    for goal, met in report["goals"].items():
        print(f"{'met' if met else 'NOT MET':9}{goal}")


if __name__ == "__main__":
    sys.exit(main())
