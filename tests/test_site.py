"""The site: asv's data as stock asv writes it, the interface over it, and a server for this machine alone."""

from __future__ import annotations

import errno
import gzip
import http.client
import itertools
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fixtures_site as made
import pytest
import same_tree
from conftest import one_line

from mlx_velocity import schemas, tracks
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.site import preview, publish, tachyon
from mlx_velocity.site.publish import Published

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of two machines."""
    folder = tmp_path_factory.mktemp("filled")
    made.fill(made.make_track(folder), ("box", "other-box"))
    return folder


@pytest.fixture(scope="module")
def built(filled: Path) -> Published:
    """The site of that folder. Tests that change anything work on a copy."""
    return made.built(tracks.load(filled / "asv.conf.json"))


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> tracks.Track:
    """A track of its own with those results, and no site."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("html"))
    return made.make_track(tmp_path)


def json_of(built: Published, name: str) -> Any:
    return json.loads((made.data_of(built) / name).read_text("utf-8"))


def subjects(built: Published) -> dict[str, str]:
    """What the interface is told of each commit, by hash; the file counts in revisions."""
    hashes = json_of(built, "index.json")["revision_to_hash"]
    return {
        hashes[revision]: said for revision, said in json_of(built, "commits.json")["by_revision"].items()
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def result_files(track: tracks.Track) -> list[Path]:
    return sorted(path for path in track.results_dir.glob("box/*.json") if path.name != "machine.json")


# What a site holds


def test_a_site_has_its_page_and_its_data(built: Published) -> None:
    """A site is a page, its assets, asv's index, graphs and regressions, and the commits' subjects."""
    names = {path.name for path in made.data_of(built).iterdir()}
    assert names >= {
        "index.html", "index.json", "info.json", "regressions.json", "commits.json", "graphs", "assets",
    }  # fmt: skip
    assert built.tracks[0].commits == len(made.SUBJECTS)
    assert built.tracks[0].machines == ["box", "other-box"]
    assert built.tracks[0].left_out == []


def test_the_site_says_what_it_holds(built: Published) -> None:
    """site.json is as its schema says, and names the tracks, their folders and machines."""
    held = json.loads((built.html_dir / "site.json").read_text("utf-8"))
    assert schemas.first_error("site.schema.json", held) == ""
    assert held["tracks"] == [
        {
            "name": "made-up",
            "folder": "made-up",
            "commits": len(made.SUBJECTS),
            "machines": ["box", "other-box"],
        }
    ]
    assert (built.html_dir / "made-up").is_dir()


def test_every_measured_commit_has_its_subject_and_its_date(built: Published, filled: Path) -> None:
    """commits.json says of each commit what it changed and when."""
    said = subjects(built)
    commits = made.commits_of(tracks.load(filled / "asv.conf.json"))
    assert set(said) == {commit.hexsha for commit in commits}
    assert [said[commit.hexsha].rpartition(" ")[0] for commit in commits] == made.SUBJECTS
    assert said[commits[-1].hexsha].endswith("(2025-01-06)")


def test_less_is_better_for_every_benchmark(built: Published, filled: Path) -> None:
    """The interface is told that fewer seconds and fewer bytes are better; the stored description stays asv's."""
    described = json_of(built, "index.json")["benchmarks"]
    assert set(described) == set(made.BY_NAME)
    assert all(item["less_is_better"] is True for item in described.values())
    assert "less_is_better" not in (filled / "results" / "made-up" / "benchmarks.json").read_text("utf-8")


def test_nothing_of_asvs_own_pages_is_left(built: Published) -> None:
    """The only scripts are the interface's: asv's own come from ten other hosts and run tag names."""
    scripts = [path for path in made.data_of(built).rglob("*.js") if path.parent.name != "assets"]
    assert scripts == []
    kinds = {path.suffix for path in made.data_of(built).iterdir() if path.is_file()}
    assert kinds <= {".html", ".json", ".xml", ".svg", ".ico"}
    assert [path.name for path in made.data_of(built).glob("*.html")] == ["index.html"]


def test_the_page_asks_nobody_else_for_anything(built: Published) -> None:
    """The pages and their style sheets name only files of the site, each of which is there."""
    pages = [built.html_dir / "index.html", made.data_of(built) / "index.html"]
    for page in pages:
        addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page.read_text("utf-8"))
        assert addresses
        for address in addresses:
            if address == "data:,":  # no icon, and nobody is asked for one
                continue
            address = address.partition("#")[0] or page.name
            assert (page.parent / address).resolve().is_relative_to(built.html_dir.resolve())
            assert (page.parent / address).is_file()
    for sheet in built.html_dir.rglob("*.css"):
        for address in re.findall(r"""(?:url\(|@import\s*)["']?([^"')]+)""", sheet.read_text("utf-8")):
            assert not re.match(r"(?:https?:)?//", address), f"{sheet.name} asks for {address}"


def test_a_failure_is_a_gap_in_the_graph(built: Published) -> None:
    """A case that failed at one commit has no number there; the others keep theirs."""
    (path,) = made.data_of(built).glob("graphs/**/machine-box/**/prefill.Prefill.time_prefill.json")
    points = json.loads(path.read_text("utf-8"))
    values = dict(points)
    assert len(values) == len(made.SUBJECTS)
    assert values[1][3] is None
    assert values[max(values)][0] == pytest.approx(made.LAST_VALUE_S, rel=0.01)


def stock(cwd: Path, html: Path) -> Path:
    """What stock asv publishes of the results below a folder."""
    done = made.program("publish", "--no-pull", "-o", str(html), cwd=cwd, module="asv")
    assert done.code == 0, done.out + done.err
    return html


def test_the_data_is_what_stock_asv_publishes(built: Published, filled: Path, tmp_path: Path) -> None:
    """Every file says what the one of `asv publish` says; a benchmark's description gains our one key."""
    assert same_tree.differences(made.data_of(built), stock(filled, tmp_path / "stock")) == []


def test_the_committed_history_publishes(tmp_path: Path) -> None:
    """The results in this repository make a site, with a subject for every commit and nothing left out."""
    committed = made.committed_site()
    if committed is None:
        pytest.skip("this checkout has no results of the release history")
    folder, built = committed
    assert built.tracks[0].left_out == []
    index, said = json_of(built, "index.json"), subjects(built)
    assert built.tracks[0].commits == len(said)
    assert set(said) <= set(index["revision_to_hash"].values())
    assert all(re.fullmatch(r"mlx.* (→|mlx-lm) .* \(\d{4}-\d\d-\d\d\)", line) for line in said.values())
    assert same_tree.differences(made.data_of(built), stock(folder, tmp_path / "stock")) == []


def test_the_feed_says_when_a_regression_was_measured(tmp_path: Path) -> None:
    """Where one machine measured, each entry of asv's feed has the time that stock asv gives it."""
    stored = ROOT / "results" / "releases"
    shutil.copytree(stored / "linux-x86-2core", tmp_path / "results" / "linux-x86-2core")
    shutil.copy(stored / "benchmarks.json", tmp_path / "results")
    settings = {"repo": "releases:mlx,mlx-lm", "dvcs": "releases", "results_dir": str(tmp_path / "results")}
    site = made.built(made.make_track(tmp_path, **settings))
    ours, theirs = (
        sorted(re.findall("<updated>(.*?)</updated>", (folder / "regressions.xml").read_text("utf-8")))
        for folder in (made.data_of(site), stock(tmp_path, tmp_path / "stock"))
    )
    assert len(set(ours)) > 3
    assert ours == theirs


# What is broken


BROKEN = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "no JSON": lambda _: "<html>",
    "a list": lambda _: '["version"]',
    "a number": lambda _: "3",
    "of another format": lambda text: text.replace('"version": 2', '"version": 99'),
    "with a column too many": lambda text: text.replace('"profile"]', '"profile", "ours"]').replace(
        '"results": {"', '"results": {"x": [[1],[],"1",1,1,1,1,1,1,1,1,1,1,1], "'
    ),
    "with no values": lambda text: re.sub(
        r'"results": \{.*\}, "durations"', '"results": {"x": 3}, "durations"', text
    ),
    "of no machine": lambda text: re.sub(r'"params": \{', '"params": 3, "was": {', text, count=1),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_result_is_named_and_the_rest_is_published(copy: tracks.Track, what: str) -> None:
    """A result file that can't be read is left out with its reason; every other one is published."""
    path = result_files(copy)[0]
    text = BROKEN[what](path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    built = made.built(copy)
    ((name, reason),) = built.tracks[0].left_out
    assert name == f"box/{path.name}"
    assert reason
    assert "\n" not in reason
    (graph,) = made.data_of(built).glob("graphs/**/machine-box/**/prefill.Prefill.time_prefill.json")
    assert len(json.loads(graph.read_text("utf-8"))) == len(made.SUBJECTS) - 1
    assert path.read_text("utf-8") == text, "publishing changes no result"


def test_a_result_that_is_no_text_is_named(copy: tracks.Track) -> None:
    """Bytes that are no UTF-8 are a broken result like any other."""
    path = result_files(copy)[0]
    path.write_bytes(b"\xff\xfe\x00")
    assert [name for name, _ in made.built(copy).tracks[0].left_out] == [f"box/{path.name}"]


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 99, "machine": "box"}'])
def test_a_machine_that_cannot_be_read_is_named(copy: tracks.Track, text: str) -> None:
    """Where a machine.json is broken, it is named and the other machines are published."""
    (copy.results_dir / "box" / "machine.json").write_text(text, "utf-8")
    built = made.built(copy)
    assert any("machine.json" in name for name, _ in built.tracks[0].left_out)
    assert list(made.data_of(built).glob("graphs/**/machine-other-box/**/prefill.Prefill.time_prefill.json"))


@pytest.mark.parametrize("text", ["{", "[]", "", '{"version": 99}'])
def test_broken_benchmarks_are_wrong_input(copy: tracks.Track, text: str) -> None:
    """A benchmarks.json that can't be read is one line that says what to do."""
    (copy.results_dir / "benchmarks.json").write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        made.built(copy)
    assert "benchmarks.json" in one_line(error)


def test_a_commit_that_the_repository_lost_stops_nothing(copy: tracks.Track) -> None:
    """A result of a commit that no branch has any more is no reason to publish nothing."""
    path = result_files(copy)[0]
    text = path.read_text("utf-8")
    lost = re.sub(r'"commit_hash": "\w+"', f'"commit_hash": "{"ab" * 20}"', text)
    path.with_name(f"abababab-{made.ENV_NAME}.json").write_text(lost, "utf-8")
    built = made.built(copy)
    assert built.tracks[0].commits == len(made.SUBJECTS)
    assert set(subjects(built)) == {commit.hexsha for commit in made.commits_of(copy)}
    assert built.tracks[0].notes == ["1 result of commits that the repository no longer has"]


def test_a_result_that_was_set_aside_is_not_published(copy: tracks.Track) -> None:
    """What was moved out of the way, and what is half written, is not looked at."""
    path = result_files(copy)[0]
    path.rename(path.with_name(f"{path.name}.corrupt-20260101T000000"))
    path.with_name(f".{path.name}.1.new").write_text("{", "utf-8")
    assert made.built(copy).tracks[0].left_out == []


def test_without_results_the_site_says_how_to_get_some(tmp_path: Path) -> None:
    """A suite without results gets a first page that says what to do, and nothing else."""
    track = made.make_track(tmp_path)
    site = made.built(track)
    assert site.tracks == []
    page = (track.html_dir / "index.html").read_text("utf-8")
    assert "There are no results yet" in page
    assert "mlx-velocity run" in page
    assert [path.name for path in track.html_dir.iterdir() if path.is_dir()] == ["assets"]


def test_no_readable_result_builds_no_site(copy: tracks.Track) -> None:
    """Where not one result can be read nothing is published."""
    for path in copy.results_dir.glob("*/*.json"):
        if path.name != "machine.json":
            path.write_text("{", "utf-8")
    with pytest.raises(MeasurementError) as error:
        made.built(copy)
    assert one_line(error)
    assert not copy.html_dir.exists()


# Several tracks


def test_all_tracks_are_in_one_site(copy: tracks.Track) -> None:
    """Each track with results has its folder; one without has none, and is not cloned for it."""
    (copy.root / "tracks").mkdir()
    settings = json.loads((copy.root / "asv.conf.json").read_text("utf-8"))
    for name, repo in (("second", settings["repo"]), ("no-results", "http://127.0.0.1:1/nothing.git")):
        held = settings | {"repo": repo, "results_dir": f"../results/{name}", "benchmark_dir": "../benchmarks",
                           "html_dir": f"../.asv/html-{name}"}  # fmt: skip
        (copy.root / "tracks" / f"{name}.asv.conf.json").write_text(json.dumps(held), "utf-8")
    shutil.copytree(copy.results_dir, copy.results_dir.with_name("second"))
    done = made.program("publish", cwd=copy.root)
    assert (done.code, done.err) == (0, "")
    folders = {path.name for path in copy.html_dir.iterdir() if path.is_dir()}
    assert folders == {"assets", "made-up", "second"}
    page = (copy.html_dir / "index.html").read_text("utf-8")
    assert all(f'href="{name}/index.html"' in page for name in ("made-up", "second"))
    assert "no-results" not in page
    one = made.program("publish", "--track", "second", cwd=copy.root)
    assert one.code == 0, one.err
    assert (copy.root / ".asv" / "html-second" / "second" / "asv" / "index.html").is_file()


def test_a_track_that_cannot_be_published_leaves_the_others(copy: tracks.Track) -> None:
    """Where one track fails the others are published, and the failure is one line."""
    (copy.root / "tracks").mkdir()
    settings = json.loads((copy.root / "asv.conf.json").read_text("utf-8"))
    held = settings | {"results_dir": "../results/second", "benchmark_dir": "../benchmarks"}
    (copy.root / "tracks" / "second.asv.conf.json").write_text(json.dumps(held), "utf-8")
    shutil.copytree(copy.results_dir, copy.results_dir.with_name("second"))
    (copy.results_dir.with_name("second") / "benchmarks.json").write_text("{", "utf-8")
    done = made.program("publish", cwd=copy.root)
    assert (done.code, done.err) == (0, "")
    assert "track second is left out" in done.out
    assert (copy.html_dir / "made-up" / "asv" / "index.html").is_file()


# In place at once


def test_a_second_publish_says_who_is_building(copy: tracks.Track) -> None:
    """While one process builds, another one is told which, and the site is that of the first."""
    made.built(copy)
    with publish._alone(copy.work_dir, copy.html_dir):
        done = made.program("publish", cwd=copy.root)
    assert done.code == 2
    assert "the site is being built by process" in done.err
    assert made.program("publish", cwd=copy.root).code == 0


def test_what_a_killed_publish_left_is_cleared_away(copy: tracks.Track) -> None:
    """Folders that a killed publish left beside the site are gone after the next one."""
    left = copy.html_dir.parent / ".site-left"
    (left / "html").mkdir(parents=True)
    made.built(copy)
    assert not left.exists()


@pytest.mark.parametrize("name", [".git", "asv.conf.json", "tracks"])
def test_a_folder_that_holds_more_than_a_site_is_not_replaced(copy: tracks.Track, name: str) -> None:
    """Where html_dir is a folder of sources, that is wrong input and nothing in it is touched."""
    copy.html_dir.mkdir(parents=True)
    (copy.html_dir / name).touch()
    with pytest.raises(InputError) as error:
        made.built(copy)
    assert name in one_line(error)
    assert [path.name for path in copy.html_dir.iterdir()] == [name]


def test_a_second_site_replaces_the_first(copy: tracks.Track) -> None:
    """A rebuilt site holds nothing of the old one, and nothing is left beside it."""
    made.built(copy)
    (copy.html_dir / "old.txt").write_text("old", "utf-8")
    before = files_of(copy.html_dir)
    again = made.built(copy).tracks[0]
    assert (again.graphs, again.made) == (4, 0)
    after = files_of(copy.html_dir)
    assert before.keys() - after.keys() == {"old.txt"}
    # asv writes the time into both, where the feed has no entry that would have one.
    dated = {"made-up/asv/info.json", "made-up/asv/regressions.xml"}
    assert {name for name in after if before[name] != after[name]} <= dated
    assert [path.name for path in copy.html_dir.parent.iterdir() if path.name.startswith(".site-")] == []


@pytest.mark.parametrize(
    "error", [InputError("no", "do"), OSError(28, "No space left on device"), KeyError("x")]
)
def test_the_old_site_stays_where_building_fails(
    copy: tracks.Track, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """When building fails the site that was there is untouched, and nothing is left beside it."""
    made.built(copy)
    before = files_of(copy.html_dir)

    def fails(html: Path, front: str) -> None:
        (html / "index.html").write_text("half", "utf-8")
        raise error

    monkeypatch.setattr(tachyon, "install", fails)
    with pytest.raises(type(error)):
        made.built(copy)
    assert files_of(copy.html_dir) == before
    assert [path.name for path in copy.html_dir.parent.iterdir() if path.name.startswith(".site-")] == []


def test_a_linked_folder_gets_the_site_and_stays_linked(copy: tracks.Track, tmp_path: Path) -> None:
    """Where html_dir is a link, as to a web server's folder, the site goes where it points and the link stays."""
    (tmp_path / "served").mkdir()
    copy.html_dir.parent.mkdir(parents=True, exist_ok=True)
    copy.html_dir.symlink_to(tmp_path / "served")
    for _ in range(2):
        made.built(copy)
        assert copy.html_dir.is_symlink()
        assert (tmp_path / "served" / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.glob(".site-*")) == []


def test_a_mount_point_gets_the_site(copy: tracks.Track) -> None:
    """A folder that is a file system of its own, as in a container, can't be renamed: its contents are replaced, and
    where that fails in the middle they are put back."""
    copy.html_dir.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(copy.html_dir)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can't be mounted here: only root can")
    try:
        made.built(copy)
        (copy.html_dir / "old.txt").write_text("old", "utf-8")
        before = files_of(copy.html_dir)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Path, "rename", failing_at(4, Path.rename))
            with pytest.raises(OSError, match="No space left"):
                made.built(copy)
        assert files_of(copy.html_dir) == before
        assert made.built(copy).tracks[0].made == 0
        assert before.keys() - files_of(copy.html_dir).keys() == {"old.txt"}
    finally:
        subprocess.run(["umount", str(copy.html_dir)], check=True)


def failing_at(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that fails once as on a full disk, when it is made for the numbered time."""
    made_so_far = itertools.count(1)

    def once(*arguments: Any) -> Any:
        if next(made_so_far) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(*arguments)

    return once


# The server


@contextmanager
def serving(html_dir: Path, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    with preview.server(html_dir, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer(server: ThreadingHTTPServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_server_serves_the_site(built: Published) -> None:
    """The page and its data are served as they are, on a free port for port 0."""
    with serving(built.html_dir) as server:
        assert server.server_port > 0
        for path, file in (
            ("/", "index.html"),
            ("/made-up/asv/", "made-up/asv/index.html"),
            ("/made-up/asv/index.json", "made-up/asv/index.json"),
            ("/site.json", "site.json"),
        ):
            assert answer(server, path) == (200, (built.html_dir / file).read_bytes())


def test_the_server_listens_to_this_machine_alone(built: Published) -> None:
    """It binds 127.0.0.1; another address of the same machine finds nobody."""
    with serving(built.html_dir) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(OSError, match=r".+"):
            socket.create_connection(("127.0.0.2", server.server_port), timeout=2).close()


@pytest.mark.parametrize(
    "path",
    [
        "/made-up/asv/graphs/",
        "/made-up/data",
        "/made-up/data/",
        "/assets/",
        "/made-up/asv/assets/",
        "/../asv.conf.json",
        "/%2e%2e/asv.conf.json",
        "/nothing.json",
    ],
)
def test_the_server_shows_its_pages_and_nothing_else(built: Published, path: str) -> None:
    """No folder is listed, and nothing outside of the site is served."""
    with serving(built.html_dir) as server:
        status, body = answer(server, path)
        assert status in (301, 404)
        if status == 301:
            assert answer(server, f"{path}/")[0] == 404
        assert b"Prefill" not in body
        assert b"environment_type" not in body


def test_the_server_answers_to_its_own_names_alone(built: Published) -> None:
    """A page from elsewhere that points a name of its own to this machine gets nothing."""
    with serving(built.html_dir) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        for host, status in (("evil.example", 421), ("evil.example:80", 421), ("localhost:1", 200)):
            connection.request("GET", "/site.json", headers={"Host": host})
            response = connection.getresponse()
            response.read()
            assert response.status == status
            connection.close()


def test_a_link_out_of_the_site_leads_nowhere(built: Published, tmp_path: Path) -> None:
    """A symbolic link that somebody put into the site is not followed."""
    shutil.copytree(built.html_dir, tmp_path / "site")
    (tmp_path / "secret.json").write_text('{"secret": 1}', "utf-8")
    (tmp_path / "site" / "link.json").symlink_to(tmp_path / "secret.json")
    with serving(tmp_path / "site") as server:
        assert answer(server, "/link.json")[0] == 404


def test_what_is_long_is_sent_compressed(built: Published) -> None:
    """A browser that takes gzip gets the same data in less."""
    with serving(built.html_dir) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", "/made-up/asv/index.json", headers={"Accept-Encoding": "gzip, br"})
        response = connection.getresponse()
        data = response.read()
        connection.close()
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(data) == (made.data_of(built) / "index.json").read_bytes()
    assert len(data) < len(gzip.decompress(data)) / 2


def test_the_server_only_reads(built: Published) -> None:
    """Nothing but GET and HEAD is answered."""
    with serving(built.html_dir) as server:
        assert answer(server, "/", "HEAD") == (200, b"")
        for method in ("POST", "PUT", "DELETE"):
            assert answer(server, "/", method)[0] == 501


def test_the_server_is_silent(built: Published, capfd: pytest.CaptureFixture[str]) -> None:
    """Requests print nothing: the address was printed."""
    with serving(built.html_dir) as server:
        answer(server, "/")
        answer(server, "/nothing.json")
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_wrong_input(built: Published) -> None:
    """A taken port is one line that says which, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as error:
            preview.server(built.html_dir, port)
    assert str(port) in one_line(error)
    assert "--port" in one_line(error)


def test_without_a_site_there_is_nothing_to_preview(tmp_path: Path) -> None:
    """A preview before the first publish says what to do."""
    with pytest.raises(InputError) as error:
        preview.server(tmp_path, 0)
    assert "mlx-velocity publish" in one_line(error)
