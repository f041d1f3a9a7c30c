"""Models to measure: what a spec gives, the same in every process and version."""

from __future__ import annotations

import json
import weakref

import pytest

from mlx_velocity.errors import InputError
from mlx_velocity.probe import compat, folder, kept, models, shapes, weights

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
from mlx.utils import tree_flatten  # noqa: E402 - after the check that it is there

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PROMPT = [1, 2, 3, 500, 7]

PARAMETERS = {
    "qwen2.5-0.5b": 0.494e9,
    "qwen3-0.6b": 0.596e9,
    "llama-3.2-1b": 1.236e9,
    "qwen3-4b": 4.022e9,
    "llama-3.1-8b": 8.030e9,
    "qwen3-30b-a3b": 30.53e9,
    "mamba2-1.3b": 1.344e9,
}


@pytest.fixture(autouse=True)
def _empty_slots():
    yield
    kept.release("workload", "prompt cache", "model")


def logits(model):
    """Logits of the fixed prompt, float32, shape (tokens, vocabulary)."""
    return model(mx.array([PROMPT]))[0].astype(mx.float32)


def built(spec):
    """A new model, or a skip where this mlx_lm has no such type."""
    try:
        return models.build(spec)
    except NotImplementedError as reason:
        pytest.skip(str(reason))


def quickly(spec):
    """Skip what this MLX cannot compute on its device, without trying: some abort the process."""
    if not spec.endswith("float16") or mx.default_device() != mx.Device(mx.cpu):
        return
    if "moe" in spec or compat.versions()["mlx"] < "0.25":
        pytest.skip("this mlx has no matrix product of 16-bit numbers on CPU")


@pytest.mark.parametrize("dtype", shapes.DTYPES)
@pytest.mark.parametrize("shape", ["tiny", "tiny-moe", "tiny-mamba"])
def test_every_small_shape_runs_in_every_dtype(shape, dtype):
    """Each tiny shape gives finite logits in each dtype, and different ones at each position."""
    quickly(f"{shape}-{dtype}")
    found = logits(built(f"{shape}-{dtype}"))
    assert found.shape == (len(PROMPT), 1024)
    assert mx.isfinite(found).all().item()
    assert 0.5 < mx.sqrt(mx.var(found)).item() < 2.0
    assert mx.abs(found[1:] - found[:-1]).max(axis=-1).min().item() > 0.1


def test_the_same_spec_twice_gives_the_same_model():
    """Two builds of a spec have equal parameters: nothing random is left."""
    first, second = (dict(tree_flatten(models.build("tiny-4bit").parameters())) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(mx.array_equal(first[path], second[path]).item() for path in first)


def test_a_quantized_model_has_the_bits_that_its_name_says():
    """`4bit` and `8bit` hold 32 / bits weights per word, with scales in the base dtype."""
    for dtype, bits in shapes.BITS.items():
        layer = models.build(f"tiny-{dtype}").layers[0].self_attn.q_proj
        assert (layer.bits, layer.group_size) == (bits, shapes.GROUP_SIZE)
        assert layer.weight.shape == (256, 256 * bits // 32)
        assert layer.scales.dtype == mx.float32


def test_only_tiny_shapes_quantize_on_float32():
    """Quantized real shapes keep bfloat16 scales, as published models do."""
    assert shapes.base_dtype("tiny-4bit") == "float32"
    assert shapes.base_dtype("tiny-bfloat16") == "bfloat16"
    assert shapes.base_dtype("llama-3.2-1b-4bit") == "bfloat16"


@pytest.mark.parametrize("shape", PARAMETERS)
def test_a_real_shape_has_the_parameters_that_its_name_says(shape):
    """The shapes of published models have the published number of parameters."""
    try:
        needed = models.needs_bytes(f"{shape}-bfloat16")
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    parameters = (needed - models.HEADROOM_BYTES) / models.HEADROOM / 2
    assert parameters == pytest.approx(PARAMETERS[shape], rel=2e-3)


def test_the_random_numbers_are_a_hash_of_their_position(monkeypatch):
    """Weights equal the same hash computed by Python's integers, however they are cut in pieces."""
    monkeypatch.setattr(weights, "PIECE", 7)
    found = weights.uniform((5, 4), "name", 0.5, mx.float32)
    expected = [
        ((weights._hash(position ^ weights.seed_of("name")) >> 8) * 2.0**-23 - 1.0) * 0.5
        for position in range(20)
    ]
    assert found.shape == (5, 4)
    assert found.reshape(-1).tolist() == expected


def test_random_weights_have_their_variance():
    """A matrix of random weights has mean 0 and the variance of its uniform distribution."""
    values = weights.uniform((256, 256), "any", 3.0**0.5, mx.float32)
    assert abs(mx.mean(values).item()) < 0.01
    assert mx.var(values).item() == pytest.approx(1.0, abs=0.01)
    assert mx.max(mx.abs(values)).item() <= 3.0**0.5


def test_prompts_are_fixed_and_within_the_vocabulary():
    """A prompt is the same each time, a longer one begins like a shorter one, and ids are known ones."""
    model = models.build("tiny-float32")
    assert models.prompt(model, 100) == models.prompt(model, 200)[:100]
    assert set(models.prompt(model, 2000)) <= set(range(1024))
    assert len(set(models.prompt(model, 100))) > 80


def test_one_model_is_kept_at_a_time():
    """The same spec gives the same object; another spec frees it first."""
    first = models.get("tiny-float32")
    assert models.get("tiny-float32") is first
    gone = weakref.ref(first)
    del first
    models.get("tiny-4bit")
    assert gone() is None


@pytest.mark.parametrize("spec", ["huge-float32", "tiny-float8", "tiny", ""])
def test_an_unknown_model_is_an_error_that_lists_the_known_ones(spec):
    """A spec that means nothing says which ones do."""
    with pytest.raises(InputError, match=r"known are tiny.*float32, bfloat16, float16, 8bit, 4bit"):
        models.get(spec)


def test_a_model_type_that_mlx_lm_lacks_is_skipped_with_the_reason(monkeypatch):
    """A shape that the installed mlx_lm does not know is skipped, and the reason names the type."""
    monkeypatch.setitem(shapes.SHAPES, "novel", {"model_type": "from_next_year"})
    with pytest.raises(NotImplementedError, match="has no model type from_next_year"):
        models.get("novel-float32")


def test_a_model_that_does_not_fit_is_skipped_with_the_sizes(monkeypatch):
    """A model larger than the memory is skipped before anything is allocated."""
    monkeypatch.setattr(compat, "device_memory_bytes", lambda: 8_000_000_000)
    with pytest.raises(NotImplementedError, match=r"needs 21\.4 GB, this machine has 8\.0 GB"):
        models.get("llama-3.1-8b-bfloat16")


@pytest.mark.parametrize("spec", ["tiny-float32", "tiny-4bit", "tiny-moe-4bit", "tiny-mamba-float32"])
def test_a_written_folder_loads_and_computes_the_same(tmp_path, spec):
    """mlx_lm.load of a written folder gives the same parameters and the same logits."""
    import mlx_lm

    original = built(spec)
    loaded, tokenizer = mlx_lm.load(str(folder.write(spec, tmp_path / "model")))
    expected, found = (dict(tree_flatten(model.parameters())) for model in (original, loaded))
    assert expected.keys() == found.keys()
    assert all(mx.array_equal(expected[path], found[path]).item() for path in expected)
    # Sums differ in the last bit with the alignment of the file's memory.
    assert mx.allclose(logits(original), logits(loaded), atol=1e-4).item()
    assert tokenizer.decode(tokenizer.encode("naïve <text>\n")) == "naïve <text>\n"


def test_a_folder_can_be_measured_instead_of_a_shape(tmp_path):
    """`path:<folder>` gives the model in it."""
    folder.write("tiny-float32", tmp_path)
    found = models.get(f"path:{tmp_path}")
    assert mx.allclose(logits(found), logits(models.build("tiny-float32")), atol=1e-4).item()
    assert models.vocabulary(found) == 1024


def test_a_folder_without_weights_is_a_clear_error(tmp_path):
    """A folder that holds no model, or a model's configuration alone, says what is missing."""
    with pytest.raises(InputError, match=r"holds no config\.json"):
        models.get(f"path:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps(models.config("tiny-float32")))
    with pytest.raises(InputError, match=r"no \*\.safetensors; download the weights"):
        models.get(f"path:{tmp_path}")
