"""What a long command shows while it works: the commit, the case and the time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlx_velocity import interleave, units
from mlx_velocity.scheduler import Event


class RunProgress:
    """A bar on a terminal, a line per commit elsewhere, and every failure as a line of its own."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("[bold]{task.fields[commit]}[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left"),
            TextColumn("[dim]{task.fields[text]}[/]"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", commit="", left="?", text="", total=None)
        self._start = time.monotonic()
        self._commit = ""

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        name = f"{event.commit.short} {event.commit.subject[:48]}"
        left = time_left(time.monotonic() - self._start, event.done, event.total)
        self._bar.update(
            self._task,
            commit=escape(name),
            left=left,
            text=escape(event.text[:60]),
            completed=event.done,
            total=event.total,
        )
        if self._quiet:
            return
        if event.kind in ("failed", "set_aside"):
            self._console.print(f"[red]{event.kind}[/] {escape(name)}: {escape(event.text)}", highlight=False)
        elif not self._console.is_terminal and name != self._commit:
            self._console.print(f"{escape(name)} ({event.done}/{event.total}, {left} left)", highlight=False)
        self._commit = name


def time_left(elapsed_s: float, done: int, total: int) -> str:
    """What is left at the pace so far; `?` before anything is done."""
    return units.clock(elapsed_s / done * (total - done)) if done else "?"


class CompareProgress:
    """A bar of decided cases on a terminal, a line per pair of launches elsewhere."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("launch pair {task.fields[launch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed} of {task.total} cases decided"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[text]}[/]"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", launch=1, text="", total=None)
        self._launch = 0
        self._decided = -1

    def __enter__(self) -> CompareProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: interleave.Event) -> None:
        """Show an event."""
        self._bar.update(
            self._task, launch=event.launch, completed=event.decided, total=event.total, text=escape(event.text[:60])
        )  # fmt: skip
        new = event.launch != self._launch and (event.decided != self._decided or event.launch % 10 == 1)
        if new and not self._quiet and not self._console.is_terminal:
            self._decided = event.decided
            self._console.print(
                f"launch pair {event.launch}: {event.decided} of {event.total} cases decided", highlight=False
            )
        self._launch = event.launch
