"""Ways of generating beside the plain one: in a batch, step by step, with a draft model, from a kept prompt cache.

The same three steps as in workloads.py. Batches come in two kinds: `Prompts` and `Steps` run all
sequences in step through the model itself, with one prompt length; `Batched` goes through mlx_lm's
own BatchGenerator, which is what its server and `batch_generate` use.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

from mlx_velocity.probe import compat, kept, models, observe, weights, workloads
from mlx_velocity.probe.workloads import DECODE_TOKENS, PREFILL_STEP_SIZE, Decode, FirstToken

DRAFT_TOKENS = 2
"""Tokens that the draft model guesses a round: mlx_lm's default."""
SAME = "same"
"""The draft that is the model itself: every guess is right, and only the machinery costs."""
SHARED = 7 / 8
"""Share of a second prompt that the first one had already: a chat, in which a turn was added."""


def generate(model: Any, rows: list[list[int]], cache: list[Any], ahead: bool) -> Iterator[tuple[Any, Any]]:
    """mlx_lm's `generate_step` for a batch: (tokens, log probabilities), shapes (batch,) and (batch, vocabulary).

    `rows` are prompts of one length. With `ahead` the next step is begun before a token is yielded, as
    generate_step does; without, nothing is computed between two tokens, and each waits for the last.
    """
    import mlx.core as mx

    prompt, stream = mx.array(rows), compat.generation_stream()
    begin: Any = mx.async_eval

    def step(tokens: Any) -> tuple[Any, Any]:
        with mx.stream(stream):
            logits = model(tokens, cache=cache)[:, -1, :]
            logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            chosen = compat.greedy(logprobs)
            begin(chosen, logprobs)
            return chosen, logprobs

    while prompt.shape[1] > 1:
        with mx.stream(stream):
            count = min(PREFILL_STEP_SIZE, prompt.shape[1] - 1)
            model(prompt[:, :count], cache=cache)
            mx.eval([layer.state for layer in cache])
            prompt = prompt[:, count:]
        compat.clear_cache()
    now = step(prompt)
    while True:
        following = step(now[0][:, None]) if ahead else None
        yield now
        now = following or step(now[0][:, None])


def row_prompts(model: Any, batch: int, tokens: int) -> list[list[int]]:
    """`batch` prompts of `tokens` ids; the first is the one that a single sequence gets."""
    ids = models.prompt(model, batch * tokens)
    return [ids[i : i + tokens] for i in range(0, batch * tokens, tokens)]


class Prompts(FirstToken):
    """From the ids of `batch` prompts to their first tokens, behind a cache that holds `depth` tokens.

    A single prompt goes through mlx_lm's generate_step, a batch through `generate`, which does the same.
    """

    def __init__(self, model: str, tokens: int, batch: int = 1, depth: int = 0) -> None:
        self.model = models.get(model)
        self.rows = row_prompts(self.model, batch, depth + tokens)
        self.key, self.depth = (model, depth, batch), depth
        self.steps: Iterator[Any] = iter(())

    def prepare(self) -> None:
        """A generation that has not begun, and nothing running."""
        compat.synchronize()
        self.steps = iter(())
        cache = workloads.filled(self.model, self.key, [row[: self.depth] for row in self.rows])
        rest = [row[self.depth :] for row in self.rows]
        if len(rest) > 1:
            self.steps = generate(self.model, rest, cache, ahead=True)
        elif self.depth:
            arguments = {**self.arguments(), "prompt_cache": cache}
            self.steps = compat.generate_step(self.model, rest[0], needed=("prompt_cache",), **arguments)
        else:
            self.steps = compat.generate_step(self.model, rest[0], **self.arguments())

    def run(self) -> None:
        """The first tokens."""
        tokens = next(self.steps)[0]
        _read(tokens)


class Steps(Decode):
    """Greedy decode of a batch through `generate`: chained (`ahead`), or each step waiting for the last."""

    def __init__(
        self, model: str, depth: int, tokens: int = DECODE_TOKENS, batch: int = 1, ahead: bool = False
    ) -> None:
        super().__init__(model, depth, tokens)
        self.rows, self.ahead = row_prompts(self.model, batch, depth + 1), ahead

    def begin(self) -> Iterator[Any]:
        """A new generation behind a copy of the filled cache."""
        key = (self.spec, self.depth, len(self.rows))
        self.cache = workloads.filled(self.model, key, [row[:-1] for row in self.rows])
        return generate(self.model, [row[-1:] for row in self.rows], self.cache, self.ahead)

    def read(self, step: Any) -> Any:
        """One token, or those of a batch."""
        return _read(step[0])


class Batched(Decode):
    """Greedy decode of `batch` sequences through mlx_lm's BatchGenerator, `tokens` steps of each.

    Filling the cache is a part of every sample, and not timed: the first versions take none that is filled.
    """

    def __init__(self, model: str, depth: int, tokens: int = DECODE_TOKENS, batch: int = 4) -> None:
        super().__init__(model, depth, tokens)
        self.rows = row_prompts(self.model, batch, depth + 1)

    def begin(self) -> Iterator[Any]:
        """A new batch, nothing computed yet; no sequence of it ends within the sample."""
        kept.release("prompt cache")
        return compat.batch_steps(self.model, self.rows, self.tokens + 2, PREFILL_STEP_SIZE)

    def read(self, step: Any) -> Any:
        """One token, or those of a batch."""
        return step[0] if len(step) == 1 else step


class Speculative(Decode):
    """Greedy decode with a draft model that guesses `DRAFT_TOKENS` tokens a round.

    Notes how many of its guesses were right. `draft` is a model spec or `SAME`. NotImplementedError where
    the vocabularies differ or a prompt cache can't be trimmed.
    """

    def __init__(self, model: str, depth: int, tokens: int = DECODE_TOKENS, draft: str = SAME) -> None:
        super().__init__(model, depth, tokens)
        self.draft = self.model if draft == SAME else models.build(draft)
        known = [models.vocabulary(each) for each in (self.model, self.draft)]
        if known[0] != known[1]:
            raise NotImplementedError(
                f"the draft model knows {known[1]:,} tokens and the model {known[0]:,}: they must be the same"
            )
        self.key = (model, draft, depth)

    def prepare(self) -> None:
        """Copies of both filled caches, and a generation that has not begun."""
        self.steps = iter(())
        compat.synchronize()
        both = kept.keep("prompt cache", self.key, self._fill_both)
        self.cache = copy.deepcopy(both)
        compat.trim_prompt_cache(self.cache, 0)
        self.steps = compat.speculative_step(
            self.model,
            self.draft,
            self.ids[-1:],
            prompt_cache=self.cache,
            num_draft_tokens=DRAFT_TOKENS,
            max_tokens=self.tokens,
            sampler=compat.greedy,
            prefill_step_size=PREFILL_STEP_SIZE,
        )

    def _fill_both(self) -> list[Any]:
        return [layer for each in (self.model, self.draft) for layer in workloads.fill(each, [self.ids[:-1]])]

    def run(self) -> None:
        """`tokens` tokens: nothing runs ahead of what is yielded here."""
        made = [next(self.steps) for _ in range(self.tokens)]
        compat.synchronize()
        tokens, right = [compat.token_of(step) for step in made], [bool(step[2]) for step in made]
        observe.note(
            digest=lambda: workloads.digest(tokens),
            tokens=self.tokens,
            drafted=lambda: drafted(right, DRAFT_TOKENS),
            accepted=sum(right),
        )


def drafted(right: list[bool], most: int) -> int:
    """How many tokens were guessed for an output in which `right` says of each whether it was a guess.

    A round guesses `most` tokens, fewer where less is asked for, and ends with the first wrong one.
    """
    guessed, position = 0, 0
    while position < len(right):
        guesses = min(most, len(right) - position)
        guessed += guesses
        taken = next((i for i in range(guesses) if not right[position + i]), guesses)
        position += taken + 1
    return guessed


class Reuse(FirstToken):
    """A second prompt of `tokens` tokens that shares `SHARED` of them with the first: to its first token.

    The cache still holds all of the first prompt. What both share stays, the rest is trimmed off and the
    new end is computed; the trimming is timed as well. The same prompt without that is `FirstToken`.
    """

    def __init__(self, model: str, tokens: int) -> None:
        self.model = models.get(model)
        self.ids = models.prompt(self.model, tokens)
        self.shared = min(tokens - 1, int(tokens * SHARED))
        other = weights.integers(tokens - self.shared, "first prompt", models.vocabulary(self.model))
        self.before, self.key = self.ids[: self.shared] + other, (model, "reuse", tokens)
        self.cache: list[Any] = []

    def prepare(self) -> None:
        """A copy of the cache as the first prompt left it, and nothing running."""
        compat.synchronize()
        self.steps = iter(())
        self.cache = workloads.filled(self.model, self.key, [self.before])

    def run(self) -> None:
        """Trim, and one first token."""
        compat.trim_prompt_cache(self.cache, len(self.before) - self.shared)
        arguments = {**self.arguments(), "prompt_cache": self.cache}
        self.steps = compat.generate_step(
            self.model, self.ids[self.shared :], needed=("prompt_cache",), **arguments
        )
        compat.token_of(next(self.steps))
        observe.note(reused_tokens=self.shared)


class Answer(FirstToken):
    """A whole answer as a user waits for it: prompt `ids`, then `tokens` tokens. Notes when the first one came.

    Nothing ends an answer early, so that each has the same length.
    """

    def __init__(self, model: str, ids: list[int], tokens: int) -> None:
        kept.release("prompt cache")
        self.model, self.ids, self.tokens = models.get(model), ids, tokens
        self.steps = iter(())

    def arguments(self) -> dict[str, Any]:
        """What generate_step is told."""
        return {**super().arguments(), "max_tokens": self.tokens}

    def run(self) -> None:
        """The prompt and all tokens."""
        start = time.perf_counter()
        made = [compat.token_of(next(self.steps))]
        first_s = time.perf_counter() - start
        made += [compat.token_of(next(self.steps)) for _ in range(self.tokens - 1)]
        observe.note(
            first_token_s=first_s, prompt_tokens=len(self.ids), digest=lambda: workloads.digest(made)
        )


def _read(tokens: Any) -> Any:
    """Token ids of one step: an int for a single sequence, a list for a batch; waits until they are computed."""
    if isinstance(tokens, int):
        return tokens
    found = tokens.tolist()
    return found[0] if isinstance(found, list) and len(found) == 1 else found
