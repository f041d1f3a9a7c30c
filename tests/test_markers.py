"""Markers: what any program says of its own work, and what regions are made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity import markers, regions
from mlx_velocity.monitor import recording
from mlx_velocity.probe import kept
from mlx_velocity.regions import Region


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where markers go."""
    path = tmp_path / "markers.jsonl"
    monkeypatch.setenv(markers.VARIABLE, str(path))
    return path


def written(file: Path) -> list[tuple[str, str, str]]:
    """Event, kind and name of each marker; each line is one of our format."""
    found = [recording.parse(line) for line in file.read_text("utf-8").splitlines()]
    return [(item["event"], item["what"], item["name"]) for item in found]


def test_mark(file: Path) -> None:
    """A region begins and ends, around a block and as a decorator, by an exception too."""

    @markers.mark("epoch")
    def epoch() -> None:
        raise KeyError

    with markers.mark("é <script>", "case"), pytest.raises(KeyError):
        epoch()
    assert written(file) == [
        ("begin", "case", "é <script>"),
        ("begin", "region", "epoch"),
        ("end", "region", "epoch"),
        ("end", "case", "é <script>"),
    ]


def test_nobody_watches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a monitor nothing is written."""
    monkeypatch.delenv(markers.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    markers.begin("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["nowhere/markers", "."])
def test_a_marker_that_cannot_be_written_disturbs_nobody(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is gone, or no file at all, is no error of the program that marks."""
    monkeypatch.setenv(markers.VARIABLE, str(tmp_path / place))
    markers.begin("x")


def test_a_pipe_without_a_reader_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is written to while somebody reads it, and nobody waits for a reader."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv(markers.VARIABLE, str(pipe))
    markers.begin("unheard")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        markers.begin("heard")
        assert json.loads(os.read(reader, 4096))["name"] == "heard"
    finally:
        os.close(reader)


def test_lines_of_several_processes_stay_whole(file: Path) -> None:
    """Many processes write beside each other, and each line is one marker; a long name is cut."""
    code = "from mlx_velocity.markers import begin\nfor n in range(200): begin(f'{n} ' + 'x' * 9999)"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    found = written(file)
    assert len(found) == 800
    assert {len(name) for _, _, name in found} == {markers.LONGEST_NAME}


def test_a_kept_model_is_marked_while_its_weights_are_in_memory(file: Path) -> None:
    """Loading a model begins a region and dropping it ends it; one that can't be loaded leaves none open."""
    pytest.importorskip("mlx")

    def broken() -> Any:
        raise MemoryError

    kept.keep("model", "one", object)
    kept.keep("model", "one", object)
    kept.keep("model", ("two", "lora"), object)
    with pytest.raises(MemoryError):
        kept.keep("model", "three", broken)
    kept.release("model")
    assert written(file) == [
        ("begin", "model", "one"), ("end", "model", "one"), ("begin", "model", "two"), ("end", "model", "two"),
        ("begin", "model", "three"), ("end", "model", "three"),
    ]  # fmt: skip


# Regions


def marker(
    event: str, name: str, time_s: float, what: str = "case", pid: int = 1, **keys: Any
) -> dict[str, Any]:
    return {
        "event": event,
        "what": what,
        "name": name,
        "pid": pid,
        "monotonic_s": time_s,
        "time_s": time_s,
        **keys,
    }


def test_regions() -> None:
    """Each begin goes with its end; what was not ended lasts until the watching ended."""
    found = regions.of_markers(
        [
            marker("begin", "a", 1.0),
            marker("begin", "b", 2.0),
            marker("end", "a", 3.0),
            marker("begin", "a", 4.0, pid=2),
            marker("end", "a", 5.0, pid=1),
            marker("end", "a", 6.0, pid=2, gone=True),
        ],
        9.0,
    )
    assert found == [
        Region("case", "a", 1.0, 3.0),
        Region("case", "b", 2.0, 9.0, False),
        Region("case", "a", 4.0, 6.0, False),
    ]


def test_nested_regions() -> None:
    """Of two regions of one name, the last to begin ends first."""
    events = [("begin", 1.0), ("begin", 2.0), ("end", 3.0), ("end", 4.0)]
    found = regions.of_markers([marker(event, "a", time_s) for event, time_s in events], 9.0)
    assert found == [Region("case", "a", 1.0, 4.0), Region("case", "a", 2.0, 3.0)]


def test_during() -> None:
    """What went on at the same time is named once; what only touches it is not."""
    models = [
        Region("model", name, start, end) for name, start, end in (("a", 0, 2), ("b", 3, 5), ("b", 4, 6))
    ]
    assert regions.during(Region("case", "x", 2, 5), models) == ["b"]


@given(
    st.lists(
        st.builds(
            marker,
            st.sampled_from(["begin", "end"]),
            st.sampled_from("ab"),
            st.floats(0, 9),
            pid=st.integers(1, 2),
        )
    )
)
def test_any_markers_make_regions(items: list[dict[str, Any]]) -> None:
    """Whatever was marked in whatever order, regions end after they began, and as many began as were marked."""
    found = regions.of_markers(items, 10.0)
    assert all(item.start_s <= item.end_s for item in found)
    assert len(found) == sum(item["event"] == "begin" for item in items)
