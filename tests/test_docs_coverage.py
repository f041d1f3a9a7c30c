"""docs/coverage.md holds: no row is empty, and each test and command that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer

from mlx_velocity.cli import app

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "coverage.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| what it", "| ---"))
]


def functions_of(path: Path) -> set[str]:
    """The names of a file's test functions."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_there_are_rows() -> None:
    """The table of the five documents is not empty."""
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_row(row: list[str]) -> None:
    """A feature has what does it here and a test that shows it, and both are there."""
    assert len(row) == 3
    assert all(row)
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"mlx-velocity ([a-z]+)", row[1])) <= commands
    named = re.findall(r"(test_\w+)(?:::(test_\w+))?", row[2])
    assert named
    for file, function in named:
        path = ROOT / "tests" / f"{file}.py"
        assert path.is_file(), file
        assert not function or function in functions_of(path), f"{file}::{function}"
