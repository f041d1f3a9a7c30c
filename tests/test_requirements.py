"""From a commit's pins to what is installed."""

from __future__ import annotations

import json
import sys
from importlib.resources import files

import pytest
from conftest import one_line
from packaging.requirements import Requirement
from packaging.version import Version

from mlx_velocity import requirements
from mlx_velocity.errors import InputError
from mlx_velocity.requirements import backend_here, era_constraints, read_pins, requirement_set


@pytest.mark.parametrize(
    ("pin", "cpu", "cuda"),
    [
        ("mlx==0.25.2", "mlx==0.25.2", "mlx[cuda]==0.25.2"),
        ("mlx==0.26.3", "mlx==0.26.3", "mlx[cuda]==0.26.3"),
        ("mlx==0.26.5", "mlx[cpu]==0.26.5", "mlx[cuda]==0.26.5"),
        ("mlx==0.30.0", "mlx[cpu]==0.30.0", "mlx[cuda]==0.30.0"),
        ("mlx==0.30.1", "mlx[cpu]==0.30.1", "mlx[cuda13]==0.30.1"),
        ("mlx==0.32.4", "mlx[cpu]==0.32.4", "mlx[cuda13]==0.32.4"),
        ("mlx", "mlx[cpu]", "mlx[cuda13]"),
        ("mlx>=0.30", "mlx[cpu]>=0.30", "mlx[cuda13]>=0.30"),
        ("mlx==0.31.*", "mlx[cpu]==0.31.*", "mlx[cuda13]==0.31.*"),
        ("MLX==0.31.2", "mlx[cpu]==0.31.2", "mlx[cuda13]==0.31.2"),
        ("mlx[cpu]==0.31.2", "mlx[cpu]==0.31.2", "mlx[cpu]==0.31.2"),
        ("mlx-lm==0.31.1", "mlx-lm==0.31.1", "mlx-lm==0.31.1"),
        ("mlx-metal==0.31.2", "mlx-metal==0.31.2", "mlx-metal==0.31.2"),
    ],
)
def test_build_of_mlx(pin: str, cpu: str, cuda: str) -> None:
    """Each version of mlx is installed with the backend that is measured, and nothing else is changed."""
    found = [requirement_set([pin], backend).requirements[0] for backend in ("cpu", "cuda", "metal")]
    assert [item.lower() for item in found] == [cpu, cuda, pin.lower()]


@pytest.mark.parametrize(
    "pin", ["mlx==0.31.2; sys_platform == 'linux'", "mlx @ https://example.invalid/mlx.whl"]
)
def test_conditions_are_kept(pin: str) -> None:
    """A pin keeps its condition and its address when it gets a backend."""
    asked = Requirement(pin)
    made = Requirement(requirement_set([pin], "cpu").requirements[0])
    assert (made.marker, made.url, made.specifier) == (asked.marker, asked.url, asked.specifier)
    assert made.extras == {"cpu"}


def test_equal_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the pins makes no other environment."""
    pins = ["mlx==0.31.2", "mlx-lm==0.31.1"]
    assert requirement_set(pins, "cpu") == requirement_set(pins[::-1], "cpu")
    assert requirement_set(pins, "cpu") != requirement_set(pins, "metal")


@pytest.mark.parametrize(
    ("version", "transformers"),
    [
        ("0.0.9", "<5"),
        ("0.29.1", "<5"),
        ("0.30.0", "==5.0.0rc1"),
        ("0.30.4", "==5.0.0rc1"),
        ("0.30.5", "==5.0.0rc3"),
        ("0.30.6", ">=5.0.0"),
        ("99.0", ">=5.0.0"),
    ],
)
@pytest.mark.parametrize("name", ["mlx-lm", "mlx_lm"])
def test_era(name: str, version: str, transformers: str) -> None:
    """Each mlx-lm gets the transformers of its time, however its name is written."""
    constraints = requirement_set([f"{name}=={version}"], "cpu").constraints
    (pinned,) = [line for line in constraints.splitlines() if line.startswith("transformers==")]
    wanted = Requirement(f"transformers{transformers}").specifier
    assert wanted.contains(pinned.removeprefix("transformers=="), prereleases=True)
    assert constraints == era_constraints(Version(version))


@pytest.mark.parametrize(
    ("version", "needs", "transformers"),
    [
        ("0.14.0", "transformers[sentencepiece]>=4.39.3", "4.44.2"),
        ("0.29.2", "transformers>=4.39.3", "4.57.6"),
        ("0.29.2", "transformers==5.0.0rc1", "5.0.0rc1"),
        ("0.30.5", "transformers>=5.0.0", "5.23.0"),
        ("0.30.5", "transformers>=99", "5.0.0rc3"),
    ],
)
def test_era_of_a_commit(version: str, needs: str, transformers: str) -> None:
    """A commit between two releases belongs to the next era when it already needs what comes with it."""
    pins = ["mlx==0.32.4", "transformers"]
    constraints = requirement_set(pins, "cpu", Version(version), [Requirement(needs)]).constraints
    assert f"transformers=={transformers}" in constraints.splitlines()


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("mlx>=0.32.1; platform_system == 'Darwin'", ["mlx>=0.32.1, and 0.31.2 is pinned"]),
        ("MLX>0.31.2", ["MLX>0.31.2, and 0.31.2 is pinned"]),
        ("mlx>=0.31.2", []),
        ("numpy>=3", ["numpy>=3, and 2.4.6 is pinned"]),
        ("somebody>=3", []),
        ("somebody-else>=1", []),
    ],
)
def test_unmet(need: str, said: list[str]) -> None:
    """A need that an exact pin contradicts is said with both; what is not pinned contradicts nothing."""
    chosen = requirement_set(["mlx==0.31.2", "mlx-lm==0.31.2", "somebody"], "cpu")
    assert requirements.unmet([Requirement(need)], chosen) == said


def test_missing() -> None:
    """What a commit needs is installed with it, in the era's version; its own range counts where the era has none."""
    needs = [
        "mlx>=0.30; platform_system == 'Darwin'", "transformers[sentencepiece]>=4.39.3", "NumPy", "numpy>=1",
        "datasets>=2", "pywin32; sys_platform == 'win32'",
    ]  # fmt: skip
    chosen = requirement_set(["mlx==0.32.4"], "cpu")
    wanted = requirements.missing(map(Requirement, needs), chosen)
    assert wanted == ["datasets>=2", "numpy", "transformers[sentencepiece]"]


def test_no_mlx_lm() -> None:
    """Without mlx-lm, or without its version, the newest era counts."""
    newest = era_constraints(Version("99"))
    for pins in ([], ["mlx==0.31.2"], ["mlx-lm"], ["mlx-lm>=0.20"]):
        assert requirement_set(pins, "cpu").constraints == newest


def test_eras() -> None:
    """The eras follow one another from the first version, and every line of theirs is an exact pin."""
    folder = files("mlx_velocity") / "eras"
    eras = json.loads((folder / "eras.json").read_text("utf-8"))["eras"]
    starts = [Version(era["from"]) for era in eras]
    assert starts[0] == Version("0.0.0")
    assert starts == sorted(set(starts))
    for era in eras:
        text = (folder / era["constraints"]).read_text("utf-8")
        for pin in read_pins(text, era["constraints"]):
            assert [item.operator for item in Requirement(pin).specifier] == ["=="]


def test_read_pins() -> None:
    """Comments and empty lines of a requirement file are no pins."""
    assert read_pins("# all\n\nmlx==0.31.2  # newest\n  mlx-lm>=0.20\n", "here") == [
        "mlx==0.31.2",
        "mlx-lm>=0.20",
    ]


@pytest.mark.parametrize("line", ["mlx=0.31", "-r other.txt", "mlx==", "a b", "mlx==0.31 \\"])
def test_broken_pin(line: str) -> None:
    """A line that is no requirement is one line that names it and its file."""
    with pytest.raises(InputError) as error:
        read_pins(f"mlx==0.31.2\n{line}\n", "requirements.txt of c0ffee00")
    assert f"requirements.txt of c0ffee00 holds '{line}'" in one_line(error)


def test_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend is what was chosen, else the best that the machine has; an unknown one is refused."""
    for name in requirements.BACKENDS:
        assert backend_here(name) == name
    with pytest.raises(InputError) as error:
        backend_here("tpu")
    assert "cpu, metal, cuda" in one_line(error)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert backend_here("auto") == "metal"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(requirements.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert backend_here("auto") == "cuda"
    monkeypatch.setattr(requirements.shutil, "which", lambda _: None)
    monkeypatch.setattr(requirements.os.path, "exists", lambda _: False)
    assert backend_here("auto") == "cpu"
