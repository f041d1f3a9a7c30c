"""How fast a model takes in a prompt, and how fast it generates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_velocity import units
from mlx_velocity.probe import models, observe, timing, workloads
from mlx_velocity.profiling.memory import check_sizes, check_takes_cache, release
from mlx_velocity.profiling.record import Record
from mlx_velocity.spread import Spread, spread


@dataclass(frozen=True)
class Timed(Record):
    """Runs of a workload in seconds each. What they are too few for is None: p90 needs 10, p95 20, p99 100."""

    samples: tuple[float, ...]
    warmup: tuple[float, ...]
    """Runs before, which do not count."""

    @property
    def spread(self) -> Spread:
        """All that is said of the runs."""
        return spread(self.samples)

    @property
    def latency_s(self) -> float:
        """Mean time of a run."""
        return self.spread.mean

    @property
    def std_latency_s(self) -> float | None:
        """Sample standard deviation between runs."""
        return self.spread.sd

    @property
    def min_latency_s(self) -> float:
        """The fastest run."""
        return self.spread.minimum

    @property
    def max_latency_s(self) -> float:
        """The slowest run."""
        return self.spread.maximum

    @property
    def p50_latency_s(self) -> float:
        """Median run."""
        return self.spread.p50

    @property
    def p90_latency_s(self) -> float | None:
        """Nine in ten runs are as fast."""
        return self.spread.p90

    @property
    def p95_latency_s(self) -> float | None:
        """19 in 20 runs are as fast."""
        return self.spread.p95

    @property
    def p99_latency_s(self) -> float | None:
        """99 in 100 runs are as fast."""
        return self.spread.p99


@dataclass(frozen=True)
class PrefillSpeed(Timed):
    """Time from the ids of a prompt to its computed logits."""

    seq_len: int
    batch_size: int
    cached: bool
    """Whether in chunks of 512 into a prompt cache, as is tracked; else one call of the model."""

    @property
    def tokens_per_sec(self) -> float:
        """Prompt tokens of the whole batch over the mean time."""
        return units.tokens_per_second(self.seq_len * self.batch_size, self.latency_s)


@dataclass(frozen=True)
class DecodeSpeed(Timed):
    """Time of `total_tokens` chained steps of greedy generation behind a prompt."""

    prompt_len: int
    total_tokens: int
    per_token: tuple[tuple[float, ...], ...]
    """Seconds of each step of each run; the steps of a run add up to it."""
    digest: str
    """Of the tokens: equal output, equal digest."""

    @property
    def tokens_per_sec(self) -> float:
        """Generated tokens over the mean time."""
        return units.tokens_per_second(self.total_tokens, self.latency_s)

    @property
    def per_token_spread(self) -> Spread:
        """All that is said of the steps, those of all runs together."""
        return spread([step for run in self.per_token for step in run])

    @property
    def mean_per_token_s(self) -> float:
        """Mean time of a step."""
        return self.per_token_spread.mean

    @property
    def std_per_token_s(self) -> float | None:
        """Sample standard deviation between steps."""
        return self.per_token_spread.sd

    @property
    def min_per_token_s(self) -> float:
        """The fastest step."""
        return self.per_token_spread.minimum

    @property
    def max_per_token_s(self) -> float:
        """The slowest step."""
        return self.per_token_spread.maximum

    @property
    def p50_per_token_s(self) -> float:
        """Median step."""
        return self.per_token_spread.p50

    @property
    def p90_per_token_s(self) -> float | None:
        """Nine in ten steps are as fast."""
        return self.per_token_spread.p90

    @property
    def p95_per_token_s(self) -> float | None:
        """19 in 20 steps are as fast."""
        return self.per_token_spread.p95

    @property
    def p99_per_token_s(self) -> float | None:
        """99 in 100 steps are as fast."""
        return self.per_token_spread.p99


class SpeedProfiler:
    """Times the workloads of the tracked benchmarks on a model at hand."""

    def benchmark_tokens_per_sec(
        self,
        model: Any,
        seq_len: int = 1024,
        batch_size: int = 1,
        num_warmup: int = 2,
        num_iterations: int = 5,
    ) -> PrefillSpeed:
        """Prefill of `batch_size` prompts of `seq_len` tokens.

        A model that takes mlx_lm's prompt cache gets its prompt in chunks of 512 tokens, as in the
        tracked benchmark; any other is called once on ids of shape (batch_size, seq_len). InputError
        for wrong sizes or what is no model.
        """
        check_sizes(seq_len=seq_len, batch_size=batch_size, num_iterations=num_iterations)
        work = prefill(model, seq_len, batch_size)
        warmup, samples = timing.runs(work, num_warmup, num_iterations)
        return PrefillSpeed(samples, warmup, seq_len, batch_size, isinstance(work, workloads.Prefill))

    def benchmark_autoregressive(
        self,
        model: Any,
        total_tokens: int = 64,
        prompt_len: int = 32,
        num_warmup: int = 1,
        num_iterations: int = 3,
    ) -> DecodeSpeed:
        """Greedy generation of `total_tokens` tokens behind a prompt of `prompt_len`, with mlx_lm's generate_step.

        Prefill and the first token are not timed. The steps are chained as users get them: MLX works one
        step ahead, and nothing waits for the clock. InputError for a model that takes no prompt cache.
        """
        check_sizes(total_tokens=total_tokens, prompt_len=prompt_len, num_iterations=num_iterations)
        check_takes_cache(model)
        release()
        # The prompt's last token goes through generate_step; those before it are in the cache.
        work = workloads.DecodeByToken(models.adopt(model), prompt_len - 1, total_tokens)
        steps: list[tuple[float, ...]] = []
        observe.collect()
        try:
            warmup, samples = timing.runs(
                work, num_warmup, num_iterations, lambda: steps.append(work.step_times)
            )
        finally:
            release()
        digest = str(observe.collect()["digest"])
        return DecodeSpeed(samples, warmup, prompt_len, total_tokens, tuple(steps), digest)


def prefill(model: Any, seq_len: int, batch_size: int) -> workloads.Prefill | workloads.Forward:
    """The prefill workload for a model at hand; the errors are those of `models.adopt` and `models.get`."""
    adopted = models.adopt(model)
    make = workloads.Prefill if models.takes_cache(models.get(adopted)) else workloads.Forward
    return make(adopted, seq_len, batch_size)
