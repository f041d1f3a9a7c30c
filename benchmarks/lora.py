"""LoRA fine-tuning: one step on a sequence of 512 tokens, whole and in parts."""

from mlx_velocity.probe import lora, profiles
from mlx_velocity.probe.case import Case


class Lora(Case):
    """What all steps share: they take long and vary little, so few samples and launches must do."""

    rounds = 2
    repeat = (1, 10, 0.3)


class Step(Lora):
    """The whole step: forward pass, backward pass, AdamW update; rank 8 on q_proj and v_proj."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.LORA_MODELS,)
    workload = lora.Step

    def time_step(self, model):
        self.run()

    time_step.tokens_per_call = lora.TOKENS


class Forward(Lora):
    """The loss alone."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.Forward

    def time_forward(self, model):
        self.run()

    time_forward.tokens_per_call = lora.TOKENS


class Backward(Lora):
    """The loss and its gradients."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.Backward

    def time_backward(self, model):
        self.run()

    time_backward.tokens_per_call = lora.TOKENS


class Update(Lora):
    """The optimizer's update alone."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.Update

    def time_update(self, model):
        self.run()

    time_update.tokens_per_call = lora.TOKENS


class Defaults(Lora):
    """The whole step with the adapters and the optimizer of mlx_lm's own command."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.DefaultStep

    def time_step(self, model):
        self.run()

    time_step.tokens_per_call = lora.TOKENS


class Memory(Case):
    """MLX's peak, and the buffer cache that a peak leaves out."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.Step

    def track_peak_bytes(self, model):
        return self.memory("peak")

    def track_active_bytes(self, model):
        return self.memory("active")

    def track_cache_bytes(self, model):
        return self.memory("cache")

    for track in (track_peak_bytes, track_active_bytes, track_cache_bytes):
        track.unit, track.noise, track.rounds = "bytes", "timing", 1
    del track


class Resident(Case):
    """What the operating system sees, Python and libraries included."""

    version = "1"
    timeout = 900.0
    param_names = ("model",)
    params = (profiles.MAIN_MODELS,)
    workload = lora.Step

    def track_resident_bytes(self, model):
        return self.memory("resident")

    track_resident_bytes.unit, track_resident_bytes.noise, track_resident_bytes.rounds = "bytes", "timing", 1
