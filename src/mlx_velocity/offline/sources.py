"""Where the packages of environments come from: the index of the user's settings, or what is at hand without one."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlx_velocity.errors import EnvironmentFailure, InputError
from mlx_velocity.offline import inherited, manifest, wheels
from mlx_velocity.offline.inherited import Inherited
from mlx_velocity.requirements import HARNESS, RequirementSet

BACKEND_PACKAGE = re.compile(r"mlx-(cpu|metal|cuda.*)")
"""What an extra of mlx brings, in mlx's own version."""
CUDA_LIBRARY = re.compile(r"nvidia-(?!ml-py).*")
"""May as well lie in /usr/local/cuda: beside what is inherited, the import says whether one is missing."""
_LACKING = re.compile(
    r"\b(?P<absent>[\w.-]+) was not found in the provided package locations"
    r"|there (?:is|are) no versions? of (?P<version>[\w.=<>~!-]+)"
    r"|only (?:the following versions of )?(?P<only>[\w.=<>-]+) (?:is|are) available"
    r"|\b(?P<tag>[\w.=-]+) has (?:no wheels with a matching|an invalid package format)"
)
"""How uv says that a package, or a version of it, is not among what it was given."""


@dataclass(frozen=True)
class Source:
    """A folder of wheels, or None for an index; and what is inherited, or None."""

    folder: Path | None = None
    inherited: Inherited | None = None
    python: str = ""
    """The environments' Python as major.minor: not every wheel of the folder is for it."""

    @property
    def options(self) -> list[str]:
        """uv's, for whatever it installs or builds."""
        if self.folder is None:
            return []
        return ["--offline", "--no-index", "--find-links", str(self.folder)]

    def fingerprint(self, wanted: RequirementSet) -> list[str]:
        """What sets environments of one requirement set apart: the measured wheels, and what is inherited."""
        found = self.inherited.fingerprint() if self.inherited else []
        if self.folder is None:
            return found
        pins = _specifiers(wanted)
        known = {item.file: item.sha256 for item in (manifest.read(self.folder) or _NOTHING).wheels}
        for wheel in self._usable():
            name = "mlx" if BACKEND_PACKAGE.fullmatch(wheel.name) else wheel.name
            if name in pins and str(pins[name]) and pins[name].contains(wheel.version, prereleases=True):
                found.append(known.get(wheel.path.name) or manifest.sha256(wheel.path))
        return found

    def left_to_inherited(self, wanted: RequirementSet) -> list[str]:
        """Packages that are not to be installed, because this Python has them and the folder has none that fits.

        Of the CUDA libraries also those that nobody has.
        """
        if self.inherited is None:
            return []
        asked, eras = _specifiers(wanted), _constrained(wanted)
        left = []
        for name in self.inherited.packages:
            if name in ("mlx", "mlx-lm") or BACKEND_PACKAGE.fullmatch(name):
                continue
            required = asked.get(name, SpecifierSet())
            if self._offers(name, asked.get(name, SpecifierSet()) & eras.get(name, SpecifierSet())):
                continue
            if required.contains(self.inherited.packages[name].version, prereleases=True):
                left.append(name)
        return sorted({*left, *self._libraries_elsewhere()})

    def check(self, wanted: RequirementSet) -> None:
        """Raise EnvironmentFailure naming the wheels that the folder lacks; it may get them, and then it is tried again.

        Raises InputError where a wheel is damaged.
        """
        if self.folder is None:
            return
        _checked(self.folder)
        left = set(self.left_to_inherited(wanted))
        lacking = [
            f"{name}{required}" for name, required in _specifiers(wanted).items()
            if name not in left and not self._offers(name, required)
        ]  # fmt: skip
        if lacking:
            has = {name: self._versions(name) for name in map(_name, lacking)}
            told = "; ".join(f"it has {name} {', '.join(some)}" for name, some in has.items() if some)
            raise EnvironmentFailure(
                f"the wheelhouse lacks {', '.join(sorted(lacking))} for Python {self.python} on this machine"
                f"{f' ({told})' if told else ''}"
            )

    def complete(self, environment: Path, wanted: RequirementSet) -> dict[str, str]:
        """Add what is inherited to a new environment; returns name → version of it."""
        return self.inherited.link_into(environment, _specifiers(wanted)) if self.inherited else {}

    def explained(self, error: EnvironmentFailure) -> EnvironmentFailure:
        """uv's failure, which trying again may help where something was not in the folder."""
        found = _LACKING.search(error.message) if self.folder is not None else None
        if found is None:
            return error
        what = next(name for name in found.groups() if name)
        return EnvironmentFailure(f"the wheelhouse lacks {what}: {error.message}")

    def _usable(self) -> list[wheels.Wheel]:
        return _usable(self.folder, self.python) if self.folder else []

    def _versions(self, name: str) -> list[str]:
        return [
            str(version) for version in sorted({item.version for item in self._usable() if item.name == name})
        ]

    def _offers(self, name: str, required: SpecifierSet) -> bool:
        return any(
            wheel.name == name and required.contains(wheel.version, prereleases=True)
            for wheel in self._usable()
        )

    def _libraries_elsewhere(self) -> set[str]:
        """CUDA libraries that wheels of the folder require, and that neither it nor this Python has."""
        assert self.inherited is not None
        here = {wheel.name for wheel in self._usable()} | set(self.inherited.packages)
        required = {name for wheel in self._usable() for name in _requires(wheel.path)}
        return {name for name in required if CUDA_LIBRARY.fullmatch(name)} - here


_NOTHING = manifest.Manifest("", "", "", "")


def of(folder: Path | None, inherit: bool, python: str) -> Source:
    """Where the packages come from; raises InputError where that is nowhere."""
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"the wheelhouse {folder} does not exist",
            "fill one where there is an index: mlx-velocity wheelhouse --help",
        )
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if inherit and python != here:
        raise InputError(
            f"--inherit takes the packages of Python {here}, and the track is measured with {python}",
            f"run mlx-velocity with Python {python}, or leave --inherit out",
        )
    known = manifest.read(folder) if folder is not None else None
    if known is not None and known.left_out and not inherit:
        raise InputError("the wheelhouse was filled for a Python that has the rest", "add --inherit")
    return Source(folder, inherited.here() if inherit else None, python)


@cache
def _usable(folder: Path, python: str) -> list[wheels.Wheel]:
    here = wheels.tags_here(python)
    return [wheel for wheel in wheels.in_folder(folder) if wheel.fits(here)]


@cache
def _checked(folder: Path) -> None:
    found = manifest.read(folder)
    if found is not None:
        manifest.check(folder, found)


@cache
def _requires(path: Path) -> list[str]:
    """Names of what a wheel requires, with any extra; none of a wheel that can't be read, which uv refuses."""
    try:
        texts = [
            text
            for item in importlib.metadata.distributions(path=[str(path)])
            for text in item.requires or []
        ]
        return [canonicalize_name(Requirement(text).name) for text in texts]
    except (OSError, zipfile.BadZipFile, InvalidRequirement):
        return []


def _specifiers(wanted: RequirementSet) -> dict[str, SpecifierSet]:
    """What is asked for by name here, on this machine; built wheels are there already."""
    asked = [Requirement(item) for item in (*wanted.requirements, *HARNESS) if not item.endswith(".whl")]
    return {
        canonicalize_name(item.name): item.specifier
        for item in asked
        if item.marker is None or item.marker.evaluate()
    }


def _constrained(wanted: RequirementSet) -> dict[str, SpecifierSet]:
    lines = [line.split("#")[0].strip() for line in wanted.constraints.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(item.name): item.specifier for item in found}


def _name(pinned: str) -> str:
    return re.split("[=<>~!]", pinned, maxsplit=1)[0]
