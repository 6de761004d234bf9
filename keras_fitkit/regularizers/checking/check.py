"""check: the mistakes that cost a training, looked for before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from keras_fitkit._core.layers import check_keras_model
from keras_fitkit.regularizers.checking import (
    rules_inputs,
    rules_labels,
    rules_losses,
    rules_shapes,
    rules_split,
)
from keras_fitkit.regularizers.checking.report import SEVERITIES, CheckReport, Finding
from keras_fitkit.regularizers.checking.subject import CannotCheck, Subject, sampled

RULES: dict[str, Callable[[Subject], Iterable[Finding]]] = {
    "loss and activation": rules_losses.disagreeing,
    "activation": rules_losses.wrong_activation,
    "reach of the activation": rules_losses.out_of_reach,
    "dropout at the end": rules_losses.dropout_at_the_end,
    "nothing learns": rules_losses.nothing_learns,
    "not numbers": rules_shapes.not_numbers,
    "shape": rules_shapes.other_shape,
    "tokens": rules_shapes.tokens,
    "labels": rules_labels.of_classes,
    "targets": rules_labels.of_numbers,
    "finite labels": rules_labels.not_finite,
    "imbalance": rules_labels.imbalance,
    "metric": rules_labels.accuracy_of_numbers,
    "not finite": rules_inputs.not_finite,
    "constant": rules_inputs.constant,
    "unscaled": rules_inputs.unscaled,
    "data": rules_split.broken,
    "no validation": rules_split.no_validation,
    "duplicates": rules_split.shared_rows,
    "unscaled targets": rules_labels.unscaled,
    "scaled otherwise": rules_split.scaled_otherwise,
    "other classes": rules_split.other_classes,
}
# What breaks in validation rows as it does in training rows.
OF_VALIDATION = (
    "not numbers",
    "shape",
    "tokens",
    "labels",
    "finite labels",
    "not finite",
)


def check(model: Any, data: Any, validation_data: Any = None) -> CheckReport:
    """Looks for the mistakes that cost a training, before it.

    - The loss takes logits and gets probabilities, or the other way round; a softmax of
      one unit; targets that the last activation cannot give.
    - Labels or tokens out of range, one-hot where class numbers belong, text, NaN, all
      of one class.
    - Inputs that are not scaled, hold NaN, are constant, no numbers, or of another
      shape than the model takes; targets in thousands.
    - No validation data, validation rows that are training rows, or the same data;
      validation that is scaled otherwise or has other classes.
    - One class so frequent that accuracy is high without a model.
    - Dropout after the last layer with weights; nothing that is trained.

    It looks at up to 2,048 rows of each part (20,000 of arrays for rows that are in
    both, all labels of arrays, all inputs up to 200 MB for NaN), calls the model on 64
    of them in inference mode, and leaves random states as they were. A model or data
    that it cannot read is no error: what was not checked is listed with the reason.

    Args:
        model: a Keras model, compiled as for `fit`.
        data: as for `fit`: `(x, y)` or `(x, y, sample_weight)` of arrays or structures
            of arrays, `x` alone, a `tf.data.Dataset`, a `PyDataset`, a torch
            `DataLoader`; None for none. A generator is not read: its rows would be gone
            for `fit`.
        validation_data: in the same forms. Defaults to None.

    Returns:
        A `CheckReport`. It is true where there is no error and no warning.

    Raises:
        TypeError: `model` is no Keras model.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [keras.Input((3,)), keras.layers.Dense(2, "softmax", name="head")]
        ... )
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
        >>> report = kf.check(model, (x[:30], y[:30]), (x[30:], y[30:]))
        >>> bool(report), report.findings[0].severity
        (False, 'error')
        >>> print(report.findings[0].fix)
        keras.losses.SparseCategoricalCrossentropy()  # without from_logits=True
    """
    check_keras_model("model", model)
    sample, unread, broken = sampled(data, "data")
    validation, unread_too, broken_too = sampled(validation_data, "validation_data")
    subject = Subject(
        model=model,
        data=data,
        validation_data=validation_data,
        sample=sample,
        validation=validation,
        unread=unread or unread_too,
        broken=(*broken, *broken_too),
    )
    findings, unchecked = _found(subject, RULES)
    if validation is not None and validation_data is not data:
        rules = {name: RULES[name] for name in OF_VALIDATION}
        known = {one.rule for one in findings}
        findings += [
            dataclasses.replace(one, text=f"in the validation data: {one.text}")
            for one in _found(subject.of_validation(), rules)[0]
            if one.rule not in known
        ]
    if any(one.rule == "labels" and one.severity == "error" for one in findings):
        findings = [one for one in findings if one.rule != "other classes"]
    findings.sort(key=lambda one: SEVERITIES.index(one.severity))
    return CheckReport(
        tuple(_plain(one) for one in findings),
        unchecked,
        sample.rows if sample is not None else 0,
        validation.rows if validation is not None else 0,
        sample.origin if sample is not None else unread,
    )


def _found(
    subject: Subject, rules: dict[str, Callable[[Subject], Iterable[Finding]]]
) -> tuple[list[Finding], dict[str, str]]:
    """The findings of rules, and why some could not be checked."""
    findings: list[Finding] = []
    unchecked: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            for one in rule(subject):
                findings.append(one)
        except CannotCheck as error:
            unchecked[name] = str(error)
        except Exception as error:  # a model or data of a kind nobody thought of
            told = str(error).splitlines()[0] if str(error) else ""
            unchecked[name] = f"{type(error).__name__}: {told}"
    return findings, unchecked


def _plain(finding: Finding) -> Finding:
    """With evidence that `json.dumps` takes."""
    evidence = {
        key: value.item() if hasattr(value, "item") else value
        for key, value in finding.evidence.items()
    }
    return dataclasses.replace(finding, evidence=evidence)
