"""A package index that fails: a reason for the commit where it is the commit's, and another try where it is the index's."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import git
import pytest
from conftest import MakeTrack, Toy, one_line

from mlx_velocity.environments import prepare
from mlx_velocity.errors import EnvironmentFailure, MeasurementError

NAME = "velocity_fixture"
PATIENCE_S, HELD_S = 4, 9.0
"""How long uv waits for an answer, and how long it would have to: the usual index, which is asked as well, is faster."""


def wheel() -> bytes:
    """A package of one module, as a wheel."""
    info = f"{NAME}-1.0.dist-info"
    files = {
        f"{NAME}.py": "VALUE = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made.getvalue()


class Index:
    """An index with one package beside the usual one, which goes wrong in a way that a test chooses."""

    def __init__(self) -> None:
        self.wheel = wheel()
        self.digest = hashlib.sha256(self.wheel).hexdigest()
        self.tag, self.yanked, self.sent, self.held_s = "py3-none-any", "", len(self.wheel), 0.0
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def do_HEAD(self) -> None:
                self.send_error(405)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/simple"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """The list of the package's files, or the file."""
        self.asked.append(asked.path)
        name = f"{NAME}-1.0-{self.tag}.whl"
        if asked.path == f"/files/{name}":
            time.sleep(self.held_s)
            body, kind, size = self.wheel[: self.sent], "application/octet-stream", len(self.wheel)
        elif asked.path.rstrip("/") == f"/simple/{NAME.replace('_', '-')}":
            yanked = f' data-yanked="{self.yanked}"' if self.yanked else ""
            page = f'<!DOCTYPE html><html><body><a href="/files/{name}#sha256={self.digest}"{yanked}>{name}</a></body></html>'
            body, kind, size = page.encode(), "text/html", len(page)
        else:
            asked.send_error(404)
            return
        asked.send_response(200)
        asked.send_header("Content-Type", kind)
        asked.send_header("Content-Length", str(size))
        asked.end_headers()
        asked.wfile.write(body)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    """That index, asked first, with nothing of its package in the cache."""
    made = Index()
    monkeypatch.setenv("UV_INDEX", made.address)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    yield made
    made.server.shutdown()
    made.server.server_close()


class Needing:
    """A commit that needs that package."""

    def __init__(self, toy_track: MakeTrack, toy: Toy, folder: Path) -> None:
        self.repo = str(folder / "repo")
        with git.Repo.clone_from(toy.path, self.repo) as repo:
            Path(self.repo, "requirements.txt").write_text(f"{NAME}==1.0\n", "utf-8")
            repo.index.add(["requirements.txt"])
            author = git.Actor("Somebody", "somebody@example.invalid")
            self.commit = repo.index.commit("Need it", author=author, committer=author).hexsha
        self.environments = folder / "environments"
        self.track = MakeTrack(folder, toy_track.repo, self.environments)(
            {"requirements": "requirements.txt", "overlay": []}
        )

    def prepare(self) -> dict[str, str]:
        """The packages of the commit's environment."""
        return prepare(self.track, self.repo, self.commit).record.packages

    def left(self) -> list[str]:
        """What lies among the environments beside locks."""
        return [path.name for path in self.environments.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def needing(toy_track: MakeTrack, toy: Toy, tmp_path: Path) -> Needing:
    return Needing(toy_track, toy, tmp_path)


pytestmark = pytest.mark.network


def test_a_download_that_is_cut_off(index: Index, needing: Needing) -> None:
    """A wheel that ends in the middle is a failure of that commit which is tried again, and not its incompatibility."""
    index.sent = 100
    with pytest.raises(EnvironmentFailure) as error:
        needing.prepare()
    assert not error.value.incompatible
    assert "\n" not in str(error.value)
    assert needing.left() == []
    index.sent = len(index.wheel)
    assert needing.prepare()[NAME.replace("_", "-")] == "1.0"


def test_a_download_that_does_not_come(
    index: Index, needing: Needing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that does not answer in time is asked again a few times, and blames no commit."""
    monkeypatch.setenv("UV_HTTP_TIMEOUT", str(PATIENCE_S))
    monkeypatch.setenv("UV_HTTP_RETRIES", "1")
    index.held_s = HELD_S
    with pytest.raises(MeasurementError) as error:
        needing.prepare()
    assert not isinstance(error.value, EnvironmentFailure)
    assert one_line(error)
    assert needing.left() == []
    assert 2 <= sum(path.endswith(".whl") for path in index.asked) <= 8
    index.held_s = 0.0
    assert needing.prepare()[NAME.replace("_", "-")] == "1.0"


def test_a_wheel_that_is_another(index: Index, needing: Needing) -> None:
    """A wheel that is not what the index says is refused: the commit has failed, with the reason, and may be tried again."""
    index.digest = "0" * 64
    with pytest.raises(EnvironmentFailure) as error:
        needing.prepare()
    assert "hash mismatch" in str(error.value).lower()
    assert not error.value.incompatible
    assert needing.left() == []


def test_a_release_that_was_taken_back(index: Index, needing: Needing) -> None:
    """A commit that pins a yanked release still gets it: what it was is what is measured."""
    index.yanked = "broken"
    assert needing.prepare()[NAME.replace("_", "-")] == "1.0"


def test_no_wheel_for_this_machine(index: Index, needing: Needing) -> None:
    """A release without a wheel for this machine makes the commit incompatible, with the reason."""
    index.tag = "cp311-cp311-win_amd64"
    with pytest.raises(EnvironmentFailure) as error:
        needing.prepare()
    assert error.value.incompatible
    assert "wheel" in str(error.value)
    assert "\n" not in str(error.value)
