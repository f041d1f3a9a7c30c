"""How many floating-point operations a model must do: 2 for each multiply-add.

Matrix products and attention are counted, and the recurrence of state-space layers. Norms, softmax,
activations, rotary embedding, sampling and unpacking quantized weights are not: this is what model-FLOPs
utilization compares (https://arxiv.org/abs/2204.02311, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlx_velocity.anatomy import ATTENTION_IN, Anatomy, Attention, Layer, Matrix, StateSpace


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (https://arxiv.org/abs/2106.09685) and where they sit; the defaults are those of `lora.*`."""

    rank: int = 8
    keys: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj")
    layers: int | None = None
    """Only the last so many layers; None for all."""

    def on(self, matrix: Matrix) -> bool:
        """Whether `matrix`, of an adapted layer, has an adapter."""
        return matrix.path.endswith(self.keys)


def forward(anatomy: Anatomy, tokens: int, depth: int = 0, logits: int | None = None) -> float:
    """FLOPs of one sequence's forward pass over `tokens` tokens behind `depth` cached ones.

    The head runs at `logits` positions; None for all. Looking up an embedding is no operation.
    """
    positions = tokens if logits is None else logits
    layers = sum(_product(matrix, tokens) for layer in anatomy.layers for matrix in layer.matrices) + sum(
        _mixing(layer, tokens, depth) for layer in anatomy.layers
    )
    return layers + _product(anatomy.output, positions)


def training(anatomy: Anatomy, tokens: int) -> float:
    """FLOPs of one sequence in a step that trains all weights: three forward passes.

    Each matrix is multiplied once forward, once for the gradient of its input and once for its own.
    Recomputing (gradient checkpointing, fused attention) is no useful work and not counted.
    """
    return 3 * forward(anatomy, tokens)


def lora_training(anatomy: Anatomy, tokens: int, adapters: Adapters) -> float:
    """FLOPs of one sequence in a step that trains adapters alone.

    Frozen weights need the gradient of their input and none of their own: two products instead of three.
    Before the first adapter nothing flows back. The two thin matrices of an adapter take three.
    """
    count = len(anatomy.layers)
    lowest = max(0, count - adapters.layers) if adapters.layers is not None else 0
    total = forward(anatomy, tokens)
    begun = False
    for layer in anatomy.layers[lowest:]:
        adapted = [matrix for matrix in layer.matrices if adapters.on(matrix)]
        # In the first layer that has one, only what comes after it carries a gradient back.
        after = -1 if begun else min((matrix.step for matrix in adapted), default=None)
        if after is None:
            continue
        begun = True
        total += sum(_product(matrix, tokens) for matrix in layer.matrices if matrix.step > after)
        if after <= ATTENTION_IN:
            total += 2 * _mixing(layer, tokens, 0)
        total += sum(3 * _adapter(matrix, adapters.rank, tokens) for matrix in adapted)
    return total + (_product(anatomy.output, tokens) if begun else 0.0)


def _product(matrix: Matrix, tokens: int) -> float:
    """FLOPs of sending `tokens` tokens through a matrix, through the chosen experts where it has some."""
    return 2.0 * tokens * matrix.chosen * matrix.outputs * matrix.inputs


def _adapter(matrix: Matrix, rank: int, tokens: int) -> float:
    return 2.0 * tokens * matrix.chosen * rank * (matrix.outputs + matrix.inputs)


def _mixing(layer: Layer, tokens: int, depth: int) -> float:
    """FLOPs between the projections: scores and weighted sum, or the recurrence."""
    mixer = layer.mixer
    if isinstance(mixer, Attention):
        # Two multiply-adds a pair and dimension: query·key, and weight·value.
        return 4.0 * mixer.heads * mixer.head_dim * mixer.seen(depth, tokens)
    return tokens * _recurrence(mixer)


def _recurrence(mixer: StateSpace) -> float:
    """FLOPs of one token: h = a·h + b·x (3 for each number of the state), y = c·h (2), and the convolution.

    The step-by-step form, the least work. mlx_lm's chunked prefill does more to use matrix products.
    """
    return 5.0 * mixer.heads * mixer.head_dim * mixer.state + 2.0 * mixer.kernel * mixer.channels
