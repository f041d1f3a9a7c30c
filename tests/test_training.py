"""Ways to fine-tune: what each trains, that samples start alike, and what they take in memory."""

from __future__ import annotations

import numpy as np
import plain_operators as plain
import pytest

from mlx_velocity.probe import compat, kept, lora, memory, models, observe, training

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
from mlx.utils import tree_flatten  # noqa: E402 - after the check that it is there

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"
TOKENS = 24
STEPS = {
    "full": lambda: training.Full(MODEL, TOKENS),
    "DoRA": lambda: training.Dora(MODEL, TOKENS),
    "QLoRA": lambda: lora.Step("tiny-4bit", TOKENS),
    "checkpointed": lambda: training.Checkpointed(MODEL, TOKENS),
}


@pytest.fixture(autouse=True)
def _empty_slots():
    observe.collect()
    yield
    kept.release("workload", "prompt cache", "model")


def notes(work):
    """What one sample of a workload notes."""
    work.prepare()
    work.run()
    return observe.collect()


def trainable(work):
    """Copies of what is trained, by path."""
    return {path: plain.array(array) for path, array in tree_flatten(work.model.trainable_parameters())}


@pytest.mark.parametrize("name", STEPS)
def test_every_sample_starts_from_the_same_values(name):
    """A sample that is prepared has the loss of the first one, which a step that was not would lower."""
    work = STEPS[name]()
    first = notes(work)
    work.run()
    assert observe.collect()["loss"] < first["loss"]
    assert notes(work) == first


@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_all_that_it_trains(name):
    """Each array that is trained has changed after two steps: in the first one, A has no gradient yet."""
    work = STEPS[name]()
    work.prepare()
    before = trainable(work)
    work.run()
    work.run()
    after = trainable(work)
    assert before.keys() == after.keys()
    same = {path for path in before if np.array_equal(before[path], after[path])}
    assert same == set()


def test_a_full_step_trains_every_weight():
    """As many values as the model has, in the sizes of the model itself."""
    work = training.Full(MODEL, TOKENS)
    found = tree_flatten(work.model.trainable_parameters())
    assert sum(array.size for _, array in found) == sum(
        array.size for _, array in tree_flatten(models.build(MODEL).parameters())
    )


def test_a_full_step_takes_five_times_the_weights(held):
    """Weights, gradients, two moments, and the new weights: what decides whether it is skipped."""
    work = training.Full(MODEL, TOKENS)
    peak = memory.of_runs(("a test", "full"), work)["peak"]
    if peak is None:
        pytest.skip("this mlx counts no memory on this device")
    assert peak - held == pytest.approx(training.COPIES * models.weight_bytes(MODEL), rel=0.1)


def test_a_full_step_that_does_not_fit_is_skipped(monkeypatch):
    """Where the model fits and its training does not, the reason says how much is needed."""
    monkeypatch.setattr(compat, "device_memory_bytes", lambda: models.needs_bytes(MODEL))
    models.build(MODEL)
    with pytest.raises(NotImplementedError, match=r"training all weights needs \d+ GB"):
        training.Full(MODEL, TOKENS)


def test_dora_trains_magnitudes_beside_the_adapters():
    """A, B and one magnitude an output, which begins as the norm of that output's weights."""
    work = training.Dora(MODEL, TOKENS)
    work.prepare()
    found = trainable(work)
    assert {path.rpartition(".")[2] for path in found} == {"lora_a", "lora_b", "m"}
    weight = dict(tree_flatten(models.build(MODEL).parameters()))["model.layers.0.self_attn.q_proj.weight"]
    expected = np.linalg.norm(plain.array(weight), axis=1)
    np.testing.assert_allclose(found["model.layers.0.self_attn.q_proj.m"], expected, rtol=1e-5)


def test_adapters_that_add_nothing_yet_leave_the_loss_alone():
    """While B is zero, DoRA, LoRA and full training start from one loss."""
    losses = [notes(make(MODEL, TOKENS))["loss"] for make in (lora.Step, training.Dora, training.Full)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_checkpointing_changes_memory_and_nothing_else(held):
    """The same loss and adapters as the plain step, a lower peak, and layers whose call is their own again."""
    ends, peaks = [], []
    for make in (lora.Step, training.Checkpointed):
        work = make(MODEL, 96)
        call = type(work.model.layers[0]).__call__
        loss = notes(work)["loss"]
        assert type(work.model.layers[0]).__call__ is call
        ends.append((loss, trainable(work)))
        peaks.append(memory.of_runs(("a test", make), work)["peak"])
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-6)
    for path, values in ends[0][1].items():
        np.testing.assert_allclose(values, ends[1][1][path], atol=1e-6)
    if peaks[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    weights = models.weight_bytes(MODEL) + held
    assert peaks[1] - weights < 0.75 * (peaks[0] - weights)


def test_a_checkpointed_step_that_breaks_leaves_the_layers_alone(monkeypatch):
    """The layers' own call is back when the step raises."""
    work = training.Checkpointed(MODEL, TOKENS)
    work.prepare()
    call = type(work.model.layers[0]).__call__
    monkeypatch.setattr(work, "update", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work.run()
    assert type(work.model.layers[0]).__call__ is call


def test_what_a_version_lacks_is_skipped_by_name(monkeypatch):
    """No DoRA and no checkpointing are asv's skip."""
    import mlx_lm.tuner.trainer
    import mlx_lm.tuner.utils

    monkeypatch.setattr(mlx_lm.tuner.utils, "linear_to_lora_layers", lambda model, layers, config: None)
    with pytest.raises(NotImplementedError, match="has no DoRA"):
        training.Dora(MODEL, TOKENS)
    monkeypatch.delattr(mlx_lm.tuner.trainer, "grad_checkpoint")
    with (
        pytest.raises(NotImplementedError, match="has no grad_checkpoint"),
        compat.gradient_checkpointing(models.get(MODEL)),
    ):
        pass
