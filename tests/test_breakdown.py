"""Parts of a model timed apart: they add up, the model computes the same, and nothing of it is left changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_velocity.probe import breakdown, compat, kept, kinds, models, parts, shapes, worker

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
import mlx.nn as nn  # noqa: E402 - after the check that it is there

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LAYERS = 4
ATTENTION = {
    "input norm", "q/k/v projections", "rope", "kv cache", "attention", "output projection", "attention rest", "post norm",
    "layer rest",
}  # fmt: skip
OUTSIDE = {"embedding", "final norm", "head", "other"}
EXPECTED = {
    "tiny-float32": {"gate/up projections", "activation", "down projection", "mlp rest", *ATTENTION, *OUTSIDE},
    "tiny-moe-float32": {
        "q/k norm", "router", "experts gate/up", "experts activation", "experts down", "experts rest",
        *ATTENTION, *OUTSIDE,
    },
    "tiny-mamba-float32": {
        "input norm", "mixer input projections", "mixer convolution", "mixer state space", "mixer norm",
        "mixer output projection", "mixer rest", "layer rest", *OUTSIDE,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_slots() -> Iterator[None]:
    yield
    kept.release("workload", "prompt cache", "model", "gradients")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "WARMUP_S", 0.0)


def ask(stage: str, model: str = "tiny-float32", **changes: Any) -> dict[str, Any]:
    request = {"stage": stage, "model": model, "tokens": 16, "depth": 8, "generate": 3, "repetitions": 2}
    return worker.answer({"op": "profile", **request, **changes})


def of_kind(answer: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [part for part in answer["parts"] if part["kind"] == kind]


def calls(answer: dict[str, Any], kind: str) -> int:
    return sum(len(part["self_s"][0]) for part in of_kind(answer, kind))


@pytest.mark.parametrize("stage", breakdown.STAGES)
@pytest.mark.parametrize("model", EXPECTED)
def test_parts_add_up(model: str, stage: str) -> None:
    """Of every tiny architecture and stage, the self times of all parts are the whole, in each repetition."""
    answer = ask(stage, model)
    if (model, stage) == ("tiny-mamba-float32", "lora"):
        assert "has no self_attn.q_proj" in answer["skipped"]
        return
    for run, whole in enumerate(answer["profiled"]):
        own = sum(sum(part["self_s"][run]) for part in answer["parts"])
        assert own == pytest.approx(whole, abs=1e-6)
        assert all(part["total_s"][run] >= sum(part["self_s"][run]) - 1e-6 for part in answer["parts"])
    assert len(answer["unprofiled"]) == len(answer["profiled"]) == 2
    assert answer["floor_s"] > 0


@pytest.mark.parametrize("model", EXPECTED)
def test_every_architecture_has_its_parts(model: str) -> None:
    """A decode of each tiny architecture shows its own kinds of parts, in every layer, and nothing unknown."""
    answer = ask("decode", model)
    found = {part["kind"] for part in answer["parts"]}
    assert found - {"mask"} == EXPECTED[model] | {"sampling"}
    assert calls(answer, "input norm") == LAYERS * answer["steps"]
    assert calls(answer, "head") == calls(answer, "sampling") == answer["steps"] == 3
    in_layers = {part["layer"] for part in of_kind(answer, "input norm")}
    assert in_layers == set(range(LAYERS))


def test_a_module_that_all_layers_share_counts_in_each() -> None:
    """The one activation object of all experts is a part of every layer."""
    found = of_kind(ask("decode", "tiny-moe-float32"), "experts activation")
    assert {part["layer"] for part in found} == set(range(LAYERS))


@pytest.mark.parametrize("stage", ["decode", "lora"])
@pytest.mark.parametrize("model", ["tiny-float32", "tiny-moe-float32"])
def test_the_watched_model_computes_the_same(model: str, stage: str) -> None:
    """Part by part a model generates the same tokens, or has the same loss, as it does normally."""
    answer = ask(stage, model)
    assert answer["same_result"] is True
    assert answer["notes"].keys() & {"digest", "loss"}


def test_other_tokens_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run part by part that generates something else is told from one that does not."""
    greedy, asked = compat.greedy, iter(range(1000))
    monkeypatch.setattr(compat, "greedy", lambda logprobs: greedy(logprobs) * 0 + next(asked) % 7)
    assert ask("decode")["same_result"] is False


def looked_up(model: Any) -> dict[tuple[int, str], Any]:
    """Whatever Python finds where a part is called, by owner and name."""
    classes = {type(module) for _, module in model.named_modules()}
    owners = [
        *classes,
        *(sys.modules[cls.__module__] for cls in classes),
        *{type(cache) for cache in compat.make_prompt_cache(model)},
        mx.fast,
        nn,
        nn.losses,
        compat,
    ]
    return {(id(owner), name): value for owner in owners for name, value in vars(owner).items()}


@pytest.mark.parametrize("model", EXPECTED)
def test_watching_is_undone(model: str) -> None:
    """After watching, whether it ended well or not, every class, module and function is what it was."""
    built = models.get(model)
    before = looked_up(built)
    with parts.watch(built, parts.Recorder(), compat.make_prompt_cache(built)):
        assert looked_up(built) != before
    assert looked_up(built) == before
    with pytest.raises(RuntimeError, match="on purpose"), parts.watch(built, parts.Recorder()):
        raise RuntimeError("on purpose")
    assert looked_up(built) == before
    ask("decode", model)
    assert looked_up(built) == before


def test_nested_parts_count_their_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part's self time is without the parts inside of it, and its total with them."""
    now = iter([0.0, 1.0, 3.0, 4.0, 9.0, 20.0])
    monkeypatch.setattr(parts.time, "perf_counter", lambda: next(now))
    recorder = parts.Recorder()

    def body() -> None:
        # The whole begins at 0, the outer part at 1, the inner one at 3.
        with recorder.part("outer", "outer"), recorder.part("inner", "inner"):
            pass

    whole, found = recorder.whole(body)
    assert whole == 20.0
    assert {part.name: (part.self_s, part.total_s) for part in found} == {
        "inner": ([1.0], 1.0),
        "outer": ([7.0], 8.0),
        "other": ([12.0], 20.0),
    }


class Toy(nn.Module):  # type: ignore[misc]
    """Two layers that call one compiled function each, which calls a module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
        self.compiled = mx.compile(lambda x: self.layers[1](x) + 1)

    def __call__(self, x: Any) -> Any:
        return self.compiled(self.layers[0](x))


def test_what_is_compiled_stays_whole() -> None:
    """A module inside of a compiled function is not split off, and the result is right."""
    toy, recorder, x = Toy(), parts.Recorder(), mx.ones((2, 4))
    expected = toy.layers[1](toy.layers[0](x)) + 1
    results: list[Any] = []
    with parts.watch(toy, recorder):
        _, found = recorder.whole(lambda: results.append(toy(x)))
    assert mx.allclose(results[0], expected).item()
    assert {part.layer for part in found} == {None, 0}


def test_what_was_left_lazy_is_not_the_next_parts_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part is given is computed before its time begins."""
    events: list[str] = []
    compute = parts.compute
    monkeypatch.setattr(parts, "compute", lambda tree: events.append("compute") or compute(tree))
    monkeypatch.setattr(parts.time, "perf_counter", lambda: events.append("clock") or 0.0)
    toy, recorder = Toy(), parts.Recorder()
    with parts.watch(toy, recorder):
        recorder.whole(lambda: toy.layers[0](mx.ones((2, 4)) * 3))
    # The whole's clock, then the part: given, clock, returned, clock.
    assert events == ["clock", "compute", "clock", "compute", "clock", "clock"]


def test_chunks_of_a_prompt_compute_no_logits_that_nobody_wants() -> None:
    """Of a prompt in three chunks the head, the last norm and the last layer run once, as they do normally."""
    answer = ask("prefill", tokens=2 * 512 + 1, repetitions=1)
    assert [calls(answer, kind) for kind in ("embedding", "head", "final norm")] == [3, 1, 1]
    assert calls(answer, "input norm") == 3 * (LAYERS - 1) + 1


def test_a_tied_embedding_is_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the embedding is used as the head, looking up and multiplying are two parts."""
    monkeypatch.setitem(shapes.SHAPES, "tied", {**shapes.SHAPES["tiny"], "tie_word_embeddings": True})
    answer = ask("decode", "tied-float32")
    (head,), (embedding,) = of_kind(answer, "head"), of_kind(answer, "embedding")
    assert head["name"] == f"{embedding['name']}.as_linear"


def test_a_lora_step_shows_adapters_backward_and_optimizer() -> None:
    """A LoRA step is its forward parts, what the adapters add, one backward pass, and the update."""
    answer = ask("lora")
    assert {"loss", "adapters", "backward", "optimizer", "attention"} <= {part["kind"] for part in answer["parts"]}  # fmt: skip
    adapted = [part["name"] for part in of_kind(answer, "adapters") if part["name"].endswith("_proj")]
    assert len(adapted) == LAYERS * 2
    # What an adapter is put on keeps its own kind.
    assert calls(answer, "q/k/v projections") == LAYERS * 3


@pytest.mark.parametrize(
    ("stage", "model", "words"),
    [
        ("decode", "nonsense", "no model is called nonsense"),
        ("train", "tiny-float32", "there is no stage 'train'"),
        ("prefill", "path:/nowhere", "holds no config.json"),
    ],
)
def test_refusals(stage: str, model: str, words: str) -> None:
    """A model or stage that is none is refused with what to write instead; the worker lives on."""
    answer = ask(stage, model)
    assert answer["ok"]
    assert words in answer["refused"]
    assert answer["advice"]


SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5, "vocab_size": 256, "max_position_embeddings": 512, "rope_theta": 1e4, "tie_word_embeddings": True,
}  # fmt: skip
OTHERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "phi3": (SMALL, {"q/k/v projections", "gate/up projections", "activation", "down projection"}),
    "mixtral": ({**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2}, {"router", "experts gate/up", "experts down"}),
    "gpt2": (
        {"n_ctx": 128, "n_embd": 64, "n_head": 2, "n_layer": 2, "n_positions": 128, "layer_norm_epsilon": 1e-5, "vocab_size": 256},
        {"q/k/v projections", "attention", "output projection", "gate/up projections", "activation", "down projection"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_no_table_names(name: str) -> None:
    """Architectures outside of our shapes are split by the names that all models share."""
    config, expected = OTHERS[name]
    model_class, arguments = compat.model_classes(name)
    model = model_class(arguments.from_dict({**config, "model_type": name}))
    mx.eval(model.parameters())
    recorder, tokens = parts.Recorder(), mx.array([[1, 2, 3]])
    with parts.watch(model, recorder):
        whole, found = recorder.whole(lambda: mx.eval(model(tokens)))
    assert expected <= {part.kind for part in found}
    assert sum(sum(part.self_s) for part in found) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("name", "caller", "kind"),
    [
        ("create_attention_mask", "other", "mask"),
        ("scaled_dot_product_attention", "attention rest", "attention"),
        ("swiglu", "mlp rest", "activation"),
        ("ssm_update", "mixer rest", "mixer state space"),
        ("group_expert_select", "experts rest", "router"),
        ("something_new", "mlp rest", "mlp rest"),
    ],
)
def test_kinds_of_functions(name: str, caller: str, kind: str) -> None:
    """A function is what its name says in the block that calls it, else it is the rest of that block."""
    assert kinds.of_function(name, caller) == kind
