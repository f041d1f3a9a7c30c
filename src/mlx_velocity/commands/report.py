"""`mlx-velocity report`: what is stored of a commit, as a document that can be sent to somebody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from mlx_velocity import archive, history, machine, readings, reporting, results, run_report, tracks
from mlx_velocity import cases as case_list
from mlx_velocity.commands import show as stored_results
from mlx_velocity.errors import InputError
from mlx_velocity.report import run as written


@dataclass(frozen=True)
class ReportOptions:
    """What `report` was asked for."""

    commit: str | None
    """None for the newest that is measured."""
    since: str | None
    """None for the one measured before it."""
    machines: list[str]
    """Empty for this machine, or the only one with results."""
    bench: str | None


def report(track: tracks.Track, options: ReportOptions) -> run_report.RunReport:
    """The report of a commit; raises InputError where a commit, a machine or its results do not exist."""
    repo_path = str(tracks.open_repo(track)._path)
    names: list[str | None] = list(dict.fromkeys(options.machines)) or [None]
    folders = [stored_results.machine_folder(track, name) for name in names]
    benchmarks = case_list.load(track)
    listed = case_list.every(benchmarks.values(), options.bench, float(track.conf.default_benchmark_timeout))
    if not listed:
        raise InputError(f"no benchmark matches '{options.bench}'", "see them with: mlx-velocity run --list")
    measured = {folder: _measured(track, repo_path, folder) for folder in folders}
    name = options.commit or _newest(measured)
    sources = []
    for folder in folders:
        commit, stored = stored_results.open_commit(track, repo_path, name, folder, benchmarks)
        base_name = options.since or _before(commit.hash, measured[folder])
        base: tuple[history.Commit, results.CommitResults] | None = None
        reason = "No earlier commit is measured on this machine"
        if base_name is not None:
            try:
                base = stored_results.open_commit(track, repo_path, base_name, folder, benchmarks)
            except InputError as error:
                history.one(
                    repo_path, base_name
                )  # What exists and was not measured is a reason, not an error.
                reason = f"Nothing is compared: {error.message}"
        description = {key: str(value) for key, value in (machine.load(folder) or {}).items()}
        sources.append(
            reporting.Source(
                folder.name,
                description,
                stored,
                base[1] if base else None,
                _commit(base[0]) if base else None,
                reason,
            )
        )
    suite = reporting.Suite(listed, benchmarks, case_list.profiles_of)
    return reporting.report(track.name, _commit(commit), sources, suite)


def show(done: run_report.RunReport, markdown_to: str | None, json_to: str | None, console: Console) -> None:
    """Print the report, and write the files that were asked for; raises InputError where that fails."""
    for target, write in ((markdown_to, written.markdown), (json_to, written.document)):
        if target == "-":
            print(write(done), end="")
        elif target:
            readings.replace(Path(target).resolve(), write(done))
    if markdown_to or json_to:
        return
    if console.is_terminal:
        console.print(Markdown(written.markdown(done)))
    else:
        print(written.markdown(done), end="")


def _measured(track: tracks.Track, repo_path: str, folder: Path) -> list[str]:
    """The commits that a machine has results of, newest first."""
    known = archive.measured_commits(folder)
    try:
        on_branches = [
            item.hash for item in history.select(repo_path, "EXISTING", track.conf.branches, known)
        ]
    except InputError:
        on_branches = []
    others = history.known_commits(repo_path, known - set(on_branches))
    # What is on no branch was measured by name: it is newest only where nothing else is.
    return on_branches + history.newest_first(repo_path, others)


def _newest(measured: dict[Path, list[str]]) -> str:
    """The newest commit that every machine has; raises InputError where there is none."""
    first, *rest = measured.values()
    for commit in first:
        if all(commit in other for other in rest):
            return commit
    names = ", ".join(folder.name for folder in measured)
    if not rest:
        raise InputError(
            f"{names} has no results of a commit that the repository has", "measure first: mlx-velocity run"
        )
    raise InputError(
        f"no commit is measured on all of {names}",
        "name a commit, or measure one on each: mlx-velocity run COMMIT",
    )


def _before(commit: str, measured: list[str]) -> str | None:
    """The commit measured before this one, along the history."""
    if commit not in measured:
        return None
    place = measured.index(commit) + 1
    return measured[place] if place < len(measured) else None


def _commit(commit: history.Commit) -> run_report.Commit:
    return run_report.Commit(commit.hash, commit.subject, list(commit.tags), commit.day)
