"""uv, who installs and builds: what it printed, or in one line why it failed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

import psutil
from uv import find_uv_bin

from mlx_velocity.errors import EnvironmentFailure, InputError, MeasurementError

INSTALL_TIMEOUT_S = 1800.0
_UNREACHABLE = ("error sending request", "dns error", "failed to fetch", "connection refused", "operation timed out",
                "connect error", "tcp connect", "authentication credentials", "403 forbidden", "network was disabled")  # fmt: skip
_CONTRADICTION = ("no solution found", "no wheels", "has no usable wheels")
_DAMAGED = ("failed to read from zip",)
"""A download that was cut off looks like a package that contradicts itself, and may be whole the next time."""
_FOLDERS = re.compile(r"(?<![\w:/>.])(?:file://|~)?/(?:[^\s/'\"`:]+/)+")


def uv(
    arguments: list[str],
    timeout_s: float = INSTALL_TIMEOUT_S,
    variables: dict[str, str] | None = None,
    *,
    environment: dict[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """Run uv, with `variables` beside our own, and return its standard output.

    `environment` stands in place of our own variables, and `log` keeps all that uv said.
    Raises InputError where uv is missing, EnvironmentFailure with uv's own reason where it fails,
    MeasurementError where the package index is out of reach: another commit would fare no better.
    """
    try:
        command = [find_uv_bin(), *arguments]
    except FileNotFoundError:
        raise InputError("uv is missing", "install it: pip install uv") from None
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", env={**(os.environ if environment is None else environment), **(variables or {})},
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except BaseException as error:
            # What it started, a compiler for instance, would go on and hold our pipes open.
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise EnvironmentFailure(f"uv {arguments[0]} took more than {timeout_s:.0f} s") from None
            raise
    if log is not None:
        log.write_text(f"{output}{errors}", "utf-8")
    if process.returncode == 0:
        return output
    reason = _uv_reason(errors)
    lowered = errors.lower()
    if any(sign in lowered for sign in _UNREACHABLE):
        raise MeasurementError(
            f"the package index can't be reached: {reason}",
            "check the network and UV_DEFAULT_INDEX, then run again: what is measured is kept",
        )
    is_whole = not any(sign in lowered for sign in _DAMAGED)
    raise EnvironmentFailure(
        reason, incompatible=is_whole and any(sign in lowered for sign in _CONTRADICTION)
    )


def _uv_reason(stderr: str) -> str:
    """uv's explanation as one line, without its drawing characters and hints."""
    lines = [re.sub("^(error|cause): ", "", line.strip(" \t×╰─▶│├")) for line in stderr.splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("Using Python", "hint:", "Resolved", "warning:"))
    ]
    text = without_folders(" ".join(kept))
    # A resolver says why at its beginning, a build at its end.
    return (text if len(text) <= 600 else f"{text[:250]} … {text[-350:]}") or "uv failed without a word"


def without_folders(text: str) -> str:
    """The text with files by their names alone: what is stored is published."""
    home = os.path.expanduser("~")
    return _FOLDERS.sub("", text if home == "/" else text.replace(home, "~"))
