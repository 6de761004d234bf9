"""Models of a study: fresh ones for each run, and others compiled like them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_fitkit._core import arguments, rows
from keras_fitkit._core.layers import leaf_layers

SIGNATURE = "() -> a new, compiled model"


def check(build_fn: Any) -> Callable[[], Any]:
    """A function that makes a new, compiled model each time; it is called twice.

    Raises:
        TypeError: no such function, or no model.
        ValueError: a model that is not compiled; two that share something.
    """
    build = arguments.function("build_fn", build_fn, SIGNATURE, count=0)
    first, second = build(), build()
    for model in (first, second):
        if not isinstance(model, keras.Model):
            hint = "It must return a keras.Model."
            raise TypeError(_message(model, hint))
        if not model.compiled or getattr(model, "optimizer", None) is None:
            hint = "The model must be compiled, with an optimizer: call compile in it."
            raise ValueError(_message(build_fn, hint))
    shared = _shared(first, second)
    if shared:
        hint = (
            f"Two calls gave {shared}: what one run learns would be in the next. Make "
            "the model, its layers and its optimizer inside the function."
        )
        raise ValueError(_message(build_fn, hint))
    return build


def _message(received: Any, hint: str) -> str:
    return arguments.message("build_fn", f"a callable {SIGNATURE}", received, hint)


def _shared(first: Any, second: Any) -> str:
    """What two models have in common, in words, or ""."""
    if first is second:
        return "the same model"
    if first.optimizer is second.optimizer:
        return "models with the same optimizer"
    own = {id(layer): path for path, layer in leaf_layers(first)}
    for _, layer in leaf_layers(second):
        if id(layer) in own:
            return f"models with the same layer {own[id(layer)]!r}"
    variables = {id(one) for one in first.variables}
    for one in second.variables:
        if id(one) in variables:
            return f"models with the same variable {one.path!r}"
    return ""


def built(model: Any, x: Any) -> Any:
    """The model, built: a Sequential without Input sees a row first."""
    if not model.built:
        model(rows.take(x, slice(0, 1)), training=False)
    return model


def fresh(model: Any) -> Any:
    """The same layers with new weights, not compiled.

    For what `kf.widen` and `kf.shrink` give: copies of channels that are alike learn
    alike, and a run must not start ahead of the others.
    """
    return keras.models.clone_model(model)


def compile_like(
    model: Any, original: Any, *, rate: float = 1.0, clipnorm: float | None = None
) -> Any:
    """Compiles `model` as `original` is, without its metrics.

    Args:
        model: not compiled.
        original: compiled.
        rate: what the learning rate is multiplied with.
        clipnorm: of the optimizer, where it is given.

    Raises:
        ValueError: the learning rate is no plain number.
    """
    config = original.get_compile_config()
    if config is None:
        raise ValueError("how the model is compiled cannot be read")
    config.update(metrics=None, weighted_metrics=None)
    if config.get("jit_compile"):
        # What "auto" came to for the original may not do for this one (augmentation).
        config["jit_compile"] = "auto"
    if rate != 1.0 or clipnorm is not None:
        inner = config["optimizer"]["config"]
        if not isinstance(inner.get("learning_rate"), (int, float)):
            raise ValueError("its learning rate is no plain number")
        inner["learning_rate"] = rate * inner["learning_rate"]
        if clipnorm is not None:
            inner.update(clipnorm=clipnorm, global_clipnorm=None, clipvalue=None)
    with keras.saving.custom_object_scope(_own_objects(original)):
        model.compile_from_config(config)
    return model


def _own_objects(model: Any) -> dict[str, Any]:
    """Losses and optimizers of the user's that Keras cannot find by name."""
    found: dict[str, Any] = {type(model.optimizer).__name__: type(model.optimizer)}
    for loss in keras.tree.flatten(model.loss):
        if isinstance(loss, keras.losses.Loss):
            found[type(loss).__name__] = type(loss)
        elif callable(loss) and hasattr(loss, "__name__"):
            found[loss.__name__] = loss
    return found
