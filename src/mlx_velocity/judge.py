"""From the records of a comparison to what is said of each case; nothing is measured here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from mlx_velocity import comparisons, interleave, quality, stats, verdict
from mlx_velocity.comparison import Break, CaseVerdict, Comparison, Header, PairReading, SideName, Verdict
from mlx_velocity.errors import InputError
from mlx_velocity.records import case_label
from mlx_velocity.verdict import Rule

LOSS_TOLERANCE = 1e-3
"""Relative difference of a training loss above which the sides compute something else."""

MEANINGLESS = (ArithmeticError, AttributeError, KeyError, TypeError, ValueError)
"""What judging odd records raises."""

CaseKey = tuple[str, str, tuple[str, ...]]


def rule_of(header: Header) -> Rule:
    """The rule that a comparison was measured by."""
    return Rule(threshold=header.threshold, error_rate=header.error_rate)


def judge(
    header: Header,
    pairs: Sequence[PairReading],
    breaks: Sequence[Break],
    tokens: Mapping[tuple[str, tuple[str, ...]], int],
    wall_s: float,
    interrupted: bool = False,
) -> Comparison:
    """The verdict of every case that was begun. `tokens` are those of one call, by benchmark and parameters."""
    rule = rule_of(header)
    by_case: dict[CaseKey, list[PairReading]] = {}
    broken: dict[CaseKey, list[Break]] = {}
    for pair in pairs:
        by_case.setdefault(key_of(pair), []).append(pair)
    for item in breaks:
        by_case.setdefault(key_of(item), [])
        broken.setdefault(key_of(item), []).append(item)
    died = {key: items for key, items in broken.items() if not interleave.is_broken(items, by_case[key])}
    broken = {key: items for key, items in broken.items() if key not in died}
    timed = {
        key: verdict.evidence(interleave.effects(found), rule)
        for key, found in by_case.items()
        if key not in broken and found and not interleave.is_counted(found[0].unit)
    }
    verdicts = verdict.decide(timed, rule)
    cases = []
    for key, found in by_case.items():
        known = tokens.get((key[0], key[2]))
        if key in broken:
            cases.append(_broken(key, broken[key], found))
        elif key in timed:
            cases.append(_timed(key, found, timed[key], verdicts[key], known))
        else:
            cases.append(_counted(key, found, rule))
        for item in died.get(key, []):
            note = f"{item.outcome} once on {item.side}: {item.reason}"
            cases[-1] = dataclasses.replace(cases[-1], warnings=(*cases[-1].warnings, note))
    said = quality.of_comparison([p.sensors for p in pairs], [p.control for p in pairs if p.control])
    if disturbed := sum(bool(pair.disturbed) for pair in pairs):
        said = [*said, f"{disturbed} of {len(pairs)} measurements were disturbed and set aside."]
    return Comparison(header, cases, said, wall_s, interrupted)


def of_file(found: comparisons.Stored, tokens: Mapping[tuple[str, tuple[str, ...]], int]) -> Comparison:
    """The verdicts of a stored comparison, all its cases together, as they were measured; `tokens` are those of one call.

    Raises InputError where its records fit the schema and mean nothing.
    """
    wall_s = found.end.wall_s if found.end else sum(pair.duration_s for pair in found.pairs)
    interrupted = found.end is None or found.end.interrupted
    try:
        return judge(found.header, found.pairs, found.breaks, tokens, wall_s, interrupted)
    except MEANINGLESS as error:
        what = f"the comparison of {found.header.started} can't be judged: {error}"
        raise InputError(what, "it was not written by mlx-velocity: remove it, or measure again") from error


def key_of(item: PairReading | Break) -> CaseKey:
    """The case that a record is of: benchmark, version of the workload, parameters."""
    return item.benchmark, item.version, tuple(item.params)


def _timed(
    key: CaseKey,
    found: list[PairReading],
    evidence: verdict.Evidence,
    decided: Verdict,
    tokens: int | None,
) -> CaseVerdict:
    used = [pair for pair in found if not pair.disturbed]
    base, head = verdict.typical(interleave.effects(found)) if used else (None, None)
    ratio = evidence.ratio
    samples = sum(len(turn) for pair in used for turn in pair.base)
    warnings = _differences(used)
    if decided == "inconclusive":
        warnings += _why_undecided(found, evidence)
    return CaseVerdict(
        case_label(key[0], key[2]), key[0], list(key[2]), found[0].unit, decided, base, head,
        *_interval(ratio),
        len(used), samples, tokens, None, tuple(warnings), key[1],
    )  # fmt: skip


def _counted(key: CaseKey, found: list[PairReading], rule: Rule) -> CaseVerdict:
    base, head = interleave.counts(found)
    decided, ratio = verdict.counted(base, head, rule)
    warnings = []
    if len(found) < interleave.COUNTED_PAIRS:
        decided = "inconclusive"
        warnings.append(f"{len(found)} of {interleave.COUNTED_PAIRS} pairs of launches")
    elif decided == "inconclusive":
        warnings.append("the launches of one side differ as much as the sides do")
    elif decided == "unchanged" and max(base) != max(head):
        warnings.append(f"{max(head) - max(base):+,.0f} {found[0].unit}, within the threshold")
    return CaseVerdict(
        case_label(key[0], key[2]), key[0], list(key[2]), found[0].unit, decided, max(base), max(head),
        *_interval(ratio),
        len(found), len(base), None, None, tuple(warnings), key[1],
    )  # fmt: skip


def _broken(key: CaseKey, breaks: list[Break], found: list[PairReading]) -> CaseVerdict:
    sides: list[SideName] = list(dict.fromkeys(item.side for item in breaks))
    failed = [item for item in breaks if item.outcome != "skipped"]
    alone = sides[0] if len(sides) == 1 and failed else None
    # Repeated in every launch, said once.
    warnings = tuple(dict.fromkeys(f"{item.outcome} on {item.side}: {item.reason}" for item in breaks))
    unit = found[0].unit if found else ""
    return CaseVerdict(
        case_label(key[0], key[2]), key[0], list(key[2]), unit, "incomparable", None, None,
        None, None, None, len(found), 0, None, alone, warnings, key[1],
    )  # fmt: skip


def _differences(pairs: Sequence[PairReading]) -> list[str]:
    """What the sides computed differently: faster by doing something else must be seen."""
    notes = {
        side: [pair.notes.get(side, {}) for pair in pairs] for side in interleave.SIDES
    }  # fmt: skip
    said = []
    digests = {side: {str(n["digest"]) for n in found if "digest" in n} for side, found in notes.items()}
    if digests["base"] and digests["head"] and digests["base"] != digests["head"]:
        said.append("the sides generate different tokens")
    losses = {side: [float(n["loss"]) for n in found if "loss" in n] for side, found in notes.items()}
    if losses["base"] and losses["head"]:
        before, after = losses["base"][-1], losses["head"][-1]
        if abs(after - before) > LOSS_TOLERANCE * max(abs(before), abs(after)):
            said.append(f"the loss differs: {before:.6g} and {after:.6g}")
    return said


def _why_undecided(found: Sequence[PairReading], evidence: verdict.Evidence) -> list[str]:
    reasons: dict[str, int] = {}
    for pair in found:
        if pair.disturbed:
            reasons[pair.disturbed] = reasons.get(pair.disturbed, 0) + 1
    said = []
    if reasons:
        parts = [f"{reason} ({count})" for reason, count in reasons.items()]
        said.append(f"{sum(reasons.values())} of {len(found)} pairs were disturbed: {'; '.join(parts)}")
    if evidence.ratio is None and not said:
        said.append("too few pairs of launches for a verdict")
    return said


def _interval(ratio: stats.Ratio | None) -> tuple[float | None, float | None, float | None]:
    return (ratio.value, ratio.low, ratio.high) if ratio else (None, None, None)
