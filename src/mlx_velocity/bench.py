"""The plain records of `bench`: what was measured of which model, sample by sample.

One `Row` holds all that a rate or a share of the hardware's peak can be derived from: the model's
configuration, bytes of weights and dtype, the stage with its tokens, depth and batch, and the seconds.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_velocity import units

FORMAT = 1
"""Version of the JSON, JSON lines, CSV and SQL that `bench` writes. 1: first version."""

Stage = Literal["prefill", "decode", "stepwise", "batched", "speculative", "reuse", "text"]
Outcome = Literal["measured", "skipped", "failed"]


@dataclass(frozen=True)
class Trial:
    """One thing to time, like a test of llama-bench: `pp512`, `tg128@d4096 b4`."""

    stage: Stage
    tokens: int
    """Of each sequence: those of the prompt for prefill and reuse, else those that are generated."""
    depth: int = 0
    """Tokens in the cache when it begins."""
    batch: int = 1
    """Sequences at once."""
    draft: str = ""
    """Spec of the draft model, or `same`."""
    label: str = ""
    """Name of the text that is the prompt."""

    @property
    def name(self) -> str:
        """What stands in the column `test`."""
        if self.stage == "text":
            return self.label
        name = f"{'pp' if self.of_prompt else 'tg'}{self.tokens}"
        name += f"@d{self.depth}" if self.depth else ""
        name += f" b{self.batch}" if self.batch > 1 else ""
        kind = "" if self.stage in ("prefill", "decode") else f" {self.stage}"
        return name + kind + (f" {self.draft}" if self.draft not in ("", "same") else "")

    @property
    def of_prompt(self) -> bool:
        """Whether its tokens are those of prompts."""
        return self.stage in ("prefill", "reuse")

    @property
    def handled(self) -> int:
        """Tokens that one sample handles, of all sequences."""
        return self.tokens * self.batch


@dataclass(frozen=True)
class Model:
    """What a model is; what is not known of one that was not loaded is None."""

    name: str
    dtype: str | None = None
    """Of its weights: `bfloat16`, `4bit`."""
    weight_bytes: int | None = None
    parameters: int | None = None
    """Weights as a model card counts them: a quantized one counts as one."""
    random: bool | None = None
    """Whether its weights are random numbers."""
    cache_bytes_per_token: int | None = None
    """Bytes that one token takes in the prompt cache; 0 where its state does not grow."""
    config: dict[str, Any] | None = None
    """Its config.json."""


@dataclass(frozen=True)
class Share:
    """Where a row stands on the machine's roofline (docs/roofline.md); None where a peak is unknown."""

    bytes: float
    """That one sample must move."""
    flops: float
    """That one sample must do."""
    bandwidth_utilization: float | None
    mfu: float | None
    """Model-FLOPs utilization."""
    bound: Literal["memory", "compute"] | None
    most_tokens_per_s: float | None
    """The ceiling, of all sequences together."""


@dataclass(frozen=True)
class Row:
    """The samples of one trial of one model, or why there are none."""

    model: Model
    trial: Trial
    outcome: Outcome = "measured"
    reason: str = ""
    samples: list[float] = field(default_factory=list)
    """Seconds."""
    warmup: list[float] = field(default_factory=list)
    """Seconds of the calls before, which count nowhere."""
    first_token_s: list[float] = field(default_factory=list)
    """Seconds to the first token of a prompt, one a sample; empty where a sample has none."""
    peak_bytes: int | None = None
    """Most bytes that MLX had in use at once, weights included; None where it does not count."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the workload noticed: digest of the tokens, guesses of a draft model, reused tokens."""
    sensors: dict[str, Any] = field(default_factory=dict)
    """What the machine did meanwhile."""
    share: Share | None = None

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each sample, all sequences together."""
        return [units.tokens_per_second(self.trial.handled, seconds) for seconds in self.samples]

    @property
    def decode_rates(self) -> list[float]:
        """Tokens per second behind the first token of a text; empty for other trials."""
        pairs = zip(self.samples, self.first_token_s, strict=False)
        if self.trial.stage != "text" or self.trial.tokens < 2:
            return []
        return [units.tokens_per_second(self.trial.tokens - 1, total - first) for total, first in pairs]

    @property
    def prefill_rates(self) -> list[float]:
        """Tokens per second of a text's prompt, up to the first token; empty for other trials."""
        tokens = int(self.notes.get("prompt_tokens", 0))
        return [units.tokens_per_second(tokens, first) for first in self.first_token_s if tokens]

    @property
    def acceptance(self) -> float | None:
        """Share of a draft model's guesses that were right; None without any."""
        guessed = self.notes.get("drafted")
        return int(self.notes["accepted"]) / int(guessed) if guessed else None


@dataclass(frozen=True)
class Run:
    """One call of `bench`."""

    started: str
    """UTC, ISO 8601."""
    machine: dict[str, Any]
    """asv's description, without the machine's name."""
    backend: str
    memory_bytes: int
    """That a model may fill."""
    python: str
    modules: dict[str, str]
    """Versions of mlx and mlx_lm."""
    rows: list[Row]
    peaks: str = ""
    """What the shares are shares of, in words; empty where the peaks are unknown."""
    remarks: list[str] = field(default_factory=list)
    """What was wrong with the machine meanwhile, in sentences."""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 interrupted, 4 where something failed, 3 where nothing was measured, else 0."""
        outcomes = {row.outcome for row in self.rows}
        if self.interrupted:
            return 130
        return 4 if "failed" in outcomes else 0 if "measured" in outcomes else 3


def mean_sd(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
