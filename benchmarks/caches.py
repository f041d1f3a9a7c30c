"""What a KV cache saves, and what its kinds cost in time and in bytes."""

from mlx_velocity.probe import caches, profiles, workloads
from mlx_velocity.probe.case import Case


class Cached(Case):
    """A prompt and 8 new tokens with a KV cache."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (32, 512))
    workload = caches.Cached

    def time_generate(self, model, tokens):
        self.run()

    time_generate.tokens_per_call = caches.NEW_TOKENS


class Recomputed(Case):
    """The same without: the whole sequence again for every token."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (32, 512))
    workload = caches.Recomputed

    def time_generate(self, model, tokens):
        self.run()

    time_generate.tokens_per_call = caches.NEW_TOKENS


class Rotating(Case):
    """Decode behind a cache that holds half the depth and is full."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = caches.Rotating

    def time_decode(self, model, depth):
        self.run()

    def track_kv_cache_bytes(self, model, depth):
        return self.kv_cache_bytes()

    time_decode.tokens_per_call = workloads.DECODE_TOKENS
    track_kv_cache_bytes.unit, track_kv_cache_bytes.rounds = "bytes", 1


class Quantized(Case):
    """Decode behind a cache of 8 bits."""

    rounds = 2
    repeat = (1, 10, 0.05)
    warmup_time = 0.02
    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = caches.Quantized

    def time_decode(self, model, depth):
        self.run()

    def track_kv_cache_bytes(self, model, depth):
        return self.kv_cache_bytes()

    time_decode.tokens_per_call = workloads.DECODE_TOKENS
    track_kv_cache_bytes.unit, track_kv_cache_bytes.rounds = "bytes", 1
