"""Arguments of `compression_report` and `compare`, checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keras_fitkit._core import arguments, graph, rows, train_sample
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit.report.energy import EnergyModel
from keras_fitkit.report.measuring import needs_shapes

DATA = "a pair (x, y) of arrays, or a data set of batches (x, y) that ends"
WEIGHTS = "Sample weights are not taken here: intervals and tests count rows."
ENDLESS = -1  # tf.data.INFINITE_CARDINALITY
MARK = b"TFL3"  # bytes 4 to 8 of a LiteRT file
EXAMPLE = "a batch of inputs, such as x[:1]"


def model_or_file(name: str, value: Any) -> Any:
    """A built Keras model, or the path of a LiteRT file that is there."""
    if isinstance(value, (str, Path)):
        path = Path(value).expanduser()
        allowed = "a model, or the path of a LiteRT file (.tflite) that is there"
        if path.suffix == ".keras":
            hint = "Load it first: keras.saving.load_model(path)."
            raise ValueError(arguments.message(name, allowed, str(value), hint))
        if not path.is_file():
            raise ValueError(arguments.message(name, allowed, str(value)))
        with path.open("rb") as file:
            mark = file.read(8)[4:]
        if mark != MARK:
            hint = "It does not begin as a LiteRT file."
            raise ValueError(arguments.message(name, allowed, str(value), hint))
        return path
    return check_keras_model(name, value, built=True)


def data_pair(value: Any, models: dict[str, Any]) -> tuple[Any, Any] | None:
    """Inputs and targets that fit all models, or None."""
    if value is None:
        return None
    x, y = _arrays_of(value)
    count = rows.length("data", x, DATA)
    if rows.length("data", y, DATA) != count:
        received = f"{count} rows of x and {rows.length('data', y, DATA)} of y"
        allowed = f"{DATA} of the same length"
        raise ValueError(arguments.message("data", allowed, received))
    for one in models.values():
        check_shapes("data", x, one)
    return x, y


def _arrays_of(value: Any) -> tuple[Any, Any]:
    """Inputs and targets of a pair, or of a data set read to its end, once."""
    if isinstance(value, (tuple, list)):
        if len(value) == 3:
            raise TypeError(arguments.message("data", DATA, value, WEIGHTS))
        if len(value) != 2:
            raise TypeError(arguments.message("data", DATA, value))
        return value[0], value[1]
    if hasattr(value, "shape"):
        raise TypeError(arguments.message("data", DATA, value, "Pass (x, y)."))
    if train_sample.is_tf_dataset(value) and int(value.cardinality()) == ENDLESS:
        hint = "It repeats without an end. Leave .repeat() out, or call .take(n)."
        raise ValueError(arguments.message("data", DATA, value, hint))
    try:
        found = train_sample.take(value, None, described="data", name="data")
    except train_sample.CannotReread as error:
        raise TypeError(arguments.message("data", DATA, value, f"{error}.")) from error
    if found.weighted:
        raise TypeError(arguments.message("data", DATA, value, WEIGHTS))
    if found.y is None:
        hint = "Its batches have no targets."
        raise TypeError(arguments.message("data", DATA, value, hint))
    return found.x, found.y


def check_shapes(name: str, x: Any, model: Any) -> None:
    """Whether inputs have the shapes that a model takes, where it says so.

    Raises:
        ValueError: names the argument, the shapes that are taken and those given.
    """
    if isinstance(model, Path) or not graph.is_functional(model):
        return
    wanted = [
        tuple(one.shape[1:]) for one in keras.tree.flatten(graph.input_structure(model))
    ]
    given = [tuple(one.shape[1:]) for one in keras.tree.flatten(x)]
    fits = len(wanted) == len(given) and all(
        len(one) == len(other)
        and all(n in (None, m) for n, m in zip(one, other, strict=True))
        for one, other in zip(wanted, given, strict=True)
    )
    if not fits:
        shapes = [("rows", *one) for one in wanted]
        allowed = f"inputs of the shapes {shapes}, as the model takes them"
        received = [tuple(one.shape) for one in keras.tree.flatten(x)]
        raise ValueError(arguments.message(name, allowed, received))


def example_of(value: Any, data: Any, models: dict[str, Any], latency: bool) -> Any:
    """A batch of one row, or None where models know their sizes.

    Raises:
        ValueError: latency is wanted of a functional model with unknown sizes.
    """
    if value is not None:
        rows.length("example", value, EXAMPLE)
        for one in models.values():
            check_shapes("example", value, one)
    source = value if value is not None else (data[0] if data else None)
    if source is not None:
        return rows.take(source, slice(0, 1))
    for name, one in models.items():
        functional = not isinstance(one, Path) and graph.is_functional(one)
        if latency and functional and needs_shapes(one):
            hint = (
                f"The inputs of {name} have sizes that are not known. Or latency=False."
            )
            raise ValueError(arguments.message("example", EXAMPLE, None, hint))
    return None


def energy_model(value: Any) -> EnergyModel:
    """An `EnergyModel`; that of 2014 for None."""
    if value is None:
        return EnergyModel()
    if not isinstance(value, EnergyModel):
        allowed = "a keras_fitkit.report.EnergyModel"
        raise TypeError(arguments.message("energy", allowed, value))
    return value
