"""Parts of a model as mlx_lm builds it: attention, MLP, the whole layer, and what is no layer."""

from mlx_velocity.probe import components, profiles
from mlx_velocity.probe.case import Case


class Component(Case):
    """What both shapes share: short bodies, so few samples and launches must do."""

    rounds = 2
    repeat = (3, 10, 0.05)
    warmup_time = 0.02


class Prefill(Component):
    """Forward on many tokens at once."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "part", "tokens")
    params = (profiles.MAIN_MODELS, tuple(components.PARTS), (32, 512))
    workload = components.Prefill

    def time_forward(self, model, part, tokens):
        self.run()

    time_forward.operations_per_call = components.CALLS


class Decode(Component):
    """Forward on one token behind `depth` cached positions."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "part", "depth")
    params = (profiles.MAIN_MODELS, tuple(components.PARTS), (256, 2048))
    workload = components.Decode

    def time_forward(self, model, part, depth):
        self.run()

    time_forward.operations_per_call = components.CALLS
