"""The mlx-lm track as a user runs it: on a small git repository made of mlx-lm's own source releases."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import git
import pytest
from conftest import MakeTrack
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple

from mlx_velocity import environments, scheduler
from mlx_velocity.workers import LocalWorker, WorkerError

CHECKOUT = Path(__file__).parent.parent
VERSIONS = ("0.18.1", "0.20.6", "0.30.4", "0.32.2")
"""One of each kind: an old huggingface_hub, the first with all that is measured, a release candidate of
transformers, the newest."""
FULL = VERSIONS[1:]
CASES = r"first_token\.FirstToken|prefill\.Prefill\.time_prefill\(tiny-float32, 32"
TIMEOUT_S = 900
pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Project:
    """A repository with a commit for each version and one without code, and a checkout that tracks it."""

    repo: Path
    commits: dict[str, str]
    home: Path

    def __call__(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """What `mlx-velocity WORDS` prints; its exit code is one of `codes`."""
        done = subprocess.run(
            [sys.executable, "-m", "mlx_velocity", *words, "--track", "mlx-lm", "--repo", str(self.repo),
             "--machine", "ci"],
            cwd=self.home, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "COLUMNS": "160"},
        )  # fmt: skip
        assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def readings(self, version: str) -> list[dict[str, Any]]:
        """What is stored of a commit."""
        folder = self.home / "results" / "mlx-lm" / "ci"
        (file,) = folder.glob(f"{self.commits[version][:8]}-*.readings.jsonl")
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture(scope="session")
def sources() -> dict[str, Path]:
    """The unpacked source release of each version, downloaded once for all runs of these tests."""
    kept = CHECKOUT / ".asv" / "sdists"
    wanted = {version: kept / f"mlx_lm-{version}" for version in VERSIONS}
    if missing := [version for version, folder in wanted.items() if not folder.is_dir()]:
        settings = (os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"))
        address = next(filter(None, settings), PYPI_SIMPLE_ENDPOINT)
        kept.mkdir(parents=True, exist_ok=True)
        try:
            with PyPISimple(re.sub(r"^[\w.-]+=(?=\w+://)", "", address)) as index:
                packages = index.get_project_page("mlx-lm", timeout=30).packages
                for package in packages:
                    if package.package_type == "sdist" and package.version in missing:
                        archive = kept / package.filename
                        index.download_package(package, archive)
                        with tarfile.open(archive) as tar:
                            tar.extractall(kept, filter="data")
        except OSError as error:
            pytest.skip(f"the package index can't be reached: {type(error).__name__}")
    return wanted


@pytest.fixture(scope="session")
def project(
    sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, environments_dir: Path
) -> Project:
    """The repository, and a checkout with this project's own configuration of the track."""
    folder = tmp_path_factory.mktemp("mlx-lm")
    author = git.Actor("Somebody", "somebody@example.invalid")
    commits: dict[str, str] = {}
    repo = folder / "repo"
    with git.Repo.init(repo, initial_branch="main") as repository:

        def commit(name: str) -> None:
            repository.git.add("--all", "--force")
            date = f"2026-01-0{len(commits) + 1}T00:00:00"
            made = repository.index.commit(
                name, author=author, committer=author, author_date=date, commit_date=date
            )
            commits[name] = made.hexsha

        for version in VERSIONS:
            for item in repo.iterdir():
                if item.name != ".git":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            shutil.copytree(sources[version], repo, dirs_exist_ok=True)
            commit(version)
        repository.git.checkout("-q", "-b", "without-code")
        shutil.rmtree(repo / "mlx_lm")
        (repo / "mlx_lm").mkdir()
        (repo / "mlx_lm" / "README.md").write_text("Nothing to import.\n", "utf-8")
        commit("without code")
        repository.git.checkout("-q", "main")
    home = folder / "home"
    (home / "tracks").mkdir(parents=True)
    (home / "benchmarks").symlink_to(CHECKOUT / "benchmarks", target_is_directory=True)
    shutil.copy(CHECKOUT / "asv.conf.json", home)
    text = (CHECKOUT / "tracks" / "mlx-lm.asv.conf.json").read_text("utf-8")
    text = text.replace('"../.asv/environments"', json.dumps(str(environments_dir)))
    (home / "tracks" / "mlx-lm.asv.conf.json").write_text(text, "utf-8")
    return Project(repo, commits, home)


@pytest.fixture(scope="session")
def measured(project: Project) -> str:
    """What `run` printed while it measured every version once."""
    return project("run", "ALL", "--launches", "1", "--bench", CASES)


def test_run(project: Project, measured: str) -> None:
    """`run` measures every version beside one mlx, each with its own code and the packages of its time."""
    assert "4 commits" in measured
    eras = {}
    for version in VERSIONS:
        kinds: dict[str, list[dict[str, Any]]] = {}
        for item in project.readings(version):
            kinds.setdefault(item["kind"], []).append(item)
        (launch,) = kinds["launch"]
        assert launch["modules"]["mlx_lm"] == version
        assert launch["modules"]["mlx.core"] == "0.32.4"
        (environment,) = kinds["environment"]
        assert "mlx-lm" not in environment["packages"]
        eras[version] = environment["packages"]["transformers"]
        assert len(kinds["measurement"]) == (2 if version in FULL else 1)
        assert all(item["outcome"] == "skipped" for item in kinds.get("failure", []))
    assert list(eras.values())[:3] == ["4.44.2", "4.57.6", "5.0.0rc1"]
    assert eras["0.32.2"].startswith("5.")


def test_old_versions_say_what_they_lack(project: Project, measured: str) -> None:
    """What a version can't do is missing with a reason that names the version."""
    (failure,) = [item for item in project.readings("0.18.1") if item["kind"] == "failure"]
    assert failure["reason"] == "mlx-lm 0.18.1 has no prompt cache"


def test_run_again(project: Project, measured: str) -> None:
    """What is stored is not measured again."""
    assert "Nothing to measure" in project("run", "ALL", "--launches", "1", "--bench", CASES)


def test_steps(project: Project, measured: str) -> None:
    """A range with steps takes commits from end to end."""
    said = project(
        "run", f"{VERSIONS[0]}..main".replace(VERSIONS[0], project.commits[VERSIONS[0]]), "--steps", "2",
        "--launches", "1", "--bench", CASES,
    )  # fmt: skip
    assert "2 commits" in said


def test_show(project: Project, measured: str) -> None:
    """`show` puts two commits beside each other, by their subjects."""
    said = project("show", project.commits["0.20.6"][:10], project.commits["0.32.2"][:10])
    assert f"{project.commits['0.20.6'][:8]} 0.20.6" in said
    assert "prefill.Prefill.time_prefill" in said


def test_compare(project: Project, measured: str) -> None:
    """`compare` measures two commits in turns; bytes that are equal in both are unchanged."""
    said = project(
        "compare", project.commits["0.30.4"], "main", "--no-control", "--bench",
        r"prefill\.Memory\.track_active_bytes\(tiny-float32", "--max-time", "60s", "--json", "out.json",
        codes=(0, 1, 3),
    )  # fmt: skip
    assert "1 unchanged" in said
    (stored,) = (project.home / "results" / "mlx-lm" / "ci" / "comparisons").glob("*.comparison.jsonl")
    header = json.loads(stored.read_text("utf-8").splitlines()[0])
    assert [project.commits["0.30.4"], project.commits["0.32.2"]] == [
        header[side]["commit"] for side in ("base", "head")
    ]


def test_laying_over_needs_no_install(project: Project, measured: str) -> None:
    """Another commit of the same era gets the environment that is there, with its own tree and nothing else."""
    trees = project.home / ".asv" / "trees" / "mlx-lm"
    for version in VERSIONS:
        assert [path.name for path in (trees / project.commits[version]).iterdir()] == ["mlx_lm"]


def test_an_installed_mlx_lm_never_stands_in(
    project: Project, measured: str, tmp_path: Path, environments_dir: Path
) -> None:
    """A tree that holds no code is refused, although an mlx_lm is installed that would give numbers."""
    track = MakeTrack(tmp_path, str(project.repo), environments_dir)(
        {"overlay": ["mlx_lm"], "modules": ["mlx.core", "mlx_lm"]},
        matrix={"req": {"mlx": ["0.32.4"], "mlx-lm": ["0.32.2"]}},
    )
    for name, refused in (("without code", True), ("0.32.2", False)):
        prepared = environments.prepare(track, str(project.repo), project.commits[name])
        assert "mlx-lm" in prepared.record.packages
        worker = LocalWorker(prepared, {})
        try:
            if refused:
                with pytest.raises(WorkerError, match=r"mlx_lm was imported from .*, not from"):
                    scheduler.open_launch(worker, prepared)
            else:
                scheduler.open_launch(worker, prepared)
        finally:
            worker.close()
