"""Operators of ggml, llama.cpp's tensor library, out of the libraries that `llama-cpp-python` installs.

That package declares llama.cpp's own functions for Python and leaves ggml's undeclared, so the dozen that
an operator needs are declared here. Sizes are ggml's: the innermost first.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

from mlx_velocity.frameworks import operators

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "I32": 26, "BF16": 30}
"""`enum ggml_type`, fixed since it is stored in files."""
CPU, GPU, INTEGRATED = 0, 1, 2
"""`enum ggml_backend_dev_type`."""
HALVES = 2
"""GGML_ROPE_TYPE_NEOX: halves are rotated against each other."""
QUANTIZED = {8: "Q8_0", 4: "Q4_0"}

_P, _I, _L, _F, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_backend_dev_by_type": (_P, [_I]),
    "ggml_backend_dev_description": (ctypes.c_char_p, [_P]),
    "ggml_backend_dev_init": (_P, [_P, ctypes.c_char_p]),
    "ggml_backend_alloc_ctx_tensors": (_P, [_P, _P]),
    "ggml_backend_buffer_free": (None, [_P]),
    "ggml_backend_tensor_set": (None, [_P, _P, _S, _S]),
    "ggml_backend_tensor_get": (None, [_P, _P, _S, _S]),
    "ggml_backend_graph_compute": (_I, [_P, _P]),
    "ggml_backend_supports_op": (ctypes.c_bool, [_P, _P]),
    "ggml_tensor_overhead": (_S, []),
    "ggml_graph_overhead_custom": (_S, [_S, ctypes.c_bool]),
    "ggml_free": (None, [_P]),
    "ggml_nbytes": (_S, [_P]),
    "ggml_new_tensor_4d": (_P, [_P, _I, _L, _L, _L, _L]),
    "ggml_new_graph_custom": (_P, [_P, _S, ctypes.c_bool]),
    "ggml_build_forward_expand": (None, [_P, _P]),
    "ggml_mul_mat": (_P, [_P, _P, _P]),
    "ggml_soft_max": (_P, [_P, _P]),
    "ggml_norm": (_P, [_P, _P, _F]),
    "ggml_rms_norm": (_P, [_P, _P, _F]),
    "ggml_mul": (_P, [_P, _P, _P]),
    "ggml_add": (_P, [_P, _P, _P]),
    "ggml_rope_ext": (_P, [_P, _P, _P, _P, _I, _I, _I, _F, _F, _F, _F, _F, _F]),
    "ggml_flash_attn_ext": (_P, [_P, _P, _P, _P, _P, _F, _F, _F]),
    "ggml_get_rows": (_P, [_P, _P, _P]),
    "ggml_backend_cpu_set_n_threads": (None, [_P, _I]),
}


class _InitParams(ctypes.Structure):
    _fields_ = [("mem_size", _S), ("mem_buffer", _P), ("no_alloc", ctypes.c_bool)]


@functools.cache
def library() -> dict[str, Callable[..., Any]]:
    """The functions by name; NotImplementedError where this llama.cpp lacks one."""
    from pathlib import Path

    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    files = [path for path in sorted(folder.glob("libggml*")) if path.suffix in (".so", ".dylib")]
    loaded = [ctypes.CDLL(str(path)) for path in files]
    found: dict[str, Callable[..., Any]] = {}
    for name, (returns, takes) in {**_FUNCTIONS, "ggml_init": (_P, [_InitParams])}.items():
        function = next((getattr(item, name) for item in loaded if hasattr(item, name)), None)
        if function is None:
            raise NotImplementedError(f"this llama.cpp has no {name}")
        function.restype, function.argtypes = returns, takes
        found[name] = function
    return found


def device(kind: str) -> Any:
    """ggml's handle of the CPU or of a GPU; NotImplementedError where this build has none."""
    by_type = library()["ggml_backend_dev_by_type"]
    found = by_type(CPU) if kind == "cpu" else by_type(GPU) or by_type(INTEGRATED)
    if not found:
        raise NotImplementedError("this build of llama.cpp has no GPU backend")
    return found


def description(handle: Any) -> str:
    """What a device calls itself."""
    return str(library()["ggml_backend_dev_description"](handle).decode("utf-8", "replace"))


@functools.cache
def backend(kind: str, threads: int) -> Any:
    """What computes, for the life of the process."""
    made = library()["ggml_backend_dev_init"](device(kind), None)
    if kind == "cpu":
        library()["ggml_backend_cpu_set_n_threads"](made, threads)
    return made


class GgmlOperator:
    """One operator as a graph of `count` independent results, computed at once."""

    def __init__(
        self, name: str, given: dict[str, Any], size: dict[str, float], dtype: str, kind: str, threads: int
    ) -> None:
        self.name, self.size = name, size
        self.backend = backend(kind, threads)
        self.dtypes = {"weights": "float32", "activations": "float32"}
        self._contexts: list[Any] = []
        self._buffers: list[Any] = []
        self._graphs: dict[int, tuple[Any, Any]] = {}
        self._inputs = self._fill(self._prepared(given, dtype))

    def __del__(self) -> None:
        for buffer in self._buffers:
            library()["ggml_backend_buffer_free"](buffer)
        for context in self._contexts:
            library()["ggml_free"](context)

    def _prepared(self, given: dict[str, Any], dtype: str) -> dict[str, tuple[str, Any]]:
        """Inputs with the type that ggml gets them in: weights as `dtype` or quantized, all else float32."""
        import numpy as np

        found = {key: ("I32" if key == "ids" else "F32", value) for key, value in given.items()}
        narrow = "BF16" if dtype == "bfloat16" else "F32"
        if "w" in given:
            bits = operators.BITS.get(self.name)
            kind = QUANTIZED[bits] if bits else narrow
            found["w"] = (kind, given["w"])
            self.dtypes["weights"] = kind if bits else dtype
        if self.name == "attention":
            found["k"], found["v"] = (narrow, given["k"]), (narrow, given["v"])
            self.dtypes["weights"] = dtype
            tokens = given["q"].shape[1]
            mask = np.where(np.tri(tokens, dtype=bool), 0, -np.inf).astype(np.float16)
            found["mask"] = ("F16", mask)
        if self.name == "rope":
            found["x"] = ("F32", np.ascontiguousarray(given["x"].transpose(1, 0, 2)))
            found["positions"] = ("I32", np.arange(int(self.size["T"]), dtype=np.int32))
        return found

    def _context(self, tensors: int, graph: int) -> Any:
        f = library()
        room = tensors * f["ggml_tensor_overhead"]()
        room += f["ggml_graph_overhead_custom"](graph, False) if graph else 0
        made = f["ggml_init"](_InitParams(room, None, True))
        self._contexts.append(made)
        return made

    def _allocate(self, context: Any) -> None:
        buffer = library()["ggml_backend_alloc_ctx_tensors"](context, self.backend)
        if not buffer:
            raise MemoryError("ggml could not allocate its tensors")
        self._buffers.append(buffer)

    def _fill(self, prepared: dict[str, tuple[str, Any]]) -> dict[str, Any]:
        import gguf
        import numpy as np

        f, context = library(), self._context(len(prepared), 0)
        made: dict[str, tuple[Any, Any]] = {}
        for key, (kind, array) in prepared.items():
            sizes = [*reversed(array.shape), 1, 1, 1, 1][:4]
            if kind in ("BF16", "Q4_0", "Q8_0"):
                if kind != "BF16" and array.shape[-1] % 32:
                    raise NotImplementedError(f"rows of {array.shape[-1]} weights are no whole blocks of 32")
                values = gguf.quantize(array, gguf.GGMLQuantizationType[kind])
                if kind != "BF16":
                    self.bits = values.nbytes * 8 / array.size
                array = values
            made[key] = f["ggml_new_tensor_4d"](context, TYPES[kind], *sizes), np.ascontiguousarray(array)
        self._allocate(context)
        for tensor, array in made.values():
            f["ggml_backend_tensor_set"](tensor, array.ctypes.data, 0, array.nbytes)
        return {key: tensor for key, (tensor, _) in made.items()}

    def _one(self, context: Any) -> Any:
        """One result as a tensor that is not computed yet."""
        f, a = library(), self._inputs
        if self.name == "softmax":
            return f["ggml_soft_max"](context, a["x"])
        if self.name == "layer_norm":
            scaled = f["ggml_mul"](context, f["ggml_norm"](context, a["x"], operators.EPS), a["weight"])
            return f["ggml_add"](context, scaled, a["bias"])
        if self.name == "rms_norm":
            return f["ggml_mul"](context, f["ggml_rms_norm"](context, a["x"], operators.EPS), a["weight"])
        if self.name == "rope":
            dims, theta = int(self.size["D"]), self.size["theta"]
            return f["ggml_rope_ext"](
                context, a["x"], a["positions"], None, dims, HALVES, 0, theta, 1.0, 0.0, 1.0, 32.0, 1.0
            )
        if self.name == "attention":
            scale = 1 / math.sqrt(self.size["D"])
            return f["ggml_flash_attn_ext"](context, a["q"], a["k"], a["v"], a["mask"], scale, 0.0, 0.0)
        if self.name == "embedding":
            return f["ggml_get_rows"](context, a["w"], a["ids"])
        return f["ggml_mul_mat"](context, a["w"], a["x"])

    def _graph(self, count: int) -> tuple[Any, Any]:
        """A graph of `count` results and the last of them, made once."""
        if count not in self._graphs:
            # Inputs take places in the graph as well.
            f, nodes = library(), 3 * count + len(self._inputs)
            context = self._context(nodes, nodes)
            graph = f["ggml_new_graph_custom"](context, nodes, False)
            for _ in range(count):
                result = self._one(context)
                if not f["ggml_backend_supports_op"](self.backend, result):
                    raise NotImplementedError(f"llama.cpp has no {self.name} of these types on this device")
                f["ggml_build_forward_expand"](graph, result)
            self._allocate(context)
            self._graphs[count] = graph, result
        return self._graphs[count]

    def call(self, count: int) -> None:
        """`count` results in one graph."""
        graph, _ = self._graph(count)
        status = library()["ggml_backend_graph_compute"](self.backend, graph)
        if status != 0:
            raise RuntimeError(f"ggml could not compute {self.name}: status {status}")

    def result(self) -> Any:
        """One result, in the layout of the reference."""
        import numpy as np

        self.call(1)
        _, tensor = self._graph(1)
        array = np.empty(library()["ggml_nbytes"](tensor) // 4, dtype=np.float32)
        library()["ggml_backend_tensor_get"](tensor, array.ctypes.data, 0, array.nbytes)
        s = {key: int(value) for key, value in self.size.items()}
        if self.name in ("rope", "attention"):
            # Both come with the heads of a token beside each other.
            return array.reshape(s["T"], s["N"], s["D"]).transpose(1, 0, 2)
        shape = {"softmax": (s["N"], s["T"], s["T"])}.get(self.name)
        return array.reshape(shape or (-1, s["I"] if "mat" in self.name else s["H"]))
