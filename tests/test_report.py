"""The report of a commit: every number with what it rests on, and a reason for each that is missing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fixtures_site as made
import pytest
from conftest import SAMPLES, Office
from fixtures_site import Done
from jsonschema import Draft202012Validator
from rich.console import Console

from mlx_velocity import cases, history, run_report, scheduler, schemas
from mlx_velocity.commands import report as command
from mlx_velocity.errors import EnvironmentFailure, InputError
from mlx_velocity.report import run as written
from mlx_velocity.run_report import RunReport
from mlx_velocity.workers import WorkerError

PREFILL = "prefill.Prefill.time_prefill"
KERNEL = {
    **made.BENCHMARKS[0],
    "name": "some_kernels.Matmul.time_matmul",
    "params": [["'float16'"]],
    "param_names": ["dtype"],
}
SWEEP = {**made.BENCHMARKS[0], "tokens_from": "tokens"}
ALL = [SWEEP, made.BENCHMARKS[1], KERNEL]
QUEUE = {"own_busy_cores": 0.4, "others_busy_cores": 0.9, "allowed_cores": 1}
ROOM = {"own_busy_cores": 1.0, "others_busy_cores": 0.1, "allowed_cores": 1, "available_bytes": 2**33}


def answer(*samples: float, **keys: Any) -> dict[str, Any]:
    return {**SAMPLES, "samples": list(samples), **keys}


class Lab:
    """A made-up track that the real scheduler measures with fake workers."""

    def __init__(self, folder: Path, clock: Callable[[], float], errors: dict[str, Exception]) -> None:
        self.track, self.clock, self.errors = made.make_track(folder), clock, errors
        self.commits = [
            history.one(self.track.conf.repo, item.hexsha) for item in made.commits_of(self.track)
        ]
        cases.save(self.track, ALL)

    def measure(self, place: int, machine: str = "box", launches: int | None = None, **answers: Any) -> None:
        """Measure a commit; `answers` are those of an Office, a case's key ends with its number."""
        commit = self.commits[place]
        stored = made.open_results(self.track, made.commits_of(self.track)[place], machine)
        office = Office({key.replace("__", "."): value for key, value in answers.items()})
        listed = cases.every(ALL, None, 60.0)
        plans = [scheduler.plan(stored, commit, listed, launches)]
        scheduler.run_plans(
            self.track, self.track.conf.repo, plans, {item["name"]: item for item in ALL}, profile="tiny",
            start_worker=office, clock=self.clock,
        )  # fmt: skip

    def report(
        self, commit: int | None = None, since: int | None = None, machines: tuple[str, ...] = ("box",)
    ) -> RunReport:
        names = [None if place is None else self.commits[place].hash for place in (commit, since)]
        return command.report(self.track, command.ReportOptions(names[0], names[1], list(machines), None))

    def said(self, *arguments: Any, **keys: Any) -> str:
        return written.markdown(self.report(*arguments, **keys))


@pytest.fixture
def lab(tmp_path: Path, clock: Callable[[], float], fake_environments: dict[str, Exception]) -> Lab:
    return Lab(tmp_path, clock, fake_environments)


def tables(markdown: str) -> list[list[str]]:
    """The tables of a document as lists of lines."""
    found: list[list[str]] = [[]]
    for line in markdown.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def sound(markdown: str) -> str:
    """The document, after a look that no table is empty or ragged and nothing is left open."""
    assert "TBD" not in markdown
    for table in tables(markdown):
        assert len(table) >= 3, f"an empty table:\n{table[0]}"
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(columns) == 1, "\n".join(table)
    sections = re.split(r"^#+ .*$", markdown, flags=re.MULTILINE)[1:]
    headings = re.findall(r"^#+ .*$", markdown, flags=re.MULTILINE)
    for number, (heading, body) in enumerate(zip(headings, sections, strict=True)):
        below = headings[number + 1 : number + 2]
        assert body.strip() or (below and below[0].startswith("###")), f"nothing below {heading}"
    return markdown


def row(markdown: str, label: str) -> list[str]:
    """The cells of the first row that begins with a label."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| `{label}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


# Numbers


def test_every_case_has_its_row(lab: Lab) -> None:
    """A case stands in its stage with value, spread, rate, launches and samples."""
    lab.measure(-1, **{f"{PREFILL}": [answer(1.0, 2.0, 30.0), answer(4.0)]})
    said = sound(lab.said())
    # Launch medians 2 and 4: their median is 3, their standard deviation is the root of 2.
    assert row(said, f"{PREFILL}(tiny-float32, tokens 32)") == ["3 s ± 47.1 %", "10.7", "2/4"]
    assert row(said, f"{PREFILL}(tiny-4bit, tokens 128)") == ["2 s ± 0 %", "64", "2/6"]
    assert row(said, "decode.Memory.track_peak_bytes") == ["2 B", "1/3"]


def test_stages_in_order(lab: Lab) -> None:
    """Stages stand in the order of a request's life, bytes are memory, and any other file gets a table too."""
    lab.measure(-1)
    titles = [stage.title for stage in lab.report().stages]
    assert titles == ["Prefill", "Memory", "Some kernels"]
    assert "`some_kernels.Matmul.time_matmul(dtype float16)`" in lab.said()


def test_header(lab: Lab) -> None:
    """The head names commit, machine, system, backend, versions and the core that was used."""
    lab.measure(-1)
    report = lab.report()
    said = written.markdown(report)
    assert f"`{report.commit.hash[:8]}`" in said
    assert "mlx 0.25.2 → 0.26.0" in said
    assert said.count("`box`") == 1
    for expected in ("made-up", "7.45 GiB", "Linux 6.1", "cpu"):
        assert f"`{expected}`" in said
    (machine,) = report.machines
    assert (machine.affinity, machine.modules, machine.launches) == ([1], {"toy": "2.0"}, 2)
    assert machine.started <= machine.ended


def test_several_machines(lab: Lab) -> None:
    """Several machines stand side by side, each with its numbers, its failures and its changes."""
    lab.measure(-1)
    lab.measure(-1, "other", **{PREFILL: WorkerError("exit -9", -9), f"{PREFILL}1": answer(7.0)})
    said = sound(lab.said(machines=("box", "other")))
    assert row(said, f"{PREFILL}(tiny-float32, tokens 32)") == [
        "2 s ± 0 %",
        "16",
        "2/6",
        "`failed: exit -9`",
        "",
        "",
    ]
    assert row(said, f"{PREFILL}(tiny-float32, tokens 128)")[3] == "7 s ± 0 %"
    assert said.count("### `other`") == 4
    assert "`box` time" in said


def test_newest_measured_commit_is_the_default(lab: Lab) -> None:
    """Without a commit the newest that all the machines have is reported, whatever was measured last."""
    for place in (-1, -3, -2):
        lab.measure(place)
    lab.measure(-2, "other")
    assert lab.report().commit.hash == lab.commits[-1].hash
    assert lab.report(machines=("box", "other")).commit.hash == lab.commits[-2].hash
    lab.measure(-4, "third")
    with pytest.raises(InputError, match="on all of box, third"):
        lab.report(machines=("box", "third"))


# What did not happen


def test_failures_and_skips(lab: Lab) -> None:
    """What failed and what was skipped stands there with its reason, and has no number."""
    answers = {PREFILL: WorkerError("exit -6 (SIGABRT)", -6), f"{PREFILL}1": {"skipped": "needs 16 GB"}}
    lab.measure(-1, **answers)
    said = sound(lab.said())
    assert f"- failed: 1 case (`{PREFILL}(tiny-float32, 32)`): `exit -6 (SIGABRT)`" in said
    assert f"- skipped: 1 case (`{PREFILL}(tiny-float32, 128)`): `needs 16 GB`" in said
    assert f"{PREFILL}(tiny-float32, tokens" not in said


def test_environment_that_failed(lab: Lab) -> None:
    """Where no environment could be had, every stage says so, and nothing else is called missing."""
    lab.errors[lab.commits[-1].hash] = EnvironmentFailure("no wheel of mlx 0.26.0", incompatible=True)
    lab.measure(-1)
    said = sound(lab.said())
    assert said.count("Nothing was measured here: `incompatible: no wheel of mlx 0.26.0`.") == 3
    assert "- incompatible: the environment: `no wheel of mlx 0.26.0`" in said
    assert "Nothing is missing." in said
    assert "not recorded" in said


def test_what_was_not_measured(lab: Lab) -> None:
    """Cases of a profile that was not run, and cases with too few launches, are named with the reason."""
    sizes = {**made.BENCHMARKS[0], "params": [["'tiny-float32'", "'llama-3.1-8b-4bit'"], ["32", "512"]]}
    small = cases.every([sizes], r"tiny-float32, 32", 60.0)
    stored = made.open_results(lab.track, made.commits_of(lab.track)[-1])
    scheduler.run_plans(
        lab.track, "repo", [scheduler.plan(stored, lab.commits[-1], small, 1)], {sizes["name"]: sizes},
        profile="tiny", start_worker=Office(), clock=lab.clock,
    )  # fmt: skip
    cases.save(lab.track, [sizes, KERNEL])
    said = sound(lab.said())
    assert f"- incomplete: 1 case (`{PREFILL}(tiny-float32, 32)`): `1 of 2 launches so far`" in said
    assert f"(`{PREFILL}(llama-3.1-8b-4bit, 512)`): `profile large was not run here: --profile large" in said
    assert "(`some_kernels.Matmul.time_matmul(float16)`): `profile tiny was run without them" in said
    assert "Nothing was measured here: `missing: profile tiny was run without them" in said
    assert row(said, PREFILL)[-1] == "1 of 2/3"


def test_measured_with_an_earlier_version(lab: Lab) -> None:
    """A case whose benchmark has changed since is missing for that reason, and its old number is not shown."""
    lab.measure(-1)
    cases.save(lab.track, [{**item, "version": "2"} if item is KERNEL else item for item in ALL])
    assert "measured with an earlier version of the benchmark" in sound(lab.said())


def test_stock_asv(lab: Lab) -> None:
    """What stock asv measured is shown, and said to have no launches."""
    lab.measure(-1)
    made.open_results(lab.track, made.commits_of(lab.track)[-1]).readings_path.unlink()
    said = sound(lab.said())
    assert row(said, f"{PREFILL}(tiny-4bit, tokens 128)")[0] == "2 s"
    assert "stock asv measured it, and tells nothing of launches" in said


# What disturbed


def test_disturbed_launches(lab: Lab) -> None:
    """A case that had to share its core is named; its value rests on the other launches where two remain."""
    quiet, busy = answer(1.0, sensors=ROOM), answer(9.0, sensors=QUEUE)
    lab.measure(-1, launches=3, **{PREFILL: [quiet, busy, quiet], f"{PREFILL}1": [busy, busy, quiet]})
    said = sound(lab.said())
    reason = "`another program computed on the same core`"
    _, _, quality = said.partition("## Quality")
    assert row(quality, f"{PREFILL}(tiny-float32, 32)") == [reason, "1 of 3", "no"]
    assert row(quality, f"{PREFILL}(tiny-float32, 128)") == [reason, "2 of 3", "yes"]
    assert row(said, f"{PREFILL}(tiny-float32, tokens 32)")[0] == "1 s ± 0 %"
    assert row(said, f"{PREFILL}(tiny-float32, tokens 128)")[0].endswith("(disturbed)")


def test_quiet_machine(lab: Lab) -> None:
    """On a quiet machine no launch is called disturbed, and what the sensors say is summed up."""
    everything = {"prefill.Prefill.time_prefill" + str(n or ""): answer(1.0, sensors=ROOM) for n in range(4)}
    lab.measure(-1, **everything)
    (machine,) = lab.report().machines
    assert machine.disturbances == []
    assert machine.sensors[0].startswith("Other programs kept 0.1 cores busy")
    assert "8 GiB of memory were available" in machine.sensors[1]


def test_sensors_that_lie_or_are_missing(lab: Lab) -> None:
    """Readings of more busy cores than there are count for nothing, and no sensors at all is said."""
    lab.measure(-2)
    assert "No sensor was read" in lab.said()
    lab.measure(-1, **{PREFILL: answer(1.0, sensors={"others_busy_cores": 4_000.0})})
    said = lab.said()
    assert "2 readings of busy cores exceed" in said
    assert "4000" not in said
    assert "2 of 2 readings do not say how much of its core the process had" in said


def test_swap(lab: Lab) -> None:
    """Memory that moved to swap during a case is named."""
    lab.measure(-1, **{PREFILL: answer(1.0, sensors={**ROOM, "swap_growth_bytes": 2**28})})
    assert "memory was moved to swap" in sound(lab.said())


# What changed


def test_changes(lab: Lab) -> None:
    """The changes are against the commit measured before, or against the one that is named."""
    lab.measure(-3, **{PREFILL: [answer(1.0), answer(1.01)]})
    lab.measure(-2, **{PREFILL: [answer(2.0), answer(2.01)]})
    lab.measure(-1, **{PREFILL: [answer(2.0), answer(2.01)]})
    said = sound(lab.said())
    assert "0 grew and 0 shrank" in said
    assert lab.report(commit=-2).machines[0].changes.base == lab.report(commit=-3).commit
    since = sound(lab.said(since=-3))
    assert "1 grew and 0 shrank by more than noise and 2 %" in since
    _, _, changed = since.partition("## What changed")
    assert row(changed, f"{PREFILL}(tiny-float32, 32)")[:3] == ["1.00 s", "2.00 s", "31.8 → 16.0"]


def test_nothing_to_compare_with(lab: Lab) -> None:
    """The first measured commit says that there is none before it; one without results says that."""
    lab.measure(-1)
    assert "No earlier commit is measured on this machine." in sound(lab.said())
    assert "Nothing is compared: there are no results of" in sound(lab.said(since=-2))
    with pytest.raises(InputError, match="'nonsense' is no commit"):
        command.report(lab.track, command.ReportOptions(None, "nonsense", ["box"], None))


def test_other_tokens(lab: Lab) -> None:
    """A case whose greedy tokens differ from before is named: it may compute something else."""
    lab.measure(-2, **{PREFILL: answer(1.0, notes={"digest": "a" * 16})})
    lab.measure(-1, **{PREFILL: answer(1.0, notes={"digest": "b" * 16})})
    assert (
        f"Other greedy tokens than before, and so perhaps another computation: `{PREFILL}(tiny-float32, 32)`"
        in lab.said()
    )


# What comes out


def test_json(lab: Lab) -> None:
    """The JSON is as its schema says, which names every field; what is no number is null."""
    schema = schemas.load("report-output.schema.json")
    Draft202012Validator.check_schema(schema)
    lab.measure(-2)
    lab.measure(-1, **{PREFILL: answer(1.0, sensors=QUEUE), f"{PREFILL}1": {"skipped": "needs 16 GB"}})
    lab.measure(-1, "other")
    data = json.loads(written.document(lab.report(machines=("box", "other"))))
    Draft202012Validator(schema).validate(data)
    assert data["format"] == run_report.FORMAT
    assert data["stages"][0]["rows"][0]["values"]["box"]["value"] == 1.0
    for kind, described in schema["$defs"].items():
        fields = set(getattr(run_report, kind).__dataclass_fields__)
        assert set(described["properties"]) == set(described["required"]) == fields


def test_foreign_text_breaks_no_table(lab: Lab) -> None:
    """Whatever a reason holds, the document keeps its tables and holds no markup of it."""
    bad = "a | b\n| --- |\n<script>alert(1)</script> `x` [l](javascript:1) \x1b[31m \u202e"
    lab.measure(-1, **{PREFILL: WorkerError(bad, 1), f"{PREFILL}1": {"skipped": bad}})
    lab.measure(-1, "other")
    said = sound(lab.said(machines=("box", "other")))
    for sign in ("<script", "\x1b", "\u202e", "](java"):
        assert sign not in said


def test_terminal_and_pipe(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the report is set as a page; in a pipe it is the Markdown itself."""
    lab.measure(-1)
    done = lab.report()
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    command.show(done, None, None, terminal)
    page = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "| ---" not in page
    assert "Prefill" in page
    command.show(done, None, None, Console(file=io.StringIO(), force_terminal=False))
    assert capsys.readouterr().out == written.markdown(done)


def test_files(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both files are written as a whole, and nothing is printed then."""
    lab.measure(-1)
    done = lab.report()
    paths = [tmp_path / "out" / "report.md", tmp_path / "out" / "report.json"]
    command.show(done, *map(str, paths), Console())
    assert [path.read_text("utf-8") for path in paths] == [written.markdown(done), written.document(done)]
    assert capsys.readouterr().out == ""


# The program


@pytest.fixture
def here(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs the program in the folder of the lab."""
    monkeypatch.chdir(lab.track.root)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Done:
        return made.in_process(monkeypatch, capsys, *arguments)

    return run


def test_its_own_command_gives_it_again(lab: Lab, here: Callable[..., Done]) -> None:
    """The command that the report ends with prints the same report."""
    lab.measure(-2)
    lab.measure(-1)
    first = here("report", "--machine", "box")
    assert first.code == 0
    (again,) = re.findall(r"^mlx-velocity (report .*)$", first.out, re.MULTILINE)
    assert here(*again.split()).out == first.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "'nonsense' is no commit"),
        (["--machine", "moon"], "no results of machine moon"),
        (["--bench", "no such"], "no benchmark matches 'no such'"),
        (["--bench", "("], "no regular expression"),
        (["main~3"], "no results of"),
        (["--json", "-", "--markdown", "-"], "can't both go to the terminal"),
        (["--track", "moon"], "no track 'moon'"),
    ],
)
def test_wrong_input(arguments: list[str], words: str, lab: Lab, here: Callable[..., Done]) -> None:
    """Wrong input is one line that says what is wrong and what to do."""
    lab.measure(-1)
    done = here("report", "--machine", "box", *arguments)
    assert done.code == 2
    assert re.fullmatch(r"mlx-velocity: \S.*; \S.*\n", done.err), done.err
    assert words in done.err


def test_committed_results(tmp_path: Path) -> None:
    """The results of this repository give a sound report of every stage, without a failure of ours."""
    stored = made.ROOT / "results" / "releases"
    if not made.has_results(stored):
        pytest.skip("this checkout holds no results")
    track = made.make_track(tmp_path, repo="releases:mlx,mlx-lm", dvcs="releases", results_dir=str(stored))
    names = sorted(path.parent.name for path in stored.glob("*/machine.json"))
    report = command.report(track, command.ReportOptions(None, None, names[:1], None))
    said = sound(written.markdown(report))
    assert {stage.title for stage in report.stages} >= {
        "Prefill",
        "First token",
        "Decode",
        "LoRA",
        "Memory",
        "Startup",
    }
    assert report.machines[0].changes.base is not None
    assert "mlx-lm" in said
    Draft202012Validator(schemas.load("report-output.schema.json")).validate(
        json.loads(written.document(report))
    )


def test_reads_only(lab: Lab) -> None:
    """A report moves and writes nothing, even where a file is broken."""
    lab.measure(-1)
    stored = made.open_results(lab.track, made.commits_of(lab.track)[-1])
    with stored.readings_path.open("a") as stream:
        stream.write("this is no reading\n")
    before = {path: path.read_bytes() for path in lab.track.results_dir.rglob("*") if path.is_file()}
    lab.report()
    assert {path: path.read_bytes() for path in lab.track.results_dir.rglob("*") if path.is_file()} == before
