"""Fill a folder with the wheels that another machine needs: uv resolves for it, pip downloads for it."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

import mlx_velocity
from mlx_velocity import installer
from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError
from mlx_velocity.offline import manifest, wheels
from mlx_velocity.offline.manifest import Entry, Lack, Manifest
from mlx_velocity.offline.sources import BACKEND_PACKAGE
from mlx_velocity.requirements import HARNESS, RequirementSet

RUNNER = "runner"
"""Folder below a wheelhouse with what mlx-velocity itself needs there."""
RUNNER_LIST = "requirements.txt"
DOWNLOAD_TIMEOUT_S = 1800.0
_OUT_OF_REACH = re.compile(
    r"connection|timed out|name resolution|certificate|proxy|\b40[13]\b", re.IGNORECASE
)
Say = Callable[[int, int, str], None]
"""Told how many of how many wheels are there, and what comes next."""


@dataclass(frozen=True)
class Machine:
    """The machine that the wheels are for."""

    platform: str
    """The newest platform tag that it takes, as wheels.tags_of wants it."""
    python: str
    """major.minor"""
    backend: str

    def resolve(self, wanted: RequirementSet) -> list[str]:
        """Exact versions (`numpy==2.4.6`) of all that an environment there holds.

        Raises EnvironmentFailure where they contradict each other or have no wheels for it.
        """
        platform, variables = self._of_uv()
        with tempfile.TemporaryDirectory() as aside:
            # Without a Python that is named, uv looks for that version through all that are here, every time.
            asked, constraints = Path(aside, "asked.in"), Path(aside, "constraints.txt")
            asked.write_text("\n".join([*wanted.requirements, *HARNESS]), "utf-8")
            constraints.write_text(wanted.constraints, "utf-8")
            said = installer.uv(
                ["pip", "compile", "--quiet", "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-strip-markers",
                 "--python", sys.executable, "--python-platform", platform, "--python-version", self.python, "--constraints", str(constraints),
                 str(asked)], variables=variables,
            )  # fmt: skip
        return [line.partition(";")[0].strip() for line in said.splitlines() if "==" in line]

    def _of_uv(self) -> tuple[str, dict[str, str]]:
        """The platform in uv's words, and the variables that belong to it."""
        wheels.platforms(self.platform)
        if linux := wheels.MANYLINUX.fullmatch(self.platform):
            return f"{linux[2]}-manylinux_2_{linux[1]}", {}
        _, major, minor, arch = self.platform.split("_", 3)
        words = {"arm64": "aarch64"}
        return f"{words.get(arch, arch)}-apple-darwin", {"MACOSX_DEPLOYMENT_TARGET": f"{major}.{minor}"}


@dataclass
class Filled:
    """What a folder holds now."""

    manifest: Manifest
    downloaded: int = 0
    """Wheels that were not there before."""
    lacking: list[Lack] = field(default_factory=list)
    """Of what was asked for now."""
    runner: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Need:
    """A commit, or a part of the tool, and what it is made from; or why that is not known."""

    commit: str
    """Full hash; empty for what is no commit."""
    subject: str
    wanted: RequirementSet | EnvironmentFailure


def fill(
    folder: Path, machine: Machine, needs: Sequence[Need], track: str, left_out: Sequence[str], runner: bool, say: Say
) -> Filled:  # fmt: skip
    """Download what the folder lacks of what is needed, and write its manifest, also where this is interrupted.

    `left_out` are patterns of package names that the other machine has; what is measured and the few packages
    of the worker are never left out. Raises InputError where the folder can't be used, MeasurementError where
    the index is out of reach.
    """
    with _locked(folder):
        before = _before(folder, machine, track)
        pins, lacking = _pins(needs, machine, say)
        kept = {pin: who for pin, who in pins.items() if keeps(pin, needs, left_out)}
        own = (
            [pin for pin in _runner_pins(machine) if not _matches(pin, set(left_out) - {"*"})]
            if runner
            else []
        )
        todo = [(folder, pin) for pin in kept] + [(folder / RUNNER, pin) for pin in own]
        had: dict[tuple[Path, str], wheels.Wheel] = {}
        filled = Filled(before)
        try:
            for number, (place, pin) in enumerate(todo):
                say(number, len(todo), pin)
                found = find(place, pin, machine)
                if found is None:
                    try:
                        found = download(place, pin, machine)
                        filled.downloaded += 1
                    except EnvironmentFailure as error:
                        users = kept[pin] if place == folder else [Need("", "mlx-velocity", error)]
                        lacking += [(need, error.message) for need in users]
                        continue
                had[(place, pin)] = found
        finally:
            missing = {id(need) for pin, who in kept.items() if (folder, pin) not in had for need in who}
            missing |= {id(need) for need, _ in lacking}
            done = [need.commit for need in needs if need.commit and id(need) not in missing]
            here = _entries(item for (place, _), item in had.items() if place == folder)
            filled.lacking = [Lack(need.commit or need.subject, need.subject, why) for need, why in lacking]
            filled.manifest = _merged(folder, before, done, left_out, filled.lacking, here)
            manifest.write(folder, filled.manifest)
            if own:
                filled.runner = _entries(item for (place, _), item in had.items() if place != folder)
                _write_list(folder / RUNNER, filled.runner)
    return filled


def keeps(pin: str, needs: Sequence[Need], left_out: Iterable[str]) -> bool:
    """Whether a wheel is brought along: it is measured, our worker needs it, or no pattern leaves it out."""
    name = canonicalize_name(Requirement(pin).name)
    measured = {
        canonicalize_name(item.name)
        for need in needs
        if isinstance(need.wanted, RequirementSet)
        for item in map(Requirement, need.wanted.requirements)
        if any(part.operator == "==" for part in item.specifier)
    }
    if name in measured or BACKEND_PACKAGE.fullmatch(name):
        return True
    return name in {canonicalize_name(Requirement(item).name) for item in HARNESS} or not _matches(
        pin, left_out
    )


def find(folder: Path, pin: str, machine: Machine) -> wheels.Wheel | None:
    """A wheel of `name==version` that is there and that the machine takes."""
    item = Requirement(pin)
    (version,) = (part.version for part in item.specifier)
    tags = wheels.tags_of(machine.platform, machine.python)
    for wheel in wheels.in_folder(folder):
        if (wheel.name, wheel.version) == (canonicalize_name(item.name), Version(version)) and wheel.fits(
            tags
        ):
            return wheel
    return None


def download(folder: Path, pin: str, machine: Machine) -> wheels.Wheel:
    """Get one wheel from the index of the user's settings, whole or not at all.

    Raises EnvironmentFailure where the index has none for the machine, MeasurementError where it can't be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for name in wheels.platforms(machine.platform) for word in ("--platform", name)]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as aside:
        command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
                   "--disable-pip-version-check", "--implementation", "cp", "--python-version", machine.python,
                   *platforms, "--dest", aside, pin]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
                timeout=DOWNLOAD_TIMEOUT_S, env=_with_index(),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MeasurementError(
                f"{pin} can't be downloaded: {error}", "run the same again to go on"
            ) from error
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
                "ERROR: no reason"
            ]
            reason = installer.without_folders(_without_addresses(said[-1].removeprefix("ERROR: ")))
            if _OUT_OF_REACH.search(done.stderr):
                raise MeasurementError(
                    f"the package index can't be reached for {pin}: {reason}", "run the same again to go on"
                )
            raise EnvironmentFailure(
                f"the index has no wheel of {pin} for {machine.platform} and Python {machine.python}"
            )
        for path in Path(aside).glob("*.whl"):
            os.replace(path, folder / path.name)
    found = find(folder, pin, machine)
    if found is None:
        raise EnvironmentFailure(f"pip brought no wheel of {pin}")
    return found


def _pins(
    needs: Sequence[Need], machine: Machine, say: Say
) -> tuple[dict[str, list[Need]], list[tuple[Need, str]]]:
    """Exact version → who needs it; and who can't be served, with the reason."""
    pins: dict[str, list[Need]] = {}
    lacking: list[tuple[Need, str]] = []
    for number, need in enumerate(needs):
        say(number, len(needs), f"resolving {need.subject}")
        try:
            if isinstance(need.wanted, EnvironmentFailure):
                raise need.wanted
            for pin in machine.resolve(need.wanted):
                pins.setdefault(pin, []).append(need)
        except EnvironmentFailure as error:
            lacking.append((need, error.message))
    return pins, lacking


def _runner_pins(machine: Machine) -> list[str]:
    checkout = Path(mlx_velocity.__file__).parents[2] / "pyproject.toml"
    if checkout.is_file():
        # What is installed may be older than the checkout, and that is what will run there.
        listed = tomllib.loads(checkout.read_text("utf-8"))["project"]["dependencies"]
    else:
        listed = importlib.metadata.requires("mlx-velocity") or []
    asked = [Requirement(text) for text in listed]
    own = tuple(str(item) for item in asked if "extra" not in str(item.marker or ""))
    return machine.resolve(RequirementSet(own, ""))


def _before(folder: Path, machine: Machine, track: str) -> Manifest:
    """What the folder was filled with until now; raises InputError where that was for another machine."""
    empty = Manifest(machine.platform, machine.python, machine.backend, track)
    found = manifest.read(folder) or empty
    for what in ("platform", "python", "backend", "track"):
        if getattr(found, what) != getattr(empty, what):
            raise InputError(
                f"{folder} was filled for {what} {getattr(found, what)}, and this is {getattr(empty, what)}",
                "name another folder",
            )
    return found


def _merged(
    folder: Path, before: Manifest, commits: list[str], left_out: Iterable[str], lacking: list[Lack], here: list[Entry]
) -> Manifest:  # fmt: skip
    """What was there and what has come; a commit that lacked something may have it now."""
    told = {item.commit for item in lacking}
    listed = {item.file for item in here}
    return dataclasses.replace(
        before,
        commits=list(dict.fromkeys([*(item for item in before.commits if item not in told), *commits])),
        left_out=sorted({*before.left_out, *left_out}),
        lacking=[*(item for item in before.lacking if item.commit not in {*told, *commits}), *lacking],
        wheels=sorted(
            [
                *(
                    item
                    for item in before.wheels
                    if item.file not in listed and (folder / item.file).exists()
                ),
                *here,
            ],
            key=lambda item: item.file,
        ),
    )


def _entries(found: Iterable[wheels.Wheel]) -> list[Entry]:
    listed = [manifest.entry(item.path, item.name, str(item.version)) for item in found]
    return sorted(listed, key=lambda item: item.file)


def _write_list(folder: Path, entries: Iterable[Entry]) -> None:
    """What pip is told to install there: with hashes, so that it checks each file."""
    lines = [f"{item.name}=={item.version} --hash=sha256:{item.sha256}\n" for item in entries]
    (folder / RUNNER_LIST).write_text("".join(lines), "utf-8")


def _matches(pin: str, patterns: Iterable[str]) -> bool:
    name = canonicalize_name(Requirement(pin).name)
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


def _pip() -> list[str]:
    """pip beside this Python, or the one that uv brings for a moment."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [find_uv_bin(), "tool", "run", "--quiet", "pip"]


def _with_index() -> dict[str, str]:
    """uv's index for pip too, where nobody told pip another."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if "PIP_INDEX_URL" not in os.environ and os.environ.get(name):
            return {**os.environ, "PIP_INDEX_URL": re.sub(r"^[\w.-]+=(?=\w+://)", "", os.environ[name])}
    return dict(os.environ)


def _without_addresses(text: str) -> str:
    return re.sub(r"\w+://\S+", "the index", text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone, without what a killed one left; raises InputError where that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(f"{folder} is being filled by another process", "wait for it to end") from None
    except OSError as error:
        raise InputError(
            f"{folder} can't be written: {error.strerror or error}", "name another folder"
        ) from error
    try:
        for left in [*folder.glob(".partial-*"), *folder.glob(f"{RUNNER}/.partial-*")]:
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
