"""A step of LoRA fine-tuning, whole and in parts.

An own loop around `nn.value_and_grad`: mlx_lm's trainer crashes without Metal in some versions, and
its arguments changed. Adapters start from the same values in every version and before every sample.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

from mlx_velocity.probe import compat, kept, models, observe, weights

RANK = 8
ALPHA = 16
SCALE = ALPHA / RANK
"""Adapters add `SCALE * (x @ A @ B)`: alpha over rank, https://arxiv.org/abs/2106.09685, section 4.1."""

KEYS = ("self_attn.q_proj", "self_attn.v_proj")
"""Adapted projections: what the paper adapts, and mlx_lm's own default in 2024."""

TOKENS = 512
"""Tokens of one step, one sequence: long enough that every projection is a matrix product."""

LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01


class Step:
    """Forward pass, backward pass and AdamW update of the adapters on a batch of one sequence; notes the loss."""

    setting = "pinned"

    def __init__(self, model: str, tokens: int = TOKENS) -> None:
        import mlx.core as mx
        import mlx.nn as nn

        kept.release("prompt cache")
        self.key = (model, "lora", self.setting, tokens)
        self.model = kept.keep("model", self.key[:-1], lambda: self.adapted(model))
        self.initial = self.first_values()
        ids = models.prompt(self.model, tokens + 1)
        self.inputs, self.targets = mx.array([ids[:-1]]), mx.array([ids[1:]])
        mx.eval(self.inputs, self.targets, self.initial)
        self.loss_and_gradients = nn.value_and_grad(self.model, loss)
        self.optimizer: Any = None

    def adapted(self, spec: str) -> Any:
        """A frozen model with adapters; NotImplementedError where there is nothing to adapt."""
        from mlx.utils import tree_flatten

        model = models.build(spec)
        if not hasattr(model, "layers"):
            raise NotImplementedError(f"models of mlx-lm {compat.mlx_lm_version()} do not name their layers")
        model.freeze()
        self.adapt(model)
        if not tree_flatten(model.trainable_parameters()):
            raise NotImplementedError(f"{spec} has no {' or '.join(KEYS)}")
        model.train()
        return model

    def adapt(self, model: Any) -> None:
        """Put the pinned adapters on every layer."""
        compat.linear_to_lora_layers(model, len(model.layers), configuration())

    def make_optimizer(self) -> Any:
        """A new optimizer without state."""
        import mlx.optimizers as optimizers

        return optimizers.AdamW(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def prepare(self) -> None:
        """First values in what is trained, and an optimizer without history."""
        import mlx.core as mx

        self.restore()
        self.optimizer = self.make_optimizer()
        self.optimizer.init(self.model.trainable_parameters())
        mx.eval(self.optimizer.state)

    def first_values(self) -> Any:
        """What every sample starts from."""
        return initial_adapters(self.model)

    def restore(self) -> None:
        """First values in what is trained."""
        self.model.update(self.initial)

    def run(self) -> None:
        """One step."""
        value, gradients = self.loss_and_gradients(self.model, self.inputs, self.targets)
        self.update(value, gradients)
        observe.note(loss=value.item())

    def update(self, *arrays: Any) -> None:
        """Apply the last of `arrays`, the gradients, and compute it all."""
        import mlx.core as mx

        self.optimizer.update(self.model, arrays[-1])
        mx.eval(arrays[:-1], self.model.trainable_parameters(), self.optimizer.state)


class Forward(Step):
    """The loss alone."""

    def run(self) -> None:
        """One forward pass."""
        value = loss(self.model, self.inputs, self.targets)
        observe.note(loss=value.item())


class Backward(Step):
    """The loss and its gradients, without the update."""

    def run(self) -> None:
        """One forward and one backward pass."""
        import mlx.core as mx

        value, gradients = self.loss_and_gradients(self.model, self.inputs, self.targets)
        mx.eval(value, gradients)
        observe.note(loss=value.item())
        kept.keep("gradients", self.key, lambda: gradients)


class Update(Step):
    """The optimizer's update alone, with gradients that are there already."""

    def __init__(self, model: str, tokens: int = TOKENS) -> None:
        super().__init__(model, tokens)
        self.gradients = kept.keep("gradients", self.key, self._gradients)

    def _gradients(self) -> Any:
        """Gradients at the adapters' first values, as `Backward` computes them."""
        import mlx.core as mx

        self.model.update(self.initial)
        gradients = self.loss_and_gradients(self.model, self.inputs, self.targets)[1]
        mx.eval(gradients)
        return gradients

    def run(self) -> None:
        """One update."""
        self.update(self.gradients)


class DefaultStep(Step):
    """The whole step with the adapters and the optimizer that mlx_lm's own command would use."""

    setting = "default"

    def defaults(self) -> dict[str, Any]:
        """mlx_lm's configuration; NotImplementedError where it cannot be had."""
        try:
            found: dict[str, Any] = importlib.import_module("mlx_lm.lora").CONFIG_DEFAULTS
        except (ImportError, AttributeError) as error:
            message = f"mlx-lm {compat.mlx_lm_version()} shows no LoRA defaults: {error}"
            raise NotImplementedError(message) from None
        return found

    def adapt(self, model: Any) -> None:
        """Put the default adapters on as many of the last layers as mlx_lm would."""
        defaults = self.defaults()
        # It was called lora_layers in early 2024; versions up to 2025 refuse more than there are.
        layers = min(defaults.get("num_layers", defaults.get("lora_layers", 16)), len(model.layers))
        compat.linear_to_lora_layers(model, layers, dict(defaults["lora_parameters"]))

    def make_optimizer(self) -> Any:
        """The default optimizer at its default rate."""
        import mlx.optimizers as optimizers

        defaults = self.defaults()
        kinds = {"adam": optimizers.Adam, "adamw": optimizers.AdamW}
        # Adam was the only one before the setting existed.
        return kinds[defaults.get("optimizer", "adam")](learning_rate=defaults["learning_rate"])


def configuration() -> dict[str, Any]:
    """What mlx_lm is told of the pinned adapters."""
    return {"rank": RANK, "alpha": ALPHA, "scale": SCALE, "dropout": 0.0, "keys": list(KEYS)}


def loss(model: Any, inputs: Any, targets: Any) -> Any:
    """Mean cross-entropy in nats of `targets` given `inputs`, both of shape (batch, tokens)."""
    import mlx.core as mx
    import mlx.nn as nn

    logits = model(inputs)
    # Until May 2024 models gave their cache back too.
    logits = logits[0] if isinstance(logits, tuple) else logits
    return nn.losses.cross_entropy(logits.astype(mx.float32), targets).mean()


def initial_adapters(model: Any) -> Any:
    """A tree of first values for the trainable parameters: A uniform, B zero, as in LoRA's paper.

    Anything else (DoRA's magnitudes) keeps the value that it has, which follows from the weights.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    values = []
    for path, parameter in tree_flatten(model.trainable_parameters()):
        shape = tuple(parameter.shape)
        if path.endswith("lora_a"):
            value = weights.uniform(shape, path, 1.0 / math.sqrt(max(shape)), parameter.dtype)
        elif path.endswith("lora_b"):
            value = mx.zeros(shape, parameter.dtype)
        else:
            value = parameter
        values.append((path, value))
    return tree_unflatten(values)
