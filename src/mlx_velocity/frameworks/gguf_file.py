"""A model's weights as a GGUF that llama.cpp loads: names, types and the order of rotary rows are its own.

Names come from the `gguf` package's own table. llama.cpp rotates neighbours in the `llama` architecture where
the published weights rotate halves, so the rows of the query and key projections are put in another order
(the Qwen architectures keep theirs).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAMES_KEY = "mlx_velocity.names"
"""Metadata of ours: the name that each tensor has in the safetensors, in the order of the tensors."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Model types whose names, permutation and metadata are known here."""
TYPES = {"float32": "F32", "bfloat16": "BF16", "8bit": "Q8_0", "4bit": "Q4_0"}
"""The GGUF type of matrices, by the second half of a spec; vectors are always float32."""
BLOCK = 32
"""Weights that share a scale in Q8_0 and Q4_0."""


def write(
    path: Path,
    config: dict[str, Any],
    arrays: Mapping[str, tuple[tuple[int, ...], Callable[[], Any]]],
    kind: str,
) -> None:
    """Write a GGUF of a model whose `config.json` is `config`.

    `arrays` gives, by name, the shape and a function that makes the float32 array; one is alive at a time.
    `kind` is a key of TYPES. NotImplementedError for a model type that is not in ARCHITECTURES.
    """
    import gguf
    import numpy as np

    if config["model_type"] not in ARCHITECTURES:
        raise NotImplementedError(f"no GGUF is written of the model type {config['model_type']}")
    architecture = gguf.MODEL_ARCH[config["model_type"].upper()]
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    _metadata(writer, config, kind, list(arrays))
    makers: list[Callable[[], Any]] = []

    def announce(name: str, shape: tuple[int, ...], wanted: Any, make: Callable[[], Any]) -> None:
        block, block_bytes = gguf.GGML_QUANT_SIZES[wanted]
        size = math.prod(shape) // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, wanted)
        makers.append(lambda: gguf.quantize(make(), wanted))

    for name, (shape, make) in arrays.items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise NotImplementedError(f"{name} has no name in a GGUF of {config['model_type']}")
        wanted = gguf.GGMLQuantizationType[_type(shape, kind)]
        announce(known, shape, wanted, functools.partial(_rows, name, make, config))
    factors = rope_factors(config)
    if factors is not None:
        announce("rope_freqs.weight", factors.shape, gguf.GGMLQuantizationType.F32, lambda: factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for make_stored in makers:
        writer.write_tensor_data(make_stored())
    writer.close()


def _rows(name: str, make: Callable[[], Any], config: dict[str, Any]) -> Any:
    return permuted(name, make(), config)


def read(path: Path, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The float32 arrays of a GGUF of ours by their first names, sorted; rows in their first order."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(path)
    names = reader.fields[NAMES_KEY].contents()
    tensors = dict(zip(names, reader.tensors, strict=False))
    for name in sorted(names):
        tensor = tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        array = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        yield name, np.ascontiguousarray(permuted(name, array, config, back=True), dtype=np.float32)


def weights_of(path: Path) -> tuple[int, int, str]:
    """How many weights a GGUF holds, in how many bytes, and the types of its matrices; angles are no weights."""
    import gguf

    tensors = [tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name != "rope_freqs.weight"]
    types = sorted({tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1})
    return (
        sum(int(tensor.n_elements) for tensor in tensors),
        sum(int(tensor.n_bytes) for tensor in tensors),
        ", ".join(types),
    )


def permuted(name: str, array: Any, config: dict[str, Any], back: bool = False) -> Any:
    """The rows of a rotated projection as neighbours instead of halves, or `back`; others as they are."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None or config["model_type"] != "llama":
        return array
    split = (config[heads], -1, 2) if back else (config[heads], 2, -1)
    return array.reshape(*split, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def rope_factors(config: dict[str, Any]) -> Any:
    """Llama 3's divisors of the rotary frequencies, (D / 2,) in float32; None where there are none.

    Low frequencies are divided by `factor`, high ones stay, and between them it is interpolated: the rule
    published with Llama 3.1 (`rope_type: llama3`).
    """
    import numpy as np

    scaling = config.get("rope_scaling")
    if not scaling:
        return None
    if scaling["rope_type"] != "llama3":
        raise NotImplementedError(f"rope scaling of type {scaling['rope_type']} is not written")
    dims = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    wavelengths = 2 * math.pi * config["rope_theta"] ** (np.arange(0, dims, 2) / dims)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = (scaling["original_max_position_embeddings"] / wavelengths - low) / (high - low)
    smooth = np.clip(smooth, 0, 1)
    return (1 / ((1 - smooth) / scaling["factor"] + smooth)).astype(np.float32)


def _type(shape: tuple[int, ...], kind: str) -> str:
    if len(shape) < 2:
        return "F32"
    if TYPES[kind].startswith("Q") and shape[-1] % BLOCK:
        raise NotImplementedError(f"rows of {shape[-1]} weights are no whole blocks of {BLOCK}")
    return TYPES[kind]


def _metadata(writer: Any, config: dict[str, Any], kind: str, names: list[str]) -> None:
    import gguf

    dims = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    file_types = {"F32": "ALL_F32", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0"}
    writer.add_file_type(gguf.LlamaFileType[file_types[TYPES[kind]]])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(dims)
    writer.add_value_length(dims)
    writer.add_rope_dimension_count(dims)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    # Token ids go in and come out: nothing is ever turned into text.
    writer.add_tokenizer_model("no_vocab")
    writer.add_array(NAMES_KEY, names)
