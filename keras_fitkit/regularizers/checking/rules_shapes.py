"""Mistakes in what the model is given: not numbers, or of another shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import graph
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.subject import Input, Subject

READING = (keras.layers.TextVectorization, keras.layers.StringLookup)
LISTED = 5


def not_numbers(subject: Subject) -> Iterator[Finding]:
    """Text or Python objects for a model that computes with numbers."""
    layers = [layer for _, layer in leaf_layers(subject.model)]
    kinds = [tensor.dtype for tensor in _inputs(subject)]
    if "string" in kinds or any(
        isinstance(one, (*READING, keras.layers.Hashing)) for one in layers
    ):
        return
    for one in subject.inputs:
        if one.values.dtype.kind in "fiubc":
            continue
        text = f"'{one.name}' holds no plain numbers but {_examples(one)}"
        fix = (
            'x = np.asarray(x, "float32")  # text first as numbers: '
            "keras.layers.StringLookup, pandas.get_dummies"
        )
        evidence = {"dtype": str(one.values.dtype)}
        yield Finding("not numbers", "error", text, fix, evidence)


def _examples(one: Input) -> str:
    values = one.values.reshape(-1)
    odd = [x for x in values.tolist() if not isinstance(x, (int, float))][:1]
    if odd:
        return f"{type(odd[0]).__name__}: {odd[0]!r:.40}"
    return "Python objects (dtype object)"


def other_shape(subject: Subject) -> Iterator[Finding]:
    """Rows of another shape than the model's inputs."""
    tensors, given = _inputs(subject), subject.inputs
    if tensors and len(tensors) != len(given):
        text = f"the model has {len(tensors)} inputs, and the data {len(given)}"
        fix = "x = [x1, x2], or a dict by the names of the inputs"
        yield Finding("shape", "error", text, fix, {"inputs": len(tensors)})
        return
    by_name = {tensor.name: tensor for tensor in tensors}
    for place, one in enumerate(given):
        if not tensors:
            return
        tensor = by_name.get(one.name, tensors[place])
        wanted, shape = tuple(tensor.shape[1:]), one.values.shape[1:]
        if _fits(wanted, shape):
            continue
        text = f"a row of '{one.name}' has the shape {shape}, and the model takes "
        text += f"{wanted}"
        fix = f"keras.Input({shape})"
        if None not in wanted and np.prod(wanted) == np.prod(shape):
            fix = f"x = x.reshape(-1, {', '.join(map(str, wanted))})"
        yield Finding("shape", "error", text, fix, {"shape": str(shape)})


def tokens(subject: Subject) -> Iterator[Finding]:
    """Numbers that an embedding has no row for: on a GPU nobody says so."""
    tensors, leaves = _inputs(subject), keras.tree.flatten(subject.whole_x)
    if len(tensors) != len(leaves):
        return
    found = graph.flat(subject.model)
    by_name = {tensor.name: tensor for tensor in tensors}
    for place, one in enumerate(subject.inputs):
        tensor, values = by_name.get(one.name, tensors[place]), leaves[place]
        for call in found.users(tensor):
            rows = int(getattr(call.operation, "input_dim", 0))
            known = isinstance(call.operation, keras.layers.Embedding)
            if not known or values.dtype.kind not in "fiu" or not values.size:
                continue
            low, high = int(values.min()), int(values.max())
            if low >= 0 and high < rows:
                continue
            text = f"the tokens of '{one.name}' go from {low} to {high}, and "
            text += f"'{call.path}' has rows 0 to {rows - 1}"
            fix = f"keras.layers.Embedding({high + 1}, ...)"
            if low < 0:
                fix = "Number the tokens from 0: keras.layers.TextVectorization"
            evidence = {"low": low, "high": high, "rows": rows}
            yield Finding("tokens", "error", text, fix, evidence)


def _fits(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether Keras takes it: an axis of 1 at the end may be there or not."""
    if len(wanted) == len(shape) + 1 and wanted[-1] == 1:
        shape = (*shape, 1)
    elif len(shape) == len(wanted) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(wanted) == len(shape) and all(
        one in (None, other) for one, other in zip(wanted, shape, strict=True)
    )


def _inputs(subject: Subject) -> list[Any]:
    model = subject.model
    return list(model.inputs) if model.built and graph.is_functional(model) else []
