"""Speed, memory and temperature of a model over sequence lengths, as one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlx_velocity.errors import InputError
from mlx_velocity.probe import memory, timing, workloads
from mlx_velocity.profiling import document, tables
from mlx_velocity.profiling.memory import MemoryProfiler, ModelMemory, check_sizes
from mlx_velocity.profiling.speed import PrefillSpeed, prefill
from mlx_velocity.profiling.thermal import ThermalMonitor

SEQ_LENGTHS = (128, 512, 1024, 2048)


@dataclass(frozen=True)
class SequenceResult(PrefillSpeed):
    """One sequence length: its time, its memory, and how hot it got. What this machine does not tell is None."""

    peak_bytes: int | None
    """The most in use at once during a run: the highest of three, beside the timed ones."""
    active_bytes: int | None
    """In use after a run."""
    cache_bytes: int | None
    """Held for reuse after a run."""
    temperatures_before: dict[str, float] = field(hash=False)
    """°C by place before the warm-up; empty without a source."""
    temperatures_after: dict[str, float] = field(hash=False)
    """°C by place after the last run."""

    @property
    def soc_temp_before_c(self) -> float | None:
        """°C of the hottest place before the warm-up."""
        return max(self.temperatures_before.values(), default=None)

    @property
    def soc_temp_c(self) -> float | None:
        """°C of the hottest place after the last run."""
        return max(self.temperatures_after.values(), default=None)


@dataclass(frozen=True)
class BenchmarkResult:
    """What a suite found. `results` and `missing` are by name: `seq_128`."""

    results: dict[str, SequenceResult]
    missing: dict[str, str]
    """What could not be measured, and why."""
    model: str
    """The spec, or the class of a model that was given."""
    weights: ModelMemory
    device: dict[str, Any]
    """What MLX says of its device, and the versions of what was measured."""
    started: str
    """ISO 8601, UTC."""
    no_temperature: str | None
    """Why there are no temperatures; None where there are."""

    def to_table(self) -> str:
        """For a terminal, as plain text."""
        return tables.text(self.results, self.missing)

    def to_markdown(self) -> str:
        """A table in Markdown."""
        return tables.markdown(self.results, self.missing)

    def to_json(self) -> str:
        """All that is known, raw samples included, as benchmark-suite.schema.json describes it."""
        return document.dump(
            {
                "started": self.started,
                "model": {"name": self.model, **vars(self.weights)},
                "device": self.device,
                "results": {name: dict(result) for name, result in self.results.items()},
                "missing": self.missing,
                "no_temperature": self.no_temperature,
            }
        )


class BenchmarkSuite:
    """Runs the profilers together. `model` is a spec or a model at hand; `thermal` is for tests."""

    def __init__(self, model: Any = "tiny-float32", *, thermal: ThermalMonitor | None = None) -> None:
        self.model = model
        self._thermal = thermal or ThermalMonitor()

    def benchmark_sequence_lengths(
        self,
        seq_lengths: Sequence[int] = SEQ_LENGTHS,
        batch_size: int = 1,
        num_warmup: int = 2,
        num_iterations: int = 5,
        progress: Callable[[int, int, str], None] = lambda done, total, name: None,
    ) -> BenchmarkResult:
        """Prefill of each length: time, memory of three more runs, temperature before and after.

        `progress` is told before each length how many are done, of how many, and the name of the next. A
        length that does not fit is in `missing` with its reason. InputError for wrong sizes or what is no model.
        """
        if not seq_lengths:
            raise InputError("there is no sequence length to measure", "give one or more, such as [128, 512]")
        for seq_len in seq_lengths:
            check_sizes(seq_len=seq_len, batch_size=batch_size, num_iterations=num_iterations)
        profiler, started = MemoryProfiler(), datetime.now(UTC).isoformat(timespec="seconds")
        weights = profiler.profile_model(self.model)
        results: dict[str, SequenceResult] = {}
        missing: dict[str, str] = {}
        for done, seq_len in enumerate(dict.fromkeys(seq_lengths)):
            name = f"seq_{seq_len}"
            progress(done, len(set(seq_lengths)), name)
            try:
                results[name] = self._measure(seq_len, batch_size, num_warmup, num_iterations)
            except (RuntimeError, MemoryError) as error:
                # MLX says so where an allocation is refused; NotImplementedError is the probe's way to skip.
                missing[name] = " ".join(str(error).split()) or type(error).__name__
        return BenchmarkResult(
            results=results,
            missing=missing,
            model=self.model if isinstance(self.model, str) else type(self.model).__name__,
            weights=weights,
            device=profiler.device_info(),
            started=started,
            no_temperature=self._thermal.unavailable_reason,
        )

    def _measure(self, seq_len: int, batch_size: int, warmup: int, iterations: int) -> SequenceResult:
        before = self._thermal.get_temperatures()
        work = prefill(self.model, seq_len, batch_size)
        warm, samples = timing.runs(work, warmup, iterations)
        after = self._thermal.get_temperatures()
        look = memory.of_work(work)
        return SequenceResult(
            samples=samples,
            warmup=warm,
            seq_len=seq_len,
            batch_size=batch_size,
            cached=isinstance(work, workloads.Prefill),
            peak_bytes=look["peak"],
            active_bytes=look["active"],
            cache_bytes=look["cache"],
            temperatures_before=before,
            temperatures_after=after,
        )
