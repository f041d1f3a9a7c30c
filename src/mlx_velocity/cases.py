"""Which cases there are: asv's benchmarks, expanded over their parameters and narrowed by profile and name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

from asv.benchmarks import Benchmarks
from asv.util import UserError

from mlx_velocity import metrics, parameters, readings, schemas
from mlx_velocity.errors import InputError
from mlx_velocity.probe import profiles
from mlx_velocity.records import Case
from mlx_velocity.tracks import Track

SCHEMA = "benchmarks.schema.json"
Benchmark = dict[str, Any]


def expand(
    benchmarks: Iterable[Benchmark], profile: str, pattern: str | None, default_timeout_s: float
) -> list[Case]:
    """The cases of a profile whose label matches `pattern`, those of one model together.

    Raises InputError for a broken pattern, or where nothing is left.
    """
    check_profile(profile)
    wanted = compile_pattern(pattern)
    cases = [
        case
        for benchmark in benchmarks
        for case, values in _cases(benchmark, default_timeout_s)
        if profiles.selected(profile, benchmark["param_names"], values) and wanted.search(case.label)
    ]
    if not cases:
        which = f"no benchmark matches '{pattern}'" if pattern else "there is no benchmark"
        raise InputError(f"{which} in profile {profile}", "see them with: mlx-velocity run --list")
    # A worker keeps one model: cases that share one follow each other.
    models = {case.key: _parameter(case, benchmarks, "model") for case in cases}
    return sorted(cases, key=lambda case: models[case.key])


def check_profile(profile: str) -> None:
    """Raise InputError for an unknown profile."""
    if profile not in profiles.PROFILES:
        raise InputError(f"there is no profile '{profile}'", f"choose one of {', '.join(profiles.PROFILES)}")


def every(benchmarks: Iterable[Benchmark], pattern: str | None, default_timeout_s: float) -> list[Case]:
    """All cases whose label matches, in any profile; raises InputError for a broken pattern."""
    wanted = compile_pattern(pattern)
    found = (case for benchmark in benchmarks for case, _ in _cases(benchmark, default_timeout_s))
    return [case for case in found if wanted.search(case.label)]


def profiles_of(case: Case, benchmark: Benchmark) -> list[str]:
    """The profiles that a case belongs to, the smallest first."""
    values = [_value(text) for text in case.params]
    return [name for name in profiles.PROFILES if profiles.selected(name, benchmark["param_names"], values)]


def compile_pattern(pattern: str | None) -> re.Pattern[str]:
    """What a user wants to see of the cases; everything for None. Raises InputError for a broken pattern."""
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise InputError(
            f"'{pattern}' is no regular expression: {error}", "quote it for the shell, or mend it"
        ) from error


def _cases(benchmark: Benchmark, default_timeout_s: float) -> Iterable[tuple[Case, list[Any]]]:
    for index, params in enumerate(parameters.sets(benchmark)):
        case = Case(
            benchmark=benchmark["name"],
            params=params,
            index=index,
            version=str(benchmark["version"]),
            unit=str(benchmark.get("unit", "seconds")),
            launches=int(benchmark.get("rounds", 0)) or 1,
            timeout_s=float(benchmark.get("timeout") or default_timeout_s),
            noise=benchmark.get("noise") or metrics.of_unit(str(benchmark.get("unit", "seconds"))).noise,
        )
        yield case, [_value(text) for text in params]


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _parameter(case: Case, benchmarks: Iterable[Benchmark], name: str) -> str:
    for benchmark in benchmarks:
        if benchmark["name"] == case.benchmark and name in benchmark["param_names"]:
            return str(case.params[benchmark["param_names"].index(name)])
    return ""


def load(track: Track) -> dict[str, Benchmark]:
    """asv's description of the benchmarks that were run, by name; raises InputError without one."""
    try:
        found = dict(Benchmarks.load(track.conf))
        if wrong := schemas.first_error(SCHEMA, {"version": Benchmarks.api_version, **found}):
            raise ValueError(wrong)
        # asv takes NaN and what is beyond any float for numbers; this does not.
        json.dumps(found, allow_nan=False)
        for name, item in found.items():
            parameters.check(name, item["params"])
        return found
    except (UserError, ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"track {track.name} has no readable benchmarks.json", "measure first: mlx-velocity run"
        ) from error


def save(track: Track, benchmarks: list[Benchmark]) -> None:
    """Write benchmarks.json as asv would, at once and only where it changed."""
    target = track.results_dir / "benchmarks.json"
    held = {"version": Benchmarks.api_version, **{item["name"]: item for item in benchmarks}}
    text = json.dumps(held, indent=4, sort_keys=True)
    if not target.exists() or target.read_text("utf-8", "replace") != text:
        readings.replace(target, text)
