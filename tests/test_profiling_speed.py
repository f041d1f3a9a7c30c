"""SpeedProfiler: the tracked workloads on a model at hand, and what is said of their times."""

from __future__ import annotations

import statistics

import pytest

from mlx_velocity.errors import InputError
from mlx_velocity.probe import kept, models, observe, timing, workloads
from mlx_velocity.profiling import DecodeSpeed, PrefillSpeed, SpeedProfiler

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
import mlx.nn as nn  # noqa: E402 - after the check that it is there

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"
profiler = SpeedProfiler()


@pytest.fixture(autouse=True)
def _empty_slots():
    yield
    kept.release("prompt cache", "model")


def test_prefill_is_what_is_tracked(monkeypatch):
    """A prefill runs the tracked workload, warm-up and all, and each of its runs counts once."""
    ran = []
    run = workloads.Prefill.run
    monkeypatch.setattr(workloads.Prefill, "run", lambda self: (ran.append(self), run(self)))
    found = profiler.benchmark_tokens_per_sec(MODEL, seq_len=16, batch_size=2, num_warmup=2, num_iterations=3)
    assert len(ran) == 5
    assert (len(found.warmup), len(found.samples)) == (2, 3)
    assert (found["seq_len"], found["batch_size"], found["cached"]) == (16, 2, True)
    assert found["tokens_per_sec"] == pytest.approx(2 * 16 / statistics.fmean(found.samples))


def test_a_module_without_a_cache_is_called_once():
    """Any module that maps ids to logits can be timed, and it is said that it took no cache."""
    module = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 40))
    found = profiler.benchmark_tokens_per_sec(module, seq_len=32, num_iterations=2)
    assert not found.cached
    assert found.tokens_per_sec > 0


def test_what_is_said_of_runs_is_about_the_runs():
    """Mean, deviation, ends and percentiles are those of the samples, in seconds and in milliseconds."""
    samples = tuple(0.001 * n for n in range(1, 101))
    found = PrefillSpeed(samples, (), seq_len=10, batch_size=1, cached=True)
    assert found.latency_s == pytest.approx(0.0505)
    assert found["latency_ms"] == pytest.approx(50.5)
    assert found["std_latency_ms"] == pytest.approx(statistics.stdev(range(1, 101)))
    assert (found["min_latency_ms"], found["max_latency_ms"]) == pytest.approx((1, 100))
    assert found["p50_latency_ms"] == pytest.approx(50.5)
    assert found["p90_latency_ms"] == pytest.approx(90.1)
    assert found["p95_latency_ms"] == pytest.approx(95.05)
    assert found["p99_latency_ms"] == pytest.approx(99.01)
    assert found.tokens_per_sec == pytest.approx(10 / 0.0505)


def test_what_few_runs_do_not_tell_is_none():
    """Five runs have no p90, and one has no deviation; in milliseconds neither."""
    found = PrefillSpeed((1.0, 2.0, 3.0, 4.0, 5.0), (), 10, 1, True)
    assert (found["p90_latency_ms"], found.p95_latency_s, found["p99_latency_s"]) == (None, None, None)
    assert PrefillSpeed((1.0,), (), 10, 1, True)["std_latency_ms"] is None


def test_decode_gives_the_tokens_of_the_tracked_benchmark():
    """Generation from Python computes what `Decode` computes behind the same prompt."""
    found = profiler.benchmark_autoregressive(MODEL, total_tokens=12, prompt_len=20, num_iterations=2)
    work = workloads.Decode(MODEL, 19, 12)
    work.prepare()
    work.run()
    assert found["digest"] == observe.collect()["digest"]


def test_each_token_has_a_time():
    """Every step of every run is there, a run is the sum of its steps, and rates follow from the runs."""
    found = profiler.benchmark_autoregressive(MODEL, total_tokens=8, prompt_len=1, num_iterations=2)
    assert [len(run) for run in found.per_token] == [8, 8]
    for run, whole in zip(found.per_token, found.samples, strict=True):
        assert 0 < sum(run) <= whole
    assert found["tokens_per_sec"] == pytest.approx(8 / statistics.fmean(found.samples))
    steps = [step for run in found.per_token for step in run]
    assert found["mean_per_token_ms"] == pytest.approx(1000 * statistics.fmean(steps))
    assert found["std_per_token_ms"] == pytest.approx(1000 * statistics.stdev(steps))
    assert (found.min_per_token_s, found.max_per_token_s) == (min(steps), max(steps))
    assert found.p50_per_token_s == statistics.median(steps)
    assert found["p90_per_token_s"] is not None
    assert found["p95_per_token_s"] is found["p99_per_token_s"] is None
    assert (found["prompt_len"], found["total_tokens"]) == (1, 8)


def test_a_model_that_changes_is_measured_as_it_is_now():
    """A model that is quantized in place between two calls generates as a quantized one."""
    model = models.build(MODEL)
    before = profiler.benchmark_autoregressive(model, 8, num_iterations=1)
    nn.quantize(model, group_size=64, bits=4)
    after = profiler.benchmark_autoregressive(model, 8, num_iterations=1)
    fresh = profiler.benchmark_autoregressive(models.build("tiny-4bit"), 8, num_iterations=1)
    assert after.digest == fresh.digest
    assert before.digest == profiler.benchmark_autoregressive(MODEL, 8, num_iterations=1).digest


def test_nothing_is_left_behind():
    """After a measurement no prompt cache is kept, not even after one that failed."""
    profiler.benchmark_autoregressive(MODEL, 4, num_iterations=1)
    with pytest.raises(KeyError):
        kept.get("prompt cache")


def test_a_failed_generation_leaves_nothing_behind(monkeypatch):
    """A run that raises lets go of the filled cache."""

    def fail(work):
        work.prepare()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(timing, "seconds", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        profiler.benchmark_autoregressive(MODEL, 4)
    with pytest.raises(KeyError):
        kept.get("prompt cache")


def test_a_module_that_cannot_generate_says_so():
    """Without a prompt cache there is no generation, and the advice says what to give."""
    with pytest.raises(InputError, match="Linear takes no prompt cache"):
        profiler.benchmark_autoregressive(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "wrong",
    [{"seq_len": 0}, {"batch_size": -1}, {"num_iterations": 0}],
)
def test_wrong_sizes_of_a_prefill_are_refused(wrong):
    """No prefill has zero tokens, prompts or runs."""
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        profiler.benchmark_tokens_per_sec(MODEL, **wrong)


@pytest.mark.parametrize("wrong", [{"total_tokens": 0}, {"prompt_len": 0}, {"num_iterations": 0}])
def test_wrong_sizes_of_a_decode_are_refused(wrong):
    """No generation has zero tokens, an empty prompt or no run."""
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        profiler.benchmark_autoregressive(MODEL, **wrong)


@pytest.mark.parametrize("spec", ["no-such-model", "path:/nowhere"])
def test_a_spec_that_means_nothing_is_refused(spec):
    """An unknown shape or an empty folder is one line with advice."""
    with pytest.raises(InputError):
        profiler.benchmark_tokens_per_sec(spec)


def test_results_do_not_change():
    """A result is frozen, and equal to another one with the same samples."""
    made = DecodeSpeed((1.0,), (), 1, 1, ((1.0,),), "0" * 16)
    assert made == DecodeSpeed((1.0,), (), 1, 1, ((1.0,),), "0" * 16)
    assert hash(made) == hash(DecodeSpeed((1.0,), (), 1, 1, ((1.0,),), "0" * 16))
    with pytest.raises(AttributeError):
        made.samples = ()
