"""Matrix products at the sizes of a model's shape: full, quantized, and with each token's own experts.

Chains as in operators.py: a sample is `CALLS` products, each on the result of the one before.
"""

from __future__ import annotations

from typing import Any

from mlx_velocity.probe import compat, shapes, weights
from mlx_velocity.probe.operators import Chain, Sizes, evaluated


class Matmul(Chain):
    """`rows` activations through the MLP's two matrices in turn: hidden → intermediate → hidden."""

    calls_per_step = 2

    def __init__(self, model: str, rows: int) -> None:
        sizes = Sizes(model)
        self.x = sizes.activations(rows, sizes.hidden)
        self.matrices = [
            sizes.matrix("up", sizes.intermediate, sizes.hidden),
            sizes.matrix("down", sizes.hidden, sizes.intermediate),
        ]

    def step(self, x: Any) -> Any:
        """Both products."""
        up, down = self.matrices
        return self.product(self.product(x, up), down)

    def product(self, x: Any, matrix: Any) -> Any:
        """`x` times a matrix of shape (out, in), as a linear layer does it."""
        return x @ matrix.T


class QuantizedMatmul(Matmul):
    """The same with weights of 4 or 8 bits in groups of 64; scales have the type of the activations."""

    def __init__(self, model: str, bits: int, rows: int) -> None:
        import mlx.core as mx

        super().__init__(model, rows)
        self.how: dict[str, Any] = {"group_size": shapes.GROUP_SIZE, "bits": bits}
        self.matrices = [mx.quantize(matrix, **self.how) for matrix in self.matrices]
        mx.eval(self.matrices)

    def product(self, x: Any, matrix: Any) -> Any:
        """`x` times a quantized matrix: weights, scales and biases."""
        import mlx.core as mx

        weight, scales, biases = matrix
        return mx.quantized_matmul(x, weight, scales, biases, transpose=True, **self.how)


class GatherMatmul(Matmul):
    """Each of `rows` tokens through its chosen experts' two matrices in turn, as a mixture of experts does.

    The choice is random and sorted by nothing: what a decode step or a short prompt meets.
    """

    operator = "gather_mm"

    def __init__(self, moe: str, rows: int) -> None:
        import mlx.core as mx

        self.call = compat.function(self.operator)
        sizes = Sizes(moe)
        # (token, expert, 1, hidden): one row for each expert of each token.
        self.x = sizes.activations(rows, sizes.chosen, 1, sizes.hidden)
        picks = weights.integers(rows * sizes.chosen, "experts", sizes.experts)
        self.experts = evaluated(mx.array(picks, dtype=mx.uint32).reshape(rows, sizes.chosen))
        self.matrices = evaluated(self.expert_matrices(sizes))
        self.prove()

    def expert_matrices(self, sizes: Sizes) -> list[Any]:
        """Up and down: stacks of one matrix an expert."""
        return [
            sizes.matrix("experts up", sizes.experts, sizes.expert_width, sizes.hidden),
            sizes.matrix("experts down", sizes.experts, sizes.hidden, sizes.expert_width),
        ]

    def prove(self) -> None:
        """Make one product; NotImplementedError where the device can't, as a CPU in bfloat16."""
        try:
            evaluated(self.product(self.x, self.matrices[0]))
        except RuntimeError as error:
            if "only supports" not in str(error):
                raise
            raise NotImplementedError(str(error)) from None

    def product(self, x: Any, matrix: Any) -> Any:
        """Each row times its expert's matrix."""
        return self.call(x, matrix.swapaxes(-1, -2), rhs_indices=self.experts)


class QuantizedGatherMatmul(GatherMatmul):
    """The same with experts of 4 or 8 bits."""

    operator = "gather_qmm"

    def __init__(self, moe: str, bits: int, rows: int) -> None:
        self.how: dict[str, Any] = {"group_size": shapes.GROUP_SIZE, "bits": bits}
        super().__init__(moe, rows)

    def expert_matrices(self, sizes: Sizes) -> list[Any]:
        """The same, quantized."""
        import mlx.core as mx

        return [mx.quantize(matrix, **self.how) for matrix in super().expert_matrices(sizes)]

    def product(self, x: Any, matrix: Any) -> Any:
        """Each row times its expert's quantized matrix."""
        weight, scales, biases = matrix
        return self.call(x, weight, scales, biases, rhs_indices=self.experts, transpose=True, **self.how)
