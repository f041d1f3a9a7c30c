"""Workloads: what exactly is timed, and that a sample leaves nothing behind."""

from __future__ import annotations

import math
import subprocess
import types

import pytest

from mlx_velocity.probe import compat, kept, lora, memory, models, observe, startup, workloads

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
from mlx.utils import tree_flatten  # noqa: E402 - after the check that it is there

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"


@pytest.fixture(autouse=True)
def _empty_slots():
    observe.collect()
    yield
    kept.release("workload", "prompt cache", "model")


class Counting:
    """A model that counts its calls."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __call__(self, inputs, **arguments):
        self.calls.append(inputs.shape[1])
        return self.model(inputs, **arguments)

    def __getattr__(self, name):
        return getattr(self.model, name)


def notes(work):
    """What one sample of a workload notes."""
    work.prepare()
    work.run()
    return observe.collect()


def test_decode_gives_the_same_tokens_each_time():
    """Every sample of a decode has the same digest, and so has a new workload."""
    work = workloads.Decode(MODEL, 40)
    first = notes(work)
    assert first["tokens"] == workloads.DECODE_TOKENS
    assert len(first["digest"]) == 16
    assert notes(work)["digest"] == first["digest"]
    kept.release("prompt cache", "model")
    assert notes(workloads.Decode(MODEL, 40))["digest"] == first["digest"]


@pytest.mark.parametrize("depth", [0, 40, 300])
def test_a_copied_cache_changes_nothing(depth):
    """Tokens behind a copied prompt cache are those of a generation from the whole prompt."""
    pinned = notes(workloads.Decode(MODEL, depth))
    assert pinned["digest"] == notes(workloads.DefaultDecode(MODEL, depth))["digest"]


def test_a_sample_leaves_the_filled_cache_alone():
    """The cache that all samples start from is bit for bit the same after them."""
    work = workloads.Decode(MODEL, 40)
    work.prepare()
    before = [
        (layer.offset, mx.array(layer.keys), mx.array(layer.values)) for layer in kept.get("prompt cache")
    ]
    mx.eval(before)
    work.run()
    work.prepare()
    for (offset, keys, values), layer in zip(before, kept.get("prompt cache"), strict=True):
        assert layer.offset == offset == 40
        assert mx.array_equal(layer.keys, keys).item()
        assert mx.array_equal(layer.values, values).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: workloads.Prefill(MODEL, 64),
        lambda: workloads.FirstToken(MODEL, 64),
        lambda: workloads.Decode(MODEL, 300),
        lambda: workloads.DefaultDecode(MODEL, 64),
        lambda: lora.Step(MODEL, 64),
    ],
)
def test_samples_do_not_add_up_in_memory(make):
    """A second and a third sample take no more memory than the first, notes included."""
    work = make()
    active = []
    for _ in range(3):
        work.prepare()
        work.run()
        compat.synchronize()
        active.append(compat.memory()["active"])
    if active[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    # The last scalars of a stream may still be alive; a prompt cache is a hundred times as large.
    assert max(active) - min(active) < 4096


@pytest.mark.parametrize("workload", [workloads.Decode, workloads.DefaultDecode])
def test_exactly_the_promised_steps_are_timed(workload):
    """A timed decode runs the model DECODE_TOKENS times, on one token each."""
    work = workload(MODEL, 40)
    work.model = counting = Counting(work.model)
    work.prepare()
    counting.calls.clear()
    work.run()
    assert counting.calls == [1] * workloads.DECODE_TOKENS


@pytest.mark.parametrize("depth", [0, 100, 255, 256])
def test_the_cache_takes_the_bytes_of_its_formula(depth):
    """Keys and values × 4 layers × 1 head of 64 × positions in blocks of 256 × 4 bytes."""
    # The prompt's last token, the first generated one and the timed ones came on top of the depth.
    positions = math.ceil((depth + 2 + workloads.DECODE_TOKENS) / 256) * 256
    assert notes(workloads.Decode(MODEL, depth))["kv_bytes"] == 2 * 4 * 1 * 64 * positions * 4


def test_prefill_in_chunks_gives_the_logits_of_one_pass(monkeypatch):
    """Chunks through a cache compute what the whole prompt at once does."""
    monkeypatch.setattr(workloads, "PREFILL_CHUNK", 50)
    work = workloads.Prefill(MODEL, 130)
    assert [chunk.shape for chunk in work.chunks] == [(1, 50), (1, 50), (1, 30)]
    work.prepare()
    work.run()
    ids = mx.array([models.prompt(work.model, 130)])
    assert mx.allclose(work.logits, work.model(ids)[0, -30:], atol=1e-4).item()


@pytest.mark.parametrize("workload", [workloads.FirstToken, workloads.DefaultFirstToken])
def test_the_first_token_is_the_likeliest_after_the_prompt(workload):
    """generate_step's first token, pinned or by default, is the one that prefill's logits say."""
    prefill = workloads.Prefill(MODEL, 60)
    prefill.prepare()
    prefill.run()
    expected = mx.argmax(prefill.logits[-1]).item()
    work = workload(MODEL, 60)
    work.prepare()
    assert compat.token_of(next(work.steps)) == expected


def test_lora_trains_the_adapters_of_q_and_v_and_nothing_else():
    """Trainable are rank × (inputs + outputs) parameters of q_proj and v_proj on every layer."""
    work = lora.Step(MODEL, 64)
    work.prepare()
    trainable = tree_flatten(work.model.trainable_parameters())
    assert {path.split(".")[-2] for path, _ in trainable} == {"q_proj", "v_proj"}
    assert {path.split(".")[-1] for path, _ in trainable} == {"lora_a", "lora_b"}
    # Queries map 256 to 256, values 256 to 64, on 4 layers.
    assert sum(array.size for _, array in trainable) == 4 * lora.RANK * (256 + 256 + 256 + 64)
    frozen = {path.replace(".linear.", "."): array for path, array in tree_flatten(work.model.parameters())}
    work.run()
    for path, array in tree_flatten(models.build(MODEL).parameters()):
        assert mx.array_equal(frozen[path], array).item(), path


@pytest.mark.parametrize("model", [MODEL, "tiny-4bit"])
def test_the_loss_falls_while_steps_follow_each_other(model):
    """Steps without a reset in between learn their batch."""
    work = lora.Step(model, 64)
    work.prepare()
    losses = []
    for _ in range(6):
        work.run()
        losses.append(observe.collect()["loss"])
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1e-4


def test_every_lora_sample_starts_from_the_same_adapters():
    """A sample that is prepared has the loss of the first one, whatever ran before."""
    work = lora.Step(MODEL, 64)
    first = notes(work)
    work.run()
    assert notes(work) == first
    assert notes(lora.Forward(MODEL, 64)) == pytest.approx(first)
    assert notes(lora.Backward(MODEL, 64)) == pytest.approx(first)


def test_the_update_alone_is_the_end_of_a_step():
    """Forward, backward and update in parts leave the adapters that the whole step leaves."""
    results = []
    for workload in (lora.Step, lora.Update):
        work = workload(MODEL, 64)
        work.prepare()
        work.run()
        results.append([mx.array(a) for _, a in tree_flatten(work.model.trainable_parameters())])
    assert all(mx.allclose(a, b, atol=1e-7).item() for a, b in zip(*results, strict=True))


def test_the_default_step_uses_upstreams_adapters():
    """The defaults case trains what mlx_lm's own configuration says, at its rank."""
    work = lora.DefaultStep(MODEL, 64)
    trainable = dict(tree_flatten(work.model.trainable_parameters()))
    rank = work.defaults()["lora_parameters"]["rank"]
    assert {array.shape[1] for path, array in trainable.items() if path.endswith("lora_a")} == {rank}
    assert notes(work)["loss"] > 0


def test_a_model_without_attention_is_no_subject_of_the_pinned_step():
    """A state-space model has no q_proj: its step is skipped, with the reason."""
    with pytest.raises(NotImplementedError, match=r"no self_attn\.q_proj|has no model type"):
        lora.Step("tiny-mamba-float32", 64)


def test_memory_is_looked_at_from_four_sides():
    """Peak, active, cached and resident bytes; a peak holds the weights at least, and is measured once."""
    work = workloads.Prefill(MODEL, 64)
    found = memory.of_runs(("a test", MODEL), work)
    assert found.keys() == {"peak", "active", "cache", "resident"}
    if found["peak"] is not None:
        parameters = sum(array.nbytes for _, array in tree_flatten(work.model.parameters()))
        assert parameters <= found["active"] <= found["peak"]
    assert found["resident"] > 10_000_000
    assert memory.of_runs(("a test", MODEL), None) == found


def test_memory_that_mlx_does_not_count_is_missing(monkeypatch):
    """Zero active bytes beside a loaded model mean that nothing is counted, so all three are None."""
    monkeypatch.setattr(compat, "_memory_function", lambda name: lambda: 0)
    assert compat.memory() == {"peak": None, "active": None, "cache": None}


def test_generate_step_gets_the_arguments_that_it_knows(monkeypatch):
    """Arguments of other versions are left out, needed ones are insisted on, and all go by keyword."""

    def step(prompt, model, stream=None, *, max_tokens=256):
        yield max_tokens, prompt

    monkeypatch.setattr(compat, "_generate_module", lambda: types.SimpleNamespace(generate_step=step))
    known = compat.generate_step("model", [1, 2], max_tokens=3, sampler=compat.greedy)
    assert next(known)[0] == 3
    with pytest.raises(NotImplementedError, match="takes no prompt_cache"):
        compat.generate_step("model", [1, 2], needed=("prompt_cache",), prompt_cache=[])


def test_tokens_may_be_arrays_or_integers():
    """A step's token is an int whether the version yields ints or arrays."""
    assert compat.token_of((7, None)) == compat.token_of((mx.array(7), None)) == 7


def test_an_import_is_timed_in_a_process_of_its_own(monkeypatch):
    """An import runs in a fresh interpreter with this one's path; a failure is told by its last line."""
    work = startup.Import("json")
    work.prepare()
    work.run()
    seen = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **kw: seen.append(args[0]) or real(*args, **kw))
    work.code = work.code.replace("assert", "assert not")
    with pytest.raises(RuntimeError, match="import failed with exit status 1: AssertionError"):
        work.run()
    assert seen[0][1] == "-c"


def test_a_module_that_is_not_there_is_skipped():
    """Timing the import of a module that is not installed is skipped."""
    with pytest.raises(NotImplementedError, match="surely_absent is not installed"):
        startup.Import("surely_absent")


def test_loading_weights_alone_reads_all_of_them(monkeypatch, tmp_path):
    """Every array of the folder is in the loaded model, evaluated, and no tokenizer was made."""
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path))
    work = startup.Weights(MODEL)
    work.prepare()
    work.run()
    expected = dict(tree_flatten(models.build(MODEL).parameters()))
    found = dict(tree_flatten(work.loaded.parameters()))
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[path], array).item() for path, array in expected.items())
    peak = memory.of_runs(("a test", "weights"), work)["peak"]
    assert peak is None or peak >= models.weight_bytes(MODEL)


def test_loading_reads_a_folder_that_is_written_once(monkeypatch, tmp_path):
    """The load workload writes its folder at first, then only reads it."""
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path))
    work = startup.Load(MODEL)
    work.prepare()
    work.run()
    assert work.loaded[0].args.vocab_size == 1024
    written = work.folder.stat().st_mtime_ns
    assert startup.Load(MODEL).folder == work.folder
    assert work.folder.stat().st_mtime_ns == written
    assert work.folder.parent.stat().st_mode & 0o077 == 0
