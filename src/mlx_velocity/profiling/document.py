"""The JSON of a BenchmarkResult, described by benchmark-suite.schema.json."""

from __future__ import annotations

import json
from typing import Any

from mlx_velocity import schemas

FORMAT = 1
KIND = "benchmark-suite"
SCHEMA = "benchmark-suite.schema.json"
VIEWS = ("_ms", "_memory_gb", "_memory_gib", "tokens_per_sec")
"""Endings of what is another unit of something that is stored."""


def dump(data: dict[str, Any]) -> str:
    """The document, checked; ASCII, so that no name in it can harm whatever prints it."""
    whole = json.loads(
        json.dumps(
            {"format": FORMAT, "kind": KIND, **data, "results": _base_units(data["results"])}, default=str
        )
    )
    schemas.validator(SCHEMA).validate(whole)
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _base_units(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Seconds and bytes alone: what can be derived by a factor is not stored twice."""
    return {
        name: {key: value for key, value in result.items() if not key.endswith(VIEWS) and key != "spread"}
        for name, result in results.items()
    }
