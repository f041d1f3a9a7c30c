"""The roofline: what is worked out of a config against what the real modules, caches and products count."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_velocity import anatomy, operations, roofline, roofline_peaks, traffic
from mlx_velocity.errors import InputError
from mlx_velocity.probe import models, shapes
from mlx_velocity.roofline import Peaks, place, work

H200 = roofline_peaks.find("NVIDIA H200")
assert H200 is not None

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WITHIN = 0.05
"""How far a prediction may be from what is counted."""

TYPES: dict[str, dict[str, Any]] = {
    "shared experts": {
        "model_type": "qwen2_moe",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 192,
        "rms_norm_eps": 1e-6,
        "vocab_size": 512,
    },
    "mixtral": {
        "model_type": "mixtral",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 512,
    },
    "dense layers among sparse ones": {
        **shapes.SHAPES["tiny-moe"],
        "mlp_only_layers": [0],
        "decoder_sparse_step": 2,
    },
    "biases": {**shapes.SHAPES["tiny"], "attention_bias": True, "mlp_bias": True},
    "sliding window": {
        **shapes.SHAPES["tiny"],
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "sliding_window": 256,
    },
}
"""What no shape of ours has."""

CONFIGS = {**{name: models.config(f"{name}-bfloat16") for name in shapes.SHAPES}, **TYPES}


def lazy(config: dict[str, Any], dtype: str = "bfloat16", quantization: dict[str, Any] | None = None) -> Any:
    """mlx_lm's model of `config`: described, not computed, so that the largest takes no memory."""
    mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
    pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
    import mlx.nn as nn

    from mlx_velocity.probe import compat

    try:
        model_class, arguments = compat.model_classes(config["model_type"])
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    model = model_class(arguments.from_dict(config))
    model.eval()
    model.set_dtype(getattr(mx, dtype))
    if quantization:
        nn.quantize(
            model,
            **quantization,
            class_predicate=lambda _, module: (
                hasattr(module, "to_quantized") and module.weight.shape[-1] % quantization["group_size"] == 0
            ),
        )
    return model


def tensors(model: Any) -> dict[str, Any]:
    """The arrays of a model by name."""
    from mlx.utils import tree_flatten

    return dict(tree_flatten(model.parameters()))


def counted_decode_bytes(model: Any, config: dict[str, Any]) -> float:
    """What one token must read, counted from the model's own arrays.

    All of them; of the experts those that a token is sent to; of the embedding one row, unless it serves
    as head too.
    """
    total = 0.0
    experts = config.get("num_experts") or config.get("num_local_experts")
    arrays = tensors(model)
    tied = not any("lm_head" in name for name in arrays)
    for name, array in arrays.items():
        if "embed" in name:
            total += array.nbytes / array.shape[0] + (array.nbytes if tied else 0)
        elif "switch_mlp" in name:
            total += array.nbytes * config["num_experts_per_tok"] / experts
        else:
            total += array.nbytes
    return total


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_exact(name: str) -> None:
    """The number of parameters is that of the arrays of mlx_lm's own model, for every architecture."""
    counted = sum(array.size for array in tensors(lazy(CONFIGS[name])).values())
    assert anatomy.describe(CONFIGS[name]).parameters == counted


def test_published_number_of_parameters() -> None:
    """Llama-3.1-8B has 8.03e9 parameters."""
    assert anatomy.describe(shapes.SHAPES["llama-3.1-8b"]).parameters == pytest.approx(8.03e9, rel=1e-4)


@pytest.mark.parametrize("dtype", shapes.DTYPES)
@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_of_weights(name: str, dtype: str) -> None:
    """Bytes in memory, and bytes that a decoded token reads, are those of the model's arrays within 5 %."""
    bits = shapes.BITS.get(dtype)
    quantization = {"bits": bits, "group_size": shapes.GROUP_SIZE} if bits else {}
    plain = "float32" if dtype == "float32" else "bfloat16"
    model, described = lazy(CONFIGS[name], plain, quantization), anatomy.describe(CONFIGS[name])
    stored = traffic.storage(CONFIGS[name], plain, quantization)
    held = sum(array.nbytes for array in tensors(model).values())
    assert traffic.model_bytes(described, stored) == pytest.approx(held, rel=1e-9)
    read = traffic.read_bytes(described, stored, 1)
    assert read == pytest.approx(counted_decode_bytes(model, CONFIGS[name]), rel=WITHIN)
    # The arrays leave no room for doubt, so that the promised 5 % are kept for what is not counted here.
    assert read == pytest.approx(counted_decode_bytes(model, CONFIGS[name]), rel=1e-9)


@pytest.mark.parametrize("dtype", shapes.DTYPES)
@pytest.mark.parametrize("shape", [name for name in shapes.SHAPES if name.startswith("tiny")])
def test_bytes_of_computed_models(shape: str, dtype: str) -> None:
    """The same for models that are really in memory, as the probe builds them for each spec."""
    pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
    spec = f"{shape}-{dtype}"
    try:
        model = models.build(spec)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    config = models.config(spec)
    described, stored = anatomy.describe(config), traffic.storage(config)
    assert traffic.model_bytes(described, stored) == sum(array.nbytes for array in tensors(model).values())
    assert traffic.read_bytes(described, stored, 1) == pytest.approx(counted_decode_bytes(model, config))


@pytest.mark.parametrize(
    ("mode", "bits", "group_size"), [("affine", 6, 32), ("affine", 3, 64), ("mxfp4", 4, 32), ("nvfp4", 4, 16)]
)
def test_modes_of_quantization(mode: str, bits: int, group_size: int) -> None:
    """Odd widths and the modes with small scales take the bytes that mx.quantize gives."""
    config = shapes.SHAPES["tiny"]
    given = {"mode": mode, "bits": bits, "group_size": group_size}
    try:
        model = lazy(config, "bfloat16", given)
    except (TypeError, ValueError) as reason:
        pytest.skip(f"this mlx has no mode {mode}: {reason}")
    stored = traffic.storage(config, "bfloat16", given)
    held = sum(array.nbytes for array in tensors(model).values())
    assert traffic.model_bytes(anatomy.describe(config), stored) == held


def test_exceptions_of_quantization() -> None:
    """A module that the config excepts is counted as the config says, or unquantized."""
    config = shapes.SHAPES["tiny"]
    stored = traffic.storage(
        config,
        "bfloat16",
        {
            "bits": 4,
            "group_size": 64,
            "lm_head": {"bits": 8, "group_size": 32},
            "model.layers.0.mlp.up_proj": False,
        },
    )
    described = anatomy.describe(config)
    assert described.head is not None
    by_path = {matrix.path: matrix for matrix in described.layers[0].matrices}
    assert stored.weight_bits(described.head) == 8 + 2 * 16 / 32
    assert stored.weight_bits(by_path["model.layers.0.mlp.up_proj"]) == 16
    assert stored.weight_bits(by_path["model.layers.0.mlp.down_proj"]) == 4 + 2 * 16 / 64


@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_of_the_cache(name: str) -> None:
    """A cache takes the bytes that the real one has at a depth at which it is full, for every architecture."""
    import mlx.core as mx

    from mlx_velocity.probe import compat

    config = CONFIGS[name]
    model = lazy(config)
    cache = compat.make_prompt_cache(model)
    # 255 and one, twice: full blocks of 256, and a sliding window that has been written round.
    for tokens in (255, 1, 255, 1):
        model(mx.zeros((1, tokens), dtype=mx.int32), cache=cache)
    described, stored = anatomy.describe(config), traffic.storage(config, "bfloat16")
    assert traffic.cache_bytes(described, stored, 512) == pytest.approx(compat.cache_bytes(cache), rel=WITHIN)


def test_bytes_of_a_quantized_cache() -> None:
    """A quantized cache takes the bytes that mlx_lm's has, scales and biases included."""
    import mlx.core as mx

    from mlx_velocity.probe import compat

    model = lazy(shapes.SHAPES["tiny"])
    cache = compat.make_prompt_cache(model)
    model(mx.zeros((1, 512), dtype=mx.int32), cache=cache)
    quantized = [layer.to_quantized(group_size=64, bits=4) for layer in cache]
    stored = traffic.Storage("bfloat16", {}, kv_bits=4)
    predicted = traffic.cache_bytes(anatomy.describe(shapes.SHAPES["tiny"]), stored, 512)
    assert predicted == pytest.approx(compat.cache_bytes(quantized), rel=WITHIN)


class Counter:
    """Counts the FLOPs of the products that a model's modules ask for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import mlx.core as mx
        import mlx.nn as nn
        from mlx_lm.models import switch_layers

        self.flops = 0
        self.wrap(monkeypatch, nn.Linear, "__call__", lambda module, x: 2 * x.size * module.weight.shape[0])
        self.wrap(
            monkeypatch, nn.Embedding, "as_linear", lambda module, x: 2 * x.size * module.weight.shape[0]
        )
        self.wrap(
            monkeypatch,
            switch_layers.SwitchLinear,
            "__call__",
            lambda module, x, indices, *_, **__: (
                2 * indices.size * module.weight.shape[-1] * module.weight.shape[-2]
            ),
        )
        self.wrap(
            monkeypatch,
            mx.fast,
            "scaled_dot_product_attention",
            lambda queries, keys, *_, **__: 4 * queries.size * keys.shape[-2],
        )

    def wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, cost: Any) -> None:
        """Let a function count what it is asked for before it does it."""
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.flops += cost(*args, **kwargs)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "mamba" not in name])
def test_flops_of_a_decoded_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One decode step has the FLOPs of the products that mlx_lm's model asks for, at any depth."""
    import mlx.core as mx

    from mlx_velocity.probe import compat

    model = lazy(CONFIGS[name])
    cache = compat.make_prompt_cache(model)
    model(mx.zeros((1, 100), dtype=mx.int32), cache=cache)
    counter = Counter(monkeypatch)
    model(mx.zeros((1, 1), dtype=mx.int32), cache=cache)
    assert operations.forward(anatomy.describe(CONFIGS[name]), 1, 100) == counter.flops


@pytest.mark.parametrize("name", ["tiny", "tiny-moe", "llama-3.1-8b", "shared experts"])
def test_flops_of_a_prefill(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefill has them too, and half of what attention's square would take, since it is causal."""
    import mlx.core as mx

    model, described = lazy(CONFIGS[name]), anatomy.describe(CONFIGS[name])
    counter = Counter(monkeypatch)
    model(mx.zeros((1, 64), dtype=mx.int32))
    square = sum(4 * layer.mixer.heads * layer.mixer.head_dim * 64 * 64 for layer in described.layers)
    causal = square * (64 * 65 / 2) / (64 * 64)
    assert operations.forward(described, 64) == counter.flops - square + causal


@pytest.mark.parametrize(
    ("name", "layers", "state", "convolution"),
    [("tiny-mamba", 4, 4 * 64 * 32, 4 * (4 * 64 + 2 * 32)), ("mamba2-1.3b", 48, 64 * 64 * 128, 4 * 4352)],
)
def test_flops_of_a_recurrent_layer(
    name: str, layers: int, state: int, convolution: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state-space model has its projections' products, 5 FLOPs a number of the state, and 2 a convolved one."""
    import mlx.core as mx

    model = lazy(CONFIGS[name])
    counter = Counter(monkeypatch)
    model(mx.zeros((1, 1), dtype=mx.int32))
    predicted = operations.forward(anatomy.describe(CONFIGS[name]), 1)
    assert predicted - counter.flops == layers * (5 * state + 2 * convolution)


def test_a_dense_layer_by_hand() -> None:
    """Two multiply-adds by hand: a layer of hidden 8, 2 heads of 4, 1 for keys and values, MLP of 16."""
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 10,
        "tie_word_embeddings": False,
    }
    described = anatomy.describe(config)
    projections = 8 * 8 + 8 * 4 + 8 * 4 + 8 * 8
    mlp, head = 3 * 8 * 16, 8 * 10
    # Behind 5 tokens one query meets 6 keys: 2 heads × 4 numbers, for scores and again for the sum.
    assert operations.forward(described, 1, 5) == 2 * (projections + mlp + head + 2 * 2 * 4 * 6)
    # Three queries meet 6, 7 and 8; logits at the last position only.
    assert operations.forward(described, 3, 5, logits=1) == 2 * (
        3 * (projections + mlp) + head + 2 * 2 * 4 * 21
    )
    assert described.parameters == projections + mlp + 2 * head + 3 * 8
    # Training: three passes. Low-rank adapters on q and v: their layer is the first, so q, k and v need no
    # gradient of their input; two passes of the frozen rest, three of the thin matrices, three of attention.
    attention = 2 * 2 * 4 * 6
    assert operations.training(described, 3) == 3 * 2 * (3 * (projections + mlp + head) + attention)
    forward = 3 * (projections + mlp + head) + attention
    backward = 3 * (8 * 8 + mlp + head) + 2 * attention
    thin = 3 * 3 * 2 * ((8 + 8) + (8 + 4))
    found = operations.lora_training(described, 3, operations.Adapters(rank=2))
    assert found == 2 * (forward + backward + thin)


def test_a_sparse_layer_by_hand() -> None:
    """A mixture of 4 experts of 6, 2 for each token: the router meets all, a token's products two."""
    config = {
        **TYPES["mixtral"],
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 6,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 10,
    }
    projections, router, expert, head = 8 * 8 + 8 * 4 + 8 * 4 + 8 * 8, 8 * 4, 3 * 8 * 6, 8 * 10
    described = anatomy.describe(config)
    assert operations.forward(described, 1, 0) == 2 * (
        projections + router + 2 * expert + head + 2 * 2 * 4 * 1
    )
    stored = traffic.storage(config, "float16")
    norms = 3 * 8
    assert traffic.read_bytes(described, stored, 1) == 2 * (
        projections + router + 2 * expert + head + norms + 8
    )
    # Two tokens: an expert is missed by both with probability 1/4, so that 3 of 4 are read.
    assert traffic.read_bytes(described, stored, 2) == 2 * (
        projections + router + 3 * expert + head + norms + 16
    )


def test_distinct_experts_are_those_of_random_choice() -> None:
    """The expected number of experts is what a thousand random batches touch on average, within 2 %."""
    draw = random.Random(1)
    for tokens in (1, 4, 32):
        touched = [
            len({expert for _ in range(tokens) for expert in draw.sample(range(128), 8)}) for _ in range(1000)
        ]
        assert traffic.distinct_experts(128, 8, tokens) == pytest.approx(sum(touched) / 1000, rel=0.02)


def test_adapters_on_the_last_layers() -> None:
    """Below the lowest adapter nothing flows back: fewer adapted layers, fewer FLOPs; none, a forward pass."""
    described = anatomy.describe(shapes.SHAPES["llama-3.2-1b"])
    counts = [
        operations.lora_training(described, 512, operations.Adapters(layers=n)) for n in (0, 1, 8, 16, None)
    ]
    assert counts == sorted(counts)
    assert counts[0] == operations.forward(described, 512)
    assert counts[3] == counts[4] < 0.7 * operations.training(described, 512)


def test_the_measured_decode_of_8b() -> None:
    """Llama-3.1-8B in bfloat16 at 215 tokens/s on an H200 uses 67 % of its bandwidth, and memory is the limit."""
    config = models.config("llama-3.1-8b-bfloat16")
    found = place(config, stage="decode", tokens=1, seconds=1 / 215, peaks=H200)
    assert found.bandwidth_utilization == pytest.approx(0.67, abs=0.005)
    assert found.bound == "memory"
    assert found.bytes == pytest.approx(15.01e9, rel=1e-3)
    assert found.most_tokens_per_second == pytest.approx(4.8e12 / found.bytes)
    assert found.most_tokens_per_second == pytest.approx(320, abs=1)
    assert found.reasons == ()


def test_the_measured_prefill_of_8b() -> None:
    """At 40,000 tokens/s its prefill reaches 59 % of the FLOP/s, and computing is the limit."""
    config = models.config("llama-3.1-8b-bfloat16")
    found = place(config, stage="prefill", tokens=2048, seconds=2048 / 40_000, peaks=H200)
    assert found.mfu == pytest.approx(0.586, abs=0.002)
    assert found.bound == "compute"
    assert found.knee == pytest.approx(989.5e12 / 4.8e12)


def test_ceilings_of_1b() -> None:
    """The 1B shape could decode 1,942 tokens/s on an H200, and more in 4 bits: bandwidth over bytes."""
    plain = place(models.config("llama-3.2-1b-bfloat16"), stage="decode", tokens=32, seconds=None, peaks=H200)
    small = place(models.config("llama-3.2-1b-4bit"), stage="decode", tokens=32, seconds=None, peaks=H200)
    assert plain.most_tokens_per_second == pytest.approx(1942, rel=0.01)
    assert small.most_tokens_per_second == pytest.approx(
        plain.most_tokens_per_second * plain.bytes / small.bytes
    )
    assert plain.bandwidth_utilization is plain.mfu is plain.bytes_per_second is None
    assert plain.reasons == ("no time was measured",)


def test_the_seed_documents_example() -> None:
    """The example of the profiling handbook, 2341 MiB at 85 tokens/s on 200 GB/s, is 104 % of the peak."""
    done = roofline.Work(2341 * 2**20, 0.0, 1.0, 1)
    m2_pro = roofline_peaks.find("Apple M2 Pro", gpu_cores=19)
    found = roofline.against(done, "decode", 1 / 85, m2_pro, "float16")
    assert found.bandwidth_utilization == pytest.approx(1.043, abs=0.001)


def test_what_is_unknown_is_none_with_a_reason() -> None:
    """Without a peak there is no share of it and no bound; the reason names what is missing."""
    config = models.config("llama-3.1-8b-bfloat16")
    m5 = roofline_peaks.find("Apple M5 Max", gpu_cores=40)
    found = place(config, stage="decode", tokens=1, seconds=0.05, peaks=m5)
    assert found.bandwidth_utilization == pytest.approx(15.01e9 / 0.05 / 614e9, rel=1e-3)
    assert found.mfu is found.bound is found.knee is None
    assert "M5" in found.reasons[0]
    # A least time that memory alone asks for holds whatever computing takes.
    assert found.least_seconds == found.bytes / 614e9
    found = place(config, stage="decode", tokens=1, seconds=0.05, peaks=None)
    assert found.bandwidth_utilization is found.bound is found.most_tokens_per_second is None
    assert found.flops_per_second == pytest.approx(found.flops / 0.05)
    assert found.reasons == ("the machine's peaks are not known",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "rwkv7"}, "type rwkv7 takes is not known; known are llama"),
        ({"model_type": None}, "type None"),
        ({"hidden_size": None}, "hidden_size as None"),
        ({"vocab_size": "many"}, "vocab_size as 'many'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers as 0"),
        ({"torch_dtype": None}, "not in the config"),
        ({"torch_dtype": "float8"}, "is float8"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized with gptq"),
    ],
)
def test_a_config_that_does_not_say(change: dict[str, Any], says: str) -> None:
    """What the config does not say is an error in one line, never a guess."""
    config = {**models.config("tiny-float32"), **change}
    with pytest.raises(InputError, match=says):
        place(config, stage="decode", tokens=1, seconds=1.0, peaks=H200)


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe", "mamba2"])
def test_tying_has_to_be_said(kind: str) -> None:
    """Where mlx_lm has no default for tied embeddings, the config must say it."""
    config = {**next(shape for shape in shapes.SHAPES.values() if shape["model_type"] == kind)}
    del config["tie_word_embeddings"]
    with pytest.raises(InputError, match="tie_word_embeddings"):
        anatomy.describe(config)


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": 0}, {"depth": -1}, {"batch": 0}, {"seconds": 0.0}, {"seconds": math.nan}, {"stage": "sleep"}],
)
def test_numbers_that_mean_nothing(wrong: dict[str, Any]) -> None:
    """No tokens, negative depths, empty batches, no time and unknown stages are refused."""
    given: dict[str, Any] = {"stage": "decode", "tokens": 1, "seconds": 1.0, "peaks": H200, **wrong}
    with pytest.raises(InputError):
        place(models.config("tiny-float32"), **given)


def test_quantized_weights_are_not_trained_in_full() -> None:
    """Full training of quantized weights is refused with the way out; LoRA on them is placed."""
    config = models.config("tiny-4bit")
    with pytest.raises(InputError, match="train adapters"):
        place(config, stage="full", tokens=64, seconds=1.0, peaks=H200)
    assert place(config, stage="lora", tokens=64, seconds=1.0, peaks=H200).mfu


def test_training_costs_more_than_lora() -> None:
    """A full step has three passes of FLOPs and the optimizer's bytes; a LoRA step about two and two reads."""
    described = anatomy.describe(shapes.SHAPES["llama-3.2-1b"])
    stored = traffic.storage({}, "bfloat16")
    full = work(described, stored, "full", 512, batch=4)
    lora = work(described, stored, "lora", 512, batch=4)
    forward = 4 * operations.forward(described, 512)
    assert full.flops == 3 * forward
    assert 1.9 * forward < lora.flops < 2.1 * forward
    assert full.bytes == pytest.approx(5 * lora.bytes, rel=0.01)
    assert lora.tokens == full.tokens == 2048


def test_a_deep_cache_counts() -> None:
    """At depth the cache is read: 8B reads 128 KiB a token of it, and 32,768 tokens are 4.3e9 bytes."""
    config = models.config("llama-3.1-8b-bfloat16")
    found = place(config, stage="decode", tokens=1, depth=32_767, seconds=None, peaks=H200)
    assert found.work.cache_bytes == 131_072 * (32_768 + 1)
    small = place(config, stage="decode", tokens=1, depth=32_767, seconds=None, peaks=H200, kv_bits=4)
    assert small.work.cache_bytes == pytest.approx(found.work.cache_bytes * (4 + 2 * 16 / 64) / 16)


@settings(deadline=None)
@given(
    name=st.sampled_from(["tiny", "tiny-moe", "tiny-mamba", "sliding window", "shared experts"]),
    tokens=st.integers(1, 600),
    depth=st.integers(0, 600),
    chunk=st.integers(1, 700),
)
def test_the_stages_agree(name: str, tokens: int, depth: int, chunk: int) -> None:
    """Chunks change no FLOPs, prefilling tokens takes those of decoding them, and steps add up."""
    described = anatomy.describe(CONFIGS[name])
    stored = traffic.storage({}, "bfloat16")
    whole = work(described, stored, "prefill", tokens, depth, logits=None)
    pieces = work(described, stored, "prefill", tokens, depth, chunk=chunk, logits=None)
    decode = work(described, stored, "decode", tokens, depth)
    assert pieces.flops == whole.flops == pytest.approx(decode.flops)
    assert whole.weight_bytes <= pieces.weight_bytes * (1 + 1e-12)
    assert pieces.weight_bytes <= decode.weight_bytes * (1 + 1e-12)
    first = work(described, stored, "decode", 1, depth)
    if tokens > 1:
        rest = work(described, stored, "decode", tokens - 1, depth + 1)
        assert first.flops + rest.flops == pytest.approx(decode.flops)
        assert first.bytes + rest.bytes == pytest.approx(decode.bytes)


@given(window=st.integers(1, 40), depth=st.integers(0, 60), tokens=st.integers(0, 60))
def test_pairs_in_a_window(window: int, depth: int, tokens: int) -> None:
    """Attention counts the pairs of query and key that a loop over the queries counts."""
    mixer = anatomy.Attention(1, 1, 1, window)
    assert mixer.seen(depth, tokens) == sum(min(depth + i + 1, window) for i in range(tokens))


def test_a_machine_without_tf32() -> None:
    """float32 is held against TF32 where the machine has it, as MLX multiplies it, and else against float32."""
    with_it = Peaks("a", 1e12, {"float32": 60e12, "tf32": 400e12}, "")
    without = Peaks("b", 1e12, {"float32": 60e12}, "")
    assert (with_it.peak("float32"), without.peak("float32")) == (400e12, 60e12)
    assert (with_it.knee("float32"), with_it.knee("bfloat16")) == (400, None)
