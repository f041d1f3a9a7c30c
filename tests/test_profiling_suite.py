"""BenchmarkSuite: sequence lengths as a result, a table, Markdown and checked JSON."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from mlx_velocity import schemas
from mlx_velocity.errors import InputError
from mlx_velocity.probe import kept, models, timing
from mlx_velocity.profiling import BenchmarkResult, BenchmarkSuite, SequenceResult, ThermalMonitor, document
from mlx_velocity.profiling.memory import ModelMemory

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _empty_slots():
    yield
    kept.release("prompt cache", "model")


def warm() -> ThermalMonitor:
    """A thermometer that goes up by a degree whenever it is read."""
    celsius = iter(range(50, 1000))
    return ThermalMonitor(read=lambda: {"cpu": float(next(celsius)), "gpu0": 40.0})


def cold() -> ThermalMonitor:
    """No thermometer."""
    return ThermalMonitor(read=dict, why=lambda: "nobody told")


def sequence(samples=(0.010, 0.012, 0.011), seq_len=128, before=None, after=None, peak=3 * 2**30, **keys):
    """A result that was made up."""
    return SequenceResult(
        samples=samples, warmup=(0.5,), seq_len=seq_len, batch_size=1, cached=True, peak_bytes=peak,
        active_bytes=2**30, cache_bytes=0, temperatures_before=before or {}, temperatures_after=after or {}, **keys,
    )  # fmt: skip


def result(*sequences, missing=None):
    """A result of a suite that was made up."""
    return BenchmarkResult(
        {f"seq_{one.seq_len}": one for one in sequences},
        missing or {},
        "tiny-float32",
        ModelMemory(8, 2, 2, {"float32": 8}),
        {"device": "cpu", "memory_bytes": 1, "versions": {"mlx": "1", "mlx_lm": "2"}},
        "2026-01-02T03:04:05+00:00",
        None,
    )


def test_each_length_has_all_that_is_promised():
    """Speed, spread, memory and temperatures of each length, by name, in the order asked for."""
    suite = BenchmarkSuite("tiny-float32", thermal=warm())
    found = suite.benchmark_sequence_lengths([32, 8], batch_size=2, num_warmup=1, num_iterations=3)
    assert list(found.results) == ["seq_32", "seq_8"]
    assert found.missing == {}
    first = found.results["seq_32"]
    assert (first["seq_len"], first["batch_size"], len(first.samples), len(first.warmup)) == (32, 2, 3, 1)
    assert first["tokens_per_sec"] == pytest.approx(64 / first.latency_s)
    assert first["peak_memory_gb"] >= first["active_memory_gb"] > 0
    assert first.temperatures_before == {"cpu": 50.0, "gpu0": 40.0}
    assert (first["soc_temp_before_c"], first["soc_temp_c"]) == (50.0, 51.0)
    assert first["latency_ms"] == first.latency_s * 1000
    assert found.weights.param_count > 1_000_000
    assert found.no_temperature is None


def test_a_model_at_hand_is_measured():
    """A suite takes a model that the caller has, and calls it by its class."""
    model = models.build("tiny-float32")
    found = BenchmarkSuite(model, thermal=cold()).benchmark_sequence_lengths([8], num_iterations=1)
    assert found.model == "Model"
    assert found.no_temperature == "nobody told"
    assert found.results["seq_8"]["soc_temp_c"] is None


def test_progress_is_told_before_each_length():
    """Whoever watches hears how many are done, of how many, and what comes next."""
    heard = []
    suite = BenchmarkSuite(thermal=cold())
    suite.benchmark_sequence_lengths([8, 4, 8], 1, 0, 1, lambda *told: heard.append(told))
    assert heard == [(0, 2, "seq_8"), (1, 2, "seq_4")]


def test_a_length_that_does_not_fit_is_missing_with_its_reason(monkeypatch):
    """What MLX refuses is missing with its words, and the other lengths are measured."""
    seconds = timing.seconds

    def refuse(work):
        if sum(chunk.shape[1] for chunk in work.chunks) > 10:
            raise RuntimeError("[metal::malloc] Attempting to allocate\n 9 bytes")
        return seconds(work)

    monkeypatch.setattr(timing, "seconds", refuse)
    found = BenchmarkSuite(thermal=cold()).benchmark_sequence_lengths([16, 8], num_iterations=1)
    assert list(found.results) == ["seq_8"]
    assert found.missing == {"seq_16": "[metal::malloc] Attempting to allocate 9 bytes"}
    assert "seq_16 is missing: [metal::malloc] Attempting to allocate 9 bytes" in found.to_table()
    assert json.loads(found.to_json())["missing"] == found.missing


@pytest.mark.parametrize("wrong", [{"seq_lengths": []}, {"seq_lengths": [8, 0]}, {"batch_size": 0}])
def test_wrong_sizes_are_refused_before_anything_is_measured(wrong):
    """Nothing to measure, or a length of zero, is one line with advice."""
    heard = []
    with pytest.raises(InputError):
        BenchmarkSuite(thermal=cold()).benchmark_sequence_lengths(
            **wrong, progress=lambda *told: heard.append(told)
        )
    assert heard == []


def test_the_table_is_plain_text():
    """A line for each length, no colours, labels that say the unit, and nothing beyond a terminal's width."""
    text = result(
        sequence(before={"cpu": 45.2}, after={"cpu": 61.0}), sequence(seq_len=2048, peak=None)
    ).to_table()
    lines = text.splitlines()
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 100
    assert re.split(r"\s{2,}", lines[0].strip()) == [
        "tokens", "batch", "tokens/s", "latency ± sd", "p50", "peak", "active", "°C",
    ]  # fmt: skip
    assert re.split(r"\s{2,}", lines[2].strip()) == [
        "128", "1", "11,636", "11 ms ± 1 ms", "11 ms", "3 GiB", "1 GiB", "45 → 61",
    ]  # fmt: skip
    assert "–" in lines[3]
    assert "2,048" in lines[3]


def test_percentiles_have_columns_where_there_are_enough_runs():
    """With 20 runs p90 and p95 stand in the table, p99 does not; a length with fewer has a dash."""
    many = sequence(samples=tuple(0.01 + 0.001 * n for n in range(20)))
    text = result(many, sequence(seq_len=256)).to_table()
    assert "p95" in text
    assert "p99" not in text
    assert text.splitlines()[3].count("–") == 3  # p90, p95, °C


def test_one_run_has_no_deviation():
    """A single run is shown without a ±."""
    assert "±" not in result(sequence(samples=(0.01,))).to_table().splitlines()[2]


def test_markdown_is_a_table():
    """Every row has the columns of the head, and a reason can't break out of its line."""
    text = result(sequence(), missing={"seq_9": "a|b <script>"}).to_markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len({row.count("|") for row in rows}) == 1
    assert set(rows[1]) <= set("|-: ")
    assert text.splitlines()[-1] == "- seq_9 is missing: a\\|b &lt;script>"


def test_json_is_checked_and_whole():
    """The document has raw samples and base units, satisfies its schema, and says its format."""
    found = BenchmarkSuite(thermal=warm()).benchmark_sequence_lengths([8], num_iterations=2)
    data = json.loads(found.to_json())
    schemas.validator(document.SCHEMA).validate(data)
    assert (data["format"], data["kind"]) == (1, "benchmark-suite")
    assert tuple(data["results"]["seq_8"]["samples"]) == found.results["seq_8"].samples
    assert data["results"]["seq_8"]["peak_bytes"] == found.results["seq_8"].peak_bytes
    assert data["model"] == {"name": "tiny-float32", **vars(found.weights)}
    assert not [key for key in data["results"]["seq_8"] if key.endswith(("_ms", "_gb", "_gib"))]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("model"),
        lambda data: data.update(format=2),
        lambda data: data.update(extra=1),
        lambda data: data["results"]["seq_128"].update(samples=[]),
        lambda data: data["results"]["seq_128"].update(peak_bytes=1.5),
        lambda data: data["results"]["seq_128"].update(temperatures_after={"cpu": "hot"}),
        lambda data: data["results"]["seq_128"].pop("latency_s"),
        lambda data: data["missing"].update(seq_9=""),
    ],
)
def test_the_schema_refuses_what_is_no_result(spoil):
    """Each kind of damage to a document is noticed."""
    data = json.loads(result(sequence()).to_json())
    schemas.validator(document.SCHEMA).validate(data)
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        schemas.validator(document.SCHEMA).validate(data)


def test_what_is_not_known_is_null():
    """Without a thermometer, and where MLX does not count, there is null and never zero."""
    one = json.loads(result(sequence(peak=None)).to_json())["results"]["seq_128"]
    assert one["peak_bytes"] is one["soc_temp_c"] is one["p99_latency_s"] is None
    assert one["temperatures_after"] == {}
