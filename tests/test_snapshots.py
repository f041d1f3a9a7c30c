"""What pages load of a commit says what `mlx-velocity show` says of it; columns of Models and coverage likewise."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import fixtures_site as made
import numpy as np
import pytest

from mlx_velocity import (
    cases,
    changes,
    coverage,
    launch_columns,
    model_table,
    quality,
    records,
    results,
    roofline_peaks,
    snapshots,
)
from mlx_velocity.probe import models
from mlx_velocity.store.columns import Columns
from mlx_velocity.store.index import StoreIndex
from mlx_velocity.store.rows import Stored


def of(folder: Path, path: str = "") -> tuple[snapshots.Snapshot, StoreIndex]:
    """The snapshot of the only stored commit whose file name begins so."""
    with StoreIndex(made.make_track(folder)) as index:
        (result,) = [pair for pair in index.columns(index.results()) if path in pair[0].path]
        own = [pair for pair in index.columns(index.readings()) if pair[0].stem == result[0].stem]
        numbers = {key: number for number, key in enumerate(index.keys)}
        is_time = snapshots.timed(index.keys, made.BY_NAME)
        return snapshots.of(result, own[0] if own else None, is_time, numbers), index


def measured(folder: Path, sensors: dict[str, Any] | None = None, **notes: Any) -> results.CommitResults:
    """Two launches of the first case: two seconds and four."""
    track = made.make_track(folder)
    cases.save(track, made.BENCHMARKS)
    stored = made.open_results(track, made.commits_of(track)[0])
    for launch, value in (("one", 2.0), ("two", 4.0)):
        reading = records.Measurement(
            launch, made.BENCHMARKS[0]["name"], "1", ["'tiny-float32'", "32"], "seconds", [value] * 4, [],
            "2026-01-01T00:00:00.000Z", 1.0, notes, sensors or {},
        )  # fmt: skip
        stored.add(reading, made.BENCHMARKS[0])
    return stored


def test_a_snapshot_is_what_show_shows(tmp_path: Path) -> None:
    """Value, launches, samples, flags and joules are those that `changes.between` finds in the same files."""
    sensors = {"allowed_cores": 2, "cpu_throttles": 3}
    stored = measured(tmp_path, sensors, sampled_energy_j=8.0)
    made_of, _ = of(tmp_path)
    (case,) = [
        case
        for case in cases.every(made.BENCHMARKS, None, 60.0)
        if case.index == 0 and case.unit == "seconds"
    ]
    (row,) = changes.between(stored, stored, [case], made.BY_NAME)
    assert made_of["value"] == [row.base]
    assert (made_of["launches"], made_of["samples"]) == ([2], [8])
    assert made_of["flags"] == {0: list(row.base_flags)} == {0: ["degraded_thermal"]}
    assert made_of["joules"] == {0: row.base_joules} == {0: 2}
    assert made_of["mean"] == [pytest.approx(math.log(math.sqrt(8)))]
    assert made_of["error"] == [pytest.approx(math.log(2) / 2, rel=1e-3)]
    assert made_of["disturbed"] == []


def test_a_disturbed_snapshot_says_so(tmp_path: Path) -> None:
    """Where every launch stood in a queue the number is marked."""
    measured(tmp_path, {"allowed_cores": 1, "own_busy_cores": 0.5, "others_busy_cores": 1.0})
    made_of, _ = of(tmp_path)
    assert made_of["disturbed"] == [0]
    assert made_of["flags"] == {0: ["degraded_load"]}


def test_columns_know_a_queue_as_a_single_look_does() -> None:
    """Whether launches stood in a queue is the same of columns as of each look: on one core and several, with and
    without what others did on that very core.
    """
    missing = float("nan")
    looks = list(
        itertools.product((1, 2, missing), (0.5, 0.95, missing), (0.1, 0.8, missing), (0.05, 0.4, missing))
    )
    names = ("allowed_cores", "own_busy_cores", "others_busy_cores", "others_on_core")
    columns = {name: np.array(column) for name, column in zip(names, zip(*looks, strict=True), strict=True)}
    single = [
        quality.in_queue({name: value for name, value in zip(names, look, strict=True) if value == value})
        for look in looks
    ]
    assert launch_columns._in_queue({"case": np.zeros(len(looks)), **columns}).tolist() == single
    assert True in single


def test_a_failure_is_no_number_and_keeps_its_reason(tmp_path: Path) -> None:
    """What failed is not among the cases but among the failures, with outcome, reason and exit code."""
    made.fill(made.make_track(tmp_path))
    second = made.commits_of(made.make_track(tmp_path))[1]
    made_of, index = of(tmp_path, second.hexsha[:8])
    (failure,) = made_of["failures"]
    assert index.keys[failure[0]][2] == '["\'tiny-4bit\'", "128"]'
    assert failure[1:] == ["failed", "exit -9", -9]
    assert failure[0] not in made_of["case"]
    assert len(made_of["case"]) == 4


def test_what_stock_asv_measured_is_one_launch(tmp_path: Path) -> None:
    """A result without readings has values and no error: asv does not tell launches apart."""
    stored = measured(tmp_path)
    stored.readings_path.unlink()
    made_of, _ = of(tmp_path)
    assert made_of["value"] == [3.0]
    assert (made_of["launches"], made_of["error"]) == ([1], [None])
    assert made_of["environment"] is None


# Models


BENCHMARKS = {
    "prefill.Prefill.time_prefill": {
        "version": "1",
        "param_names": ["model", "tokens"],
        "tokens_from": "tokens",
    },
    "decode.Decode.time_decode": {"version": "2", "param_names": ["model", "depth"], "tokens_per_call": 32},
    "decode.Memory.track_peak_bytes": {"version": "1", "param_names": ["model", "depth"], "unit": "bytes"},
}
KEYS = [
    ("prefill.Prefill.time_prefill", "1", None),
    ("prefill.Prefill.time_prefill", "1", '["\'llama-3.1-8b-4bit\'", "512"]'),
    ("prefill.Prefill.time_prefill", "1", '["\'llama-3.1-8b-4bit\'", "2048"]'),
    ("decode.Decode.time_decode", "2", '["\'llama-3.1-8b-4bit\'", "0"]'),
    ("decode.Decode.time_decode", "1", '["\'llama-3.1-8b-4bit\'", "256"]'),
    ("decode.Memory.track_peak_bytes", "1", '["\'other\'", "256"]'),
]


def test_the_columns_of_models_are_those_that_exist() -> None:
    """Sizes are taken from the cases, an older version of a benchmark is left out, a dtype from the model's name."""
    found = model_table.known(KEYS, snapshots.params_of, BENCHMARKS)
    columns = {column.label: column.cells for column in model_table.columns(found)}
    shares = ["pp512 % of roofline", "pp2048 % of roofline", "tg32 % of roofline"]
    assert list(columns)[:7] == ["pp512", "pp2048", "tg32", *shares, "peak decode 256"]
    assert columns["pp512"] == {"llama-3.1-8b-4bit": 1}
    assert columns["tg32"] == {"llama-3.1-8b-4bit": 3}
    assert "tg32@d256" not in columns
    assert model_table.models(found) == [
        ("llama-3.1-8b-4bit", "llama-3.1-8b", "4bit"),
        ("other", "other", ""),
    ]


def test_models_of_a_shape_stand_together() -> None:
    """Shapes come in the order of the cases, and within one the wider types first."""
    cases = [
        model_table.Measured(number, "lora.Step.time_step", {"model": name}, 512)
        for number, name in enumerate(("a-4bit", "b-bfloat16", "a-8bit", "plain", "a-bfloat16"))
    ]
    names = [name for name, _, _ in model_table.models(cases)]
    assert names == ["a-bfloat16", "a-8bit", "a-4bit", "b-bfloat16", "plain"]


def test_the_least_time_of_a_case_is_that_of_the_roofline() -> None:
    """A prefill of 2,048 tokens of 8B on an H200 is bound by computing, decode by memory; unknown models have none."""
    found = model_table.known(KEYS, snapshots.params_of, BENCHMARKS)
    peaks = roofline_peaks.find("NVIDIA H200, 143771 MiB")
    assert peaks is not None
    assert peaks.bandwidth is not None
    least = model_table.least_seconds(
        found, peaks, lambda name: models.config(name) if "llama" in name else None, 512
    )
    assert set(least) == {1, 2, 3}
    # 16 GFLOP a token at 989 TFLOP/s, and 4.5 GB of weights a token at 4.8 TB/s.
    assert least[2] == pytest.approx(2048 * 16e9 / 989e12, rel=0.15)
    assert least[3] == pytest.approx(32 * 4.5e9 / peaks.bandwidth, rel=0.1)


# Coverage


def columns(values: list[float]) -> Columns:
    """Of a result in which the case of each place has this value; NaN failed, and -1 was not measured."""
    there = [(case, value) for case, value in enumerate(values) if value != -1]
    return {"case": np.array([case for case, _ in there]), "value": np.array([value for _, value in there])}


def test_coverage_counts_what_came_out_how() -> None:
    """Measured, failed, skipped and missing are told apart, by group; neighbours that lack nothing are one stretch."""
    keys = [("a.time", "1", "[]"), ("a.time", "1", '["x"]'), ("b.time", "1", "[]"), ("never.time", "1", "[]")]
    numbers = {key: number for number, key in enumerate(keys)}
    failures = [{"benchmark": "a.time", "version": "1", "params": ["x"], "outcome": "skipped"}]
    skipped = Stored(1, "m/c-env.readings.jsonl", "c", "env", json.dumps({"failures": failures}))
    whole, failed, part = [1.0, 1.0, 1.0, -1.0], [1.0, math.nan, 1.0, -1.0], [1.0, -1.0, -1.0, -1.0]
    found = coverage.of(
        [("1", columns(whole), None), ("2", columns(whole), None), ("3", columns(failed), None), ("4", columns(part), skipped)],
        keys, numbers, 10,
    )  # fmt: skip
    assert found.groups == ["a", "b"]
    assert [stretch.commits for stretch in found.stretches] == [["1", "2"], ["3"], ["4"]]
    assert found.stretches[0].counts == [(4, 0, 0, 0), (2, 0, 0, 0)]
    assert found.stretches[1].counts == [(1, 1, 0, 0), (1, 0, 0, 0)]
    assert found.stretches[2].counts == [(1, 0, 1, 0), (0, 0, 0, 1)]


def test_coverage_of_many_commits_is_short() -> None:
    """Many commits are told in as many stretches as asked for, and none is lost."""
    keys, failed = [("a.time", "1", "[]")], columns([math.nan])
    found = coverage.of([(str(number), failed, None) for number in range(1001)], keys, {}, 40)
    assert len(found.stretches) <= 40
    assert sum(len(stretch.commits) for stretch in found.stretches) == 1001
    assert sum(stretch.counts[0][1] for stretch in found.stretches) == 1001
