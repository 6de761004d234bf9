"""compression_report: what a model costs and knows, beside what it was made from."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.report import comparing, given
from keras_fitkit.report.compression_results import CompressionReport


def compression_report(
    model: Any,
    baseline: Any = None,
    data: Any = None,
    *,
    latency: bool = True,
    example: Any = None,
    energy: Any = None,
) -> CompressionReport:
    """What a compressed model costs and how good it is, beside its baseline.

    Counted: parameters, those that are not zero, distinct values and bits of each
    weight, multiplications, activations that are alive at once. Written and measured:
    the bytes of the `.keras` file, of the LiteRT file, of both after gzip and of the
    packed file, LiteRT's arena, and the time of a call in both runtimes. On `data`: the
    compiled loss and metrics with 95 % intervals, and for each a paired test against
    the baseline, since both see the same rows: McNemar's exact test where rows are
    right or wrong, else a bootstrap of the differences. A figure that could not be had
    is None, with the reason.

    Args:
        model: a built model, or the path of a LiteRT file, of which less is known.
        baseline: another one to compare with. Defaults to None.
        data: inputs and targets (x, y), arrays; or a `tf.data.Dataset`, `PyDataset` or
            torch `DataLoader` of batches (x, y), read once. `model` must be compiled
            then, or `baseline`, whose loss and metrics are taken for both. Defaults to
            None.
        latency: whether calls are timed, 50 of each. Defaults to True.
        example: inputs of one row or more, for a model whose inputs have sizes that
            are not known. Defaults to the first row of `data`.
        energy: a `keras_fitkit.report.EnergyModel`. Defaults to that of Horowitz 2014.

    Returns:
        A `CompressionReport`: `render()`, `to_markdown()`, `to_dict()`, `plot()`, and
        `forgotten`, what the model lost by class and by sample.

    Raises:
        TypeError: an argument of another type, by name.
        ValueError: a model that is not built, a file that is not there, data that does
            not fit the model or comes without a compiled model, latency of a model with
            unknown sizes without `example`.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("sgd", loss, metrics=["accuracy"])
        >>> x, y = np.ones((10, 4), "float32"), np.zeros(10, int)
        >>> report = kf.compression_report(model, data=(x, y), latency=False)
        >>> report.model.macs == 4 * 3
        True
        >>> [one.name for one in report.model.metrics]
        ['loss', 'accuracy']

    References:
        Wilson 1927; McNemar 1947; Horowitz, ISSCC 2014; Hooker et al., 2019,
        arXiv:1911.05248.
    """
    models = {"model": given.model_or_file("model", model)}
    if baseline is not None:
        models["baseline"] = given.model_or_file("baseline", baseline)
    pair = given.data_pair(data, models)
    arguments.flag("latency", latency)
    row = given.example_of(example, pair, models, latency)
    constants = given.energy_model(energy)
    measured = comparing.measure(
        models,
        "baseline" if baseline is not None else None,
        data=pair,
        latency=latency,
        example=row,
        energy=constants,
    )
    reasons = dict(measured.reasons)
    if baseline is None:
        reasons.pop("forgotten", None)  # nobody asked
    return CompressionReport(
        measured.figures["model"],
        measured.figures.get("baseline"),
        measured.latency,
        measured.rows,
        measured.tests.get("model", ()),
        measured.forgotten.get("model"),
        measured.delegate,
        keras.backend.backend(),
        reasons,
    )
