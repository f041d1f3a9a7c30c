"""Ways of generating: each gives the tokens that the plain one gives, and times the steps that it promises."""

from __future__ import annotations

import pytest

from mlx_velocity.probe import compat, generation, kept, models, observe, workloads

mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

# What mlx_lm and transformers import warns of things that are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODEL = "tiny-float32"
HAS_BATCHES = hasattr(compat._generate_module(), "BatchGenerator")
needs_batches = pytest.mark.skipif(not HAS_BATCHES, reason="this mlx-lm has no BatchGenerator")


@pytest.fixture(autouse=True)
def _empty_slots():
    observe.collect()
    yield
    kept.release("workload", "prompt cache", "model")


class Counting:
    """A model that remembers the shape of what it is called with."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __call__(self, inputs, **arguments):
        self.calls.append(tuple(inputs.shape))
        return self.model(inputs, **arguments)

    def __getattr__(self, name):
        return getattr(self.model, name)


def notes(work):
    """What one sample of a workload notes."""
    work.prepare()
    work.run()
    return observe.collect()


def tokens_of(work):
    """The tokens of one generation of a decode workload, the first one included."""
    work.prepare()
    return [work.first] + [work.read(next(work.steps)) for _ in range(work.tokens)]


@pytest.mark.parametrize("depth", [0, 40])
def test_stepwise_and_chained_generate_the_same_tokens(depth):
    """Waiting for each token changes when it is computed, not what: equal digests, three ways."""
    chained = notes(workloads.Decode(MODEL, depth, 12))
    assert chained["digest"] == notes(generation.Steps(MODEL, depth, 12))["digest"]
    assert chained["digest"] == notes(generation.Steps(MODEL, depth, 12, ahead=True))["digest"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: workloads.Decode(MODEL, 40, 12),
        lambda: generation.Steps(MODEL, 40, 12),
        lambda: generation.Steps(MODEL, 40, 12, batch=3, ahead=True),
        pytest.param(lambda: generation.Batched(MODEL, 40, 12, batch=3), marks=needs_batches),
    ],
)
def test_exactly_the_promised_steps_are_timed(make):
    """A timed decode runs the model once a step, on one token of each sequence."""
    work = make()
    work.model = counting = Counting(work.model)
    work.prepare()
    counting.calls.clear()
    work.run()
    batch = len(getattr(work, "rows", [0]))
    assert counting.calls == [(batch, 1)] * 12


def test_a_stepwise_step_begins_when_it_is_asked_for():
    """Nothing runs ahead of what is yielded in stepwise decode; chained decode is one step ahead."""
    for ahead, steps in ((False, 2), (True, 3)):
        work = generation.Steps(MODEL, 3, 12, ahead=ahead)
        work.model = counting = Counting(work.model)
        work.prepare()
        next(work.steps)
        assert counting.calls.count((1, 1)) == steps


@pytest.mark.parametrize(
    "kind",
    [
        lambda: generation.Steps(MODEL, 40, 12, batch=2, ahead=True),
        lambda: generation.Steps(MODEL, 40, 12, batch=2),
        pytest.param(lambda: generation.Batched(MODEL, 40, 12, batch=2), marks=needs_batches),
    ],
)
def test_a_batch_of_two_gives_twice_the_tokens(kind):
    """Each step of a batch gives a token of each sequence, and the first sequence gets what it gets alone."""
    both = tokens_of(kind())
    assert [len(step) for step in both] == [2] * 13
    alone = tokens_of(workloads.Decode(MODEL, 40, 12))
    assert [first for first, _ in both] == alone
    assert [second for _, second in both] != alone


@needs_batches
def test_the_batch_generator_of_mlx_lm_agrees_with_ours():
    """mlx_lm's BatchGenerator and the model called with a batch generate the same tokens."""
    ours = notes(generation.Steps(MODEL, 40, 12, batch=3, ahead=True))
    assert ours["digest"] == notes(generation.Batched(MODEL, 40, 12, batch=3))["digest"]


@pytest.mark.parametrize("draft", [generation.SAME, "tiny-4bit"])
def test_speculative_tokens_are_the_greedy_ones(draft):
    """A draft model changes the speed and never the output, however often it is right."""
    plain = tokens_of(workloads.Decode(MODEL, 40, 12))
    noted = notes(generation.Speculative(MODEL, 40, 12, draft))
    assert noted["digest"] == workloads.digest(plain[:12])
    if draft == generation.SAME:
        assert noted["accepted"] == noted["drafted"] == 8
    else:
        assert noted["accepted"] < noted["drafted"]


@pytest.mark.parametrize(
    ("right", "guesses"),
    [
        ([True, True, False] * 2, 4),  # two rounds, all right
        ([False, False, False], 2 + 2 + 1),  # every guess wrong; the last round needs one token only
        ([True, False, True, True], 2 + 2),  # a round cut off by the end of the output
        ([], 0),
    ],
)
def test_guesses_are_counted_from_the_output(right, guesses):
    """How many tokens a draft guessed follows from which tokens of the output were guesses."""
    assert generation.drafted(right, 2) == guesses


def test_guesses_are_those_that_the_draft_model_made():
    """The counted guesses are the calls of the draft model."""
    work = generation.Speculative(MODEL, 40, 11, "tiny-4bit")
    work.draft = counting = Counting(work.draft)
    work.prepare()
    counting.calls.clear()
    work.run()
    assert observe.collect()["drafted"] == len(counting.calls)


def test_a_draft_of_another_vocabulary_is_skipped(monkeypatch):
    """A draft model whose tokens mean something else is skipped, with both numbers."""
    sizes = iter([1024, 1024, 2048])
    monkeypatch.setattr(models, "vocabulary", lambda model: next(sizes))
    with pytest.raises(NotImplementedError, match="knows 2,048 tokens and the model 1,024"):
        generation.Speculative(MODEL, 4, 8, "tiny-4bit")


@pytest.mark.parametrize(
    "make", [lambda: generation.Speculative("tiny-mamba-float32", 4, 8), lambda: generation.Reuse("tiny-mamba-float32", 16)]
)  # fmt: skip
def test_what_needs_a_cache_that_goes_back_is_skipped_without(make):
    """A state-space model can't go back: speculative decoding and reuse are skipped with the reason."""
    with pytest.raises(NotImplementedError, match="can't be trimmed"):
        notes(make())


@pytest.mark.parametrize("tokens", [2, 5, 64])
def test_a_reused_prompt_cache_continues_as_a_fresh_one(tokens):
    """Behind a reused cache come the tokens that come behind the whole prompt, and only the new end is computed."""
    work = generation.Reuse(MODEL, tokens)
    work.arguments = lambda: {**generation.Reuse.arguments(work), "max_tokens": 9}
    work.prepare()
    work.model = counting = Counting(work.model)
    work.run()
    assert observe.collect()["reused_tokens"] == work.shared < tokens
    again = [compat.token_of(step) for step, _ in zip(work.steps, range(8), strict=False)]
    fresh = compat.generate_step(models.get(MODEL), work.ids, max_tokens=9, sampler=compat.greedy)
    plain = [compat.token_of(step) for step, _ in zip(fresh, range(9), strict=False)]
    assert again == plain[1:]
    assert sum(shape[1] for shape in counting.calls if shape[1] > 1) <= tokens - work.shared


@pytest.mark.parametrize(("batch", "depth"), [(1, 0), (3, 0), (1, 40), (3, 40)])
def test_a_prompt_behind_a_cache_gives_the_token_of_the_whole_prompt(batch, depth):
    """Prompts of any batch and depth end in the first token that the model gives to the whole prompt."""
    work = generation.Prompts(MODEL, 20, batch, depth)
    work.prepare()
    found = generation._read(next(work.steps)[0])
    logits = work.model(mx.array(work.rows))[:, -1]
    assert mx.array(found).reshape(-1).tolist() == mx.argmax(logits, axis=-1).tolist()
    work.prepare()
    work.run()


def test_an_answer_is_a_prompt_and_its_tokens():
    """An answer's first token comes within its time, and its tokens are those of generate_step."""
    ids = list(range(30))
    noted = notes(generation.Answer(MODEL, ids, 6))
    assert noted["prompt_tokens"] == 30
    assert noted["first_token_s"] > 0
    plain = compat.generate_step(models.get(MODEL), ids, max_tokens=6)
    tokens = [compat.token_of(step) for step, _ in zip(plain, range(6), strict=False)]
    assert noted["digest"] == workloads.digest(tokens)


@pytest.mark.parametrize(
    "make",
    [
        lambda: generation.Prompts(MODEL, 64, batch=2),
        lambda: generation.Prompts(MODEL, 16, depth=300),
        lambda: generation.Steps(MODEL, 300, 12),
        lambda: generation.Speculative(MODEL, 300, 12),
        lambda: generation.Reuse(MODEL, 300),
        pytest.param(lambda: generation.Batched(MODEL, 300, 12), marks=needs_batches),
    ],
)
def test_samples_do_not_add_up_in_memory(make):
    """A third sample takes no more memory than the first, notes included."""
    work = make()
    active = []
    for _ in range(3):
        work.prepare()
        work.run()
        compat.synchronize()
        active.append(compat.memory()["active"])
    if active[0] is None:
        pytest.skip("this mlx counts no memory on this device")
    # A prompt cache is a hundred times as large.
    assert max(active) - min(active) < 8192
