"""Where a measured time stands against what the machine could do at most: the roofline model.

A stage that moves `bytes` and does `flops` takes at least max(bytes / bandwidth, flops / peak)
(Williams, Waterman, Patterson 2009, https://doi.org/10.1145/1498765.1498785). docs/roofline.md says how
to read the figures and where they end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_velocity import operations, traffic
from mlx_velocity.anatomy import Anatomy, Config, describe
from mlx_velocity.errors import InputError
from mlx_velocity.operations import Adapters
from mlx_velocity.traffic import Storage

Stage = Literal["prefill", "decode", "lora", "full"]
Bound = Literal["memory", "compute"]

ADAMW_PASSES = 8
"""Times that an AdamW step moves a trained weight's bytes: reads weight, gradient and two moments, writes
the gradient (in the backward pass), weight and two moments (https://arxiv.org/abs/1711.05101)."""


@dataclass(frozen=True)
class Peaks:
    """The most that a machine can do."""

    name: str
    bandwidth: float | None
    """Bytes per second between memory and chip; None if unknown."""
    flops: Mapping[str, float]
    """FLOP/s of a matrix product by type (`float32`, `float16`, `bfloat16`, `tf32`); what is not in it is unknown."""
    source: str
    """Who says so, or how it was measured or derived."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why something is unknown: by `bandwidth` or the type."""

    def peak(self, dtype: str) -> float | None:
        """FLOP/s of a product of arrays of `dtype`: of float32 ones in TF32 where the machine has it.

        That is what MLX does unless `MLX_ENABLE_TF32=0`; `roofline_peaks.find(…, tf32=False)` is for that case.
        """
        return self.flops.get("tf32", self.flops.get(dtype)) if dtype == "float32" else self.flops.get(dtype)

    def knee(self, dtype: str) -> float | None:
        """FLOPs per byte from which on computing is the limit and memory no longer."""
        peak = self.peak(dtype)
        return peak / self.bandwidth if peak and self.bandwidth else None

    def why(self, what: str) -> str:
        """The reason why `bandwidth` or the peak of a type is unknown."""
        default = f"the peak {'' if what == 'bandwidth' else 'FLOP/s in '}{what} of {self.name} is not known"
        return self.missing.get(what, default)


@dataclass(frozen=True)
class Work:
    """What a stage has to do at the very least."""

    weight_bytes: float
    """Weights, gradients and optimizer state that are read and written."""
    cache_bytes: float
    """Keys, values and recurrent states that are read and written."""
    flops: float
    tokens: int
    """Tokens handled, of all sequences."""

    @property
    def bytes(self) -> float:
        """All that is moved, activations apart."""
        return self.weight_bytes + self.cache_bytes

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True)
class Placement:
    """A stage on the roofline. What is unknown is None, and `reasons` says why."""

    stage: Stage
    work: Work
    seconds: float | None
    bandwidth_utilization: float | None
    """Bytes per second over the peak; 0.7 is 70 %. Above 1 where a cache holds part of the bytes."""
    mfu: float | None
    """Model-FLOPs utilization: FLOPs per second over the peak of the type."""
    bound: Bound | None
    """What limits this stage on this machine if all else is perfect."""
    knee: float | None
    """FLOPs per byte of the machine where the limit changes."""
    least_seconds: float | None
    """No implementation that reads everything once can be faster; by what is known of the peaks."""
    reasons: tuple[str, ...] = ()

    @property
    def bytes(self) -> float:
        """Bytes that the stage moves."""
        return self.work.bytes

    @property
    def flops(self) -> float:
        """FLOPs that the stage does."""
        return self.work.flops

    @property
    def bytes_per_second(self) -> float | None:
        """Bandwidth that was reached."""
        return self.work.bytes / self.seconds if self.seconds else None

    @property
    def flops_per_second(self) -> float | None:
        """FLOP/s that were reached."""
        return self.work.flops / self.seconds if self.seconds else None

    @property
    def most_tokens_per_second(self) -> float | None:
        """The ceiling of tokens/s, of all sequences together."""
        return self.work.tokens / self.least_seconds if self.least_seconds else None


def place(
    config: Config,
    *,
    stage: Stage,
    tokens: int,
    seconds: float | None,
    peaks: Peaks | None,
    depth: int = 0,
    batch: int = 1,
    dtype: str | None = None,
    quantization: Mapping[str, Any] | None = None,
    kv_bits: int | None = None,
    chunk: int | None = None,
    logits: int | None = 1,
    adapters: Adapters | None = None,
) -> Placement:
    """A measured time of one stage against the machine's peaks.

    `config` is the model's `config.json` (or `probe.models.config(spec)`). Say how long `batch` sequences
    together took with `seconds`, where each of them

    - `prefill`: ran a prompt of `tokens` tokens behind `depth` cached ones, in calls of `chunk` tokens
      (None: one call), with logits at `logits` positions at the end (None: at all of them);
    - `decode`: generated `tokens` tokens one by one behind `depth` cached ones;
    - `lora` or `full`: was a sequence of `tokens` tokens in one training step, of `adapters`
      (None: those of our own LoRA step) or of all weights with AdamW.

    `dtype` (`float32`, `float16`, `bfloat16`) and `quantization` (`{"bits": 4, "group_size": 64}`; `{}` for
    none) are taken from the config where they are None; `kv_bits` is that of a quantized cache. With `seconds`
    or `peaks` None, what needs them is None with a reason.

    InputError for a model type that can't be counted, a config without what is needed, and numbers that
    mean nothing.
    """
    stored = traffic.storage(config, dtype, quantization)
    if kv_bits is not None:
        stored = Storage(stored.dtype, stored.quantization, kv_bits)
    done = work(
        describe(config), stored, stage, tokens, depth, batch, chunk=chunk, logits=logits, adapters=adapters
    )
    return against(done, stage, seconds, peaks, stored.dtype)


def against(done: Work, stage: Stage, seconds: float | None, peaks: Peaks | None, dtype: str) -> Placement:
    """`done` in `seconds` against `peaks`, computed in `dtype`."""
    reasons: list[str] = []
    if seconds is not None and not seconds > 0:
        raise InputError(f"a stage can't have taken {seconds} seconds", "give the measured time")
    if seconds is None:
        reasons.append("no time was measured")
    bandwidth = peaks.bandwidth if peaks else None
    peak = peaks.peak(dtype) if peaks else None
    if peaks is None:
        reasons.append("the machine's peaks are not known")
    else:
        reasons += [peaks.why(name) for name, value in (("bandwidth", bandwidth), (dtype, peak)) if not value]
    moving = done.bytes / bandwidth if bandwidth else None
    computing = done.flops / peak if peak else None
    known = [time for time in (moving, computing) if time is not None]
    bound: Bound | None = None
    if moving is not None and computing is not None:
        bound = "memory" if moving >= computing else "compute"
    return Placement(
        stage=stage,
        work=done,
        seconds=seconds,
        bandwidth_utilization=moving / seconds if moving is not None and seconds else None,
        mfu=computing / seconds if computing is not None and seconds else None,
        bound=bound,
        knee=peaks.knee(dtype) if peaks else None,
        # Each limit holds alone: with one of them unknown this is still a least time.
        least_seconds=max(known, default=None),
        reasons=tuple(reasons),
    )


def work(
    anatomy: Anatomy,
    stored: Storage,
    stage: Stage,
    tokens: int,
    depth: int = 0,
    batch: int = 1,
    *,
    chunk: int | None = None,
    logits: int | None = 1,
    adapters: Adapters | None = None,
) -> Work:
    """What a stage has to do; the arguments are those of `place`."""
    if tokens < 1 or depth < 0 or batch < 1 or (chunk is not None and chunk < 1):
        raise InputError(
            f"{tokens} tokens behind {depth} in {batch} sequences is no work",
            "give positive numbers of tokens and sequences",
        )
    if stage == "decode":
        return _decode(anatomy, stored, tokens, depth, batch)
    if stage == "prefill":
        return _prefill(anatomy, stored, tokens, depth, batch, chunk or tokens, logits)
    if stage == "lora":
        return _lora(anatomy, stored, tokens, batch, adapters or Adapters())
    if stage == "full":
        return _full(anatomy, stored, tokens, batch)
    raise InputError(f"no stage is called {stage}", "write prefill, decode, lora or full")


def _decode(anatomy: Anatomy, stored: Storage, tokens: int, depth: int, batch: int) -> Work:
    steps = range(depth, depth + tokens)
    weights = tokens * traffic.read_bytes(anatomy, stored, batch)
    cache = batch * sum(traffic.cache_traffic(anatomy, stored, step, 1) for step in steps)
    # A step sees what the same tokens at once would see.
    flops = batch * operations.forward(anatomy, tokens, depth)
    return Work(weights, cache, flops, batch * tokens)


def _prefill(
    anatomy: Anatomy, stored: Storage, tokens: int, depth: int, batch: int, chunk: int, logits: int | None
) -> Work:
    weights = cache = 0.0
    for start in range(0, tokens, chunk):
        size = min(chunk, tokens - start)
        last = start + size == tokens
        weights += traffic.read_bytes(anatomy, stored, batch * size, logits=last or logits is None)
        cache += batch * traffic.cache_traffic(anatomy, stored, depth + start, size)
    positions = tokens if logits is None else min(logits, tokens)
    flops = batch * operations.forward(anatomy, tokens, depth, positions)
    return Work(weights, cache, flops, batch * tokens)


def _lora(anatomy: Anatomy, stored: Storage, tokens: int, batch: int, adapters: Adapters) -> Work:
    """Frozen weights are read forward and backward; adapters are too small to count in bytes."""
    weights = 2 * traffic.read_bytes(anatomy, stored, batch * tokens)
    flops = batch * operations.lora_training(anatomy, tokens, adapters)
    return Work(weights, 0.0, flops, batch * tokens)


def _full(anatomy: Anatomy, stored: Storage, tokens: int, batch: int) -> Work:
    """All weights are read forward and backward, then updated with AdamW."""
    if stored.quantization:
        raise InputError("quantized weights can't be trained in full", "train adapters: stage lora")
    read = 2 * traffic.read_bytes(anatomy, stored, batch * tokens)
    updated = ADAMW_PASSES * traffic.model_bytes(anatomy, stored)
    return Work(read + updated, 0.0, batch * operations.training(anatomy, tokens), batch * tokens)
