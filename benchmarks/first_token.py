"""Time to the first token: from the ids of a prompt through mlx_lm's generate_step."""

from mlx_velocity.probe import profiles, workloads
from mlx_velocity.probe.case import Case


class FirstToken(Case):
    """With a pinned prefill step of 2048."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (128, 512, 2048))
    workload = workloads.FirstToken

    def time_first_token(self, model, tokens):
        self.run()


class Defaults(Case):
    """With whatever generate_step does by itself; upstream's default prefill is this too."""

    version = "1"
    timeout = 900.0
    param_names = ("model", "tokens")
    params = (profiles.MAIN_MODELS, (128, 512, 2048))
    workload = workloads.DefaultFirstToken

    def time_first_token(self, model, tokens):
        self.run()
