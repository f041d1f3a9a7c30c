"""The release history: releases of mlx and mlx-lm as commits of a git repository built from a list.

The list is append-only and the commits hold nothing of this machine or its user, so every machine
builds the same hashes and results from different machines join into one history.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import git
import jsonschema
from filelock import FileLock
from gitdb import IStream, LooseObjectDB
from packaging.version import InvalidVersion, Version

from mlx_velocity import schemas
from mlx_velocity.errors import InputError

DEFAULT = Path(__file__).with_name("releases.json")
SCHEMA = "releases.schema.json"
FORMAT = 1
PACKAGES = ("mlx", "mlx-lm")

BRANCH = "refs/heads/main"
IDENTITY = "mlx-velocity <releases@mlx-velocity.invalid>"
# `releases` marks the folder as ours: nothing else is ever replaced.
CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[mlxvelocity]\n\treleases = true\n"


@dataclass(frozen=True)
class Release:
    """One release of one package; `yanked` is None, or why it was already withdrawn when listed."""

    date: str
    package: str
    version: str
    yanked: str | None = None


@dataclass(frozen=True)
class Step:
    """One commit of the history: `package` goes from `previous` to `version`, all else stays."""

    date: str
    package: str
    version: str
    previous: str | None
    pins: dict[str, str]
    subject: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """What an index said: releases appended, and listed ones since yanked or gone, which stay listed."""

    added: list[Release]
    yanked_since: list[Release]
    gone: list[Release]


Fetch = Callable[[str], Iterable[Release]]


def load(path: Path = DEFAULT) -> list[Release]:
    """The listed releases in the order they were listed; InputError where the file is missing or wrong."""
    what, advice = f"the release list {path}", "restore it with git checkout, or reinstall mlx-velocity"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what} can't be read: {error.strerror}", advice) from error
    except ValueError as error:
        raise InputError(f"{what} is not JSON: {error}", advice) from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise InputError(f"{what} has format {found}, known is {FORMAT}", "upgrade mlx-velocity")
    wrong = jsonschema.exceptions.best_match(schemas.validator(SCHEMA).iter_errors(content))
    if wrong is not None:
        raise InputError(f"{what} is wrong at {wrong.json_path}: {wrong.message[:100]}", advice)
    releases: dict[tuple[str, str], Release] = {}
    for release in (Release(**entry) for entry in content["releases"]):
        try:
            _seconds(release.date)
        except ValueError as error:
            raise InputError(f"{what} has a wrong date: {release.date}", advice) from error
        if releases.setdefault(_key(release), release) is not release:
            raise InputError(f"{what} has {' '.join(_key(release))} twice", advice)
    return list(releases.values())


def steps(releases: Sequence[Release]) -> list[Step]:
    """The commits: each raises one package to a version higher than any before it."""
    result: list[Step] = []
    pins: dict[str, str] = {}
    date = ""
    for release in releases:  # in the order they were listed
        previous = pins.get(release.package)
        # A back-port to an older series is no step: it would downgrade the one that follows.
        if release.yanked is not None or (previous and Version(release.version) <= Version(previous)):
            continue
        first = not result
        pins = dict(sorted((pins | {release.package: release.version}).items()))
        # A release that was listed late keeps its place at the end, and time never runs backwards.
        date = max(date, release.date)
        if len(pins) < len(PACKAGES):
            continue
        subject = f"{release.package} {previous} → {release.version}"
        tags: tuple[str, ...] = (f"{release.package}-{release.version}",)
        if first:
            previous = None
            subject = ", ".join(f"{package} {version}" for package, version in pins.items())
            tags = tuple(f"{package}-{version}" for package, version in pins.items())
        result.append(Step(date, release.package, release.version, previous, pins, subject, tags))
    return result


def build(path: Path, releases: Sequence[Release]) -> git.Repo:
    """The bare repository of these releases at `path`, made, appended to, or replaced if it differs.

    InputError where `path` holds something else or can't be written, or no step is listed.
    """
    objects, refs = _history(steps(releases))
    path = path.absolute()
    aside, old = (path.with_name(f".{path.name}.{end}") for end in ("new", "old"))
    with _writing(f"the release history {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if path.exists() and not _is_ours(path):
                raise InputError(f"{path} is not a release history", "name another folder, or remove it")
            if _fits(path, objects, refs):
                _write(path, objects, refs)
            if _read_refs(path) != refs:
                for leftover in (aside, old):
                    shutil.rmtree(leftover, ignore_errors=True)
                _write(aside, objects, refs)
                if path.exists():
                    path.rename(old)
                aside.rename(path)
                shutil.rmtree(old, ignore_errors=True)
    return git.Repo(path, expand_vars=False)


def update(path: Path = DEFAULT, fetch: Fetch | None = None) -> Update:
    """Append what the index has and the list lacks; InputError where index or list can't be used.

    A listed entry is never rewritten: hashes that were published would change.
    """
    listed = load(path)
    fetch = fetch or fetch_releases
    try:
        found = {_key(release): release for package in PACKAGES for release in fetch(package)}
    except OSError as error:
        advice = "check the network or pass --index-url URL"
        raise InputError(f"the package index can't be reached: {_reason(error)}", advice) from error
    known = set(map(_key, listed))
    # What is older than the first entry was left out on purpose: the list starts at a pair that works.
    start = listed[0].date if listed else ""
    added = [release for key, release in found.items() if key not in known and release.date >= start]
    added.sort(key=lambda release: (release.date, release.package, Version(release.version)))
    current = [(release, found.get(_key(release))) for release in listed]
    yanked = [now for then, now in current if now and now.yanked is not None and then.yanked is None]
    if added:
        save(path, [*listed, *added])
    return Update(added, yanked, [then for then, now in current if now is None])


def save(path: Path, releases: Sequence[Release]) -> None:
    """Write the list as a whole or not at all; InputError where the folder can't be written."""
    lines = []
    for release in releases:
        entry = {"date": release.date, "package": release.package, "version": release.version}
        if release.yanked is not None:
            entry["yanked"] = release.yanked
        lines.append("    " + json.dumps(entry, ensure_ascii=False))
    # One line for each release: an update's diff is the lines it adds.
    with _writing(f"the release list {path}"):
        _replace(path, f'{{\n  "format": {FORMAT},\n  "releases": [\n' + ",\n".join(lines) + "\n  ]\n}\n")


def fetch_releases(package: str, index_url: str | None = None) -> list[Release]:
    """All final releases of `package` on the index; OSError where it can't be reached, InputError else."""
    # Imported here: it costs 0.2 s and only an update needs it.
    from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple

    settings = map(os.environ.get, ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"))
    address = index_url or next(filter(None, settings), PYPI_SIMPLE_ENDPOINT)
    advice = "pass another --index-url URL"
    try:
        with PyPISimple(re.sub(r"^[\w.-]+=(?=\w+://)", "", address)) as client:  # uv allows NAME=URL
            page = client.get_project_page(package, timeout=30)
            files = [(f.version, f.upload_time, f.is_yanked, f.yanked_reason) for f in page.packages]
            if any(uploaded is None for _, uploaded, _, _ in files):
                # An index that answers in HTML names no dates; the older JSON API beside it does.
                older = f"{client.endpoint.removesuffix('simple/')}pypi/{package}/json"
                answer = client.s.get(older, timeout=30)
                if not answer.ok:
                    raise InputError(f"the package index names no upload dates for {package}", advice)
                listed = [(v, f) for v, group in answer.json()["releases"].items() for f in group]
                date = "upload_time_iso_8601"
                files = [
                    (v, datetime.fromisoformat(f[date]), f["yanked"], f["yanked_reason"]) for v, f in listed
                ]
    except OSError:  # Some of the network's errors are a ValueError too.
        raise
    except (ValueError, KeyError, NoSuchProjectError) as error:
        raise InputError(f"the package index has no list of the releases of {package}", advice) from error
    releases: dict[str, Release] = {}
    # A release is as old as its first file, and withdrawn where every file is.
    for version, uploaded, yanked, reason in files:
        if version and uploaded and _is_final(version):
            date = f"{uploaded.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            this = Release(date, package, version, (reason or "") if yanked else None)
            other = releases.get(version, this)
            why = None if None in (this.yanked, other.yanked) else other.yanked
            releases[version] = Release(min(date, other.date), package, version, why)
    return list(releases.values())


def _history(history: Sequence[Step]) -> tuple[dict[str, tuple[bytes, bytes]], dict[str, str]]:
    """Every object by its hash, in the order they are written, and every ref; nothing asks git's settings."""
    if not history:
        raise InputError("the release list lacks mlx or mlx-lm", "run mlx-velocity releases --update")
    objects: dict[str, tuple[bytes, bytes]] = {}

    def add(kind: bytes, data: bytes) -> str:
        name = hashlib.sha1(b"%s %d\0%s" % (kind, len(data), data), usedforsecurity=False).hexdigest()
        objects[name] = (kind, data)
        return name

    refs = {"HEAD": f"ref: {BRANCH}"}
    parent = ""
    for step in history:
        pins = "".join(f"{package}=={version}\n" for package, version in step.pins.items())
        tree = add(b"tree", b"100644 requirements.txt\0" + bytes.fromhex(add(b"blob", pins.encode())))
        who = f"{IDENTITY} {_seconds(step.date)} +0000"
        head = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{step.subject}\n"
        refs[BRANCH] = add(b"commit", head.encode())
        refs.update({f"refs/tags/{tag}": refs[BRANCH] for tag in step.tags})
        parent = f"parent {refs[BRANCH]}\n"
    return objects, refs


def _write(path: Path, objects: dict[str, tuple[bytes, bytes]], refs: dict[str, str]) -> None:
    """Write what is missing. All refs change in one rename, after all they need is there."""
    for folder in ("objects", "refs/heads", "refs/tags"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    database = LooseObjectDB(str(path / "objects"))
    for name, (kind, data) in objects.items():
        if not database.has_object(bytes.fromhex(name)):
            database.store(IStream(kind, len(data), BytesIO(data)))
    lines = [f"{refs[ref]} {ref}\n" for ref in sorted(refs) if ref != "HEAD"]
    packed = "# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines)
    for file, text in (("config", CONFIG), ("packed-refs", packed), ("HEAD", refs["HEAD"] + "\n")):
        target = path / file
        if not target.exists() or (file != "config" and target.read_text(encoding="utf-8") != text):
            _replace(target, text)


def _read_refs(path: Path) -> dict[str, str]:
    """Every ref of the repository and HEAD; empty where there is none or it can't be read."""
    try:
        repository = git.Repo(path, expand_vars=False)
        names = [str(reference.path) for reference in repository.references]
        refs = {name: git.Reference.dereference_recursive(repository, name) for name in names}
        return refs | {"HEAD": (path / "HEAD").read_text(encoding="utf-8").strip()}
    except (git.GitError, OSError, ValueError):
        return {}


def _fits(path: Path, objects: dict[str, tuple[bytes, bytes]], refs: dict[str, str]) -> bool:
    """Whether what stands at `path` is the beginning of this history, so that appending is enough."""
    present = _read_refs(path)
    tip = present.pop(BRANCH, "")
    return tip in objects and all(refs.get(ref) == name for ref, name in present.items())


def _is_ours(path: Path) -> bool:
    """Whether `path` is an empty folder or holds our mark."""
    if path.is_dir() and not any(path.iterdir()):
        return True
    try:
        return "[mlxvelocity]" in (path / "config").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


@contextmanager
def _writing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{what} can't be written: {reason}", "check the folder and the disk") from error


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_final(version: str) -> bool:
    try:
        return not Version(version).is_prerelease
    except InvalidVersion:
        return False


def _key(release: Release) -> tuple[str, str]:
    return release.package, release.version


def _seconds(date: str) -> int:
    return int(datetime.fromisoformat(date).timestamp())


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words, without credentials that an address may hold."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"it answered {answer.status_code} {answer.reason}"
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    text = re.sub(r"//[^/@\s]*@", "//", str(error) or type(error).__name__)
    return text.rsplit(": ", 1)[-1][:100]
