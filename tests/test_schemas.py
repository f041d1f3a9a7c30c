"""The schemas of what is stored, and the short cut that checks plain values."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlx_velocity import schemas

ROOT = Path(__file__).parents[1]
ODD: list[Any] = [
    None, True, -1, 0, 1.5, -0.0, 1e308, 10**400, "", "x", [], {}, [1, "a"], [None], [True], {"a": True}, {"a": [1]},
]  # fmt: skip


def spots(data: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: what holds it, and where there."""
    found = []
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        found += [(data, key), *spots(data[key])]
    return found


def said(validator: Any, data: Any) -> list[tuple[str, str]]:
    return [(error.json_path, error.message) for error in validator.iter_errors(data)]


@pytest.mark.parametrize("seed", range(4))
def test_the_short_cut_says_what_the_standard_says(seed: int) -> None:
    """Whatever is wrong with a line of readings is said with the same place and words as without the short cut."""
    draw = random.Random(seed)
    name, wrong = "readings.schema.json", 0
    files = sorted((ROOT / "results" / "releases" / "linux-x86-2core").glob("*.readings.jsonl"))
    lines = draw.choice(files).read_text("utf-8").splitlines()
    for line in draw.sample(lines, 60):
        data = json.loads(line)
        ours = schemas.by_kind(name)[data["kind"]]
        standard = Draft202012Validator(
            {"$defs": schemas.load(name)["$defs"], "$ref": f"#/$defs/{data['kind']}"}
        )
        assert said(ours, data) == said(standard, data) == []
        for _ in range(6):
            broken = copy.deepcopy(data)
            holder, key = draw.choice(spots(broken))
            holder[key] = draw.choice(ODD)
            if isinstance(holder, dict) and draw.random() < 0.2:
                holder["unknown"] = draw.choice(ODD)
            assert said(ours, broken) == said(standard, broken)
            wrong += bool(said(standard, broken))
    assert wrong > 100
