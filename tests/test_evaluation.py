"""The evaluation scripts work: a quick run of each is complete and sane. Nothing is said of its timings."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EVALUATION = Path(__file__).resolve().parent.parent / "evaluation"
# Numbers, and a few words for a reader, that each quick run has to print.
PRINTED = {
    "speed_vs_asv": ("mlx-velocity", "asv takes", "inside samples", "not judged in quick mode"),
    "agree_with_mlx_lm": ("prefill", "decode", "ratio", "not judged in quick mode"),
    "bench_agrees": ("prefill", "decode", "ratio", "not judged in quick mode"),
    "bisection": ("binary search", "right commit in at least"),
    "changepoints": ("Flat series flagged", "F1, a step of 3%", "control", "not judged in quick mode"),
    "monitor_cost": ("of a core", "milliseconds a reading", "not judged in quick mode"),
    "lay_over_cost": ("a new commit", "once more", "not judged in quick mode"),
    "faults": ("run       SIGKILL", "publish   SIGKILL", "goal: nothing lost: met"),
    "disk": ("read-only", "fsync fails", "goal: nothing lost: met"),
    "fuzz": ("readings", "atheris", "hypothesis", "0 defects"),
    "together": ("run beside run", "goal: nothing spoiled: met"),
    "publish_speed": ("Beside asv", "Large", "0 differences", "not judged in quick mode"),
    "first_view": ("kB", "one-of-cases", "not judged in quick mode"),
    "load": ("history of one case, again", "run NEW", "not judged in quick mode"),
    "ab_error_rates": ("Two equal sides", "Head slower", "20 cases at once", "not judged in quick mode"),
}


def quick(name: str, folder: Path, *options: str) -> dict[str, Any]:
    """What a quick run of a script wrote as JSON; it must end well and print the same for a reader."""
    found = folder / "found.json"
    command = [sys.executable, str(EVALUATION / f"{name}.py"), "--quick", *options, "--json", str(found)]
    # Not in pytest's folder: asv's forkserver makes a socket, whose path may have some 100 characters.
    with tempfile.TemporaryDirectory(prefix="mv-") as place:
        environment = {**os.environ, "TMPDIR": place}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # mlx keeps what it compiled in a folder of that name.
        left = [path for path in Path(place).iterdir() if path.name != "mlx"]
        assert not left, "something was left behind"
    assert all(words in done.stdout for words in PRINTED[name]), done.stdout
    report: dict[str, Any] = json.loads(found.read_text("utf-8"))
    assert report["quick"] is True
    return report


def is_positive(number: float) -> bool:
    return math.isfinite(number) and number > 0


def test_every_script_is_tested() -> None:
    scripts = {path.stem for path in EVALUATION.glob("*.py") if "__main__" in path.read_text("utf-8")}
    # both_in_one is started by bench_agrees.
    assert scripts == {*PRINTED, "ab_real", "both_in_one"}


@pytest.mark.network
def test_faults_finds_nothing_lost(tmp_path: Path) -> None:
    """A few kills of real runs and publishes lose nothing, and the results in the end are those of quiet ones."""
    rows = quick("faults", tmp_path)["rows"]
    assert [(row["command"], row["signal"], row["signals"]) for row in rows] == [
        ("run", "SIGKILL", 2), ("run", "SIGINT", 1), ("publish", "SIGKILL", 2)]  # fmt: skip
    assert not any(row["wrong"] or row["differences"] for row in rows)
    assert all(row["ended"] for row in rows)


@pytest.mark.network
def test_a_disk_that_refuses_loses_nothing(tmp_path: Path) -> None:
    """A full and a read-only disk, and single calls that fail, end a run in a line; the next one has all results."""
    for needed in (["unshare", "-m", "true"], ["strace", "-o", os.devnull, "true"]):
        if not shutil.which(needed[0]) or subprocess.run(needed, capture_output=True, check=False).returncode:
            pytest.skip(f"may not mount or trace here: {needed[0]}")
    rows = quick("disk", tmp_path)["rows"]
    assert [row["disk"] for row in rows if row["said"]] == [
        "full",
        "read-only",
        "fsync fails",
        "rename fails",
    ]
    assert not any(row["wrong"] for row in rows)


@pytest.mark.browser
def test_first_view_opens_every_kind_of_page(chromium: str, tmp_path: Path) -> None:
    """Every kind of page of a made-up site is opened, weighed and timed."""
    found = quick("first_view", tmp_path)["pages"]
    assert {"front", "changed", "models", "compare", "one-of-cases", "one-of-commits"} <= found.keys()
    assert all(row["bytes"] > 0 and is_positive(row["seconds"]) for row in found.values())


@pytest.mark.network
def test_two_calls_at_once_spoil_nothing(tmp_path: Path) -> None:
    """Of two runs at once one says who holds the results or goes on, and both end with the right results."""
    (row,) = quick("together", tmp_path)["rows"]
    assert (sum(row["how"].values()), row["wrong"]) == (2, [])


@pytest.mark.network
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    """Both fuzzers feed real stored files with changes to their readers, and nothing but answers and refusals comes."""
    pytest.importorskip("atheris")
    rows = quick("fuzz", tmp_path)["rows"]
    assert {row["engine"] for row in rows} == {"atheris", "hypothesis"}
    assert all(row["inputs"] >= row["asked"] and not row["defects"] for row in rows)
    # A damaged index is never refused: it is made again.
    assert all(row["read"] and row["refused"] for row in rows if row["format"] == "readings")


@pytest.mark.network
def test_real_comparisons_of_planted_changes(tmp_path: Path) -> None:
    """A quick run plants a change in a copy of mlx-lm, compares it for real, and leaves its rows."""
    command = [sys.executable, str(EVALUATION / "ab_real.py"), "planted", "--quick", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    timed, counted = [
        json.loads(line) for line in (tmp_path / "ab_planted.jsonl").read_text("utf-8").splitlines()
    ]
    # Four pairs say nothing about time, and everything about bytes.
    assert (timed["verdict"], timed["breaks"]) == ("inconclusive", 0)
    assert (counted["verdict"], counted["breaks"]) == ("regressed", 0)


@pytest.mark.network
def test_speed_vs_asv_does_the_same_work_on_both_sides(tmp_path: Path) -> None:
    report = quick("speed_vs_asv", tmp_path)
    ours, stock = report["sides"]
    assert (ours["name"], stock["name"]) == ("mlx-velocity", "asv")
    for key in ("cases", "timed_cases", "samples"):
        assert ours[key] == stock[key] > 0
    assert ours["samples"] == ours["timed_cases"] * report["launches"] * report["samples"]
    assert ours["cases"] > ours["timed_cases"], "a case that counts bytes belongs to the quick run"
    for side in (ours, stock):
        assert 0 < side["sampled_s"] < side["wall_s"]
        assert side["share"] == pytest.approx(side["sampled_s"] / side["wall_s"])
    assert report["speedup"] == pytest.approx(stock["wall_s"] / ours["wall_s"])
    assert is_positive(report["times_ours_over_asv"])


def test_agree_with_mlx_lm_measures_both_sides(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    report = quick("agree_with_mlx_lm", tmp_path)
    assert set(report["stages"]) == {"prefill", "decode"}
    for row in (*report["stages"].values(), *report["shown_only"].values()):
        assert is_positive(row["ours_tokens_per_s"])
        assert is_positive(row["theirs_tokens_per_s"])
        assert row["ratio"] == pytest.approx(row["ours_tokens_per_s"] / row["theirs_tokens_per_s"])
        assert len(row["ratios_of_pairs"]) == report["processes_per_side"] > 0
        assert all(map(is_positive, row["ratios_of_pairs"]))


def test_agree_with_mlx_lm_says_what_failed(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    script = EVALUATION / "agree_with_mlx_lm.py"
    command = [sys.executable, str(script), "--quick", "--model", str(tmp_path / "no model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "agree_with_mlx_lm: exit 1" in done.stderr
    assert "no config.json" in done.stderr


@pytest.mark.parametrize("options", [[], ["--one-process"]])
def test_bench_agrees_measures_both_sides(tmp_path: Path, options: list[str]) -> None:
    """A quick run has prefill and decode of both commands in turns, from the same versions; in one process too."""
    pytest.importorskip("mlx_lm")
    report = quick("bench_agrees", tmp_path, *options)
    assert report["processes"] == 2 - len(options)
    assert set(report["stages"]) == {"prefill", "decode"}
    assert set(report["versions"]) == {"mlx", "mlx_lm"}
    assert (report["launches"], report["turns"]) == (1, 3)
    for row in report["stages"].values():
        assert is_positive(row["ours_tokens_per_s"])
        assert is_positive(row["theirs_tokens_per_s"])
        low, high = row["interval"]
        assert 0 < low < high
        assert len(row["ratios_of_launches"]) == 1


@pytest.mark.parametrize("options", [[], ["--one-process"]])
def test_bench_agrees_says_what_failed(tmp_path: Path, options: list[str]) -> None:
    """A folder that is no model ends with 4 and the reason."""
    pytest.importorskip("mlx_lm")
    command = [
        sys.executable,
        str(EVALUATION / "bench_agrees.py"),
        "--quick",
        *options,
        "--model",
        str(tmp_path / "no model"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "no config.json" in done.stderr


def test_bisection_searches_in_every_kind_of_noise(tmp_path: Path) -> None:
    """A quick run has every kind of search, and compares itself with a binary search."""
    report = quick("bisection", tmp_path)
    assert report["commits"] == 128
    assert report["rows"]
    assert report["beside"]


def test_ab_error_rates_fills_its_tables(tmp_path: Path) -> None:
    report = quick("ab_error_rates", tmp_path)
    assert len(report["equal"]) == 9
    assert set(report["many"]) == set(report["equal"]["1 % Gaussian"])
    for rows in (*report["equal"].values(), *report["changed"].values()):
        assert "mlx-velocity" in rows
        assert len(rows) > 1
        for row in rows.values():
            shares = [row[word] for word in ("improved", "regressed", "unchanged", "inconclusive")]
            assert sum(shares) == pytest.approx(1)
            assert row["false"] <= row["false_at_most"] <= 1
            assert is_positive(row["median_samples"])
    for row in report["many"].values():
        assert row["false"] <= row["called"]
    assert all(isinstance(met, bool) for met in report["goals"].values())


def test_changepoints_fills_its_tables(tmp_path: Path) -> None:
    """A quick run has every kind of noise and step for each detector at hand, and all other tables."""
    report = quick("changepoints", tmp_path)
    detectors = {row["detector"] for row in report["cells"]}
    assert {"mlx-velocity", "asv detect_steps", "asv publish"} <= detectors
    assert len(report["cells"]) == len(detectors) * 5 * 6
    assert set(report["versions"]) == {"asv", "apache-otava", "ruptures"}
    for row in report["cells"]:
        assert 0 <= row["f1"] <= 1
        assert 0 <= row["flagged"] <= 1
        assert math.isfinite(row["seconds"])
    for table in ("other noise", "lengths", "newest", "intervals", "control", "many", "cost"):
        assert report[table]
    assert len(report["goals"]) == 6
    assert all(isinstance(met, bool) for met in report["goals"].values())


def test_changepoints_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same series and another seed others; a step is scored by its place alone."""
    monkeypatch.syspath_prepend(str(EVALUATION))
    import changepoints as script

    one, same, other = [script.drawn(script.CLASSES[3], 0.03, 3, seed) for seed in (1, 1, 2)]
    assert (one[0] == same[0]).all()
    assert (one[1] == same[1]).all()
    assert (one[0] != other[0]).any()
    from mlx_velocity.series import ChangePoint

    def said(*places: int) -> list[ChangePoint]:
        return [ChangePoint(place, place, place, 1, 1, 1, 0.95, 0) for place in places]

    assert script.score([said(50), said(50), said()], [52, 53, 50]) == pytest.approx(2 / 5)


def test_monitor_cost_watches_from_outside(tmp_path: Path) -> None:
    report = quick("monitor_cost", tmp_path)
    assert [row["processes"] for row in report["rows"]] == [1, 40]
    for row in report["rows"]:
        assert row["samples"] > 10
        assert row["trees"] > 0
        assert 0 <= row["share"] < 1
        assert is_positive(row["own_share"])


def test_publish_speed_measures_both_sides(tmp_path: Path) -> None:
    """A quick run publishes a small history on both sides, which say the same, and a larger one on ours."""
    report = quick("publish_speed", tmp_path)
    assert report["beside_asv"]["differences"] == []
    assert set(report["beside_asv"]["rows"]) == {"first", "unchanged", "one commit more", "asv"}
    for part in ("beside_asv", "large"):
        for row in report[part]["rows"].values():
            assert all(map(is_positive, row.values()))


def test_load_asks_everything_twice(tmp_path: Path) -> None:
    """A quick run has the time and memory of each command over a small store, the first time and again."""
    report = quick("load", tmp_path)
    assert len(report["rows"]) == 2 * len(report["goals"]) == 10
    for row in report["rows"].values():
        assert all(map(is_positive, row.values()))


def test_ab_error_rates_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same row, and another seed another one."""
    monkeypatch.syspath_prepend(str(EVALUATION))
    import ab_error_rates as script

    rows = [script.tally(script.OURS, script.MIXED, 0.03, 30, seed) for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
    assert script.at_most(0, 1000) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert script.at_most(5, 5) == 1


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_help_says_what_is_shown_and_its_goal(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EVALUATION / f"{name}.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "Goal:" in done.stdout
    assert "--quick" in done.stdout


@pytest.mark.parametrize(
    ("name", "argument"),
    [("speed_vs_asv", "--samples=0"), ("speed_vs_asv", "--commits=0"), ("agree_with_mlx_lm", "--prompt-tokens=1"), ("bench_agrees", "--trials=0"), ("ab_error_rates", "--runs=0"), ("changepoints", "--runs=0"), ("monitor_cost", "--seconds=1"), ("publish_speed", "--commits=1"), ("load", "--cases=1")],
)  # fmt: skip
def test_a_meaningless_number_is_refused(name: str, argument: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EVALUATION / f"{name}.py"), argument], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert "at least" in done.stderr or "needs" in done.stderr


def _stored(
    counts: dict[str, int],
) -> dict[tuple[str, str, tuple[str, ...]], tuple[float, list[float] | None]]:
    return {("c" * 40, name, ()): (1.0, [1.0] * count) for name, count in counts.items()}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, int], dict[str, int]], None]:
    """speed_vs_asv's comparison of what both sides stored, given the number of samples of each case."""
    monkeypatch.syspath_prepend(str(EVALUATION))
    import speed_vs_asv

    from mlx_velocity.history import Commit
    from mlx_velocity.records import Case

    cases = [
        Case("m.C.time_x", (), 0, "1", "seconds", 1, 1.0, "timing"),
        Case("m.C.track_y", (), 0, "1", "bytes", 1, 1.0, "counted"),
    ]
    return lambda ours, stock: speed_vs_asv.check(
        _stored(ours), _stored(stock), [Commit("c" * 40, 0, "")], cases
    )


def test_equal_counts_pass(check: Callable[[dict[str, int], dict[str, int]], None]) -> None:
    check({"m.C.time_x": 6, "m.C.track_y": 3}, {"m.C.time_x": 6, "m.C.track_y": 3})
    # asv keeps no sample of a plain number.
    check({"m.C.time_x": 6, "m.C.track_y": 1}, {"m.C.time_x": 6, "m.C.track_y": 0})


@pytest.mark.parametrize(
    ("ours", "stock", "said"),
    [
        ({"m.C.time_x": 6, "m.C.track_y": 1}, {"m.C.time_x": 5, "m.C.track_y": 1}, "6 samples of ours, 5"),
        ({"m.C.time_x": 0, "m.C.track_y": 1}, {"m.C.time_x": 0, "m.C.track_y": 1}, "0 samples of ours, 0"),
        ({"m.C.time_x": 6, "m.C.track_y": 2}, {"m.C.time_x": 6, "m.C.track_y": 3}, "2 samples of ours, 3"),
        ({"m.C.time_x": 6}, {"m.C.time_x": 6, "m.C.track_y": 1}, "mlx-velocity stored other cases"),
        ({"m.C.time_x": 6, "m.C.track_y": 1}, {"m.C.track_y": 1}, "asv stored other cases"),
    ],
)
def test_unequal_work_is_an_error(
    check: Callable[[dict[str, int], dict[str, int]], None], ours: dict[str, int], stock: dict[str, int], said: str
) -> None:  # fmt: skip
    with pytest.raises(Exception, match=said) as error:
        check(ours, stock)
    assert type(error.value).__name__ == "Incomplete"


def test_lay_over_cost_lays_commits_over(tmp_path: Path) -> None:
    """A quick run lays three commits over and tells a new one from one that is there."""
    report = quick("lay_over_cost", tmp_path)
    assert (report["commits"], report["files"]) == (3, 200)
    assert all(is_positive(value) for kind in ("new", "again") for value in report[kind].values())
