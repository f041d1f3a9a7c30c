"""Workers that are alive at the same time: the launches of both sides, and the control beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlx_velocity import quality, scheduler
from mlx_velocity.environments import Prepared
from mlx_velocity.workers import Worker, WorkerError

EVERY_S = 1.0
"""The control's probe is read at most this often: it must not cost more than the cases."""
TIMEOUT_S = 60.0
USUAL = 9
"""Readings of the control that say what is usual. A machine that has changed for good is a new machine: its fifth
reading is the median of them, before `interleave.PATIENCE` is at an end."""

StartWorker = Callable[[Prepared], Worker]


class Launches:
    """Workers by name, each started when it is first needed."""

    def __init__(self, prepared: Mapping[str, Prepared], start: StartWorker) -> None:
        self._prepared = prepared
        self._start = start
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Launches:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def request(self, who: str, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer of a worker; raises WorkerError, after which a new one is started."""
        try:
            if who not in self._workers:
                self._workers[who] = self._start(self._prepared[who])
                scheduler.open_launch(self._workers[who], self._prepared[who], batch=True)
            return self._workers[who].request(message, timeout_s)
        except WorkerError:
            if who in self._workers:
                self._workers.pop(who).close()
            raise


class Control:
    """The fixed probe in one launch for all pairs: what changes its times is the machine alone."""

    def __init__(
        self,
        prepared: Prepared | None,
        start: StartWorker,
        clock: Callable[[], float],
        every_s: float = EVERY_S,
    ) -> None:
        self._workers = Launches({"control": prepared} if prepared else {}, start)
        self._wanted = prepared is not None
        self._clock = clock
        self._every_s = every_s
        self._read_at: float | None = None
        self._readings: list[dict[str, float]] = []

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """Its times in seconds, at most `every_s` old, and those usual before; empty without a control."""
        if not self._wanted:
            return {}, {}
        now = self._clock()
        if self._read_at is None or now - self._read_at >= self._every_s:
            try:
                answer = self._workers.request("control", {"op": "control"}, TIMEOUT_S)
            except WorkerError:
                # A control that can't run says nothing about the machine; the sides go on without it.
                self._wanted = False
                return {}, {}
            self._read_at = now
            self._readings = [*self._readings, answer["control"]][-USUAL - 1 :]
        return self._readings[-1], quality.usual(self._readings[:-1])
