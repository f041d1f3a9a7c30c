"""Single operators at the sizes of a model's shape: `CALLS` calls a sample, evaluated once at the end."""

from mlx_velocity.probe import operators, products, profiles
from mlx_velocity.probe.case import Case

# CPU series see bfloat16 too where most of the time goes.
MATMUL_MODELS = ("tiny-bfloat16", *profiles.OPERATOR_MODELS)


class Operator(Case):
    """What all operators share: short bodies that vary little, so few samples and launches must do."""

    rounds = 2
    repeat = (3, 10, 0.05)
    warmup_time = 0.02


class Matmul(Operator):
    """A chain of products through the MLP's two matrices; one row is a decode step's."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (MATMUL_MODELS, (1, 32, 512))
    workload = products.Matmul

    def time_matmul(self, model, rows):
        self.run()

    time_matmul.operations_per_call = operators.CALLS


class QuantizedMatmul(Operator):
    """The same with quantized weights."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "bits", "rows")
    params = (profiles.OPERATOR_MODELS, (4, 8), (1, 32, 512))
    workload = products.QuantizedMatmul

    def time_quantized_matmul(self, model, bits, rows):
        self.run()

    time_quantized_matmul.operations_per_call = operators.CALLS


class GatherMatmul(Operator):
    """A chain of products with each token's own experts, as in a mixture of experts."""

    version = "1"
    timeout = 600.0
    param_names = ("moe", "rows")
    params = (profiles.allowed("moe"), (1, 32, 512))
    workload = products.GatherMatmul

    def time_gather_mm(self, moe, rows):
        self.run()

    time_gather_mm.operations_per_call = operators.CALLS


class QuantizedGatherMatmul(Operator):
    """The same with experts of 4 bits."""

    version = "1"
    timeout = 600.0
    param_names = ("moe", "bits", "rows")
    params = (profiles.allowed("moe"), (4,), (1, 32, 512))
    workload = products.QuantizedGatherMatmul

    def time_gather_qmm(self, moe, bits, rows):
        self.run()

    time_gather_qmm.operations_per_call = operators.CALLS


class Softmax(Operator):
    """A chain over attention scores of 512 positions."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (profiles.OPERATOR_MODELS, (32, 512))
    workload = operators.Softmax

    def time_softmax(self, model, rows):
        self.run()

    time_softmax.operations_per_call = operators.CALLS


class LayerNorm(Operator):
    """A chain of fused layer normalizations."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (profiles.OPERATOR_MODELS, (32, 512))
    workload = operators.LayerNorm

    def time_layer_norm(self, model, rows):
        self.run()

    time_layer_norm.operations_per_call = operators.CALLS


class RMSNorm(Operator):
    """A chain of fused RMS normalizations."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (profiles.OPERATOR_MODELS, (32, 512))
    workload = operators.RMSNorm

    def time_rms_norm(self, model, rows):
        self.run()

    time_rms_norm.operations_per_call = operators.CALLS


class Rope(Operator):
    """A chain of fused rotary embeddings of the queries."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (profiles.OPERATOR_MODELS, (32, 512))
    workload = operators.Rope

    def time_rope(self, model, rows):
        self.run()

    time_rope.operations_per_call = operators.CALLS


class AttentionPrefill(Operator):
    """A chain of fused causal attentions, grouped-query where the model's is."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "tokens")
    params = (MATMUL_MODELS, (32, 512, 2048))
    workload = operators.AttentionPrefill

    def time_attention(self, model, tokens):
        self.run()

    time_attention.operations_per_call = operators.CALLS


class AttentionDecode(Operator):
    """A chain of fused attentions of one query over `depth` positions."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "depth")
    params = (MATMUL_MODELS, (256, 2048))
    workload = operators.AttentionDecode

    def time_attention(self, model, depth):
        self.run()

    time_attention.operations_per_call = operators.CALLS


class Embedding(Operator):
    """Independent look-ups of different ids."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "rows")
    params = (profiles.OPERATOR_MODELS, (32, 512))
    workload = operators.Embedding

    def time_embedding(self, model, rows):
        self.run()

    time_embedding.operations_per_call = operators.CALLS


class Sampling(Operator):
    """Independent draws from a vocabulary by mlx_lm's samplers."""

    version = "1"
    timeout = 600.0
    param_names = ("model", "strategy")
    params = (profiles.OPERATOR_MODELS, tuple(operators.STRATEGIES))
    workload = operators.Sampling

    def time_sampling(self, model, strategy):
        self.run()

    time_sampling.operations_per_call = operators.CALLS
