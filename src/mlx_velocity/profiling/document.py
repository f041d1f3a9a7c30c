"""The JSON of a BenchmarkResult, described by benchmark-suite.schema.json."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

FORMAT = 1
KIND = "benchmark-suite"
SCHEMA = "benchmark-suite.schema.json"
VIEWS = ("_ms", "_memory_gb", "_memory_gib", "tokens_per_sec")
"""Endings of what is another unit of something that is stored."""


@cache
def validator() -> Draft202012Validator:
    """The schema, ready to check."""
    return Draft202012Validator(json.loads((files("mlx_velocity") / SCHEMA).read_text("utf-8")))


def dump(data: dict[str, Any]) -> str:
    """The document, checked; ASCII, so that no name in it can harm whatever prints it."""
    whole = json.loads(
        json.dumps(
            {"format": FORMAT, "kind": KIND, **data, "results": _base_units(data["results"])}, default=str
        )
    )
    validator().validate(whole)
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _base_units(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Seconds and bytes alone: what can be derived by a factor is not stored twice."""
    return {
        name: {key: value for key, value in result.items() if not key.endswith(VIEWS) and key != "spread"}
        for name, result in results.items()
    }
