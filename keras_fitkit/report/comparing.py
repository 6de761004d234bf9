"""Several models measured side by side: costs, latency, metrics, paired tests."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays
from keras_fitkit._core.rows import take
from keras_fitkit.quantization import run_litert
from keras_fitkit.report import evaluation, litert_reading, measuring
from keras_fitkit.report.energy import EnergyModel
from keras_fitkit.report.figures import ModelFigures
from keras_fitkit.report.forgotten import Forgotten, forgotten
from keras_fitkit.report.latency import LatencyReport
from keras_fitkit.report.measure_latency import interleaved, machine
from keras_fitkit.report.metric_values import MetricValue, PairedTest

RUNS, BATCH = 50, 256
NO_DATA, NO_LATENCY = "no data", "latency=False"
NOT_ASKED = (NO_DATA, NO_LATENCY, "no baseline")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Models side by side; `reference` is the one that the others are tested against.

    Attributes:
        figures: by name.
        latency: of all, in turns; None where it was not wanted or not possible.
        rows: of the data; 0 without.
        tests: by name, without the reference.
        forgotten: by name, without the reference.
        reasons: why something is missing: "latency", "metrics", "forgotten".
        delegate: what runs the LiteRT files, "" for LiteRT's own kernels.
    """

    figures: dict[str, ModelFigures]
    latency: LatencyReport | None
    rows: int
    tests: dict[str, tuple[PairedTest, ...]]
    forgotten: dict[str, Forgotten]
    reasons: dict[str, str]
    delegate: str


def measure(
    models: Mapping[str, Any],
    reference: str | None,
    *,
    data: tuple[Any, Any] | None,
    latency: bool,
    example: Any,
    energy: EnergyModel,
) -> Measured:
    """Measures models and LiteRT files, all arguments checked.

    Args:
        models: by name.
        reference: the name of that which the others are tested against, or None.
        data: inputs and targets, or None.
        latency: whether calls are timed.
        example: a batch of inputs of one row, or None.
        energy: what operations cost.
    """
    judged = _judged(models, reference, data) if data is not None else Judged()
    with tempfile.TemporaryDirectory() as root:
        found = {
            name: measuring.in_new_folder(name, one, example, root, energy)
            for name, one in models.items()
        }
        reasons = dict(judged.reasons)
        timed = None
        if latency:
            timed = _timed(models, found, example, reasons)
        else:
            reasons["latency"] = NO_LATENCY
    figures = {
        name: dataclasses.replace(
            one.figures,
            keras_latency=None if timed is None else timed.get(name, "Keras"),
            litert_latency=None if timed is None else timed.get(name, "LiteRT"),
            metrics=judged.metrics.get(name, ()),
            reasons=_with_latency(one.figures.reasons, reasons),
        )
        for name, one in found.items()
    }
    delegates = {one.delegate for one in found.values() if one.delegate}
    return Measured(
        figures,
        timed,
        judged.rows,
        judged.tests,
        judged.forgotten,
        reasons,
        ", ".join(sorted(delegates)),
    )


@dataclasses.dataclass(frozen=True)
class Judged:
    """What data say of models."""

    rows: int = 0
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tests: dict[str, tuple[PairedTest, ...]] = dataclasses.field(default_factory=dict)
    forgotten: dict[str, Forgotten] = dataclasses.field(default_factory=dict)
    reasons: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"metrics": NO_DATA, "forgotten": NO_DATA}
    )


def _with_latency(own: Mapping[str, str], reasons: Mapping[str, str]) -> dict[str, str]:
    why = reasons.get("latency")
    keys = ("keras_median", "keras_p90", "litert_median", "litert_p90")
    return {**own, **(dict.fromkeys(keys, why) if why else {})}


def _timed(
    models: Mapping[str, Any],
    found: Mapping[str, measuring.Costs],
    example: Any,
    reasons: dict[str, str],
) -> LatencyReport | None:
    """All models in turns, in Keras and in LiteRT."""
    inputs: dict[str, Any] = {}
    for name, one in models.items():
        x = measuring.zeros(one) if example is None else example
        file = found[name].litert
        inputs[name] = litert_reading.zeros(file) if x is None else x
    first = next((x for x in inputs.values() if x is not None), None)
    if first is None:
        files = [found[name].litert for name in models]
        broken = [one for one in files if isinstance(one, str)]
        only_files = all(isinstance(one, Path) for one in models.values())
        why = broken[0] if broken and only_files else measuring.UNKNOWN_SIZES
        reasons["latency"] = why
        return None
    what: dict[tuple[str, str], Any] = {}
    for name, one in models.items():
        what[name, "Keras"] = "a LiteRT file" if isinstance(one, Path) else one
        what[name, "LiteRT"] = found[name].litert
        # Those that do not know their sizes are tried with what another one takes.
        inputs[name] = first if inputs[name] is None else inputs[name]
    rows = interleaved(what, inputs, RUNS, tell=True)
    return LatencyReport(rows, 1, machine(), RUNS)


def _judged(
    models: Mapping[str, Any], reference: str | None, data: tuple[Any, Any]
) -> Judged:
    x, y = data
    judge = _judge(models)
    outputs = {name: _outputs(one, x) for name, one in models.items()}
    rows = len(keras.tree.flatten(x)[0])
    if keras.tree.is_nested(y) or any(isinstance(one, str) for one in outputs.values()):
        return _by_keras(models, x, y, rows)
    targets = arrays.to_numpy(y)
    try:
        measures = evaluation.measures_of(judge, targets, next(iter(outputs.values())))
        values = {
            name: evaluation.values(measures, targets, one)
            for name, one in outputs.items()
        }
    except Exception as error:
        shapes = {name: one.shape for name, one in outputs.items()}
        allowed = (
            f"targets that fit the compiled loss and metrics; outputs are {shapes}"
        )
        hint = str(error).strip().splitlines()[0]
        received = f"targets of shape {targets.shape}"
        raise ValueError(arguments.message("data", allowed, received, hint)) from error
    reasons = {}
    tests, lost = {}, {}
    named = evaluation.labels(judge, targets, outputs)
    if isinstance(named, str):
        reasons["forgotten"] = named
    elif reference is None:
        reasons["forgotten"] = "no baseline"
    for name, one in outputs.items():
        if reference is None or name == reference:
            continue
        other = outputs[reference]
        tests[name] = evaluation.tests(measures, targets, one, other)
        if not isinstance(named, str):
            truth, classes = named
            lost[name] = forgotten(truth, classes[name], classes[reference], x)
    return Judged(rows, values, tests, lost, reasons)


def _judge(models: Mapping[str, Any]) -> Any:
    """The first model that is compiled: its loss and metrics are those of all."""
    for one in models.values():
        if getattr(one, "compiled", False) and one.loss is not None:
            return one
    raise ValueError(
        "`data` must come with a compiled model: its loss and metrics are what is "
        "measured. Received: "
        f"data=(x, y), and of {len(models)} models none is compiled. Call "
        "model.compile(loss=..., metrics=[...])."
    )


def _outputs(model: Any, x: Any) -> Any:
    """What a model gives for all rows; a text where that is not one array."""
    found = _run(model, x) if isinstance(model, Path) else _predicted(model, x)
    if not isinstance(found, np.ndarray):
        return "several outputs"
    return found


def _run(path: Path, x: Any) -> Any:
    try:
        return run_litert(path, x)
    except (RuntimeError, TypeError, ValueError) as error:
        allowed = f"inputs that {path.name} takes"
        received = [tuple(one.shape) for one in keras.tree.flatten(x)]
        hint = str(error).strip().splitlines()[0]
        raise ValueError(arguments.message("data", allowed, received, hint)) from error


def _predicted(model: Any, x: Any) -> Any:
    """What `predict` gives, with batches of one size: each other one is traced anew."""
    rows = len(keras.tree.flatten(x)[0])
    size = min(rows, BATCH)
    order = np.minimum(np.arange(-(-rows // size) * size), rows - 1)
    padded = x if len(order) == rows else take(x, order)
    found = model.predict(padded, batch_size=size, verbose=0)
    return keras.tree.map_structure(lambda one: one[:rows], found)


def _by_keras(models: Mapping[str, Any], x: Any, y: Any, rows: int) -> Judged:
    """Several outputs: Keras's own values, without intervals."""
    why = "several outputs"
    reasons = {"tests": why, "forgotten": why}
    metrics, without = {}, []
    for name, one in models.items():
        if isinstance(one, Path) or not one.compiled:
            without.append(name)
            continue
        told = one.evaluate(x, y, batch_size=256, verbose=0, return_dict=True)
        metrics[name] = tuple(
            MetricValue(key, float(value), None, None, "", why)
            for key, value in told.items()
        )
    if without:
        who = ", ".join(without)
        reasons["metrics"] = f"several outputs, and {who} is no compiled Keras model"
    return Judged(rows, metrics, reasons=reasons)
