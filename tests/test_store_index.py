"""The index of what is stored: each file is read once, and what it says is what the files say."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_store
import numpy as np
import pytest
from asv.results import Results
from conftest import one_line

from mlx_velocity import readings, tracks
from mlx_velocity.errors import InputError
from mlx_velocity.store.index import FORMAT, StoreIndex

STORE = made_up_store.Store(12, 5, machines=2, parametrised=2, readings=True, missing=0.1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up store with readings."""
    folder = tmp_path_factory.mktemp("store")
    made_up_store.write(folder, STORE)
    return folder


@pytest.fixture
def track(whole: Path, tmp_path: Path) -> tracks.Track:
    """A copy of it, without an index."""
    made_up_store.copy(whole, tmp_path / "own")
    return tracks.load(tmp_path / "own" / "asv.conf.json")


def fresh(track: tracks.Track) -> int:
    with StoreIndex(track) as index:
        return index.fresh


def index_path(track: tracks.Track) -> Path:
    return track.work_dir / "index" / "made-up.sqlite3"


def values(index: StoreIndex) -> dict[tuple[str, str, str], float]:
    """(path, benchmark, parameters) → value."""
    return {
        (item.path, index.keys[case][0], index.keys[case][2] or ""): value
        for item, columns in index.columns(index.results())
        for case, value in zip(columns["case"].tolist(), columns["value"].tolist(), strict=True)
    }


def of_asv(track: tracks.Track) -> dict[tuple[str, str, str], Any]:
    """The same by asv's own reader."""
    found = {}
    for path in sorted(track.results_dir.glob("*/*.json")):
        if path.name == "machine.json":
            continue
        held = Results.load(str(path))
        for name in held.get_all_result_keys():
            params = held.get_result_params(name)
            for case, value in zip(
                itertools.product(*params), held.get_result_value(name, params), strict=True
            ):
                found[f"{path.parent.name}/{path.name}", name, json.dumps(case)] = value
    return found


def test_it_says_what_the_files_say(track: tracks.Track) -> None:
    """Every number is the one that asv reads, and a failure is no number."""
    expected = of_asv(track)
    with StoreIndex(track) as index:
        found = values(index)
    assert found.keys() == expected.keys()
    assert any(value is None for value in expected.values())
    for key, value in expected.items():
        assert found[key] == value if value is not None else np.isnan(found[key])


def test_launches_and_failures_are_those_of_the_readings(track: tracks.Track) -> None:
    """Medians and sizes by launch, failures with their reason, launches and environments are those of the readings."""
    with StoreIndex(track) as index:
        for item, columns in index.columns(index.readings()):
            good, bad = readings.read(track.results_dir / item.path)
            assert bad == []
            measured = [one for one in good if one.kind == "measurement"]
            assert columns["samples"].tolist() == [len(one.samples) for one in measured]
            assert columns["median"].tolist() == [float(np.median(one.samples)) for one in measured]
            assert [item.head["order"][launch] for launch in columns["launch"]] == [
                one.launch for one in measured
            ]
            assert [index.keys[case][0] for case in columns["case"]] == [one.benchmark for one in measured]
            failed = [one for one in good if one.kind == "failure"]
            assert [one["reason"] for one in item.head["failures"]] == [one.reason for one in failed]
            assert item.head["environment"]["packages"]["package-3"] == "1.0"
            assert set(columns) >= {"load_1m", "swap_growth_bytes"}
            assert "temperature_c" not in columns, "what no measurement has is not kept"
        assert {item.stem for item in index.readings()} == {item.stem for item in index.results()}
        assert len({item.commit for item in index.results("machine-0")}) == STORE.commits


def test_a_file_is_read_once(track: tracks.Track) -> None:
    """Nothing is read again that did not change; what changed, came or went is seen."""
    count = 2 * 2 * STORE.commits
    assert fresh(track) == count
    assert fresh(track) == 0
    first, second, third = sorted(track.results_dir.glob("machine-0/*.readings.jsonl"))[:3]
    with first.open("a") as stream:
        stream.write('{"format":1,"kind":"set_aside","file":"x","reason":"y","started":"z"}\n')
    os.utime(second)
    third.unlink()
    assert fresh(track) == 2
    with StoreIndex(track) as index:
        assert len(index.readings()) == 2 * STORE.commits - 1
        (changed,) = [
            item
            for item in index.readings()
            if item.path.endswith(first.name) and item.machine == "machine-0"
        ]
        assert changed.head["set_aside"] == [{"file": "x", "reason": "y"}]


def test_no_file_is_opened_again(track: tracks.Track, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sound index says comes from the index alone, numbers as well."""
    with StoreIndex(track) as index:
        before = repr(values(index))
    monkeypatch.setattr("mlx_velocity.store.files.read_batch", lambda *_: pytest.fail("a file is read again"))
    with StoreIndex(track) as index:
        assert repr(values(index)) == before
        assert len(list(index.columns(index.readings()))) == 2 * STORE.commits


def test_a_replaced_file_of_equal_size_and_time_is_read(track: tracks.Track) -> None:
    """A file put in the place of another is another one, even where size and time agree."""
    fresh(track)
    path = sorted(track.results_dir.glob("machine-0/*cpu.json"))[0]
    stat = path.stat()
    aside = path.with_name(".new")
    shutil.copy(path, aside)
    aside.replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fresh(track) == 1


@pytest.mark.parametrize(
    "harm",
    [
        "cut off",
        "no database",
        "empty",
        "another format",
        "no tables",
        "a later format",
        "UPDATE keys SET params = CAST(params AS BLOB)",
        "UPDATE files SET head = CAST(head AS BLOB)",
        "UPDATE files SET commit_hash = 1",
    ],
)
def test_a_damaged_index_is_made_again(track: tracks.Track, harm: str) -> None:
    """Whatever happens to the index, the next call says what the files say."""
    with StoreIndex(track) as index:
        expected = values(index)
    path = index_path(track)
    if harm == "cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm == "no database":
        path.write_bytes(b"no database" * 1000)
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        base = sqlite3.connect(path)
        if harm == "no tables":
            base.executescript("DROP TABLE files")
        elif harm.startswith("UPDATE"):
            base.execute(harm)
        else:
            base.execute(f"PRAGMA user_version = {FORMAT + 1 if harm == 'a later format' else 0}")
        base.commit()
        base.close()
    with StoreIndex(track) as index:
        assert values(index) == pytest.approx(expected, nan_ok=True)


def test_a_damaged_row_is_read_from_its_file(track: tracks.Track) -> None:
    """A wrong number is never taken for right: a row whose checksum does not hold is read anew."""
    with StoreIndex(track) as index:
        expected = values(index)
    base = sqlite3.connect(index_path(track))
    (data,) = base.execute("SELECT data FROM columns WHERE file = 3").fetchone()
    base.execute("UPDATE columns SET data = ? WHERE file = 3", (bytes(reversed(data)),))
    base.commit()
    base.close()
    with StoreIndex(track) as index:
        assert values(index) == pytest.approx(expected, nan_ok=True)


def with_many_cases(text: str) -> str:
    held = json.loads(text)
    next(iter(held["results"].values()))[1] = [[str(number) for number in range(10)]] * 6
    return json.dumps(held)


BROKEN: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "a list": lambda _: "[1]",
    "of another format": lambda text: text.replace('"version": 2', '"version": 3'),
    "no date": lambda text: text.replace('"date": 1', '"date": -1'),
    "no params": lambda text: text.replace('"params": {', '"other": {'),
    "deep": lambda _: "[" * 100_000,
    "a million cases": with_many_cases,
    "of another machine": lambda text: text.replace('"machine": "machine-0"', '"machine": "elsewhere"'),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_file_is_named_and_the_others_are_read(track: tracks.Track, what: str) -> None:
    """One broken file among many is named with its reason in one line, now and the next time."""
    path = sorted(track.results_dir.glob("machine-0/*cpu.json"))[2]
    path.write_text(BROKEN[what](path.read_text("utf-8")), "utf-8")
    for _ in range(2):
        with StoreIndex(track) as index:
            ((name, reason),) = index.problems
            assert name == f"machine-0/{path.name}"
            assert reason
            assert "\n" not in reason
            assert len(index.results()) == 2 * STORE.commits - 1


@pytest.mark.parametrize("value", ['"fast"', "[1.0]", "{}", "1e999", "-Infinity", "1e200"])
def test_a_value_that_is_no_number_is_counted_and_left_out(track: tracks.Track, value: str) -> None:
    """A text, a list or something beyond all measure where a number belongs is no number; the rest of the file is."""
    path = sorted(track.results_dir.glob("machine-0/*cpu.json"))[0]
    held = json.loads(path.read_text("utf-8"))
    name = next(name for name, row in held["results"].items() if row[1] == [])
    held["results"][name][0] = ["here"]
    path.write_text(json.dumps(held).replace('"here"', value), "utf-8")
    with StoreIndex(track) as index:
        (item,) = [item for item in index.results() if item.path == f"machine-0/{path.name}"]
        assert item.head["strange"] == 1
        found = {key[1]: number for key, number in values(index).items() if key[0] == item.path}
        assert np.isnan(found.get(name, np.nan))
        assert len(found) >= len(held["results"]) - 1


def test_half_a_line_is_not_read_yet(track: tracks.Track) -> None:
    """A line that is being written is no broken line; one that is broken is counted."""
    path = sorted(track.results_dir.glob("machine-0/*.readings.jsonl"))[0]
    text = path.read_text("utf-8")
    path.write_text(text + text[:200].partition("\n")[0][:150], "utf-8")
    with StoreIndex(track) as index:
        assert sum(item.head["bad_lines"] for item in index.readings()) == 0
    path.write_text(text + '{"format":1,"kind":"measurement"}\n' + "no json\n", "utf-8")
    with StoreIndex(track) as index:
        assert sum(item.head["bad_lines"] for item in index.readings()) == 2


def test_a_machine_without_a_description_is_named(track: tracks.Track) -> None:
    """Results of a machine without machine.json are left out, in one line that says how many."""
    (track.results_dir / "machine-1" / "machine.json").unlink()
    with StoreIndex(track) as index:
        assert list(index.machines) == ["machine-0"]
        assert index.problems == [
            (
                "machine-1/machine.json",
                f"it does not exist, so asv and the site leave out {2 * STORE.commits} files beside it",
            )
        ]


def test_an_open_index_stays_as_it_was(track: tracks.Track) -> None:
    """Who reads is not disturbed by another process that refreshes the index meanwhile."""
    with StoreIndex(track) as index:
        expected = values(index)
        for path in track.results_dir.glob("machine-0/*cpu.json"):
            os.utime(path)
        code = (
            "from pathlib import Path; from mlx_velocity import tracks; from mlx_velocity.store.index import StoreIndex\n"
            f"index = StoreIndex(tracks.load(Path({str(track.root / 'asv.conf.json')!r}))); print(index.fresh)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(STORE.commits)
        assert values(index) == pytest.approx(expected, nan_ok=True)


def test_an_index_that_cannot_be_written_is_one_line(track: tracks.Track) -> None:
    """Where the index can't be made, that is wrong input with what to do."""
    (track.work_dir).mkdir(exist_ok=True)
    (track.work_dir / "index").write_text("in the way", "utf-8")
    with pytest.raises(InputError) as error:
        StoreIndex(track)
    assert "index" in one_line(error)


def test_what_is_derived_is_found_again(track: tracks.Track) -> None:
    """Bytes kept under a name come back, unless they were damaged or the index was made again."""
    with StoreIndex(track) as index:
        index.keep_derived({"a": b"1", "b": b"2"})
    base = sqlite3.connect(index_path(track))
    base.execute("UPDATE derived SET data = x'33' WHERE name = 'b'")
    base.commit()
    base.close()
    with StoreIndex(track) as index:
        assert index.derived(["a", "b", "c"]) == {"a": b"1"}
