"""The schemas of what is stored, and the compiled ones that check most of it."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlx_velocity import readings, schemas

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


def documents() -> list[tuple[str, str, Any]]:
    """Lines and documents that the repository holds: schema, kind of line, and what it holds."""
    folder = ROOT / "results" / "releases"
    lines = [
        (schema, json.loads(line))
        for schema, pattern in (("readings", "*/*.readings.jsonl"), ("comparison", "*/comparisons/*.jsonl"))
        for path in sorted(folder.glob(pattern))
        for line in path.read_text("utf-8").splitlines()
    ]
    package = ROOT / "src" / "mlx_velocity"
    whole = [
        ("releases", package / "releases.json"),
        ("machine", folder / "nvidia-h200" / "machine.json"),
        ("eras", package / "eras" / "eras.json"),
    ]
    return [(f"{schema}.schema.json", data["kind"], data) for schema, data in lines] + [
        (f"{schema}.schema.json", "", json.loads(path.read_text("utf-8"))) for schema, path in whole
    ]


def standard(name: str, kind: str) -> Any:
    schema = schemas.load(name)
    return Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"} if kind else schema)


def test_what_is_stored_fits_the_compiled_schemas() -> None:
    """What the repository holds needs no look by the standard's slow way."""
    assert [name for name, kind, data in documents() if not schemas.fits(name, data, kind)] == []


@pytest.mark.parametrize("seed", range(4))
def test_what_is_wrong_is_said_as_the_standard_says_it(seed: int) -> None:
    """Whatever is wrong with a document is said with the place and the words of the standard, and never passed."""
    draw, wrong = random.Random(seed), 0
    found = documents()
    by_kind: dict[tuple[str, str], list[Any]] = {}
    for name, kind, data in found:
        by_kind.setdefault((name, kind), []).append(data)
    for (name, kind), held in by_kind.items():
        for data in draw.sample(held, min(12, len(held))):
            assert list(schemas.errors(name, data, kind)) == []
            for _ in range(8):
                broken = copy.deepcopy(data)
                holder, key = draw.choice(spots(broken))
                holder[key] = draw.choice(ODD)
                if isinstance(holder, dict) and draw.random() < 0.2:
                    holder["unknown"] = draw.choice(ODD)
                told = [(error.json_path, error.message) for error in schemas.errors(name, broken, kind)]
                assert told == said(standard(name, kind), broken)
                wrong += bool(told)
    assert wrong > 100


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src" / "mlx_velocity" / "schemas").glob("*.json")), ids=lambda path: path.name
)
def test_every_schema_is_compiled_or_left_to_the_standard(path: Path) -> None:
    """No schema fails to compile, and odd values are refused by the compiled one wherever the standard refuses them."""
    kinds = schemas.by_kind(path.name) if "oneOf" in schemas.load(path.name) and "$defs" in schemas.load(path.name) and all("$ref" in item for item in schemas.load(path.name)["oneOf"]) else {}  # fmt: skip
    for kind in ["", *kinds]:
        for odd in [*ODD, False]:
            assert not schemas.fits(path.name, odd, kind) or not list(
                standard(path.name, kind).iter_errors(odd)
            )


def test_true_is_not_one() -> None:
    """A format that is `true` is no format 1, though Python takes them for equal."""
    line = {"format": True, "kind": "launch"}
    assert not schemas.fits("readings.schema.json", line, "launch")
    with pytest.raises(ValueError, match="format"):
        readings.load(json.dumps(line), "readings.schema.json", 1)
