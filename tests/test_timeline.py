"""The timeline: from a monitor's file to a page, and that page in a real browser that can reach nobody."""

from __future__ import annotations

import html
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from fixtures_browser import Browser
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlx_velocity.commands.timeline import timeline
from mlx_velocity.errors import InputError
from mlx_velocity.regions import Region
from mlx_velocity.report import timeline as view
from mlx_velocity.report import timeline_rows as rows

SCRIPT = "<script>window.hacked=1</script>"
MARKUP = "<img src=x onerror=window.hacked=1>"
GIB = 2**30
HEADER = {
    "format": 1, "kind": "header", "time_s": 1_800_000_000.0, "monotonic_s": 50.0, "version": "0.1.0", "platform": "darwin",
    "interval_s": 0.2, "budget_share": 0.007, "cores": 12, "memory_total_bytes": 64 * GIB, "gpus": [MARKUP], "sources": [],
    "command": ["python", SCRIPT],
}  # fmt: skip
END = {
    "format": 1, "kind": "end", "time_s": 1_800_000_060.0, "monotonic_s": 110.0, "exit_code": 4, "signal": None,
    "orphans": [{"pid": 77, "name": MARKUP}], "samples": 300, "missed": 3, "unreadable_markers": 0,
    "cost": {"cpu_s": 0.3, "wall_s": 60.0, "sources": {}},
}  # fmt: skip


def sample(number: int, **keys: Any) -> dict[str, Any]:
    """The sample of tick `number`, of a Mac whose GPU is read at every fourth."""
    found = {
        "format": 1, "kind": "sample", "time_s": round(1_800_000_000 + 0.2 * number, 3), "monotonic_s": round(50 + 0.2 * number, 3),
        "available_bytes": 40 * GIB, "free_bytes": 30 * GIB, "swap_used_bytes": 0, "cpu_user": 0.25, "cpu_system": 0.05,
        "cpu_idle": 0.7, "load_1m": 2.5, "tree": {"processes": 1, "resident_bytes": GIB, "cores": 1.0, "top": []},
    }  # fmt: skip
    if number % 4 == 0:
        gpu = {"device_share": 0.9, "renderer_share": 0.8, "tiler_share": 0.1, "memory_used_bytes": GIB}
        found |= {"gpus": [gpu], "memory_pressure_level": 1}
    return {**found, **keys}


def marker(event: str, what: str, name: str, time_s: float, **keys: Any) -> dict[str, Any]:
    return {
        "format": 1, "kind": "marker", "event": event, "what": what, "name": name, "pid": 9, "time_s": 1_800_000_000 + time_s,
        "monotonic_s": 50 + time_s, **keys,
    }  # fmt: skip


MARKERS = [
    marker("begin", "commit", "c0ffee mlx 0.31.1", 1.0),
    marker("begin", "case", "startup.Import", 2.0),
    marker("end", "case", "startup.Import", 10.0),
    marker("begin", "model", "tiny-4bit", 11.0),
    marker("begin", "case", SCRIPT, 12.0),
    marker("end", "case", SCRIPT, 30.0),
    *[
        marker(event, "case", f"short {number}", 30 + number / 100 + (event == "end") * 0.005)
        for number in range(500)
        for event in ("begin", "end")
    ],
    marker("end", "model", "tiny-4bit", 40.0),
    marker("begin", "model", MARKUP, 41.0),
    marker("end", "model", MARKUP, 55.0, gone=True),
]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8"
    )
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A minute of a Mac, with a line that nobody can read."""
    return write(tmp_path / "run.jsonl", [HEADER, *map(sample, range(300)), "{broken", *MARKERS, END])


def make(path: Path, *markers: Path) -> tuple[str, str]:
    """The page, and what was printed."""
    console = Console(file=io.StringIO(), width=400)
    timeline(path, None, list(markers), console)
    assert isinstance(console.file, io.StringIO)
    return path.with_suffix(".html").read_text("utf-8"), console.file.getvalue()


def figure_of(page: str) -> dict[str, Any]:
    """The figure in a page."""
    text = page.partition('id="figure">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def build(samples: list[dict[str, Any]], regions: tuple[Region, ...] = (), **header: Any) -> dict[str, Any]:
    """The figure of samples."""
    return view.build({**HEADER, **header}, samples, regions, samples[0]["monotonic_s"] if samples else 0.0)


def names(figure: dict[str, Any]) -> list[str]:
    return [trace["name"] for trace in figure["traces"]]


def line(figure: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (trace for trace in figure["traces"] if trace["name"] == name)
    return found


# The figure


def test_three_rows() -> None:
    """Memory, processor and GPU each have their lines, on one axis of time; without swap no line is drawn for it."""
    figure = build([sample(number) for number in range(40)])
    assert figure["rows"] == 3
    assert set(names(figure)) >= {
        "available", "command, resident", "pressure normal", "user", "system", "idle", "load of a minute",
        "device", "renderer", "tiler",
    }  # fmt: skip
    assert "swap used" not in names(figure)
    assert line(figure, "user")["y"] == [25.0] * 40
    assert "x" not in line(figure, "user"), "what is read each time shares the common axis"
    assert line(figure, "device")["x"] == [800 * number for number in range(10)]
    assert {trace.get("xaxis") for trace in figure["traces"]} == {None}
    assert figure["layout"]["xaxis"]["rangeslider"]["visible"]
    assert figure["layout"]["hovermode"] == "x unified"


def test_thresholds() -> None:
    """Lines stand at a half and a quarter of this machine's memory; without a header there are none."""
    shapes = build([sample(0)])["layout"]["shapes"]
    assert [shape["y0"] for shape in shapes] == [32.0, 16.0]
    assert view.build({}, [sample(0)], [], 50.0)["layout"]["shapes"] == []


def test_swap_has_an_axis_of_its_own_once_there_is_some() -> None:
    """Swap is drawn on the right as soon as it is more than nothing."""
    figure = build([sample(0), sample(1, swap_used_bytes=GIB)])
    axis = figure["layout"]["yaxis" + line(figure, "swap used")["yaxis"][1:]]
    assert (axis["side"], line(figure, "swap used")["y"]) == ("right", [0.0, 1.0])


def test_pressure() -> None:
    """Points say how short of memory the system is, by macOS's word or by Linux's stalls; each has a symbol of its own."""
    levels = [{"memory_pressure_level": level} for level in (1, 2, 4)]
    stalls = [{"memory_stall_share": share} for share in (0.0, 0.05, 0.5)]
    assert [[len(found) for found in rows.pressures(items).values()] for items in (levels, stalls, [{}])] == [
        [1, 1, 1], [1, 1, 1], [0, 0, 0],
    ]  # fmt: skip
    figure = build([sample(4 * number, **item) for number, item in enumerate(levels)])
    symbols = [line(figure, f"pressure {name}")["marker"]["symbol"] for name in rows.PRESSURE]
    assert len(set(symbols)) == 3
    many = rows.pressures([levels[0]] * 100_000 + [levels[2]] * 50)
    assert (len(many["normal"]) <= 2 * rows.NORMAL_POINTS, len(many["critical"])) == (True, 50)


def test_rows_without_readings() -> None:
    """A machine whose GPU nobody read says so in its row, and heat and power get one where they were read."""
    bare = [{key: value for key, value in sample(1).items() if key != "gpus"}]
    assert "no GPU was read" in [item["text"] for item in build(bare)["layout"]["annotations"]]
    warm = build([{**bare[0], "temperature_c": {"cpu": 61.0}, "power_w": {"total": 30.0}}])
    assert warm["rows"] == 4
    assert line(warm, "cpu °C")["y"] == [61.0]
    only_power = build([{**bare[0], "power_w": {"total": 30.0}}])
    assert "overlaying" not in only_power["layout"]["yaxis" + line(only_power, "total W")["yaxis"][1:]]


def test_several_gpus() -> None:
    """Each of several GPUs has a line of its own in a colour of its own."""
    figure = build([sample(0, gpus=[{"device_share": 0.1 * n, "power_w": 100.0} for n in range(3)])])
    devices = [line(figure, f"device {number}") for number in range(3)]
    assert [trace["y"] for trace in devices] == [[0.0], [10.0], [20.0]]
    assert len({trace["line"]["color"] for trace in devices}) == 3


def test_a_gap_is_not_bridged() -> None:
    """Where nothing was sampled for long no line is drawn; what is read rarely is still one line."""
    figure = build([sample(number) for number in (*range(20), *range(420, 440))])
    assert line(figure, "user")["y"].count(None) == 1
    rare = [
        sample(number, **({"power_w": {"total": 1.0}} if number % 30 == 0 else {})) for number in range(300)
    ]
    assert line(build(rare), "total W")["y"] == [1.0] * 10


def test_a_long_line_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more samples than a browser likes, the least and the most of each stretch are kept, and gaps."""
    monkeypatch.setattr(rows, "MOST_POINTS", 100)
    values: list[float | None] = [float(number % 7) for number in range(1000)]
    values[500], values[700] = 99.0, None
    kept = rows.thinned(values)
    assert len(kept) <= 110
    assert {500, 700} <= set(kept)
    assert kept == sorted(kept)


def test_regions_have_the_tint_of_their_model() -> None:
    """A case is tinted by whether a model was in memory while it went on."""
    regions = (
        Region("case", "import", 51.0, 52.0),
        Region("model", "tiny", 53.0, 58.0),
        Region("case", "decode", 54.0, 55.0),
        Region("commit", "c0ffee", 50.0, 59.0),
    )
    figure = build([sample(number) for number in range(50)], regions)
    assert line(figure, "no model loaded")["x"] == [1000, 1000, 2000, 2000, None]
    assert line(figure, "model loaded")["x"] == [4000, 4000, 5000, 5000, None]
    assert figure["lanes"] == ["commit", "model", "case"]


def test_more_than_a_day_has_dates() -> None:
    """Elapsed time reads as a time of day; a longer recording shows dates instead."""
    assert build([sample(0), sample(10)])["base"] == view.MIDNIGHT_MS
    figure = build([sample(0), sample(5 * 90_000)])
    assert figure["base"] == 1_800_000_000_000
    assert "%d" in figure["layout"]["xaxis"]["tickformat"]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"monotonic_s": st.floats(0, 1e6), "time_s": st.floats(1, 2e9)},
            optional={
                "available_bytes": st.integers(0, 2**40),
                "cpu_user": st.floats(0, 1),
                "memory_stall_share": st.floats(0, 1),
                "gpus": st.lists(
                    st.dictionaries(st.sampled_from(["device_share", "power_w"]), st.floats(0, 1)), max_size=2
                ),
                "power_w": st.dictionaries(st.text(max_size=3), st.floats(0, 1e3), max_size=2),
            },
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_was_read_is_drawn(samples: list[dict[str, Any]]) -> None:
    """Any mixture of sources makes a page whose numbers are JSON."""
    page = view.page(HEADER, sorted(samples, key=lambda item: item["monotonic_s"]), [], [], "x", "", "")
    figure_of(page)


# The command


def test_what_is_said(recorded: Path) -> None:
    """The page and the terminal say what a reader should know: unreadable lines, the exit code, who still runs."""
    page, printed = make(recorded)
    said = [
        "1 line of run.jsonl could not be read",
        "exit code 4",
        f"process 77: {MARKUP}",
        "3 samples were missed",
    ]
    for words in said:
        assert words in printed
        assert html.escape(words) in page
    assert "300 samples" in printed
    assert SCRIPT not in page
    assert MARKUP not in page


def test_a_killed_monitors_file_is_shown(tmp_path: Path) -> None:
    """A file without header and end is shown, and says that they are missing."""
    page, printed = make(write(tmp_path / "run.jsonl", [sample(0), sample(1)]))
    assert "no header" in printed
    assert "no end" in printed
    assert figure_of(page)["x"] == [0, 200]


def test_markers_of_another_file(tmp_path: Path) -> None:
    """Markers that another program wrote are put where they were by the clock on the wall; others' times are left out."""
    path = write(tmp_path / "run.jsonl", [HEADER, *map(sample, range(100)), END])
    elsewhere = [
        marker(event, "case", "theirs", at, monotonic_s=7.0 + at)
        for event, at in (("begin", 5.0), ("end", 6.0))
    ]
    long_ago = [marker(event, "case", "before", at - 9999) for event, at in (("begin", 5.0), ("end", 6.0))]
    others = write(tmp_path / "markers.jsonl", [*elsewhere, "nonsense", *long_ago])
    page, printed = make(path, others)
    (region,) = figure_of(page)["regions"]
    assert (region["name"], region["start"], region["end"]) == ("theirs", 5000, 6000)
    assert "1 line of markers.jsonl could not be read" in printed


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEADER, END], "no sample"),
        (["nonsense"], "no file of a monitor"),
        ([{**HEADER, "format": 9}], "upgrade"),
    ],
)
def test_nothing_to_show(lines: list[Any], words: str, tmp_path: Path) -> None:
    """A file that holds nothing to show is refused with what to do."""
    with pytest.raises(InputError, match=words):
        make(write(tmp_path / "run.jsonl", lines))
    with pytest.raises(InputError, match="there is no file"):
        timeline(tmp_path / "none.jsonl", None, [], Console(quiet=True))


# The page in a browser

LABELS = "[...document.querySelectorAll('#lanes div')].map(bar => [bar.textContent, bar.offsetLeft, bar.offsetWidth, bar.offsetTop])"
LINES = "document.querySelectorAll('#plot .scatterlayer .trace path.js-line').length"


@pytest.fixture
def opened(browser: Browser, recorded: Path) -> Browser:
    """The page of the recording, drawn."""
    make(recorded)
    browser.command("Log.enable")
    browser.open(recorded.with_suffix(".html").as_uri())
    browser.until("document.body.dataset.drawn")
    return browser


@pytest.mark.browser
def test_the_page_is_drawn_and_nothing_leaves(opened: Browser) -> None:
    """All is drawn without an error on the console, and without a request to anybody."""
    assert opened.value(LINES) > 8
    assert opened.failures() == []
    logged = [
        event["params"]["entry"]["text"] for event in opened.events if event.get("method") == "Log.entryAdded"
    ]
    assert logged == []
    assert [
        address for address in opened.requests() if not address.startswith(("file:", "data:", "blob:"))
    ] == []


@pytest.mark.browser
def test_names_are_text(opened: Browser) -> None:
    """A case, a model, a GPU and a command that are called like markup are shown by that name and never run."""
    labels = [label for label, *_ in opened.value(LABELS)]
    assert {SCRIPT, MARKUP, "tiny-4bit"} <= set(labels)
    assert opened.value("document.querySelector('h1').textContent") == f"python {SCRIPT}"
    assert MARKUP in opened.text()
    assert opened.value("window.hacked") is None
    assert opened.value("document.querySelectorAll('img').length") == 0


@pytest.mark.browser
def test_labels_do_not_overlap(opened: Browser) -> None:
    """However dense the cases, no bar lies on another of its lane, and one that is too narrow has no label."""
    bars = opened.value(LABELS)
    assert len(bars) < 500
    for top in {bar[3] for bar in bars}:
        lane = sorted(bar[1:3] for bar in bars if bar[3] == top)
        assert all(left + width <= after + 1 for (left, width), (after, _) in itertools.pairwise(lane))
    assert all(width > 20 for label, _, width, _ in bars if label)


@pytest.mark.browser
def test_zooming_in_shows_what_was_too_narrow(opened: Browser) -> None:
    """Zoomed in, the short cases have their names."""
    assert "short 250" not in [label for label, *_ in opened.value(LABELS)]
    near = (
        "Plotly.relayout('plot', {'xaxis.range': [32450, 32560].map(ms => ms + 946684800000)}).then(() => 1)"
    )
    opened.value(near)
    opened.until(LABELS, lambda bars: "short 250" in [label for label, *_ in bars])


@pytest.mark.browser
def test_regions_can_be_hidden(opened: Browser) -> None:
    """One box hides labels and tints, and shows them again."""
    visible = "[getComputedStyle(document.getElementById('lanes')).display, document.getElementById('plot').data[0].visible]"
    opened.value("document.getElementById('regions').click()")
    opened.until(visible, lambda found: found == ["none", False])
    opened.value("document.getElementById('regions').click()")
    opened.until(visible, lambda found: found == ["block", True])


@pytest.mark.browser
def test_hover_says_what_was_under_way(opened: Browser) -> None:
    """Pointing at a moment shows all values of it in one box, and which commit, model and case it belongs to."""
    x, y = opened.value("(() => { const box = document.querySelector('#plot .nsewdrag').getBoundingClientRect(); "
                        "return [box.left + box.width * 20 / 59.8, box.top + 60]; })()")  # fmt: skip
    for offset in (0, 2):
        opened.command("Input.dispatchMouseEvent", type="mouseMoved", x=x + offset, y=y)
    text = opened.until("document.getElementById('here').textContent")
    assert "commit: c0ffee mlx 0.31.1 · model: tiny-4bit" in text
    assert SCRIPT in text
    shown = opened.until("document.querySelector('#plot .hoverlayer .legend').textContent")
    for name in ("available", "user", "device"):
        assert name in shown


@pytest.mark.browser
def test_a_region_tells_its_whole_name(opened: Browser) -> None:
    """A bar can be pointed at, and tells its name, its times, and that its end was not marked."""
    at = (
        "(() => { const bar = "
        "[...document.querySelectorAll('#lanes div')].find(bar => bar.textContent.includes('onerror')); "
        "const box = bar.getBoundingClientRect(); "
        "return document.elementFromPoint(box.left + 5, box.top + 5).title; })()"
    )
    title = opened.value(at)
    assert title.startswith(f"model: {MARKUP}\n0:00:41 – 0:00:55")
    assert "not marked" in title
