"""Time the parts of a model apart: each part's output is computed before the next one begins.

Calls are taken where Python looks them up: `__call__` of the classes of the model's modules, functions
that the model's own Python files hold by name, the cache's update. Nothing of the model is changed
and nothing is copied from mlx_lm; `watch` puts everything back.

What a part is given is computed before its time begins, and what it returns before it ends. A part
inside of another one is taken off that one: what is left is its *self* time, and the self times of
all parts add up to the whole, exactly.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mlx_velocity.probe import compat, kinds

WHOLE = "other"
"""Name and kind of what is in no part."""


@dataclass
class Part:
    """What one repetition took in one part of the model."""

    name: str
    """Its path in the model: `model.layers.3.self_attn.q_proj`; functions stand below their caller."""
    kind: str
    layer: int | None
    self_s: list[float] = field(default_factory=list)
    """Of each call, in seconds, without the parts inside of it."""
    total_s: float = 0.0
    """Of all calls together, parts inside of it included."""


@dataclass
class _Frame:
    """A part that is under way."""

    name: str
    kind: str
    layer: int | None = None
    owner: int = 0
    """The identity of the module; 0 of anything else."""
    function: bool = False
    inside_s: float = 0.0
    """Seconds of the parts inside of it so far."""


class Recorder:
    """Takes the times of what runs inside `whole`; elsewhere a part costs a look-up more than usual."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._stack: list[_Frame] = []
        self._places: dict[int, kinds.Place] = {}
        self._discarded = 0
        self._logits_wanted = True
        self._muted = False

    def know(self, model: Any) -> None:
        """The modules that are parts of `model`."""
        self._places = kinds.places(model)

    def whole(self, body: Callable[[], None], discarded: int = 0) -> tuple[float, list[Part]]:
        """Seconds of a body, and its parts, whose self times add up to them.

        Of the first `discarded` calls of the model nobody wants the logits: what they alone need is not
        computed, as it would not be in the unprofiled run.
        """
        self._parts, self._discarded = {}, discarded
        with self.part(WHOLE, WHOLE):
            body()
        return self._parts[WHOLE].total_s, list(self._parts.values())

    @contextmanager
    def part(self, name: str, kind: str) -> Iterator[None]:
        """Take the time of what is inside, which computes all of it before its end."""
        with self._frame(_Frame(name, kind)):
            yield

    @contextmanager
    def _frame(self, frame: _Frame) -> Iterator[None]:
        self._stack.append(frame)
        start = time.perf_counter()
        try:
            yield
        finally:
            total_s = time.perf_counter() - start
            self._stack.pop()
            if self._stack:
                self._stack[-1].inside_s += total_s
            part = self._parts.setdefault(frame.name, Part(frame.name, frame.kind, frame.layer))
            part.self_s.append(total_s - frame.inside_s)
            part.total_s += total_s

    def module(self, call: Callable[..., Any], method: str) -> Callable[..., Any]:
        """A class's `method` that is timed for the modules that are known."""

        def timed(module: Any, *args: Any, **kwargs: Any) -> Any:
            place = self._places.get(id(module))
            # A class that hands on to the one it inherits from is the same module once more.
            if place is None or self._asleep or self._stack[-1].owner == id(module):
                return call(module, *args, **kwargs)
            if place.tail and not self._logits_wanted:
                return self._muted_call(call, module, args, kwargs)
            frame = self._frame_of(place, method, id(module))
            if place.name != kinds.ROOT:
                return self._timed(call, (module, *args), kwargs, frame, computed=not self._lazy(place))
            self._logits_wanted = self._discarded <= 0
            self._discarded -= 1
            try:
                return self._timed(call, (module, *args), kwargs, frame, computed=self._logits_wanted)
            finally:
                self._logits_wanted = True

        return timed

    def function(self, call: Callable[..., Any], label: str, pending: bool = False) -> Callable[..., Any]:
        """A function that is timed as a part of whatever calls it.

        It is not split off from another function, nor from a part that is of its own kind. With `pending`, what is still to be computed of its arguments counts as its own.
        """

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._asleep or self._stack[-1].function:
                return call(*args, **kwargs)
            caller = self._stack[-1]
            name = f"{caller.name}.{label}" if caller.layer is not None else label
            kind = kinds.of_function(label, caller.kind)
            if kind == caller.kind:
                return call(*args, **kwargs)
            frame = _Frame(name, kind, caller.layer, function=True)
            return self._timed(call, args, kwargs, frame, pending=pending)

        return timed

    @property
    def _asleep(self) -> bool:
        return self._muted or not self._stack

    def _lazy(self, place: kinds.Place) -> bool:
        return place.outer and not self._logits_wanted

    def _muted_call(self, call: Callable[..., Any], module: Any, args: Any, kwargs: Any) -> Any:
        self._muted = True
        try:
            return call(module, *args, **kwargs)
        finally:
            self._muted = False

    def _frame_of(self, place: kinds.Place, method: str, owner: int) -> _Frame:
        caller = self._stack[-1]
        if method != "__call__":
            return _Frame(f"{place.name}.{method}", kinds.of_method(method), place.layer, owner)
        if caller.layer is None or place.name.startswith(f"{caller.name}."):
            return _Frame(place.name, place.kind, place.layer, owner)
        # One module in several places, such as an activation that all layers share.
        return _Frame(f"{caller.name}.{place.name.rpartition('.')[2]}", place.kind, caller.layer, owner)

    def _timed(
        self,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
        frame: _Frame,
        *,
        computed: bool = True,
        pending: bool = False,
    ) -> Any:
        # What was left lazy before belongs to whoever left it.
        if not pending and not compute((args, kwargs)):
            return call(*args, **kwargs)
        with self._frame(frame):
            result = call(*args, **kwargs)
            if computed:
                compute(result)
        return result


def compute(tree: Any) -> bool:
    """Compute the arrays in a tree; False where a transformation is being traced and there is nothing to compute."""
    import mlx.core as mx

    arrays = [tree] if isinstance(tree, mx.array) else list(_arrays(tree, mx.array))
    if not arrays:
        return True
    try:
        mx.eval(arrays)
    except (ValueError, RuntimeError) as error:
        if "transformation" in str(error) or "compile" in str(error):
            return False
        raise
    return True


def _arrays(tree: Any, kind: type) -> Iterator[Any]:
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _arrays(item, kind)
    elif type(tree) is dict:
        for item in tree.values():
            yield from _arrays(item, kind)


@contextmanager
def watch(model: Any, recorder: Recorder, caches: Iterable[Any] = ()) -> Iterator[None]:
    """Let `recorder` see the calls of the parts of `model` and the updates of `caches`, until the end."""
    recorder.know(model)
    undo: list[Callable[[], None]] = []
    try:
        for owner, name, replacement in _replacements(model, recorder, caches):
            undo.append(_replaced(owner, name, replacement))
        yield
    finally:
        for back in reversed(undo):
            back()


def _replaced(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    """Set an attribute; returns what puts the old one back, or takes it away where it was inherited."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, replacement)
    return lambda: setattr(owner, name, before) if own else delattr(owner, name)


def _replacements(model: Any, recorder: Recorder, caches: Iterable[Any]) -> list[tuple[Any, str, Any]]:
    """Every (owner, attribute, value that is timed)."""
    import mlx.core as mx
    import mlx.nn as nn

    found: list[tuple[Any, str, Any]] = []
    classes = dict.fromkeys(type(module) for _, module in model.named_modules())
    for cls in classes:
        found += [
            (cls, method, recorder.module(getattr(cls, method), method))
            for method in ("__call__", *kinds.METHODS)
            if callable(getattr(cls, method, None))
        ]
    for cls in dict.fromkeys(type(cache) for cache in _flat(caches)):
        if update := getattr(cls, kinds.CACHE_UPDATE, None):
            found.append((cls, kinds.CACHE_UPDATE, recorder.function(update, kinds.CACHE_UPDATE)))
    for file in dict.fromkeys(sys.modules[cls.__module__] for cls in classes):
        if file.__name__.startswith("mlx_lm."):
            held = [(name, value) for name, value in vars(file).items() if _is_function_of_mlx(value)]
            found += [(file, name, recorder.function(value, name)) for name, value in held]
    # Where models of some versions call these themselves.
    found += [
        (nn, name, recorder.function(getattr(nn, name), name))
        for name in kinds.ACTIVATIONS
        if hasattr(nn, name)
    ]
    fast = kinds.FAST_ATTENTION
    found.append((mx.fast, fast, recorder.function(getattr(mx.fast, fast), fast)))
    found.append((nn.losses, kinds.LOSS, recorder.function(nn.losses.cross_entropy, kinds.LOSS, True)))
    found.append((compat, "greedy", recorder.function(compat.greedy, kinds.SAMPLING, True)))
    return found


def _flat(caches: Iterable[Any]) -> Iterator[Any]:
    for cache in caches:
        yield cache
        yield from _flat(getattr(cache, "caches", ()))


def _is_function_of_mlx(value: Any) -> bool:
    """Whether it is a function of mlx or mlx_lm, compiled ones included."""
    if isinstance(value, type) or inspect.ismodule(value):
        return False
    if inspect.isfunction(value):
        return str(value.__module__).startswith("mlx")
    return callable(value) and type(value).__module__.startswith("mlx.core")
