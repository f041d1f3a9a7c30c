"""What a machine is, in asv's own fields, with nothing in it that is private."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import psutil

from mlx_velocity import readings, schemas
from mlx_velocity.errors import InputError

ASV_VERSION = 1
"""Version of asv's machine.json."""
SCHEMA = "machine.schema.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def describe(name: str | None = None) -> dict[str, str | int]:
    """asv's description of this machine, and its GPU: chip, cores, memory in bytes, system.

    The host's own name, its user and its serial number are left out: results are published.
    Raises InputError for a name that can't be a folder.
    """
    cpu, gpu = _chip(), _gpu()
    cores = psutil.cpu_count() or 1
    arch = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    name = name or _default_name(cpu, gpu, arch, cores)
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' can't name a machine", "use lower-case letters, digits, dots and dashes")
    return {
        "machine": name,
        "os": _system(),
        "arch": arch,
        "cpu": cpu,
        "num_cpu": str(cores),
        "ram": str(psutil.virtual_memory().total),
        "gpu": gpu,
    }


def _default_name(cpu: str, gpu: str, arch: str, cores: int) -> str:
    if sys.platform == "darwin":
        return _slug(cpu)
    if gpu:
        return _slug(gpu.split(",")[0])
    return f"{sys.platform}-{'x86' if arch == 'x86_64' else arch}-{cores}core"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _system() -> str:
    """The system and its version, without the build of the kernel."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{platform.system()} {release}"


def _chip() -> str:
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or "Apple silicon"
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [
        line.split(":", 1)[1].strip()
        for line in lines
        if line.startswith(("model name", "Model", "Hardware"))
    ]
    return " ".join(names[0].split()) if names else platform.processor() or "unknown"


def _gpu() -> str:
    """The first NVIDIA GPU and its memory; empty without one (Apple's is part of the chip's name)."""
    answer = _output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return answer.splitlines()[0].strip() if answer else ""


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def load(folder: Path) -> dict[str, str | int] | None:
    """The stored description of a machine's folder; None without one.

    Raises InputError where it is there and cannot be read.
    """
    path = folder / "machine.json"
    if not path.exists():
        return None
    try:
        stored = readings.strict(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name} of {folder.name} can't be read: {error}", "restore or delete that file"
        ) from error
    if wrong := schemas.first_error(SCHEMA, stored):
        raise InputError(
            f"{path.name} of {folder.name} is no description of a machine: {wrong}",
            "restore or delete that file",
        )
    description: dict[str, str | int] = stored
    return description


def contradiction(stored: dict[str, str | int], other: dict[str, str | int]) -> str:
    """What two descriptions under one name say differently of what a machine is; nothing where they fit.

    What stock asv stored may lack fields: only what it says can contradict. A byte of memory more or less,
    or a newer system, makes no other machine.
    """
    for key in ("arch", "cpu", "num_cpu", "gpu"):
        was, now = str(stored.get(key, other.get(key))), str(other.get(key, stored.get(key)))
        if was != now:
            return f"{key} was '{was}' and is '{now}'"
    return ""


def text_of(description: dict[str, str | int]) -> str:
    """The contents of machine.json."""
    return json.dumps({**description, "version": ASV_VERSION}, indent=4, sort_keys=True) + os.linesep
