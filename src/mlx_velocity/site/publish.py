"""Build the site: asv's published data, the asv-tachyon interface over it, and each commit's subject."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asv import util
from asv.commands.publish import Publish
from asv.results import Results, iter_results_paths
from asv_tachyon.cli import cmd_install

from mlx_velocity import history, tracks
from mlx_velocity.errors import InputError, MeasurementError


@dataclass(frozen=True)
class Published:
    """What a site was made of."""

    html_dir: Path
    commits: int
    machines: list[str]
    left_out: list[tuple[str, str]]
    """Result files that could not be read, with the reason."""


def publish(track: tracks.Track) -> Published:
    """Build the site of a track and put it in place at once.

    Raises InputError where there are no results, MeasurementError where none could be read.
    """
    if not (track.results_dir / "benchmarks.json").is_file():
        raise InputError(f"track {track.name} has no results yet", "measure some first: mlx-velocity run")
    repo_path = str(tracks.open_repo(track)._path)
    track.html_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=track.html_dir.parent, prefix=".site-") as aside:
        staged, html = Path(aside) / "results", Path(aside) / "html"
        hashes, left_out = _stage(track.results_dir, staged)
        if not hashes:
            raise MeasurementError(
                f"no result of track {track.name} can be read", "measure again: mlx-velocity run"
            )
        known = history.known_commits(repo_path, hashes)
        _publish_asv(track, repo_path, staged, html)
        _install_interface(html)
        (html / "commits.json").write_text(json.dumps(_subjects(known)), "utf-8")
        _put_in_place(html, track.html_dir)
    machines = sorted(path.parent.name for path in track.results_dir.glob("*/machine.json"))
    return Published(track.html_dir, len(known), machines, left_out)


def _stage(source: Path, target: Path) -> tuple[set[str], list[tuple[str, str]]]:
    """Link the readable results into `target`: one broken file makes asv refuse them all."""
    target.mkdir()
    hashes: set[str] = set()
    left_out: list[tuple[str, str]] = []
    for folder, file, _machine in iter_results_paths(str(source)):
        path = Path(folder, file)
        try:
            result = Results.load(str(path))
            for key in result.get_all_result_keys():
                result.get_result_value(key, result.get_result_params(key))
            hashes.add(str(result.commit_hash))
        except (util.UserError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            left_out.append((path.name, " ".join(str(error).split())[:200]))
            continue
        _link(path, target / path.relative_to(source))
    for path in source.glob("*/machine.json"):
        _link(path, target / path.relative_to(source))
    benchmarks: dict[str, Any] = json.loads((source / "benchmarks.json").read_text("utf-8"))
    for benchmark in benchmarks.values():
        if isinstance(benchmark, dict):
            # asv-tachyon takes more bytes for better unless it is told.
            benchmark["less_is_better"] = True
    (target / "benchmarks.json").write_text(json.dumps(benchmarks), "utf-8")
    return hashes, left_out


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(path, target)


def _publish_asv(track: tracks.Track, repo_path: str, staged: Path, html: Path) -> None:
    conf = copy.copy(track.conf)
    conf.results_dir, conf.html_dir = str(staged), str(html)
    conf.repo, conf.dvcs = repo_path, "git"
    try:
        with redirect_stdout(io.StringIO()):
            Publish.run(conf, pull=False)
    except util.UserError as error:
        raise MeasurementError(f"asv could not publish: {error}", "see which result it names") from error


def _install_interface(html: Path) -> None:
    """Replace asv's own pages, whose scripts come from ten other hosts, by asv-tachyon's."""
    for path in html.iterdir():
        if path.is_file() and path.suffix not in (".json", ".xml"):
            path.unlink()
    with redirect_stdout(io.StringIO()):
        cmd_install(html, backup=False)


def _subjects(commits: dict[str, history.Commit]) -> dict[str, str]:
    return {
        commit.hash: f"{commit.subject} ({datetime.fromtimestamp(commit.date_s, UTC):%Y-%m-%d})"
        for commit in commits.values()
    }


def _put_in_place(html: Path, target: Path) -> None:
    old = html.with_name("old")
    if target.exists():
        target.rename(old)
    html.rename(target)
    shutil.rmtree(old, ignore_errors=True)
