"""The parameters of a benchmark as asv stores them: for each parameter the list of its values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

MOST_SETS = 100_000
"""Of one benchmark: a file that names more was not written by a measurement."""


def sets(benchmark: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The parameter sets of a benchmark, in asv's order."""
    yield from itertools.product(*benchmark["params"])


def count(params: list[list[Any]]) -> int:
    """How many sets there are."""
    return math.prod(map(len, params))


def check(name: str, params: Any) -> None:
    """Raises ValueError where these are no lists of values, or make more than MOST_SETS: they would not fit into memory."""
    if not isinstance(params, list) or not all(isinstance(values, list) for values in params):
        raise ValueError(f"{name} has no parameters that can be read")
    if count(params) > MOST_SETS:
        raise ValueError(f"{name} has more than {MOST_SETS:,} parameter sets")
