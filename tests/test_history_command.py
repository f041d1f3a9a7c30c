"""`mlx-velocity history` as a user meets it: what it prints, writes and records, and how it ends."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import fixtures_site as site
import pytest
from conftest import HELLO, SAMPLES, Office
from fixtures_history import BENCHMARKS, LABEL, PREFILL, Detector, Lab, Run, step
from fixtures_site import Done
from jsonschema import Draft202012Validator
from rich.console import Console

from mlx_velocity import archive, history, machine, regressions, schemas
from mlx_velocity.commands import confirm  # fmt: skip
from mlx_velocity.commands import history as command
from mlx_velocity.commands.history import HistoryOptions
from mlx_velocity.errors import InputError
from mlx_velocity.report import sparkline

ROOT = Path(__file__).parents[1]
OTHER = ("'tiny-4bit'", "32")


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    return Detector(monkeypatch)


@pytest.fixture
def stepped(lab: Lab) -> Lab:
    """One case with a step of +20 % at the eighth commit, and one that is as it was."""
    lab.fill([1.0] * 8 + [1.2] * 8)
    lab.fill([2.0] * 16, params=OTHER)
    return lab


def refused(done: Done, *words: str, code: int = 2) -> None:
    """The one line of a command that failed: what is wrong, and after a semicolon what to do."""
    assert done.code == code, done
    assert re.fullmatch(r"mlx-velocity: \S.*; \S.*\n", done.err), done.err
    assert "this is a bug" not in done.err
    for word in words:
        assert word in done.err


# What is shown


def test_overview(stepped: Lab, said: Run) -> None:
    """Without arguments, cases that changed come with their change, and the rest are counted."""
    done = said("history")
    assert done.code == 1, done
    assert "box (made-up, 2 cores, Linux 6.1): 16 commits measured, 2026-01-01 … 2026-01-16." in done.out
    (row,) = [line for line in done.out.splitlines() if "prefill.Prefill.time_prefill" in line]
    assert re.search(r"▁+▆*█+|▁+▇*█+", row)
    assert "+20" in row
    assert stepped.commits[8][:8] in row
    assert "open" in row
    assert "tokens/s" in done.out
    assert "1 change: 1 open; 1 case without a change." in done.out
    assert "mlx-velocity history CASE" in done.out


def test_one_case_in_full(stepped: Lab, said: Run) -> None:
    """One case is shown with the guilty commit, its packages, and what to do next, each as a command."""
    done = said("history", "float32")
    assert done.code == 1, done
    assert f"{LABEL}, version 1, in velocity-py3.11-backendcpu" in done.out
    assert "16 points of 3 launches each" in done.out
    assert re.search(r"open [a-z2-7]{8}: \+(19|20)\.\d % \(", done.out)
    assert f"{stepped.commits[8][:8]} change 8 (2026-01-09)" in done.out
    assert "packages: mlx 0.30.7 → 0.30.8" in done.out
    assert f"mlx-velocity compare {stepped.commits[7][:8]} {stepped.commits[8][:8]} --bench" in done.out
    assert "mlx-velocity history accept" in done.out


def test_suspects_and_how_to_find_the_guilty_one(lab: Lab, said: Run, detector: Detector) -> None:
    """Where several commits may be guilty they are listed, with the bisect command that finds out."""
    lab.fill([1.0, 1.0, 1.0, None, None, None, None, None, None, None, 1.2, 1.2])
    detector.says(step(3, 1.2))
    done = said("history", "float32")
    good, bad = lab.commits[2][:8], lab.commits[10][:8]
    assert f"one of the 8 commits behind {good} change 2 (2026-01-03) up to {bad} change 10" in done.out
    assert "change 3 (2026-01-04)" in done.out
    assert "and 3 more" in done.out
    assert f"mlx-velocity bisect {good} {bad} --case '{LABEL}' --track made-up" in done.out
    assert "7 commits not measured" in done.out
    bench = re.search(r"--bench '(.*?)'", said("history", "tiny", "--json", "-").out)
    assert bench is None


def test_the_printed_pattern_means_that_case(stepped: Lab, said: Run) -> None:
    """The regular expression of a printed command matches its own case and no other."""
    out = " ".join(said("history", "float32").out.split())
    pattern = re.search(r"--bench '(.*?)'", out)
    assert pattern is not None
    labels = [case.label for case in command.tell(stepped.track, HistoryOptions()).machines[0].cases]
    assert [label for label in labels if re.search(pattern[1], label)] == [LABEL]


def test_borders_gaps_and_disturbed_points_are_told(lab: Lab, said: Run) -> None:
    """A case in full says where something else changed, what failed, and which points say nothing."""
    from fixtures_history import QUEUE

    lab.fill([1.0] * 4)
    lab.add(5, [1.0, 1.0], os="Linux 6.8")
    lab.add(6, [1.9, 1.9], sensors=QUEUE, os="Linux 6.8")
    done = said("history", "float32")
    assert f"at {lab.commits[5][:8]} os: Linux 6.1 → Linux 6.8" in done.out
    assert f"1 commit not measured: {lab.commits[4][:8]}" in done.out
    assert "1 point disturbed, another program computed on the same core" in done.out


def test_several_machines(stepped: Lab, said: Run) -> None:
    """Each machine has its own part; --machine shows one alone."""
    stepped.fill([1.0] * 8, name="other")
    both = said("history")
    assert "box (made-up" in both.out
    assert "other (made-up" in both.out
    assert "box (made-up" not in said("history", "--machine", "other").out
    assert said("history", "--machine", "other").code == 0


def test_a_narrow_terminal(stepped: Lab, said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns no line is cut or longer, and nothing of a case is lost."""
    from mlx_velocity import cli

    narrow = Console(width=80)
    narrow.file = None  # type: ignore[assignment]
    told = command.tell(stepped.track, HistoryOptions())
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    command.show(told, None, None, False, Console(width=80, file=out))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(LABEL in line and "open" in line for line in lines)
    assert any("+20" in line and "▁" in line for line in lines)
    assert cli is not None


def test_no_more_cases_than_fit(lab: Lab, detector: Detector) -> None:
    """Of many cases with changes the foremost are shown and the others counted."""
    for model in ("float32", "4bit"):
        for tokens in ("32", "128"):
            lab.fill([1.0] * 4 + [1.2] * 4, params=(f"'tiny-{model}'", tokens))
    detector.says(step(4, 1.2))
    from mlx_velocity.report import history as written

    out = Console(width=160, file=io.StringIO())
    for part in written.text_of(command.tell(lab.track, HistoryOptions()), sparkline.BLOCKS, 3, 160):
        out.print(part)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("time_prefill") == 3
    assert "and 1 more case with changes" in text


def test_ascii(stepped: Lab) -> None:
    """Where the output takes ASCII alone, all is said in ASCII and nothing breaks."""
    done = site.program("history", cwd=stepped.folder, env={"PYTHONIOENCODING": "ascii", "COLUMNS": "160"})
    assert done.code == 1, done.err
    assert done.out.isascii()
    assert "+20" in done.out
    assert re.search(r"_{5,}[*#]+", done.out)
    assert "?" not in done.out


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [1.0, 2.0, 3.0], [1e-9, 1e9]])
def test_levels_of_a_sparkline(values: list[float]) -> None:
    """The lowest value is drawn lowest, the highest highest, and a flat series in the middle."""
    drawn = sparkline.levels(values, 8)
    assert len(drawn) == len(values)
    assert all(0 <= level <= 7 for level in drawn)
    if len(set(values)) > 1:
        assert (drawn[0], drawn[-1]) == (0, 7)
    elif values:
        assert set(drawn) <= {3, 4}


def test_commands_name_the_repository(stepped: Lab, said: Run) -> None:
    """A command that is printed stands on a line and finds the repository that was named; one that is written names no place of this machine."""
    options = f"--track made-up --repo {stepped.repo_path}"
    lines = said("history", "--repo", stepped.repo_path).out.splitlines()
    assert f"    mlx-velocity history CASE {options}" in lines
    assert f'    mlx-velocity history accept ID {options} --because "…"' in lines
    one = said("history", "Prefill.*float32", "--repo", stepped.repo_path)
    assert one.out.count(options) == 2
    assert stepped.repo_path not in said("history", "--markdown", "-", "--repo", stepped.repo_path).out


def test_noise_looks_flat() -> None:
    """Noise of a per cent does not fill the height of a sparkline."""
    assert (
        max(sparkline.levels([1.0, 1.01, 0.99, 1.005], 8))
        - min(sparkline.levels([1.0, 1.01, 0.99, 1.005], 8))
        < 3
    )


# What is written


def test_json(stepped: Lab, said: Run, tmp_path: Path) -> None:
    """`--json` writes a document of its schema with all points; `-` prints nothing else."""
    stepped.fill([1e6] * 3, benchmark=BENCHMARKS["decode.Memory.track_peak_bytes"], launches=1)
    done = said("history", "--json", "-")
    document = json.loads(done.out)
    Draft202012Validator(schemas.load("history-output.schema.json")).validate(document)
    assert document["exit_code"] == done.code == 1
    (case,) = [item for item in document["machines"][0]["cases"] if item["label"] == LABEL]
    assert [point["commit"] for point in case["points"]] == stepped.commits[:16]
    assert case["shifts"][0]["commit"]["hash"] == stepped.commits[8]
    said("history", "--json", str(tmp_path / "deep" / "out.json"), "--quiet")
    assert json.loads((tmp_path / "deep" / "out.json").read_text("utf-8")) == document


def test_every_field_is_in_the_schema() -> None:
    """The schema allows no field that the records lack, and asks for each that they have."""
    import dataclasses

    from mlx_velocity import comparison, history_report, points, series

    defs = schemas.load("history-output.schema.json")["$defs"]
    for record in (
        history_report.MachineHistory, history_report.CaseHistory, history_report.Shift, history_report.Border,
        history_report.Unread, history_report.Outage, history_report.SideBySide, comparison.CaseVerdict, points.Point, points.Gap, series.Segment,
    ):  # fmt: skip
        names = {field.name for field in dataclasses.fields(record)}
        assert set(defs[record.__name__]["properties"]) == set(defs[record.__name__]["required"]) == names


def test_markdown(stepped: Lab, said: Run, tmp_path: Path) -> None:
    """The report says first what regressed, then what improved, with details folded."""
    stepped.fill([3.0] * 8 + [2.0] * 8, params=("'tiny-float32'", "128"))
    done = said("history", "--markdown", "-")
    text = done.out
    assert text.startswith("# What changed in track `made-up`\n")
    places = [text.index(word) for word in ("- **1** regressed, and open", "- **1** improved", "## Regressed", "## Improved", "<details>")]  # fmt: skip
    assert places == sorted(places)
    assert text.count("<details>") == text.count("</details>") == 2
    assert f"`{LABEL}`" in text
    assert "Nothing changed" not in text
    said("history", "--markdown", str(tmp_path / "report.md"))
    assert (tmp_path / "report.md").read_text("utf-8") == text


def test_markdown_of_nothing(lab: Lab, said: Run) -> None:
    """A report without a change says so."""
    lab.fill([1.0] * 8)
    assert "**Nothing changed.**" in said("history", "--markdown", "-").out


def test_both_to_the_terminal(stepped: Lab, said: Run) -> None:
    """Two documents can't go to one output."""
    refused(said("history", "--json", "-", "--markdown", "-"), "both")


def test_hostile_words_are_words(lab: Lab, said: Run, detector: Detector) -> None:
    """Markup, control and direction signs of a machine, a reason or a version are shown as text."""
    lab.fill([1.0] * 4 + [1.2] * 4, os="[red]x[/]\x1b[31m<b>|`")
    detector.says(step(4, 1.2))
    told = command.tell(lab.track, HistoryOptions())
    command.decide(lab.track, next(told.shifts())[1].id, "accepted", "[bold]\u202e</details>\x1b]8;;", None)
    shown = said("history", "float32")
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert "[bold]" in shown.out
    report = said("history", "--markdown", "-").out
    assert report.count("</details>") == report.count("<details>")
    assert "\x1b" not in report


# What is decided


def test_accept_reopen_fixed(stepped: Lab, said: Run) -> None:
    """Verbs record a state that the next history shows, and that decides how it ends."""
    name = re.search(r"open ([a-z2-7]{8})", said("history", "float32").out)
    assert name is not None
    done = said("history", "accept", name[1][:6], "--because", "exact sums")
    assert (done.code, done.err) == (0, "")
    assert f"{name[1]} is accepted now (it was open)" in done.out
    shown = said("history", "float32")
    assert shown.code == 0
    assert "because: exact sums" in shown.out
    assert said("history", "reopen", name[1]).code == 0
    assert said("history").code == 1
    assert said("history", "fixed", name[1], "--commit", "main").code == 0
    shown = said("history", "float32")
    assert shown.code == 0
    assert f"fixed by {stepped.commits[-1][:8]}" in shown.out
    marks, bad = regressions.read(stepped.track.results_dir)
    assert (list(marks), bad) == ([name[1]], [])


def test_record(stepped: Lab, said: Run) -> None:
    """`--record` keeps what was found, once."""
    assert "1 recorded" in said("history", "--record").out
    assert "0 recorded" in said("history", "--record").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["accept", "zzzzzzzz", "--because", "x"],
            ["no change has the id 'zzzzzzzz'", "mlx-velocity history"],
        ),
        (["accept", "a", "--because", " "], ["without a reason"]),
        (["decode", "prefill"], ["one CASE", "'prefill'"]),
        (["--machine", "box", "accept", "abc"], ["comes first"]),
        (["decode", "accept"], ["comes first"]),
        (["--since", "2026-99"], ["no date", "2026-01-31"]),
        (["--since", "nothing"], ["no commit"]),
        (["--branch", "nothing"], ["no branch"]),
        (["--machine", "nobody"], ["the machines with results are: box"]),
        (["("], ["no regular expression"]),
        (["time_prefil1"], ["did you mean prefill.Prefill.time_prefill"]),
        (["zzz"], ["no case with results matches 'zzz'"]),
    ],
)
def test_wrong_words(arguments: list[str], words: list[str], stepped: Lab, said: Run) -> None:
    """Whatever is wrong is said in a line, with what to do."""
    refused(said("history", *arguments), *words)


def test_a_verb_without_its_words(stepped: Lab, said: Run) -> None:
    """A verb without an id or a reason is wrong usage; a case that is called like a verb is reached as a pattern."""
    assert said("history", "accept").code == 2
    assert said("history", "accept", "abc").code == 2
    refused(said("history", "(accept)"), "no case with results matches")


def test_help_of_a_verb(said: Run) -> None:
    """The usage of a verb names no CASE, since a verb comes first."""
    assert "history accept [OPTIONS]" in said("history", "accept", "--help").out
    assert "history [OPTIONS] [CASE] | VERB ID" in said("history", "--help").out


# Bad input


def test_no_results(lab: Lab, said: Run) -> None:
    """Without results the program says how to get some."""
    refused(said("history"), "there are no results in track made-up", "mlx-velocity run")


def test_one_point(lab: Lab, said: Run) -> None:
    """A history of one point has no changes, and says why."""
    lab.add(3, [1.0, 1.1])
    done = said("history", "float32")
    assert done.code == 0
    assert "One point says nothing about changes" in done.out
    assert said("history").code == 0


def test_commits_that_the_repository_lacks(stepped: Lab, said: Run) -> None:
    """Results of unknown commits are counted and said; with nothing else that is an error."""
    path = stepped.open(stepped.commits[0]).readings_path
    shutil.copy(path, path.with_name(path.name.replace(path.name[:8], "abababab")))
    done = said("history")
    assert "left out results of 1 commit that the repository does not have" in done.out
    assert done.code == 1
    for old in stepped.box().glob("*-*"):
        if not old.name.startswith("abababab"):
            old.unlink()
    refused(said("history"), "none of the 1 measured commits", "--repo")


def test_corrupt_files(stepped: Lab, said: Run) -> None:
    """A corrupt file is named and changes nothing else; where nothing is left the program fails."""
    for number, place in enumerate((2, 3)):
        stored = stepped.open(stepped.commits[place])
        (stored.path if number else stored.readings_path).write_bytes(b"\x00[\n")
    done = said("history")
    assert done.code == 1
    assert done.out.count("not read") == 2
    for path in stepped.box().glob("*-*.json*"):
        path.unlink() if path.name.endswith(".json") else path.write_text("{", "utf-8")
    for path in stepped.box().glob("*.readings.jsonl"):
        path.write_text('{"format": 9, "kind": "launch"}\n', "utf-8")
    refused(said("history"), "no result of track made-up can be read", "validate", code=4)


def test_without_descriptions(stepped: Lab, said: Run) -> None:
    """Without benchmarks.json and machine.json the numbers are shown all the same, and what is missing is said."""
    (stepped.track.results_dir / "benchmarks.json").unlink()
    (stepped.box() / "machine.json").write_text("[", "utf-8")
    done = said("history")
    assert done.code == 1
    assert "benchmarks.json" in done.out
    assert "not read box/machine.json" in done.out


def test_a_newer_file_of_states(stepped: Lab, said: Run) -> None:
    """A file of states that a later version wrote is refused, not ignored."""
    regressions.path_in(stepped.track.results_dir).write_text('{"format": 2}\n', "utf-8")
    refused(said("history"), "upgrade mlx-velocity")


def test_the_file_of_states_is_valid(stepped: Lab, said: Run) -> None:
    """`validate` knows the file of states, and says what is wrong with it."""
    said("history", "--record")
    assert said("validate").code == 0
    with regressions.path_in(stepped.track.results_dir).open("a") as stream:
        stream.write('{"format": 1, "kind": "regression"}\n')
    assert said("validate").code == 2


# Confirming


@pytest.fixture
def waiting(lab: Lab, detector: Detector, fake_environments: dict[str, Exception], monkeypatch: pytest.MonkeyPatch) -> Lab:  # fmt: skip
    """This machine, with a newest point that stands alone, and workers that measure 1.3 s at once."""
    here = str(machine.describe()["machine"])
    described = {key: str(value) for key, value in machine.describe().items() if key != "machine"}
    for place in range(6):
        lab.add(place, [1.0, 1.001], name=here, **described)
    lab.add(6, [1.3, 1.301], name=here, **described)
    target = lab.box(here) / "machine.json"
    target.write_text(machine.text_of(machine.describe()), "utf-8")
    detector.says(step(6, 1.3, confirmed=False))
    return lab


def office() -> Office:
    """Measures 1.0 and 1.3 s in turns, as the commits take turns in the order ABBA; and one more launch each."""
    first, second = ({**SAMPLES, "samples": [level, level * 1.001, level]} for level in (1.0, 1.3))
    turns = [first, second, second, first, first, second, second, first]
    return Office(
        {PREFILL["name"]: turns, "hello": HELLO, "discover": {"benchmarks": list(BENCHMARKS.values())}}
    )


def test_confirm(waiting: Lab, said: Run) -> None:
    """`--confirm` measures the newest point and the one before it in turns, and then the change is confirmed."""
    told = command.tell(waiting.track, HistoryOptions())
    assert told.exit_code == 3
    started = office()
    out = Console(width=160, file=io.StringIO())
    summary = confirm.confirm(waiting.track, told, out, False, started)
    assert summary is not None
    assert (summary.measured, summary.commits) == (8, 2)
    assert len(started.measured()) == 8
    again = command.tell(waiting.track, HistoryOptions())
    (case,) = again.machines[0].cases
    assert [point.launches for point in case.points[-2:]] == [6, 6]
    assert [item.state for item in case.shifts] == ["open"]
    assert again.exit_code == 1
    assert confirm.outcome(told, again).startswith("Of 1 unconfirmed change 1 confirmed, 0 gone")
    assert "Confirming 1 change at 2 commits" in out.file.getvalue()  # type: ignore[attr-defined]


def test_turns(waiting: Lab) -> None:
    """The two commits take turns launch by launch, in the order ABBA, until both have enough."""
    from mlx_velocity import cases
    from mlx_velocity.commands.run import open_results

    here = waiting.box(str(machine.describe()["machine"]))
    sides = []
    for place in (5, 6):
        commit = history.one(waiting.repo_path, waiting.commits[place])
        sides.append((open_results(waiting.track, commit, here, machine.describe(), "cpu"), commit))
    (case,) = cases.every([{**PREFILL, "params": [["'tiny-float32'"], ["32"]]}], None, 60.0)
    plans = confirm.turns(sides[0], sides[1], [case])
    order = "".join("A" if plan.commit.hash == waiting.commits[5] else "B" for plan in plans)
    assert order == "ABBAABBA"
    assert all(plan.size == 1 for plan in plans)


def test_nothing_to_confirm(stepped: Lab, said: Run, detector: Detector) -> None:
    """Where nothing is unconfirmed `--confirm` says so and measures nothing."""
    detector.says(step(8, 1.2))
    done = said("history", "--confirm")
    assert done.code == 1
    assert "Nothing is unconfirmed." in done.out


def test_confirm_elsewhere(lab: Lab, detector: Detector) -> None:
    """What another machine measured can't be confirmed here, and that is said with its name."""
    lab.fill([1.0] * 6 + [1.3], name="far-away")
    detector.says(step(6, 1.3, confirmed=False))
    told = command.tell(lab.track, HistoryOptions())
    with pytest.raises(InputError, match="far-away"):
        confirm.confirm(lab.track, told, Console(file=io.StringIO()), False)


def test_what_would_confirm_it(lab: Lab, said: Run, detector: Detector) -> None:
    """An unconfirmed change comes with the command that confirms it, and ends the program with 3."""
    lab.fill([1.0] * 6 + [1.3])
    detector.says(step(6, 1.3, confirmed=False))
    done = said("history", "float32")
    assert done.code == 3
    assert "unconfirmed" in done.out
    assert "--confirm --track made-up" in " ".join(done.out.split())


# The real thing


def test_the_program_itself(stepped: Lab) -> None:
    """The program as a user starts it: a pipe gets plain text, and the exit code says that a regression is open."""
    done = site.program("history", "prefill", "--since", "2026-01-05", cwd=stepped.folder)
    assert done.code == 1, done.err
    assert "\x1b" not in done.out
    assert "since 2026-01-05" in done.out
    assert LABEL in done.out
    assert done.err == ""


def test_the_committed_history(said: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of this repository's own results: every case, nothing left out, a valid document."""
    monkeypatch.chdir(ROOT)
    done = said("history", "--json", "-")
    assert done.code in (0, 1, 3)
    document = json.loads(done.out)
    Draft202012Validator(schemas.load("history-output.schema.json")).validate(document)
    boxes = {box["name"]: box for box in document["machines"]}
    assert archive.machines(ROOT / "results" / "releases") == list(boxes)
    for name, box in boxes.items():
        assert (box["unread"], box["unknown"], box["elsewhere"]) == ([], 0, 0)
        assert box["commits"] == len(list((ROOT / "results" / "releases" / name).glob("*.readings.jsonl")))
    # The time to first token fell by nearly a third with mlx-lm 0.27.0, far beyond any noise.
    (case,) = [
        item
        for item in boxes["linux-x86-2core"]["cases"]
        if item["label"] == "first_token.FirstToken.time_first_token(tiny-float32, 128)"
    ]
    tags = [
        tag for shift in case["shifts"] for tag in shift["commit"]["tags"] if shift["direction"] == "improved"
    ]
    assert "mlx-lm-0.27.0" in tags
