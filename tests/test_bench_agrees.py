"""The ratio of evaluation/bench_agrees.py is 1 where both sides are equal, however their noise is shaped."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import bench_agrees
import pytest
from agree_with_mlx_lm import Incomplete
from bench_agrees import Turn

SHAPES: dict[str, Callable[[random.Random], float]] = {
    "slow at times": lambda draw: 1 / (1 + draw.expovariate(1 / 0.15)),
    "mostly fast": lambda draw: (1.0 if draw.random() < 0.7 else 0.8) * draw.gauss(1, 0.02),
    "mostly slow": lambda draw: (1.0 if draw.random() < 0.3 else 0.8) * draw.gauss(1, 0.02),
}


def turns(shape: Callable[[random.Random], float], count: int, faster: float = 1.0) -> list[Turn]:
    draw = random.Random(7)
    theirs = [shape(draw) for _ in range(count + 1)]
    return [
        Turn({"decode": faster * shape(draw)}, {"decode": before}, {"decode": after})
        for before, after in itertools.pairwise(theirs)
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_equal_sides_have_the_ratio_1(name: str) -> None:
    """Equal sides are equal to a quarter of a per cent, and 5 % faster is 5 % faster; the interval holds the truth."""
    for faster in (1.0, 1.05):
        found = bench_agrees.ratio(turns(SHAPES[name], 20_000, faster), "decode")
        assert found.value == pytest.approx(faster, abs=0.0025)
        assert found.low <= faster <= found.high


def test_drift_cancels() -> None:
    """A machine that becomes slower all the time makes nobody slower than the other."""
    speeds = [0.999**step for step in range(201)]
    found = [
        Turn({"decode": speeds[step]}, {"decode": speeds[step - 1]}, {"decode": speeds[step + 1]})
        for step in range(1, 200, 2)
    ]
    assert bench_agrees.ratio(found, "decode").value == pytest.approx(1, abs=1e-9)


def test_few_turns_have_the_widest_interval() -> None:
    """Three turns say nothing of a median: the interval is all that was seen."""
    found = [Turn({"decode": rate}, {"decode": 1.0}, {"decode": 1.0}) for rate in (0.9, 1.0, 1.2)]
    assert bench_agrees.ratio(found, "decode") == pytest.approx((1.0, 0.9, 1.2))


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Incomplete("it broke"), 4)])
def test_what_was_measured_is_kept(
    error: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two launches are printed and kept where the third one does not come to its end, and judge nothing."""
    rates = {"prefill": 1.0, "decode": 1.0}
    launches = iter([[Turn(rates, rates, rates)] * 7] * 2)

    def measured(*_: object) -> tuple[list[Turn], dict[str, str]]:
        for turns in launches:
            return turns, {"mlx": "1"}
        raise error

    monkeypatch.setattr(bench_agrees, "in_one_process", measured)
    kept = tmp_path / "kept.json"
    options = ["--one-process", "--model", str(tmp_path), "--backend", "cpu", "--json", str(kept)]
    monkeypatch.setattr("sys.argv", ["bench_agrees.py", *options])
    monkeypatch.setattr(bench_agrees, "pin", lambda options: None)
    assert bench_agrees.main() == code
    report = json.loads(kept.read_text("utf-8"))
    assert (report["launches"], report["turns"], report["met"]) == (2, 14, None)
    assert "not judged, launches are missing" in capsys.readouterr().out
    kept.unlink()
    assert bench_agrees.main() == code
    assert not kept.exists()
