"""The JSON schema of every stored format: one file each, and the validators made of them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

SUFFIX = ".schema.json"
LONGEST_MESSAGE = 160


@cache
def load(name: str) -> dict[str, Any]:
    """A schema of ours by its file name: `readings.schema.json`."""
    schema: dict[str, Any] = json.loads((files(__name__) / name).read_text("utf-8"))
    return schema


@cache
def validator(name: str) -> Draft202012Validator:
    """What checks a whole document."""
    return Draft202012Validator(load(name))


@cache
def by_kind(name: str) -> dict[str, Draft202012Validator]:
    """Of a format with several kinds of lines: what checks a line of each."""
    schema = load(name)
    return {
        item["$ref"].rpartition("/")[2]: Draft202012Validator({"$defs": schema["$defs"], **item})
        for item in schema["oneOf"]
    }


def first_error(name: str, data: Any) -> str:
    """What is wrong with a document, and where; nothing where it is as the schema says."""
    return next((said(error) for error in validator(name).iter_errors(data)), "")


def said(error: ValidationError) -> str:
    """An error in a line: where in the document, and what is wrong there."""
    place = error.json_path.removeprefix("$").removeprefix(".")
    return f"{place}: {error.message[:LONGEST_MESSAGE]}" if place else error.message[:LONGEST_MESSAGE]
