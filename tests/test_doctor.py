"""`mlx-velocity doctor`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import one_line
from rich.console import Console

from mlx_velocity import findings
from mlx_velocity.commands import doctor as command
from mlx_velocity.errors import InputError

STEADY = {"repetitions": 250, "median_s": 0.02, "spread": 1.012, "drift": 0.999, "cpu_share": 1.0}
QUIET: dict[str, Any] = {"cores": 8, "others_busy_cores": 0.05, "busiest": []}
BUSY = {"cores": 2, "others_busy_cores": 1.9, "busiest": [{"pid": 4242, "name": "[red]x", "cores": 1.0}]}

Doctor = Callable[..., tuple[int, str]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs the command on a made-up machine; gives its exit code and what it printed."""

    def run(
        seen: dict[str, Any], clock: dict[str, Any] | None = None, json_to: str | None = None
    ) -> tuple[int, str]:
        monkeypatch.setattr(command.state, "look", lambda: dict(seen))
        monkeypatch.setattr(command, "steadiness", lambda _: {**STEADY, **(clock or {})})
        console = Console(file=io.StringIO(), width=200)
        code = command.doctor(json_to, 1.0, console)
        assert isinstance(console.file, io.StringIO)
        return code, console.file.getvalue()

    return run


@pytest.mark.parametrize(
    ("seen", "clock", "code", "sentence"),
    [
        (QUIET, {}, 0, "This machine is fit to measure."),
        ({**QUIET, "virtual": "QEMU"}, {}, 0, "This machine is fit to measure."),
        ({**QUIET, "on_battery": True}, {}, 0, "fit to measure with care"),
        (QUIET, {"spread": 1.08}, 0, "fit to measure with care"),
        (QUIET, {"drift": 1.3}, 3, "not fit to measure"),
        (BUSY, {}, 3, "not fit to measure"),
    ],
)
def test_verdict(
    doctor: Doctor, seen: dict[str, Any], clock: dict[str, Any], code: int, sentence: str
) -> None:
    """The last line says whether the machine is fit, and the exit code is 3 only where it is not."""
    found, printed = doctor(seen, clock)
    assert found == code
    assert sentence in printed.splitlines()[-1]


def test_findings(doctor: Doctor) -> None:
    """Each finding stands in a line with its gravity and what to do; names of programs are shown as they are."""
    _, printed = doctor({**BUSY, "on_battery": True, "virtual": "QEMU"})
    lines = [line for line in printed.splitlines() if line.strip().startswith(("unfit", "warning", "note"))]
    assert [line.split()[0] for line in lines] == ["unfit", "warning", "note"]
    assert "[red]x (1.0)" in lines[0]
    assert "stop [red]x" in lines[0] or sys.platform == "darwin"
    assert "plug in the charger" in lines[1]
    assert "A fixed loop took 20 ms, at times +1.2 % (p90 over p10), and -0.1 % at the end." in printed


def test_json(doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds all that was seen and found; printed, it stands alone."""
    path = tmp_path / "machine.json"
    code, printed = doctor(BUSY, json_to=str(path))
    assert (code, "not fit" in printed) == (3, True)
    stored = json.loads(path.read_text("utf-8"))
    assert (stored["format"], stored["fitness"]) == (command.FORMAT, "not fit")
    assert stored["state"] == BUSY
    assert stored["clock"] == STEADY
    assert [item["code"] for item in stored["findings"]] == ["others-busy"]
    assert set(stored["findings"][0]) == {"code", "severity", "text", "advice"}
    assert doctor(BUSY, json_to="-") == (3, "")
    assert json.loads(capsys.readouterr().out) == stored


def test_json_that_cannot_be_written(doctor: Doctor, tmp_path: Path) -> None:
    """A file that can't be written is an error with an advice."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as error:
        doctor(QUIET, json_to=str(tmp_path / "file" / "machine.json"))
    assert "machine.json" in one_line(error)


# The fixed loop


class Machine:
    """A clock on which the loop takes what `speed` says of each repetition."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speed: Iterator[float], share: float = 1.0) -> None:
        self.now, self.share = 0.0, share

        def loop(count: int) -> int:
            self.now += count * 1e-6 * next(speed)
            return 0

        monkeypatch.setattr(command, "_loop", loop)

    def clock(self) -> float:
        return self.now

    def processor(self) -> float:
        return self.now * self.share


def repeated(*speeds: float) -> Iterator[float]:
    """A calibration of two tries, then some speeds over and over."""
    yield from (1.0, 1.0)
    while True:
        yield from speeds


def test_steady_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a steady machine the loop takes 20 ms each time, as long as it was asked for."""
    machine = Machine(monkeypatch, repeated(1.0), share=0.75)
    found = command.steadiness(2.0, machine.clock, machine.processor)
    assert found["median_s"] == pytest.approx(0.02)
    assert found["repetitions"] == pytest.approx(100, abs=1)
    assert (found["spread"], found["drift"], found["cpu_share"]) == (1.0, 1.0, 0.75)


def test_unsteady_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes longer in a fifth of the repetitions shows in the spread, and not in the drift."""
    machine = Machine(monkeypatch, repeated(1.0, 1.0, 1.0, 1.0, 1.1))
    found = command.steadiness(2.0, machine.clock, machine.processor)
    assert found["spread"] == pytest.approx(1.1)
    assert found["drift"] == pytest.approx(1.0)
    assert [item.code for item in findings.of_clock(found)] == ["unsteady"]


def test_drifting_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes slower shows in the drift."""

    def rising() -> Iterator[float]:
        yield from (1.0, 1.0)
        for number in range(10_000):
            yield 1 + number / 1000

    machine = Machine(monkeypatch, rising())
    found = command.steadiness(2.0, machine.clock, machine.processor)
    assert found["drift"] > 1.03
    assert "drifting" in [item.code for item in findings.of_clock(found)]


def test_short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time is given, there are enough repetitions for a tenth and a third of them."""
    machine = Machine(monkeypatch, repeated(1.0))
    assert command.steadiness(0.0, machine.clock, machine.processor)["repetitions"] == command.LEAST


def test_real_loop() -> None:
    """The real loop on the real clock gives numbers that can be judged, and leaves the process where it was."""
    pinned = hasattr(os, "sched_getaffinity")
    before = os.sched_getaffinity(0) if pinned else set()
    found = command.steadiness(0.1)
    assert (os.sched_getaffinity(0) if pinned else set()) == before
    assert found["median_s"] > 0
    assert found["spread"] >= 1
    assert 0 <= found["cpu_share"] <= 1
    findings.of_clock(found)
