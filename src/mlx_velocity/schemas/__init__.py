"""The JSON schema of every stored format: one file each, and the validators made of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

SUFFIX = ".schema.json"
LONGEST_MESSAGE = 160
PLAIN = {"number": (int, float), "integer": (int,), "string": (str,), "boolean": (bool,)}
UNDERSTOOD = {"type", "minimum", "exclusiveMinimum", "minLength", "description"}
STANDARD = Draft202012Validator.VALIDATORS


@cache
def load(name: str) -> dict[str, Any]:
    """A schema of ours by its file name: `readings.schema.json`."""
    schema: dict[str, Any] = json.loads((files(__name__) / name).read_text("utf-8"))
    return schema


def _is(value: Any, other: Any) -> bool:
    return type(value) is type(other) and isinstance(value, (str, int)) and value == other


def _all_fit(values: Collection[Any], schema: Any) -> bool:
    """Whether all are plainly what a plain schema asks for; where that can't be said, the standard's way says it."""
    if not isinstance(schema, dict) or not schema.keys() <= UNDERSTOOD:
        return (
            isinstance(schema, dict)
            and schema.keys() == {"const"}
            and all(_is(value, schema["const"]) for value in values)
        )
    kinds = PLAIN.get(str(schema.get("type", "number")), ())
    if not all(type(value) in kinds for value in values):
        return False
    if kinds == (str,):
        return all(len(value) >= schema.get("minLength", 0) for value in values)
    if not values or kinds == (bool,):
        return True
    least = min(values)
    return bool(
        least >= schema.get("minimum", least)
        and ("exclusiveMinimum" not in schema or least > schema["exclusiveMinimum"])
    )


def _items(checked: Any, items: Any, held: Any, schema: Any) -> Iterator[ValidationError]:
    if not (isinstance(held, list) and "prefixItems" not in schema and _all_fit(held, items)):
        yield from STANDARD["items"](checked, items, held, schema)


def _others(checked: Any, others: Any, held: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(held, dict) and "patternProperties" not in schema:
        known = schema.get("properties", ())
        if _all_fit([value for name, value in held.items() if name not in known], others):
            return
    yield from STANDARD["additionalProperties"](checked, others, held, schema)


def _properties(checked: Any, properties: Any, held: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(held, dict):
        properties = {
            name: asked
            for name, asked in properties.items()
            if name in held and not _all_fit((held[name],), asked)
        }
    yield from STANDARD["properties"](checked, properties, held, schema)


# Most of what is stored are lists and tables of numbers, and the standard's way looks at each for itself.
Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"items": _items, "additionalProperties": _others, "properties": _properties}
)


@cache
def validator(name: str) -> Draft202012Validator:
    """What checks a whole document."""
    made: Draft202012Validator = Validator(load(name))
    return made


@cache
def by_kind(name: str) -> dict[str, Draft202012Validator]:
    """Of a format with several kinds of lines: what checks a line of each."""
    schema = load(name)
    return {
        item["$ref"].rpartition("/")[2]: Validator(_resolved(item, schema["$defs"]))
        for item in schema["oneOf"]
    }


def _resolved(schema: Any, defs: dict[str, Any]) -> Any:
    """A schema with what it refers to in place: looking that up for each line takes a third of the time."""
    if isinstance(schema, list):
        return [_resolved(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.keys() - {"description"} == {"$ref"}:
        return _resolved(defs[schema["$ref"].rpartition("/")[2]], defs)
    return {key: _resolved(item, defs) for key, item in schema.items()}


def first_error(name: str, data: Any) -> str:
    """What is wrong with a document, and where; nothing where it is as the schema says."""
    return next((said(error) for error in validator(name).iter_errors(data)), "")


def said(error: ValidationError) -> str:
    """An error in a line: where in the document, and what is wrong there."""
    place = error.json_path.removeprefix("$").removeprefix(".")
    return f"{place}: {error.message[:LONGEST_MESSAGE]}" if place else error.message[:LONGEST_MESSAGE]
