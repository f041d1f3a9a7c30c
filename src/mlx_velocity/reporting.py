"""From the stored results of a commit to the records of its report; nothing is measured or read here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_velocity import changes, metrics, quality, records, results, stats, units
from mlx_velocity.run_report import (
    Absence,
    Changes,
    Commit,
    Disturbance,
    MachineRun,
    Row,
    RunReport,
    Shift,
    Stage,
    Value,
)

STAGES = {
    "prefill": "Prefill",
    "first_token": "First token",
    "decode": "Decode",
    "lora": "LoRA",
    "memory": "Memory",
    "startup": "Startup",
}
"""Benchmark file → heading, in the order of a request's life; other files follow by name."""

Case = records.Case
Tried = records.Measurement | records.Failure


@dataclass(frozen=True)
class Source:
    """What one machine has stored of the commit, and of the earlier one."""

    name: str
    description: dict[str, str]
    stored: results.CommitResults
    base: results.CommitResults | None = None
    base_commit: Commit | None = None
    base_reason: str = ""
    """Why there is no earlier one."""


@dataclass(frozen=True)
class Suite:
    """What could be measured."""

    cases: list[Case]
    benchmarks: Mapping[str, dict[str, Any]]
    profiles_of: Callable[[Case, dict[str, Any]], list[str]]
    """The profiles of a case, the smallest first."""

    def profile(self, case: Case) -> str:
        """The smallest profile that holds a case."""
        return self.profiles_of(case, self.benchmarks[case.benchmark])[0]


def report(track: str, commit: Commit, sources: Sequence[Source], suite: Suite) -> RunReport:
    """The report of a commit on these machines, side by side."""
    machines = [_machine(source, suite) for source in sources]
    return RunReport(
        track, commit, machines, _stages(sources, machines, suite), changes.CONFIDENCE, changes.RELEVANT
    )


def stage_of(case: Case) -> str:
    """The stage that a case belongs to: its benchmark file, or memory for whatever is in bytes."""
    return "memory" if case.unit == metrics.BYTES.unit else case.benchmark.partition(".")[0]


def _stages(sources: Sequence[Source], machines: Sequence[MachineRun], suite: Suite) -> list[Stage]:
    by_stage: dict[str, list[Case]] = {}
    for case in suite.cases:
        by_stage.setdefault(stage_of(case), []).append(case)
    known = [name for name in STAGES if name in by_stage]
    found = []
    for name in [*known, *sorted(set(by_stage) - set(known))]:
        rows = [_row(case, sources, suite) for case in by_stage[name]]
        measured = [row for row in rows if any(value.value is not None for value in row.values.values())]
        absent = {
            machine.name: _why_nothing(by_stage[name], machine)
            for machine in machines
            if not any(row.values[machine.name].value is not None for row in measured)
        }
        found.append(Stage(STAGES.get(name, name.replace("_", " ").capitalize()), measured, absent))
    return found


def _why_nothing(cases: Sequence[Case], machine: MachineRun) -> str:
    """Why a machine has no number of a stage: what most of its cases share."""
    labels = {case.label for case in cases}
    reasons = [
        (len(labels.intersection(item.cases)) if item.cases else len(labels), item)
        for item in (*machine.failures, *machine.missing)
    ]
    count, item = max(reasons, key=lambda pair: pair[0], default=(0, None))
    return f"{item.outcome}: {item.reason}" if item is not None and count else "nothing was tried"


def _row(case: Case, sources: Sequence[Source], suite: Suite) -> Row:
    benchmark = suite.benchmarks[case.benchmark]
    shown = [value.strip("'") for value in case.params]
    names = [*benchmark["param_names"], *(f"parameter {number}" for number in range(len(shown)))]
    return Row(
        case.benchmark, dict(zip(names, shown, strict=False)), case.unit, changes.tokens_of(case, benchmark),
        {source.name: _value(case, source.stored) for source in sources},
    )  # fmt: skip


def _value(case: Case, stored: results.CommitResults) -> Value:
    used = changes.fittest(stored, case)
    medians = stats.launch_medians([item.samples for item in used])
    launches = len({item.launch for item in _measured(stored, case)})
    if not medians:
        failures = [item for item in _failures(stored) if item.benchmark and results.belongs(item, case)]
        reason = f"{failures[-1].outcome}: {failures[-1].reason}" if failures else "not measured"
        return Value(None, None, 0, case.launches, 0, False, reason)
    return Value(
        statistics.median(medians), statistics.stdev(medians) if len(medians) > 1 else None, launches,
        case.launches, sum(len(item.samples) for item in used), any(map(changes.disturbed, used)),
    )  # fmt: skip


def _machine(source: Source, suite: Suite) -> MachineRun:
    stored = source.stored
    environments = [item for item in stored.stored if isinstance(item, records.Environment)]
    launches = [item for item in stored.stored if isinstance(item, records.Launch)]
    measured = [item for item in stored.stored if isinstance(item, records.Measurement)]
    environment = environments[-1] if environments else None
    times = sorted(item.started for item in measured if item.started)
    tried = {
        _key(item)
        for item in stored.stored
        if isinstance(item, (records.Measurement, records.Failure)) and item.benchmark is not None
    }
    own_profiles = list(dict.fromkeys(suite.profile(case) for case in suite.cases if case.key in tried))
    return MachineRun(
        name=source.name,
        description=source.description,
        backend=environment.backend if environment else str(stored.requirements.get("backend", "")),
        python=environment.python if environment else stored.python,
        environment=stored.env_name,
        requirements=environment.requirements if environment else [],
        packages=environment.packages if environment else {},
        modules=launches[-1].modules if launches else {},
        affinity=sorted({core for item in launches for core in item.affinity}),
        started=times[0] if times else "",
        ended=times[-1] if times else "",
        launches=len(launches),
        measured=len({_key(item) for item in measured} & {case.key for case in suite.cases}),
        profiles=own_profiles,
        sensors=_sensors(measured, source.description.get("num_cpu", "")),
        disturbances=_disturbances(stored, suite.cases),
        failures=_absences(_failures(stored), suite.cases),
        missing=_missing(stored, suite, tried, own_profiles),
        changes=_changes(source, suite),
    )


def _key(item: Tried) -> tuple[str, str, tuple[str, ...]]:
    return item.benchmark or "", item.version or "", tuple(item.params or ())


def _measured(stored: results.CommitResults, case: Case) -> list[records.Measurement]:
    return [r for r in stored.stored if isinstance(r, records.Measurement) and results.belongs(r, case)]


def _failures(stored: results.CommitResults) -> list[records.Failure]:
    return [item for item in stored.stored if isinstance(item, records.Failure)]


# What the machine did


def disturbed_by(measured: records.Measurement) -> str:
    """What disturbed a launch of a case, or nothing. A queue for the core lengthens times alone."""
    reason = quality.of_pair(measured.sensors, {}, {})
    timed = measured.unit == metrics.SECONDS.unit
    return "" if quality.in_queue(measured.sensors) and not timed else reason


def _disturbances(stored: results.CommitResults, cases: Iterable[Case]) -> list[Disturbance]:
    found = []
    for case in cases:
        all_of = _measured(stored, case)
        used = changes.fittest(stored, case)
        by_reason: dict[str, list[records.Measurement]] = {}
        for item in all_of:
            if reason := disturbed_by(item):
                by_reason.setdefault(reason, []).append(item)
        for reason, items in by_reason.items():
            is_used = any(item in used for item in items)
            found.append(Disturbance(case.label, reason, len(items), len(all_of), is_used))
    return found


def _sensors(measured: Sequence[records.Measurement], cores: str) -> list[str]:
    """What the machine did meanwhile, as far as its sensors say."""
    looks = [item.sensors for item in measured if item.sensors]
    if not looks:
        return (
            ["No sensor was read beside the samples, so nothing is known of the machine's state."]
            if measured
            else []
        )

    def values(key: str) -> list[float]:
        return [float(look[key]) for look in looks if isinstance(look.get(key), (int, float))]

    said = []
    others = values("others_busy_cores")
    most = float(cores) if cores.isdecimal() and int(cores) else math.inf
    if wild := sum(value > most for value in others):
        said.append(f"{wild:,} readings of busy cores exceed the {cores} that there are, and are left out.")
    if others := [value for value in others if value <= most]:
        said.append(
            f"Other programs kept {statistics.median(others):.1f} cores busy (median of {len(others):,} readings; at most "
            f"{max(others):.1f})."
        )
    if available := values("available_bytes"):
        said.append(f"At least {units.bytes_(min(available))} of memory were available.")
    if moved := sum(value for value in values("swap_growth_bytes") if value > 0):
        said.append(f"{units.bytes_(moved)} were moved to swap.")
    if throttles := sum(values("cpu_throttles")):
        said.append(f"The processor was throttled {throttles:,.0f} times because it was hot.")
    blind = sum("own_busy_cores" not in look for look in looks)
    if blind:
        said.append(
            f"{blind:,} of {len(looks):,} readings do not say how much of its core the process had: whether it stood in a "
            "queue is unknown there."
        )
    return said


# What did not happen


def _absences(failures: Iterable[records.Failure], cases: Iterable[Case]) -> list[Absence]:
    """Failures by outcome and reason; of older versions of a benchmark nothing is said."""
    known = {case.key: case.label for case in cases}
    found: dict[tuple[Any, str], list[str]] = {}
    for item in failures:
        if item.benchmark is not None and _key(item) not in known:
            continue
        labels = found.setdefault((item.outcome, item.reason), [])
        if item.benchmark is not None and known[_key(item)] not in labels:
            labels.append(known[_key(item)])
    return [Absence(outcome, reason, labels) for (outcome, reason), labels in found.items()]


def _missing(
    stored: results.CommitResults, suite: Suite, tried: set[Any], run: Sequence[str]
) -> list[Absence]:
    """What was not tried, by the smallest profile that holds it, and what has too few launches."""
    if not tried and _failures(stored):
        return []  # The environment failed, which is said: there was nothing to try with.
    others = {(name, params) for name, _, params in tried}
    untried: dict[str, list[str]] = {}
    for case in suite.cases:
        if case.key not in tried:
            reason = _why_untried(suite.profile(case), run, (case.benchmark, case.params) in others)
            untried.setdefault(reason, []).append(case.label)
    few: dict[str, list[str]] = {}
    for case in suite.cases:
        launches = {item.launch for item in _measured(stored, case)}
        if launches == {results.BY_ASV}:
            few.setdefault("stock asv measured it, and tells nothing of launches", []).append(case.label)
        elif 0 < len(launches) < case.launches and not stored.settled(case):
            few.setdefault(f"{len(launches)} of {case.launches} launches so far", []).append(case.label)
    absences = [Absence("incomplete", reason, labels) for reason, labels in few.items()]
    return absences + [Absence("missing", reason, labels) for reason, labels in untried.items()]


def _why_untried(profile: str, run: Sequence[str], in_another_version: bool) -> str:
    if in_another_version:
        return "measured with an earlier version of the benchmark alone: run it again"
    if profile in run:
        return f"profile {profile} was run without them: it was interrupted, or limited with --bench"
    if profile == "all":
        return "they belong to no profile but 'all': --profile all measures them"
    return f"profile {profile} was not run here: --profile {profile} measures them"


# What changed


def _changes(source: Source, suite: Suite) -> Changes:
    if source.base is None:
        return Changes(None, source.base_reason)
    rows = changes.between(source.base, source.stored, suite.cases, dict(suite.benchmarks))
    both = [row for row in rows if row.base is not None and row.head is not None]
    counted = [row for row in both if row.case.noise == "counted"]
    undecided = [row for row in both if row not in counted and (row.ratio is None or row.disturbed)]
    shifts = [
        Shift(
            row.case.label, row.case.unit, row.tokens, float(row.base or 0), float(row.head or 0),
            *((row.ratio.value, row.ratio.low, row.ratio.high) if row.ratio else (None, None, None)),
        )
        for row in both
        if row.certain
    ]  # fmt: skip
    other_tokens = [case.label for case in suite.cases if _other_tokens(source.base, source.stored, case)]
    return Changes(source.base_commit, "", len(both), len(undecided), shifts, other_tokens)


def _other_tokens(base: results.CommitResults, head: results.CommitResults, case: Case) -> bool:
    before, after = (
        {str(item.notes["digest"]) for item in _measured(stored, case) if "digest" in item.notes}
        for stored in (base, head)
    )
    return bool(before and after) and before != after
