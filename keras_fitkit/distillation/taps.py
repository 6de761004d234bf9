"""Outputs of inner layers, taken down while a model runs: no second forward.

For the time of one call the layers asked for get a `call` (or an `activation`) of their
own that passes everything on and notes the result. It works for layers at any depth and
for models of any kind. Notes are kept for each thread, because the replicas of a
MirroredStrategy run a step at the same time; what is put on a layer is counted, and the
last one takes it off.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_fitkit._core import _private, arguments

CALL, ACTIVATION = "call", "activation"
Point = tuple[Any, str]  # a layer, and which of the two is noted
_LOCK = threading.Lock()
_LOCAL = threading.local()
_AT_WORK: dict[tuple[int, str], list[Any]] = {}  # [how many, what was there before]


class Notes:
    """What was seen in one call of a model."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], list[Any]] = {}

    def add(self, layer: Any, kind: str, given: Any, result: Any) -> None:
        """Notes what a layer (or its activation) was given and what it gave."""
        self._seen.setdefault((id(layer), kind), []).append((given, result))

    def result(self, layer: Any, kind: str = CALL) -> Any:
        """What it gave.

        Raises:
            ValueError: it was not called, or several times.
        """
        found = self._seen.get((id(layer), kind), [])
        if len(found) != 1:
            allowed = "a layer that the model calls once in a forward pass"
            received = f"{layer.name}, called {len(found)} times"
            raise ValueError(arguments.message("layer", allowed, received))
        return found[0][1]

    def given(self, layer: Any, kind: str) -> Any | None:
        """What it was given; None where it was not called once."""
        found = self._seen.get((id(layer), kind), [])
        return found[0][0] if len(found) == 1 else None


@contextlib.contextmanager
def noted(points: Iterable[Point]) -> Iterator[Notes]:
    """Notes what happens at some points while the block runs in this thread."""
    points = list(points)
    notes = Notes()
    stack = _stack()
    for layer, kind in points:
        _put_on(layer, kind)
    stack.append(notes)
    try:
        yield notes
    finally:
        stack.remove(notes)
        for layer, kind in points:
            _take_off(layer, kind)


def named_layers(model: Any) -> dict[str, Any]:
    """Every layer below a model, containers included, by its path.

    Siblings of one name get `_1`, `_2`, ... as in `leaf_layers`.
    """
    found: dict[str, Any] = {}
    seen = {id(model)}

    def walk(parent: Any, prefix: str) -> None:
        for layer in _private.sublayers(parent):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            path, count = prefix + layer.name, 0
            while path in found:
                count += 1
                path = f"{prefix}{layer.name}_{count}"
            found[path] = layer
            walk(layer, f"{path}/")

    walk(model, "")
    return found


def find_layer(name: str, model: Any, path: str) -> Any:
    """The layer at a path.

    Raises:
        ValueError: there is none; near paths are suggested.
    """
    known = named_layers(model)
    if path in known:
        _refuse_loop(name, known, path)
        return known[path]
    ends = [other for other in known if other.rpartition("/")[2] == path]
    ends = list(dict.fromkeys(_around(known, end) for end in ends))
    hint = arguments.near(path, known)
    if ends:
        hint = f"Did you mean {' or '.join(repr(end) for end in ends[:3])}?"
    allowed = f"the path of a layer of {model.name!r}"
    raise ValueError(arguments.message(name, allowed, path, hint))


def _around(known: dict[str, Any], path: str) -> str:
    """The wrapper of a layer, whose output is that of both: `quantize_model` has them.

    What a wrapper calls may have no activation.
    """
    parent = path.rpartition("/")[0]
    if isinstance(known.get(parent), keras.layers.Wrapper):
        return _around(known, parent)
    return path


def _refuse_loop(name: str, known: dict[str, Any], path: str) -> None:
    """Raises for a part of a recurrent layer, which runs in the loop over the steps."""
    for parent, layer in known.items():
        if isinstance(layer, keras.layers.RNN) and path.startswith(f"{parent}/"):
            allowed = "the path of a layer that is called once in a forward pass"
            hint = f"A cell runs once for each step of time: take {parent!r}."
            raise ValueError(arguments.message(name, allowed, path, hint))


def _stack() -> list[Notes]:
    if not hasattr(_LOCAL, "stack"):
        _LOCAL.stack = []
    found: list[Notes] = _LOCAL.stack
    return found


def _put_on(layer: Any, kind: str) -> None:
    with _LOCK:
        state = _AT_WORK.get((id(layer), kind))
        if state is not None:
            state[0] += 1
            return
        name = _method(layer, kind)
        own = name in vars(layer)  # `call` is the class's, `activation` the layer's
        inner = getattr(layer, name)
        _AT_WORK[id(layer), kind] = [1, inner if own else None]
        setattr(layer, name, _noting(layer, kind, inner))


def _take_off(layer: Any, kind: str) -> None:
    with _LOCK:
        state = _AT_WORK[id(layer), kind]
        state[0] -= 1
        if state[0]:
            return
        del _AT_WORK[id(layer), kind]
        name = _method(layer, kind)
        if state[1] is None:
            delattr(layer, name)
        else:
            setattr(layer, name, state[1])


def _method(layer: Any, kind: str) -> str:
    """What Keras calls: after `layer.quantize(...)` it is another one."""
    policy = keras.dtype_policies.QuantizedDTypePolicy
    quantized = kind == CALL and isinstance(layer.dtype_policy, policy)
    return "quantized_call" if quantized else kind


def _noting(layer: Any, kind: str, inner: Any) -> Any:
    @functools.wraps(inner)  # some read the name of an activation
    def noting(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        given = args[0] if args else next(iter(kwargs.values()), None)
        if kind == CALL and any(one is not None for one in _masks(args, kwargs)):
            given = None  # not all that made the result: a softmax with a mask
        for notes in _stack()[-1:]:
            notes.add(layer, kind, given, result)
        return result

    return noting


def _masks(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return (kwargs.get("mask"), *args[1:2])
