"""Fine-tuning in other ways than benchmarks/lora.py: time and peak memory of one step, and growth over many."""

from mlx_velocity.probe import lora, profiles, training
from mlx_velocity.probe.case import Case


class Training(Case):
    """What all steps share: they take long and vary little, so few samples and launches must do."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02


class Full(Training):
    """All weights are trained."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.FULL_MODELS, (32, 512))
    workload = training.Full

    def time_step(self, model, tokens):
        self.run()

    def track_peak_bytes(self, model, tokens):
        return self.memory("peak")

    time_step.tokens_from = "tokens"
    track_peak_bytes.unit, track_peak_bytes.noise, track_peak_bytes.rounds = "bytes", "timing", 1


class Dora(Training):
    """DoRA adapters of rank 8 on q_proj and v_proj."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.FULL_MODELS, (32, 512))
    workload = training.Dora

    def time_step(self, model, tokens):
        self.run()

    def track_peak_bytes(self, model, tokens):
        return self.memory("peak")

    time_step.tokens_from = "tokens"
    track_peak_bytes.unit, track_peak_bytes.noise, track_peak_bytes.rounds = "bytes", "timing", 1


class Qlora(Training):
    """LoRA adapters of rank 8 on q_proj and v_proj of a model in 4 bits."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.QUANTIZED_MODELS, (32, 512))
    workload = lora.Step

    def time_step(self, model, tokens):
        self.run()

    def track_peak_bytes(self, model, tokens):
        return self.memory("peak")

    time_step.tokens_from = "tokens"
    track_peak_bytes.unit, track_peak_bytes.noise, track_peak_bytes.rounds = "bytes", "timing", 1


class Checkpointed(Training):
    """LoRA with gradient checkpointing: less memory, a second forward pass."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.FULL_MODELS, (32, 512))
    workload = training.Checkpointed

    def time_step(self, model, tokens):
        self.run()

    def track_peak_bytes(self, model, tokens):
        return self.memory("peak")

    time_step.tokens_from = "tokens"
    track_peak_bytes.unit, track_peak_bytes.noise, track_peak_bytes.rounds = "bytes", "timing", 1


class Growth(Training):
    """Bytes that each of 50 LoRA steps in a row leaves behind: a leak is a slope."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.FULL_MODELS,)
    workload = training.Loop

    def track_growth_bytes(self, model):
        return self.growth()

    track_growth_bytes.unit, track_growth_bytes.noise, track_growth_bytes.rounds = "bytes", "timing", 1
