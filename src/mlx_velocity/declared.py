"""What a tree of a Python project says of itself: its version, and what it needs."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from mlx_velocity import history

Read = Callable[[str], str]
"""From a path in the tree to its text; empty where there is no such file."""

_VERSION = re.compile(r"""^\s*(?:__version__|version)\s*=\s*["']([^"']+)["']""", re.MULTILINE)
VERSION_FILES = (
    "{package}/_version.py",
    "{package}/version.py",
    "{package}/__init__.py",
    "setup.py",
    "pyproject.toml",
)
"""Where a version may be written, the surest first."""
REQUIREMENT_FILES = ("{package}/requirements.txt", "requirements.txt")


@dataclass(frozen=True)
class Declared:
    """A project's own words, read and never run."""

    version: Version | None = None
    needs: tuple[Requirement, ...] = ()


NOTHING = Declared()


def of_tree(read: Read, packages: Iterable[str]) -> Declared:
    """What the tree says that `read` shows; a file that can't be understood says nothing."""
    names = list(packages)
    version = next(filter(None, (_version(read(path)) for path in _paths(VERSION_FILES, names))), None)
    lines = [line for path in _paths(REQUIREMENT_FILES, names) for line in read(path).splitlines()]
    lines += _of_setup(read("setup.py")) + _of_pyproject(read("pyproject.toml"))
    return Declared(version, tuple(dict.fromkeys(_requirements(lines))))


def of_commit(repo_path: str, commit: str, packages: Iterable[str]) -> Declared:
    """What a commit says of itself."""
    with history.open_git(repo_path) as repo:
        tree = repo.commit(commit).tree

        def read(path: str) -> str:
            try:
                return str((tree / path).data_stream.read().decode("utf-8", "replace"))
            except KeyError:
                return ""

        return of_tree(read, packages)


def of_folder(folder: Path, packages: Iterable[str]) -> Declared:
    """What a working tree says of itself, as it is now."""

    def read(path: str) -> str:
        try:
            return (folder / path).read_text("utf-8", "replace")
        except OSError:
            return ""

    return of_tree(read, packages)


def _paths(patterns: Iterable[str], packages: list[str]) -> list[str]:
    return list(dict.fromkeys(pattern.format(package=name) for pattern in patterns for name in packages))


def _version(text: str) -> Version | None:
    found = _VERSION.search(text)
    try:
        return Version(found[1]) if found else None
    except InvalidVersion:
        return None


def _requirements(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            yield Requirement(line.split("#")[0].strip())
        except InvalidRequirement:
            continue


def _of_setup(text: str) -> list[str]:
    """The literal strings of `install_requires`, with the module's own constants filled in."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    constants = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    lists = [
        node.value.elts
        for node in ast.walk(module)
        if isinstance(node, ast.keyword)
        and node.arg == "install_requires"
        and isinstance(node.value, ast.List)
    ]
    return [_text(item, constants) for items in lists for item in items]


def _text(node: ast.expr | None, constants: Mapping[str, object]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return str(constants.get(node.id, ""))
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, constants)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, constants) for part in node.values)
    return ""


def _of_pyproject(text: str) -> list[str]:
    try:
        listed = tomllib.loads(text).get("project", {}).get("dependencies", [])
    except (tomllib.TOMLDecodeError, AttributeError):
        return []
    return [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
