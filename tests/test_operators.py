"""Single operators: each computes what its name says, at the sizes that it says, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import plain_operators as plain
import pytest

from mlx_velocity.probe import compat, kept, models, operators, products, shapes

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL, MOE = "tiny-float32", "tiny-moe-float32"

EACH = {
    "matmul": lambda: products.Matmul(MODEL, 3),
    "quantized matmul": lambda: products.QuantizedMatmul(MODEL, 4, 3),
    "gather_mm": lambda: products.GatherMatmul(MOE, 3),
    "gather_qmm": lambda: products.QuantizedGatherMatmul(MOE, 4, 3),
    "softmax": lambda: operators.Softmax(MODEL, 3),
    "layer norm": lambda: operators.LayerNorm(MODEL, 3),
    "RMS norm": lambda: operators.RMSNorm(MODEL, 3),
    "rope": lambda: operators.Rope(MODEL, 3),
    "attention, prefill": lambda: operators.AttentionPrefill(MODEL, 7),
    "attention, decode": lambda: operators.AttentionDecode(MODEL, 7),
    "embedding": lambda: operators.Embedding(MODEL, 3),
    **{
        f"sampling, {name}": lambda name=name: operators.Sampling(MODEL, name)
        for name in operators.STRATEGIES
    },
}


def close(found, expected, tolerance=1e-4):
    """An MLX array has the values of a NumPy one."""
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(plain.array(found), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_matmul_step_is_two_products_with_transposed_weights(rows):
    """Up and down the MLP's two matrices, for one row and for several."""
    work = products.Matmul(MODEL, rows)
    up, down = map(plain.array, work.matrices)
    assert up.shape == (256, 256)
    close(work.step(work.x), plain.array(work.x) @ up.T @ down.T)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_step_multiplies_with_what_the_bits_hold(bits):
    """The product is that of the dequantized matrices, and those are near the full ones."""
    work, full = products.QuantizedMatmul(MODEL, bits, 5), products.Matmul(MODEL, 5)
    up, down = (plain.array(mx.dequantize(*matrix, **work.how)) for matrix in work.matrices)
    close(work.step(work.x), plain.array(work.x) @ up.T @ down.T)
    assert work.matrices[0][0].nbytes == 256 * 256 * bits // 8
    # One step of the grid, which spans each group's range: at most twice the limit.
    step = 2 * np.sqrt(3 / 256) / (2**bits - 1)
    assert 0 < np.abs(up - plain.array(full.matrices[0])).max() <= step


@pytest.mark.parametrize("workload", [products.GatherMatmul, products.QuantizedGatherMatmul])
def test_a_gathered_product_uses_each_tokens_own_experts(workload):
    """Row by row the products with the chosen experts' matrices."""
    quantized = workload is products.QuantizedGatherMatmul
    work = workload(MOE, 4, 6) if quantized else workload(MOE, 6)
    up, down = (
        plain.array(mx.dequantize(*matrix, **work.how) if quantized else matrix) for matrix in work.matrices
    )
    picks, x = np.array(work.experts), plain.array(work.x)
    assert picks.shape == (6, 2)
    assert len(set(picks.flat)) > 1
    expected = [[x[t, k] @ up[e].T @ down[e].T for k, e in enumerate(row)] for t, row in enumerate(picks)]
    close(work.step(work.x), np.array(expected))


def test_a_device_that_cannot_gather_in_a_type_is_skipped(monkeypatch):
    """MLX's own words are the reason; any other error stays one."""

    def refuse(text):
        def call(*arguments, **rest):
            raise RuntimeError(text)

        monkeypatch.setattr(compat, "function", lambda name: call)

    refuse("[GatherMM::eval] Currently only supports float32.")
    with pytest.raises(NotImplementedError, match="only supports float32"):
        products.GatherMatmul(MOE, 1)
    refuse("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        products.GatherMatmul(MOE, 1)


def test_softmax_norms_and_rope_follow_their_definitions():
    """Each step is its formula in NumPy."""
    work = operators.Softmax(MODEL, 3)
    assert work.x.shape == (1, 4, 3, operators.CONTEXT)
    close(work.step(work.x), plain.softmax(plain.array(work.x)))
    work = operators.LayerNorm(MODEL, 3)
    parts = map(plain.array, (work.x, work.weight, work.bias))
    close(work.step(work.x), plain.layer_norm(*parts, operators.EPSILON))
    work = operators.RMSNorm(MODEL, 3)
    close(work.step(work.x), plain.rms_norm(plain.array(work.x), plain.array(work.weight), operators.EPSILON))
    work = operators.Rope(MODEL, 3)
    close(work.step(work.x), plain.rope(plain.array(work.x), 10000.0, work.OFFSET))


@pytest.mark.parametrize(
    ("work", "causal"),
    [
        (lambda: operators.AttentionPrefill(MODEL, 9), True),
        (lambda: operators.AttentionDecode(MODEL, 9), False),
    ],
)
def test_attention_is_grouped_query_and_causal_in_prefill(work, causal):
    """Prefill hides the future, one decoded query sees all; four heads share one head of keys and values."""
    made = work()
    queries, keys, values = (plain.array(a)[0] for a in (made.x, made.keys, made.values))
    assert queries.shape == (4, 9 if causal else 1, 64)
    assert keys.shape == values.shape == (1, 9, 64)
    close(made.step(made.x)[0], plain.attention(queries, keys, values, causal))


def test_attention_without_named_masks_is_skipped(monkeypatch):
    """A version whose masks are arrays is skipped with the reason: it would do other work."""

    def early(*arguments, mask, **rest):
        raise TypeError("incompatible function arguments")

    monkeypatch.setattr(compat, "function", lambda name: early)
    with pytest.raises(NotImplementedError, match="takes no mask by name"):
        operators.AttentionPrefill(MODEL, 4)


def test_an_embedding_looks_up_rows_and_never_the_same_ones():
    """Rows of the matrix by id; each call of a sample has ids of its own."""
    work = operators.Embedding(MODEL, 5)
    table = plain.array(work.embedding.weight)
    assert table.shape == (1024, 256)
    for ids in work.inputs[:3]:
        close(work.step(ids), table[np.array(ids)])
    assert len({tuple(ids.tolist()) for ids in work.inputs}) == operators.CALLS


def allowed(strategy, logprobs):
    """The tokens that a sampling strategy may pick, from its definition."""
    order = np.argsort(-logprobs)
    probabilities = np.exp(logprobs)
    if strategy == "greedy":
        return {int(order[0])}
    if strategy == "top_k":
        return set(order[:50].tolist())
    if strategy == "top_p":
        before = np.cumsum(probabilities[order]) - probabilities[order]
        return set(order[before < 0.9 + 1e-6].tolist())
    if strategy == "min_p":
        return set(np.flatnonzero(probabilities >= 0.05 * probabilities.max() * (1 - 1e-5)).tolist())
    return set(range(len(logprobs)))


@pytest.mark.parametrize("strategy", operators.STRATEGIES)
def test_a_sampler_picks_what_its_strategy_allows(strategy):
    """Tokens come from the allowed set, which all but plain temperature make smaller, and repeat with the seed."""
    work = operators.Sampling(MODEL, strategy)
    work.prepare()
    first = [work.step(x).item() for x in work.inputs]
    for token, x in zip(first, work.inputs, strict=True):
        assert tuple(x.shape) == (1, 1024)
        assert np.exp(plain.array(x)).sum() == pytest.approx(1, abs=1e-3)
        assert token in allowed(strategy, plain.array(x)[0])
    sizes = [len(allowed(strategy, plain.array(x)[0])) for x in work.inputs]
    assert (max(sizes) < 1024) == (strategy != "temperature")
    work.prepare()
    assert [work.step(x).item() for x in work.inputs] == first


def test_temperature_sharpens_the_distribution():
    """Of many draws, the share of each token is its probability at that temperature."""
    sampler = compat.make_sampler(**operators.STRATEGIES["temperature"])
    logprobs = np.log([0.5, 0.3, 0.2])
    mx.random.seed(1)
    drawn = np.array(sampler(mx.broadcast_to(mx.array(logprobs, dtype=mx.float32), (20_000, 3))))
    share = np.bincount(drawn, minlength=3) / len(drawn)
    # Five standard deviations of a share of 20,000 draws.
    np.testing.assert_allclose(share, plain.softmax(logprobs / 0.7), atol=0.018)


@pytest.mark.parametrize("name", EACH)
def test_a_sample_is_so_many_calls_and_one_evaluation(name, monkeypatch):
    """As many calls as the benchmarks state, all evaluated at once, at the end."""
    work = EACH[name]()
    work.prepare()
    inner = "product" if isinstance(work, products.Matmul) else "step"
    calls, evaluations = [], []
    real_call, real_eval = getattr(work, inner), mx.eval
    monkeypatch.setattr(work, inner, lambda *a: calls.append(1) or real_call(*a))
    monkeypatch.setattr(mx, "eval", lambda *a: evaluations.append(len(calls)) or real_eval(*a))
    work.run()
    assert len(calls) == operators.CALLS
    assert evaluations == [operators.CALLS]


@pytest.mark.parametrize("name", [name for name in EACH if not name.startswith(("embedding", "sampling"))])
def test_values_stay_of_a_size_along_a_chain(name):
    """What comes out after all calls is finite and no denormal number: those have another speed."""
    work = EACH[name]()
    x = work.x
    for _ in range(operators.CALLS):
        x = work.step(x)
    found = np.abs(plain.array(x)).mean()
    assert 1e-6 < found < 1e6


@pytest.mark.parametrize("name", EACH)
def test_a_sample_leaves_nothing_behind(name):
    """Three samples in a row take no more memory than one."""
    work = EACH[name]()
    active = []
    for _ in range(3):
        work.prepare()
        work.run()
        compat.synchronize()
        active.append(compat.memory()["active"])
    if active[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    assert max(active) - min(active) < 4096


@pytest.mark.parametrize(
    ("spec", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary"),
    [
        ("tiny-float32", 256, 256, 4, 1, 64, 1024),
        ("llama-3.2-1b-bfloat16", 2048, 8192, 32, 8, 64, 128256),
        ("llama-3.1-8b-bfloat16", 4096, 14336, 32, 8, 128, 128256),
    ],
)
def test_sizes_are_the_models(spec, hidden, intermediate, heads, kv_heads, head_dim, vocabulary):
    """Sizes and type are those of the model's configuration, head size worked out where it is not said."""
    sizes = operators.Sizes(spec)
    assert (sizes.hidden, sizes.intermediate, sizes.heads, sizes.kv_heads) == (
        hidden,
        intermediate,
        heads,
        kv_heads,
    )
    assert (sizes.head_dim, sizes.vocabulary) == (head_dim, vocabulary)
    assert sizes.dtype == getattr(mx, shapes.base_dtype(spec))
    assert sizes.activations(2, 3).dtype == sizes.dtype


def test_an_operator_makes_room_by_letting_the_model_go():
    """A model that is kept is released, so that an operator of an 8B shape has the memory for itself."""
    models.get(MODEL)
    operators.RMSNorm(MODEL, 3)
    with pytest.raises(KeyError):
        kept.get("model")


def test_what_a_version_lacks_is_skipped_by_name(monkeypatch):
    """A missing operator, sampler or setting is asv's skip, and its reason names it."""
    with pytest.raises(NotImplementedError, match=r"has no fast\.nonsense"):
        compat.function("fast.nonsense")
    with pytest.raises(NotImplementedError, match="takes no nonsense"):
        compat.make_sampler(temp=1.0, nonsense=2)
    monkeypatch.setattr(mx, "__version__", "0.21.1")
    if mx.default_device() == mx.Device(mx.cpu):
        with pytest.raises(NotImplementedError, match="aborts in bfloat16"):
            products.Matmul("tiny-bfloat16", 1)
    products.Matmul(MODEL, 1)
