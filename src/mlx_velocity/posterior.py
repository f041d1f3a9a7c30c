"""Which commit did it: what the pairs measured so far say, as probabilities.

Commits are numbered along a path: 0 is the good end, the last one the bad end. A pair of launches of two of them
gives the logarithm of a ratio of times; what it should be is the change of a *shape* between the two,
times the change between the ends. Shapes are steps, two steps, slopes; and none, where each level is free.

Bayes' rule on a grid: shapes × size of the change × width of the noise. The noise is Student's t with few
degrees of freedom, so that one wild pair decides nothing. What a flat prior and a step give is probabilistic
bisection (Horstein 1963; Waeber, Frazier and Henderson 2013); the other shapes are there so that a slope is not blamed on a commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from mlx_velocity import stats

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

PRIOR = {"step": 0.75, "two": 0.15, "slope": 0.09, "none": 0.01}
"""How likely each kind of shape is before anything inside of the ends was measured."""
SECOND = 0.1
"""A second commit is looked for while it is likelier than this."""
SHARE = 0.35
"""A commit is blamed for at least this share of the change; of a smaller one nothing is said."""
SHARES = {share / 10: 1.0 for share in range(1, 10)} | dict.fromkeys((-1.0, -0.5, 1.5, 2.0), 0.25)
"""Of two steps: shares of the first, and how likely they are beside each other. Beyond 0 and 1 the second one takes
something back."""
SHORTEST_SLOPE = 8
"""Commits, where there are as many; over fewer it can hardly be told from two steps."""
FREEDOM = 5.0
"""Of Student's t: 95 % as efficient as the mean in Gaussian noise, and bounded by no outlier."""
FLOOR = 0.05
"""The noise is at least this share of the change: what differs by less between commits is not of interest."""
LEVELS: Floats = np.round(np.arange(-1.0, 2.01, 0.05), 2)
"""Changes between two commits, as shares of the whole one, at which the likelihood is looked at."""
WHOLE = 40
"""Where in LEVELS the whole change stands."""
SPLIT = 8
"""A group of commits that has this part of the probability is looked at more closely."""


@dataclass(frozen=True)
class Observation:
    """One pair of launches: the logarithm of `high`'s times over `low`'s; commits by number, low before high."""

    low: int
    high: int
    value: float


@dataclass(frozen=True)
class Belief:
    """What is believed of the commits between the ends.

    A *cell* is a group of neighbouring commits that nothing tells apart so far: cell c holds the commits
    after `positions[c]`, up to `positions[c + 1]`.
    """

    positions: tuple[int, ...]
    levels: Floats
    """Shape × position: what of the change has happened there. The last shape stands for no shape at all."""
    weights: Floats
    """Probability of each shape."""
    kinds: Whole
    """Index into PRIOR's keys of each shape."""
    ends: Whole
    """Shape × 2: the cells of its steps, the positions of its slope's ends; -1 where there is none."""
    alone: Mapping[tuple[int, int], Floats]
    """Two commits → probability of each of LEVELS by their own pairs."""
    changes: Floats
    """Sizes that the whole change may have: logarithms."""
    by_change: Floats
    """Shape × size of the change: probability of both."""
    noise: float
    """Width of the noise of a pair: Student's scale."""

    def of(self, kind: str) -> float:
        """Probability of a kind of shape."""
        return min(1.0, float(self.weights[self.kinds == list(PRIOR).index(kind)].sum()))

    def cell(self, number: int) -> tuple[int, int]:
        """The commit before the first of a cell, and the last one."""
        return self.positions[number], self.positions[number + 1]

    @property
    def change(self) -> float:
        """The expected size of the whole change: a logarithm."""
        return float(self.by_change.sum(axis=0) @ self.changes)

    @cached_property
    def jumps(self) -> NDArray[np.bool_]:
        """Shape × cell: whether a commit of the cell does enough to be blamed."""
        found: NDArray[np.bool_] = np.abs(np.diff(self.levels, axis=1)) >= SHARE
        found[self.kinds > 1] = False
        return found

    @cached_property
    def blame(self) -> Floats:
        """Probability of each cell that a commit of it did at least SHARE of the change."""
        found: Floats = self.weights @ self.jumps
        for number in range(len(found)):
            if (levels := self.alone.get(self.cell(number))) is not None:
                found[number] += self.weights[-1] * levels[np.abs(LEVELS) >= SHARE].sum()
        # Rounding may carry a sum of probabilities beyond 1.
        return np.minimum(found, 1.0)

    @cached_property
    def shared(self) -> float:
        """Probability that two commits did at least SHARE of it each."""
        return float(self.weights[self.jumps.sum(axis=1) > 1].sum())

    @cached_property
    def both(self) -> dict[tuple[int, int], float]:
        """Probability of each pair of cells to hold the two commits that are to be blamed."""
        two = self.jumps.sum(axis=1) > 1
        cells = len(self.positions) - 1
        sums = _sums(self.ends[two, 0] * cells + self.ends[two, 1], self.weights[two], cells**2)
        return {divmod(int(key), cells): min(1.0, float(sums[key])) for key in np.flatnonzero(sums)}

    @cached_property
    def by_commit(self) -> dict[int, float]:
        """Probability of each commit to be blamed; evenly over the commits of a cell."""
        found: dict[int, float] = {}
        for cell, chance in enumerate(self.blame):
            low, high = self.cell(cell)
            found |= dict.fromkeys(range(low + 1, high + 1), float(chance) / (high - low))
        return found

    def slope(self, confidence: float = 0.9) -> tuple[int, int]:
        """Where a slope begins and ends, so that both lie inside with this probability each."""
        slopes = self.kinds == 2
        weights = self.weights[slopes] / self.weights[slopes].sum()
        found = []
        for side, at in ((0, 1 - confidence), (1, confidence)):
            sums = np.cumsum(_sums(self.ends[slopes, side], weights, len(self.positions)))
            found.append(self.positions[min(int(np.searchsorted(sums, at)), len(self.positions) - 1)])
        return found[0], found[1]


def believe(last: int, observations: Sequence[Observation], unusable: Collection[int] = ()) -> Belief:
    """What the pairs say of the commits 1 to `last`. Those that can't be measured may be guilty all the same.

    At least three observations must be of the ends; raises ValueError where they are fewer.
    """
    tables, nodes = _likelihood(last, observations)
    known = {0, last} | {place for item in observations for place in (item.low, item.high)}
    rough, likely = _weigh(sorted(known), tables, nodes, {0.5: 1.0})
    # What is left out holds a thousandth of the probability at most, and most of the work.
    kept = likely > 1e-3 / len(likely)
    tables = {key: table[:, kept] for key, table in tables.items()}
    places = sorted(known | _splits(rough, unusable))
    return _weigh(places, tables, _Nodes(nodes.change[kept], nodes.noise[kept]), SHARES)[0]


def splittable(cell: tuple[int, int], unusable: Collection[int]) -> list[int]:
    """The commits inside a cell at which it can be split by measuring."""
    return [place for place in range(cell[0] + 1, cell[1]) if place not in unusable]


def _splits(rough: Belief, unusable: Collection[int]) -> set[int]:
    """Where cells are split: the more likely one is, the finer."""
    jumps = np.abs(np.diff(rough.levels[:-1], axis=1))
    mass = rough.weights[:-1] @ jumps / max(float((rough.weights[:-1] @ jumps).sum()), 1e-300)
    mass = np.maximum(mass, rough.blame)
    found: set[int] = set()
    for number, share in enumerate(mass):
        inside = splittable(rough.cell(number), unusable)
        wanted = min(len(inside), int(np.ceil(share * SPLIT)) if share > 0.01 else 0)
        if wanted:
            at = np.linspace(0, len(inside) - 1, wanted + 2)[1:-1] if wanted < len(inside) else range(wanted)
            found |= {inside[round(float(place))] for place in at}
    return found


@dataclass(frozen=True)
class _Nodes:
    """Sizes of the change and widths of the noise, every one of the first with every one of the second."""

    change: Floats
    noise: Floats


def _likelihood(
    last: int, observations: Sequence[Observation]
) -> tuple[Mapping[tuple[int, int], Floats], _Nodes]:
    """For each two commits that were measured: log likelihood by level and node."""
    ends = [item.value for item in observations if (item.low, item.high) == (0, last)]
    if len(ends) < 3:
        raise ValueError("the ends must be compared first")
    location = stats.location(ends)
    least = FLOOR * max(abs(location.value), 1e-6)
    error = max(location.error, least / len(ends) ** 0.5)
    width = max(location.error * len(ends) ** 0.5, least) / (FREEDOM / (FREEDOM - 2)) ** 0.5
    changes = location.value + error * np.linspace(-5, 5, 11)
    widths = width * np.array([0.6, 0.85, 1.2, 1.7, 2.4])
    grid = np.meshgrid(changes, np.maximum(widths, least), indexing="ij")
    nodes = _Nodes(grid[0].ravel(), grid[1].ravel())
    tables: dict[tuple[int, int], Floats] = {}
    means = LEVELS[:, None] * nodes.change
    for item in observations:
        key = (item.low, item.high)
        term = _log_density((item.value - means) / nodes.noise) - np.log(nodes.noise)
        tables[key] = tables[key] + term if key in tables else term
    return tables, nodes


def _log_density(distance: Floats) -> Floats:
    constant = gammaln((FREEDOM + 1) / 2) - gammaln(FREEDOM / 2) - 0.5 * np.log(FREEDOM * np.pi)
    found: Floats = constant - (FREEDOM + 1) / 2 * np.log1p(distance**2 / FREEDOM)
    return found


def density(distance: Floats) -> Floats:
    """Of the noise, at a distance in widths."""
    found: Floats = np.exp(_log_density(distance))
    return found


def _weigh(
    positions: Sequence[int],
    tables: Mapping[tuple[int, int], Floats],
    nodes: _Nodes,
    shares: Mapping[float, float],
) -> tuple[Belief, Floats]:
    """Bayes' rule over all shapes with changes of level between these positions, and what it says of the nodes."""
    levels, prior, kinds, ends = _shapes(np.asarray(positions), shares)
    index = {place: number for number, place in enumerate(positions)}
    logs = np.zeros((len(levels), len(nodes.change)))
    free = np.zeros(len(nodes.change))
    alone = {}
    for (low, high), table in tables.items():
        logs += table[level_index(levels[:, index[high]] - levels[:, index[low]])]
        if (low, high) == (positions[0], positions[-1]):
            # The whole change, by definition.
            free += table[WHOLE]
            alone[low, high] = np.eye(len(LEVELS))[WHOLE]
            continue
        top = table.max()
        chances = np.exp(table - top)
        free += np.log(chances.mean(axis=0) + 1e-300) + top
        alone[low, high] = chances.sum(axis=1) / chances.sum()
    logs[-1] = free
    logs += np.log(prior)[:, None]
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    by_node = weights.sum(axis=0)
    changes, place = np.unique(nodes.change, return_inverse=True)
    by_change = np.stack([weights[:, place == number].sum(axis=1) for number in range(len(changes))], axis=1)
    belief = Belief(
        tuple(positions), levels, weights.sum(axis=1), kinds, ends, alone,
        changes, by_change, float(by_node @ nodes.noise),
    )  # fmt: skip
    return belief, by_node


def level_index(shares: Floats) -> Whole:
    """The nearest of LEVELS to each share."""
    found: Whole = np.clip(np.rint((shares - LEVELS[0]) / 0.05), 0, len(LEVELS) - 1).astype(np.int64)
    return found


def _shapes(positions: Whole, shares: Mapping[float, float]) -> tuple[Floats, Floats, Whole, Whole]:
    """Levels, prior probability, kind and ends of every shape; the last one is none."""
    cells, places = len(positions) - 1, np.arange(len(positions))
    sizes = np.diff(positions).astype(float)
    after = (places > np.arange(cells)[:, None]).astype(float)
    numbers = np.arange(cells)
    levels, prior, kinds, ends = [after], [PRIOR["step"] * sizes / sizes.sum()], [np.zeros(cells)], [
        np.stack([numbers, np.full(cells, -1)], axis=1)
    ]  # fmt: skip
    first, second = np.triu_indices(cells, 1)
    if len(first):
        parts = np.array(list(shares))[:, None, None]
        two = parts * after[first] + (1 - parts) * after[second]
        likely = np.outer(list(shares.values()), sizes[first] * sizes[second]).ravel()
        levels.append(two.reshape(-1, len(positions)))
        prior.append(PRIOR["two"] * likely / likely.sum())
        kinds.append(np.ones(len(likely)))
        ends.append(np.tile(np.stack([first, second], axis=1), (len(shares), 1)))
    begin, end = np.triu_indices(len(positions), 1)
    long = positions[end] - positions[begin] >= min(SHORTEST_SLOPE, max(4, positions[-1]))
    begin, end = begin[long], end[long]
    if len(begin):
        rise = (positions - positions[begin][:, None]) / (positions[end] - positions[begin])[:, None]
        levels.append(np.clip(rise, 0, 1))
        # Positions lie close where much was measured: each counts for the commits around it.
        around = np.append(sizes, 0) + np.append(0, sizes)
        likely = around[begin] * around[end]
        prior.append(PRIOR["slope"] * likely / likely.sum())
        kinds.append(np.full(len(begin), 2))
        ends.append(np.stack([begin, end], axis=1))
    levels.append(np.zeros((1, len(positions))))
    prior.append(np.array([PRIOR["none"]]))
    kinds.append(np.array([3]))
    ends.append(np.full((1, 2), -1))
    chances = np.concatenate(prior)
    return (
        np.concatenate(levels), chances / chances.sum(),
        np.concatenate(kinds).astype(np.int64), np.concatenate(ends).astype(np.int64),
    )  # fmt: skip


def _sums(keys: Whole, weights: Floats, size: int) -> Floats:
    """Weights added up by key; negative keys are left out."""
    return np.bincount(keys[keys >= 0], weights[keys >= 0], size).astype(float)
