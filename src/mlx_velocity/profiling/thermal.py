"""How hot the chip is: once, or in the background while something runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from mlx_velocity import trend
from mlx_velocity.errors import InputError
from mlx_velocity.probe import thermometers
from mlx_velocity.trend import Slope

RISING_CONFIDENCE = 0.9
"""Two-sided, so that a temperature that does not rise is called rising once in twenty times."""


class Reading(NamedTuple):
    """One look at the thermometer."""

    at_s: float
    """On the monotonic clock."""
    celsius: float
    """Of the hottest place."""


class ThermalMonitor:
    """Temperature of the hottest place on the chip (processor and GPUs) in °C.

    `poll_interval` is in seconds; `history_size` readings are kept, the oldest go first. Where the
    machine has no source, readings are None and `unavailable_reason` says why. `read`, `why` and
    `clock` are for tests.
    """

    def __init__(
        self,
        poll_interval: float = 1.0,
        history_size: int = 60,
        *,
        read: Callable[[], dict[str, float]] = thermometers.read,
        why: Callable[[], str] = thermometers.missing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if poll_interval <= 0 or history_size < 1:
            raise InputError(
                "a monitor needs time between readings and room for one", "give positive numbers"
            )
        self.poll_interval = poll_interval
        self._read, self._why, self._clock = read, why, clock
        self._history: deque[Reading] = deque(maxlen=history_size)
        self._failure = ""
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    # Once

    def get_temperatures(self) -> dict[str, float]:
        """°C by place (`cpu`, `gpu0` …) now; empty where there is no source."""
        try:
            found = self._read()
        except Exception as error:
            # A thermometer that breaks must not break what it watches.
            self._failure = f"{type(error).__name__}: {error}"
            return {}
        self._failure = ""
        return found

    def get_soc_temperature(self) -> float | None:
        """°C of the hottest place now; None where there is no source."""
        return max(self.get_temperatures().values(), default=None)

    @property
    def unavailable_reason(self) -> str | None:
        """Why there is no temperature, and what would help; None where there is one."""
        return None if self.get_temperatures() else self._failure or self._why() or "no reading came"

    # In the background

    def start(self) -> None:
        """Read every `poll_interval` seconds from now on; nothing happens where that is so already."""
        if self._thread is not None:
            return
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._ended,), name="ThermalMonitor", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it; the history stays. Returns when the thread is gone."""
        thread, self._thread = self._thread, None
        self._ended.set()
        if thread is not None:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.poll()
            ended.wait(self.poll_interval)

    def poll(self) -> Reading | None:
        """Take one reading into the history; None where there is no source."""
        celsius = self.get_soc_temperature()
        if celsius is None:
            return None
        reading = Reading(self._clock(), celsius)
        self._history.append(reading)
        return reading

    # What was read

    @property
    def temperature(self) -> float | None:
        """The last reading in °C; None before the first."""
        history = self.get_history()
        return history[-1].celsius if history else None

    def get_history(self) -> list[Reading]:
        """The readings that are kept, oldest first."""
        return list(self._history)

    def trend(self, window: int = 5) -> Slope | None:
        """°C per second over the last `window` readings by linear regression, with a 90 % interval.

        None before there are so many. InputError for a window below 3 or above `history_size`.
        """
        most = self._history.maxlen or 0
        if not trend.FEWEST <= window <= most:
            raise InputError(f"a window of {window} readings", f"give {trend.FEWEST} to {most}")
        last = self.get_history()[-window:]
        if len(last) < window:
            return None
        return trend.slope(
            [reading.at_s for reading in last], [reading.celsius for reading in last], RISING_CONFIDENCE
        )

    def is_rising(self, window: int = 5) -> bool:
        """Whether the last `window` readings surely rise; False before there are so many."""
        found = self.trend(window)
        return found is not None and found.low > 0

    def is_above(self, limit: float) -> bool | None:
        """Whether the last reading is above `limit` °C; None, which is no yes, where there is none."""
        temperature = self.temperature
        return None if temperature is None else temperature > limit
