"""What a verdict promises, held against chance, against odd numbers and against itself."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from mlx_velocity import comparison, stats, verdict
from mlx_velocity.comparison import CaseVerdict, Comparison, Header, Side
from mlx_velocity.records import Environment, Pair
from mlx_velocity.verdict import Evidence, Rule, decide, evidence

RULE = Rule()
COUNTS = [count for count, _ in RULE.looks]
MIRROR = {"regressed": "improved", "improved": "regressed"}

times = st.floats(1e-9, 1e6)
turns = st.tuples(times, times)
pairs_of_any = st.lists(st.builds(Pair, turns, turns), max_size=45)
near = st.floats(0.9, 1.1)
pairs_of_near = st.lists(
    st.builds(Pair, st.tuples(near, near), st.tuples(near, near)), min_size=6, max_size=45
)


def drawn(change: float, noise: float, seed: int, count: int = 40) -> list[Pair]:
    """Pairs with Gaussian noise in the logarithm of each turn."""
    dice = random.Random(seed)

    def side(factor: float) -> tuple[float, float]:
        return factor * math.exp(dice.gauss(0, noise)), factor * math.exp(dice.gauss(0, noise))

    return [Pair(side(0.1), side(0.1 * (1 + change))) for _ in range(count)]


def exactly(ratio: float, count: int = 6) -> list[Pair]:
    """Pairs without any noise."""
    return [Pair((0.5, 0.5), (0.5 * ratio, 0.5 * ratio))] * count


def alone(pairs: Sequence[Pair], rule: Rule = RULE) -> tuple[str, Evidence]:
    """The verdict where this is the only case."""
    found = evidence(pairs, rule)
    return decide({"case": found}, rule)["case"], found


def compared(pairs: Sequence[Pair]) -> tuple[str, int]:
    """The verdict of a comparison that looks, and stops when decided; and the pairs it took."""
    said = "inconclusive"
    for count in COUNTS:
        said, _ = alone(pairs[:count])
        if said != "inconclusive":
            return said, count
    return said, COUNTS[-1]


def with_p(p: float, value: float = 1.05, equivalent: bool = False) -> Evidence:
    return Evidence(stats.Ratio(value, value - 0.01, value + 0.01, 0.999), p, value > 1, equivalent, 10)


def swapped(pairs: Sequence[Pair]) -> list[Pair]:
    return [Pair(pair.head, pair.base) for pair in pairs]


def test_looks_spend_no_more_than_there_is() -> None:
    """Looks come in rising order, from as many pairs as an estimate needs, and their shares do not exceed 1."""
    assert all(one < two for one, two in itertools.pairwise(COUNTS))
    assert COUNTS[0] >= 3
    assert all(share > 0 for _, share in RULE.looks)
    assert sum(share for _, share in RULE.looks) <= 1
    assert RULE.most_pairs == COUNTS[-1]


def test_each_look_uses_its_share() -> None:
    """What a look finds is weighed by its share of the error rate, and its interval as well."""
    pairs = drawn(0.01, 0.02, 4)
    seen = [stats.location([verdict.effect(pair) for pair in pairs[:count]]).p for count in COUNTS]
    for number, (count, share) in enumerate(RULE.looks, start=1):
        found = evidence(pairs[:count], RULE)
        weighed = [p / used for p, (_, used) in zip(seen[:number], RULE.looks, strict=False)]
        assert found.p == min(1.0, *weighed)
        assert found.ratio is not None
        assert found.ratio.confidence == 1 - RULE.error_rate * share


@pytest.mark.parametrize("count", range(COUNTS[0]))
def test_nothing_is_said_before_the_first_look(count: int) -> None:
    """However clear it seems, fewer pairs than the first look asks for decide nothing."""
    said, found = alone(exactly(3.0, count))
    assert said == "inconclusive"
    assert found == Evidence(None, 1.0, False, False, 0)


@given(pairs_of_near)
def test_between_looks_nothing_changes(pairs: list[Pair]) -> None:
    """Pairs beyond a look count from the next look on, and those beyond the last look not at all."""
    used = max(count for count in COUNTS if count <= len(pairs))
    assert evidence(pairs, RULE) == evidence(pairs[:used], RULE)


def test_more_pairs_than_looks() -> None:
    """What lies behind the last look is not read."""
    pairs = drawn(0.0, 0.2, 3)
    assert evidence(pairs + exactly(9.0, 30), RULE) == evidence(pairs, RULE)
    assert evidence(pairs, RULE).pairs == RULE.most_pairs


@given(pairs_of_any)
@settings(max_examples=200)
def test_any_positive_times_have_evidence(pairs: list[Pair]) -> None:
    """Positive times never raise, p is a probability, and the interval holds the ratio."""
    said, found = alone(pairs)
    assert said in get_args(verdict.Verdict)
    assert 0 <= found.p <= 1
    assert found.pairs <= len(pairs)
    if found.ratio is not None:
        assert 0 <= found.ratio.low <= found.ratio.value <= found.ratio.high


@given(pairs_of_near)
def test_p_never_rises(pairs: list[Pair]) -> None:
    """More pairs never take evidence of a change away."""
    found = [evidence(pairs[:count], RULE).p for count in range(len(pairs) + 1)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20), st.lists(st.floats(0, 1), min_size=20, max_size=20)
)
def test_a_called_case_stays_called(before: list[float], factors: list[float]) -> None:
    """While other cases collect evidence, what was called changed stays so."""
    scaled = [p * 0.05 for p in before]
    first = decide({i: with_p(p) for i, p in enumerate(scaled)}, RULE)
    later = decide(
        {i: with_p(p * factor) for i, (p, factor) in enumerate(zip(scaled, factors, strict=False))}, RULE
    )
    assert all(later[case] == "regressed" for case, said in first.items() if said == "regressed")


def test_equality_once_shown_stays() -> None:
    """A case that was shown unchanged stays so, whatever comes behind that look."""
    calm = drawn(0.0, 0.001, 1, COUNTS[0])
    said, found = alone(calm)
    assert said == "unchanged"
    assert alone(calm + exactly(2.0, 34)) == (said, found)


def test_unchanged_comes_before_changed() -> None:
    """A difference that is certain but smaller than the threshold is no change."""
    said, found = alone(drawn(0.008, 0.001, 1, 6))
    assert found.ratio is not None
    assert found.p < RULE.error_rate
    assert found.ratio.low > 1, "the difference is certain"
    assert found.ratio.high < 1 + RULE.threshold
    assert said == "unchanged"
    assert alone(drawn(0.008, 0.001, 1, 6), Rule(threshold=0.005))[0] == "regressed"


@pytest.mark.parametrize("change", [0.0, 0.015])
def test_unchanged_has_to_be_shown(change: float) -> None:
    """Too much noise for a change to be seen is no proof that there is none."""
    said, found = alone(drawn(change, 0.1, 1))
    assert said == "inconclusive"
    assert found.ratio is not None
    assert found.ratio.low < 1 < found.ratio.high
    assert found.ratio.high > 1 + RULE.threshold


@pytest.mark.parametrize(("ratio", "said"), [(1.0, "unchanged"), (1.01, "unchanged"), (1.05, "regressed"), (0.95, "improved")])  # fmt: skip
def test_samples_without_noise(ratio: float, said: str) -> None:
    """Sides without any noise are decided at the first look, by the threshold alone."""
    decided, found = alone(exactly(ratio))
    assert decided == said
    assert found.ratio is not None
    assert found.ratio.value == found.ratio.low == found.ratio.high == pytest.approx(ratio)
    assert found.p == pytest.approx(1.0 if ratio == 1 else 0.0, abs=1e-50)


def test_one_weak_hint_among_many_is_not_called() -> None:
    """Chance gives one hint in twenty equal cases, so it takes more than that: alone it would be called."""
    weak, nothing = with_p(0.005), with_p(0.6)
    assert decide({0: weak}, RULE) == {0: "regressed"}
    many = decide({0: weak, **dict.fromkeys(range(1, 20), nothing)}, RULE)
    assert set(many.values()) == {"inconclusive"}
    assert decide({0: with_p(0.0004), **dict.fromkeys(range(1, 20), nothing)}, RULE)[0] == "regressed"


def test_many_hints_support_each_other() -> None:
    """Where twenty cases say the same, it is not chance."""
    assert set(decide({i: with_p(0.009) for i in range(20)}, RULE).values()) == {"regressed"}


def test_no_cases_no_verdicts() -> None:
    """Nothing compared, nothing said."""
    assert decide({}, RULE) == {}


@pytest.mark.parametrize("position", range(10))
@pytest.mark.parametrize("side", ["base", "head"])
@pytest.mark.parametrize(("change", "said"), [(0.0, "unchanged"), (0.05, "regressed")])
def test_one_wild_pair_decides_nothing(position: int, side: str, change: float, said: str) -> None:
    """A pair in which one side took ten times as long, wherever it comes, changes no verdict."""
    pairs = drawn(change, 0.004, 5, 10)
    wild = pairs[position]
    slow = {"base": wild.base, "head": wild.head}
    slow[side] = (slow[side][0] * 10, slow[side][1] * 10)
    pairs[position] = Pair(**slow)
    decided, found = alone(pairs)
    assert decided == said
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(1 + change, abs=0.01)


def test_a_slow_turn_is_not_seen() -> None:
    """A turn that was disturbed, beside one that was not, leaves the pair as it is."""
    calm = Pair((1.0, 1.01), (1.03, 1.02))
    assert verdict.effect(Pair((1.0, 9.0), (7.0, 1.02))) == verdict.effect(calm) == math.log(1.02)
    assert verdict.typical([calm, Pair((1.0, 9.0), (7.0, 1.02))]) == (1.0, 1.02)


@given(pairs_of_near, st.integers(-20, 20))
def test_a_unit_changes_nothing(pairs: list[Pair], power: int) -> None:
    """Milliseconds and seconds give the same evidence."""
    factor = 2.0**power
    scaled = [
        Pair(tuple(value * factor for value in pair.base), tuple(value * factor for value in pair.head))
        for pair in pairs
    ]
    found, wanted = evidence(scaled, RULE), evidence(pairs, RULE)
    assert (found.equivalent, found.pairs) == (wanted.equivalent, wanted.pairs)
    assert found.p == pytest.approx(wanted.p, rel=1e-6)
    assert (found.ratio is None) == (wanted.ratio is None)
    if found.ratio and wanted.ratio:
        assert found.ratio.low == pytest.approx(wanted.ratio.low, rel=1e-9)


@given(st.integers(0, 10_000), st.floats(-0.06, 0.06), st.sampled_from([0.002, 0.01, 0.03]))
def test_exchanged_sides_give_the_inverse(seed: int, change: float, noise: float) -> None:
    """Which side is called the base decides the sign and nothing else."""
    pairs = drawn(change, noise, seed)
    (said, found), (back, mirrored) = alone(pairs), alone(swapped(pairs))
    assert back == MIRROR.get(said, said)
    assert found.pairs == mirrored.pairs
    assert found.p == pytest.approx(mirrored.p, rel=1e-6)
    assert found.ratio is not None
    assert mirrored.ratio is not None
    assert found.ratio.value == pytest.approx(1 / mirrored.ratio.value)
    assert found.ratio.low == pytest.approx(1 / mirrored.ratio.high)


def test_equal_sides_are_hardly_ever_called_changed() -> None:
    """200 comparisons of equal sides in 1 % noise: almost all are shown equal, within 20 samples a side."""
    found = [compared(drawn(0.0, 0.01, seed)) for seed in range(200)]
    said = Counter(word for word, _ in found)
    # 1 % of 200 is 2; 7 or more have a chance below 0.5 %.
    assert said["regressed"] + said["improved"] <= 6
    assert said["unchanged"] >= 190
    assert sorted(pairs for _, pairs in found)[100] <= 10


def test_a_change_is_found() -> None:
    """50 changes of 3 % in 1 % noise are all found, half of them within 20 samples a side."""
    found = [compared(drawn(0.03, 0.01, seed)) for seed in range(50)]
    assert {word for word, _ in found} == {"regressed"}
    assert sorted(pairs for _, pairs in found)[25] <= 10
    assert {compared(swapped(drawn(0.03, 0.01, seed)))[0] for seed in range(10)} == {"improved"}


def test_the_interval_holds_the_truth() -> None:
    """Of 300 intervals at a fixed number of pairs, about as many hold the true ratio as the level says."""
    kept = [stats.location([verdict.effect(pair) for pair in drawn(0.03, 0.01, seed, 12)]).ratio(0.95) for seed in range(300)]  # fmt: skip
    inside = sum(found.low <= 1.03 <= found.high for found in kept)
    # 285 expected; six standard deviations below are 262.
    assert inside >= 262


@pytest.mark.parametrize(
    ("base", "head", "said", "ratio"),
    [
        ([100.0, 100.0], [100.0], "unchanged", 1.0),
        ([0.0], [0.0], "unchanged", 1.0),
        ([100.0], [101.0], "unchanged", 1.01),
        ([100.0] * 3, [102.0] * 3, "regressed", 1.02),
        ([100.0] * 3, [90.0] * 3, "improved", 0.9),
        ([90.0, 100.0], [95.0, 110.0], "inconclusive", 1.1),
        ([90.0, 100.0], [80.0, 95.0], "inconclusive", 0.95),
        ([90.0, 100.0], [101.0, 110.0], "inconclusive", 1.1),
        ([90.0, 100.0], [70.0, 80.0], "inconclusive", 0.8),
        ([99.0, 100.0], [109.0, 110.0], "regressed", 1.1),
        ([99.0, 100.0], [79.0, 80.0], "improved", 0.8),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], "inconclusive", None),
        ([0.0], [10.0], "regressed", None),
        ([10.0], [0.0], "improved", None),
    ],
)
def test_counted_numbers(base: list[float], head: list[float], said: str, ratio: float | None) -> None:
    """Bytes are compared by the highest launch; sides that vary as much as they differ stay open."""
    decided, found = verdict.counted(base, head, RULE)
    assert decided == said
    assert (found and found.value) == (ratio and pytest.approx(ratio))
    assert verdict.counted(head, base, RULE)[0] == MIRROR.get(said, said)


def test_location_of_calm_numbers_is_student() -> None:
    """Without a wild number the estimate is the mean, and p is that of Student's test."""
    numbers = [0.011, 0.008, 0.013, 0.009, 0.012, 0.007, 0.010]
    found = stats.location(numbers)
    assert found.value == pytest.approx(sum(numbers) / 7)
    assert found.p == pytest.approx(ttest_1samp(numbers, 0).pvalue, rel=1e-6)


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=30), st.sampled_from([0.9, 0.99, 0.9999]))  # fmt: skip
def test_interval_and_p_say_the_same(numbers: list[float], confidence: float) -> None:
    """The interval leaves 1 out exactly where p is smaller than what the interval leaves."""
    found = stats.location(numbers)
    assert 0 <= found.p <= 1
    assert min(numbers) - 1e-9 <= found.value <= max(numbers) + 1e-9
    ratio = found.ratio(confidence)
    if abs(found.p - (1 - confidence)) > 1e-9 and found.error > 0:
        assert (found.p < 1 - confidence) == (ratio.low > 1 or ratio.high < 1)


def test_location_without_spread() -> None:
    """Equal numbers are certain; more than half equal are not, where others differ."""
    assert stats.location([0.0] * 6).p == 1.0
    assert stats.location([0.1] * 6) == stats.Location(pytest.approx(0.1), pytest.approx(0.0, abs=1e-15), 5)
    assert stats.location([0.1, 0.1, 0.1, 0.1, 0.1, -0.4]).p > 0.5


def test_a_hopeless_interval_is_wide_not_an_error() -> None:
    """An interval beyond all numbers ends at infinity."""
    ratio = stats.Location(1.0, 1e4, 5).ratio(0.99)
    assert ratio.high == math.inf
    assert ratio.low == 0.0


def _case(said: str, broken: str | None = None) -> CaseVerdict:
    filled: dict[str, Any] = {"verdict": said, "broken": broken}
    return CaseVerdict("case", "m.C.time_x", [], "seconds", base=None, head=None, ratio=None, low=None, high=None, pairs=0, samples=0, **filled)  # fmt: skip


@pytest.mark.parametrize(
    ("cases", "code"),
    [
        ([], 3),
        (["unchanged"], 0),
        (["improved", "inconclusive"], 0),
        (["inconclusive", "incomparable"], 3),
        (["unchanged", "regressed"], 1),
        (["improved", "incomparable/head"], 1),
        (["unchanged", "incomparable/base"], 0),
        (["incomparable/base"], 3),
    ],
)
def test_exit_code(cases: list[str], code: int) -> None:
    """1 where the head is slower or broken, 3 where nothing could be decided, else 0."""
    side = Side("main", "", "", Environment("env", "cpu", "3.11", [], {}))
    header = Header("releases", "m", "cpu", "tiny", "", 0.02, 0.01, 1, side, side)
    found = [_case(word, broken or None) for word, _, broken in (case.partition("/") for case in cases)]
    made = Comparison(header, found, [], 1.0)
    assert made.exit_code == code
    assert sum(len(made.of(word)) for word in comparison.VERDICTS) == len(cases)


def test_verdicts_have_one_list() -> None:
    """The words of a verdict are the same where it is made, kept and sorted."""
    assert set(comparison.VERDICTS) == set(get_args(comparison.Verdict)) == set(get_args(verdict.Verdict))
