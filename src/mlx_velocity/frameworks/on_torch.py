"""PyTorch: its own operators, and transformers' model of the same `config.json` and safetensors."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

from mlx_velocity.frameworks import interface, operators
from mlx_velocity.probe import shapes, workloads


class Torch:
    """PyTorch in eager mode on CPU, CUDA or MPS."""

    def __init__(self, kind: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        # Not TensorFloat-32 where the others use float32.
        torch.set_float32_matmul_precision("highest")
        gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else ""
        if kind == "gpu" and not gpu:
            raise NotImplementedError("this build of PyTorch sees no GPU (neither CUDA nor MPS)")
        self.device = torch.device(gpu if kind == "gpu" else "cpu")
        self.model: Any = None

    def about(self) -> dict[str, Any]:
        """What is measured, with the instructions that PyTorch found on this CPU."""
        import torch
        import transformers

        name = torch.cuda.get_device_name() if self.device.type == "cuda" else str(self.device)
        return {
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}",
            "device": name,
            "kind": "cpu" if self.device.type == "cpu" else "gpu",
            "threads": torch.get_num_threads(),
            "build": f"eager, {torch.backends.cpu.get_cpu_capability()}",
        }

    def load(self, spec: str, folder: str) -> dict[str, Any]:
        """transformers' causal model of the files; its attention is PyTorch's fused one."""
        import torch
        from transformers import AutoModelForCausalLM

        importlib.import_module("transformers.utils.logging").disable_progress_bar()
        dtype = shapes.split(spec)[1]
        if dtype in shapes.BITS:
            raise NotImplementedError(f"PyTorch alone has no {shapes.BITS[dtype]}-bit weights")
        self.model = None
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", local_files_only=True
        )
        self.model.to(self.device).eval()
        state = self.model.state_dict()
        if self.model.config.tie_word_embeddings:
            state.pop("lm_head.weight", None)
        arrays = ((name, state[name].float().cpu().contiguous().numpy()) for name in sorted(state))
        return {
            "digest": interface.digest_of_weights(arrays),
            "weights": sum(tensor.numel() for tensor in state.values()),
            "bytes": sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
            "dtypes": {"weights": dtype, "activations": dtype, "kv_cache": dtype},
        }

    def operator(self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str) -> TorchOperator:
        """One operator of `torch`."""
        if name in operators.BITS:
            raise NotImplementedError(f"PyTorch alone has no {operators.BITS[name]}-bit weights")
        return TorchOperator(name, given, size, dtype, self.device)

    def prefill(self, tokens: int) -> TorchPrefill:
        """A prompt through the loaded model."""
        return TorchPrefill(self.model, self.device, tokens)

    def decode(self, depth: int) -> TorchDecode:
        """Greedy generation behind `depth` tokens."""
        return TorchDecode(self.model, self.device, depth)


def synchronize(device: Any) -> None:
    """Wait until the device has nothing left to do."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


class TorchOperator:
    """One operator: `count` calls queued, one wait."""

    def __init__(
        self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str, device: Any
    ) -> None:
        import torch

        kind = getattr(torch, dtype)
        self.device = device
        self.arrays = {
            key: torch.from_numpy(value).to(device=device, dtype=torch.int64 if key == "ids" else kind)
            for key, value in given.items()
        }
        self.dtypes = {"weights": dtype, "activations": dtype}
        if name == "rope":
            # As transformers does: the angles are made once for all layers.
            cos, sin = operators.rotations(int(size["T"]), int(size["D"]), size["theta"])
            self.arrays["cos"], self.arrays["sin"] = (
                torch.from_numpy(part).repeat(1, 2).to(device=device, dtype=kind) for part in (cos, sin)
            )
        self._function = self._of(name, size)

    def _of(self, name: str, size: dict[str, float]) -> Callable[[], Any]:
        import torch
        import torch.nn.functional as F

        a = self.arrays

        def rope() -> Any:
            first, second = a["x"].chunk(2, dim=-1)
            return a["x"] * a["cos"] + torch.cat((-second, first), dim=-1) * a["sin"]

        attention = functools.partial(
            F.scaled_dot_product_attention, is_causal=True, scale=1 / math.sqrt(size["D"]), enable_gqa=True
        )
        hidden = (int(size["H"]),)
        functions: dict[str, Callable[[], Any]] = {
            "matmul": lambda: F.linear(a["x"], a["w"]),
            "matvec": lambda: F.linear(a["x"], a["w"]),
            "softmax": lambda: torch.softmax(a["x"], dim=-1),
            "layer_norm": lambda: F.layer_norm(a["x"], hidden, a["weight"], a["bias"], operators.EPS),
            "rms_norm": lambda: F.rms_norm(a["x"], hidden, a["weight"], operators.EPS),
            "rope": rope,
            "attention": lambda: attention(a["q"][None], a["k"][None], a["v"][None])[0],
            "embedding": lambda: F.embedding(a["ids"], a["w"]),
        }
        return functions[name]

    def call(self, count: int) -> None:
        """`count` results, all kept until the last is done, as the others keep them."""
        kept = [self._function() for _ in range(count)]
        synchronize(self.device)
        del kept

    def result(self) -> Any:
        """One result."""
        return self._function().float().cpu().numpy()


class TorchPrefill:
    """A prompt in chunks into a fresh cache; the logits of the whole last chunk are computed."""

    def __init__(self, model: Any, device: Any, tokens: int) -> None:
        import torch

        self.model, self.device = model, device
        self.ids = interface.prompt(tokens, model.config.vocab_size)
        self.chunks = [torch.tensor([chunk], device=device) for chunk in interface.chunks(self.ids)]
        self.cache: Any = None
        self.logits: Any = None

    def prepare(self) -> None:
        """An empty cache."""
        from transformers import DynamicCache

        self.logits = None
        self.cache = DynamicCache(config=self.model.config)
        synchronize(self.device)

    def run(self) -> None:
        """One prefill."""
        self.logits = fill(self.model, self.chunks, self.cache)
        synchronize(self.device)

    def facts(self) -> dict[str, Any]:
        """Of one run."""
        self.prepare()
        self.run()
        return {
            "prompt": interface.digest_of_ids(self.ids),
            "prompt_tokens": len(self.ids),
            "chunk": max(chunk.shape[1] for chunk in self.chunks),
            "logits_rows": int(self.logits.shape[0]),
            "logits": interface.spread(self.logits[-1].float().cpu().numpy()),
        }


def fill(model: Any, chunks: list[Any], cache: Any) -> Any:
    """Run chunks of shape (1, n) through `model` into `cache`; the last one's logits, (n, vocabulary)."""
    for chunk in chunks[:-1]:
        # Without the head, whose result nobody needs.
        model.model(input_ids=chunk, past_key_values=cache, use_cache=True)
    return model(input_ids=chunks[-1], past_key_values=cache, use_cache=True).logits[0]


class TorchDecode:
    """`DECODE_TOKENS` greedy steps; each token is read by the host, as a program that streams text does."""

    def __init__(self, model: Any, device: Any, depth: int) -> None:
        from transformers import DynamicCache

        self.model, self.device, self.depth = model, device, depth
        self.ids = interface.prompt(depth + 1, model.config.vocab_size)
        self.cache = DynamicCache(config=model.config)
        self.tokens: list[int] = []
        before = interface.chunks(self.ids[:-1])
        if before:
            import torch

            fill(model, [torch.tensor([chunk], device=device) for chunk in before], self.cache)

    def _step(self, token: int) -> int:
        import torch

        ids = torch.tensor([[token]], device=self.device)
        logits = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True).logits
        return int(logits[0, -1].argmax())

    def prepare(self) -> None:
        """The cache as it was, and the first token."""
        grown = self.cache.get_seq_length() - self.depth
        if grown > 0:
            self.cache.crop(-grown)
        self.tokens = [self._step(self.ids[-1])]
        synchronize(self.device)

    def run(self) -> None:
        """`DECODE_TOKENS` steps."""
        for _ in range(workloads.DECODE_TOKENS):
            self.tokens.append(self._step(self.tokens[-1]))

    def facts(self) -> dict[str, Any]:
        """Of one run."""
        self.prepare()
        self.run()
        return {
            "prompt": interface.digest_of_ids(self.ids),
            "prompt_tokens": len(self.ids),
            "steps": workloads.DECODE_TOKENS,
            "logits_rows": 1,
            "sampling": "argmax",
            "read_by_host": "every token",
            "tokens": list(self.tokens),
        }
