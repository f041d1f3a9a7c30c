"""docs/profiling.md: its examples run as they stand, and its keys are those of the results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlx_velocity import profiling
from mlx_velocity.probe import kept
from mlx_velocity.profiling import record

pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXT = (Path(__file__).parents[1] / "docs" / "profiling.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
# What belongs to an interface that code was written for before there was this one.
SEED = {
    "profile_model": {"weight_memory_gb", "param_count"},
    "profile_forward": {"peak_memory_gb", "activation_memory_gb"},
    "benchmark_tokens_per_sec": {"tokens_per_sec", "latency_ms", "std_latency_ms"},
    "benchmark_autoregressive": {"tokens_per_sec", "mean_per_token_ms"},
    "BenchmarkSuite": {"seq_len", "tokens_per_sec", "latency_ms", "peak_memory_gb", "active_memory_gb", "soc_temp_c"},
}  # fmt: skip
KINDS = {
    "profile_model": profiling.ModelMemory,
    "profile_forward": profiling.ForwardMemory,
    "benchmark_tokens_per_sec": profiling.PrefillSpeed,
    "benchmark_autoregressive": profiling.DecodeSpeed,
    "BenchmarkSuite": profiling.SequenceResult,
}


def test_the_examples_run_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    """Every Python block of the page runs, one after the other, and shows what it says that it shows."""
    names: dict[str, object] = {}
    try:
        for block in BLOCKS:
            exec(compile(block, "docs/profiling.md", "exec"), names)
    finally:
        kept.release("prompt cache", "model")
    said = capsys.readouterr().out
    assert len(BLOCKS) == 6
    assert "1,968,384 parameters" in said
    assert "1,000,000 bytes a step" in said
    assert re.search(r"Decode: \d+ tokens/s", said)
    assert re.search(r"^seq_128: \d+ tokens/s, 0.\d\d GB peak$", said, re.MULTILINE)
    assert str(names["markdown"]).startswith("| tokens |")


@pytest.mark.parametrize("call", list(KINDS))
def test_every_key_is_told(call: str) -> None:
    """Each field and property of a result is named on the page, and code written for the seed's keys works."""
    keys = record._keys(KINDS[call])
    base = [key for key, (name, factor) in keys.items() if factor is None and key == name]
    assert [key for key in base if f"`{key}`" not in TEXT] == []
    assert SEED[call] <= set(keys)


def test_every_class_has_its_words() -> None:
    """Whatever the package offers says what it is, and so do its methods."""
    for name in profiling.__all__:
        kind = getattr(profiling, name)
        assert kind.__doc__, name
        for method, value in vars(kind).items():
            if not method.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{method}"
