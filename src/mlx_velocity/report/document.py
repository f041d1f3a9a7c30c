"""A comparison as the JSON of `compare --json`, described by schemas/compare-output.schema.json."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from mlx_velocity.comparison import FORMAT, VERDICTS, CaseVerdict, Comparison
from mlx_velocity.errors import Interrupted

NUMBERS = ("base", "head", "ratio", "low", "high")


def comparison(comparison: Comparison) -> str:
    """The document; ASCII, so that no name in it can harm whatever prints it."""
    return json.dumps(_data(comparison), indent=1, allow_nan=False) + "\n"


def _data(comparison: Comparison) -> dict[str, Any]:
    # The header comes as it is stored: a field that is added there must be decided on here.
    return {
        "format": FORMAT,
        **dataclasses.asdict(comparison.header),
        "wall_s": comparison.wall_s,
        "summary": {
            "cases": len(comparison.cases),
            **{verdict: len(comparison.of(verdict)) for verdict in VERDICTS},
            "broken": sum(case.broken == "head" for case in comparison.cases),
        },
        "cases": [_case(case) for case in comparison.cases],
        "quality": comparison.quality,
        "interrupted": comparison.interrupted,
        "exit_code": Interrupted.exit_code if comparison.interrupted else comparison.exit_code,
    }


def _case(case: CaseVerdict) -> dict[str, Any]:
    data = dataclasses.asdict(case)
    return {**data, **{key: _finite(data[key]) for key in NUMBERS}}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
