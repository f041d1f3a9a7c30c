"""What a machine is called and how it is described, with nothing private in it."""

from __future__ import annotations

import getpass
import json
import platform
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asv.machine import Machine, iter_machine_files
from asv.util import load_json
from conftest import one_line

from mlx_velocity import machine
from mlx_velocity.errors import InputError

HOST = "annas-private-laptop"


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Apple silicon Mac, as far as the description asks."""
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(machine, "_output", lambda command: "Apple M4 Pro" if command[0] == "sysctl" else "")


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linux machine with two cores and no GPU."""
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "release", lambda: f"6.8.0-45-generic-{HOST}")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "_output", lambda _: "")


def test_this_machine() -> None:
    """This machine is described in asv's fields, all of them filled, the same at each look."""
    found = machine.describe()
    assert set(found) == {"machine", "os", "arch", "cpu", "num_cpu", "ram", "gpu"}
    assert all(value for key, value in found.items() if key != "gpu")
    assert int(found["ram"]) > 2**28
    assert found == machine.describe()


def test_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the host's own name nor the user's is in the description."""
    # The names of a container may be as plain as `root` or `linux`: give it ones that would be noticed.
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(platform, "version", lambda: f"#1 SMP {HOST}")
    for name in ("HOSTNAME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "anna")
    text = json.dumps(machine.describe())
    assert HOST not in text
    assert "anna" not in text
    assert str(Path.home()) not in text


def test_mac(mac: None) -> None:
    """A Mac is named after its chip, and its GPU is part of that."""
    found = machine.describe()
    assert (found["machine"], found["cpu"], found["gpu"]) == ("apple-m4-pro", "Apple M4 Pro", "")
    assert (found["os"], found["arch"]) == ("macOS 26.1", "arm64")


def test_linux(linux: None) -> None:
    """A Linux machine is named for what it is, and its kernel without the build."""
    found = machine.describe()
    assert (found["machine"], found["num_cpu"]) == ("linux-x86-2core", "2")
    assert (found["os"], found["arch"]) == ("Linux 6.8", "x86_64")


def test_gpu(linux: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an NVIDIA GPU is named after the first one."""
    answer = "NVIDIA H200, 143771 MiB\nNVIDIA H200, 143771 MiB"
    monkeypatch.setattr(machine, "_output", lambda command: answer if command[0] == "nvidia-smi" else "")
    found = machine.describe()
    assert (found["machine"], found["gpu"]) == ("nvidia-h200", "NVIDIA H200, 143771 MiB")


def test_tool_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that is missing, fails or hangs says nothing, and that is no error."""
    answers: list[Any] = [
        FileNotFoundError("nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 20),
        SimpleNamespace(returncode=9, stdout="couldn't communicate with the driver"),
    ]

    def run(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert [machine._gpu() for _ in range(3)] == ["", "", ""]


def test_name() -> None:
    """A machine may be given a name."""
    assert machine.describe("closet-2.m4")["machine"] == "closet-2.m4"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".hidden", "Annas Mac", "x" * 65, "-x", "a\n", "."])
def test_bad_name(name: str) -> None:
    """A name that can't be a folder is one line."""
    with pytest.raises(InputError) as error:
        machine.describe(name)
    assert "can't name a machine" in one_line(error)


def test_stored_as_asv_does(tmp_path: Path) -> None:
    """A stored description is read back by us and by asv."""
    described = machine.describe("toy")
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "machine.json").write_text(machine.text_of(described), "utf-8")
    assert machine.load(folder) == {**described, "version": Machine.api_version}
    (path,) = iter_machine_files(str(tmp_path))
    assert load_json(path, Machine.api_version) == described


def test_not_stored(tmp_path: Path) -> None:
    """A folder without a description has none."""
    assert machine.load(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b"",
        b'{"machine": "box", "version": 1, "num_cpu": NaN}',
        b'{"machine": "box", "version": 1, "num_cpu": 1e999}',
    ],
)
def test_broken_description(content: bytes, tmp_path: Path) -> None:
    """A stored description that can't be read is one line that names it."""
    (tmp_path / "machine.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        machine.load(tmp_path)
    assert "machine.json" in one_line(error)
