"""Two sides measured together: order of turns, when to stop, what is measured again, what is recorded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, HELLO, MakeTrack, benchmark, case_of

from mlx_velocity import interleave, judge
from mlx_velocity.comparison import Break, CaseVerdict, Header, PairReading, Side
from mlx_velocity.environments import Prepared
from mlx_velocity.interleave import Budget, Subject
from mlx_velocity.records import Case
from mlx_velocity.verdict import Rule
from mlx_velocity.workers import WorkerError, WorkerTimeout

BASE = Prepared("base", Path("/base"), ENVIRONMENT)
HEAD = Prepared("head", Path("/head"), ENVIRONMENT)
CONTROL = Prepared("control", Path("/control"), ENVIRONMENT)
DECODE = case_of(benchmark("decode.Decode.time_decode"))
PREFILL = case_of(benchmark("prefill.Prefill.time_prefill"))
MEMORY = case_of(benchmark("decode.Memory.track_peak_bytes", unit="bytes", type="track"))
RULE = Rule()


def jitter(side: str, turn: int) -> float:
    """A little noise, the same each time, so that no interval has no width."""
    return 1 + 0.004 * random.Random(f"{side} {turn}").random()


@dataclass
class Machine:
    """Fake workers of three environments on one fake clock; `speed` says how long a turn takes."""

    speed: Callable[[str, str, int], Any]
    """(side, benchmark, how many turns that side had) → seconds or bytes, an error, or a whole answer."""
    log: list[tuple[str, str]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    now: float = 0.0
    sensors: Callable[[str, int], dict[str, Any]] = lambda _side, _turn: {}
    probe: Callable[[int], dict[str, float]] = lambda _count: {"copy": 0.01, "product": 0.01}

    def __post_init__(self) -> None:
        self.turns = {name: itertools.count() for name in ("base", "head", "control")}

    def __call__(self, prepared: Prepared) -> FakeSide:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return FakeSide(self, prepared.name)

    def clock(self) -> float:
        return self.now


@dataclass
class FakeSide:
    """A worker of one side."""

    machine: Machine
    name: str
    closed: bool = False

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert not self.closed
        machine, op = self.machine, message["op"]
        machine.log.append((self.name, op))
        if op == "hello":
            return HELLO
        if op == "control":
            machine.now += 0.05
            return {"control": machine.probe(next(machine.turns["control"]))}
        number = next(machine.turns[self.name]) if op == "turn" else -1
        value = machine.speed(self.name, message["benchmark"], number)
        if isinstance(value, BaseException):
            raise value
        if isinstance(value, dict):
            return value
        machine.now += float(value) if value < 1000 else 0.1
        if op == "warm":
            return {"warmup": []}
        notes = {"digest": self.name} if "Decode" in message["benchmark"] else {}
        return {"samples": [value], "notes": notes, "sensors": machine.sensors(self.name, number)}

    def close(self) -> None:
        if not self.closed:
            self.machine.open -= 1
        self.closed = True


def steady(base: float, head: float) -> Callable[[str, str, int], float]:
    """Sides that take so long, give or take a little."""
    return lambda side, _name, turn: (base if side == "base" else head) * jitter(side, turn)


@dataclass
class Ran:
    """What a comparison left."""

    records: list[PairReading | Break]
    subjects: list[Subject]

    @property
    def pairs(self) -> list[PairReading]:
        return [item for item in self.records if isinstance(item, PairReading)]

    def verdicts(self) -> dict[str, CaseVerdict]:
        side = Side("base", "a" * 40, "base", ENVIRONMENT)
        header = Header("toy", "machine", "cpu", "tiny", "now", 0.02, 0.01, 1, side, side)
        breaks = [item for item in self.records if isinstance(item, Break)]
        done = judge.judge(header, self.pairs, breaks, {}, 1.0)
        return {case.benchmark: case for case in done.cases}


@pytest.fixture
def run(make_track: MakeTrack) -> Callable[..., Ran]:
    """Compares cases on a machine."""

    def compare(
        machine: Machine,
        *cases: Case,
        budget: Budget | None = None,
        control: Prepared | None = CONTROL,
        seed: int = 1,
    ) -> Ran:
        left: list[PairReading | Break] = []
        subjects = [Subject(case) for case in cases]
        interleave.compare(
            make_track(), (BASE, HEAD), control, subjects, RULE, budget or Budget(), start_worker=machine,
            record=left.append, seed=seed, clock=machine.clock,
        )  # fmt: skip
        assert machine.open == 0
        return Ran(left, subjects)

    return compare


def test_turns_alternate(run: Callable[..., Ran]) -> None:
    """Both sides are warm before the first turn, and turns go base, head, head, base or the other way round."""
    machine = Machine(steady(0.1, 0.1))
    ran = run(machine, DECODE, control=None)
    first = [(side, op) for side, op in machine.log if op != "hello"][: 2 + 20]
    assert sorted(first[:2]) == [("base", "warm"), ("head", "warm")]
    order = "".join("A" if side == "base" else "B" for side, _ in first[2:])
    assert order == ran.pairs[0].order
    assert {pair.order[:4] for pair in ran.pairs} == {"ABBA", "BAAB"}


def test_short_turns_are_repeated_within_a_pair(run: Callable[..., Ran]) -> None:
    """Starting launches costs more than a few turns, so short turns are taken several times, long ones once."""
    orders = [len(run(Machine(steady(s, s)), DECODE, control=None).pairs[0].order) for s in (0.001, 0.1, 1.0)]
    assert orders == [4 * interleave.ROUNDS_MOST, 20, 4]


def test_both_sides_and_the_control_are_alive_at_once(run: Callable[..., Ran]) -> None:
    """A pair of launches is three processes at the same time, the third for all pairs, and none is left."""
    machine = Machine(steady(0.1, 0.1))
    run(machine, DECODE)
    assert machine.most_open == 3
    assert machine.log.count(("control", "hello")) == 1


def test_every_pair_is_a_new_launch(run: Callable[..., Ran]) -> None:
    """Each pair of a case comes from processes of its own: the launch is what is replicated."""
    machine = Machine(steady(0.1, 0.1))
    ran = run(machine, DECODE, control=None)
    assert [pair.number for pair in ran.pairs] == list(range(1, len(ran.pairs) + 1))
    assert machine.log.count(("base", "hello")) == len(ran.pairs)


def test_it_stops_when_equality_is_shown(run: Callable[..., Ran]) -> None:
    """Equal sides with little noise are decided at the first look."""
    ran = run(Machine(steady(0.1, 0.1)), DECODE)
    assert ran.verdicts()[DECODE.benchmark].verdict == "unchanged"
    assert len(ran.pairs) == RULE.looks[0][0]


@pytest.mark.parametrize(("head", "expected"), [(0.105, "regressed"), (0.095, "improved")])
def test_a_change_is_found(run: Callable[..., Ran], head: float, expected: str) -> None:
    """A change of 5 % is called what it is, with an interval that holds it."""
    found = run(Machine(steady(0.1, head)), DECODE).verdicts()[DECODE.benchmark]
    assert found.verdict == expected
    assert found.low is not None
    assert found.high is not None
    assert found.low < head / 0.1 < found.high


def test_decided_cases_are_not_measured_again(run: Callable[..., Ran]) -> None:
    """Only what is undecided goes into the next pair of launches."""

    def speed(side: str, name: str, turn: int) -> float:
        noisy = name == PREFILL.benchmark
        return (
            0.1
            * (1 + 0.1 * ((turn * 7919 + (side == "head") * 31) % 13) / 13 if noisy else 1.0)
            * jitter(side, turn)
        )

    ran = run(Machine(speed), DECODE, PREFILL)
    by_case = {
        name: sum(p.benchmark == name for p in ran.pairs) for name in (DECODE.benchmark, PREFILL.benchmark)
    }
    assert by_case[DECODE.benchmark] == RULE.looks[0][0] < by_case[PREFILL.benchmark]


def test_the_budget_of_samples_ends_it(run: Callable[..., Ran]) -> None:
    """With a small budget nothing is decided, and it says so."""
    ran = run(Machine(steady(0.1, 0.1)), DECODE, budget=Budget(samples=8))
    assert len(ran.pairs) == 4
    assert ran.verdicts()[DECODE.benchmark].verdict == "inconclusive"


def test_the_budget_of_time_ends_it(run: Callable[..., Ran]) -> None:
    """After the time is over no further case is begun."""
    ran = run(Machine(steady(1.0, 1.0)), DECODE, control=None, budget=Budget(seconds=13.0))
    assert [pair.number for pair in ran.pairs] == [1, 2, 3]


def test_what_was_disturbed_is_measured_again(run: Callable[..., Ran]) -> None:
    """A pair that stood in a queue for its core is stored with its reason, does not count, and is repeated."""
    busy = {"own_busy_cores": 0.5, "others_busy_cores": 1.0, "allowed_cores": 1}
    machine = Machine(steady(0.1, 0.1), sensors=lambda _side, turn: busy if 10 <= turn < 15 else {})
    ran = run(machine, DECODE)
    assert [bool(pair.disturbed) for pair in ran.pairs] == [False, True, *[False] * 5]
    found = ran.verdicts()[DECODE.benchmark]
    assert (found.verdict, found.pairs) == ("unchanged", 6)


def test_a_machine_that_is_always_disturbed_decides_nothing(run: Callable[..., Ran]) -> None:
    """A case is given up after a few disturbed pairs: it is inconclusive, with the reason."""
    busy = {"own_busy_cores": 0.5, "others_busy_cores": 1.0, "allowed_cores": 1}
    machine = Machine(steady(0.1, 0.2), sensors=lambda _side, _turn: busy)
    ran = run(machine, DECODE, budget=Budget(samples=200))
    found = ran.verdicts()[DECODE.benchmark]
    assert found.verdict == "inconclusive"
    assert "another program" in found.warnings[0]
    assert len(ran.pairs) == interleave.PATIENCE


def test_a_slow_control_sets_a_pair_aside(run: Callable[..., Ran]) -> None:
    """Where the fixed probe runs slower than usual, the pair beside it does not count."""
    slow = {"copy": 0.02, "product": 0.01}
    usual = {"copy": 0.01, "product": 0.01}
    machine = Machine(steady(0.5, 0.5), probe=lambda count: slow if count == 4 else usual)
    ran = run(machine, DECODE)
    assert [bool(pair.disturbed) for pair in ran.pairs] == [False] * 4 + [True] + [False] * 2


def test_a_machine_that_slows_down_for_good_is_still_measured(run: Callable[..., Ran]) -> None:
    """Some pairs are lost where the machine becomes slower and stays so; then that is what is usual."""
    times = {True: {"copy": 0.01, "product": 0.01}, False: {"copy": 0.013, "product": 0.013}}
    machine = Machine(steady(0.5, 0.5), probe=lambda count: times[count < 4])
    ran = run(machine, DECODE)
    lost = sum(bool(pair.disturbed) for pair in ran.pairs)
    assert 0 < lost < interleave.PATIENCE
    assert ran.verdicts()[DECODE.benchmark].verdict == "unchanged"


def test_a_control_that_fails_is_left_out(run: Callable[..., Ran]) -> None:
    """The comparison goes on without a control that can't run."""

    @dataclass
    class NoProbe(Machine):
        def __call__(self, prepared: Prepared) -> FakeSide:
            if prepared.name == "control":
                raise WorkerError("no such device")
            return super().__call__(prepared)

    ran = run(NoProbe(steady(0.1, 0.1)), DECODE)
    assert ran.verdicts()[DECODE.benchmark].verdict == "unchanged"


def test_bytes_are_compared_exactly(run: Callable[..., Ran]) -> None:
    """Counted numbers take three launches, and a difference beyond the threshold is certain."""
    same = run(Machine(steady_bytes(1_000_000, 1_000_000)), MEMORY)
    more = run(Machine(steady_bytes(1_000_000, 1_050_000)), MEMORY)
    assert (len(same.pairs), same.verdicts()[MEMORY.benchmark].verdict) == (3, "unchanged")
    assert (len(more.pairs), more.verdicts()[MEMORY.benchmark].verdict) == (3, "regressed")


def test_bytes_that_vary_between_launches_are_looked_at_longer(run: Callable[..., Ran]) -> None:
    """Where launches of one side overlap with the other, more are taken, and then nothing is claimed."""

    def speed(side: str, _name: str, turn: int) -> int:
        return 1_000_000 + (100_000 if (turn + (side == "head")) % 3 == 0 else 0) + 50_000 * (side == "head")

    ran = run(Machine(speed), MEMORY)
    assert len(ran.pairs) == interleave.COUNTED_MOST
    assert ran.verdicts()[MEMORY.benchmark].verdict == "inconclusive"


def steady_bytes(base: int, head: int) -> Callable[[str, str, int], int]:
    """Sides that always count the same."""
    return lambda side, _name, _turn: base if side == "base" else head


def test_a_case_that_fails_on_one_side_is_a_finding(run: Callable[..., Ran]) -> None:
    """A case that breaks at head is reported as broken with its reason, and the other cases go on."""

    def speed(side: str, name: str, turn: int) -> Any:
        if side == "head" and name == PREFILL.benchmark:
            return WorkerError("ValueError: no such shape", 1, ["the last line"])
        return 0.1 * jitter(side, turn)

    ran = run(Machine(speed), PREFILL, DECODE)
    found = ran.verdicts()
    assert (found[PREFILL.benchmark].verdict, found[PREFILL.benchmark].broken) == ("incomparable", "head")
    assert "no such shape" in found[PREFILL.benchmark].warnings[0]
    assert found[DECODE.benchmark].verdict == "unchanged"


def test_a_case_that_fails_on_both_sides_is_no_finding(run: Callable[..., Ran]) -> None:
    """What neither side can do is incomparable, and nobody broke it."""
    ran = run(Machine(lambda *_: WorkerTimeout(5.0, [])), PREFILL)
    found = ran.verdicts()[PREFILL.benchmark]
    assert (found.verdict, found.broken, len(found.warnings)) == ("incomparable", None, 2)


def test_a_skipped_side_is_incomparable(run: Callable[..., Ran]) -> None:
    """A benchmark that declines on one side is incomparable with its reason, and not broken."""

    def speed(side: str, _name: str, _turn: int) -> Any:
        return {"skipped": "needs 16 GB"} if side == "head" else 0.1

    found = run(Machine(speed), PREFILL).verdicts()[PREFILL.benchmark]
    assert (found.verdict, found.broken) == ("incomparable", None)
    assert "needs 16 GB" in found.warnings[0]


def test_other_tokens_are_seen(run: Callable[..., Ran]) -> None:
    """Sides that generate different tokens are said to, beside whatever their speed is."""
    found = run(Machine(steady(0.1, 0.1)), DECODE).verdicts()[DECODE.benchmark]
    assert "different tokens" in found.warnings[0]


def test_equal_seeds_draw_equal_orders(run: Callable[..., Ran]) -> None:
    """The order of turns is drawn from the stored seed."""
    orders = [
        [p.order for p in run(Machine(steady(0.1, 0.1)), DECODE, seed=seed).pairs] for seed in (7, 7, 8)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "soon"])
def test_a_time_that_cannot_be_is_a_failure(run: Callable[..., Ran], value: Any) -> None:
    """No time, a negative one or no number at all is recorded as that side's failure."""

    def speed(side: str, _name: str, turn: int) -> Any:
        wrong = {"samples": [value], "notes": {}, "sensors": {}}
        return wrong if side == "head" and turn >= 0 else 0.1

    found = run(Machine(speed), PREFILL).verdicts()[PREFILL.benchmark]
    assert found.broken == "head"
    assert "can't be compared" in found.warnings[0]


@pytest.mark.parametrize("seed", range(6))
def test_what_fails_on_both_sides_in_its_turn_is_nobodys_fault(run: Callable[..., Ran], seed: int) -> None:
    """Whichever side has the first turn, a case that fails on both is not called broken."""

    def speed(_side: str, _name: str, turn: int) -> Any:
        return WorkerError("ValueError: nowhere") if turn >= 0 else 0.1

    found = run(Machine(speed), PREFILL, seed=seed).verdicts()[PREFILL.benchmark]
    assert (found.verdict, found.broken, len(found.warnings)) == ("incomparable", None, 2)


def test_a_worker_that_dies_once_is_not_a_finding(run: Callable[..., Ran]) -> None:
    """A case that worked before gets another launch; the death is said beside its verdict."""
    deaths = iter([True])

    def speed(side: str, _name: str, turn: int) -> Any:
        if side == "head" and turn == 20 and next(deaths, False):
            return WorkerError("exit -9 (SIGKILL)", -9, [])
        return 0.1 * jitter(side, turn)

    found = run(Machine(speed), DECODE).verdicts()[DECODE.benchmark]
    assert (found.verdict, found.broken, found.pairs) == ("unchanged", None, 6)
    assert any("once on head: exit -9" in warning for warning in found.warnings)


def test_a_worker_that_dies_again_is_a_finding(run: Callable[..., Ran]) -> None:
    """A case that fails twice on one side is broken there, though it worked at first."""

    def speed(side: str, _name: str, turn: int) -> Any:
        return WorkerError("exit -9 (SIGKILL)") if side == "head" and turn > 20 else 0.1 * jitter(side, turn)

    found = run(Machine(speed), DECODE).verdicts()[DECODE.benchmark]
    assert (found.verdict, found.broken) == ("incomparable", "head")


def test_too_few_launches_say_nothing_about_bytes(run: Callable[..., Ran]) -> None:
    """Bytes too take three pairs of launches before anything is said of them."""
    found = run(Machine(steady_bytes(1000, 2000)), MEMORY, budget=Budget(samples=2)).verdicts()
    assert found[MEMORY.benchmark].verdict == "inconclusive"
