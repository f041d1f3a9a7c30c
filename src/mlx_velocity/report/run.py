"""The report of a run as Markdown and as JSON. Nothing is computed or decided here."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mlx_velocity import run_report, units
from mlx_velocity.report import text
from mlx_velocity.report.markdown import code, row_of, table_of
from mlx_velocity.run_report import Absence, MachineRun, Row, RunReport, Shift, Stage, Value

LONGEST_REASON = 300
LIBRARIES = ("mlx", "mlx-lm", "transformers", "tokenizers", "numpy", "safetensors")
"""Packages that a reader of MLX numbers wants to see; the JSON has all."""


def document(report: RunReport) -> str:
    """The JSON of `report --json`, described by schemas/report-output.schema.json; ASCII."""
    data = {"format": run_report.FORMAT, **dataclasses.asdict(report)}
    return json.dumps(_finite(data), indent=1, allow_nan=False) + "\n"


def markdown(report: RunReport) -> str:
    """The report: what was measured, one table a stage, and what is to be known beside the numbers."""
    parts = [
        f"# Performance of {code(report.commit.name)} in track {code(report.track)}",
        _commit(report),
        _machines(report.machines),
        *[f"## {_heading(stage.title)}\n\n{_stage(stage, report.machines)}" for stage in report.stages],
        _section("What changed", report.machines, lambda machine: _changes(machine, report)),
        _section("Quality", report.machines, _quality),
        _section("Failures and skips", report.machines, _failures),
        _section("What was not measured", report.machines, _missing),
        f"## How it was measured\n\n{_method(report)}",
        f"## To see it again\n\n{_again(report)}",
    ]
    return "\n\n".join(parts) + "\n"


def _heading(words: str) -> str:
    plain = words.replace(" ", "").isalnum()
    return words if plain else code(words)


def _section(title: str, machines: Sequence[MachineRun], said: Callable[[MachineRun], str]) -> str:
    """A heading, and below it what is to be said of each machine."""
    if len(machines) == 1:
        return f"## {title}\n\n{said(machines[0])}"
    return "\n\n".join([f"## {title}", *(f"### {code(item.name)}\n\n{said(item)}" for item in machines)])


# Who and where


def _commit(report: RunReport) -> str:
    commit = report.commit
    tags = f" ({', '.join(map(code, commit.tags))})" if commit.tags else ""
    counts = ", ".join(
        f"{units.count(item.measured, 'case')}"
        + (f" on {code(item.name)}" if len(report.machines) > 1 else "")
        + f" in {item.launches} {'launch' if item.launches == 1 else 'launches'}"
        for item in report.machines
    )
    return (
        f"Commit {code(commit.hash[:8])}{tags} of {commit.date}: {code(commit.subject)}\n\n"
        f"Measured: {counts}. Lower is better for every number but tokens/s."
    )


def _machines(machines: Sequence[MachineRun]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("chip", [_field(item, "cpu") for item in machines]),
        ("GPU", [_field(item, "gpu", "none of its own") for item in machines]),
        ("cores", [_field(item, "num_cpu") for item in machines]),
        ("memory", [_memory(item) for item in machines]),
        ("system", [_field(item, "os") for item in machines]),
        ("backend", [item.backend or "not recorded" for item in machines]),
        ("measured (UTC)", [_when(item) for item in machines]),
        ("pinned to core", [", ".join(map(str, item.affinity)) or "none" for item in machines]),
        ("Python", [item.python for item in machines]),
    ]
    for name in LIBRARIES:
        versions = [item.packages.get(name, "") for item in machines]
        if any(versions):
            rows.append((name, [version or "not there" for version in versions]))
    headings = [("machine", "left"), *((code(item.name), "left") for item in machines)]
    return table_of(headings, [row_of([name, *map(code, values)]) for name, values in rows])


def _field(machine: MachineRun, key: str, otherwise: str = "not recorded") -> str:
    return machine.description.get(key) or otherwise


def _memory(machine: MachineRun) -> str:
    ram = machine.description.get("ram", "")
    return units.bytes_(float(ram)) if ram.isdecimal() else "not recorded"


def _when(machine: MachineRun) -> str:
    begin, end = (stamp[:16].replace("T", " ") for stamp in (machine.started, machine.ended))
    if not begin:
        return "not recorded"
    return f"{begin} to {end[11:] if end[:10] == begin[:10] else end}"


# Numbers


def _stage(stage: Stage, machines: Sequence[MachineRun]) -> str:
    said = []
    if stage.rows:
        rated = any(row.tokens for row in stage.rows)
        headings = [("case", "left")]
        for machine in machines:
            whose = f"{code(machine.name)} " if len(machines) > 1 else ""
            headings.append((f"{whose}time" if _all_times(stage) else f"{whose}value", "right"))
            headings += [("tokens/s", "right")] if rated else []
            headings.append(("launches/samples", "right"))
        rows = []
        for row in stage.rows:
            cells = [code(_label(row))]
            for machine in machines:
                cells += _cells(row, row.values[machine.name], rated)
            rows.append(row_of(cells))
        said.append(table_of(headings, rows))
    for name, reason in stage.absent.items():
        where = f" on {code(name)}" if len(machines) > 1 else ""
        said.append(f"Nothing was measured here{where}: {code(reason, LONGEST_REASON)}.")
    return "\n\n".join(said)


def _all_times(stage: Stage) -> bool:
    return all(row.unit == "seconds" for row in stage.rows)


def _label(row: Row) -> str:
    """`Decode.time_decode(tiny-4bit, depth 256)`: beside a bare model, a number needs its name."""
    values = [value if name == "model" else f"{name} {value}" for name, value in row.params.items()]
    return f"{row.benchmark}({', '.join(values)})" if values else row.benchmark


def _cells(row: Row, value: Value, rated: bool) -> list[str]:
    if value.value is None:
        return [code(value.reason, 60), *([""] if rated else []), ""]
    spread = ""
    if value.spread is not None:
        spread = (
            f" ± {_percent(value.spread / value.value)}"
            if value.value
            else f" ± {units.quantity(value.spread, row.unit)}"
        )
    said = f"{units.quantity(value.value, row.unit)}{spread}" + (" (disturbed)" if value.disturbed else "")
    rate = units.rate(units.tokens_per_second(row.tokens, value.value)) if row.tokens else ""
    of = f" of {value.planned}" if value.launches < value.planned else ""
    return [said, *([rate] if rated else []), f"{value.launches}{of}/{value.samples}"]


def _percent(share: float) -> str:
    return "0 %" if share == 0 else f"{share * 100:.1f} %" if share >= 0.0005 else "<0.1 %"


# What changed


def _changes(machine: MachineRun, report: RunReport) -> str:
    changes = machine.changes
    if changes.base is None:
        return f"{changes.reason}."
    base = changes.base
    said = [f"Against {code(base.name)} of {base.date} ({code(base.subject)}) on the same machine."]
    grew = sum(item.head > item.base for item in changes.shifts)
    said.append(
        f"Of {units.count(changes.compared, 'case')} that both have, {grew} grew and {len(changes.shifts) - grew} shrank by "
        f"more than noise and {report.relevant * 100:g} %; {changes.undecided} can't be told, having a single launch or a "
        "disturbed one. The commits were measured one after the other, so take a change of a few per cent as a "
        f"hint; {code('mlx-velocity compare')} gives verdicts."
    )
    if changes.shifts:
        headings = [("case", "left"), ("before", "right"), ("after", "right"), ("tokens/s", "right"),
                    (f"change ({report.confidence * 100:g} % interval)", "right")]  # fmt: skip
        said.append(table_of(headings, [_shift(item) for item in changes.shifts]))
    if changes.other_tokens:
        said.append(
            f"Other greedy tokens than before, and so perhaps another computation: {_named(changes.other_tokens)}."
        )
    return "\n\n".join(said)


def _shift(item: Shift) -> str:
    change = "from nothing"
    if item.ratio is not None and item.low is not None and item.high is not None:
        change = units.change(item.ratio, item.low, item.high)
    before, after = (units.quantity(value, item.unit) for value in (item.base, item.head))
    return row_of([code(item.case), before, after, text.rate_pair(item.base, item.head, item.tokens), change])


# What is to be known beside the numbers


def _quality(machine: MachineRun) -> str:
    said = []
    if machine.disturbances:
        headings = [
            ("case", "left"),
            ("what happened", "left"),
            ("launches", "right"),
            ("used all the same", "left"),
        ]
        rows = [
            row_of(
                [
                    code(item.case),
                    code(item.reason),
                    f"{item.launches} of {item.of}",
                    "yes" if item.used else "no",
                ]
            )
            for item in machine.disturbances
        ]
        said.append(table_of(headings, rows))
    elif machine.measured:
        said.append("No launch is known to have been disturbed.")
    said += [" ".join(machine.sensors)] if machine.sensors else []
    return "\n\n".join(said) or "Nothing was measured, so there is nothing to say."


def _failures(machine: MachineRun) -> str:
    if not machine.failures:
        return "None: what was tried was measured."
    return _absences(machine.failures)


def _missing(machine: MachineRun) -> str:
    if not machine.missing:
        return "Nothing is missing."
    return _absences(machine.missing)


def _absences(found: Iterable[Absence]) -> str:
    lines = []
    for item in found:
        what = (
            f"{units.count(len(item.cases), 'case')} ({_named(item.cases)})"
            if item.cases
            else "the environment"
        )
        lines.append(f"- {item.outcome}: {what}: {code(item.reason, LONGEST_REASON)}")
    return "\n".join(lines)


def _named(labels: Sequence[str]) -> str:
    return text.named([code(label) for label in labels])


def _method(report: RunReport) -> str:
    said = [
        "Each case is measured in several launches, processes of their own, since the layout of a process biases all its "
        "samples; each takes a warm-up and a few samples, whose ends are synchronised.",
        "A value is the median of the launches' medians. Behind ± stands the standard deviation between launches, in per "
        "cent of the value; with a single launch there is none. Launches in which other programs computed on the "
        "same core are left out where two others remain.",
        "`launches/samples` counts what the value rests on. Memory is what MLX itself counts (peak, active, cache), and what "
        "the system counts for the process (resident). GiB is 2**30 bytes.",
    ]
    for machine in report.machines:
        where = f" ({code(machine.name)})" if len(report.machines) > 1 else ""
        pins = ", ".join(map(code, machine.requirements)) or "not recorded"
        said.append(f"Environment{where}: {code(machine.environment)}, made of {pins}.")
    if any(machine.backend == "cpu" for machine in report.machines):
        said.append(
            "A CPU series sees changes in Python, graph building, dispatch, defaults and memory, and says nothing about GPU kernels."
        )
    return "\n".join(f"- {sentence}" for sentence in said)


def _again(report: RunReport) -> str:
    lines = []
    for machine in report.machines:
        for profile in machine.profiles:
            if profile != "all":
                lines.append(["mlx-velocity", "run", report.commit.name, "--track", report.track, "--machine",
                              machine.name, "--profile", profile])  # fmt: skip
    names = [word for machine in report.machines for word in ("--machine", machine.name)]
    base = next((item.changes.base for item in report.machines if item.changes.base is not None), None)
    since = ["--since", base.name] if base else []
    lines.append(["mlx-velocity", "report", report.commit.name, *since, "--track", report.track, *names])
    lines.append(["mlx-velocity", "validate", "--track", report.track])
    shown = "\n".join(text.clean(shlex.join(line)).replace("```", "") for line in lines)
    return f"Leave out `--machine` to measure on yours.\n\n```\n{shown}\n```"


def _finite(data: Any) -> Any:
    """The same with null for every number that JSON lacks."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
