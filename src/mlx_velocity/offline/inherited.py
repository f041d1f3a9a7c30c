"""What an environment takes from the Python that is here: those packages that the measured ones need, by links.

Links to single packages and not a path to all of them: what else is installed here (a torch beside transformers,
another mlx) stays unseen, as in every other environment, and what is recorded is what can be imported.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlx_velocity.errors import EnvironmentFailure

FOLDER = "inherited"
"""Of an environment: the links."""
PATH_FILE = "mlx_velocity_inherited.pth"


@dataclass(frozen=True)
class Inherited:
    """The packages of a Python, by canonical name."""

    packages: dict[str, Distribution] = field(default_factory=dict)

    def version(self, name: str) -> str | None:
        """The version of a package; None where it is not here."""
        found = self.packages.get(canonicalize_name(name))
        return found.version if found else None

    def fingerprint(self) -> list[str]:
        """Changes with every package that is installed, upgraded or removed."""
        return sorted(f"{name}=={item.version} {_folder(item)}" for name, item in self.packages.items())

    def link_into(self, environment: Path, wanted: Iterable[str]) -> dict[str, str]:
        """Link what is wanted, or needed by the environment's packages, and it lacks; returns name → version of it.

        Raises EnvironmentFailure where a package does not say which files are its own.
        """
        (site_packages,) = environment.glob("lib/python3*/site-packages")
        own = packages_in([str(site_packages)])
        needed = self._needed(own, wanted)
        folder = environment / FOLDER
        folder.mkdir(exist_ok=True)
        for name in needed:
            tops = _top_names(self.packages[name])
            if not tops:
                raise EnvironmentFailure(
                    f"{name} can't be inherited: this Python does not say which files are its own"
                )
            for top in tops:
                link = folder / top
                if not link.is_symlink():
                    link.symlink_to(_folder(self.packages[name]) / top)
        # After its own packages on the path: the environment's win.
        (site_packages / PATH_FILE).write_text(f"{folder}\n", "utf-8")
        return {name: self.packages[name].version for name in needed}

    def _needed(self, own: dict[str, Distribution], wanted: Iterable[str]) -> list[str]:
        """All that is wanted or required, directly or not, by the environment's packages, and that only this Python has."""
        found: set[str] = set()
        seen: set[tuple[str, str]] = set()
        queue = [(name, "") for name in (*own, *wanted)]
        while queue:
            name, extra = queue.pop()
            item = own.get(name) or self.packages.get(name)
            if item is None or (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name not in own:
                found.add(name)
            for required in requirements_of(item, extra):
                target = canonicalize_name(required.name)
                queue += [(target, wanted) for wanted in ("", *required.extras)]
        return sorted(found)


def here() -> Inherited:
    """The packages of the Python that runs this, in the order in which it would find them."""
    return Inherited(packages_in(sys.path))


def packages_in(folders: Iterable[str]) -> dict[str, Distribution]:
    """What is installed in some folders, by canonical name; the first of a name counts."""
    found: dict[str, Distribution] = {}
    for item in importlib.metadata.distributions(path=[folder for folder in folders if folder]):
        # A broken installation has no name.
        if item.metadata and item.metadata["Name"]:
            found.setdefault(canonicalize_name(item.metadata["Name"]), item)
    return found


def requirements_of(item: Distribution, extra: str = "") -> list[Requirement]:
    """What a package requires on this machine, with one of its extras or without."""
    return [
        required
        for required in map(_parsed, item.requires or [])
        if required is not None and (required.marker is None or required.marker.evaluate({"extra": extra}))
    ]


@cache
def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None  # an old package's own spelling; who needs it says so


def _folder(item: Distribution) -> Path:
    return Path(str(item.locate_file("")))


def _top_names(item: Distribution) -> list[str]:
    """Names in its folder that belong to a package; none where it does not say, as an editable one."""
    listed = {Path(str(file)).parts[0] for file in item.files or []}
    tops = {name for name in listed if name not in ("..", "__pycache__") and not name.endswith(".pth")}
    if all(name.endswith((".dist-info", ".egg-info")) for name in tops):
        return []
    return sorted(name for name in tops if (_folder(item) / name).exists())
