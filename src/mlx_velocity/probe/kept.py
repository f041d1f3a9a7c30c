"""What one process keeps between samples: one model, one filled prompt cache, one workload.

Slots are named. A slot holds one value at a time, so that two models never share the memory, and a
value that is kept is never changed by a sample.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Any

from mlx_velocity import markers

_slots: dict[str, tuple[Hashable, Any]] = {}


def keep(slot: str, key: Hashable, make: Callable[[], Any]) -> Any:
    """The value of `slot`, made by `make` unless the one that is there was made for the same `key`."""
    held = _slots.get(slot)
    if held is not None and held[0] == key:
        return held[1]
    held = None
    # Let go of the old value first: both may not fit.
    release(slot)
    if slot == "model":
        # Loading counts: from here on its weights fill the memory.
        markers.begin(_name(key), "model")
    try:
        value = make()
    except BaseException:
        if slot == "model":
            markers.end(_name(key), "model")
        raise
    _slots[slot] = (key, value)
    return value


def get(slot: str) -> Any:
    """The value of `slot`; KeyError where it is empty."""
    return _slots[slot][1]


def release(*slots: str) -> None:
    """Empty these slots and return their memory; naming an empty one does nothing.

    A filled prompt cache and gradients belong to the model that made them, and go with it.
    """
    from mlx_velocity.probe import compat

    if "model" in slots:
        slots = (*slots, "prompt cache", "gradients")
    keys = {slot: _slots.pop(slot)[0] for slot in dict.fromkeys(slots) if slot in _slots}
    emptied = list(keys)
    if "model" in emptied:
        # Quantized models of old versions lie in reference cycles. A collection takes 50 ms.
        gc.collect()
    if emptied:
        compat.clear_cache()
    if "model" in emptied:
        markers.end(_name(keys["model"]), "model")


def _name(key: Hashable) -> str:
    """The model of a key: its specification, or what begins with it."""
    return str(key[0]) if isinstance(key, tuple) else str(key)
