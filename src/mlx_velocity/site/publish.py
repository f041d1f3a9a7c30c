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
from asv.benchmarks import Benchmarks
from asv.commands.publish import Publish
from asv.machine import Machine
from asv.results import Results
from asv_tachyon.cli import cmd_install

from mlx_velocity import cases, history, tracks
from mlx_velocity.errors import MeasurementError

_UNREADABLE = (util.UserError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What asv answers to a file that is not what it should be."""


@dataclass(frozen=True)
class Published:
    """What a site was made of."""

    html_dir: Path
    commits: int
    machines: list[str]
    left_out: list[tuple[str, str]]
    """Result files and machines that could not be read, with the reason."""


def publish(track: tracks.Track) -> Published:
    """Build the site of a track and put it in place at once.

    Raises InputError where there are no results, MeasurementError where none could be read.
    """
    benchmarks = cases.load(track)
    repo_path = str(tracks.open_repo(track)._path)
    track.html_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=track.html_dir.parent, prefix=".site-") as aside:
        staged, html = Path(aside) / "results", Path(aside) / "html"
        hashes, left_out = _stage(track.results_dir, staged, benchmarks)
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


def _stage(
    source: Path, target: Path, benchmarks: dict[str, dict[str, Any]]
) -> tuple[set[str], list[tuple[str, str]]]:
    """Link the readable results into `target`: one broken file makes asv refuse them all."""
    target.mkdir()
    hashes: set[str] = set()
    left_out: list[tuple[str, str]] = []
    for machine in sorted(source.glob("*/machine.json")):
        try:
            described = util.load_json(str(machine), api_version=Machine.api_version)
            if not isinstance(described["machine"], str):
                raise ValueError("it names no machine")
        except _UNREADABLE as error:
            left_out.append((f"{machine.parent.name}/machine.json", _reason(error, source)))
            continue
        _link(machine, target / machine.relative_to(source))
        for path in sorted(machine.parent.glob("*.json")):
            if path == machine:
                continue
            try:
                result = Results.load(str(path))
                for key in result.get_all_result_keys():
                    result.get_result_value(key, result.get_result_params(key))
                hashes.add(str(result.commit_hash))
            except _UNREADABLE as error:
                left_out.append((path.name, _reason(error, source)))
                continue
            _link(path, target / path.relative_to(source))
    # asv-tachyon takes more bytes for better unless it is told.
    told = {name: {**benchmark, "less_is_better": True} for name, benchmark in benchmarks.items()}
    text = json.dumps({**told, "version": Benchmarks.api_version})
    (target / "benchmarks.json").write_text(text, "utf-8")
    return hashes, left_out


def _reason(error: Exception, source: Path) -> str:
    """What is wrong with a file, in one line without the folders of this machine."""
    text = " ".join(str(error).split()).replace(f"{source}{os.sep}", "")
    return text[:200] or type(error).__name__


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
