"""What a wheel's name says: which package and version it is, and which machines and Pythons take it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging import tags
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mlx_velocity.errors import InputError

MANYLINUX = re.compile(r"manylinux_2_(\d+)_(x86_64|aarch64)")
MACOS = re.compile(r"macosx_(\d+)_(\d+)_(arm64|x86_64)")
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Older names of some glibc versions (PEP 600), of which wheels still bear one."""
OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True)
class Wheel:
    """A wheel in a folder."""

    path: Path
    name: str
    """Of the package, in its canonical form."""
    version: Version
    tags: frozenset[Tag]

    def fits(self, wanted: Iterable[Tag]) -> bool:
        """Whether one of these tags is its own."""
        return any(tag in self.tags for tag in wanted)


def in_folder(folder: Path) -> list[Wheel]:
    """The wheels of a folder, without those in folders below; a file whose name is no wheel's is passed over."""
    found = []
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, its_tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        found.append(Wheel(path, canonicalize_name(name), version, its_tags))
    return found


@cache
def tags_here(python: str) -> tuple[Tag, ...]:
    """What this machine takes for a Python named as major.minor, best first."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return tuple(tags.sys_tags())
    return _of(python, list(tags.platform_tags()))


@cache
def tags_of(platform: str, python: str) -> tuple[Tag, ...]:
    """What another machine takes, best first.

    `platform` is the newest tag that it takes: `manylinux_2_35_x86_64` where its glibc is 2.35 (`ldd --version`),
    `macosx_14_0_arm64` for macOS 14. Raises InputError for anything else, and for a Python that is no major.minor.
    """
    return _of(python, platforms(platform))


def platforms(platform: str) -> list[str]:
    """The platform and all that it includes, newest first: glibc and macOS run what was built for older ones."""
    if linux := MANYLINUX.fullmatch(platform):
        newest, arch = int(linux[1]), linux[2]
        names = []
        for minor in range(newest, OLDEST_GLIBC[arch] - 1, -1):
            names.append(f"manylinux_2_{minor}_{arch}")
            names += [f"{LEGACY[minor]}_{arch}"] if minor in LEGACY else []
        return [*names, f"linux_{arch}"]
    if mac := MACOS.fullmatch(platform):
        return list(tags.mac_platforms((int(mac[1]), int(mac[2])), mac[3]))
    raise InputError(
        f"'{platform}' is no platform that wheels are made for",
        "write manylinux_2_35_x86_64 (its glibc is what ldd --version says) or macosx_14_0_arm64",
    )


def _of(python: str, platform_names: list[str]) -> tuple[Tag, ...]:
    if not re.fullmatch(r"3\.\d{1,2}", python):
        raise InputError(f"'{python}' is no Python", "write major.minor, such as 3.12")
    version = tuple(int(part) for part in python.split("."))
    cpython = tags.cpython_tags(version, platforms=platform_names)
    any_python = tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platform_names)
    return tuple(dict.fromkeys([*cpython, *any_python]))
