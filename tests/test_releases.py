"""The release history: the list, the commits made of it, and its update from an index."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import git
import pytest
from gitdb import LooseObjectDB  # type: ignore[import-untyped]

from mlx_velocity import releases
from mlx_velocity.errors import InputError
from mlx_velocity.releases import Release, build, load, steps, update

# The first 142 entries of the committed list. A change here breaks every history that was published.
LISTED = 142
HEAD = "0d8c442b0a2c86c4ce2180bcfd46190405e0ebd8"
TAGS = {
    "mlx-0.2.0": "4bb9f8d47f6b58880f7b6b68b1e25445a67e5fad",
    "mlx-lm-0.0.9": "4bb9f8d47f6b58880f7b6b68b1e25445a67e5fad",
    "mlx-0.25.2": "952627f56d6e63bac808d1a02c57502e588ceba9",
    "mlx-lm-0.31.1": "746ba6dfc5edcfb7838ffc8a2297967beeb54ad8",
}

SHORT = [
    Release("2025-01-01T00:00:00Z", "mlx", "0.25.0"),
    Release("2025-01-02T00:00:00Z", "mlx-lm", "0.24.0"),
    Release("2025-01-03T10:00:00Z", "mlx", "0.25.1"),
    Release("2025-01-04T10:00:00Z", "mlx-lm", "0.24.1"),
]


def tags_of(repository: git.Repo) -> dict[str, str]:
    return {tag.name: tag.commit.hexsha for tag in repository.tags}


def subjects_of(repository: git.Repo) -> list[str]:
    return [str(commit.summary) for commit in repository.iter_commits("main", reverse=True)]


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def written(folder: Path, content: object) -> Path:
    path = folder / "releases.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert error.value.advice
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    return str(error.value)


def index(*extra: Release) -> releases.Fetch:
    """An index that has the short list and some more."""
    return lambda package: [release for release in [*SHORT, *extra] if release.package == package]


# The committed list


def test_published_hashes(tmp_path: Path) -> None:
    """The hashes of the published history are the same on every machine, for ever."""
    repository = build(tmp_path / "history", load()[:LISTED])
    assert repository.head.commit.hexsha == HEAD
    tags = tags_of(repository)
    assert {name: tags[name] for name in TAGS} == TAGS


def test_settings_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's git settings, environment, time zone and umask change no hash."""
    (tmp_path / ".gitconfig").write_text(
        "[user]\n\tname = Somebody\n\temail = somebody@example.invalid\n\tsigningkey = none\n"
        "[commit]\n\tgpgsign = true\n[tag]\n\tgpgsign = true\n[core]\n\tautocrlf = true\n"
        "[init]\n\tdefaultBranch = trunk\n\tdefaultObjectFormat = sha256\n"
        "[i18n]\n\tcommitEncoding = latin-1\n"
    )
    hostile = {
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig"),
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "GIT_AUTHOR_NAME": "Somebody",
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
        "GIT_COMMITTER_EMAIL": "somebody@example.invalid",
        "GIT_DEFAULT_HASH": "sha256",
        "TZ": "Asia/Kathmandu",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        repository = build(tmp_path / "history", load()[:LISTED])
    finally:
        os.umask(before)
    assert repository.head.commit.hexsha == HEAD
    assert repository.active_branch.name == "main"
    assert {name: tags_of(repository)[name] for name in TAGS} == TAGS


def test_committed_list() -> None:
    """The committed list is as `save` writes it, oldest first, and keeps its first entries."""
    listed = load()
    assert listed[0] == Release("2024-02-08T19:33:50Z", "mlx", "0.2.0")
    assert [release.date for release in listed[:LISTED]] == sorted(
        release.date for release in listed[:LISTED]
    )
    assert [release.version for release in listed if release.yanked is not None][:1] == ["0.31.0"]


def test_saved_as_committed(tmp_path: Path) -> None:
    """Saving what was loaded gives the same bytes, so an update's diff is the lines it adds."""
    releases.save(tmp_path / "releases.json", load())
    assert (tmp_path / "releases.json").read_bytes() == releases.DEFAULT.read_bytes()


# Steps


def test_one_package_each() -> None:
    """Each step changes exactly one package, upwards, and says which in subject and tag."""
    history = steps(load())
    for before, after in pairwise(history):
        changed = [package for package in releases.PACKAGES if before.pins[package] != after.pins[package]]
        assert changed == [after.package]
        assert after.previous == before.pins[after.package]
        assert after.version == after.pins[after.package]
        assert after.subject == f"{after.package} {after.previous} → {after.version}"
        assert after.tags == (f"{after.package}-{after.version}",)
        assert after.date >= before.date


def test_first_step() -> None:
    """The history starts once both packages are there, with the newest of each and a tag for each."""
    early = Release("2024-12-31T00:00:00Z", "mlx", "0.24.0")
    first = steps([early, *SHORT])[0]
    assert first.pins == {"mlx": "0.25.0", "mlx-lm": "0.24.0"}
    assert first.subject == "mlx 0.25.0, mlx-lm 0.24.0"
    assert (first.previous, first.date) == (None, "2025-01-02T00:00:00Z")
    assert first.tags == ("mlx-0.25.0", "mlx-lm-0.24.0")
    assert steps(SHORT[:1]) == []


def test_yanked_left_out() -> None:
    """A release that was withdrawn before it was listed is no step."""
    assert [step.version for step in steps([*SHORT[:3], replace(SHORT[3], yanked="")])] == [
        "0.24.0",
        "0.25.1",
    ]


def test_back_port() -> None:
    """A back-port to an older series does not downgrade: it is no step."""
    late = [
        Release("2025-02-01T00:00:00Z", "mlx", "0.9.9"),
        Release("2025-02-02T00:00:00Z", "mlx", "0.25.10"),
        Release("2025-02-03T00:00:00Z", "mlx", "0.25.9"),
    ]
    assert [step.subject for step in steps([*SHORT, *late])][-1] == "mlx 0.25.1 → 0.25.10"


def test_late_entry() -> None:
    """A release that was listed late comes last, and the dates of the commits still do not run backwards."""
    late = Release("2025-01-03T00:00:00Z", "mlx", "0.25.2")
    history = steps([*SHORT, late])
    assert history[:-1] == steps(SHORT)
    assert (history[-1].version, history[-1].date) == ("0.25.2", "2025-01-04T10:00:00Z")


# The repository


def test_sound_repository(tmp_path: Path) -> None:
    """Git itself finds nothing wrong with the repository, and its one file holds the pins."""
    repository = build(tmp_path / "history", SHORT)
    assert repository.bare
    assert repository.git.fsck("--strict", "--full") == ""
    assert subjects_of(repository) == [
        "mlx 0.25.0, mlx-lm 0.24.0",
        "mlx 0.25.0 → 0.25.1",
        "mlx-lm 0.24.0 → 0.24.1",
    ]
    assert sorted(tags_of(repository)) == ["mlx-0.25.0", "mlx-0.25.1", "mlx-lm-0.24.0", "mlx-lm-0.24.1"]
    head = repository.head.commit
    assert (
        head.committed_datetime.isoformat()
        == head.authored_datetime.isoformat()
        == "2025-01-04T10:00:00+00:00"
    )
    assert [entry.name for entry in head.tree.blobs] == ["requirements.txt"]
    assert repository.git.show("main:requirements.txt") == "mlx==0.25.1\nmlx-lm==0.24.1"


def test_append_keeps_hashes(tmp_path: Path) -> None:
    """Appending keeps every earlier hash, tag and file."""
    path = tmp_path / "history"
    before = tags_of(build(path, SHORT[:3]))
    files = {file: when for file, when in files_of(path / "objects").items() if file.is_file()}
    after = tags_of(build(path, SHORT))
    assert before.items() < after.items()
    assert files.items() < files_of(path / "objects").items()
    assert after == tags_of(build(tmp_path / "fresh", SHORT))


def test_nothing_new(tmp_path: Path) -> None:
    """Building again with nothing new touches no file."""
    path = tmp_path / "history"
    build(path, SHORT)
    before = files_of(path)
    build(path, SHORT)
    assert files_of(path) == before


def test_appends_after_packing(tmp_path: Path) -> None:
    """A repository that git has packed in the meantime is appended to all the same."""
    path = tmp_path / "history"
    build(path, SHORT[:3]).git.gc()
    repository = build(path, SHORT)
    assert tags_of(repository) == tags_of(build(tmp_path / "fresh", SHORT))
    assert repository.git.fsck("--strict") == ""


@pytest.mark.parametrize("damage", ["branch", "tag", "head", "refs", "extra"])
def test_rewritten_is_rebuilt(tmp_path: Path, damage: str) -> None:
    """A repository that somebody rewrote is built anew."""
    path = tmp_path / "history"
    repository = build(path, SHORT)
    first = tags_of(repository)["mlx-0.25.0"]
    if damage == "branch":
        (path / "refs/heads/main").write_text(first + "\n")
    elif damage == "tag":
        (path / "refs/tags/mlx-lm-0.24.1").write_text(first + "\n")
    elif damage == "head":
        (path / "HEAD").write_text("ref: refs/heads/other\n")
    elif damage == "refs":
        (path / "packed-refs").write_text("nonsense")
    else:
        build(path, [*SHORT, Release("2025-02-01T00:00:00Z", "mlx", "0.26.0")])
    repository = build(path, SHORT)
    assert repository.active_branch.name == "main"
    assert tags_of(repository) == tags_of(build(tmp_path / "fresh", SHORT))
    assert repository.head.commit.hexsha == tags_of(repository)["mlx-lm-0.24.1"]
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")) == [
        "fresh",
        "history",
    ]


def test_lost_objects_return(tmp_path: Path) -> None:
    """Lost objects are written again."""
    path = tmp_path / "history"
    build(path, SHORT)
    for file in (path / "objects").glob("??/*"):
        file.unlink()
    assert build(path, SHORT).git.fsck("--strict", "--full") == ""


@pytest.mark.parametrize("present", [0, 3])
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: int) -> None:
    """A build that is killed at any write leaves what was there, whole, and the next build completes."""
    path = tmp_path / "history"
    before = tags_of(build(path, SHORT[:present])) if present else None
    store, put = LooseObjectDB.store, os.replace
    left = 0

    def countdown() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    def stored(*arguments: object) -> object:
        countdown()
        return store(*arguments)

    def replaced(*arguments: Path) -> None:
        countdown()
        put(*arguments)

    for allowed in range(100):
        left = allowed
        with monkeypatch.context() as patch:
            patch.setattr(LooseObjectDB, "store", stored)
            patch.setattr(os, "replace", replaced)
            try:
                build(path, SHORT)
                break
            except KeyboardInterrupt:
                pass
        if before is None:
            assert not path.exists()
        else:
            assert tags_of(git.Repo(path)) == before
            assert git.Repo(path).git.fsck("--strict", "--no-dangling") == ""
    assert allowed > 1
    assert tags_of(git.Repo(path)) == tags_of(build(tmp_path / "fresh", SHORT))


def test_interrupted_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild that is killed between its two renames leaves no half, and the next build completes."""
    path = tmp_path / "history"
    build(path, SHORT)
    (path / "HEAD").write_text("ref: refs/heads/other\n")
    rename = Path.rename

    def renamed(source: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        with pytest.raises(KeyboardInterrupt):
            build(path, SHORT)
    assert not path.exists()
    assert build(path, SHORT).git.fsck("--strict", "--full") == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".history.lock", "history"]


def test_other_folders_are_safe(tmp_path: Path) -> None:
    """A folder that holds anything else is never replaced."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    git.Repo.init(tmp_path / "work").close()
    for name in ("mine", "work", "mine/letter.txt"):
        with pytest.raises(InputError) as error:
            build(tmp_path / name, SHORT)
        assert "is not a release history" in one_line(error)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert tags_of(build(tmp_path / "empty", SHORT))


def test_unwritable(tmp_path: Path) -> None:
    """A place that can't be written, or a list without a pair, is one line and no traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        build(tmp_path / "file/history", SHORT)
    assert "can't be written" in one_line(error)
    with pytest.raises(InputError) as error:
        build(tmp_path / "history", SHORT[:1])
    assert "lacks mlx or mlx-lm" in one_line(error)


# The list


ENTRY = {"date": "2025-01-01T00:00:00Z", "package": "mlx", "version": "0.25.0"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("\x00\xff", "is not JSON"),
        ([], "is wrong at $"),
        ({"releases": []}, "'format' is a required property"),
        ({"format": 2, "releases": []}, "has format 2, known is 1"),
        ({"format": "1", "releases": []}, "is wrong at $.format"),
        ({"format": 1, "releases": [{**ENTRY, "package": "numpy"}]}, "is wrong at $.releases[0].package"),
        ({"format": 1, "releases": [{**ENTRY, "version": "0.25.0\nnumpy"}]}, "$.releases[0].version"),
        ({"format": 1, "releases": [{**ENTRY, "version": "0.25.0rc1"}]}, "$.releases[0].version"),
        ({"format": 1, "releases": [{**ENTRY, "date": "2025-01-01"}]}, "$.releases[0].date"),
        ({"format": 1, "releases": [{**ENTRY, "date": "2025-13-01T00:00:00Z"}]}, "wrong date"),
        ({"format": 1, "releases": [{**ENTRY, "yanked": None}]}, "$.releases[0].yanked"),
        ({"format": 1, "releases": [ENTRY, ENTRY]}, "has mlx 0.25.0 twice"),
    ],
)
def test_broken_list(tmp_path: Path, content: object, says: str) -> None:
    """A broken list, or one of an unknown format, is one line that says where and what to do."""
    with pytest.raises(InputError) as error:
        load(written(tmp_path, content))
    assert says in one_line(error)


def test_missing_list(tmp_path: Path) -> None:
    """A missing list is one line that says what to do."""
    with pytest.raises(InputError) as error:
        load(tmp_path / "releases.json")
    assert "can't be read: No such file" in one_line(error)


# The update


def test_update_appends_only(tmp_path: Path) -> None:
    """An update adds lines at the end and leaves every line before them as it was."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.read_text().splitlines()
    new = Release("2025-02-01T00:00:00Z", "mlx-lm", "0.25.0")
    late = Release("2025-01-03T00:00:00Z", "mlx", "0.25.2", "broken")
    older = Release("2024-12-31T00:00:00Z", "mlx", "0.24.9")
    result = update(path, index(new, late, older))
    assert result == releases.Update(added=[late, new], yanked_since=[], gone=[])
    assert load(path) == [*SHORT, late, new]
    after = path.read_text().splitlines()
    assert after[: len(before) - 3] == before[:-3]
    assert after[len(before) - 3] == before[-3] + ","


def test_update_with_nothing_new(tmp_path: Path) -> None:
    """An update with nothing new leaves the file alone."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.stat().st_mtime_ns
    assert update(path, index()) == releases.Update([], [], [])
    assert path.stat().st_mtime_ns == before


def test_update_never_rewrites(tmp_path: Path) -> None:
    """A listed release that was since yanked, changed or removed is reported and stays as it is."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.read_bytes()
    changed = {
        "mlx": [replace(SHORT[0], yanked="slow"), replace(SHORT[2], date="2025-01-09T00:00:00Z")],
        "mlx-lm": [SHORT[1]],
    }
    result = update(path, lambda package: changed[package])
    assert result == releases.Update(
        added=[], yanked_since=[replace(SHORT[0], yanked="slow")], gone=[SHORT[3]]
    )
    assert path.read_bytes() == before


def test_update_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that can't be written leaves the list as it was, and nothing beside it."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError) as error:
        update(path, index(Release("2025-02-01T00:00:00Z", "mlx", "0.26.0")))
    assert "No space left on device" in one_line(error)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# The index


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[str, object]]]:
    """An index on this machine: path → (content type, content)."""
    served: dict[str, tuple[str, object]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = served.get(self.path, ("", ""))
            self.send_response(int(kind) if kind.isdigit() else 200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.end_headers()
            self.wfile.write((content if isinstance(content, str) else json.dumps(content)).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"local=http://127.0.0.1:{server.server_port}/simple")
        yield served
        server.shutdown()
        thread.join()


def simple(package: str, *files: tuple[str, str, object]) -> tuple[str, object]:
    """The JSON page of a package (PEP 691 and 700)."""
    listed = [
        {
            "filename": f"{package.replace('-', '_')}-{version}-{tags}.whl",
            "url": f"{version}.whl",
            "hashes": {},
            "upload-time": date,
            "yanked": yanked,
        }
        for number, (version, date, yanked) in enumerate(files)
        for tags in [f"cp31{number}-none-any"]
    ]
    content = {"meta": {"api-version": "1.1"}, "name": package, "files": listed}
    return "application/vnd.pypi.simple.v1+json", content


def test_index_as_json(pages: dict[str, tuple[str, object]]) -> None:
    """A release has its first file's date in UTC, is yanked where all its files are, and is final."""
    pages["/simple/mlx/"] = simple(
        "mlx",
        ("0.26.0", "2025-03-01T12:00:05.900000Z", False),
        ("0.26.0", "2025-03-01T11:00:05.900000Z", "old tag"),
        ("0.26.1", "2025-03-02T00:00:00Z", "slow"),
        ("0.26.1", "2025-03-03T00:00:00Z", True),
        ("0.26.2", "2025-03-04T00:00:00Z", True),
        ("0.27.0rc1", "2025-03-05T00:00:00Z", False),
        ("0.27.0.dev1", "2025-03-05T00:00:00Z", False),
    )
    assert releases.fetch_releases("mlx") == [
        Release("2025-03-01T11:00:05Z", "mlx", "0.26.0"),
        Release("2025-03-02T00:00:00Z", "mlx", "0.26.1", "slow"),
        Release("2025-03-04T00:00:00Z", "mlx", "0.26.2", ""),
    ]


def test_index_as_html(pages: dict[str, tuple[str, object]]) -> None:
    """An index that answers in HTML is asked for the dates by the older JSON API beside it."""
    pages["/simple/mlx/"] = (
        "text/html",
        '<a href="mlx-0.26.0-py3-none-any.whl">mlx-0.26.0-py3-none-any.whl</a>',
    )
    with pytest.raises(InputError) as error:
        releases.fetch_releases("mlx")
    assert "names no upload dates for mlx" in one_line(error)
    file = {"upload_time_iso_8601": "2025-03-01T12:00:05.900000Z", "yanked": False, "yanked_reason": None}
    pages["/pypi/mlx/json"] = ("application/json", {"releases": {"0.26.0": [file], "0.26.1": []}})
    assert releases.fetch_releases("mlx") == [Release("2025-03-01T12:00:05Z", "mlx", "0.26.0")]


def test_index_is_no_use(pages: dict[str, tuple[str, object]], tmp_path: Path) -> None:
    """An index without the packages, or one that answers nonsense, is one line; the list stays."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.read_bytes()
    answers = {
        "": "has no list of the releases of mlx",
        "image/png": "has no list of the releases of mlx",
        "application/vnd.pypi.simple.v1+json": "can't be reached",
        "503": "can't be reached: it answered 503 Service Unavailable",
    }
    for kind, says in answers.items():
        pages["/simple/mlx/"] = (kind, "{")
        with pytest.raises(InputError) as error:
            update(path)
        assert says in one_line(error)
    assert path.read_bytes() == before


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """An index out of reach is one line without the address's password, and the list stays."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)
    before = path.read_bytes()
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for address, says in {
        "http://user:secret@127.0.0.1:9/simple": "can't be reached: [Errno",
        "file://user:secret@/simple": "can't be reached: No connection adapters",
        "nonsense": "can't be reached",
    }.items():
        monkeypatch.setenv(variable, address)
        with pytest.raises(InputError) as error:
            update(path)
        assert says in one_line(error)
        assert "--index-url" in error.value.advice
        assert "secret" not in str(error.value)
    assert path.read_bytes() == before


def test_injected_fetch_fails(tmp_path: Path) -> None:
    """Any network error of the fetch in use is reported the same way."""
    path = tmp_path / "releases.json"
    releases.save(path, SHORT)

    def fetch(package: str) -> list[Release]:
        raise TimeoutError("timed out")

    with pytest.raises(InputError) as error:
        update(path, fetch)
    assert str(error.value) == (
        "the package index can't be reached: timed out; check the network or pass --index-url URL"
    )
