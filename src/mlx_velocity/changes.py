"""What changed between two commits of one machine's stored results, case by case."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from mlx_velocity import metrics, quality, records, results, stats

CONFIDENCE = 0.99
"""Of each interval: with some fifty cases in a table, 95 % would show two false changes in each."""
RELEVANT = 0.02
"""Stored runs were not interleaved, so a smaller change can be drift of the machine."""
TOO_WIDE = 4.0
"""An interval whose ends are further apart than this factor: too few launches or commits to say anything."""


def says_nothing(low: float, high: float) -> bool:
    """Whether an interval, of a ratio or of a level, is too wide to tell a reader."""
    return high > TOO_WIDE * low


@dataclass(frozen=True)
class Change:
    """One case at two commits. Values are medians of launch medians, in the case's base unit."""

    case: records.Case
    base: float | None
    head: float | None
    ratio: stats.Ratio | None
    """None where a side is missing or has a single launch."""
    tokens: int | None
    """Tokens that one call handles, where the benchmark says so."""
    base_reason: str = ""
    """Why `base` is missing."""
    head_reason: str = ""
    disturbed: bool = False
    """Whether a launch had to share its core: its times say nothing about the commit."""
    base_flags: tuple[str, ...] = ()
    """What the launches say about the machine, by quality.flags; nothing where no time was taken."""
    head_flags: tuple[str, ...] = ()
    base_joules: float | None = None
    """Of one call, the median of launches; None where nothing counted them."""
    head_joules: float | None = None

    @property
    def certain(self) -> bool:
        """Whether the machine was fit, and the interval leaves no room for `no change`."""
        if self.base is None or self.head is None or self.disturbed:
            return False
        if self.case.noise == "counted":
            return self.base != self.head
        if self.ratio is None:
            return False
        return self.ratio.low > 1 + RELEVANT or self.ratio.high < 1 - RELEVANT


def between(
    base: results.CommitResults,
    head: results.CommitResults,
    cases: list[records.Case],
    benchmarks: dict[str, dict[str, Any]],
) -> list[Change]:
    """The change of each case that either commit has, the largest certain ones first."""
    changes = []
    for case in cases:
        before, why_before = _launches(base, case)
        after, why_after = _launches(head, case)
        if not before and not after and not (why_before or why_after):
            continue
        changes.append(
            Change(
                case,
                statistics.median(before) if before else None,
                statistics.median(after) if after else None,
                _ratio(case, before, after) if before and after else None,
                tokens_of(case, benchmarks[case.benchmark]),
                why_before,
                why_after,
                any(map(disturbed, (*fittest(base, case), *fittest(head, case)))),
                _flags(fittest(base, case)),
                _flags(fittest(head, case)),
                _joules(fittest(base, case)),
                _joules(fittest(head, case)),
            )
        )
    return sorted(
        changes, key=lambda item: (not item.certain, -abs((item.ratio.value if item.ratio else 1.0) - 1))
    )


def _ratio(case: records.Case, base: list[float], head: list[float]) -> stats.Ratio | None:
    if case.noise == "counted":
        return stats.exact(statistics.median(base), statistics.median(head))
    return stats.ratio(base, head, CONFIDENCE)


def tokens_of(case: records.Case, benchmark: dict[str, Any]) -> int | None:
    """Tokens a call of a case handles."""
    return tokens_at(case.params, case.unit, benchmark)


def tokens_at(params: tuple[str, ...], unit: str, benchmark: dict[str, Any]) -> int | None:
    """Tokens a call handles: the attribute `tokens_per_call`, or the parameter `tokens` of a timed case."""
    if unit != metrics.SECONDS.unit:
        return None
    if "tokens_per_call" in benchmark:
        return int(benchmark["tokens_per_call"])
    if benchmark.get("tokens_from") in benchmark["param_names"]:
        return int(params[benchmark["param_names"].index(benchmark["tokens_from"])])
    return None


def fittest(stored: results.CommitResults, case: records.Case) -> list[records.Measurement]:
    """The undisturbed launches of a case where there are two, else all of them."""
    return fit([r for r in stored.stored if isinstance(r, records.Measurement) and results.belongs(r, case)])


def fit(measured: list[records.Measurement]) -> list[records.Measurement]:
    """Of the launches of one case the undisturbed ones where there are two, else all."""
    quiet = [item for item in measured if not disturbed(item)]
    return quiet if len(quiet) > 1 else measured


def disturbed(measured: records.Measurement) -> bool:
    """Whether a time was taken in a queue for the core."""
    return measured.unit == metrics.SECONDS.unit and quality.in_queue(measured.sensors)


def _flags(measured: list[records.Measurement]) -> tuple[str, ...]:
    """What any of the launches of a time says about the machine; `clean` where all of them do."""
    found = [
        flag for item in measured if item.unit == metrics.SECONDS.unit for flag in quality.flags(item.sensors)
    ]
    wrong = tuple(sorted({flag for flag in found if flag != quality.CLEAN}))
    return wrong or tuple(sorted(set(found)))


def _joules(measured: list[records.Measurement]) -> float | None:
    each = [
        float(item.notes["sampled_energy_j"]) / len(item.samples)
        for item in measured
        if "sampled_energy_j" in item.notes
    ]
    return statistics.median(each) if each else None


def _launches(stored: results.CommitResults, case: records.Case) -> tuple[list[float], str]:
    measured = fittest(stored, case)
    reasons = [
        f"{r.outcome}: {r.reason}"
        for r in stored.stored
        if isinstance(r, records.Failure) and (r.benchmark is None or results.belongs(r, case))
    ]
    return stats.launch_medians([r.samples for r in measured]), "" if measured else "".join(reasons[-1:])
