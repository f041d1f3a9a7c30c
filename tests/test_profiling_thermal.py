"""ThermalMonitor: one look, a thread, trends and limits, with a thermometer and a clock that the test holds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mlx_velocity.errors import InputError
from mlx_velocity.profiling import ThermalMonitor


def monitor_of(*celsius: float | None, history_size: int = 60) -> ThermalMonitor:
    """A monitor whose thermometer gives these values in turn, one a second; None is: no source."""
    values, seconds = iter(celsius), iter(range(1000))
    return ThermalMonitor(
        1.0,
        history_size,
        read=lambda: {} if (value := next(values)) is None else {"cpu": value, "gpu0": value - 5},
        why=lambda: "it is broken",
        clock=lambda: float(next(seconds)),
    )


def after(*celsius: float, **keys: int) -> ThermalMonitor:
    """A monitor that has read these values."""
    monitor = monitor_of(*celsius, **keys)
    for _ in celsius:
        monitor.poll()
    return monitor


def test_one_look_gives_the_hottest_place() -> None:
    """The temperature is that of the hottest place, and a look leaves no history."""
    monitor = monitor_of(61.5, 62.0)
    assert monitor.get_soc_temperature() == 61.5
    assert monitor.get_temperatures() == {"cpu": 62.0, "gpu0": 57.0}
    assert monitor.get_history() == []
    assert monitor.temperature is None


def test_without_a_source_there_is_a_reason() -> None:
    """No source gives None, never zero, and says why."""
    monitor = monitor_of(None, None, None)
    assert monitor.get_soc_temperature() is None
    assert monitor.unavailable_reason == "it is broken"
    assert monitor.poll() is None
    assert monitor.get_history() == []


def test_with_a_source_there_is_no_reason() -> None:
    """Where there is a temperature nothing is unavailable."""
    assert monitor_of(50.0).unavailable_reason is None


def test_a_thermometer_that_breaks_breaks_nothing() -> None:
    """A reader that raises gives no temperature, and its error is the reason."""

    def read() -> dict[str, float]:
        raise OSError("the bus is gone")

    monitor = ThermalMonitor(read=read, why=lambda: "")
    assert monitor.get_soc_temperature() is None
    assert monitor.poll() is None
    assert monitor.unavailable_reason == "OSError: the bus is gone"


def test_history_holds_the_newest() -> None:
    """Of more readings than there is room for, the oldest go."""
    monitor = after(50, 51, 52, 53, history_size=3)
    assert [(reading.at_s, reading.celsius) for reading in monitor.get_history()] == [
        (1, 51),
        (2, 52),
        (3, 53),
    ]
    assert monitor.temperature == 53


@pytest.mark.parametrize(
    ("celsius", "rising"),
    [
        ((50, 51, 52, 53, 54), True),
        ((50, 50, 51, 51, 52), True),
        ((60, 50, 51, 52, 53, 54), True),
        ((54, 53, 52, 51, 50), False),
        ((50, 50, 50, 50, 50), False),
        ((50, 51, 50, 51, 50), False),
        ((50, 50, 50, 50, 51), False),
        ((50, 51, 52, 53), False),
        ((), False),
    ],
)
def test_rising_is_told_from_falling_and_flat(celsius: tuple[float, ...], rising: bool) -> None:
    """The last five readings rise or do not; a wiggle is no rise, and too few say nothing."""
    assert after(*celsius).is_rising(window=5) is rising


def test_the_trend_is_in_degrees_a_second() -> None:
    """Half a degree a second is half a degree a second, whatever came before the window."""
    found = after(90, 20, 60.0, 60.5, 61.0, 61.5).trend(4)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)
    assert after(60, 61).trend(3) is None


def test_readings_at_odd_times_have_the_slope_of_their_times() -> None:
    """The regression is over the clock, not over the number of readings."""
    values, times = iter([50.0, 51.0, 60.0]), iter([0.0, 1.0, 10.0])
    monitor = ThermalMonitor(read=lambda: {"cpu": next(values)}, clock=lambda: next(times))
    for _ in range(3):
        monitor.poll()
    found = monitor.trend(3)
    assert found is not None
    assert found.value == pytest.approx(1.0)


@pytest.mark.parametrize("window", [-1, 0, 2, 61])
def test_a_window_that_can_hold_no_trend_is_refused(window: int) -> None:
    """A window below three readings, or above the history, never has a trend: that is said at once."""
    with pytest.raises(InputError, match="give 3 to 60"):
        after(50.0).is_rising(window)


def test_a_limit_is_judged_by_the_last_reading() -> None:
    """Above is above, equal is not, and nothing read is neither."""
    assert after(96.0, 94.0).is_above(95) is False
    assert after(94.0, 95.1).is_above(95) is True
    assert after(95.0).is_above(95) is False
    assert monitor_of(96.0).is_above(95) is None


@pytest.mark.parametrize("wrong", [{"poll_interval": 0}, {"poll_interval": -1.0}, {"history_size": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    """No time between readings, or no room for one, is refused."""
    with pytest.raises(InputError):
        ThermalMonitor(**wrong)


# The thread


class Thermometer:
    """Warms up by a degree a reading, and lets the test wait until it was read so often."""

    def __init__(self) -> None:
        self.readings, self.changed, self.threads = 0, threading.Condition(), set[str]()

    def __call__(self) -> dict[str, float]:
        with self.changed:
            self.readings += 1
            self.threads.add(threading.current_thread().name)
            self.changed.notify_all()
            return {"cpu": 40.0 + self.readings}

    def wait_for(self, readings: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.readings >= readings, timeout=20)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ThermalMonitor"]


@pytest.fixture
def clock() -> Callable[[], float]:
    """One second a reading, however fast they come."""
    seconds = iter(range(1_000_000))
    return lambda: float(next(seconds))


def test_the_background_reads_on_its_own(clock: Callable[[], float]) -> None:
    """Between start and stop the history grows without a call, and a rise is seen."""
    thermometer = Thermometer()
    monitor = ThermalMonitor(0.001, read=thermometer, clock=clock)
    monitor.start()
    thermometer.wait_for(8)
    monitor.stop()
    assert watchers() == []
    assert thermometer.threads == {"ThermalMonitor"}
    assert len(monitor.get_history()) >= 7
    assert monitor.is_rising()
    assert monitor.temperature == 40.0 + len(monitor.get_history())


def test_it_can_be_started_twice_and_again(clock: Callable[[], float]) -> None:
    """A second start makes no second thread, a second stop does nothing, and it can be started anew."""
    thermometer = Thermometer()
    monitor = ThermalMonitor(0.001, read=thermometer, clock=clock)
    monitor.stop()
    monitor.start()
    monitor.start()
    assert len(watchers()) == 1
    thermometer.wait_for(2)
    monitor.stop()
    monitor.stop()
    count = thermometer.readings
    monitor.start()
    thermometer.wait_for(count + 2)
    monitor.stop()
    assert watchers() == []
    assert len(monitor.get_history()) == thermometer.readings


def test_stop_does_not_wait_for_the_next_reading() -> None:
    """A monitor that reads once an hour stops at once."""
    thermometer = Thermometer()
    with ThermalMonitor(3600, read=thermometer) as monitor:
        thermometer.wait_for(1)
    assert watchers() == []
    assert thermometer.readings == 1
    assert monitor.temperature == 41.0


def test_the_thread_ends_with_a_failed_body() -> None:
    """An exception inside leaves no thread behind."""
    with pytest.raises(RuntimeError, match="training"), ThermalMonitor(0.001, read=Thermometer()):
        raise RuntimeError("training failed")
    assert watchers() == []


def test_a_thread_without_a_source_keeps_looking(clock: Callable[[], float]) -> None:
    """A source that appears later is read from then on, and one that raises does not end the thread."""
    thermometer = Thermometer()

    def read() -> dict[str, float]:
        found = thermometer()
        if thermometer.readings == 1:
            raise OSError("not yet")
        return {} if thermometer.readings == 2 else found

    with ThermalMonitor(0.001, read=read, clock=clock) as monitor:
        thermometer.wait_for(5)
    assert [reading.celsius for reading in monitor.get_history()][:2] == [43.0, 44.0]
