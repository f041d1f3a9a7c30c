"""Other ways to fine-tune than LoRA on full weights: all weights, DoRA, QLoRA, with gradient checkpointing.

Each is the step of `lora.Step` with one thing changed: forward pass, backward pass, AdamW update.
"""

from __future__ import annotations

from typing import Any

from mlx_velocity.probe import compat, lora, models

COPIES = 5
"""Times the weights that a full step takes: weights, gradients, two moments, and new weights beside old ones."""

LOOP_TOKENS = 4
"""Tokens of a step that is only looked at for what it leaves behind."""


class Full(lora.Step):
    """A step that trains every weight."""

    setting = "full"

    def adapted(self, spec: str) -> Any:
        """The model itself; NotImplementedError where its training does not fit."""
        needed = COPIES * models.weight_bytes(spec) + models.HEADROOM_BYTES
        available = compat.device_memory_bytes()
        if needed > available:
            raise NotImplementedError(
                f"training all weights needs {needed / 1e9:.0f} GB, has {available / 1e9:.0f} GB"
            )
        model = models.build(spec)
        model.train()
        return model

    def first_values(self) -> Any:
        """Nothing to keep: a second copy of all weights would count as the step's memory."""
        return {}

    def restore(self) -> None:
        """First values in all weights, made again."""
        self.optimizer = None
        self.model.update(models.build(self.key[0]).parameters())


class Dora(lora.Step):
    """LoRA with magnitudes and directions apart, https://arxiv.org/abs/2402.09353, by mlx_lm's own layers."""

    setting = "dora"

    def adapt(self, model: Any) -> None:
        """Put DoRA adapters of the pinned rank on every layer."""
        compat.linear_to_lora_layers(model, len(model.layers), lora.configuration(), dora=True)


class Checkpointed(lora.Step):
    """The LoRA step with mlx_lm's gradient checkpointing: activations within a layer are computed twice."""

    def run(self) -> None:
        """One step."""
        with compat.gradient_checkpointing(self.model):
            super().run()


class Loop(lora.Step):
    """Steps on a few tokens, for what many in a row leave behind: a leak does not need a long sequence."""

    def __init__(self, model: str) -> None:
        super().__init__(model, LOOP_TOKENS)
