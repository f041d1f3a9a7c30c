"""From a commit's pins to what is installed: the backend's build of mlx, and the era of its dependencies."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlx_velocity.errors import InputError

BACKENDS = ("cpu", "metal", "cuda")
LAST_WITH_CPU_INSIDE = Version("0.26.3")
"""Later Linux wheels of mlx hold no backend; the extras `cpu` and `cuda` bring one."""
FIRST_CUDA_13 = Version("0.30.1")
HARNESS = (
    "asv_runner",
    "psutil",
    # Who counts joules (probe/energy.py). Nobody is missed where it is absent.
    "nvidia-ml-py; sys_platform == 'linux'",
    "zeus-apple-silicon; sys_platform == 'darwin' and platform_machine == 'arm64' and python_version < '3.14'",
)
"""What our own worker needs beside the measured packages."""


@dataclass(frozen=True)
class RequirementSet:
    """What an environment is made from. Equal sets share one environment."""

    requirements: tuple[str, ...]
    constraints: str
    """Text of the era's constraint file; exact pins of everything around mlx-lm."""


def backend_here(choice: str) -> str:
    """The backend to measure: `choice`, or for `auto` the best that this machine has.

    Raises InputError for an unknown name.
    """
    if choice == "auto":
        if sys.platform == "darwin":
            return "metal"
        return "cuda" if shutil.which("nvidia-smi") or os.path.exists("/dev/nvidia0") else "cpu"
    if choice not in BACKENDS:
        raise InputError(f"there is no backend '{choice}'", f"choose one of {', '.join(BACKENDS)}, or auto")
    return choice


def read_pins(text: str, source: str) -> list[str]:
    """The requirement lines of a file; raises InputError for a line that is none."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    pins = [line for line in lines if line]
    for pin in pins:
        try:
            Requirement(pin)
        except InvalidRequirement as error:
            raise InputError(
                f"{source} holds '{pin}', which is no requirement: {error}", "mend that line"
            ) from error
    return pins


def requirement_set(
    pins: list[str], backend: str, mlx_lm: Version | None = None, needs: Iterable[Requirement] = ()
) -> RequirementSet:
    """Resolve pins for a backend: `mlx==0.31.2` becomes `mlx[cpu]==0.31.2` on Linux.

    The era is that of the mlx-lm among the pins, or of `mlx_lm` where a commit of it is laid over
    the environment; `needs` is what that commit asks for itself.
    """
    parsed = [Requirement(pin) for pin in pins]
    lm_versions = [_pinned(item) for item in parsed if canonicalize_name(item.name) == "mlx-lm"]
    lines = sorted(_for_backend(item, backend) for item in parsed)
    return RequirementSet(tuple(lines), era_constraints(lm_versions[0] if lm_versions else mlx_lm, needs))


def era_constraints(mlx_lm: Version | None, needs: Iterable[Requirement] = ()) -> str:
    """Constraints of the era that an mlx-lm version belongs to; the newest era without one.

    An old mlx-lm breaks beside today's transformers, and an import-time series must not measure
    the releases of transformers: so each era pins them. A commit between two releases may already
    need what comes with the next one: then it belongs to the first later era that has all its `needs`.
    """
    folder = files("mlx_velocity") / "eras"
    eras = json.loads((folder / "eras.json").read_text("utf-8"))["eras"]
    begun = sum(mlx_lm is None or Version(era["from"]) <= mlx_lm for era in eras)
    texts = [(folder / str(era["constraints"])).read_text("utf-8") for era in eras[max(0, begun - 1) :]]
    wanted = list(needs)
    return next((text for text in texts if not unmet(wanted, RequirementSet((), text))), texts[0])


def unmet(needs: Iterable[Requirement], chosen: RequirementSet) -> list[str]:
    """Each need that an exact pin contradicts: `mlx>=0.32.1, and 0.31.2 is pinned`."""
    pins = _pins(chosen)
    found = []
    for need in needs:
        # What mlx-lm needs on a Mac alone it has from an extra elsewhere: conditions do not excuse.
        version = pins.get(canonicalize_name(need.name))
        if version is not None and not need.specifier.contains(version, prereleases=True):
            found.append(f"{need.name}{need.specifier}, and {version} is pinned")
    return found


def missing(needs: Iterable[Requirement], chosen: RequirementSet) -> list[str]:
    """The needs that nobody asked for yet, in order; without a range where the era pins one version.

    So commits whose needs differ in words alone share an environment.
    """
    there = {canonicalize_name(Requirement(line).name) for line in chosen.requirements}
    pins = _pins(chosen)
    found = {}
    for need in needs:
        name = canonicalize_name(need.name)
        if name not in there and (need.marker is None or need.marker.evaluate()):
            extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
            found[name] = f"{name}{extras}" if name in pins else str(need)
    return sorted(found.values())


def _pins(chosen: RequirementSet) -> dict[str, Version]:
    lines = [*read_pins(chosen.constraints, "an era"), *chosen.requirements]
    named = ((canonicalize_name(item.name), _pinned(item)) for item in map(Requirement, lines))
    return {name: version for name, version in named if version is not None}


def _pinned(item: Requirement) -> Version | None:
    exact = [s.version for s in item.specifier if s.operator == "==" and not s.version.endswith(".*")]
    return Version(exact[0]) if exact else None


def _for_backend(item: Requirement, backend: str) -> str:
    if canonicalize_name(item.name) != "mlx" or item.extras or backend == "metal":
        return str(item)
    version = _pinned(item)
    if backend == "cuda":
        extra = "cuda13" if version is None or version >= FIRST_CUDA_13 else "cuda"
    elif version is not None and version <= LAST_WITH_CPU_INSIDE:
        return str(item)
    else:
        extra = "cpu"
    with_extra = Requirement(str(item))
    with_extra.extras = {extra}
    return str(with_extra)
