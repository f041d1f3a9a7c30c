"""How one case is measured in the worker: asv's rules for setup, repetition, warm-up and skips."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_velocity.probe import measure, observe
from mlx_velocity.probe.measure import Skipped

Load = Callable[..., Any]
HEAD = """
import gc
from asv_runner.benchmarks.mark import SkipNotImplemented, skip_for_params
from mlx_velocity.probe import observe
calls = []
"""


class Suite:
    """A benchmark suite of one file."""

    def __init__(self, folder: Path) -> None:
        # asv imports a suite by the name of its folder, and Python keeps what it imported.
        self.folder = folder / f"suite_{folder.name}"
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()

    def write(self, text: str) -> Suite:
        (self.folder / "cases.py").write_text(HEAD + text, "utf-8")
        return self

    def load(self, name: str, index: int | None = None) -> Any:
        return measure.load(str(self.folder), f"cases.{name}", index)

    def measure(self, name: str, index: int | None = None) -> dict[str, Any]:
        return measure.measure(str(self.folder), f"cases.{name}", index)

    @property
    def calls(self) -> list[Any]:
        found: list[Any] = self.load("time_nothing").func.__globals__["calls"]
        return found


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


NOTHING = "\ndef time_nothing(): pass\n"


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        (None, measure.DEFAULT_REPEAT),
        ("0", measure.DEFAULT_REPEAT),
        ("4", (4, 4, math.inf)),
        ("(2, 5, 0.5)", (2, 5, 0.5)),
        ("[2, 5, 1]", (2, 5, 1.0)),
    ],
)
def test_repeat(repeat: str | None, expected: tuple[int, int, float], suite: Suite) -> None:
    """A benchmark says how often it is sampled as in asv: a number, or samples at least, at most, and seconds."""
    suite.write(f"def time_it(): pass\n{f'time_it.repeat = {repeat}' if repeat else ''}")
    assert measure.repeat_of(suite.load("time_it")) == expected


def test_samples(suite: Suite) -> None:
    """Samples stop at the most where there is time, at the least where there is none; no warm-up is none."""
    suite.write(
        "def time_most(): pass\ntime_most.repeat, time_most.warmup_time = (1, 7, 600), 0\n"
        "def time_least(): pass\ntime_least.repeat, time_least.warmup_time = (2, 7, 0), 0\n"
        "def time_number(): pass\ntime_number.repeat, time_number.warmup_time = 4, 0\n"
    )
    counts = {}
    for name in ("time_most", "time_least", "time_number"):
        found = suite.measure(name)
        assert all(sample >= 0 for sample in found["samples"])
        counts[name] = (len(found["warmup"]), len(found["samples"]))
    assert counts == {"time_most": (0, 7), "time_least": (0, 2), "time_number": (0, 4)}


def test_setup_and_teardown(suite: Suite) -> None:
    """Setup runs before and teardown after every sample, each with the parameters."""
    suite.write(
        NOTHING + "class Time:\n"
        "    params = (['a', 'b'], [1, 2])\n"
        "    repeat, warmup_time = 2, 0\n"
        "    def setup(self, *values): calls.append(('setup', *values))\n"
        "    def time_it(self, *values): calls.append(('call', *values))\n"
        "    def teardown(self, *values): calls.append(('teardown', *values))\n"
    )
    suite.measure("Time.time_it", 2)
    assert suite.calls == [("setup", "b", 1), ("call", "b", 1), ("teardown", "b", 1)] * 2


def test_warm_up_lasts_by_the_clock(suite: Suite) -> None:
    """A warm-up lasts as long as it says, setups included: a slow setup does not multiply it."""
    suite.write(
        NOTHING + "import time\n"
        "def setup_it():\n"
        "    calls.append(1)\n"
        "    assert len(calls) < 100\n"
        "    time.sleep(0.02)\n"
        "def time_it(): pass\n"
        "time_it.setup, time_it.repeat, time_it.warmup_time = setup_it, 1, 0.05\n"
    )
    assert len(suite.measure("time_it")["samples"]) == 1


def test_garbage_collector(suite: Suite) -> None:
    """The garbage collector is off in the timed call alone, and on again after it, even where it raises."""
    suite.write(
        NOTHING + "def note(): calls.append(gc.isenabled())\n"
        "class Time:\n"
        "    repeat, warmup_time = 1, 0\n"
        "    def setup(self): note()\n"
        "    def time_it(self): note()\n"
        "    def teardown(self): note()\n"
        "    def time_raises(self):\n"
        "        raise ValueError\n"
    )
    suite.measure("Time.time_it")
    assert suite.calls == [True, False, True]
    with pytest.raises(ValueError, match=r"^$"):
        suite.measure("Time.time_raises")
    assert suite.calls[3:] == [True, True]
    assert gc.isenabled()
    gc.disable()
    try:
        suite.measure("Time.time_it")
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("text", "name", "index", "reason"),
    [
        ("class A:\n  def setup(self): raise NotImplementedError('needs 16 GB')\n  def time_it(self): 1/0\n",
         "A.time_it", None, "needs 16 GB"),
        ("class A:\n  def setup(self): raise NotImplementedError\n  def track_it(self): 1/0\n",
         "A.track_it", None, "not implemented here"),
        ("def track_it(): raise NotImplementedError('no counter')\n", "track_it", None, "no counter"),
        ("def track_it(): raise SkipNotImplemented('no counter')\n", "track_it", None, "no counter"),
        ("def time_it(): raise SkipNotImplemented('no GPU')\n", "time_it", None, "no GPU"),
        ("class A:\n  params = [1, 2]\n  skip_params = [(2,)]\n  def time_it(self, n): 1/0\n",
         "A.time_it", 1, "skip_params"),
        ("class A:\n  params = [1, 2]\n  @skip_for_params([(2,)])\n  def time_it(self, n): 1/0\n",
         "A.time_it", 1, ""),
        ("def track_it(): return float('nan')\n", "track_it", None, "NaN"),
    ],
)  # fmt: skip
def test_skips(text: str, name: str, index: int | None, reason: str, suite: Suite) -> None:
    """A case is skipped in each of asv's ways, with the reason that it gives."""
    with pytest.raises(Skipped) as error:
        suite.write(text).measure(name, index)
    assert reason in str(error.value)
    assert str(error.value)


def test_track(suite: Suite) -> None:
    """A tracked value is a sample, or the samples that it returns; teardown follows even a failure."""
    suite.write(
        NOTHING + "class A:\n"
        "    def teardown(self): calls.append(1)\n"
        "    def track_one(self): return 7\n"
        "    def track_many(self): return {'samples': [1, 2.5], 'number': 1}\n"
        "    def track_raises(self): 1 / 0\n"
    )
    assert suite.measure("A.track_one")["samples"] == [7.0]
    assert suite.measure("A.track_many")["samples"] == [1.0, 2.5]
    with pytest.raises(ZeroDivisionError):
        suite.measure("A.track_raises")
    assert len(suite.calls) == 3


@pytest.mark.parametrize("value", ["'7'", "[7]", "None", "True", "{'samples': ['7']}", "{'samples': []}", "float('inf')"])  # fmt: skip
def test_no_number(value: str, suite: Suite) -> None:
    """A tracked value that is no finite number is refused, with the name of the benchmark."""
    suite.write(f"def track_it(): return {value}\n")
    with pytest.raises((TypeError, ValueError), match=r"cases\.track_it"):
        suite.measure("track_it")


def test_raw(suite: Suite) -> None:
    """A raw benchmark is timed in a process of its own, and not the making of its code."""
    suite.write(
        "def timeraw_it():\n    return 'import sys; assert \"asv_runner\" not in sys.modules; time.sleep(0.02)', 'import time'\n"
        "timeraw_it.repeat, timeraw_it.warmup_time = 1, 0\n"
        "def timeraw_fails():\n    return 'raise SystemExit(3)'\n"
    )
    (sample,) = suite.measure("timeraw_it")["samples"]
    assert sample >= 0.02
    with pytest.raises(RuntimeError):
        suite.measure("timeraw_fails")


def test_setup_cache(suite: Suite) -> None:
    """What a suite prepares once is prepared once in a process, and handed to setup and call."""
    suite.write(
        NOTHING + "class A:\n"
        "    params = [1, 2]\n"
        "    repeat, warmup_time = 1, 0\n"
        "    def setup_cache(self):\n"
        "        calls.append('made')\n"
        "        return {'made': 1}\n"
        "    def setup(self, made, n): calls.append((made['made'], n))\n"
        "    def track_it(self, made, n): return made['made'] + n\n"
    )
    assert [suite.measure("A.track_it", index)["samples"] for index in (0, 1, 0)] == [[2.0], [3.0], [2.0]]
    assert suite.calls == ["made", (1, 1), (1, 2), (1, 1)]


def test_notes(suite: Suite) -> None:
    """What a workload noticed is told once, with the case that noticed it; so is the machine's state."""
    suite.write(
        "def track_it():\n    observe.note(digest='a1', tokens=32)\n    return 1\ndef track_quiet(): return 1\n"
    )
    found = suite.measure("track_it")
    assert found["notes"] == {"digest": "a1", "tokens": 32}
    assert {"swap_growth_bytes", "available_bytes"} <= set(found["sensors"])
    assert suite.measure("track_quiet")["notes"] == {}


@pytest.mark.parametrize(("name", "index"), [("time_none", None), ("none.time_it", None), ("time_it", 9)])
def test_unknown_case(name: str, index: int | None, suite: Suite) -> None:
    """A case that the suite lacks is refused by name."""
    suite.write("def time_it(n): pass\ntime_it.params = [1, 2]\n")
    with pytest.raises(ValueError, match=r"cases\.|index"):
        suite.measure(name, index)


def test_a_turn_of_a_short_body_is_several_samples(suite: Suite) -> None:
    """A turn takes as many samples as fit, ten at most, and no warm-up: that was asked for before."""
    suite.write(NOTHING + "def time_it(): calls.append('called')\ntime_it.warmup_time = 0\n")
    found = measure.turn(str(suite.folder), "cases.time_it", None)
    assert len(found["samples"]) == measure.TURN_MOST == len(suite.calls)
    assert "swap_growth_bytes" in found["sensors"]


def test_a_turn_of_a_long_body_is_one_sample(suite: Suite) -> None:
    """A body that takes longer than a turn is called once."""
    suite.write("import time\ndef time_it(): time.sleep(0.06)\n")
    assert len(measure.turn(str(suite.folder), "cases.time_it", None)["samples"]) == 1


def test_a_turn_of_what_is_counted(suite: Suite) -> None:
    """A benchmark that returns a number has one number a turn, and nothing to warm up."""
    suite.write(NOTHING + "def track_it():\n    calls.append('called')\n    return 7\n")
    assert measure.warm(str(suite.folder), "cases.track_it", None) == {"warmup": []}
    assert suite.calls == []
    assert measure.turn(str(suite.folder), "cases.track_it", None)["samples"] == [7.0]


def test_warming_up_for_turns(suite: Suite) -> None:
    """Warm-up calls are made by the clock and handed back, and count as runs that may be looked at."""
    suite.write(NOTHING + "def time_it(): calls.append(observe.warming())\ntime_it.warmup_time = 0.001\n")
    found = measure.warm(str(suite.folder), "cases.time_it", None)
    assert len(found["warmup"]) == len(suite.calls) >= 1
    assert all(suite.calls)
    measure.turn(str(suite.folder), "cases.time_it", None)
    assert suite.calls[-1] is False


def test_a_side_that_declines_is_skipped(suite: Suite) -> None:
    """NotImplementedError in a setup is a skip in a comparison too."""
    suite.write(
        NOTHING
        + "def time_it(): pass\ndef setup(): raise NotImplementedError('needs 16 GB')\ntime_it.setup = setup\n"
    )
    with pytest.raises(measure.Skipped, match="16 GB"):
        measure.warm(str(suite.folder), "cases.time_it", None)


@pytest.mark.parametrize(
    ("samples", "elapsed_s", "noted"),
    [([0.3, 0.3], 0.62, {"sampled_energy_j": 12.0}), ([0.3, 0.3], 0.9, {}), ([0.1, 0.1], 0.2, {})],
)
def test_joules_of_samples(samples: list[float], elapsed_s: float, noted: dict[str, float]) -> None:
    """Joules are noted where nearly all of the time lay inside samples, and there was enough of it."""
    observe.collect()
    measure.note_energy(12.0, samples, elapsed_s)
    assert observe.collect() == noted


def test_joules_are_counted_around_the_samples(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the warm-up spends is not the samples'."""
    monkeypatch.setattr(measure.energy, "read", lambda: 100.0 * len(suite.calls))
    monkeypatch.setattr(measure, "ENERGY_LEAST_S", 0.0)
    monkeypatch.setattr(measure, "ENERGY_SHARE", 0.0)
    suite.write(
        NOTHING + "def time_it(): calls.append('called')\ntime_it.warmup_time, time_it.repeat = 0.001, 3\n"
    )
    assert suite.measure("time_it")["notes"]["sampled_energy_j"] == 300.0
