"""regularize: the same model with penalties, dropout and noise, or without them."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras

from keras_fitkit._core import arguments, expansion, selection
from keras_fitkit._core.layers import check_keras_model, leaf_layers
from keras_fitkit._core.selection import Selection
from keras_fitkit.regularizers import augmenting, opening, presets
from keras_fitkit.regularizers.adjustable import (
    AdjustableDropout,
    AdjustableNoise,
    check_rate,
)
from keras_fitkit.regularizers.choosing import Chosen
from keras_fitkit.regularizers.inserting import Inserter, Settings
from keras_fitkit.regularizers.preset import Preset
from keras_fitkit.regularizers.removing import Remover
from keras_fitkit.regularizers.report import RegularizationReport


def regularize(
    model: Any,
    preset: Any = None,
    *,
    l1: float | None = None,
    l2: float | None = None,
    dropout: float | None = None,
    noise: float | None = None,
    max_norm: float | None = None,
    augment: str | None = None,
    layers: Selection = None,
    exclude: Selection = None,
    return_report: bool = False,
) -> Any:
    """The same model with penalties, dropout, noise or augmentation in it.

    The new model has the same weights and gives the same predictions; what is new acts
    in training alone. Penalties are in `model.losses` and in compiled functions, and
    are saved with the model: setting `layer.kernel_regularizer` on a built model does
    nothing of that.

    Dropout comes after the activations of hidden layers, after recurrent layers,
    attention and global pooling: never after the head, never between a convolution and
    its normalization, not in the gates of squeeze-and-excite. Convolutions get dropout
    of whole channels. A Dropout layer that is there already gets the new rate. The
    rates are variables, `kf.HyperparameterSchedule("*/dropout_rate", 0.0, 0.3)` moves
    them.

    Args:
        model: a built functional or Sequential model, with nested models of that kind,
            or a subclassed one whose `call` does the same for symbolic tensors and in
            training. It is not changed. Composite layers that offer `expand()` are
            expanded.
        preset: the name of a preset (`kf.regularizers.list_presets()`), a `Preset`, or
            "none", which takes penalties, dropout, noise, augmentation and `MaxNorm`
            out, against underfitting. Defaults to None.
        l1: factor of the sum of the absolute values of each kernel, >= 0.
        l2: factor of the sum of the squares of each kernel, >= 0. Keras has no 1/2 in
            it: `weight_decay=1e-4` of SGD in PyTorch is `l2=5e-5`.
        dropout: rate, in [0, 1).
        noise: standard deviation of normal noise on the inputs, in their units after
            Rescaling and Normalization, >= 0.
        max_norm: the largest norm of the weights into one unit, > 0.
        augment: the name of an image preset of `kf.augmentation`; what of it leaves the
            labels alone goes to the inputs, before any Rescaling.
        layers: which layers get penalties, norms and dropout: patterns of names or
            paths, layers, classes, functions of a layer that give a bool, or a list of
            these. Defaults to all.
        exclude: which layers do not. Defaults to none.
        return_report: also return a `RegularizationReport`. Defaults to False.

    Returns:
        A functional model, not compiled. With `return_report` a pair of it and the
        report. What a preset says of the optimizer, the loss and the data is not in a
        model: one warning tells the code for it.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; nothing asked
            for; a preset beside an argument that it sets; a pattern that matches
            nothing; a subclassed model whose calls cannot be seen; a quantized model;
            label smoothing beside SparseCategoricalCrossentropy; nothing to do.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4,)),
        ...         keras.layers.Dense(8, "relu", name="hidden"),
        ...         keras.layers.Dense(1, name="head"),
        ...     ]
        ... )
        >>> new = kf.regularize(model, l2=1e-4, dropout=0.3, exclude="head")
        >>> [layer.name for layer in new.layers[1:]]
        ['hidden', 'hidden_dropout', 'head']
        >>> len(new.losses)
        1
    """
    given: dict[str, Any] = {"l1": l1, "l2": l2, "dropout": dropout, "noise": noise}
    given.update(max_norm=max_norm, augment=augment)
    asked = {name: value for name, value in given.items() if value is not None}
    source = _opened(model)
    for name, value in (("layers", layers), ("exclude", exclude)):
        selection.check(name, value, functions=True)
    arguments.flag("return_report", return_report)
    removes = isinstance(preset, str) and preset == presets.NONE
    settings, by_hand = (None, ()) if removes else _settings(preset, asked)
    if settings is not None:
        _check_smoothing(model, settings.preset)
    if removes and asked:
        hint = "Call it twice: first to take out, then to put in."
        allowed = "alone: it takes regularization away"
        raise ValueError(arguments.message("preset", allowed, preset, hint))
    plain, layers, exclude = expansion.without_blocks(
        source,
        ("layers", layers),
        ("exclude", exclude),
        keep="exclude",
        whole=(AdjustableDropout, AdjustableNoise),  # their rates stay variables
    )
    chosen = Chosen(plain, layers, exclude)
    done = (
        Remover(plain, chosen)
        if settings is None
        else Inserter(plain, settings, chosen)
    )
    made = done.run(plain)
    report = RegularizationReport(tuple(done.rows), by_hand)
    if not report.changed and not by_hand:
        _nothing_done(model, report, removes)
    if by_hand and not return_report:
        warnings.warn(
            f"Not in the model, and so left to you: {'; '.join(by_hand)}.",
            stacklevel=2,
        )
    return (made, report) if return_report else made


def _opened(model: Any) -> Any:
    """The model as a functional one."""
    check_keras_model("model", model, built=True)
    for path, layer in leaf_layers(model):
        quantized = getattr(layer, "quantization_mode", None)
        if quantized or hasattr(type(layer), "compression_info"):
            hint = "Regularize first, then quantize."
            allowed = "a model without quantized layers"
            raise ValueError(arguments.message("model", allowed, path, hint))
    try:
        return opening.opened(model)
    except opening.CannotOpen as error:
        having = [
            path
            for path, layer in leaf_layers(model)
            if hasattr(layer, "kernel_regularizer")
        ]
        hint = (
            f"Its calls cannot be seen: {error}. Give `kernel_regularizer="
            "kf.regularizers.get(...)` to its layers where they are made"
            + (f" ({', '.join(having[:8])})." if having else ".")
        )
        allowed = "functional, Sequential, or subclassed with a plain `call`"
        text = arguments.message("model", allowed, type(model).__name__, hint)
        raise ValueError(text) from error


def _check_smoothing(model: Any, preset: Preset) -> None:
    """Refuses label smoothing for a loss that has none."""
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    names = {
        str(one if isinstance(one, str) else getattr(one, "name", one))
        for one in keras.tree.flatten(loss)
    }
    if preset.label_smoothing and "sparse_categorical_crossentropy" in names:
        hint = (
            "SparseCategoricalCrossentropy takes no `label_smoothing`: compile with "
            "keras.losses.CategoricalCrossentropy(label_smoothing="
            f"{preset.label_smoothing:g}) and y = keras.utils.to_categorical(y)."
        )
        allowed = "one without label smoothing for a model of class numbers"
        raise ValueError(arguments.message("preset", allowed, preset.name, hint))


def _settings(preset: Any, asked: dict[str, Any]) -> tuple[Settings, tuple[str, ...]]:
    """What to do in the model, and what is left to the caller."""
    for name, value in asked.items():
        if name == "dropout":
            check_rate(name, value)
        elif name == "augment":
            augmenting.check_image_preset(name, value)
        else:
            arguments.number(name, value, low=0, include_low=name != "max_norm")
    if preset is None:
        if not asked:
            known = ", ".join(["'none'", *map(repr, presets.PRESETS)])
            allowed = f"given, or one of l1, l2, dropout ...; it is one of {known}"
            raise ValueError(arguments.message("preset", allowed, None))
        own = {name: one for name, one in asked.items() if name != "augment"}
        found = Preset("given", spatial_dropout=asked.get("dropout"), **own)
        return Settings(found, asked.get("augment")), ()
    found = _preset(preset)
    twice = [name for name in asked if name in found.settings]
    if twice:
        set_to = found.settings[twice[0]]
        allowed = f"None with preset '{found.name}', which sets it to {set_to}"
        raise ValueError(arguments.message(twice[0], allowed, asked[twice[0]]))
    inside = {name: one for name, one in asked.items() if name != "augment"}
    if "dropout" in inside and found.spatial_dropout is None:
        inside["spatial_dropout"] = inside["dropout"]
    by_hand = found.by_hand
    return Settings(dataclasses.replace(found, **inside), asked.get("augment")), by_hand


def _preset(preset: Any) -> Preset:
    if isinstance(preset, Preset):
        return preset
    known = (presets.NONE, *presets.PRESETS)
    return presets.PRESETS[arguments.choice("preset", preset, known)]


def _nothing_done(model: Any, report: RegularizationReport, removes: bool) -> None:
    reasons = "; ".join(map(str, report.kept))
    hint = f"Layers that stay: {reasons}." if reasons else ""
    if not reasons and not removes:
        hint = (
            "Penalties are for layers with kernels; dropout is for what comes after "
            "the activations of hidden layers, not after the head. Do `layers` and "
            "`exclude` leave any of these?"
        )
    allowed = (
        "a model with regularization to take away"
        if removes
        else "a model in which there is a place for what is asked for"
    )
    raise ValueError(arguments.message("model", allowed, model.name, hint))
