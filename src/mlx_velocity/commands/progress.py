"""What a long command shows while it works: the commit, the case and the time left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mlx_velocity import interleave, units
from mlx_velocity.bench import Row, Trial, mean_sd
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


class BenchProgress:
    """A bar of samples with the time left on a terminal, a line per finished trial elsewhere."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("[bold]{task.fields[model]}[/] {task.fields[text]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", model="", text="", left="?", total=None)
        self._last = time.monotonic()
        self._to_do: list[tuple[str, Trial]] = []
        self._taken: dict[tuple[str, str], list[float]] = {}
        """Seconds a handled token, by model and stage."""

    def __enter__(self) -> BenchProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, models: Sequence[str], trials: Sequence[Trial], samples: int) -> None:
        """What is to be done: so many samples of each trial of each model."""
        names = [name.rpartition("/")[2] if name.startswith("path:") else name for name in models]
        self._to_do = [(name, trial) for name in names for trial in trials for _ in range(samples)]
        self._bar.update(self._task, total=len(self._to_do))

    def show(self, model: str, text: str) -> None:
        """Say what is going on."""
        self._last = time.monotonic()
        left = units.clock(left_s(self._to_do, self._taken)) if self._taken else "?"
        self._bar.update(self._task, model=escape(model), text=escape(text), left=left)

    def sampled(self, model: str, trial: Trial) -> None:
        """One sample is taken, warm-up included."""
        self._taken.setdefault((model, trial.stage), []).append(
            (time.monotonic() - self._last) / trial.handled
        )
        self._to_do.remove((model, trial))
        self._bar.advance(self._task)
        self.show(model, trial.name)

    def skip(self, model: str, trials: Sequence[Trial]) -> None:
        """The samples of these will not be taken."""
        before = len(self._to_do)
        self._to_do = [item for item in self._to_do if item[0] != model or item[1] not in trials]
        self._bar.advance(self._task, before - len(self._to_do))

    def finished(self, row: Row) -> None:
        """A trial is done."""
        if self._quiet or self._console.is_terminal:
            return
        left = units.clock(left_s(self._to_do, self._taken))
        self._console.print(
            f"{row.model.name} {row.trial.name}: {units.rate(mean_sd(row.rates)[0])} t/s ({left} left)",
            highlight=False,
            markup=False,
        )


def left_s(to_do: Sequence[tuple[str, Trial]], taken: dict[tuple[str, str], list[float]]) -> float:
    """Seconds that the samples left will take, from seconds a token of the same model and stage so far.

    Where there is none yet, that of the same stage, then of everything, stands in.
    """

    def of_token(model: str, stage: str) -> float:
        alike = taken.get((model, stage)) or [t for key, ts in taken.items() if key[1] == stage for t in ts]
        return statistics.median(alike or [t for ts in taken.values() for t in ts] or [0.0])

    costs = {key: of_token(*key) for key in {(model, trial.stage) for model, trial in to_do}}
    return sum(costs[model, trial.stage] * trial.handled for model, trial in to_do)
