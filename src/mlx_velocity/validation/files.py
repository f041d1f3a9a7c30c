"""Each stored file by itself: is it readable, as its schema says, and free of contradictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asv import util
from asv.util import UserError

from mlx_velocity import (
    bisection,
    bisections,
    breakdown,
    comparison,
    comparisons,
    profiles,
    readings,
    records,
    regressions,
    releases,
    tracks,
)
from mlx_velocity.errors import VelocityError
from mlx_velocity.problems import Problem
from mlx_velocity.validation import parse

Benchmarks = dict[str, dict[str, Any]]

RESTORE = "restore it from version control, or remove it and measure again: mlx-velocity run"
SET_ASIDE = "mlx-velocity run sets what it can't read aside and measures it again"
NEVER_NEGATIVE = ("seconds", "joules")
"""Units of what can't be below zero; a growth in bytes can."""


@dataclass
class Stored:
    """What a readable file holds, for whoever looks at several together."""

    path: Path
    name: str
    """As a reader sees it."""
    kind: str
    data: Any = None
    """The document, or the records of the lines that could be read, each with its line number."""
    problems: list[Problem] = field(default_factory=list)

    def say(self, reason: str, advice: str = RESTORE, line: int | None = None, note: bool = False) -> None:
        """Add a problem."""
        severity: Any = "note" if note else "wrong"
        self.problems.append(Problem(self.name, reason, advice, line, severity))


def kind_of(path: Path) -> str:
    """The format that a file must have because of its name and place; empty where there is none."""
    name = path.name
    if name.endswith(readings.SUFFIX):
        return "readings"
    if name.endswith(bisections.SUFFIX):
        return "bisection"
    if name.endswith(comparisons.SUFFIX):
        return "comparison"
    if name.endswith(profiles.SUFFIX):
        return "profile"
    whole = {
        "machine.json": "machine", "benchmarks.json": "benchmarks", "releases.json": "releases", "eras.json": "eras",
        regressions.NAME: "regressions",
    }  # fmt: skip
    if name in whole:
        return whole[name]
    if name == tracks.CONFIG_NAME or name.endswith(f".{tracks.CONFIG_NAME}"):
        return "configuration"
    # asv takes every other JSON in a folder of results for one of its own, and so must we.
    return "result" if name.endswith(".json") else ""


def check(path: Path, name: str) -> Stored:
    """A file and what is wrong with it; never raises, whatever the file holds."""
    stored = Stored(path, name, kind_of(path))
    if not stored.kind:
        stored.say(
            "its name belongs to no stored format",
            "docs/formats.md lists them; remove the file, or name another",
        )
        return stored
    try:
        CHECKS[stored.kind](stored)
    except parse.Unreadable as error:
        stored.data = None
        stored.say(str(error), SET_ASIDE if stored.kind == "result" else RESTORE, error.line)
    return stored


def _document(stored: Stored, schema: str, finite: bool = True) -> Any:
    """The document where it is as the schema says; else the problems are said, and None."""
    data = parse.document(parse.content(stored.path), finite)
    wrong = parse.complaints(schema, data)
    for reason in wrong:
        stored.say(reason)
    return None if wrong else data


def _machine(stored: Stored) -> None:
    stored.data = _document(stored, "machine.schema.json")
    if stored.data and stored.data["machine"] != stored.path.parent.name:
        stored.say(
            f"it describes machine '{stored.data['machine']}' in the folder of '{stored.path.parent.name}'",
            "rename the folder, or move the file where it belongs",
        )


def _benchmarks(stored: Stored) -> None:
    data = _document(stored, "benchmarks.schema.json")
    if data is None:
        return
    stored.data = {name: item for name, item in data.items() if name != "version"}
    for key, item in stored.data.items():
        if item["name"] != key:
            stored.say(f"{key} is called {item['name']}", RESTORE)
        if len(item["params"]) != len(item["param_names"]):
            stored.say(
                f"{key} has {len(item['params'])} lists of parameters and {len(item['param_names'])} names"
            )
        # Where names are missing, the one that counts tokens is too.
        elif item.get("tokens_from") not in (None, *item["param_names"]):
            stored.say(
                f"{key} counts tokens by '{item['tokens_from']}', which is no parameter of it",
                "mend tokens_from in the benchmark, then: mlx-velocity run",
            )


def _releases(stored: Stored) -> None:
    parse.document(parse.content(stored.path))
    try:
        releases.load(stored.path)
    except VelocityError as error:
        stored.say(error.message, error.advice)


def _eras(stored: Stored) -> None:
    data = _document(stored, "eras.schema.json")
    for era in data["eras"] if data else []:
        if not (stored.path.parent / era["constraints"]).is_file():
            stored.say(f"{era['constraints']} is missing beside it", RESTORE)


def _configuration(stored: Stored) -> None:
    parse.text(parse.content(stored.path))
    advice = "mend it, or compare it with docs/architecture.md"
    try:
        # Not tracks.load: that imports the plugins that the file names.
        data = util.load_json(str(stored.path), js_comments=True)
    except (UserError, ValueError) as error:
        raise parse.Unreadable(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise parse.Unreadable("it is nested too deeply") from error
    wrong = parse.complaints(tracks.SCHEMA, data)
    for reason in wrong:
        stored.say(reason, advice)
    if not wrong and data.get("version", 1) != 1:
        stored.say(f"its version is {data['version']!r}, asv's is 1", advice)
    if not wrong and not (stored.path.parent / data.get("benchmark_dir", "benchmarks")).is_dir():
        stored.say(
            f"it names no benchmarks: {data.get('benchmark_dir', 'benchmarks')} does not exist", advice
        )


def _result(stored: Stored) -> None:
    data = _document(stored, "asv-result.schema.json", finite=False)
    if data is None:
        return
    stored.data = data
    expected = f"{data['commit_hash'][:8]}-{data['env_name']}.json"
    if stored.path.name != expected:
        stored.say(f"its name should be {expected}: it holds that commit and environment", "rename it")
    for benchmark, row in data["results"].items():
        if reason := _row(benchmark, dict(zip(data["result_columns"], row, strict=False))):
            stored.say(
                f"{benchmark}: {reason}",
                "remove this file: mlx-velocity run makes it again from the readings",
            )


def _row(benchmark: str, row: dict[str, Any]) -> str:
    """What is wrong with the numbers of one benchmark; empty where nothing is."""
    size = 1
    for values in row["params"] or []:
        size *= len(values)
    for column, values in row.items():
        if (
            (column in ("result", "samples") or column.startswith("stats_"))
            and values is not None
            and len(values) != size
        ):
            return f"{column} has {len(values)} entries for {size} sets of parameters"
    samples = [number for group in row.get("samples") or [] for number in group or []]
    numbers = [number for number in row["result"] or [] if number is not None]
    # Of a result asv means "not measured" by NaN; its interval of one sample has infinite ends.
    if not all(map(math.isfinite, samples)) or any(map(math.isinf, numbers)):
        return "a number that is none"
    if benchmark.rpartition(".")[2].startswith(("time_", "timeraw_")):
        for number in (*numbers, *samples):
            if number <= 0:
                return f"a time of {number:g} seconds"
    return ""


def _records(stored: Stored, parse_line: Callable[[str], Any], advice: str) -> Iterator[tuple[int, Any]]:
    """The records of the lines that can be read; of the others the problem is said."""
    data = parse.content(stored.path)
    try:
        parse.text(data)
    except parse.Unreadable as error:
        stored.say(str(error), advice, error.line)
    for number, line in parse.lines(data):
        try:
            yield number, parse_line(line)
        except readings.NewerFormat as error:
            stored.say(str(error), "upgrade mlx-velocity; it stays as it is", number)
        except RecursionError:
            stored.say("it is nested too deeply", advice, number)
        except (ValueError, TypeError, KeyError) as error:
            stored.say(str(error) or type(error).__name__, advice, number)


def _readings(stored: Stored) -> None:
    found: list[tuple[int, records.Reading]] = list(_records(stored, readings.parse, SET_ASIDE))
    stored.data = found
    again = "remove that line, then: mlx-velocity run, which restores what is missing"
    opened: dict[str, int] = {}
    taken: dict[tuple[Any, ...], int] = {}
    environments = 0
    for line, item in found:
        if isinstance(item, records.Environment):
            environments += 1
        elif isinstance(item, records.Launch):
            if item.launch in opened:
                stored.say(f"launch {item.launch} stands in line {opened[item.launch]} already", again, line)
            opened.setdefault(item.launch, line)
        elif isinstance(item, records.Measurement):
            label = records.case_label(item.benchmark, tuple(item.params))
            key = (item.launch, item.benchmark, item.version, *item.params)
            if key in taken:
                stored.say(
                    f"{label} of launch {item.launch} stands in line {taken[key]} already", again, line
                )
            taken.setdefault(key, line)
            if item.launch not in opened:
                stored.say(f"{label} is of launch {item.launch}, which no line before it opens", again, line)
            lowest = min([*item.samples, *item.warmup])
            if item.unit in NEVER_NEGATIVE and lowest <= 0:
                stored.say(f"{label} has a sample of {lowest:g} {item.unit}", again, line)
    if taken and not environments:
        stored.say("no line says with which versions it was measured", again)


def _headed(stored: Stored, found: list[tuple[int, Any]], header: type, what: str, advice: str) -> None:
    """Keep the records of a file whose first one is its header, and no other is."""
    stored.data = found
    for line, item in found:
        first = line == found[0][0]
        if isinstance(item, header) != first:
            reason = f"its first line does not say what was {what}" if first else "a second header"
            stored.say(reason, advice, line)


def _comparison(stored: Stored) -> None:
    advice = "remove it, and compare again"
    found = list(_records(stored, comparisons.parse, advice))
    _headed(stored, found, comparison.Header, "compared", advice)
    for line, item in found:
        if isinstance(item, comparison.PairReading):
            label = records.case_label(item.benchmark, tuple(item.params))
            turns = len(item.base) + len(item.head)
            if turns > len(item.order):
                stored.say(f"{label}: {turns} turns, and an order for {len(item.order)}", advice, line)
    if not found and not stored.problems:
        stored.say("it is empty", advice)
    if found and not any(isinstance(item, comparison.End) for _, item in found):
        stored.say(
            "it has no end: the comparison was killed, or goes on", "nothing, or compare again", note=True
        )


def _bisection(stored: Stored) -> None:
    advice = "remove it, or: mlx-velocity bisect --restart"
    found = list(_records(stored, bisections.parse, advice))
    _headed(stored, found, bisection.Header, "searched", advice)
    if not found and not stored.problems:
        stored.say("it is empty", advice)
    if found and not isinstance(found[-1][1], bisection.Halt):
        stored.say(
            "it has no end: the search was killed, or goes on", "mlx-velocity bisect goes on", note=True
        )


def _profile(stored: Stored) -> None:
    advice = "remove it, and profile again"
    found = list(_records(stored, profiles.parse, advice))
    _headed(stored, found, breakdown.Header, "profiled", advice)
    if len(found) < 2 and not stored.problems:
        stored.say("it holds no launches", advice)


def _regressions(stored: Stored) -> None:
    stored.data = list(
        _records(stored, regressions.parse, "mend or remove that line, then: mlx-velocity history")
    )


CHECKS: dict[str, Callable[[Stored], None]] = {
    "benchmarks": _benchmarks,
    "bisection": _bisection,
    "comparison": _comparison,
    "configuration": _configuration,
    "eras": _eras,
    "machine": _machine,
    "profile": _profile,
    "readings": _readings,
    "regressions": _regressions,
    "releases": _releases,
    "result": _result,
}
"""Format → what looks at a file of it."""
