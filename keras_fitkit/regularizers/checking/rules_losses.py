"""Mistakes in how the last layer and the loss go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_fitkit._core import finite, graph
from keras_fitkit.regularizers import layer_kinds, placing
from keras_fitkit.regularizers.checking.losses import Loss
from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.subject import CannotCheck, Head, Subject

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "log_softmax")
CROSS_ENTROPIES = ("sparse", "categorical", "binary")
REACHED = {
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "exponential": (0.0, np.inf),
}
RULE = "loss and activation"


def disagreeing(subject: Subject) -> Iterator[Finding]:
    """A loss that takes logits gets probabilities, or the other way round."""
    for head, loss in _compiled(subject, CROSS_ENTROPIES):
        if head.activation is None:
            raise CannotCheck(f"the last activation of '{head.name}' is not known")
        where = _where(head)
        if loss.from_logits and head.activation in PROBABILITIES:
            text = f"{loss.name}(from_logits=True) gets probabilities: {where}"
            fix = f"keras.losses.{_class(loss)}()  # without from_logits=True"
            yield _finding(head, text, fix)
        elif not loss.from_logits and head.activation not in PROBABILITIES:
            text = (
                f"{loss.name} without from_logits=True gets no probabilities: {where}"
            )
            fix = f"keras.losses.{_class(loss)}(from_logits=True)"
            yield _finding(head, text, fix)


def wrong_activation(subject: Subject) -> Iterator[Finding]:
    """A softmax over one unit, a sigmoid for classes of which one is right."""
    for head, loss in _compiled(subject, CROSS_ENTROPIES):
        many = loss.kind in ("sparse", "categorical")
        if head.units == 1 and (many or head.activation == "softmax"):
            text = f"'{head.name}' has one unit: {loss.name} or a softmax of it is "
            text += "always the same"
            fix = (
                'keras.layers.Dense(1, activation="sigmoid") with '
                "keras.losses.BinaryCrossentropy(), or a unit for each class"
            )
            yield _finding(head, text, fix)
        elif many and head.activation == "sigmoid":
            text = (
                f"{loss.name} is for classes of which one is right, and {_where(head)}"
            )
            yield _finding(head, text, f'Dense({head.units}, activation="softmax")')
        elif loss.kind == "binary" and head.activation == "softmax":
            text = f"{loss.name} judges each unit alone, and {_where(head)}"
            fix = "keras.losses.CategoricalCrossentropy()"
            yield _finding(head, text, fix, "warning")


def out_of_reach(subject: Subject) -> Iterator[Finding]:
    """Targets of a regression that the last activation cannot give."""
    for head, loss in _compiled(subject, ("regression",)):
        reach = REACHED.get(head.activation or "") if head.seen else None
        if reach is None or head.targets is None:
            continue
        targets = np.asarray(head.targets, "float64")
        outside = float(((targets < reach[0]) | (targets > reach[1])).mean())
        if outside:
            text = (
                f"{outside:.0%} of the targets of '{head.name}' are outside of what "
                f"{head.activation} gives: they go from {targets.min():.4g} to "
                f"{targets.max():.4g}, {loss.name} never gets to 0"
            )
            fix = f'Dense({head.units}, activation="linear")'
            yield _finding(head, text, fix, "error" if outside > 0.01 else "warning")


def dropout_at_the_end(subject: Subject) -> Iterator[Finding]:
    """Dropout between the last layer with weights and the output."""
    if not subject.model.built or not graph.is_functional(subject.model):
        raise CannotCheck("the calls of the model cannot be seen from outside")
    found = graph.flat(subject.model)
    for call in placing.head(found):
        rate = getattr(call.operation, "rate", None)
        if layer_kinds.is_dropout(call.operation) and rate != 0:
            told = "" if rate is None else f" of {rate:g}"
            text = f"the dropout{told} '{call.path}' comes after the last layer with "
            text += "weights: it takes answers away, not features"
            fix = f"Put '{call.path}' before that layer, or take it out."
            evidence = {"layer": call.path, "rate": rate}
            yield Finding("dropout at the end", "error", text, fix, evidence)


def nothing_learns(subject: Subject) -> Iterator[Finding]:
    """No weight that is trained, or weights that are no numbers."""
    model = subject.model
    if not model.built:
        raise CannotCheck("the model is not built: give it an `Input`")
    if not model.trainable_variables:
        text = f"none of the {len(model.variables)} weights is trained"
        fix = "model.trainable = True"
        yield Finding("nothing learns", "error", text, fix, {})
    broken = finite.non_finite_weights(model)
    if broken:
        text = f"{len(broken)} weights hold NaN or infinity: {', '.join(broken[:5])}"
        fix = "Load weights from before they broke, or make the model anew."
        yield Finding("nothing learns", "error", text, fix, {"weights": len(broken)})


def _compiled(subject: Subject, kinds: tuple[str, ...]) -> Iterator[tuple[Head, Loss]]:
    """The outputs whose loss is of one of these kinds."""
    if not getattr(subject.model, "compiled", False):
        raise CannotCheck("the model is not compiled")
    for head in subject.heads:
        if head.loss is not None and head.loss.kind in kinds:
            yield head, head.loss
    own = [one.loss.name for one in subject.heads if one.loss and one.loss.kind is None]
    if own:
        raise CannotCheck(f"what {', '.join(own)} takes is not known")


def _where(head: Head) -> str:
    text = f"'{head.name}' ends in {head.activation}"
    if head.layer and head.layer != head.name:
        text += f" ('{head.layer}')"
    if head.values is not None and head.values.size:
        low, high = float(head.values.min()), float(head.values.max())
        text += f", its outputs of {len(head.values)} rows go from {low:.4g} to "
        text += f"{high:.4g}"
    return text


def _class(loss: Loss) -> str:
    words = loss.name.split("_")
    return "".join(word[:1].upper() + word[1:] for word in words)


def _finding(head: Head, text: str, fix: str, severity: str = "error") -> Finding:
    evidence: dict[str, Any] = {"output": head.name, "activation": head.activation}
    if head.values is not None and head.values.size:
        evidence["low"] = float(head.values.min())
        evidence["high"] = float(head.values.max())
    # Told from a few values, and not seen: it may be otherwise.
    if not head.seen and head.activation != "linear":
        severity = "warning"
    return Finding(RULE, severity, text, fix, evidence)
