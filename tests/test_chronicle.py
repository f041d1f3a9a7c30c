"""What became of a change: its name, its commits, its state, and where a history begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fixtures_history as made
import pytest
from conftest import one_line
from fixtures_history import FIRST, PEAK, PREFILL, QUEUE, Detector, Lab, step

from mlx_velocity import changes, history, regressions
from mlx_velocity.commands import history as command
from mlx_velocity.commands.history import HistoryOptions
from mlx_velocity.errors import InputError
from mlx_velocity.history_report import CaseHistory, HistoryReport, Shift


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    return Detector(monkeypatch)


def tell(lab: Lab, **keys: str) -> HistoryReport:
    return command.tell(lab.track, HistoryOptions(**keys))  # type: ignore[arg-type]


def only(lab: Lab) -> CaseHistory:
    (case,) = tell(lab).machines[0].cases
    return case


def shift(lab: Lab) -> Shift:
    (found,) = only(lab).shifts
    return found


# Which commits


def test_where_a_change_may_lie(lab: Lab, detector: Detector) -> None:
    """The suspects are all commits behind the last good point up to the first bad one, measured or not."""
    levels: list[float | None] = [1.0, 1.0, None, None, 1.2, None, 1.2, 1.2]
    lab.fill(levels)
    detector.says(step(2, 1.2, first=2, last=3))
    found = shift(lab)
    assert found.good.hash == lab.commits[1]
    assert found.commit.hash == lab.commits[4]
    assert found.bad.hash == lab.commits[6]
    assert [commit.subject for commit in found.suspected] == [
        f"change {number}" for number in (2, 3, 4, 5, 6)
    ]
    assert found.suspects == 5
    assert found.packages == ["mlx 0.30.1 → 0.30.6"]
    assert (found.before, found.after) == (pytest.approx(1.0, rel=0.01), pytest.approx(1.2, rel=0.01))


def test_what_is_counted_keeps_its_numbers(lab: Lab, detector: Detector) -> None:
    """Levels of bytes are bytes that were counted."""
    for place, value in enumerate((1_000_001.0, 1_000_001.0, 2_000_003.0)):
        lab.add(place, [value], PEAK)
    detector.says(step(2, 2.0))
    case = only(lab)
    assert (case.now, case.shifts[0].before, case.shifts[0].after) == (2_000_003.0, 1_000_001.0, 2_000_003.0)


def test_now_is_the_level_or_the_newest_point_where_that_is_open(lab: Lab) -> None:
    """A level that the points know is what a case takes now; of a few that differ a lot, the newest one that counts is.

    A disturbed point is neither, but where nothing else was measured since the machine changed.
    """
    lab.fill([1.0, 1.01, 0.99, 1.0, 1.0, 1.02])
    lab.add(6, [4.0] * 3, sensors=QUEUE)
    lab.fill([0.6, 1.04, 0.8, 2.5], name="another")
    lab.add(4, [4.0] * 3, name="another", sensors=QUEUE)
    cases = {machine.name: machine.cases[0] for machine in tell(lab).machines}
    (known,) = cases["another"].segments
    assert changes.says_nothing(known.low, known.high)
    assert cases["another"].points[-1].disturbed
    assert cases["another"].now == pytest.approx(2.5, rel=0.02)
    assert cases["box"].points[-1].disturbed
    assert cases["box"].now == pytest.approx(1.0, rel=0.02)
    lab.add(7, [3.0] * 3, sensors=QUEUE, os="Linux 6.8")
    assert tell(lab).machines[1].cases[0].now == pytest.approx(3.0, rel=0.02)


# Its name


def test_an_id_is_of_a_case_on_a_machine_at_a_commit() -> None:
    """Another track, machine, environment, benchmark, parameter or commit has another id; the same has the same."""
    parts = ["track", "machine", "environment", "benchmark", ("a", "b"), "c" * 40]
    ids = {regressions.shift_id(*parts)}  # type: ignore[arg-type]
    for place in range(len(parts)):
        other = [*parts]
        other[place] = ("x",) if place == 4 else "x"
        ids.add(regressions.shift_id(*other))  # type: ignore[arg-type]
    assert len(ids) == 7
    assert regressions.shift_id(*parts) in ids  # type: ignore[arg-type]
    assert all(len(item) == 8 and set(item) <= set("abcdefghijklmnopqrstuvwxyz234567") for item in ids)


@pytest.mark.parametrize("moved", [(4, 3, 5), (6, 5, 6), (5, 5, 5)])
def test_an_id_stays_when_the_change_moves(moved: tuple[int, int, int], lab: Lab, detector: Detector) -> None:
    """A recorded jump keeps its id, and its state, while its suspected commits overlap those of then."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2, 4, 6))
    first = shift(lab).id
    command.decide(lab.track, first, "accepted", "a trade", None)
    lab.add(10, [1.2, 1.2])
    index, earliest, latest = moved
    detector.says(step(index, 1.2, earliest, latest))
    found = shift(lab)
    assert (found.id, found.state, found.reason) == (first, "accepted", "a trade")


def test_a_recorded_id_stays_without_a_decision(lab: Lab, detector: Detector) -> None:
    """`--record` keeps the id of a regression that nobody decided about, and recording again adds nothing."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2, 4, 6))
    before = tell(lab)
    assert command.record(lab.track, before) == 1
    assert command.record(lab.track, tell(lab)) == 0
    detector.says(step(6, 1.2, 5, 6))
    found = shift(lab)
    assert (found.id, found.state, found.recorded) == (next(before.shifts())[1].id, "open", True)


def test_another_jump_has_another_id(lab: Lab, detector: Detector) -> None:
    """A jump whose suspects have nothing in common with a recorded one is a new one, and alarms."""
    lab.fill([1.0] * 5 + [1.2] * 5 + [1.4] * 5)
    detector.says(step(5, 1.2))
    command.decide(lab.track, shift(lab).id, "accepted", "a trade", None)
    detector.says(step(5, 1.2), step(10, 1.17))
    old, new = only(lab).shifts
    assert (old.state, new.state) == ("accepted", "open")
    assert old.id != new.id
    assert tell(lab).exit_code == 1


def test_an_old_id_finds_its_jump(lab: Lab, detector: Detector) -> None:
    """An id that was shown before more commits were measured is accepted, though nothing was recorded."""
    lab.fill([1.0, 1.0, None, None, 1.2, 1.2, 1.2])
    detector.says(step(2, 1.2))
    shown = shift(lab).id
    lab.add(3, [1.2, 1.2])
    lab.add(2, [1.0, 1.0])
    detector.says(step(3, 1.2))
    now = shift(lab).id
    assert now != shown
    command.decide(lab.track, shown, "accepted", "a trade", None)
    assert (shift(lab).id, shift(lab).state) == (now, "accepted")


def test_the_beginning_of_an_id_will_do(lab: Lab, detector: Detector) -> None:
    """An id may be shortened while it is clear; nothing, or what begins no id, is refused."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2))
    whole = shift(lab).id
    assert command.decide(lab.track, whole[:5].upper(), "accepted", "x", None)[1].id == whole
    for wrong in ("", "00000000"):
        with pytest.raises(InputError) as error:
            command.decide(lab.track, wrong, "accepted", "x", None)
        assert "no change has the id" in one_line(error)


def test_two_ids_that_begin_alike(lab: Lab, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could be two changes is refused, with both named."""
    monkeypatch.setattr(regressions, "shift_id", lambda *parts: f"same{regressions.hashlib.sha256(repr(parts).encode()).hexdigest()[:4].translate(str.maketrans('0189', 'wxyz'))}")  # fmt: skip
    lab.fill([1.0] * 5 + [1.2] * 5 + [1.5] * 5)
    detector.says(step(5, 1.2), step(10, 1.25))
    with pytest.raises(InputError) as error:
        command.decide(lab.track, "same", "accepted", "x", None)
    assert "2 changes begin with 'same'" in one_line(error)


# Its state


def test_accepted_and_reopened(lab: Lab, detector: Detector) -> None:
    """An accepted regression alarms nobody, a reopened one does; the last word counts."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2))
    assert tell(lab).exit_code == 1
    command.decide(lab.track, shift(lab).id, "accepted", "exact sums", None)
    assert (shift(lab).state, shift(lab).reason, tell(lab).exit_code) == ("accepted", "exact sums", 0)
    command.decide(lab.track, shift(lab).id, "open", "reopened", None)
    assert (shift(lab).state, tell(lab).exit_code) == ("open", 1)


def test_an_improvement_has_no_state_to_set(lab: Lab, detector: Detector) -> None:
    """What became faster alarms nobody and can't be accepted."""
    lab.fill([1.2] * 5 + [1.0] * 5)
    detector.says(step(5, 0.83))
    assert (shift(lab).direction, shift(lab).state, tell(lab).exit_code) == ("improved", "improved", 0)
    with pytest.raises(InputError) as error:
        command.decide(lab.track, shift(lab).id, "accepted", "x", None)
    assert "improvement" in one_line(error)


@pytest.mark.parametrize(
    ("level", "state"), [(1.0, "fixed"), (0.8, "fixed"), (1.015, "fixed"), (1.05, "open"), (1.15, "open")]
)
def test_fixed_by_a_later_improvement(level: float, state: str, lab: Lab, detector: Detector) -> None:
    """A regression is fixed once a later improvement brings its level back; part of it is not enough."""
    lab.fill([1.0] * 5 + [1.2] * 5 + [level] * 5)
    detector.says(step(5, 1.2), step(10, level / 1.2))
    found, _ = only(lab).shifts
    assert found.state == state
    assert (found.fixed_by.hash if found.fixed_by else None) == (
        lab.commits[10] if state == "fixed" else None
    )


def test_an_unconfirmed_repair_is_none(lab: Lab, detector: Detector) -> None:
    """One fast point does not mend a regression."""
    lab.fill([1.0] * 5 + [1.2] * 5 + [1.0])
    detector.says(step(5, 1.2), step(10, 0.83, confirmed=False))
    assert [item.state for item in only(lab).shifts] == ["open", "unconfirmed"]


def test_a_border_mends_nothing(lab: Lab, detector: Detector) -> None:
    """Behind another system a lower level says nothing about the regression before it."""
    lab.fill([1.0] * 4 + [1.2] * 4)
    for place in range(8, 16):
        lab.add(place, [1.2, 1.2] if place < 12 else [1.0, 1.0], os="Linux 6.8")
    detector.says(step(4, 1.2), step(12, 0.83))
    assert only(lab).shifts[0].state == "open"


def test_reopened_after_the_repair(lab: Lab, detector: Detector) -> None:
    """Who opens a regression again is not contradicted by the repair that was there, but by a later one."""
    lab.fill([1.0] * 4 + [1.2] * 4 + [1.0] * 4)
    detector.says(step(4, 1.2), step(8, 0.83))
    name = only(lab).shifts[0].id
    assert only(lab).shifts[0].state == "fixed"
    command.decide(lab.track, name, "open", "the repair was reverted elsewhere", None)
    assert only(lab).shifts[0].state == "open"
    for place, level in enumerate([1.2, 1.2, 1.2, 1.0, 1.0, 1.0], 12):
        lab.add(place, [level, level])
    detector.says(step(4, 1.2), step(8, 0.83), step(12, 1.2), step(15, 0.83))
    assert only(lab).shifts[0].state == "open"


def test_fixed_by_hand(lab: Lab, detector: Detector) -> None:
    """A regression that is said to be fixed is so until two points since that commit are as slow as before."""
    lab.fill([1.0] * 4 + [1.2] * 4)
    detector.says(step(4, 1.2))
    command.decide(lab.track, shift(lab).id, "fixed", "", lab.commits[9])
    found = shift(lab)
    assert (found.state, found.fixed_by.hash if found.fixed_by else "") == ("fixed", lab.commits[9])
    lab.add(9, [1.2, 1.2])
    assert shift(lab).state == "fixed"
    lab.add(10, [1.2, 1.2])
    assert shift(lab).state == "open"
    assert "recorded as fixed" in shift(lab).note
    assert tell(lab).exit_code == 1


def test_recorded_when_it_was_fixed(lab: Lab, detector: Detector) -> None:
    """`--record` keeps that a recorded regression is mended since, and by which commit."""
    lab.fill([1.0] * 4 + [1.2] * 4)
    detector.says(step(4, 1.2))
    command.record(lab.track, tell(lab))
    for place in range(8, 12):
        lab.add(place, [1.0, 1.0])
    detector.says(step(4, 1.2), step(8, 0.83))
    assert command.record(lab.track, tell(lab)) == 1
    (mark,) = regressions.read(lab.track.results_dir)[0].values()
    assert (mark.state, mark.fixed_by) == ("fixed", lab.commits[8])


def test_a_recorded_regression_that_is_gone(lab: Lab, detector: Detector) -> None:
    """A recorded regression that is no longer found is named, not forgotten."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2))
    name = shift(lab).id
    command.record(lab.track, tell(lab))
    detector.says()
    assert tell(lab).machines[0].lost == [name]
    assert tell(lab).exit_code == 0


# What stands on one point


def test_unconfirmed(lab: Lab, detector: Detector) -> None:
    """A regression of the newest point alone is unconfirmed, which is no alarm, and not all well either."""
    lab.fill([1.0] * 6 + [1.3])
    detector.says(step(6, 1.3, confirmed=False))
    assert (shift(lab).state, tell(lab).exit_code) == ("unconfirmed", 3)
    command.decide(lab.track, shift(lab).id, "accepted", "known", None)
    assert (shift(lab).state, tell(lab).exit_code) == ("accepted", 0)


@pytest.mark.parametrize(
    ("level", "launches", "state"), [(1.3, 6, "open"), (1.3, 5, "unconfirmed"), (1.0005, 6, "unconfirmed")]
)
def test_confirmed_by_launches(level: float, launches: int, state: str, lab: Lab, detector: Detector) -> None:
    """Six launches on each side whose 99 % interval leaves no room for `no change` confirm a newest point."""
    lab.fill([1.0] * 6 + [level], launches=launches)
    detector.says(step(6, level, confirmed=False))
    assert shift(lab).state == state


def test_counted_numbers_are_confirmed_by_a_second_launch(lab: Lab, detector: Detector) -> None:
    """Bytes that two launches count alike are no accident."""
    for place in range(6):
        lab.add(place, [1e6, 1e6], PEAK)
    lab.add(6, [2e6], PEAK)
    detector.says(step(6, 2.0, confirmed=False))
    assert shift(lab).state == "unconfirmed"
    lab.add(6, [2e6], PEAK)
    assert shift(lab).state == "open"


# What is asked for


def test_older_versions_alarm_nobody(lab: Lab, detector: Detector) -> None:
    """A regression of a workload that the suite does not have any more is told, and no alarm."""
    lab.fill([1.0] * 5 + [1.2] * 5, benchmark={**PREFILL, "version": "old"})
    detector.says(step(5, 1.2))
    assert [item.state for item in only(lab).shifts] == ["open"]
    assert not only(lab).current
    assert tell(lab).exit_code == 0
    assert list(tell(lab).shifts()) == []


def test_since_a_commit(lab: Lab, detector: Detector) -> None:
    """`--since COMMIT` is what came behind it; a change that came with it is not."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2))
    assert tell(lab, since=lab.commits[4]).exit_code == 1
    later = tell(lab, since=lab.commits[5])
    assert later.exit_code == 0
    assert later.machines[0].cases[0].shown == []
    assert later.machines[0].cases[0].first_shown == 6


DAY = 86_400
START = 1_767_225_600
"""2026-01-01."""


@pytest.mark.parametrize(
    ("dates", "since", "place"),
    [
        ([START + n * DAY for n in range(6)], "2026-01-04", 3),
        ([START + n * DAY for n in range(6)], "2026-01-01", 0),
        ([START + n * DAY for n in range(6)], "2025", 0),
        ([START + n * DAY for n in range(6)], "2026-02", 6),
        ([START, START + DAY, 2**33, START + 3 * DAY, 0, START + 5 * DAY], "2026-01-04", 2),
        ([START] * 6, "2026-01-01", 0),
        ([START] * 6, "2026-01-02", 6),
    ],
)
def test_since_a_date(dates: list[int], since: str, place: int, tmp_path: Path) -> None:
    """A date means the place in the graph that the fewest dates contradict: one wrong date moves nothing."""
    lab = Lab(tmp_path, 6, dates)
    assert history.place_since(lab.repo_path, lab.line(), since) == place


@pytest.mark.parametrize("since", ["2026-13", "2026-02-30", "nothing", "--all"])
def test_since_nothing(since: str, lab: Lab) -> None:
    """What is neither a date nor a commit is refused with what to write."""
    with pytest.raises(InputError) as error:
        history.place_since(lab.repo_path, lab.line(), since)
    one_line(error)


def test_regressions_alone(lab: Lab, detector: Detector) -> None:
    """`--only-regressions` leaves out what improved, what is fixed, and cases that have nothing else."""
    lab.fill([1.0] * 4 + [1.2] * 4 + [1.0] * 4 + [1.4] * 4)
    lab.fill([1.0] * 16, params=("'tiny-4bit'", "32"))
    detector.says(step(4, 1.2), step(8, 0.83), step(12, 1.4))
    told = command.tell(lab.track, HistoryOptions(only_regressions=True))
    assert [[item.state for item in case.shifts] for case in told.machines[0].cases] == [["open"]] * 2
    detector.says(step(8, 0.83))
    assert command.tell(lab.track, HistoryOptions(only_regressions=True)).machines[0].cases == []


def test_a_part_says_what_the_whole_says(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """All series of a machine are judged together, whichever case is asked for."""
    judged: list[int] = []
    lab.fill([1.0] * 4)
    lab.fill([1.0] * 4, params=("'tiny-4bit'", "32"))
    from mlx_velocity import changepoints
    from mlx_velocity.series import Found

    def find_many(
        many: list[object], rule: object = None, memory: object = None, each: object = None
    ) -> list[Found]:
        judged.append(len(many))
        return [Found() for _ in many]

    monkeypatch.setattr(changepoints, "find_many", find_many)
    tell(lab, case="float32")
    assert judged[0] == 2


# The file


def mark(**keys: object) -> regressions.Mark:
    return dataclasses.replace(
        regressions.Mark(
            "abcdefgh", "accepted", "box", made.ENV_NAME, PREFILL["name"], list(FIRST), "a" * 40, "b" * 40, "c" * 40,
            "d" * 40, "a subject", 1.2, "a reason", None, "2026-01-02T03:04:05.000Z",
        ),
        **keys,  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A mark comes back as it was, and the last one of an id counts."""
    regressions.append(tmp_path, [mark(), mark(id="bcdefgh2", reason="« 漢字 »\n`x`")])
    regressions.append(tmp_path, [mark(state="open", reason="")])
    marks, bad = regressions.read(tmp_path)
    assert bad == []
    assert marks == {"abcdefgh": mark(state="open", reason=""), "bcdefgh2": mark(id="bcdefgh2", reason="« 漢字 »\n`x`")}  # fmt: skip
    assert len(regressions.path_in(tmp_path).read_text("utf-8").splitlines()) == 3


def test_a_cut_last_line_swallows_nothing(tmp_path: Path) -> None:
    """What is recorded behind half a line is on a line of its own."""
    regressions.append(tmp_path, [mark()])
    path = regressions.path_in(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"format":1,"ki')
    regressions.append(tmp_path, [mark(id="bcdefgh2")])
    marks, bad = regressions.read(tmp_path)
    assert set(marks) == {"abcdefgh", "bcdefgh2"}
    assert len(bad) == 1


@pytest.mark.parametrize(
    "keys", [{"id": "ABC"}, {"state": "wontfix"}, {"ratio": 0.0}, {"commit": "main"}, {"at": "yesterday"}]
)
def test_what_is_no_mark(keys: dict[str, object]) -> None:
    """What the schema does not allow is not written."""
    with pytest.raises(ValueError, match=next(iter(keys))):
        regressions.dump(mark(**keys))


def test_a_broken_file_of_states(lab: Lab, detector: Detector) -> None:
    """A line that can't be read is named and the others count; so a lost acceptance alarms, and says why."""
    lab.fill([1.0] * 5 + [1.2] * 5)
    detector.says(step(5, 1.2))
    command.decide(lab.track, shift(lab).id, "accepted", "a trade", None)
    path = regressions.path_in(lab.track.results_dir)
    path.write_text("no JSON\n" + path.read_text("utf-8"), "utf-8")
    told = tell(lab)
    assert told.exit_code == 0
    assert [item.file for item in told.machines[0].unread] == ["regressions.jsonl"]
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")
    assert tell(lab).exit_code == 1


@pytest.mark.parametrize("what", ["newer", "folder"])
def test_a_file_of_states_that_can_not_be_used(what: str, lab: Lab) -> None:
    """A file of a later version, or none that can be read, is an error: alarms without it would be wrong."""
    lab.fill([1.0] * 3)
    path = regressions.path_in(lab.track.results_dir)
    if what == "newer":
        path.write_text('{"format": 2, "kind": "regression"}\n', "utf-8")
    else:
        path.mkdir()
    with pytest.raises(InputError) as error:
        tell(lab)
    assert ("upgrade" if what == "newer" else "can't be read") in one_line(error)
