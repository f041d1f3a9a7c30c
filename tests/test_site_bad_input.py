"""A store that is not as it should be: the site says what is wrong with it, and shows the rest."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import fixtures_site as made
import pytest

from mlx_velocity import cases, tracks


@pytest.fixture
def track(tmp_path: Path) -> tracks.Track:
    """Five commits on two machines."""
    found = made.make_track(tmp_path)
    made.fill(found, ("box", "other"))
    return found


def page(track: tracks.Track, path: str) -> str:
    """What a page says, without its markup."""
    text = (track.html_dir / "made-up" / path).read_text("utf-8")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def files(track: tracks.Track) -> dict[str, int]:
    """Every file of ours with its inode: who is written anew has another one."""
    root = track.html_dir / "made-up"
    return {
        str(path.relative_to(root)): path.stat().st_ino
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != "asv"
    }


def test_a_machine_without_a_description_is_named(track: tracks.Track) -> None:
    """Results without machine.json are left out, and the page of machines says how many and why."""
    (track.results_dir / "other" / "machine.json").unlink()
    made.built(track)
    text = page(track, "machines.html")
    assert "other/machine.json : it does not exist, so asv and the site leave out 10 files beside it" in text
    assert "5 commits in" in text


def test_a_corrupt_file_among_many_is_named(track: tracks.Track) -> None:
    """A file that can't be read is named with the reason, and the other commits have their pages."""
    broken = track.results_dir / "box" / f"{made.commits_of(track)[2].hexsha[:8]}-{made.ENV_NAME}.json"
    broken.write_text('{"version": 2, "results": ', "utf-8")
    made.built(track)
    text = page(track, "machines.html")
    assert f"box/{broken.name} :" in text
    assert "4 commits in" in text
    assert len(list((track.html_dir / "made-up" / "commits").glob("*.html"))) == 1 + 5


def test_a_lost_commit_is_named(track: tracks.Track) -> None:
    """Results of a commit that the repository no longer has are on no page but named on that of machines."""
    path = track.results_dir / "box" / f"{made.commits_of(track)[2].hexsha[:8]}-{made.ENV_NAME}.json"
    held = json.loads(path.read_text("utf-8"))
    lost = "dead" * 10
    path.with_name(f"{lost[:8]}-{made.ENV_NAME}.json").write_text(
        json.dumps({**held, "commit_hash": lost}), "utf-8"
    )
    made.built(track)
    assert "the repository no longer has commit deaddead" in page(track, "machines.html")
    assert not list((track.html_dir / "made-up").glob("*/dead*"))


def test_a_benchmark_that_is_gone_is_told_apart(track: tracks.Track) -> None:
    """What is stored of a benchmark that no longer exists is shown as such, and not among the models."""
    cases.save(track, made.BENCHMARKS[1:])
    made.built(track)
    data = (track.html_dir / "made-up" / "data" / "track.js").read_text("utf-8")
    assert data.count("(no longer a benchmark)") == 4
    assert "None of the benchmarks" in page(track, "models.html")


def test_what_did_not_change_is_not_written_again(track: tracks.Track) -> None:
    """A second publish takes every file of ours from the first; another result makes only what it is shown on."""
    made.built(track)
    before = files(track)
    made.built(track)
    assert files(track) == before
    commit = made.commits_of(track)[3].hexsha[:12]
    readings = next(track.results_dir.glob(f"box/{commit[:8]}-*.readings.jsonl"))
    readings.write_text(readings.read_text("utf-8") + "no reading\n", "utf-8")
    made.built(track)
    after = files(track)
    assert after.keys() == before.keys()
    changed = {path for path in before if after[path] != before[path]}
    assert {path for path in changed if path.startswith("commits/")} == {f"commits/{commit}.html"}
    assert {path for path in changed if path.startswith("data/")} <= {
        path for path in before if commit in path
    }
    assert "1 line of its readings can't be read" in page(track, f"commits/{commit}.html")
