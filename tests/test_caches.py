"""KV caches: with and without give the same tokens, and each kind takes the bytes of its formula."""

from __future__ import annotations

import math

import pytest

from mlx_velocity.probe import caches, compat, kept, models, observe, workloads

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

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
    """A model that counts the tokens of its calls."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __call__(self, inputs, **arguments):
        self.calls.append((inputs.shape[1], "cache" in arguments))
        return self.model(inputs, **arguments)

    def __getattr__(self, name):
        return getattr(self.model, name)


def notes(work):
    """What one sample of a workload notes."""
    work.prepare()
    work.run()
    return observe.collect()


def test_with_and_without_a_cache_the_tokens_are_the_same():
    """Both generate what mlx_lm's own generator does."""
    with_cache, without = notes(caches.Cached(MODEL, 20)), notes(caches.Recomputed(MODEL, 20))
    assert with_cache == without
    model = models.get(MODEL)
    steps = compat.generate_step(model, models.prompt(model, 20), sampler=compat.greedy, max_tokens=99)
    tokens = [compat.token_of(next(steps)) for _ in range(caches.NEW_TOKENS)]
    assert with_cache["digest"] == workloads.digest(tokens)


@pytest.mark.parametrize(
    ("make", "lengths"),
    [
        (caches.Cached, [20] + [1] * (caches.NEW_TOKENS - 1)),
        (caches.Recomputed, list(range(20, 20 + caches.NEW_TOKENS))),
    ],
)
def test_a_cache_saves_all_tokens_but_the_last(make, lengths):
    """With a cache each step runs one token, without one the whole sequence."""
    work = make(MODEL, 20)
    work.model = counting = Counting(work.model)
    notes(work)
    assert [length for length, _ in counting.calls] == lengths
    assert {cached for _, cached in counting.calls} == {make is caches.Cached}


def test_a_rotating_cache_holds_half_the_depth():
    """Keys and values × 4 layers × 1 head of 64 × half of the depth × 4 bytes, and it has rotated."""
    work = caches.Rotating(MODEL, 256)
    assert notes(work)["kv_bytes"] == 2 * 4 * 1 * 64 * 128 * 4
    assert {layer.offset for layer in work.cache} == {256 + 2 + workloads.DECODE_TOKENS}


def test_a_rotating_cache_that_is_large_enough_changes_nothing(monkeypatch):
    """With room for everything it gives the tokens of the plain cache; with half the depth, others."""
    plain = notes(workloads.Decode(MODEL, 40))["digest"]
    assert notes(caches.Rotating(MODEL, 40))["digest"] != plain
    kept.release("prompt cache")
    monkeypatch.setattr(
        caches.Rotating, "empty_cache", lambda self: compat.make_rotating_cache(self.model, 1024)
    )
    assert notes(caches.Rotating(MODEL, 40))["digest"] == plain


@pytest.mark.parametrize("depth", [40, 256])
def test_a_quantized_cache_takes_a_byte_a_value_and_its_scales(depth):
    """One byte a value, and a scale and a bias of 4 bytes for each 64, in blocks of 256 positions."""
    positions = math.ceil((depth + 2 + workloads.DECODE_TOKENS) / 256) * 256
    work = caches.Quantized(MODEL, depth)
    assert notes(work)["kv_bytes"] == 2 * 4 * 1 * positions * (64 + 8)


def test_a_quantized_cache_holds_the_plain_ones_keys():
    """Dequantized, its keys are those of the plain cache to a 255th of their range."""
    work = caches.Quantized(MODEL, 40)
    work.prepare()
    plain = workloads.Decode(MODEL, 40)
    plain.prepare()
    for quantized, full in zip(work.cache, plain.cache, strict=True):
        keys = mx.dequantize(*quantized.keys, group_size=caches.GROUP_SIZE, bits=caches.BITS)
        expected = full.keys[..., :40, :]
        step = (expected.max() - expected.min()).item() / 255
        assert 0 < mx.abs(keys[..., :40, :] - expected).max().item() <= step


def test_kinds_of_cache_are_never_taken_for_each_other():
    """One filled cache is kept at a time, and one of another kind is made anew."""
    kinds = []
    for make in (workloads.Decode, caches.Rotating, caches.Quantized, workloads.Decode):
        make(MODEL, 40).prepare()
        kinds.append(type(kept.get("prompt cache")[0]).__name__)
    assert kinds == ["KVCache", "RotatingKVCache", "QuantizedKVCache", "KVCache"]


@pytest.mark.parametrize(
    "make", [lambda: caches.Cached(MODEL, 20), lambda: caches.Rotating(MODEL, 64), lambda: caches.Quantized(MODEL, 64)]
)  # fmt: skip
def test_a_sample_leaves_nothing_behind(make):
    """Memory in use is the same after every sample, and so are the tokens."""
    work, active, digests = make(), [], set()
    for _ in range(3):
        digests.add(notes(work)["digest"])
        compat.synchronize()
        active.append(compat.memory()["active"])
    assert len(digests) == 1
    if active[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    assert max(active) - min(active) < 4096


def test_sampled_decode_draws_the_same_tokens_in_every_sample():
    """Seeded, so that the work repeats; no digest, since MLX does not promise the numbers."""
    drawn = []

    class Noting(workloads.SampledDecode):
        """Remembers its tokens."""

        def note(self, tokens):
            drawn.append(tokens)
            super().note(tokens)

    work = Noting(MODEL, 40)
    assert "digest" not in notes(work)
    notes(work)
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 1 + workloads.DECODE_TOKENS
    greedy = workloads.Decode(MODEL, 40)
    assert notes(greedy)["digest"] != workloads.digest(drawn[0])
