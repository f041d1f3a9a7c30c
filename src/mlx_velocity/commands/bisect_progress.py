"""What `bisect` shows while it works: what is measured now, where the commit probably is, the time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mlx_velocity import units
from mlx_velocity.bisecting import Event, Search
from mlx_velocity.report import bisect as report

WORDS = {"ends": "comparing the ends", "search": "searching", "confirm": "confirming"}
WIDTH = 24
EVERY_S = 20.0
"""Without a terminal a line is written at most this often, and when something else begins for the first time."""


class BisectProgress:
    """Two lines on a terminal; a line now and then elsewhere."""

    def __init__(self, console: Console, quiet: bool, state: Search) -> None:
        self._console, self._quiet, self._state = console, quiet, state
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[doing]}"),
            TextColumn("{task.fields[pairs]} pairs"),
            TextColumn("[cyan]{task.fields[picture]}[/]"),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[text]}[/]"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", doing="", pairs="0", picture="", left="", text="", total=None)
        self._said_at, self._said = float("-inf"), set[str]()

    def __enter__(self) -> BisectProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        doing = WORDS[event.step.purpose]
        left = f"about {units.clock(event.left_s)} left" if event.left_s is not None else ""
        belief = event.step.belief
        chances = list(belief.by_commit.values()) if belief else []
        drawn = report.picture(chances, WIDTH) if chances else ""
        self._bar.update(
            self._task, doing=doing, pairs=str(event.pairs), picture=drawn, left=left, text=escape(event.text)
        )
        now = time.monotonic()
        if (
            self._quiet
            or self._console.is_terminal
            or (doing in self._said and now - self._said_at < EVERY_S)
        ):
            return
        self._said_at = now
        self._said.add(doing)
        likely = ""
        if belief and chances:
            number, chance = max(belief.by_commit.items(), key=lambda item: item[1])
            likely = f", likeliest {self._state.points[number].commit[:8]} {chance * 100:.0f} %"
        words = [f"{doing}: {units.count(event.pairs, 'pair')}{likely}", left]
        self._console.print(", ".join(filter(None, words)), highlight=False, markup=False)
