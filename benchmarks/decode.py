"""Decode: 32 greedy tokens behind a prompt cache that holds `depth` tokens."""

from mlx_velocity.probe import profiles, workloads
from mlx_velocity.probe.case import Case


class Decode(Case):
    """Every model and depth, all arguments pinned."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.allowed("model"), profiles.allowed("depth"))
    workload = workloads.Decode

    def time_decode(self, model, depth):
        self.run()

    time_decode.tokens_per_call = workloads.DECODE_TOKENS


class Defaults(Case):
    """With whatever generate_step does by itself."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = workloads.DefaultDecode

    def time_decode(self, model, depth):
        self.run()

    time_decode.tokens_per_call = workloads.DECODE_TOKENS


class Sampled(Case):
    """With mlx_lm's sampler at temperature 0.7 and top-p 0.9 instead of the likeliest token."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = workloads.SampledDecode

    def time_decode(self, model, depth):
        self.run()

    time_decode.tokens_per_call = workloads.DECODE_TOKENS


class Memory(Case):
    """MLX's peak, and the buffer cache that a peak leaves out."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.allowed("model"), (256, 2048))
    workload = workloads.Decode

    def track_peak_bytes(self, model, depth):
        return self.memory("peak")

    def track_active_bytes(self, model, depth):
        return self.memory("active")

    def track_cache_bytes(self, model, depth):
        return self.memory("cache")

    for track in (track_peak_bytes, track_active_bytes, track_cache_bytes):
        track.unit, track.noise, track.rounds = "bytes", "timing", 2
    del track


class KeyValues(Case):
    """What the prompt cache itself holds after decoding: the model's shape decides, not the allocator."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = workloads.Decode

    def track_kv_cache_bytes(self, model, depth):
        return self.kv_cache_bytes()

    track_kv_cache_bytes.unit = "bytes"


class Resident(Case):
    """What the operating system sees, Python and libraries included."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = workloads.Decode

    def track_resident_bytes(self, model, depth):
        return self.memory("resident")

    track_resident_bytes.unit, track_resident_bytes.noise, track_resident_bytes.rounds = "bytes", "timing", 2
