"""MemoryProfiler: what weights, passes and steps take, counted by MLX on real models."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.probe import compat, kept, models
from mlx_velocity.profiling import MemoryNow, MemoryProfiler

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
import mlx.nn as nn  # noqa: E402 - after the check that it is there
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.utils import get_total_parameters  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"
profiler = MemoryProfiler()


@pytest.fixture(autouse=True)
def _empty_slots():
    yield
    kept.release("prompt cache", "model")


@pytest.mark.parametrize("spec", [MODEL, "tiny-bfloat16", "tiny-8bit", "tiny-4bit"])
def test_parameters_are_those_that_mlx_lm_counts(spec):
    """Whatever the type of the weights, the model has the parameters that mlx_lm says."""
    assert profiler.profile_model(spec).param_count == get_total_parameters(models.get(spec))


def test_weights_take_what_their_arrays_take():
    """The weights' bytes are those of all arrays, and add up over types; 4-bit ones take a seventh or less."""
    whole, packed = profiler.profile_model(MODEL), profiler.profile_model("tiny-4bit")
    assert whole.weight_bytes == 4 * whole.param_count == whole.bytes_by_dtype["float32"]
    assert sum(packed.bytes_by_dtype.values()) == packed.weight_bytes
    # 4 bits of 32, and a scale and a bias of 32 bits for 64 weights.
    assert packed.weight_bytes == pytest.approx(whole.weight_bytes * 5 / 32, rel=0.02)
    assert whole["weight_memory_gb"] == whole.weight_bytes / 1e9
    assert whole["weight_memory_gib"] == whole.weight_bytes / 2**30


def test_frozen_weights_are_not_trainable():
    """Trainable are the arrays that are not frozen."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    assert profiler.profile_model(model).trainable_count == 4 * 8 + 8 + 8 * 2 + 2
    model.layers[0].freeze()
    found = profiler.profile_model(model)
    assert (found.trainable_count, found.param_count) == (8 * 2 + 2, 4 * 8 + 8 + 8 * 2 + 2)
    # Of a quantized model the norms alone: quantized layers freeze themselves.
    assert profiler.profile_model("tiny-4bit").trainable_count == (2 * 4 + 1) * 256


@pytest.mark.parametrize("profile", [profiler.profile_forward, profiler.profile_prefill])
def test_a_pass_takes_weights_and_more(profile):
    """The peak holds the weights, what is in use after, and activations, which grow with the batch."""
    one, two = profile(MODEL, seq_len=64), profile(MODEL, seq_len=64, batch_size=2)
    for found in (one, two):
        assert found.peak_bytes >= found.active_bytes >= found.weight_bytes
        assert found.activation_bytes == found.peak_bytes - found.weight_bytes
        assert found.forward_bytes > 0
        assert found.cache_bytes > 0
        assert found.resident_bytes > found.weight_bytes
        assert found["activation_memory_gb"] == found.activation_bytes / 1e9
        assert found["peak_memory_gib"] == found.peak_bytes / 2**30
    assert two.activation_bytes > one.activation_bytes
    assert (two["seq_len"], two["batch_size"]) == (64, 2)


def test_what_else_is_held_is_no_forward_memory():
    """10 MB of somebody else raise the peak and the activations, and not what the pass came on top with."""
    alone = profiler.profile_forward(MODEL, 64)
    ballast = mx.zeros(2_500_000)
    mx.eval(ballast)
    beside = profiler.profile_forward(MODEL, 64)
    assert beside.peak_bytes - alone.peak_bytes == pytest.approx(10e6, rel=0.05)
    assert beside.forward_bytes == pytest.approx(alone.forward_bytes, rel=0.1)
    assert ballast.size == 2_500_000


def test_logits_of_a_forward_pass_are_all_held(held):
    """After a forward pass the logits of each position are in use: 4 bytes × positions × vocabulary."""
    model = models.get(MODEL)
    found = profiler.profile_forward(model, 200)
    logits = 4 * 200 * models.vocabulary(model)
    assert logits <= found.active_bytes - found.weight_bytes - held < 2 * logits


def test_any_module_has_a_forward_pass_and_not_every_one_a_prefill():
    """A module that mlx_lm does not know is called once; a prefill it can't have, which is said."""
    module = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 40))
    found = profiler.profile_forward(module, 16)
    assert found.weight_bytes == sum(array.nbytes for _, array in tree_flatten(module.parameters()))
    assert found.peak_bytes > found.weight_bytes
    with pytest.raises(InputError, match="takes no prompt cache; give a model that mlx_lm loads"):
        profiler.profile_prefill(nn.Linear(2, 2), 16)


@pytest.mark.parametrize("sizes", [{"seq_len": 0}, {"seq_len": -3}, {"batch_size": 0}])
def test_a_size_below_one_is_refused(sizes):
    """No pass has zero tokens or prompts."""
    with pytest.raises(InputError, match="give a"):
        profiler.profile_forward(MODEL, **sizes)


def test_what_has_no_weights_is_refused():
    """A function has no weights to count."""
    with pytest.raises(InputError, match="has no weights to count"):
        profiler.profile_model(lambda ids: ids)


def test_now_is_what_mlx_holds():
    """Active memory follows an array, the peak stays above it until it is reset."""
    before = profiler.current()
    array = mx.zeros(1_000_000)
    mx.eval(array)
    assert profiler.active_bytes - before.active_bytes == pytest.approx(4e6, abs=2**15)
    del array
    assert profiler.cache_bytes >= 0
    assert profiler.peak_bytes >= 4e6
    profiler.clear_cache()
    assert profiler.cache_bytes == 0
    profiler.reset_peak()
    # MLX's peak is 0 after a reset, and what is in use from the next array on.
    mx.eval(mx.zeros(1))
    now = profiler.current()
    assert now.peak_bytes == pytest.approx(now.active_bytes, abs=2**15)
    assert now["peak_memory_gb"] == now.peak_bytes / 1e9


def test_nothing_held_is_zero_and_not_counted_is_none(monkeypatch):
    """Zero bytes in use are told from a version of MLX that does not count."""
    counts = {"active": 0}

    def memory():
        # As compat does: 0 active bytes stand for: not counted.
        if not counts["active"]:
            return {"peak": None, "active": None, "cache": None}
        return {"peak": 4, "active": counts["active"], "cache": 0}

    monkeypatch.setattr(compat, "memory", memory)
    assert profiler.current() == MemoryNow(None, None, None)
    assert profiler.current()["active_memory_gb"] is None
    real, counting = mx.zeros, iter([4])
    monkeypatch.setattr(mx, "zeros", lambda size: (counts.update(active=next(counting)), real(size))[1])
    assert profiler.current().active_bytes == 0


def test_the_device_is_described():
    """What MLX computes with, how much a model may fill, and the versions."""
    found = profiler.device_info()
    assert found["device"] in ("cpu", "gpu")
    assert found["memory_bytes"] > 1e8
    assert found["versions"] == compat.versions()


def test_an_unknown_key_names_those_that_there_are():
    """A wrong key is an error that lists the right ones, and `get` and `in` work as on a dictionary."""
    found = profiler.profile_model(MODEL)
    with pytest.raises(KeyError, match="weight_memory_gb"):
        found["weights"]
    assert found.get("weights") is None
    assert "weight_memory_gb" in found
    assert dict(found)["param_count"] == found.param_count
    assert len(found) == len(list(found))


# Growth


def test_a_planted_leak_is_found_with_its_size():
    """1 MB that stays behind of each step is a leak, with a slope of 1 MB in its interval."""
    model, ids, leaked = models.get(MODEL), mx.zeros((1, 8), dtype=mx.int32), []

    def step():
        leaked.append(mx.zeros(250_000) + len(leaked))
        mx.eval(leaked[-1])
        return model(ids)

    growth = profiler.growth(step, steps=20)
    assert growth.is_leak
    assert growth["is_leak"] is True
    assert growth.slope.low - 1 <= 1e6 <= growth.slope.high + 1
    assert growth.slope.value == pytest.approx(1e6, rel=0.001)
    assert len(growth.active) == len(growth.resident) == 20


def test_a_leak_shows_in_the_resident_size_too():
    """What the system counts grows with a leak, in a process that had no room left from before."""
    code = (
        "import mlx.core as mx\n"
        "from mlx_velocity.profiling import MemoryProfiler\n"
        "kept = []\n"
        "def step():\n"
        "    kept.append(mx.zeros(250_000) + len(kept))\n"
        "    mx.eval(kept[-1])\n"
        "print(MemoryProfiler().growth(step, steps=20).resident_slope.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.3e6


def test_a_steady_step_is_no_leak():
    """A step that gives everything back has zero in its interval."""
    model, ids = models.get(MODEL), mx.zeros((1, 8), dtype=mx.int32)
    growth = profiler.growth(lambda: model(ids))
    assert growth.slope.low <= 0 <= growth.slope.high
    assert not growth.is_leak
    assert len(growth.active) == 50


def test_a_step_of_unequal_size_is_no_leak():
    """What stays behind of a step only until the next one is no leak, however its size varies."""
    state = {}

    def step():
        number = state["number"] = state.get("number", 0) + 1
        state["array"] = mx.zeros(100_000 + 30_000 * (number * 7 % 5))
        return state["array"]

    growth = profiler.growth(step)
    assert growth.slope.low <= 0 <= growth.slope.high
    assert not growth.is_leak


def test_what_is_allocated_once_is_no_leak():
    """One array that appears late and stays makes a slope, and no leak."""
    state = []

    def step():
        state.append(None)
        if len(state) == 40:
            state[0] = mx.zeros(1_000_000)
            mx.eval(state[0])

    growth = profiler.growth(step)
    assert growth.slope.low > 0
    assert not growth.is_leak


def test_the_first_steps_are_not_looked_at():
    """What a training step allocates at its start is warm-up."""
    state, calls = [], []

    def step():
        calls.append(1)
        if len(calls) <= 5:
            state.append(mx.zeros(100_000))
            mx.eval(state)

    assert profiler.growth(step, steps=10).slope.value == 0
    assert len(calls) == 15


def test_too_few_steps_are_refused():
    """Nine steps are no trend."""
    with pytest.raises(InputError, match="take 10 or more"):
        profiler.growth(lambda: None, steps=9)


def test_growth_needs_an_mlx_that_counts(monkeypatch):
    """Where MLX does not count, growth is an error and not a slope of zero."""
    monkeypatch.setattr(compat, "memory", lambda: dict.fromkeys(("peak", "active", "cache")))
    with pytest.raises(MeasurementError, match="counts no memory"):
        profiler.growth(lambda: None, steps=10)
    found = profiler.profile_forward(MODEL, 8)
    assert (found.peak_bytes, found.activation_bytes, found["activation_memory_gb"]) == (None, None, None)
