"""The JSON schema of every stored format: one file each, and the validators made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import fastjsonschema
from jsonschema import Draft202012Validator, ValidationError

SUFFIX = ".schema.json"
LONGEST_MESSAGE = 160
NOT_COMPILED = frozenset({"prefixItems"})
"""What fastjsonschema would pass over, because it is newer than the draft that it knows."""


@cache
def load(name: str) -> dict[str, Any]:
    """A schema of ours by its file name: `readings.schema.json`."""
    schema: dict[str, Any] = json.loads((files(__name__) / name).read_text("utf-8"))
    return schema


@cache
def validator(name: str) -> Draft202012Validator:
    """What checks a whole document, by the standard."""
    return Draft202012Validator(load(name))


@cache
def by_kind(name: str) -> dict[str, Draft202012Validator]:
    """Of a format with several kinds of lines: what checks a line of each, by the standard."""
    return {kind: Draft202012Validator(schema) for kind, schema in _kinds(name).items()}


def errors(name: str, data: Any, kind: str = "") -> Iterator[ValidationError]:
    """What is wrong with a document, or with a line of that kind; nothing where it is as the schema says."""
    if not fits(name, data, kind):
        yield from (by_kind(name)[kind] if kind else validator(name)).iter_errors(data)


def fits(name: str, data: Any, kind: str = "") -> bool:
    """Whether a compiled schema, some ten times as fast, finds nothing wrong; where it does, the standard says what."""
    check = _compiled(name, kind)
    if check is None:
        return False
    try:
        check(data)
    except (fastjsonschema.JsonSchemaValueException, TypeError, OverflowError, RecursionError):
        return False
    return True


def first_error(name: str, data: Any, kind: str = "") -> str:
    """The first thing that is wrong, and where; nothing where it is as the schema says."""
    return next((said(error) for error in errors(name, data, kind)), "")


def said(error: ValidationError) -> str:
    """An error in a line: where in the document, and what is wrong there."""
    place = error.json_path.removeprefix("$").removeprefix(".")
    return f"{place}: {error.message[:LONGEST_MESSAGE]}" if place else error.message[:LONGEST_MESSAGE]


@cache
def _kinds(name: str) -> dict[str, Any]:
    schema = load(name)
    return {item["$ref"].rpartition("/")[2]: {**item, "$defs": schema["$defs"]} for item in schema["oneOf"]}


@cache
def _compiled(name: str, kind: str) -> Callable[[Any], Any] | None:
    schema = _kinds(name)[kind] if kind else load(name)
    if any(word in NOT_COMPILED for word in _words(schema)):
        return None
    check: Callable[[Any], Any] = fastjsonschema.compile(_strict(schema), use_default=False)
    return check


def _words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
    for held in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _words(held)


def _strict(schema: Any) -> Any:
    """The same, where a number asked for by value is none that Python only takes for equal: true is not 1."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _strict(item) for key, item in schema.items()}
    wanted = schema.get("enum", [schema["const"]] if "const" in schema else [])
    for kind, of in ((bool, "boolean"), (int, "integer")):
        if (
            "type" not in schema
            and isinstance(wanted, list)
            and wanted
            and all(type(value) is kind for value in wanted)
        ):
            told["type"] = of
    return told
