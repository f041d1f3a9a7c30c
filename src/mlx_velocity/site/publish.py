"""Build the site: the order of steps. Each track gets its data and pages, and all of it is put in place at once."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlx_velocity import cases, commit_graph, told, tracks, units
from mlx_velocity.errors import InputError, MeasurementError, VelocityError
from mlx_velocity.site import asv_tree, front, pages, tachyon
from mlx_velocity.site.record import TrackRecord
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.reading import ALONE, get_ready, processes

FORMAT = 1
"""Of site.json. 1: first version."""
ASV_FOLDER = "asv"
"""Below a track's folder: what asv publishes, and asv-tachyon over it. Beside it is room for pages of ours."""
ASIDE = ".site-"
SHOWN = 5
WARM = "mlx_velocity.site.warm"
"""What the processes load that share the work."""
Progress = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and of how much."""


@dataclass(frozen=True)
class PublishedTrack:
    """What the site holds of a track."""

    name: str
    folder: str
    """Below the site."""
    commits: int
    machines: list[str]
    newest: str
    backends: frozenset[str]
    left_out: list[tuple[str, str]]
    """Files and machines that could not be read, with the reason."""
    notes: list[str]
    """What else is not shown, in a sentence each."""
    graphs: int
    made: int
    """Graphs that had to be made; the others did not change."""
    changes: dict[str, int] = field(default_factory=dict)
    """State → how many changes of the present cases are in it."""


@dataclass(frozen=True)
class Published:
    """What a site was made of."""

    html_dir: Path
    tracks: list[PublishedTrack] = field(default_factory=list)
    failed: list[tuple[str, VelocityError]] = field(default_factory=list)
    """Tracks that could not be published, with the reason."""


def publish(wanted: Sequence[tracks.Track], html_dir: Path, progress: Progress | None = None) -> Published:
    """Build the site of the tracks that have results and put it in place at once; without results it says how to
    get some.

    Raises InputError where another process builds it or `html_dir` is no place for a site, and whatever the first
    track failed with where none could be published: the site that was there stays.
    """
    home = wanted[0]
    html_dir = html_dir.resolve()  # a link stays one
    _check_place(html_dir)
    html_dir.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system, so that what is made there need only be renamed.
    beside = html_dir if html_dir.is_mount() else html_dir.parent
    with _alone(home.work_dir, html_dir):
        for left in beside.glob(f"{ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)  # of a publish that was killed
        with tempfile.TemporaryDirectory(dir=beside, prefix=ASIDE, ignore_cleanup_errors=True) as aside:
            html = Path(aside) / "html"
            html.mkdir(mode=0o755)
            done = Published(html_dir)
            with processes(warm=WARM) as pool:
                if any(_is_large(track) for track in wanted):
                    get_ready()
                for track in filter(has_results, wanted):
                    try:
                        done.tracks.append(_track(track, html, html_dir, pool, progress))
                    except VelocityError as error:
                        done.failed.append((track.name, error))
            # Only now: what was begun of a track that failed was still being made.
            for name, _ in done.failed:
                shutil.rmtree(html / folder_of(name), ignore_errors=True)
            if done.failed and not done.tracks:
                raise done.failed[0][1]
            _front(html, done.tracks)
            _put_in_place(html, html_dir)
    return done


def has_results(track: tracks.Track) -> bool:
    """Whether anything was measured in a track."""
    return next(iter(track.results_dir.glob("*/*.json")), None) is not None


def _is_large(track: tracks.Track) -> bool:
    """Whether the processes will surely have something to do, if anything changed."""
    return sum(1 for _ in itertools.islice(track.results_dir.glob("*/*.json"), ALONE)) == ALONE


def _track(
    track: tracks.Track, html: Path, before: Path, pool: Executor, progress: Progress | None
) -> PublishedTrack:
    def tell(what: str) -> Callable[[int, int], None]:
        return lambda done, of: progress(f"{track.name}: {what}", done, of) if progress else None

    folder = folder_of(track.name)
    with StoreIndex(track, pool, tell("reading results")) as index:
        if not index.results():
            reason = f", the first: {index.problems[0][0]}: {index.problems[0][1]}" if index.problems else ""
            raise MeasurementError(
                f"no result of track {track.name} can be read{reason}", "measure again: mlx-velocity run"
            )
        benchmarks = cases.load(track)
        repo = tracks.open_repo(track)
        graph = commit_graph.read(str(repo._path))
        place, last = html / folder / ASV_FOLDER, before / folder / ASV_FOLDER
        begun = asv_tree.begin(track, repo, graph, index, benchmarks, place, last)
        branch = repo.get_branch_name(track.conf.branches[0])
        line = told.line_of(graph, repo.get_hash_from_name(branch))
        history = told.history(track, line, branch, graph, index, benchmarks, pool, tell("finding changes"))
        # Now: whoever hands something to processes that are still loading waits for them.
        asv_tree.start(begun, pool)
        record = TrackRecord(track, graph, line, index, benchmarks, history)
        pages.build(record, html / folder, before / folder, pool)
        tree = asv_tree.finish(begun, tell("making graphs"))
        tachyon.install(place, "../index.html")
        measured = {item.commit for item in index.results()}
        newest = next(
            (graph.commits[commit] for commit in reversed(graph.commits) if commit in measured), None
        )
        backends = {str(item.head["params"].get("backend", "")) for item in index.results()}
        changes: Counter[str] = Counter(shift.state for _, shift in history.shifts())
        return PublishedTrack(
            track.name, folder, tree.commits, index.measured_machines(),
            newest.subject if newest else "", frozenset(backends), index.problems, _notes(index, tree),
            tree.graphs, tree.made, dict(changes),
        )  # fmt: skip


def folder_of(track: str) -> str:
    """The folder of a track below the site, by its name; it is not called as what all tracks share."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", track).strip("-") or "track"
    return f"{name}-track" if name == front.FOLDER else name


def _notes(index: StoreIndex, tree: asv_tree.Tree) -> list[str]:
    notes = []
    if tree.lost:
        notes.append(f"{units.count(tree.lost, 'result')} of commits that the repository no longer has")
    if tree.off_branch:
        notes.append(f"{units.count(tree.off_branch, 'result')} of commits that are on no tracked branch")
    if tree.gone:
        more = f" and {len(tree.gone) - SHOWN} more" if len(tree.gone) > SHOWN else ""
        notes.append(
            f"{units.count(len(tree.gone), 'benchmark')} that no longer exist as measured: "
            f"{', '.join(tree.gone[:SHOWN])}{more}"
        )
    if strange := sum(item.head.get("strange", 0) for item in index.results()):
        notes.append(f"{units.count(strange, 'value')} that are no numbers")
    if lines := sum(item.bad_lines for item in index.readings()):
        notes.append(
            f"{units.count(lines, 'line')} of readings that can't be read; see: mlx-velocity validate"
        )
    return notes


def _front(html: Path, done: Sequence[PublishedTrack]) -> None:
    listed = [
        front.Listed(
            item.name, item.folder, item.commits, item.machines, item.newest, item.backends, item.changes
        )
        for item in done
    ]
    front.write(html, listed)
    held: dict[str, Any] = {
        "format": FORMAT,
        "tracks": [
            {"name": item.name, "folder": item.folder, "commits": item.commits, "machines": item.machines}
            for item in done
        ],
    }
    (html / "site.json").write_text(json.dumps(held), "utf-8")


def _check_place(html_dir: Path) -> None:
    """The folder is replaced as a whole, so it must not hold anything but a site."""
    if html_dir.exists() and not html_dir.is_dir():
        raise InputError(f"{html_dir} is no folder", "set html_dir to a folder for the site alone")
    for name in (".git", tracks.CONFIG_NAME, tracks.TRACKS_FOLDER):
        if (html_dir / name).exists():
            raise InputError(
                f"{html_dir} holds {name}: it would be replaced by the site",
                "set html_dir to a folder of its own",
            )


@contextmanager
def _alone(work_dir: Path, html_dir: Path) -> Iterator[None]:
    path = work_dir / "locks" / f"site-{html_dir.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_suffix(".owner")
    guard = FileLock(path, timeout=0)
    try:
        guard.acquire()
    except Timeout:
        who = owner.read_text("utf-8").strip() if owner.exists() else "another process"
        raise InputError(f"the site is being built by {who}", "wait for it to end, or end it") from None
    try:
        owner.write_text(f"process {os.getpid()} since {units.moment(time.time())}", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        guard.release()


def _put_in_place(html: Path, target: Path) -> None:
    """Put a built site in place of the one that is there: at once, or part by part into a mount point, which can't be
    renamed. What was there is put back where that fails."""
    old = html.with_name("old")
    if target.is_mount():
        old.mkdir()
        moves = [(path, old / path.name) for path in target.iterdir() if path != html.parent]
        moves += [(path, target / path.name) for path in html.iterdir()]
    else:
        moves = [(target, old)] if target.exists() else []
        moves.append((html, target))
    done: list[tuple[Path, Path]] = []
    try:
        for source, place in moves:
            source.rename(place)
            done.append((source, place))
    except OSError:
        for source, place in reversed(done):
            place.rename(source)
        raise
