"""What fuzz.py feeds: each stored format with its readers, whole files to begin with, and what must hold of an answer.

A target takes bytes as the contents of a stored file and gives them to every reader of that format. It answers "read" or
"refused"; whatever else a reader raises is a defect, and so is an answer that holds another number than the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fuzz_seeds import brief, profile_seed, regression_seed, release_seed, wheelhouse_seed
from toy_project import Project

from mlx_velocity import (
    bisections,
    cases,
    comparisons,
    machine,
    profiles,
    readings,
    records,
    regressions,
    releases,
    results,
    tracks,
)
from mlx_velocity.commands import history
from mlx_velocity.errors import VelocityError
from mlx_velocity.monitor import recording
from mlx_velocity.offline import manifest
from mlx_velocity.store import asv_results, complete, our_readings
from mlx_velocity.store.files import BROKEN
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.validation import files

RECORDING = "recording.jsonl"
"""What `monitor` wrote, in the project's folder."""

LARGEST = 10**308
"""A whole number beyond it is no float."""

Answer = Literal["read", "refused"]
READ: Answer = "read"
REFUSED: Answer = "refused"


@dataclass(frozen=True)
class Target:
    """A format: contents to begin with, and what reads it."""

    seeds: list[bytes]
    feed: Callable[[bytes], Answer]
    text: bool = True
    """JSON, of which single values can be changed; else bytes."""


class Wrong(AssertionError):
    """A reader took something for right that the file does not say."""


def target(name: str, project: Project, folder: Path) -> Target:
    """A format, begun with what the real program stored of a project; files are written into `folder`."""
    home = project.folder / "results" / "toy"
    box = next(home.glob("*/machine.json")).parent

    def seed(pattern: str) -> bytes:
        return min(path for path in box.glob(pattern) if ".corrupt-" not in path.name).read_bytes()

    def few(pattern: str) -> bytes:
        return brief(seed(pattern))

    stem, inside = project.commits[0][:8], folder / name
    inside.mkdir()
    build: dict[str, Callable[[], Target]] = {
        "readings": lambda: readings_target(few(f"{stem}*{readings.SUFFIX}"), inside),
        "result": lambda: result_target(seed(f"{stem}*.json"), inside, project.commits[0]),
        "machine": lambda: stored(
            inside / "machine.json", seed("machine.json"), lambda path: machine.load(path.parent)
        ),
        "benchmarks": lambda: benchmarks_target(project, inside),
        "configuration": lambda: configuration_target(project, inside),
        "releases": lambda: stored(inside / "releases.json", release_seed(inside), releases.load),
        "comparison": lambda: stored(
            inside / f"x{comparisons.SUFFIX}", few(f"comparisons/*{comparisons.SUFFIX}"), comparisons.read
        ),
        "bisection": lambda: stored(
            inside / f"x{bisections.SUFFIX}", few(f"bisections/*{bisections.SUFFIX}"), bisections.read
        ),
        "profile": lambda: stored(inside / f"x{profiles.SUFFIX}", profile_seed(), profiles.read),
        "regressions": lambda: stored(
            inside / regressions.NAME, regression_seed(project), lambda path: regressions.read(path.parent)
        ),
        "wheelhouse": lambda: stored(
            inside / manifest.NAME, wheelhouse_seed(), lambda path: manifest.read(path.parent)
        ),
        "recording": lambda: stored(
            inside / "x.jsonl", brief((project.folder / RECORDING).read_bytes()), recording.read
        ),
        "index": lambda: index_target(project),
        "told": lambda: told_target(project),
        "notes": lambda: notes_target(inside),
    }
    return build[name]()


def refuses(read: Callable[[], Any]) -> Any:
    """What a reader answers, or None where it says in its own words why not."""
    try:
        return read()
    except VelocityError as error:
        if not error.message.strip() or not error.advice.strip():
            raise Wrong("refused without saying why or what to do") from error
        return None


def checked(path: Path) -> files.Stored:
    """`validate` of a file: it never raises, and says what is wrong in words."""
    stored = files.check(path, path.name)
    if not all(item.reason and item.advice for item in stored.problems):
        raise Wrong("a problem without a reason or advice")
    return stored


def numbers_of(value: Any) -> Iterator[float]:
    """All numbers in what a reader answered."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_of(item)
    elif isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    ):
        yield float(value)


def all_in(answer: Any, data: bytes, derived: tuple[float, ...] = ()) -> None:
    """Every number of an answer is finite and stands in the file, or is a default; else Wrong."""
    said: set[float] = {0, 1, *derived}
    for line in (data, *data.split(b"\n")):
        try:
            said.update(numbers_of(json.loads(line.decode("utf-8", "replace"))))
        except (ValueError, RecursionError):
            continue
    for number in numbers_of(answer):
        if not math.isfinite(number):
            raise Wrong(f"{number} taken for a number")
        if number not in said:
            raise Wrong(f"{number} does not stand in the file")


def stored(path: Path, seed: bytes, read: Callable[[Path], Any]) -> Target:
    """A format that one reader reads."""

    def feed(data: bytes) -> Answer:
        path.write_bytes(data)
        checked(path)
        answer = refuses(lambda: read(path))
        all_in(answer, data)
        nothing = answer is None or (isinstance(answer, tuple) and not answer[0])
        return REFUSED if nothing else READ

    return Target([seed], feed)


def readings_target(seed: bytes, folder: Path) -> Target:
    """Our readings: the reader of `run` and the index's agree with each other and with the file."""
    path = folder / f"readings{readings.SUFFIX}"

    def feed(data: bytes) -> Answer:
        path.write_bytes(data)
        checked(path)
        held = refuses(lambda: readings.read(path))
        keys: dict[Any, int] = {}
        try:
            head, columns = our_readings.read(data, keys)
        except readings.NewerFormat:
            if held is not None:
                raise Wrong("only the index takes it for a newer format") from None
            return REFUSED
        if held is None:
            return REFUSED
        good, bad = held
        all_in(good, data)
        if len(good) + len(bad) != sum(
            bool(line.strip()) for line in data.decode("utf-8", "replace").split("\n")
        ):
            raise Wrong("a line is neither read nor named")
        medians = sorted(columns["median"].tolist())
        # A last line without an end is being written: the index leaves it for the next time.
        for item in filter(None, map(reading_of, data.split(b"\n")[:-1])):
            if isinstance(item, records.Measurement) and statistics.median(item.samples) not in medians:
                raise Wrong("the index has another median")
        if len(medians) + head["bad_lines"] > len([line for line in data.split(b"\n")[:-1] if line.strip()]):
            raise Wrong("the index counts a line twice")
        return READ if good else REFUSED

    return Target([seed], feed)


def reading_of(line: bytes) -> records.Reading | None:
    """What the reader of `run` makes of a line; None where it takes none."""
    try:
        return readings.parse(line.decode("utf-8"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def result_target(seed: bytes, folder: Path, commit: str) -> Target:
    """asv's result: opened by `run`, which sets it aside by name where it is broken, and by the index."""
    held = json.loads(seed)
    environment, params = held["env_name"], held["params"]
    # A result lies in the folder of its machine.
    home = folder / params["machine"]
    home.mkdir()

    def opened() -> results.CommitResults:
        return results.CommitResults(home, params, {}, commit, 0, environment, "3.11", read_only=True)

    path = opened().path

    def feed(data: bytes) -> Answer:
        path.write_bytes(data)
        problems = checked(path).problems
        aside = opened().set_aside
        if any(not item.reason for item in aside):
            raise Wrong("set aside without a reason")
        try:
            _, columns = asv_results.read(data, {}, {})
        except BROKEN:
            if not problems:
                raise Wrong("the index can't read what validate finds right") from None
            return REFUSED
        values = [number for number in columns["value"].tolist() if not math.isnan(number)]
        all_in(values, data)
        return REFUSED if aside else READ

    return Target([seed], feed)


def benchmarks_target(project: Project, folder: Path) -> Target:
    """The descriptions of benchmarks, as a track has them."""
    track = tracks.load(project.folder / "asv.conf.json")
    seed = (track.results_dir / "benchmarks.json").read_bytes()
    track.conf.results_dir = str(folder)

    def read(_: Path) -> Any:
        found = cases.load(track)
        return [*cases.every(found.values(), None, 60.0)] and found

    return stored(folder / "benchmarks.json", seed, read)


def configuration_target(project: Project, folder: Path) -> Target:
    """A track's configuration. Names of plugins are left as they are: loading one runs it."""
    path = folder / tracks.CONFIG_NAME
    (folder / "benchmarks").mkdir()

    def feed(data: bytes) -> Answer:
        if b"plugins" in data or b"\\u" in data:
            return REFUSED
        path.write_bytes(data)
        checked(path)
        return REFUSED if refuses(lambda: tracks.load(path)) is None else READ

    return Target([(project.folder / tracks.CONFIG_NAME).read_bytes()], feed)


def index_target(project: Project) -> Target:
    """The index of the site: however it is damaged, the numbers are those of the files."""
    track = tracks.load(project.folder / "asv.conf.json")

    def numbers() -> Any:
        with StoreIndex(track) as index:
            keys = index.keys
            return sorted(
                (item.path, keys[case], value)
                for item, columns in index.columns(index.results())
                for case, value in zip(columns["case"].tolist(), columns["value"].tolist(), strict=True)
            )

    right = numbers()
    path = track.work_dir / "index" / f"{track.name}.sqlite3"
    seed = path.read_bytes()

    def feed(data: bytes) -> Answer:
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(data)
        found = refuses(numbers)
        if found is not None and found != right:
            raise Wrong("a damaged index has other numbers than the files")
        return REFUSED if found is None else READ

    return Target([seed], feed, text=False)


def told_target(project: Project) -> Target:
    """What `history` keeps in the index and beside it: however it is damaged, it tells what the files say."""
    track = tracks.load(project.folder / "asv.conf.json")

    def tell() -> Any:
        return history.tell(track, history.HistoryOptions())

    right = tell()
    index = track.work_dir / "index" / f"{track.name}.sqlite3"
    (columns,) = index.parent.glob("*.columns")
    seeds = {b"i": (index, index.read_bytes()), b"c": (columns, columns.read_bytes())}

    def feed(data: bytes) -> Answer:
        for suffix in ("-wal", "-shm", "-journal"):
            index.with_name(index.name + suffix).unlink(missing_ok=True)
        for path, whole in seeds.values():
            path.write_bytes(whole)
        path, _ = seeds.get(data[:1], seeds[b"c"])
        path.write_bytes(data[1:])
        found = refuses(tell)
        if found is not None and found != right:
            raise Wrong("history tells something else than the files say")
        return REFUSED if found is None else READ

    return Target([mark + whole for mark, (_, whole) in seeds.items()], feed, text=False)


def notes_target(folder: Path) -> Target:
    """The notes of commits that lack nothing."""
    path = folder / "notes.json"

    def feed(data: bytes) -> Answer:
        path.write_bytes(data)
        return READ if complete.read(path) else REFUSED

    seed = {"format": complete.FORMAT, "suites": {"0123456789abcdef": {"a" * 40: "0123456789abcdef"}}}
    return Target([json.dumps(seed).encode()], feed)
