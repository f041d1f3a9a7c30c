"""Before the first prompt: importing MLX and loading a model from disk."""

from mlx_velocity.probe import profiles, startup
from mlx_velocity.probe.case import Case


class Import(Case):
    """A fresh Python that imports a module and ends."""

    version = "1"
    timeout = 300.0
    # A fresh process has nothing to warm up, and importing mlx_lm takes seconds.
    warmup_time = 0.0
    repeat = (1, 3, 1.0)
    param_names = ("module",)
    params = (("mlx.core", "mlx_lm"),)
    workload = startup.Import

    def time_import(self, module):
        self.run()


class Load(Case):
    """mlx_lm.load of a folder in the page cache: configuration, weights, tokenizer."""

    version = "1"
    timeout = 600.0
    param_names = ("model",)
    params = (("tiny-float32", "qwen2.5-0.5b-4bit", "llama-3.2-1b-bfloat16", "qwen3-4b-4bit"),)
    workload = startup.Load

    def time_load(self, model):
        self.run()


class Weights(Case):
    """The same without the tokenizer: configuration and weights, evaluated."""

    rounds = 2
    repeat = (3, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 600.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = startup.Weights

    def time_load(self, model):
        self.run()

    def track_peak_bytes(self, model):
        return self.memory("peak")

    track_peak_bytes.unit, track_peak_bytes.noise, track_peak_bytes.rounds = "bytes", "timing", 1
