"""Prefill: a prompt through the model in chunks of 512, into a fresh prompt cache."""

from mlx_velocity.probe import profiles, workloads
from mlx_velocity.probe.case import Case


class Prefill(Case):
    """Every model and prompt length. Upstream's own prefill is in first_token.Defaults."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.allowed("model"), profiles.allowed("tokens"))
    workload = workloads.Prefill

    def time_prefill(self, model, tokens):
        self.run()

    time_prefill.tokens_from = "tokens"


class Memory(Case):
    """MLX's peak, and the buffer cache that a peak leaves out."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.allowed("model"), (128, 512))
    workload = workloads.Prefill

    def track_peak_bytes(self, model, tokens):
        return self.memory("peak")

    def track_active_bytes(self, model, tokens):
        return self.memory("active")

    def track_cache_bytes(self, model, tokens):
        return self.memory("cache")

    for track in (track_peak_bytes, track_active_bytes, track_cache_bytes):
        track.unit, track.noise, track.rounds = "bytes", "timing", 2
    del track


class Resident(Case):
    """What the operating system sees, Python and libraries included."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (128, 512))
    workload = workloads.Prefill

    def track_resident_bytes(self, model, tokens):
        return self.memory("resident")

    track_resident_bytes.unit, track_resident_bytes.noise, track_resident_bytes.rounds = "bytes", "timing", 2
