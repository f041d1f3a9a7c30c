"""A line on the terminal that says how much of what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

Tell = Callable[[str, int, int], None]


@contextmanager
def counting(console: Console, what: str) -> Iterator[Tell]:
    """Show `what`, until the function that this yields hears of something else: what, how much of it, and of how much."""
    with console.status(what) as status:
        yield lambda now, done, of: status.update(f"{escape(now)}, {done:,} of {of:,} …")
