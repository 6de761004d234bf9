"""The terms of a distiller: what a loss is given, and the mean of its values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit.distillation import means
from keras_fitkit.distillation.distillation_loss import (
    DistillationLoss,
    refuse_penalties,
)
from keras_fitkit.distillation.network import ModelOutputs, Network


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss of a distiller.

    Attributes:
        loss: the loss.
        name: in the logs.
        pairs: of the numbers of the teacher's and the student's output, for a loss on
            logits.
        outputs: the names of the student's outputs, for labels and weights by name.
    """

    loss: DistillationLoss
    name: str
    pairs: tuple[tuple[int, int], ...]
    outputs: tuple[str, ...] = ()

    def value(
        self, teacher: ModelOutputs, student: ModelOutputs, y: Any, sample_weight: Any
    ) -> Any:
        """Its mean over the batch, with masks and sample weights."""
        if self.loss.reads != "logits":
            t = _feature(teacher, self.loss.teacher_layer_name)
            s = _feature(student, self.loss.student_layer_name)
            labels = y if self.loss.needs_labels else None
            values = self.loss.compute_loss(t, s, labels)
            weight = self._weight_of_all(sample_weight, student.outputs)
            return means.mean(values, (t, s), weight)
        outputs, found = keras.tree.flatten(student.outputs), []
        labels = [None] * len(outputs)
        if self.loss.needs_labels and y is not None:
            labels = self._each(y, student.outputs)
            if len(labels) < len(outputs):
                allowed = f"labels for all {len(outputs)} outputs, or a dict of them"
                raise ValueError(arguments.message("y", allowed, y))
        weights = self._each(sample_weight, student.outputs)
        if len(weights) < len(outputs):  # as in Keras
            weights = weights[:1] * len(outputs)
        for i, j in self.pairs:
            if self.loss.needs_labels and y is not None and labels[j] is None:
                names = self._names(student.outputs)
                which = repr(names[j]) if j < len(names) else j
                allowed = f"labels for the output {which}, which {self.name} reads"
                raise ValueError(arguments.message("y", allowed, y))
            values = self.loss.compute_loss(
                teacher.logits[i], student.logits[j], labels[j]
            )
            found.append(means.mean(values, outputs[j : j + 1], weights[j]))
        return added(found)

    def _each(self, given: Any, outputs: Any) -> list[Any]:
        """Labels or weights for each output: of its structure, by name or by place."""
        count = len(keras.tree.flatten(outputs))
        if not isinstance(given, (Mapping, list, tuple)):
            return [given] * count
        flat: list[Any] = keras.tree.flatten(given)
        if count == 1:
            return flat[:1]
        if _like(given, outputs) or not isinstance(given, Mapping):
            return flat
        return [given.get(name) for name in self._names(outputs)]

    def _names(self, outputs: Any) -> Sequence[Any]:
        """Of the outputs, in the order of `keras.tree.flatten`."""
        return sorted(outputs) if isinstance(outputs, Mapping) else self.outputs

    def _weight_of_all(self, sample_weight: Any, outputs: Any) -> Any:
        """For a feature, the mean of all outputs' weights; one without counts as 1."""
        if not isinstance(sample_weight, (Mapping, list, tuple)):
            return sample_weight
        each = self._each(sample_weight, outputs)
        count = len(each)
        given = [ops.cast(one, "float32") for one in each if one is not None]
        flat = [means.of_samples(one, ()) for one in given]
        if not flat:
            return None
        flat += [ops.ones_like(flat[0])] * (count - len(flat))
        return ops.mean(ops.stack(flat), axis=0)


class TermMeans(keras.metrics.Metric):
    """The means of the terms over an epoch, weighted by batch size.

    One variable for all of them: a metric each would cost as much as the loss itself in
    a small model.

    Args:
        names: of the terms in the logs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(name="terms", dtype="float32")
        self._names = list(names)
        shape = (len(self._names),)
        self.total = self.add_variable(shape=shape, initializer="zeros", name="total")
        self.count = self.add_variable(shape=(), initializer="zeros", name="count")

    def update_state(self, values: Mapping[str, Any], size: Any) -> None:
        """Adds a batch of `size` samples; a term without a value counts as 0."""
        given = [ops.cast(values.get(name, 0.0), "float32") for name in self._names]
        size = ops.cast(size, "float32")
        self.total.assign_add(ops.stack(given) * size)
        self.count.assign_add(size)

    def result(self) -> dict[str, Any]:
        """The mean of each by its name."""
        means = ops.unstack(ops.divide_no_nan(self.total, self.count))
        return dict(zip(self._names, means, strict=True))


def added(values: Sequence[Any]) -> Any:
    """Their sum, with nothing but them in the graph of the step."""
    found = values[0]
    for value in values[1:]:
        found = found + value
    return found


def terms_of(
    losses: Sequence[DistillationLoss], teacher: Any, student: Network
) -> list[Term]:
    """A term for each loss, with its tensors found and the loss prepared.

    Raises:
        ValueError: outputs or layers that are not there or do not agree; a loss with a
            regularizer.
    """
    found = []
    for loss, name in zip(losses, _names(losses), strict=True):
        pairs: tuple[tuple[int, int], ...] = ()
        if loss.reads == "logits":
            pairs = _pairs(loss.output_key, teacher, student)
            for i, j in pairs:
                teacher.require_logits(i, _has_sigmoids(loss))
                student.require_logits(j, _has_sigmoids(loss))
                loss.prepare(teacher.output_spec(i), student.output_spec(j))
                teacher.use_as(i, _reads_sigmoids(loss))
        elif loss.teacher_layer_name is None:
            _refuse_several(teacher, student)
            loss.prepare(teacher.output_spec(0), student.output_spec(0))
        else:
            loss.prepare(
                teacher.layer_spec(loss.teacher_layer_name),
                student.layer_spec(str(loss.student_layer_name)),
            )
        refuse_penalties("distillation_losses", loss)
        loss.in_use = True
        loss.built = True  # else Keras runs the model once more, to build it
        found.append(Term(loss, name, pairs, tuple(student.output_names())))
    return found


def use_teacher(found: Sequence[Term], teacher: Any, student: Network) -> list[Term]:
    """The terms with another teacher, whose logits are made sure of.

    Raises:
        ValueError: a head that cannot be told, has none, or is of another kind.
    """
    made = []
    for term in found:
        if term.pairs:
            pairs = _pairs(term.loss.output_key, teacher, student)
            term = dataclasses.replace(term, pairs=pairs)
        made.append(term)
        for i, _ in term.pairs:
            teacher.require_logits(i, _has_sigmoids(term.loss))
            sigmoid, spec = _reads_sigmoids(term.loss), teacher.output_spec(i)
            other = "softmax" if sigmoid else "sigmoid"
            said = getattr(term.loss, "activation", "auto") != "auto"
            if sigmoid is not None and not said and spec.activation == other:
                allowed = f"a model whose head is not a {other}, as that of the first"
                raise ValueError(arguments.message("teacher", allowed, str(spec)))
            teacher.use_as(i, sigmoid)
    return made


def _has_sigmoids(loss: DistillationLoss) -> bool:
    """Whether it takes logits for those of sigmoids, whatever the head is."""
    return getattr(loss, "activation", None) == "sigmoid"


def _reads_sigmoids(loss: DistillationLoss) -> bool | None:
    """How it reads logits, once it is prepared; None: as the head has them."""
    found: bool | None = getattr(loss, "_sigmoid", None)
    return found


def _names(losses: Sequence[DistillationLoss]) -> list[str]:
    """A name for each in the logs, the same in every process."""
    found: list[str] = []
    for loss in losses:
        first = loss.given_name
        if first is None:
            first = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(loss).__name__).lower()
        name, count = f"{first}_loss", 1
        while name in found:
            count += 1
            name = f"{first}_{count}_loss"
        found.append(name)
    return found


def _pairs(key: Any, teacher: Any, student: Network) -> tuple[tuple[int, int], ...]:
    if key is None:
        if teacher.number != student.number:
            allowed = f"a model with the {teacher.number} outputs of the teacher"
            hint = "Or give each loss the `output` that it is for."
            received = f"{student.number} outputs"
            raise ValueError(arguments.message("student", allowed, received, hint))
        names = teacher.output_names(), student.output_names()
        if len(set(names[0])) == student.number and set(names[0]) == set(names[1]):
            return tuple((names[0].index(one), j) for j, one in enumerate(names[1]))
        return tuple((i, i) for i in range(student.number))
    j = _place(key, student)
    i = _place(key, teacher) if key in teacher.output_names() else j
    if i >= teacher.number:
        allowed = f"one of the {teacher.number} outputs of the teacher"
        raise ValueError(arguments.message("output", allowed, key))
    return ((i, j),)


def _place(key: Any, network: Any) -> int:
    names = network.output_names()
    if isinstance(key, int) and key < network.number:
        return key
    if key in names:
        return int(names.index(key))
    hint = arguments.near(str(key), names)
    allowed = f"an output of the student, one of {names} or its number"
    raise ValueError(arguments.message("output", allowed, key, hint))


def _refuse_several(teacher: Any, student: Network) -> None:
    for one in (teacher, student):
        if one.number != 1 or len(getattr(one, "networks", [one])) != 1:
            allowed = "given where a model has several outputs or there are several"
            allowed += " teachers"
            raise ValueError(arguments.message("teacher_layer_name", allowed, None))
    if teacher.cached and teacher.output_spec(0).activation != "linear":
        allowed = "given where the teacher is a cache of a softmax, stored as logits"
        raise ValueError(arguments.message("teacher_layer_name", allowed, None))


def _feature(found: ModelOutputs, path: str | None) -> Any:
    return found.outputs if path is None else found.features[path]


def _like(given: Any, outputs: Any) -> bool:
    """Whether it has the structure of the outputs."""
    try:
        keras.tree.assert_same_structure(given, outputs)
    except (TypeError, ValueError):
        return False
    return True
