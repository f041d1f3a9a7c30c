"""`mlx-velocity bench`: what is asked for, real workers with a tiny model, five formats, refusals, interruption."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mlx_velocity import installed, schemas
from mlx_velocity.bench import Model, Row, Run, Trial, mean_sd
from mlx_velocity.cli import app
from mlx_velocity.commands import bench, bench_roofline, bench_trials
from mlx_velocity.commands.bench_trials import Wanted
from mlx_velocity.commands.progress import BenchProgress, left_s
from mlx_velocity.errors import InputError, Interrupted
from mlx_velocity.probe import shapes
from mlx_velocity.report import bench as report
from mlx_velocity.workers import WorkerError

MODEL = "tiny-float32"
SCHEMA = schemas.validator("bench.schema.json")

# What was asked for


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("512", [512]),
        ("128, 512,128", [128, 512]),
        ("1-4", [1, 2, 3, 4]),
        ("128-512+128", [128, 256, 384, 512]),
        ("128-1000*2,7", [128, 256, 512, 7]),
        ("0", [0]),
    ],
)
def test_numbers_are_written_as_for_llama_bench(text: str, numbers: list[int]) -> None:
    """Lists and ranges mean what they mean to llama-bench; each number comes once."""
    assert bench_trials.numbers(text, "-p", 0) == numbers


@pytest.mark.parametrize("text", ["", "x", "-5", "5-1", "1-4*1", "0-8*2", "1-9+0", "1.5", "1-999999", "0"])
def test_a_meaningless_number_is_refused(text: str) -> None:
    """What is no number, no range or too small is one line with what to write."""
    with pytest.raises(InputError) as error:
        bench_trials.numbers(text, "-p", 1)
    assert "-p" in str(error.value)
    assert error.value.advice


def test_trials_come_once_and_with_llama_benchs_names() -> None:
    """Each test has the name that llama-bench's readers know, and none comes twice."""
    wanted = Wanted("512", "128", "0,4096", "1,4", True, True, "same", True)
    names = [trial.name for trial in bench_trials.trials(wanted)]
    assert names == [
        "pp512", "tg128", "tg128 stepwise", "pp512 b4", "tg128 b4", "tg128 b4 stepwise", "tg128 b4 batched",
        "tg128 speculative", "pp512@d4096", "tg128@d4096", "tg128@d4096 stepwise", "pp512@d4096 b4", "tg128@d4096 b4",
        "tg128@d4096 b4 stepwise", "tg128@d4096 b4 batched", "tg128@d4096 speculative", "pp512 reuse",
    ]  # fmt: skip
    assert [trial.name for trial in bench_trials.trials(Wanted(generated="0"))] == ["pp512"]
    assert [trial.name for trial in bench_trials.trials(Wanted(prompts="0", batched=True))] == ["tg128", "tg128 b4 batched"]  # fmt: skip
    with pytest.raises(InputError, match="nothing to measure"):
        bench_trials.trials(Wanted("0", "0"))


def test_built_in_texts_are_short_medium_and_long() -> None:
    """The built-in prompts grow by about an order of magnitude each."""
    lengths = [len(text) for text in bench_trials.TEXTS.values()]
    assert list(bench_trials.TEXTS) == ["short", "medium", "long"]
    assert lengths[0] * 5 < lengths[1] < lengths[2] / 5
    assert [trial.name for trial in bench_trials.of_texts(bench_trials.TEXTS, "8")] == [
        "short",
        "medium",
        "long",
    ]


def test_texts_of_a_file(tmp_path: Path) -> None:
    """A file holds prompts with a line of dashes between two; an empty or unreadable one is refused."""
    path = tmp_path / "prompts.txt"
    path.write_text("One\nof two lines\n---\n\nTwo -- not\n--- \n", "utf-8")
    assert bench_trials.texts_of(path) == {"text 1": "One\nof two lines", "text 2": "Two -- not"}
    path.write_text("---\n", "utf-8")
    with pytest.raises(InputError, match="holds no text"):
        bench_trials.texts_of(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="can't be read"):
        bench_trials.texts_of(path)


def test_a_format_is_chosen_or_guessed() -> None:
    """The format is the one asked for, else what the file is called, else Markdown."""
    assert bench.format_of(None, None) == bench.format_of(None, Path("x.txt")) == "md"
    assert bench.format_of(None, Path("x.jsonl")) == "jsonl"
    assert bench.format_of("csv", Path("x.json")) == "csv"
    with pytest.raises(InputError, match="no format 'xml'"):
        bench.format_of("xml", None)


# How it is shown

RUN = Run(
    started="2026-01-02T03:04:05.000Z",
    machine={"os": "Linux 6", "arch": "x86_64", "cpu": "Chip | 1", "num_cpu": "2", "ram": "8000000000", "gpu": ""},
    backend="cpu",
    memory_bytes=8_000_000_000,
    python="3.11.7",
    modules={"mlx": "0.32.4", "mlx_lm": "0.32.2"},
    rows=[
        Row(Model("it's|one", "4bit", 2**20, 2_000_000, True, 2048, {"hidden_size": 8}), Trial("decode", 100, 0, 2), samples=[1.0, 2.0],
            peak_bytes=2**21, notes={"digest": "00ff"}),
        Row(Model("big"), Trial("prefill", 512), "skipped", "needs 16.1 GB, this machine has 8.0 GB"),
        Row(Model("big"), Trial("decode", 128), "skipped", "needs 16.1 GB, this machine has 8.0 GB"),
        Row(Model("text"), Trial("text", 11, label="short"), samples=[3.0], first_token_s=[1.0], notes={"prompt_tokens": 50}),
        Row(Model("drafted"), Trial("speculative", 10, draft="same"), samples=[0.5], notes={"drafted": 8, "accepted": 6}),
    ],
)  # fmt: skip


def test_rates_are_means_of_rates() -> None:
    """t/s is the mean of the samples' rates with the sample standard deviation, all sequences together."""
    assert RUN.rows[0].rates == [200.0, 100.0]
    assert mean_sd(RUN.rows[0].rates) == (150.0, pytest.approx(70.71, abs=0.01))
    assert mean_sd([5.0]) == (5.0, None)


def test_markdown_is_a_table_for_people() -> None:
    """The table has llama-bench's columns; what is missing stands below with its reason, once a reason."""
    text = report.markdown(RUN)
    squeezed = re.sub(r" +", " ", text)
    assert "| it's\\|one | 1 MiB | 2.00 M | cpu | tg100 b2 | | 150.00 ± 70.71 |" in squeezed
    assert "| drafted | 0 B | – | cpu | tg10 speculative | 75 % | 20.00 |" in squeezed
    assert "| text | short | 50 | 50.00 | 5.00 | 1000.00 | 3.00 |" in squeezed
    assert text.count("needs 16.1 GB") == 1
    assert "skipped: big pp512, tg128: needs 16.1 GB, this machine has 8.0 GB" in text
    for lines in text.split("\n\n")[:2]:
        assert len({len(line) for line in lines.splitlines()}) == 1, "a table's lines have one width"


def test_json_and_json_lines_follow_the_schema() -> None:
    """Both JSON formats are described by the schema, raw samples and reasons included."""
    document = json.loads(report.json_document(RUN))
    SCHEMA.validate(document)
    assert document["rows"][0]["samples"] == [1.0, 2.0]
    assert document["rows"][0]["tokens_per_s"]["mean"] == 150
    assert document["rows"][4]["acceptance"] == 0.75
    lines = [json.loads(line) for line in report.json_lines(RUN).splitlines()]
    for line, row in zip(lines, document["rows"], strict=True):
        SCHEMA.validate(line)
        assert row.items() <= line.items()


@pytest.mark.parametrize("harm", [{"outcome": "fine"}, {"samples": []}, {"more": 1}, {"peak_bytes": -1}])
def test_the_schema_refuses_what_is_wrong(harm: dict[str, Any]) -> None:
    """A line that says something impossible does not pass."""
    line = json.loads(report.json_lines(RUN).splitlines()[0])
    assert SCHEMA.is_valid(line)
    assert not SCHEMA.is_valid({**line, **harm})


def test_csv_and_sql_hold_the_same_rows() -> None:
    """SQLite executes the SQL, twice too, and then holds what the CSV says."""
    rows = list(csv.DictReader(io.StringIO(report.comma_separated(RUN))))
    with sqlite3.connect(":memory:") as database:
        database.executescript(report.sql(RUN))
        database.executescript(report.sql(RUN))
        database.row_factory = sqlite3.Row
        stored = [dict(row) for row in database.execute(f"SELECT * FROM {report.TABLE}")]
    assert len(stored) == 2 * len(rows) == 10
    for line, row in zip(rows, stored, strict=False):
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}
    assert stored[0]["model"] == "it's|one"
    assert stored[1]["mean_tokens_per_s"] is None


def test_an_empty_run_has_every_format() -> None:
    """A run that was interrupted before its first sample is still written."""
    empty = dataclasses.replace(RUN, rows=[], interrupted=True)
    assert all(isinstance(write(empty), str) for write in report.WRITERS.values())
    SCHEMA.validate(json.loads(report.json_document(empty)))


@pytest.mark.parametrize(
    ("outcomes", "interrupted", "code"),
    [(["measured"], False, 0), (["measured", "skipped"], False, 0), (["skipped"], False, 3),
     (["measured", "failed"], False, 4), (["measured"], True, 130)],
)  # fmt: skip
def test_exit_codes(outcomes: list[Any], interrupted: bool, code: int) -> None:
    """0 fine, 3 nothing measured, 4 something failed, 130 interrupted."""
    rows = [Row(Model("m"), Trial("decode", 1), outcome) for outcome in outcomes]
    assert dataclasses.replace(RUN, rows=rows, interrupted=interrupted).exit_code == code


# Driving workers


READING = {
    "device": {"name": "a chip", "memory_bytes": 8, "gpu_cores": None, "on_cpu": True},
    "copies": [{"bytes": 100, "seconds": [0.5, 0.25]}],
    "products": {"float32": [{"rows": 8, "flops": 1000, "seconds": [1.0]}]},
    "skipped": {},
}
"""400 B/s and 1 kFLOP/s."""


class FakeWorker:
    """Answers as a worker would; `dies` and `interrupted` name the request at which it does."""

    def __init__(self, dies: str = "", interrupted: str = "") -> None:
        self.dies, self.interrupted, self.closed, self.count = dies, interrupted, False, 0

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert not self.closed
        if message["op"] == "peaks":
            return {"peaks": READING}
        if message["do"] == "plan":
            plan = {
                "models": message["models"],
                "draft": message["draft"],
                "backend": "cpu",
                "python": "3.11.7",
            }
            return {**plan, "modules": {"mlx": "1", "mlx_lm": "2"}, "memory_bytes": 8}
        if message["do"] == "load":
            self.check(message["model"])
            if message["model"] == "too-large":
                return {"skipped": "needs 16.1 GB, this machine has 8.0 GB"}
            return {"model": dataclasses.asdict(Model(message["model"], "float32", 4, 1, True, 1, {}))}
        self.check(f"{message['model']} {message['trial']['stage']} {self.count}")
        self.count += 1
        if message["trial"]["stage"] == "batched":
            return {"skipped": "no BatchGenerator"}
        if message["trial"]["stage"] == "stepwise":
            return {"failed": "RuntimeError: out of memory", "last_lines": []}
        return {"seconds": 0.5, "peak_bytes": self.count, "notes": {"tokens": 3}, "sensors": {"load_1m": 0.1}}

    def check(self, what: str) -> None:
        if what == self.dies:
            self.closed = True
            lines = ["Fatal Python error: Aborted", "libc++abi: terminating due to bf16", "  at a line"]
            raise WorkerError("exit -6 (SIGABRT)", -6, lines)
        if what == self.interrupted:
            raise KeyboardInterrupt

    def close(self) -> None:
        self.closed = True


def measured(models: list[str], wanted: Wanted, **fake: str) -> tuple[Run, list[FakeWorker]]:
    """A run with fake workers, three samples each after one warm-up."""
    workers: list[FakeWorker] = []

    def start(_: installed.Installed) -> FakeWorker:
        workers.append(FakeWorker(**fake))
        return workers[-1]

    options = bench.BenchOptions(models, bench_trials.trials(wanted), repetitions=3)
    run = bench.bench(options, BenchProgress(Console(file=io.StringIO()), quiet=True), start)
    assert all(worker.closed for worker in workers), "a worker was left behind"
    return run, workers


def outcomes(run: Run) -> list[tuple[str, str, str]]:
    return [(row.model.name, row.trial.name, row.outcome) for row in run.rows]


def test_each_model_has_a_process_of_its_own() -> None:
    """A model is measured in its own worker; what can't be measured has its reason and stops nothing."""
    run, workers = measured(["one", "too-large", "two"], Wanted("8", "4", batched=True, stepwise=True))
    assert len(workers) == 4, "one for each model, and one for the peaks of the machine"
    assert outcomes(run) == [
        ("one", "pp8", "measured"), ("one", "tg4", "measured"), ("one", "tg4 stepwise", "failed"), ("one", "tg4 b4 batched", "skipped"),
        ("too-large", "pp8", "skipped"), ("too-large", "tg4", "skipped"),
        ("too-large", "tg4 stepwise", "skipped"), ("too-large", "tg4 b4 batched", "skipped"),
        ("two", "pp8", "measured"), ("two", "tg4", "measured"), ("two", "tg4 stepwise", "failed"), ("two", "tg4 b4 batched", "skipped"),
    ]  # fmt: skip
    first = run.rows[0]
    assert (first.samples, first.warmup, first.first_token_s) == ([0.5] * 3, [0.5], [0.5] * 3)
    assert (first.peak_bytes, run.rows[1].first_token_s) == (4, [])
    assert run.exit_code == 4


@pytest.mark.parametrize(("dies", "left"), [("one", ["pp8", "tg4"]), ("one decode 5", ["tg4"])])
def test_a_crash_is_that_models_failure(dies: str, left: list[str]) -> None:
    """Where a process dies, its model's other tests say so in a telling line, and the next model is measured."""
    run, _ = measured(["one", "two"], Wanted("8", "4"), dies=dies)
    failed = [row for row in run.rows if row.outcome == "failed"]
    assert [(row.model.name, row.trial.name) for row in failed] == [("one", name) for name in left]
    assert all("exit -6 (SIGABRT): libc++abi: terminating due to bf16" in row.reason for row in failed)
    assert outcomes(run)[-2:] == [("two", "pp8", "measured"), ("two", "tg4", "measured")]
    assert run.exit_code == 4


def test_an_interruption_keeps_what_was_measured() -> None:
    """Ctrl-C in the middle of a test keeps the tests before, and its own samples so far."""
    run, _ = measured(["one", "two"], Wanted("8", "4"), interrupted="one decode 7")
    assert outcomes(run) == [("one", "pp8", "measured"), ("one", "tg4", "measured")]
    assert [len(row.samples) for row in run.rows] == [3, 2]
    assert run.interrupted
    assert run.exit_code == 130
    assert "interrupted:" in report.markdown(run)


def test_an_interruption_before_the_first_sample_is_told() -> None:
    """With nothing measured there is nothing to print."""
    with pytest.raises(Interrupted, match="interrupted"):
        measured(["one"], Wanted("8", "4"), interrupted="one prefill 1")


def test_the_time_left_is_that_of_the_same_kind() -> None:
    """What is left is judged by the same stage of the same model, then of any model, then by all."""
    prefill, decode = Trial("prefill", 100), Trial("decode", 10)
    taken = {("a", "prefill"): [0.01, 0.03, 0.02], ("b", "decode"): [1.0]}
    assert left_s([("a", prefill)], taken) == pytest.approx(2.0)
    assert left_s([("a", decode)] * 2, taken) == pytest.approx(20.0)
    assert left_s([("c", Trial("reuse", 10))], {("a", "decode"): [0.5]}) == pytest.approx(5.0)
    assert left_s([("a", decode)], {}) == 0


@pytest.mark.parametrize("python", [__file__, "/nowhere/python"])
def test_what_is_no_python_is_refused(python: str) -> None:
    """A file that is no interpreter is refused before anything is started."""
    with pytest.raises(InputError, match="is no Python"):
        installed.here(Path(python))


def test_an_interpreter_sees_our_package_and_nothing_else_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that makes the probe importable holds one link; relative entries of PYTHONPATH become absolute."""
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    found = installed.here()
    assert [path.name for path in found.working_folder.iterdir()] == ["mlx_velocity"]
    entries = found.variables()["PYTHONPATH"].split(os.pathsep)
    assert entries == [str(found.working_folder), os.path.abspath("somewhere")]
    assert str(found.python) == sys.executable


# Real workers

needs_mlx = pytest.mark.skipif(
    not all(__import__("importlib.util").util.find_spec(name) for name in ("mlx", "mlx_lm")), reason="needs mlx and mlx-lm"
)  # fmt: skip


def command(*words: str) -> Any:
    """What the command line answers."""
    return CliRunner().invoke(app, ["bench", *words])


@needs_mlx
def test_a_real_model_is_measured_in_every_way(tmp_path: Path) -> None:
    """A tiny model gives samples, peak memory and equal tokens in every way of generating."""
    target = tmp_path / "found.json"
    done = command(
        MODEL, "-p", "16", "-n", "8", "-d", "0,32", "-b", "1,2", "-r", "2", "--stepwise", "--batched", "--speculative",
        "--prompt-cache", "--output", str(target),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(target.read_text("utf-8"))
    SCHEMA.validate(document)
    assert "| pp16@d32 b2" in done.stdout
    rows = {row["test"]: row for row in document["rows"] if row["outcome"] == "measured"}
    assert {row["outcome"] for row in document["rows"]} <= {"measured", "skipped"}
    assert all(
        len(row["samples"]) == 2 and len(row["warmup"]) == 1 and row["peak_bytes"] for row in rows.values()
    )
    digests = [rows[name]["notes"]["digest"] for name in ("tg8@d32", "tg8@d32 stepwise")]
    assert digests[0] == digests[1]
    assert rows["tg8@d32 b2"]["notes"]["digest"] == rows["tg8@d32 b2 stepwise"]["notes"]["digest"]
    assert rows["tg8 speculative"]["acceptance"] == 1
    assert rows["pp16 reuse"]["notes"]["reused_tokens"] == 14
    model = rows["pp16"]["model"]
    assert (model["dtype"], model["random"], model["config"]["hidden_size"]) == ("float32", True, 256)
    assert model["weight_bytes"] == 4 * model["parameters"]


@needs_mlx
def test_texts_of_a_random_model_are_bytes_and_said_to_be(tmp_path: Path) -> None:
    """A shape has no tokenizer: a token is a byte, and the table says so."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("twelve bytes\n---\n€", "utf-8")
    done = command(MODEL, "--prompts-file", str(prompts), "-n", "4", "-r", "1")
    assert done.exit_code == 0, done.output
    assert "| text 1 |     12 |" in done.stdout
    assert "| text 2 |      3 |" in done.stdout
    assert "TTFT ms" in done.stdout
    assert "Tokenizer: one token a byte" in done.stdout


@needs_mlx
def test_a_folder_is_measured_with_its_own_tokenizer(tmp_path: Path) -> None:
    """A model's folder, named with or without `path:`, is loaded by mlx_lm; its place is not shown."""
    from mlx_velocity.probe import folder

    folder.write("tiny-4bit", tmp_path / "some model")
    for spec, words in (
        (f"path:{tmp_path}/some model", ["-p", "4", "-n", "0"]),
        (f"{tmp_path}/some model", ["--prompts", "-n", "2"]),
    ):
        done = command(spec, "-r", "1", *words, "-o", "json")
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        SCHEMA.validate(document)
        assert str(tmp_path) not in done.stdout
        model = document["rows"][0]["model"]
        assert (model["name"], model["dtype"], model["random"]) == ("some model", "4bit", False)
        assert "tokenizer" not in document["rows"][0]["notes"]
    assert document["rows"][0]["notes"]["prompt_tokens"] == len(bench_trials.TEXTS["short"])


@needs_mlx
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-shape"], "no model is called no-such-shape"),
        (["tiny", "--dtype", "fp8"], "no model has the dtype fp8; choose among float32"),
        (["owner/name", "--dtype", "4bit"], "has the dtype of its files"),
        (["path:/nowhere"], "/nowhere holds no config.json"),
        ([MODEL, "--draft", "no-draft"], "no model is called no-draft"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_measured(words: list[str], said: str) -> None:
    """A model, folder or dtype that is none ends with an error of one line, also beside one that is fine."""
    done = CliRunner().invoke(app, ["bench", MODEL, *words] if "--draft" not in words else ["bench", *words])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert done.exception.exit_code == 2


@needs_mlx
def test_a_model_that_does_not_fit_is_skipped_with_the_numbers() -> None:
    """What needs more memory than there is says how much; the other model is measured."""
    from mlx_velocity.probe import bench as probe
    from mlx_velocity.probe import compat, models

    assert probe.answer({"do": "plan", "models": ["llama-3.1-8b"], "dtypes": ["bfloat16"], "draft": ""})[
        "models"
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat, "device_memory_bytes", lambda: 8_000_000_000)
        answer = probe.answer({"do": "load", "model": "llama-3.1-8b-bfloat16"})
        trial = dataclasses.asdict(Trial("decode", 8, depth=10**7))
        crowded = probe.answer({"do": "sample", "model": MODEL, "trial": trial, "text": "", "warm": True})
    models.weight_bytes.cache_clear()
    assert answer == {"skipped": "needs 21.4 GB, this machine has 8.0 GB"}
    assert crowded["skipped"].startswith("needs 41.0 GB")


def test_shares_of_the_measured_peaks() -> None:
    """A row says which share of what limits it was reached; what can't be counted has none."""
    config = {**shapes.SHAPES["tiny"], "torch_dtype": "float32"}
    trials = [Trial("prefill", 32), Trial("decode", 8), Trial("speculative", 8, draft="same")]
    rows = [Row(Model("m", config=config), trial, samples=[1e6]) for trial in trials]
    rows.append(Row(Model("odd", config={"model_type": "unheard-of"}), trials[0], samples=[1.0]))
    peaks = bench_roofline.ceilings(FakeWorker(), "cpu")
    assert peaks is not None
    assert (peaks.bandwidth, peaks.peak("float32")) == (400, 1000)
    prefill, decode, *others = (row.share for row in bench_roofline.placed(rows, peaks))
    assert prefill is not None
    assert decode is not None
    assert prefill.mfu == pytest.approx(prefill.flops / 1000 / 1e6)
    assert decode.bandwidth_utilization == pytest.approx(decode.bytes / 400 / 1e6)
    assert others == [None, None]
    run = dataclasses.replace(RUN, rows=bench_roofline.placed(rows, peaks), peaks="a chip")
    assert "of peak" in report.markdown(run)
    SCHEMA.validate(json.loads(report.json_document(run)))
    assert [row.share for row in bench_roofline.placed(rows, None)] == [None] * 4


def test_no_peaks_no_shares() -> None:
    """Where the reading of the peaks fails, everything else is there and the table has no such column."""

    class Broken(FakeWorker):
        def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
            raise WorkerError("exit -6")

    assert bench_roofline.ceilings(Broken(), "cpu") is None
    assert bench_roofline.peaks_in_words(None) == ""
    assert "of peak" not in report.markdown(RUN)


@needs_mlx
def test_a_dtype_that_the_device_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLX refuses to compute in a dtype, the model is skipped with MLX's own words."""
    import mlx.core as mx

    from mlx_velocity.probe import bench as probe

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("bfloat16 is not supported on this device")

    monkeypatch.setattr(mx, "ones", refuse)
    assert probe.answer({"do": "load", "model": "tiny-bfloat16"}) == {
        "skipped": "this device does not compute in bfloat16: bfloat16 is not supported on this device"
    }


@needs_mlx
def test_what_fails_in_a_sample_leaves_the_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of MLX is the failure of one test, with its words."""
    from mlx_velocity.probe import bench as probe
    from mlx_velocity.probe import generation

    def fail(_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(generation.Prompts, "run", fail)
    request = {
        "do": "sample",
        "model": MODEL,
        "trial": dataclasses.asdict(Trial("prefill", 8)),
        "text": "",
        "warm": False,
    }
    assert probe.answer(request)["failed"] == "RuntimeError: out of memory"
    monkeypatch.undo()
    assert probe.answer(request)["seconds"] > 0


@needs_mlx
def test_ctrl_c_prints_what_was_measured_and_exits_130() -> None:
    """Ctrl-C on the real command prints the table so far and leaves no process behind."""
    words = [MODEL, "-p", "8", "-n", "4000", "-r", "1000", "-w", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_velocity", "bench", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    # The first finished test, on standard error.
    for line in process.stderr:
        if " pp8: " in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "| pp8  |" in out
    assert "interrupted: what was not reached is missing" in out
    assert "Traceback" not in errors
