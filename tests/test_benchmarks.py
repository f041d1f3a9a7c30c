"""The asv classes: permanent names, constant parameters, and the tiny profile as a whole."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from asv_runner._aux import update_sys_path
from asv_runner.discovery import disc_benchmarks

from mlx_velocity.probe import case, kept, observe, profiles

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
update_sys_path(str(FOLDER))
BENCHMARKS = {benchmark.name: benchmark for benchmark in disc_benchmarks(str(FOLDER))}

# Names are keys of stored results: one that disappears takes its history with it.
NAMES = {
    "caches.Cached.time_generate",
    "caches.Quantized.time_decode",
    "caches.Quantized.track_kv_cache_bytes",
    "caches.Recomputed.time_generate",
    "caches.Rotating.time_decode",
    "caches.Rotating.track_kv_cache_bytes",
    "components.Decode.time_forward",
    "components.Prefill.time_forward",
    "decode.Decode.time_decode",
    "decode.Defaults.time_decode",
    "decode.KeyValues.track_kv_cache_bytes",
    "decode.Memory.track_active_bytes",
    "decode.Memory.track_cache_bytes",
    "decode.Memory.track_peak_bytes",
    "decode.Resident.track_resident_bytes",
    "decode.Sampled.time_decode",
    "first_token.Defaults.time_first_token",
    "first_token.FirstToken.time_first_token",
    "generation.Batched.time_batched",
    "generation.Reuse.time_reuse",
    "generation.Speculative.time_speculative",
    "generation.Stepwise.time_stepwise",
    "lora.Backward.time_backward",
    "lora.Defaults.time_step",
    "lora.Forward.time_forward",
    "lora.Memory.track_active_bytes",
    "lora.Memory.track_cache_bytes",
    "lora.Memory.track_peak_bytes",
    "lora.Resident.track_resident_bytes",
    "lora.Step.time_step",
    "lora.Update.time_update",
    "operators.AttentionDecode.time_attention",
    "operators.AttentionPrefill.time_attention",
    "operators.Embedding.time_embedding",
    "operators.GatherMatmul.time_gather_mm",
    "operators.LayerNorm.time_layer_norm",
    "operators.Matmul.time_matmul",
    "operators.QuantizedGatherMatmul.time_gather_qmm",
    "operators.QuantizedMatmul.time_quantized_matmul",
    "operators.RMSNorm.time_rms_norm",
    "operators.Rope.time_rope",
    "operators.Sampling.time_sampling",
    "operators.Softmax.time_softmax",
    "prefill.Memory.track_active_bytes",
    "prefill.Memory.track_cache_bytes",
    "prefill.Memory.track_peak_bytes",
    "prefill.Prefill.time_prefill",
    "prefill.Resident.track_resident_bytes",
    "startup.Import.time_import",
    "startup.Load.time_load",
    "startup.Weights.time_load",
    "startup.Weights.track_peak_bytes",
    "training.Checkpointed.time_step",
    "training.Checkpointed.track_peak_bytes",
    "training.Dora.time_step",
    "training.Dora.track_peak_bytes",
    "training.Full.time_step",
    "training.Full.track_peak_bytes",
    "training.Growth.track_growth_bytes",
    "training.Qlora.time_step",
    "training.Qlora.track_peak_bytes",
}

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def cases(profile):
    """Benchmark, number and parameter values of every case of a profile."""
    for benchmark in BENCHMARKS.values():
        for index, values in enumerate(itertools.product(*benchmark._params)):
            if profiles.selected(profile, benchmark.param_names, values):
                yield benchmark, index, values


TINY = list(cases("tiny"))


def test_names_are_permanent():
    """Every name that results are stored under is still there, and none is new by accident."""
    assert set(BENCHMARKS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_benchmark_states_its_version_timeout_and_sampling(name):
    """Version and timeout are the class's own, so that no change of code changes them by itself."""
    owner = type(BENCHMARKS[name].func.__self__)
    assert issubclass(owner, case.Case)
    assert {"version", "timeout", "params", "param_names", "workload"} <= vars(owner).keys()
    assert all(isinstance(values, tuple) for values in owner.params)
    assert BENCHMARKS[name].version == owner.version
    assert BENCHMARKS[name].timeout == owner.timeout > 0
    assert owner.rounds in (2, 3)
    assert owner.number == 1
    assert owner.__doc__


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_unit_is_stored_with_every_benchmark(name):
    """Times are seconds, everything tracked is bytes, and what is noisy says so."""
    benchmark = BENCHMARKS[name]
    if benchmark.type == "time":
        assert benchmark.unit == "seconds"
    else:
        assert benchmark.unit == "bytes"
        # The prompt cache's size follows from the shape; the allocator's figures differ a little.
        assert (getattr(benchmark, "noise", "counted") == "counted") == name.endswith("kv_cache_bytes")


def test_rates_can_be_derived():
    """What is timed has its tokens as a parameter or as an attribute, or says how many calls a sample makes."""
    for name, benchmark in BENCHMARKS.items():
        if benchmark.type != "time" or name.startswith("startup"):
            continue
        if name.startswith(("operators", "components")):
            assert benchmark.operations_per_call > 1, name
        else:
            assert "tokens" in benchmark.param_names or benchmark.tokens_per_call > 0, name


def test_every_benchmark_is_documented():
    """docs/benchmarks.md names each class of benchmarks: what a number is must not be looked up in code."""
    text = (FOLDER.parent / "docs" / "benchmarks.md").read_text("utf-8")
    classes = {name.split(".")[1] for name in NAMES}
    assert {name for name in classes if not re.search(rf"[`.]{name}\b", text)} == set()


def test_the_tiny_profile_is_small():
    """The tiny profile has about a hundred cases, each of which is measured at every commit."""
    assert 80 <= len(TINY) <= 110


def test_every_profile_selects_every_stage():
    """No profile leaves a stage out."""
    stages = {name.partition(".")[0] for name in NAMES}
    for profile in profiles.PROFILES:
        assert {benchmark.name.partition(".")[0] for benchmark, _, _ in cases(profile)} == stages, profile


def test_a_case_outside_the_profile_is_skipped(monkeypatch):
    """Under stock asv a case that the profile does not select raises asv's skip, with the reason."""
    monkeypatch.setenv(profiles.VARIABLE, "tiny")
    benchmark = BENCHMARKS["prefill.Prefill.time_prefill"]
    with pytest.raises(NotImplementedError, match="not in profile tiny"):
        benchmark.func.__self__.setup("llama-3.1-8b-4bit", 128)


@pytest.mark.parametrize(
    ("benchmark", "index", "values"), TINY, ids=[f"{b.name}{values}" for b, _, values in TINY]
)
def test_every_case_of_the_tiny_profile_runs(benchmark, index, values, monkeypatch):
    """Each case of the tiny profile takes a sample, or skips because this MLX does not count memory, or has no batches."""
    pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
    monkeypatch.delenv(profiles.VARIABLE, raising=False)
    benchmark.set_param_idx(index)
    assert not benchmark.do_setup()
    try:
        result = benchmark.func(*values)
    except NotImplementedError as reason:
        assert benchmark.type == "track" or benchmark.name == "generation.Batched.time_batched"
        pytest.skip(str(reason))
    observe.collect()
    if benchmark.type == "track":
        (value,) = result["samples"] if isinstance(result, dict) else [result]
        assert isinstance(value, int)
        assert value >= 0


def teardown_module():
    """Give the memory back to the tests that follow."""
    kept.release("workload", "prompt cache", "model")
