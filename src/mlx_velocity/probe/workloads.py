"""What is timed, one class per stage of a language model, all with the same three steps.

Construction does what is done once (the model, the prompt), `prepare` what every sample needs anew
(a fresh cache), `run` is the timed body. Nothing that `run` changes is seen by the next sample.
Pinned values keep a series comparable while upstream defaults move; each stage has a `Default...`
workload beside the pinned one, where mlx_lm's own defaults apply.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
from collections.abc import Hashable, Iterator
from typing import Any, Protocol

from mlx_velocity.probe import compat, kept, models, observe
from mlx_velocity.probe.models import Held

PREFILL_CHUNK = 512
"""Tokens per call of the model in prefill: mlx_lm's default up to 0.22.2, and one block of most kernels."""

PREFILL_STEP_SIZE = 2048
"""`prefill_step_size` where generate_step does the prefill: its default since 0.22.3."""

DECODE_TOKENS = 32
"""Tokens per timed decode: long enough to hide the clock, short enough to stay at one depth."""


class Workload(Protocol):
    """What `Case` drives."""

    def prepare(self) -> None:
        """Make ready for one sample; not timed."""

    def run(self) -> None:
        """The timed body; it returns when its results are computed."""


class Prefill:
    """A prompt of `tokens` tokens through the model, in chunks, into a fresh prompt cache.

    The logits of the whole last chunk are computed, so that every layer and the head count. `batch`
    prompts of the same length go through together.
    """

    def __init__(self, model: str | Held, tokens: int, batch: int = 1) -> None:
        kept.release("prompt cache")
        self.model = models.get(model)
        ids = prompts(self.model, tokens, batch)
        self.chunks = [ids[:, i : i + PREFILL_CHUNK] for i in range(0, tokens, PREFILL_CHUNK)]
        self.cache: list[Any] = []
        self.logits: Any = None

    def prepare(self) -> None:
        """An empty prompt cache."""
        import mlx.core as mx

        self.logits = None
        self.cache = compat.make_prompt_cache(self.model)
        mx.eval(self.chunks)

    def run(self) -> None:
        """One prefill."""
        self.logits = prefill(self.model, self.chunks, self.cache)


def prefill(model: Any, chunks: list[Any], cache: list[Any]) -> Any:
    """Run `chunks` of shape (batch, n) through `model`; the last one's logits of the first row, shape (n, vocabulary)."""
    import mlx.core as mx

    for chunk in chunks[:-1]:
        model(chunk, cache=cache)
        mx.eval([layer.state for layer in cache])
    logits = model(chunks[-1], cache=cache)[0]
    mx.eval(logits, [layer.state for layer in cache])
    return logits


def prompts(model: Any, tokens: int, batch: int) -> Any:
    """Token ids of shape (batch, tokens), a different prompt in each row; the first is always the same."""
    import mlx.core as mx

    return mx.array(models.prompt(model, batch * tokens)).reshape(batch, tokens)


class Forward:
    """One call of the model on `batch` prompts of `tokens` tokens, without a cache; all logits are computed.

    Whatever maps ids of shape (batch, tokens) to logits can do this, and training does.
    """

    def __init__(self, model: str | Held, tokens: int, batch: int = 1) -> None:
        kept.release("prompt cache")
        self.model = models.get(model)
        self.ids = prompts(self.model, tokens, batch)
        self.logits: Any = None

    def prepare(self) -> None:
        """Nothing left of the last run."""
        import mlx.core as mx

        self.logits = None
        mx.eval(self.ids)

    def run(self) -> None:
        """One call."""
        import mlx.core as mx

        self.logits = self.model(self.ids)
        mx.eval(self.logits)


class FirstToken:
    """From the ids of a prompt to its first token through mlx_lm's generate_step, all pinned."""

    def __init__(self, model: str | Held, tokens: int) -> None:
        kept.release("prompt cache")
        self.model = models.get(model)
        self.ids = models.prompt(self.model, tokens)
        self.steps: Iterator[Any] = iter(())

    def arguments(self) -> dict[str, Any]:
        """What generate_step is told."""
        return {"max_tokens": 1, "sampler": compat.greedy, "prefill_step_size": PREFILL_STEP_SIZE}

    def prepare(self) -> None:
        """A generation that has not begun, and nothing running."""
        # Before the old one goes: it has begun a step ahead of need.
        compat.synchronize()
        self.steps = compat.generate_step(self.model, self.ids, **self.arguments())

    def run(self) -> None:
        """One first token."""
        compat.token_of(next(self.steps))


class DefaultFirstToken(FirstToken):
    """The same as users get it: no argument but the number of tokens."""

    def arguments(self) -> dict[str, Any]:
        """Nothing but the number of tokens."""
        return {"max_tokens": 1}


class Decode:
    """Greedy generation of `tokens` tokens behind a cache that holds `depth` tokens.

    generate_step works one step ahead of what it yields. So a sample begins when its first token is
    out and nothing is running, and ends when the step ahead of the last token is done: exactly
    `tokens` steps. Notes the digest of all tokens, that first one included.
    """

    kind = "plain"
    """Which prompt cache it decodes behind: one of another kind is never taken for it."""

    def __init__(self, model: str | Held, depth: int, tokens: int = DECODE_TOKENS) -> None:
        self.model = models.get(model)
        self.ids = models.prompt(self.model, depth + 1)
        self.spec, self.depth, self.tokens = model, depth, tokens
        self.steps: Iterator[Any] = iter(())
        self.cache: list[Any] = []
        self.first: Any = 0

    def begin(self) -> Iterator[Any]:
        """A new generation, nothing computed yet."""
        filled = kept.keep("prompt cache", (self.spec, self.depth, self.kind), self.fill)
        # Copies of arrays share their memory until one is written to.
        self.cache = copy.deepcopy(filled)
        return compat.generate_step(
            self.model,
            self.ids[-1:],
            needed=("prompt_cache",),
            prompt_cache=self.cache,
            max_tokens=self.tokens + 1,
            sampler=self.sampler(),
            prefill_step_size=PREFILL_STEP_SIZE,
        )

    def sampler(self) -> Any:
        """What picks the tokens."""
        return compat.greedy

    def empty_cache(self) -> list[Any]:
        """A prompt cache that holds nothing."""
        return compat.make_prompt_cache(self.model)

    def fill(self) -> list[Any]:
        """A prompt cache that holds all but the last token of the prompt."""
        return fill(self.model, [self.ids[:-1]], self.empty_cache())

    def read(self, step: Any) -> Any:
        """The token of one step, or one token for each sequence of a batch; waits until it is computed."""
        return compat.token_of(step)

    def prepare(self) -> None:
        """A copy of the filled cache, the first token, and nothing running."""
        self.steps = iter(())
        compat.synchronize()
        self.steps = self.begin()
        self.first = self.read(next(self.steps))
        compat.synchronize()

    def run(self) -> None:
        """`tokens` steps."""
        tokens = [self.first] + [self.read(next(self.steps)) for _ in range(self.tokens)]
        compat.synchronize()
        self.note(tokens)
        if self.cache:
            # Not the cache itself: a note that holds it would keep a second one in the next sample.
            observe.note(kv_bytes=lambda: compat.cache_bytes(self.cache))

    def note(self, tokens: list[int]) -> None:
        """What a version computed must be seen beside how fast it was."""
        observe.note(digest=lambda: digest(tokens), tokens=self.tokens)


class SampledDecode(Decode):
    """The same with mlx_lm's sampler at a usual setting: temperature 0.7, top-p 0.9."""

    def sampler(self) -> Any:
        """mlx_lm's own."""
        return compat.make_sampler(temp=0.7, top_p=0.9)

    def prepare(self) -> None:
        """The same random numbers for every sample."""
        import mlx.core as mx

        mx.random.seed(0)
        super().prepare()

    def note(self, tokens: list[int]) -> None:
        """No digest: MLX does not promise the same random numbers in every version."""
        observe.note(tokens=self.tokens)


class DecodeByToken(Decode):
    """The same with a look at the clock after each token, still chained: nothing waits for the clock.

    `step_times` of the last run: seconds of each of its steps, which add up to the run.
    """

    step_times: tuple[float, ...] = ()

    def prepare(self) -> None:
        """The same, with no token looked at yet."""
        self.ends: list[float] = []
        super().prepare()
        self.ends.clear()

    def run(self) -> None:
        """`tokens` steps."""
        start = time.perf_counter()
        super().run()
        # A GPU ends a step when the next token is out, and the last one after all tokens; a CPU, where MLX
        # queues no more than a few operations, just before its token. So what comes before the first
        # token and what comes after the last one are one step together, on either.
        flushed = time.perf_counter() - self.ends[-1]
        between = [later - earlier for earlier, later in itertools.pairwise(self.ends)]
        self.step_times = (self.ends[0] - start + flushed, *between)

    def read(self, step: Any) -> Any:
        """The token of one step, and when it was there."""
        token = super().read(step)
        self.ends.append(time.perf_counter())
        return token


class DefaultDecode(Decode):
    """The same as users get it: generate_step fills its own cache, with no argument but `max_tokens`."""

    def begin(self) -> Iterator[Any]:
        """A new generation from the whole prompt."""
        kept.release("prompt cache")
        return compat.generate_step(self.model, self.ids, max_tokens=self.tokens + 1)


def filled(model: Any, key: Hashable, rows: list[list[int]]) -> list[Any]:
    """A copy of the prompt cache of `model` that holds `rows`, one list of ids for each sequence of a batch.

    The filled one is kept under `key`. Copies of arrays share their memory until one is written to.
    """
    return copy.deepcopy(kept.keep("prompt cache", key, lambda: fill(model, rows)))


def fill(model: Any, rows: list[list[int]], empty: list[Any] | None = None) -> list[Any]:
    """A prompt cache of `model` that holds `rows`: a new one, or `empty`; untouched where they are empty."""
    import mlx.core as mx

    cache, ids = empty or compat.make_prompt_cache(model), mx.array(rows)
    chunks = [ids[:, i : i + PREFILL_CHUNK] for i in range(0, len(rows[0]), PREFILL_CHUNK)]
    if chunks:
        prefill(model, chunks, cache)
    return cache


def digest(tokens: list[Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of token ids: equal output, equal digest."""
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:16]
