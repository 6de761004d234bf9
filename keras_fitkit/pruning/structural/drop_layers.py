"""drop_layers: whole residual branches and layers that can be left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as keras_layers

from keras_fitkit._core import arguments, arrays, expansion, graph, rows
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.count_macs import count_macs, is_countable
from keras_fitkit._core.graph import Graph, check_functional
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit._core.rewrite import Rewriter
from keras_fitkit.pruning.gradients import check_data
from keras_fitkit.pruning.structural.drop_report import Droppable, DropReport
from keras_fitkit.pruning.structural.rebuilding import refuse_quantized

SCORES = ("influence", "loss", "l2")
_BATCH = 256


def drop_layers(
    model: Any,
    n: int,
    *,
    scores: str | None = None,
    data: Any = None,
    return_report: bool = False,
) -> Any:
    """The same model without its `n` least important layers.

    What can go are residual branches, whose sum becomes its other term, and layers with
    weights whose output has the shape of their input, outside such branches. A net that
    was trained deep gives up some of its depth easily, which makes it faster in a way
    that thinner layers do not. Train the result for some epochs.

    Args:
        model: a built functional or Sequential model. It is not changed. Composite
            layers that offer `expand()` are expanded. Nested models stay whole.
        n: how many parts go, an integer >= 1.
        scores: "influence": one minus the cosine between what goes in and what comes
            out, on `data` (the block influence of Men et al. 2024); "loss": the loss on
            `data` without the part, with the model's own loss; "l2": the mean square of
            the kernels. The smallest goes first. Defaults to "influence" where `data`
            is given, else "l2".
        data: for "influence" some rows, x or (x, y); for "loss" (x, y). Defaults to
            None.
        return_report: also return a `DropReport`. Defaults to False.

    Returns:
        A functional model, not compiled, with the names of the old one. With
        `return_report` a pair of it and the report.

    Raises:
        TypeError: no Keras 3 model, or an argument of another type.
        ValueError: a subclassed model, one that is not built or is quantized; fewer
            than `n` parts that can go; data missing for the scores.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = keras.Input((4,))
        >>> x = keras.layers.Dense(6, name="first")(inputs)
        >>> x = x + keras.layers.Dense(6, name="branch")(x)
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
        >>> [layer.name for layer in kf.drop_layers(model, 1).layers[1:]]
        ['first', 'head']

    Reference: Men et al., "ShortGPT: Layers in Large Language Models are More Redundant
    Than You Expect", 2024, arXiv:2403.03853, equation 1.
    """
    check_keras_model("model", model, built=True)
    check_functional("model", model)
    refuse_quantized(model)
    n = arguments.integer("n", n, low=1)
    arguments.flag("return_report", return_report)
    kind = _kind(scores, data)
    source, _ = expansion.expanded(model)
    parts = _parts(graph.graph_of(source))
    if len(parts) < n:
        names = ", ".join(one.path for one in parts) or "none"
        allowed = f"at most {len(parts)}: what can go is {names}"
        raise ValueError(arguments.message("n", allowed, n))
    values = _values(source, model, parts, kind, data)
    order = sorted(parts, key=lambda one: values[one.path])
    gone = order[:n]
    made = _Dropping(gone).run(source)
    if not return_report:
        return made
    known = is_countable(model)
    report = DropReport(
        tuple(
            Droppable(one.path, one.layers, values[one.path], one in gone)
            for one in order
        ),
        model.count_params(),
        made.count_params(),
        count_macs(model).total if known else None,
        count_macs(made).total if known else None,
    )
    return made, report


def _kind(scores: Any, data: Any) -> str:
    if scores is None:
        return "l2" if data is None else "influence"
    found = arguments.choice("scores", scores, SCORES)
    if data is None and found != "l2":
        hint = "Pass (x, y)." if found == "loss" else "Pass some rows: x, or (x, y)."
        raise ValueError(
            arguments.message("data", f"given for scores={found!r}", None, hint)
        )
    return found


@dataclasses.dataclass(frozen=True)
class _Part:
    """What can go: a call whose output its input can stand for."""

    path: str
    key: int
    before: Any  # the tensor that stands for the output
    after: Any
    layers: tuple[str, ...]
    kernels: tuple[Any, ...]


def _parts(found: Graph[GraphNode]) -> list[_Part]:
    """The residual branches of a graph, and the layers outside them."""
    branches = [one for node in found.nodes for one in _branch(found, node)]
    inside = {name for one in branches for name in one.layers}
    alone = [
        _part(node, node.inputs[0], [node])
        for node in found.nodes
        if _stands_alone(node) and node.operation.name not in inside
    ]
    return [*branches, *alone]


def _branch(found: Graph[GraphNode], node: GraphNode) -> list[_Part]:
    """The branch that a sum of two terms ends, if one term is made of the other."""
    layer = node.operation
    adds = isinstance(layer, keras_layers.Add) or type(layer).__name__ == "Add"
    shapes = {tuple(one.shape) for one in (*node.inputs, *node.outputs)}
    if not adds or len(node.inputs) != 2 or len(shapes) > 1:
        return []
    for skip, end in (node.inputs, tuple(reversed(node.inputs))):
        nodes = found.between(skip, end)
        if nodes:
            return [_part(node, skip, nodes)]
    return []


def _stands_alone(node: GraphNode) -> bool:
    layer = node.operation
    if not isinstance(layer, keras_layers.Layer) or isinstance(layer, keras.Model):
        return False
    kernels = [one for one in layer.weights if len(one.shape) > 1]
    alike = len(node.inputs) == 1 and len(node.outputs) == 1
    shape = tuple(node.inputs[0].shape)
    return bool(kernels) and alike and shape == tuple(node.outputs[0].shape)


def _part(node: GraphNode, before: Any, nodes: Sequence[GraphNode]) -> _Part:
    layers = [
        one.operation
        for one in nodes
        if isinstance(one.operation, keras_layers.Layer) and one.operation.weights
    ]
    kernels = [v for layer in layers for v in layer.weights if len(v.shape) > 1]
    return _Part(
        node.operation.name,
        graph.key_of(node),
        before,
        node.outputs[0],
        tuple(dict.fromkeys(layer.name for layer in layers)),
        tuple(kernels),
    )


def _values(
    source: Any, model: Any, parts: Sequence[_Part], kind: str, data: Any
) -> dict[str, float]:
    if kind == "l2":
        return {one.path: _mean_square(one.kernels) for one in parts}
    if kind == "influence":
        return _influences(source, parts, data)
    x, y, weight = check_data(data) or (None, None, None)
    found = {}
    for one in parts:
        without = _Dropping([one]).run(source)
        without.compile_from_config(model.get_compile_config())
        found[one.path] = float(
            without.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)[
                "loss"
            ]
        )
    return found


def _mean_square(kernels: Sequence[Any]) -> float:
    values = [np.ravel(arrays.to_numpy(one)).astype(np.float64) for one in kernels]
    together = np.concatenate(values) if values else np.zeros(1)
    return float((together**2).mean())


def _influences(source: Any, parts: Sequence[_Part], data: Any) -> dict[str, float]:
    """1 - the mean cosine between the features that go in and those that come out."""
    probe = keras.Model(
        graph.input_structure(source),
        [tensor for one in parts for tensor in (one.before, one.after)],
    )
    x = data[0] if isinstance(data, tuple) else data
    count = rows.length("data", x, "rows")
    sums = np.zeros(len(parts))
    for start in range(0, count, _BATCH):
        part = rows.take(x, slice(start, min(start + _BATCH, count)))
        found = [
            arrays.to_numpy(one).astype(np.float64)
            for one in probe(part, training=False)
        ]
        for place in range(len(parts)):
            a, b = (
                found[2 * place + side].reshape(len(found[0]), -1) for side in (0, 1)
            )
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines = (a * b).sum(1) / np.maximum(norms, 1e-12)
            sums[place] += (1 - cosines).sum()
    return {
        one.path: float(value / count) for one, value in zip(parts, sums, strict=True)
    }


class _Dropping(Rewriter):
    """Copies a model with inputs in the place of some outputs.

    Args:
        gone: what goes, of the outermost graph.
    """

    def __init__(self, gone: Sequence[_Part]) -> None:
        super().__init__()
        self._gone = {one.key: one for one in gone}

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """What stands for the output, or the call."""
        part = self._gone.get(graph.key_of(node))
        if part is None:
            return super().call(path, node, args, kwargs)
        symbols = {id(one): one for one in node.inputs}
        old_args, old_kwargs = node.arguments(symbols)
        pairs = zip(
            keras.tree.flatten((old_args, old_kwargs)),
            keras.tree.flatten((list(args), kwargs)),
            strict=True,
        )
        return next(new for old, new in pairs if old is part.before)
