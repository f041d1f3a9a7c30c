"""What a model and its forward pass take of memory, and whether a step leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity import trend
from mlx_velocity.errors import InputError, MeasurementError
from mlx_velocity.probe import compat, kept, memory, models, workloads
from mlx_velocity.profiling.record import Record
from mlx_velocity.trend import Slope

GROWTH_WARMUP = 5
"""Steps that are not looked at: optimizer state, compiled graphs and caches appear in them."""
GROWTH_FEWEST = 10
"""Steps that a verdict on growth needs, five in each half."""


@dataclass(frozen=True)
class ModelMemory(Record):
    """What the weights of a model take."""

    weight_bytes: int
    """All arrays of the model, scales and biases of quantized layers included."""
    param_count: int
    """Numbers that the model stands for: a 4-bit weight is one, its scale is none."""
    trainable_count: int
    """Of the arrays that are not frozen."""
    bytes_by_dtype: dict[str, int] = field(hash=False)


@dataclass(frozen=True)
class MemoryNow(Record):
    """MLX's allocator at this moment; None where this version of MLX does not count on this device."""

    active_bytes: int | None
    peak_bytes: int | None
    """The most since the last `reset_peak`. The cache is not part of it."""
    cache_bytes: int | None
    """Held for reuse, in use by nobody."""


@dataclass(frozen=True)
class ForwardMemory(Record):
    """What a pass takes: the highest of three; None where this version of MLX does not count on this device."""

    seq_len: int
    batch_size: int
    weight_bytes: int
    peak_bytes: int | None
    """The most in use at once during the pass, whatever else the process holds included."""
    active_bytes: int | None
    """In use after it: weights, logits, and the prompt cache of a prefill."""
    cache_bytes: int | None
    """Held for reuse after it."""
    forward_bytes: int | None
    """Peak less what was in use before: what the pass came on top with."""
    resident_bytes: int
    """Of the process, as the system counts."""

    @property
    def activation_bytes(self) -> int | None:
        """Peak less weights."""
        return None if self.peak_bytes is None else self.peak_bytes - self.weight_bytes


@dataclass(frozen=True)
class MemoryGrowth(Record):
    """What stays behind of each step: bytes in use after each, and their slope with a 95 % interval."""

    active: tuple[int, ...]
    """MLX's bytes in use after each step, warm-up left out."""
    resident: tuple[int, ...]
    """The process's bytes after each step."""
    slope: Slope
    """Bytes of MLX a step: what the verdict is made of."""
    resident_slope: Slope
    """Bytes of the process a step: noisy, since allocators take and return memory in large pieces."""

    @property
    def is_leak(self) -> bool:
        """Whether memory grows with the steps: the interval is above zero, and each half of the steps grew too."""
        return trend.keeps_rising(range(len(self.active)), self.active)


class MemoryProfiler:
    """Memory by MLX's own counts. Every figure is in bytes; docs/profiling.md lists the keys."""

    def profile_model(self, model: Any) -> ModelMemory:
        """Weights and parameters of `model`, which are computed if they were still lazy.

        InputError for what is no model, or a module without weights to look at.
        """
        import mlx.nn as nn
        from mlx.utils import tree_flatten

        found = models.get(models.adopt(model))
        if not isinstance(found, nn.Module):
            raise InputError(f"a {type(found).__name__} has no weights to count", "give an mlx.nn.Module")
        arrays = [array for _, array in tree_flatten(found.parameters())]
        sizes: dict[str, int] = {}
        for array in arrays:
            name = str(array.dtype).rpartition(".")[2]
            sizes[name] = sizes.get(name, 0) + array.nbytes
        return ModelMemory(
            weight_bytes=sum(sizes.values()),
            param_count=models.parameter_count(found),
            trainable_count=sum(array.size for _, array in tree_flatten(found.trainable_parameters())),
            bytes_by_dtype=sizes,
        )

    def profile_forward(self, model: Any, seq_len: int = 512, batch_size: int = 1) -> ForwardMemory:
        """One call of the model on ids of shape (batch_size, seq_len), without a cache, all logits computed.

        InputError for wrong sizes or what is no model.
        """
        return self._profile(workloads.Forward, model, seq_len, batch_size)

    def profile_prefill(self, model: Any, seq_len: int = 512, batch_size: int = 1) -> ForwardMemory:
        """The same of a prefill as it is tracked: in chunks of 512 tokens into a prompt cache.

        InputError for a model that takes no prompt cache.
        """
        check_takes_cache(model)
        return self._profile(workloads.Prefill, model, seq_len, batch_size)

    def _profile(self, make: Callable[..., Any], model: Any, seq_len: int, batch_size: int) -> ForwardMemory:
        import mlx.core as mx

        check_sizes(seq_len=seq_len, batch_size=batch_size)
        weights = self.profile_model(model).weight_bytes
        work = make(models.adopt(model), seq_len, batch_size)
        mx.eval(work.model.parameters())
        work.prepare()
        before = self.current().active_bytes
        look = memory.of_work(work)
        peak = look["peak"]
        return ForwardMemory(
            seq_len=seq_len,
            batch_size=batch_size,
            weight_bytes=weights,
            peak_bytes=peak,
            active_bytes=look["active"],
            cache_bytes=look["cache"],
            forward_bytes=None if peak is None or before is None else peak - before,
            resident_bytes=look["resident"] or 0,
        )

    def current(self) -> MemoryNow:
        """What MLX holds now."""
        look = memory.look()
        if look["active"] is None:
            look = _with_something_held()
        return MemoryNow(active_bytes=look["active"], peak_bytes=look["peak"], cache_bytes=look["cache"])

    @property
    def active_bytes(self) -> int | None:
        """Bytes in use now."""
        return self.current().active_bytes

    @property
    def peak_bytes(self) -> int | None:
        """Most bytes in use at once since the last `reset_peak`."""
        return self.current().peak_bytes

    @property
    def cache_bytes(self) -> int | None:
        """Bytes held for reuse now."""
        return self.current().cache_bytes

    def reset_peak(self) -> None:
        """Begin a new peak; what is in use now is its start."""
        compat.synchronize()
        compat.reset_peak_memory()

    def clear_cache(self) -> None:
        """Return what is held for reuse to the system."""
        compat.clear_cache()

    def device_info(self) -> dict[str, Any]:
        """What MLX says of its device (`architecture` …), with `device`, `memory_bytes` and `versions`.

        `memory_bytes` is what a model may fill.
        """
        import mlx.core as mx

        device = str(mx.default_device().type).rpartition(".")[2]
        return {
            **compat.device_info(),
            "device": device,
            "memory_bytes": compat.device_memory_bytes(),
            "versions": compat.versions(),
        }

    def growth(
        self, step: Callable[[], object], steps: int = 50, num_warmup: int = GROWTH_WARMUP
    ) -> MemoryGrowth:
        """Call `step` `num_warmup` and then `steps` times, and look at the memory after each of the latter.

        What `step` returns is computed, and let go. InputError for fewer than 10 steps; MeasurementError
        where this version of MLX does not count on this device.
        """
        import mlx.core as mx

        if steps < GROWTH_FEWEST:
            raise InputError(f"growth over {steps} steps is no trend", f"take {GROWTH_FEWEST} or more")
        # Held while it is counted: nothing in use would read as: not counted.
        anchor = mx.zeros(1)
        mx.eval(anchor)
        looks = []
        for number in range(num_warmup + steps):
            mx.eval(step())
            if number >= num_warmup:
                looks.append(memory.look())
        active = [look["active"] for look in looks]
        counted = [value for value in active if value is not None]
        if len(counted) < len(active):
            version = compat.versions()["mlx"]
            raise MeasurementError(
                f"mlx {version} counts no memory on this device", "use mlx 0.25.2 or newer"
            )
        resident = [look["resident"] or 0 for look in looks]
        return MemoryGrowth(tuple(counted), tuple(resident), _slope(counted), _slope(resident))


def check_sizes(**sizes: int) -> None:
    """InputError for a size that is not 1 or more."""
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name} is {value}", f"give a {name} of 1 or more")


def check_takes_cache(model: Any) -> None:
    """InputError for a model that mlx_lm can't give a prompt cache."""
    found = models.get(models.adopt(model))
    if not models.takes_cache(found):
        advice = "give a model that mlx_lm loads, or one with layers and an argument named cache"
        raise InputError(f"{type(found).__name__} takes no prompt cache", advice)


def release() -> None:
    """Let go of what a workload left for its next sample: the model may change before the next call."""
    kept.release("prompt cache")


def _slope(values: list[int]) -> Slope:
    found = trend.slope(range(len(values)), values)
    assert found is not None  # there are at least GROWTH_FEWEST
    return found


def _with_something_held() -> memory.Look:
    """A look where nothing seems in use: a small array tells zero from not counted."""
    import mlx.core as mx

    anchor = mx.zeros(1)
    mx.eval(anchor)
    look = memory.look()
    return {**look, "active": 0} if look["active"] is not None else look
