"""A model at hand in the tracked workloads: adopted, in batches, without a cache, token by token."""

from __future__ import annotations

import gc
import types

import pytest

from mlx_velocity.errors import InputError
from mlx_velocity.probe import kept, memory, models, observe, timing, workloads

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
import mlx.nn as nn  # noqa: E402 - after the check that it is there

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"


class Bigram(nn.Module):
    """Ids of shape (batch, tokens) to logits, and nothing else that mlx_lm knows."""

    def __init__(self, known=50):
        super().__init__()
        self.table = nn.Embedding(known, 8)
        self.head = nn.Linear(8, known)

    def __call__(self, ids):
        return self.head(self.table(ids))


@pytest.fixture(autouse=True)
def _empty_slots():
    observe.collect()
    yield
    kept.release("workload", "prompt cache", "model")


def done(work):
    """A workload after one run."""
    work.prepare()
    work.run()
    return work


def test_an_adopted_model_computes_what_its_spec_does():
    """A model at hand and the spec that it was built from give the same tokens and the same logits."""
    model = models.build(MODEL)
    done(workloads.Decode(MODEL, 40))
    expected = observe.collect()["digest"]
    done(workloads.Decode(models.adopt(model), 40))
    assert observe.collect()["digest"] == expected
    logits = done(workloads.Prefill(MODEL, 20)).logits
    assert mx.array_equal(done(workloads.Prefill(models.adopt(model), 20)).logits, logits).item()


def test_names_of_a_model_are_equal_and_those_of_two_are_not():
    """Adopting a model twice names the same model, and its equal twin is another one."""
    one, two = Bigram(), Bigram()
    two.update(one.parameters())
    assert models.adopt(one) == models.adopt(one)
    assert hash(models.adopt(one)) == hash(models.adopt(one))
    assert models.adopt(one) != models.adopt(two)
    assert models.adopt(one) != MODEL
    assert models.adopt(MODEL) == MODEL


def test_adopting_keeps_nothing_alive():
    """When the owner lets go of a model it is gone, and its name says so and equals nothing."""
    model = Bigram()
    held = models.adopt(model)
    assert models.get(held) is model
    del model
    gc.collect()
    with pytest.raises(LookupError, match="gone"):
        models.get(held)
    assert held != models.adopt(Bigram())


@pytest.mark.parametrize("thing", [None, 3, [], {}, Bigram])
def test_what_is_no_model_is_refused(thing):
    """What can't be called with ids, or is only a class, is refused with what to give instead."""
    with pytest.raises(InputError, match="is no model; give"):
        models.adopt(thing)


def test_an_unknown_vocabulary_is_that_of_the_smallest_table():
    """Ids stay below the rows of a module's embedding: MLX would read beyond it without a word."""
    assert models.vocabulary(Bigram(50)) == 50
    assert max(models.prompt(Bigram(3), 200)) == 2
    assert models.vocabulary(lambda ids: ids) == 1000


def test_who_takes_a_prompt_cache():
    """mlx_lm's models do, and a plain module does not."""
    assert models.takes_cache(models.get(MODEL))
    assert not models.takes_cache(Bigram())
    assert not models.takes_cache(lambda ids, cache=None: ids)


def test_a_batch_of_prefills_gives_each_prompt_its_logits():
    """Prompts that go through together get the logits that each gets alone, chunks and all."""
    batch = done(workloads.Prefill(MODEL, 700, 2))
    assert [chunk.shape for chunk in batch.chunks] == [(2, 512), (2, 188)]
    ids = mx.concatenate(batch.chunks, axis=1)
    assert not mx.array_equal(ids[0], ids[1]).item()
    assert mx.allclose(batch.logits, done(workloads.Prefill(MODEL, 700)).logits, atol=1e-4).item()


def test_a_forward_pass_gives_all_logits():
    """One call without a cache computes the logits of every position of every prompt."""
    work = done(workloads.Forward(MODEL, 30, 3))
    assert work.logits.shape == (3, 30, models.vocabulary(work.model))
    assert mx.allclose(work.logits[0], done(workloads.Prefill(MODEL, 30)).logits, atol=1e-4).item()
    assert done(workloads.Forward(models.adopt(model := Bigram()), 5)).logits.shape == (1, 5, 50), model


@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_the_steps_of_a_decode_add_up_to_it(monkeypatch, tokens):
    """There is a time for each token, and together they are the run, first look at the clock to last."""
    looks = []
    clock = types.SimpleNamespace(perf_counter=lambda: looks.append(2.0 ** len(looks)) or looks[-1])
    work = workloads.DecodeByToken(MODEL, 10, tokens)
    work.prepare()
    monkeypatch.setattr(workloads, "time", clock)
    work.run()
    assert len(work.step_times) == tokens
    assert all(step > 0 for step in work.step_times)
    assert sum(work.step_times) == looks[-1] - looks[0]


def test_looking_at_each_token_changes_none():
    """Token by token, the same tokens come out, as many as asked for."""
    done(workloads.Decode(MODEL, 10, 20))
    plain = observe.collect()
    done(workloads.DecodeByToken(MODEL, 10, 20))
    assert observe.collect() == plain
    assert plain["tokens"] == 20


def test_memory_of_a_workload_is_that_of_its_runs():
    """Looking at a workload once says what the tracked benchmark says of the same workload."""
    work = workloads.Forward(MODEL, 64)
    once, tracked = memory.of_work(work), memory.of_runs(object(), work)
    assert once["active"] == pytest.approx(tracked["active"], abs=4096)
    assert once["peak"] == pytest.approx(tracked["peak"], rel=0.05)
    assert once["peak"] >= once["active"]


def test_so_many_runs_are_timed():
    """Warm-up runs are counted apart, each run is prepared, and something happens after timed ones alone."""
    calls = []

    class Work:
        def prepare(self):
            calls.append("prepare")

        def run(self):
            assert not gc.isenabled()
            calls.append("run")

    warmup, samples = timing.runs(Work(), 2, 3, lambda: calls.append("after"))
    assert (len(warmup), len(samples)) == (2, 3)
    assert calls == ["prepare", "run"] * 2 + ["prepare", "run", "after"] * 3
    assert gc.isenabled()


def test_the_garbage_collector_is_on_again_after_a_failure():
    """A run that raises leaves the garbage collector as it was."""

    class Work:
        def prepare(self):
            pass

        def run(self):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        timing.seconds(Work())
    assert gc.isenabled()
