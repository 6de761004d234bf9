"""Which layers and operations one forward pass calls, and with which shapes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class TracedCall:
    """One call of a layer or of an operation.

    Attributes:
        operation: what was called.
        arguments: the shapes of the tensors given, by the name of the argument; what is
            no tensor is there as it is.
        output: the shapes that came out, in their structure.
        depth: 0 for what is called first, 1 for what that calls, and so on.
    """

    operation: Any
    arguments: Mapping[str, Any]
    output: Any
    depth: int

    @property
    def inputs(self) -> list[tuple[int, ...]]:
        """All shapes that were given, flat."""
        found = keras.tree.flatten(list(self.arguments.values()))
        return [one.sizes for one in found if isinstance(one, Shape)]

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        """All shapes that came out, flat."""
        found = keras.tree.flatten(self.output)
        return [one.sizes for one in found if isinstance(one, Shape)]


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a tensor, as a leaf of a structure."""

    sizes: tuple[int, ...]


def trace(model: Any, inputs: Any) -> list[TracedCall]:
    """The calls of one forward pass in inference mode, outer ones before inner ones.

    Nothing is computed and nothing is added to the model: the backend infers shapes.

    Args:
        model: a built model or layer.
        inputs: a `keras.KerasTensor` for each input, without unknown sizes, in the
            structure that the model takes.
    """
    found: list[TracedCall] = []
    failed: list[Exception] = []

    class Probe(keras.Operation):
        """Computes the shapes of what a model gives, with public API alone."""

        def call(self, given: Any) -> Any:
            found.clear()  # some backends infer twice
            try:
                with _recording(found):
                    return model(given, training=False)
            except Exception as error:
                failed.append(error)
                raise

    try:
        Probe().compute_output_spec(inputs)
    except Exception as error:
        # Keras's own text speaks of the probe.
        raise (failed[-1] if failed else error) from None
    return found


@contextlib.contextmanager
def _recording(found: list[TracedCall]) -> Iterator[None]:
    """Notes every call of an operation in this thread.

    `keras.Operation.__call__` is where layers and operations of a graph all come
    through; Keras has no hook there. It is put back when the block ends.
    """
    original = keras.Operation.__call__
    thread, depth = threading.get_ident(), 0

    @functools.wraps(original)
    def recorded(operation: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if threading.get_ident() != thread:
            return original(operation, *args, **kwargs)
        place = len(found)
        depth += 1
        try:
            output = original(operation, *args, **kwargs)
        finally:
            depth -= 1
        given = _bound(operation.call, args, kwargs)
        call = TracedCall(operation, given, _shapes(output), depth)
        found.insert(place, call)
        return output

    keras.Operation.__call__ = recorded
    try:
        yield
    finally:
        keras.Operation.__call__ = original


def _bound(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{str(number): one for number, one in enumerate(args)}, **kwargs}
    return {name: _shapes(value) for name, value in bound.items()}


def _shapes(structure: Any) -> Any:
    return keras.tree.map_structure(_shape, structure)


def _shape(leaf: Any) -> Any:
    shape = getattr(leaf, "shape", None)
    return leaf if shape is None else Shape(tuple(shape))
