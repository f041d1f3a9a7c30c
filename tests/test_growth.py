"""Memory growth: a leak is a slope, and a healthy step has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_velocity.probe import case, compat, growth, kept, observe, training

MEGABYTE = 1_000_000


def test_the_slope_of_a_line_is_its_slope():
    """An exact line gives its slope, whatever its height."""
    assert growth.slope([5.0, 7.5, 10.0, 12.5]) == 2.5
    assert growth.slope([3, 3, 3]) == 0


@given(st.floats(-1e6, 1e6), st.floats(-1e9, 1e9), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60))
def test_the_slope_is_least_squares(rise, start, noise):
    """A line with noise on it gives NumPy's fit."""
    numpy = pytest.importorskip("numpy")
    values = [start + rise * step + error for step, error in enumerate(noise)]
    expected = numpy.polyfit(range(len(values)), values, 1)[0]
    assert growth.slope(values) == pytest.approx(expected, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_a_slope_needs_two_values(values):
    """One value has no slope."""
    with pytest.raises(ValueError, match="needs two values"):
        growth.slope(values)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
class TestSteps:
    """With real training steps."""

    @pytest.fixture(autouse=True)
    def _mlx(self):
        self.mx = pytest.importorskip("mlx.core", reason="needs mlx", exc_type=ImportError)
        pytest.importorskip("mlx_lm", reason="needs mlx-lm", exc_type=ImportError)
        self.work = training.Loop("tiny-float32")
        if compat.memory()["active"] is None:
            pytest.skip("this mlx counts no memory on this device")
        yield
        observe.collect()
        kept.release("workload", "model")

    def leak(self, size, every=1):
        """Make each `every`-th step of the workload leave `size` bytes behind."""
        held, step, runs = [], self.work.run, []

        def run():
            step()
            runs.append(1)
            if len(runs) % every == 0:
                held.append(self.mx.zeros((size,), dtype=self.mx.uint8))
                self.mx.eval(held[-1])

        self.work.run = run

    def test_a_healthy_step_leaves_nothing(self):
        """Fifty steps of a real LoRA loop grow by nothing."""
        assert growth.of_runs(self.work) == 0
        assert observe.collect()["active_slope"] == pytest.approx(0, abs=64)

    def test_a_planted_leak_is_seen_in_full(self):
        """A megabyte a step is a slope of a megabyte a step, to an allocator's page."""
        self.leak(MEGABYTE)
        assert growth.of_runs(self.work) == pytest.approx(MEGABYTE, abs=16384 + growth.GRAIN)

    def test_a_leak_of_every_other_step_counts_by_half(self):
        """The slope is of all steps: a leak now and then is its average."""
        self.leak(MEGABYTE, every=2)
        assert growth.of_runs(self.work) == pytest.approx(MEGABYTE / 2, rel=0.03)

    def test_memory_that_is_not_counted_is_missing(self, monkeypatch):
        """Where MLX counts nothing, growth is skipped, never zero."""
        monkeypatch.setattr(compat, "memory", lambda: dict.fromkeys(("peak", "active", "cache")))
        assert growth.of_runs(self.work) is None
        monkeypatch.setattr(kept, "get", lambda slot: self.work)
        with pytest.raises(NotImplementedError, match="counts no memory"):
            case.Case().growth()
