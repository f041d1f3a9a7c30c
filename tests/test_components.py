"""Parts of a model: each is what mlx_lm computes, and what NumPy computes from the same weights."""

from __future__ import annotations

import numpy as np
import plain_operators as plain
import pytest

from mlx_velocity.probe import compat, components, kept, models

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"
EPSILON = 1e-5


@pytest.fixture(autouse=True)
def _empty_slots():
    yield
    kept.release("workload", "prompt cache", "model")


def plain_attention(layer, x):
    """The first half of a Llama layer in NumPy; `x` is (tokens, hidden)."""
    normed = plain.rms_norm(x, plain.array(layer.input_layernorm.weight), EPSILON)

    def heads(projection, count):
        return (normed @ plain.array(projection.weight).T).reshape(len(x), count, 64).swapaxes(0, 1)

    part = layer.self_attn
    queries, keys = (plain.rope(heads(p, n), 10000.0, 0) for p, n in ((part.q_proj, 4), (part.k_proj, 1)))
    found = plain.attention(queries, keys, heads(part.v_proj, 1), causal=True)
    return x + found.swapaxes(0, 1).reshape(len(x), 256) @ plain.array(part.o_proj.weight).T


def plain_mlp(layer, x):
    """The second half of a Llama layer in NumPy."""
    normed = plain.rms_norm(x, plain.array(layer.post_attention_layernorm.weight), EPSILON)
    gate, up, down = (
        plain.array(getattr(layer.mlp, f"{name}_proj").weight) for name in ("gate", "up", "down")
    )
    return x + (plain.silu(normed @ gate.T) * (normed @ up.T)) @ down.T


def once(work):
    """The result of one call of a component's part."""
    work.prepare()
    return work.part(work.model, work.x, work.mask, work.cache)


def test_each_part_is_the_first_layers_and_follows_its_definition():
    """Attention, MLP and block of a real mlx_lm model give what NumPy gives for the same weights."""
    works = {name: components.Prefill(MODEL, name, 9) for name in components.PARTS}
    layer, x = works["block"].model.layers[0], plain.array(works["block"].x)[0]
    assert x.shape == (9, 256)
    expected = {
        "attention": plain_attention(layer, x),
        "mlp": plain_mlp(layer, x),
        "block": plain_mlp(layer, plain_attention(layer, x)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(plain.array(once(works[name]))[0], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("spec", [MODEL, "tiny-4bit"])
def test_the_ends_and_the_layers_make_the_whole_model(spec):
    """Embedding, every layer as a block, last norm and head give the model's own logits."""
    work = components.Prefill(spec, "ends", 9)
    model = work.model
    layers = list(model.layers)
    x = model.model.embed_tokens(work.x)
    for layer in layers:
        x = layer(x, work.mask, None)
    assert mx.allclose(model.lm_head(model.model.norm(x)), model(work.x), atol=1e-4).item()
    without_layers = model.lm_head(model.model.norm(model.model.embed_tokens(work.x)))
    assert mx.array_equal(components.logits(model, work.x), without_layers).item()
    assert mx.array_equal(once(work), mx.argmax(without_layers, axis=-1)).item()


def test_a_tied_head_is_the_embedding():
    """A model without a head of its own multiplies with its embedding."""

    class Tied:
        """A tiny model whose head was taken away."""

        def __init__(self, model):
            self.model = model.model

    model = models.get(MODEL)
    assert not components.tied(model)
    bare = Tied(model)
    ids = mx.array([[1, 2]])
    x = model.model.norm(model.model.embed_tokens(ids))
    assert mx.allclose(components.logits(bare, ids), x @ model.model.embed_tokens.weight.T, atol=1e-5).item()


@pytest.mark.parametrize("part", ["attention", "block"])
def test_a_decoded_token_is_the_last_of_a_prefill(part):
    """One token behind a cache gives the last row of the whole sequence at once."""
    work = components.Decode(MODEL, part, 40)
    prompt, token = components.activations(work.model, 40), work.x
    whole = mx.concatenate([prompt, token], axis=1)
    expected = components.PARTS[part](work.model, whole, compat.attention_mask(whole), None)[:, -1:]
    found = once(work)
    assert found.shape == (1, 1, 256)
    assert mx.allclose(found, expected, atol=1e-4).item()


@pytest.mark.parametrize("part", components.PARTS)
def test_every_sample_starts_at_the_same_depth(part):
    """The filled cache holds `depth` positions, a sample adds one a call, and the next one starts anew."""
    work = components.Decode(MODEL, part, 40)
    for _ in range(2):
        work.prepare()
        assert work.cache.offset == 40
        work.run()
        caching = part in ("attention", "block")
        assert work.cache.offset == 40 + components.CALLS * caching
    assert work.filled.offset == 40


@pytest.mark.parametrize("part", components.PARTS)
@pytest.mark.parametrize("make", [components.Prefill, components.Decode])
def test_a_sample_is_so_many_calls_and_leaves_nothing_behind(make, part):
    """As many calls as the benchmarks state; memory in use is the same after every sample."""
    work = make(MODEL, part, 12)
    calls, real, active = [], work.part, []
    work.part = lambda *a: calls.append(1) or real(*a)
    for _ in range(3):
        work.prepare()
        work.run()
        compat.synchronize()
        active.append(compat.memory()["active"])
    assert len(calls) == 3 * components.CALLS
    if active[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    assert max(active) - min(active) < 4096
    assert components.Prefill is not make or work.cache is None


@pytest.mark.parametrize("part", ["attention", "mlp", "block"])
def test_values_stay_of_a_size_along_a_chain(part):
    """What comes out after all calls is finite and no denormal number: those have another speed."""
    work = components.Prefill(MODEL, part, 9)
    x = work.x
    for _ in range(components.CALLS):
        x = work.part(work.model, x, work.mask, None)
    assert 1e-3 < np.abs(plain.array(x)).mean() < 1e3
