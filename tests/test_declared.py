"""What a tree says of itself: read, never run, and silence where it can't be understood."""

from __future__ import annotations

from pathlib import Path

import git
import pytest
from packaging.version import Version

from mlx_velocity import declared

SETUP = """
from setuptools import setup
MIN_MLX_VERSION = "0.32.1"
setup(
    version=__version__,
    install_requires=[
        f"mlx>={MIN_MLX_VERSION}; platform_system == 'Darwin'",
        "numpy",
        "transformers>=5.7.0",
        computed(),
    ],
)
raise SystemExit("nobody runs this")
"""


def read(tmp_path: Path, files: dict[str, str]) -> declared.Declared:
    """What a folder with these files says, of the package `toy`."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return declared.of_folder(tmp_path, ["toy"])


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"toy/_version.py": '# (c)\n__version__ = "0.31.3"\n'}, "0.31.3"),
        ({"toy/version.py": "__version__ = '0.4.0'"}, "0.4.0"),
        ({"toy/__init__.py": '"""Toy."""\n__version__ = "1.0"\n', "setup.py": 'setup(\n    version="2.0",\n)'}, "1.0"),
        ({"setup.py": 'setup(\n    name="toy",\n    version="0.0.12",\n)'}, "0.0.12"),
        ({"pyproject.toml": '[project]\nname = "toy"\nversion = "3.1"\n'}, "3.1"),
        ({"toy/_version.py": '__version__ = "next"', "setup.py": SETUP}, None),
        ({"toy/_version.py": "__version__ = compute()"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_version(files: dict[str, str], version: str | None, tmp_path: Path) -> None:
    """The version stands where projects write it; one that is computed is not known."""
    assert read(tmp_path, files).version == (Version(version) if version else None)


@pytest.mark.parametrize(
    ("files", "needs"),
    [
        ({"setup.py": SETUP}, ['mlx>=0.32.1; platform_system == "Darwin"', "numpy", "transformers>=5.7.0"]),
        ({"requirements.txt": "mlx>=0.1\n# all\ntransformers>=4.37.0 # since phi\n-r more.txt\n"},
         ["mlx>=0.1", "transformers>=4.37.0"]),
        ({"toy/requirements.txt": "numpy\n", "setup.py": "install_requires = requirements"}, ["numpy"]),
        ({"pyproject.toml": '[project]\ndependencies = ["mlx>=0.30"]\n'}, ["mlx>=0.30"]),
        ({"pyproject.toml": "[project\n", "setup.py": "setup(install_requires=["}, []),
        ({"pyproject.toml": 'project = "toy"\n'}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_needs(files: dict[str, str], needs: list[str], tmp_path: Path) -> None:
    """What a project needs is read wherever it is written out; a broken file says nothing."""
    assert [str(need) for need in read(tmp_path, files).needs] == needs


def test_commit(tmp_path: Path) -> None:
    """A commit says what its own tree says, whatever the working tree holds now."""
    with git.Repo.init(tmp_path, initial_branch="main") as repo:
        author = git.Actor("Somebody", "somebody@example.invalid")
        read(tmp_path, {"toy/_version.py": '__version__ = "1.0"', "setup.py": SETUP})
        repo.index.add(["toy/_version.py", "setup.py"])
        commit = repo.index.commit("one", author=author, committer=author).hexsha
    now = read(tmp_path, {"toy/_version.py": '__version__ = "2.0"'})
    then = declared.of_commit(str(tmp_path), commit, ["toy"])
    assert (then.version, now.version) == (Version("1.0"), Version("2.0"))
    assert then.needs == now.needs
