"""compare: several models in one table and one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.report import comparing, given
from keras_fitkit.report.comparison import Comparison


def compare(
    models: Any,
    data: Any = None,
    *,
    latency: bool = True,
    example: Any = None,
    energy: Any = None,
) -> Comparison:
    """Measures several models and LiteRT files side by side.

    All that `kf.compression_report` measures, for each; calls of all of them are timed
    in turns. The first is the one that the others are tested against. The loss and
    metrics are those of the first model that is compiled.

    Args:
        models: a dict of a name and a built model, or the path of a LiteRT file. Two or
            more.
        data: inputs and targets (x, y), arrays; or a `tf.data.Dataset`, `PyDataset` or
            torch `DataLoader` of batches (x, y), read once. Defaults to None.
        latency: whether calls are timed, 50 of each. Defaults to True.
        example: inputs of one row or more, for models whose inputs have sizes that are
            not known. Defaults to the first row of `data`.
        energy: a `keras_fitkit.report.EnergyModel`. Defaults to that of Horowitz 2014.

    Returns:
        A `Comparison`: a table, and a picture by `plot()`: the metric with its interval
        against size and against latency, those that no other beats joined by a line.

    Raises:
        TypeError: an argument of another type, by name.
        ValueError: fewer than two models, one that is not built, a file that is not
            there, data that does not fit or comes without a compiled model, latency of
            a model with unknown sizes without `example`.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> def net(units):
        ...     hidden = keras.layers.Dense(units, "relu")
        ...     model = keras.Sequential(
        ...         [keras.Input((8,)), hidden, keras.layers.Dense(2)]
        ...     )
        ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ...     model.compile("sgd", loss, metrics=["accuracy"])
        ...     return model
        >>> x, y = np.ones((10, 8), "float32"), np.zeros(10, int)
        >>> both = {"big": net(32), "small": net(4)}
        >>> found = kf.compare(both, data=(x, y), latency=False)
        >>> found.metric, found.get("small").macs == 8 * 4 + 4 * 2
        ('accuracy', True)
    """
    checked = _checked(models)
    pair = given.data_pair(data, checked)
    arguments.flag("latency", latency)
    row = given.example_of(example, pair, checked, latency)
    constants = given.energy_model(energy)
    reference = next(iter(checked))
    measured = comparing.measure(
        checked, reference, data=pair, latency=latency, example=row, energy=constants
    )
    return Comparison(
        tuple(measured.figures.values()),
        measured.latency,
        measured.rows,
        measured.tests,
        measured.forgotten,
        measured.delegate,
        keras.backend.backend(),
        dict(measured.reasons),
    )


def _checked(models: Any) -> dict[str, Any]:
    allowed = "a dict of two or more models by name"
    if not isinstance(models, Mapping):
        raise TypeError(arguments.message("models", allowed, models))
    for name in models:
        if not isinstance(name, str) or not name:
            raise TypeError(arguments.message("models", allowed, name))
    if len(models) < 2:
        raise ValueError(arguments.message("models", allowed, list(models)))
    return {name: given.model_or_file("models", one) for name, one in models.items()}
