"""llama.cpp through `llama-cpp-python`'s functions of its C interface, as llama-bench uses it."""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_velocity.frameworks import ggml, gguf_file, interface
from mlx_velocity.frameworks.on_mlx import float_spec
from mlx_velocity.probe import models, shapes, workloads

CONTEXT_STEP = 256
"""The context is a multiple of this: some attention kernels want whole blocks."""


class LlamaCpp:
    """llama.cpp on the CPU, or with all layers on a GPU."""

    def __init__(self, kind: str, threads: int) -> None:
        import llama_cpp

        self.kind, self.threads = kind, threads
        self._keep = _silence()
        llama_cpp.llama_backend_init()
        if kind == "gpu" and not llama_cpp.llama_supports_gpu_offload():
            raise NotImplementedError("this build of llama.cpp has no GPU backend")
        self.device = ggml.device(kind)
        self.model: Any = None
        self.spec = ""

    def about(self) -> dict[str, Any]:
        """What is measured, with the instructions that llama.cpp was built for."""
        import llama_cpp

        built = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
        return {
            "version": f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}",
            "device": ggml.description(self.device),
            "kind": self.kind,
            "threads": self.threads,
            "build": " ".join(built.split()),
        }

    def load(self, spec: str, folder: str) -> dict[str, Any]:
        """The GGUF in `folder`, read back for its digest by another way than llama.cpp's own."""
        import llama_cpp

        path = Path(folder) / "model.gguf"
        self.close()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = -1 if self.kind == "gpu" else 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise RuntimeError("llama.cpp could not load the GGUF")
        self.spec = spec
        base, dtype = shapes.base_dtype(spec), shapes.split(spec)[1]
        config = models.config(float_spec(spec))
        count, size, types = gguf_file.weights_of(path)
        quantized = dtype in shapes.BITS
        return {
            "digest": None if quantized else interface.digest_of_weights(gguf_file.read(path, config)),
            "weights": count,
            "bytes": size,
            # ggml keeps activations in float32 whatever the weights are.
            "dtypes": {"weights": types if quantized else dtype, "activations": "float32", "kv_cache": base},
        }

    def operator(
        self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str
    ) -> ggml.GgmlOperator:
        """One operator of ggml."""
        return ggml.GgmlOperator(name, given, size, dtype, self.kind, self.threads)

    def prefill(self, tokens: int) -> LlamaCppPrefill:
        """A prompt through the loaded model."""
        return LlamaCppPrefill(self, tokens)

    def decode(self, depth: int) -> LlamaCppDecode:
        """Greedy generation behind `depth` tokens."""
        return LlamaCppDecode(self, depth)

    def vocabulary(self) -> int:
        """How many token ids the model knows."""
        return int(models.config(float_spec(self.spec))["vocab_size"])

    def context(self, tokens: int) -> Any:
        """A context with room for `tokens` tokens and a cache of the model's type."""
        import llama_cpp

        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = -(-tokens // CONTEXT_STEP) * CONTEXT_STEP
        parameters.n_batch = parameters.n_ubatch = interface.CHUNK
        parameters.n_threads = parameters.n_threads_batch = self.threads
        narrow = shapes.base_dtype(self.spec) == "bfloat16"
        parameters.type_k = parameters.type_v = ggml.TYPES["BF16" if narrow else "F32"]
        if not narrow:
            # The fused kernel gets a float32 cache rounded to float16: logits are 1e-3 off.
            parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.no_perf = True
        made = llama_cpp.llama_init_from_model(self.model, parameters)
        if not made:
            raise RuntimeError("llama.cpp could not make a context with a cache of the model's type")
        return made

    def close(self) -> None:
        """Let go of the model."""
        import llama_cpp

        if self.model:
            llama_cpp.llama_model_free(self.model)
            self.model = None


def _silence() -> Any:
    """Stop llama.cpp's log; what is returned must be kept as long as the library lives."""
    import llama_cpp

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def nothing(_level: int, _text: bytes, _data: Any) -> None: ...

    llama_cpp.llama_log_set(nothing, ctypes.c_void_p(0))
    return nothing


class _Stage:
    """A context of its own, and tokens through it."""

    def __init__(self, framework: LlamaCpp, room: int) -> None:
        import llama_cpp

        self.context = framework.context(room)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocabulary = framework.vocabulary()
        self.batch = llama_cpp.llama_batch_init(interface.CHUNK, 0, 1)

    def __del__(self) -> None:
        import llama_cpp

        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def feed(self, ids: Sequence[int], position: int, rows: int) -> None:
        """Queue tokens from `position` on; logits are computed of the last `rows` of them."""
        import llama_cpp

        batch = self.batch
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = position + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index >= len(ids) - rows
        status = llama_cpp.llama_decode(self.context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode failed: status {status}")

    def logits(self, row: int = -1) -> Any:
        """One row of logits as a numpy array; waits for it."""
        import llama_cpp
        import numpy as np

        pointer = llama_cpp.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))


class LlamaCppPrefill(_Stage):
    """A prompt in chunks into an empty cache; the logits of the whole last chunk are computed."""

    def __init__(self, framework: LlamaCpp, tokens: int) -> None:
        super().__init__(framework, tokens)
        self.ids = interface.prompt(tokens, self.vocabulary)
        self.chunks = interface.chunks(self.ids)

    def prepare(self) -> None:
        """An empty cache."""
        import llama_cpp

        llama_cpp.llama_memory_clear(self.memory, True)
        llama_cpp.llama_synchronize(self.context)

    def run(self) -> None:
        """One prefill."""
        import llama_cpp

        position = 0
        for chunk in self.chunks:
            self.feed(chunk, position, len(chunk) if chunk is self.chunks[-1] else 0)
            position += len(chunk)
        llama_cpp.llama_synchronize(self.context)

    def facts(self) -> dict[str, Any]:
        """Of one run."""
        self.prepare()
        self.run()
        return {
            "prompt": interface.digest_of_ids(self.ids),
            "prompt_tokens": len(self.ids),
            "chunk": max(map(len, self.chunks)),
            # The row before the first one must not exist: so many were computed.
            "logits_rows": sum(1 for row in range(len(self.chunks[-1])) if self._has(row)),
            "logits": interface.spread(self.logits()),
        }

    def _has(self, row: int) -> bool:
        import llama_cpp

        return bool(llama_cpp.llama_get_logits_ith(self.context, row))


class LlamaCppDecode(_Stage):
    """`DECODE_TOKENS` greedy steps behind a filled cache."""

    def __init__(self, framework: LlamaCpp, depth: int) -> None:
        super().__init__(framework, depth + 1 + workloads.DECODE_TOKENS)
        self.depth = depth
        self.ids = interface.prompt(depth + 1, self.vocabulary)
        self.tokens: list[int] = []
        position = 0
        for chunk in interface.chunks(self.ids[:-1]):
            self.feed(chunk, position, 0)
            position += len(chunk)

    def _step(self, token: int) -> int:
        self.feed([token], self.depth + len(self.tokens), 1)
        return int(self.logits().argmax())

    def prepare(self) -> None:
        """The cache as it was, and the first token."""
        import llama_cpp

        llama_cpp.llama_memory_seq_rm(self.memory, 0, self.depth, -1)
        self.tokens = []
        self.tokens = [self._step(self.ids[-1])]

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
