"""MLX, by the probe's own workloads; it also writes the weights that the others load."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_velocity.frameworks import gguf_file, interface, operators
from mlx_velocity.probe import compat, folder, models, shapes, workloads


def float_spec(spec: str) -> str:
    """The spec of the unquantized model that a quantized one is made of; any other is its own."""
    return f"{shapes.split(spec)[0]}-{shapes.base_dtype(spec)}"


def write(spec: str, path: str, gguf: bool) -> None:
    """Write the weights of `spec` before quantization as safetensors, and as a GGUF of its own type.

    Raises what `models.build` and `gguf_file.write` raise.
    """
    import mlx.core as mx
    import numpy as np

    # Never kept: this is the measured process, and the model would stay beside the measured one.
    folder.write(float_spec(spec), Path(path))
    compat.clear_cache()
    if not gguf:
        return
    lazy: dict[str, Any] = dict(mx.load(str(Path(path) / "model.safetensors")))  # type: ignore[arg-type]

    def values(name: str) -> Any:
        # Read from the file now, and let go of afterwards.
        return np.array(lazy.pop(name).astype(mx.float32))

    arrays = {name: (tuple(lazy[name].shape), functools.partial(values, name)) for name in lazy}
    kind = shapes.split(spec)[1]
    gguf_file.write(Path(path) / "model.gguf", models.config(float_spec(spec)), arrays, kind)


class Mlx:
    """MLX on its CPU or GPU device."""

    def __init__(self, kind: str, threads: int) -> None:
        import mlx.core as mx

        if kind != "auto":
            mx.set_default_device(mx.gpu if kind == "gpu" else mx.cpu)
        self.kind = "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu"
        self.spec = ""

    def about(self) -> dict[str, Any]:
        """What is measured; on a CPU, MLX computes in one thread and builds graphs in another."""
        import mlx.core as mx

        info = compat.device_info() if self.kind == "gpu" else {}
        return {
            "version": ", ".join(
                f"{name.replace('_', '-')} {version}" for name, version in compat.versions().items()
            ),
            "device": str(info.get("device_name") or mx.default_device()),
            "kind": self.kind,
            "threads": 1,
            "build": "one thread computes, the caller's thread builds graphs",
        }

    def load(self, spec: str, folder: str) -> dict[str, Any]:
        """The probe's model of `spec`; its files are what `write` made of the same values."""
        import mlx.core as mx
        import numpy as np
        from mlx.utils import tree_flatten

        model = models.get(spec)
        self.spec = spec
        parameters = dict(tree_flatten(model.parameters()))
        count = 0
        for module in model.modules():
            for kind, array in module.parameters().items():
                if not isinstance(array, mx.array):
                    continue
                packed = hasattr(module, "bits") and kind == "weight"
                if not (hasattr(module, "bits") and kind in ("scales", "biases")):
                    count += array.size * 32 // module.bits if packed else array.size
        quantized = shapes.split(spec)[1] in shapes.BITS
        arrays = ((name, np.array(parameters[name].astype(mx.float32))) for name in sorted(parameters))
        return {
            "digest": None if quantized else interface.digest_of_weights(arrays),
            "weights": count,
            "bytes": sum(array.nbytes for array in parameters.values()),
            "dtypes": {
                "weights": f"{shapes.split(spec)[1]} in groups of {shapes.GROUP_SIZE}" if quantized else shapes.base_dtype(spec),
                "activations": shapes.base_dtype(spec),
                "kv_cache": shapes.base_dtype(spec),
            },
        }  # fmt: skip

    def operator(self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str) -> MlxOperator:
        """One operator of `mlx.core`."""
        return MlxOperator(name, given, size, dtype)

    def prefill(self, tokens: int) -> MlxPrefill:
        """The probe's prefill."""
        return MlxPrefill(self.spec, tokens)

    def decode(self, depth: int) -> MlxDecode:
        """The probe's decode."""
        return MlxDecode(self.spec, depth)


class MlxOperator:
    """One operator: `count` independent results in one evaluation."""

    def __init__(self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str) -> None:
        import mlx.core as mx

        kind = getattr(mx, dtype)
        arrays = {key: mx.array(value) for key, value in given.items()}
        self.arrays = {key: array if key == "ids" else array.astype(kind) for key, array in arrays.items()}
        mx.eval(list(self.arrays.values()))
        self.dtypes = {"weights": dtype, "activations": dtype}
        self._function = self._of(name, size)

    def _of(self, name: str, size: dict[str, float]) -> Callable[[], Any]:
        import mlx.core as mx

        a = self.arrays
        if name in operators.BITS:
            bits, group = operators.BITS[name], shapes.GROUP_SIZE
            if a["w"].shape[-1] % group:
                raise NotImplementedError(
                    f"rows of {a['w'].shape[-1]} weights are no whole groups of {group}"
                )
            packed = mx.quantize(a.pop("w"), group_size=group, bits=bits)
            mx.eval(packed)
            self.dtypes["weights"] = f"{bits}bit in groups of {group}"
            self.bits = sum(part.nbytes for part in packed) * 8 / (packed[0].size * 32 // bits)
            return lambda: mx.quantized_matmul(a["x"], *packed, transpose=True, group_size=group, bits=bits)
        functions: dict[str, Callable[[], Any]] = {
            "matmul": lambda: a["x"] @ a["w"].T,
            "matvec": lambda: a["x"] @ a["w"].T,
            "softmax": lambda: mx.softmax(a["x"], axis=-1),
            "layer_norm": lambda: mx.fast.layer_norm(a["x"], a["weight"], a["bias"], operators.EPS),
            "rms_norm": lambda: mx.fast.rms_norm(a["x"], a["weight"], operators.EPS),
            "rope": lambda: mx.fast.rope(
                a["x"][None], int(size["D"]), traditional=False, base=size["theta"], scale=1.0, offset=0
            )[0],
            "attention": lambda: mx.fast.scaled_dot_product_attention(
                a["q"][None], a["k"][None], a["v"][None], scale=1 / math.sqrt(size["D"]), mask="causal"
            )[0],
            "embedding": lambda: a["w"][a["ids"]],
        }
        return functions[name]

    def call(self, count: int) -> None:
        """`count` results, evaluated together."""
        import mlx.core as mx

        mx.eval([self._function() for _ in range(count)])

    def result(self) -> Any:
        """One result."""
        import mlx.core as mx
        import numpy as np

        return np.array(self._function().astype(mx.float32))


class MlxPrefill(workloads.Prefill):
    """The probe's prefill, and what it gave."""

    def facts(self) -> dict[str, Any]:
        """Of one run."""
        import mlx.core as mx
        import numpy as np

        self.prepare()
        self.run()
        ids = [token for chunk in self.chunks for token in np.array(chunk[0]).tolist()]
        return {
            "prompt": interface.digest_of_ids(ids),
            "prompt_tokens": len(ids),
            "chunk": max(chunk.shape[1] for chunk in self.chunks),
            "logits_rows": int(self.logits.shape[0]),
            "logits": interface.spread(np.array(self.logits[-1].astype(mx.float32))),
        }


class MlxDecode(workloads.Decode):
    """The probe's decode, and its tokens."""

    def facts(self) -> dict[str, Any]:
        """Of one run."""
        self.prepare()
        tokens = [self.first]
        tokens += [compat.token_of(next(self.steps)) for _ in range(workloads.DECODE_TOKENS)]
        compat.synchronize()
        return {
            "prompt": interface.digest_of_ids(self.ids),
            "prompt_tokens": len(self.ids),
            "steps": workloads.DECODE_TOKENS,
            "logits_rows": 1,
            "sampling": "argmax",
            "read_by_host": "every token",
            "tokens": tokens,
        }
