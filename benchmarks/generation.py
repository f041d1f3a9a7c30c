"""Ways of generating beside the plain one: 32 greedy tokens a sequence, or one first token."""

from mlx_velocity.probe import generation, profiles, workloads
from mlx_velocity.probe.case import Case


class Stepwise(Case):
    """Each token is read before the next step begins: what decode costs where nothing overlaps."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = generation.Steps

    def time_stepwise(self, model, depth):
        self.run()

    time_stepwise.tokens_per_call = workloads.DECODE_TOKENS


class Batched(Case):
    """Four sequences through mlx_lm's BatchGenerator; older versions have none and are skipped."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = generation.Batched

    def time_batched(self, model, depth):
        self.run()

    time_batched.tokens_per_call = 4 * workloads.DECODE_TOKENS


class Speculative(Case):
    """The model drafts for itself: every guess is right, so that the machinery is what changes."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "depth")
    params = (profiles.MAIN_MODELS, (256, 2048))
    workload = generation.Speculative

    def time_speculative(self, model, depth):
        self.run()

    time_speculative.tokens_per_call = workloads.DECODE_TOKENS


class Reuse(Case):
    """A prompt whose first 7/8 are in the prompt cache, to its first token; without: first_token.FirstToken."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (128, 512, 2048))
    workload = generation.Reuse

    def time_reuse(self, model, tokens):
        self.run()

    time_reuse.tokens_from = "tokens"
