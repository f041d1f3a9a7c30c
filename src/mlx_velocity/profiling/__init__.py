"""Measure a model from Python: memory, speed, temperature, and all three over sequence lengths.

The same workloads as the tracked benchmarks (`mlx_velocity.probe`); docs/profiling.md shows how. A
model is what `mlx_lm.load` returns first, any `mlx.nn.Module` that maps token ids of shape (batch, tokens)
to logits (prefill only), or a spec such as `tiny-float32`, `path:FOLDER` or `OWNER/NAME`.
"""

from mlx_velocity.profiling.benchmark import BenchmarkResult, BenchmarkSuite, SequenceResult
from mlx_velocity.profiling.memory import ForwardMemory, MemoryGrowth, MemoryNow, MemoryProfiler, ModelMemory
from mlx_velocity.profiling.speed import DecodeSpeed, PrefillSpeed, SpeedProfiler
from mlx_velocity.profiling.thermal import Reading, ThermalMonitor

__all__ = [
    "BenchmarkResult",
    "BenchmarkSuite",
    "DecodeSpeed",
    "ForwardMemory",
    "MemoryGrowth",
    "MemoryNow",
    "MemoryProfiler",
    "ModelMemory",
    "PrefillSpeed",
    "Reading",
    "SequenceResult",
    "SpeedProfiler",
    "ThermalMonitor",
]
