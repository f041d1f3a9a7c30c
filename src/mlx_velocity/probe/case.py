"""The base of our asv classes: how they are sampled, which cases are selected, how workloads are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlx_velocity.probe import compat, growth, kept, memory, observe, profiles
from mlx_velocity.probe.workloads import Workload


class Case:
    """One stage of a language model under asv.

    A subclass states `workload`, called with a case's parameters, `params`, `param_names`, `version`
    and `timeout`; its `time_*` methods call `self.run()`, its `track_*` methods return `self.memory(...)`,
    `self.growth()` or `self.kv_cache_bytes()`.
    """

    rounds = 3
    """Processes per case under stock asv: the launch carries the noise."""
    repeat = (3, 10, 0.3)
    """Samples at least, samples at most, seconds: more launches say more than more samples."""
    number = 1
    """Calls per sample."""
    warmup_time = 0.1
    """Seconds of untimed samples."""

    workload: Callable[..., Workload]
    param_names: Sequence[str]

    def setup(self, *values: Any) -> None:
        """Build the workload at the first sample of a case, and make it ready for each.

        NotImplementedError, asv's way to skip, where the case is not in the profile or cannot be here.
        """
        profile = profiles.of_environment()
        if not profiles.selected(profile, self.param_names, values):
            raise NotImplementedError(f"not in profile {profile}")
        make = type(self).workload
        self.key = (make, values)
        work: Workload = kept.keep("workload", self.key, lambda: make(*values))
        work.prepare()
        if observe.warming():
            memory.begin()

    def teardown(self, *_values: Any) -> None:
        """Look at the memory of a run that nobody timed."""
        if observe.warming():
            memory.end(self.key)

    def run(self) -> None:
        """The timed body."""
        kept.get("workload").run()

    def memory(self, kind: str) -> dict[str, Any]:
        """Bytes of a run: `peak`, `active`, `cache` or `resident`; skips where MLX does not count."""
        from asv_runner.benchmarks.mark import SkipNotImplemented

        value = memory.of_runs(self.key, kept.get("workload"))[kind]
        if value is None:
            raise SkipNotImplemented("this version of MLX counts no memory on this device")
        # As a sample, so that asv too pools the launches.
        return {"samples": [value], "number": 1}

    def growth(self) -> int:
        """Bytes that each of many runs in a row leaves behind; skips where MLX does not count."""
        from asv_runner.benchmarks.mark import SkipNotImplemented

        value = growth.of_runs(kept.get("workload"))
        if value is None:
            raise SkipNotImplemented("this version of MLX counts no memory on this device")
        return value

    def kv_cache_bytes(self) -> int:
        """Bytes of the prompt cache that one run of a decode workload leaves behind."""
        work = kept.get("workload")
        work.run()
        return int(compat.cache_bytes(work.cache))
