"""augmentation: more data where it is cheap, from Keras's own layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from keras_fitkit._core import arguments

Tensor: TypeAlias = Any
Range = tuple[float, float]
Own = Callable[[], dict[str, Any]]  # what each layer gets, with a seed of its own
Maker = Callable[[Range, Own], list[Any]]

TABULAR = {"tabular-light": 0.05, "tabular-medium": 0.1, "tabular-strong": 0.2}
# They leave the values of pixels alone, whatever their range.
GEOMETRIC = (
    layers.RandomFlip,
    layers.RandomTranslation,
    layers.RandomRotation,
    layers.RandomZoom,
)


def _digits(values: Range, own: Own) -> list[Any]:
    return [
        layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", **own()),
        layers.RandomRotation(0.03, fill_mode="nearest", **own()),
        layers.RandomZoom(0.1, 0.1, fill_mode="nearest", **own()),
    ]


def _light(values: Range, own: Own) -> list[Any]:
    return [
        layers.RandomFlip("horizontal", **own()),
        layers.RandomTranslation(0.125, 0.125, **own()),
    ]


def _medium(values: Range, own: Own) -> list[Any]:
    return [*_light(values, own), layers.RandAugment(values, 2, 0.3, **own())]


def _strong(values: Range, own: Own) -> list[Any]:
    return [
        *_light(values, own),
        layers.RandAugment(values, 2, 0.5, **own()),
        layers.RandomErasing(0.25, value_range=values, **own()),
        layers.MixUp(0.2, **own()),
    ]


def _cutmix(values: Range, own: Own) -> list[Any]:
    return [*_light(values, own), layers.CutMix(1.0, **own())]


IMAGE: dict[str, Maker] = {
    "digits": _digits,
    "image-light": _light,
    "image-medium": _medium,
    "image-strong": _strong,
    "image-cutmix": _cutmix,
}
MIXING = (layers.MixUp, layers.CutMix)


def augmentation(
    preset: str, *, value_range: Range = (0.0, 255.0), seed: int | None = None
) -> Augmentation:
    """A function that makes other examples of a batch, for `tf.data` or a `PyDataset`.

    - "digits": shifts, turns and zooms of a tenth, for signs that must not be mirrored.
    - "image-light": mirrored left to right, and shifted by up to an eighth.
    - "image-medium": these, and `RandAugment` with two operations of strength .3.
    - "image-strong": with strength .5, `RandomErasing` in every fourth image, `MixUp`.
    - "image-cutmix": the light ones and `CutMix`.
    - "tabular-light", "tabular-medium", "tabular-strong": normal noise with a standard
      deviation of .05, .1 and .2, for features that are scaled to 1.

    `MixUp` and `CutMix` mix labels, which must be one-hot. All of it is for training
    data alone; the layers are those of `keras.layers`.

    Args:
        preset: one of the names above.
        value_range: of the pixels. Defaults to (0, 255).
        seed: an integer >= 0 for the same draws in each run, or None. Defaults to None.

    Returns:
        An `Augmentation`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import numpy as np, keras_fitkit as kf
        >>> augment = kf.augmentation("image-light", seed=1)
        >>> x, y = augment(np.zeros((8, 16, 16, 3), "float32"), np.zeros(8))
        >>> x.shape
        (8, 16, 16, 3)
    """
    name = arguments.choice("preset", preset, (*IMAGE, *TABULAR))
    seed = None if seed is None else arguments.integer("seed", seed, low=0)
    allowed = "two numbers, the second one larger"
    if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
        raise TypeError(arguments.message("value_range", allowed, value_range))
    low, high = (arguments.number("value_range", one) for one in value_range)
    if low >= high:
        raise ValueError(arguments.message("value_range", allowed, value_range))
    return Augmentation(name, (low, high), seed)


class Augmentation:
    """What `kf.augmentation` gives: call it on a batch.

    `augment(x)`, `augment(x, y)` and `augment(x, y, sample_weight)` give as many values
    as they take, as `dataset.map(augment)` needs. Arrays stay arrays, for a
    `PyDataset`.

    Args:
        preset: its name.
        value_range: of the pixels.
        seed: of the draws, or None.

    Attributes:
        preset: its name.
        layers: those of `keras.layers` that it applies; none for tables.

    Raises:
        TypeError: what is given is no array.
        ValueError: it is no batch of images, or of whole numbers where noise is added,
            or the labels cannot be mixed.

    Example:
        >>> import numpy as np, keras_fitkit as kf
        >>> augment = kf.augmentation("tabular-light", seed=1)
        >>> augment(np.zeros((4, 3), "float32")).shape
        (4, 3)
    """

    def __init__(self, preset: str, value_range: Range, seed: int | None) -> None:
        self.preset = preset
        self.layers: list[Any] = []
        self._noise = TABULAR.get(preset, 0.0)
        self._draws = np.random.default_rng(seed)
        self._generator = keras.random.SeedGenerator(seed)
        self._seed = seed
        if preset in IMAGE:
            self.layers = IMAGE[preset](value_range, _own(seed))

    def __call__(
        self, x: Tensor, y: Tensor = None, sample_weight: Tensor = None
    ) -> Any:
        """The batch, changed."""
        rest = [one for one in (y, sample_weight) if one is not None]
        if hasattr(x, "iloc"):  # a pandas DataFrame
            x = x.to_numpy()
        if not hasattr(x, "shape"):
            allowed = "one array or tensor with a batch of rows"
            raise TypeError(arguments.message("x", allowed, x))
        arrays = isinstance(x, np.ndarray)
        if self._noise:
            x = self._noisy(x)
            return (x, *rest) if rest else x
        if len(x.shape) != 4:
            allowed = "a batch of images (rows, height, width, channels)"
            hint = "Batch the dataset before it is mapped."
            raise ValueError(arguments.message("x", allowed, tuple(x.shape), hint))
        for layer in self.layers:
            if isinstance(layer, MIXING):
                x, y = self._mixed(layer, x, y, sample_weight)
                rest[0] = y
            else:
                x = layer(x, training=True)
        if arrays:
            x, *rest = (keras.ops.convert_to_numpy(one) for one in (x, *rest))
        return (x, *rest) if rest else x

    def _mixed(self, layer: Any, x: Tensor, y: Tensor, weight: Tensor) -> Any:
        if y is None or len(y.shape) != 2 or y.shape[-1] in (None, 1):
            shape = None if y is None else tuple(y.shape)
            allowed = f"one-hot labels (rows, classes) for {type(layer).__name__}"
            hint = "Use `keras.utils.to_categorical` or `tf.one_hot`."
            raise ValueError(arguments.message("y", allowed, shape, hint))
        if weight is not None:
            allowed = f"None: {type(layer).__name__} mixes rows of different weights"
            raise ValueError(arguments.message("sample_weight", allowed, "weights"))
        found = layer({"images": x, "labels": y}, training=True)
        return found["images"], found["labels"]

    def _noisy(self, x: Tensor) -> Tensor:
        kind = keras.backend.standardize_dtype(x.dtype)
        if not keras.backend.is_float_dtype(kind):
            hint = "Scale the features to 1 first; noise of .05 is lost in whole ones."
            raise ValueError(arguments.message("x", "of floats", kind, hint))
        if isinstance(x, np.ndarray):
            draw = self._draws.normal(0.0, self._noise, x.shape)
            return (x + draw).astype(x.dtype)
        if type(x).__module__.partition(".")[0] == "tensorflow":
            import tensorflow as tf

            shape = tf.shape(x)
            return x + tf.random.normal(shape, 0.0, self._noise, x.dtype, self._seed)
        return x + keras.random.normal(
            x.shape, 0.0, self._noise, kind, seed=self._generator
        )


def _own(seed: int | None, **more: Any) -> Own:
    """Seeds that follow each other: from the same one two layers draw the same."""
    count = itertools.count(0 if seed is None else seed)
    return lambda: {"seed": None if seed is None else next(count), **more}


def in_model(preset: str, tensor: Tensor) -> list[Any]:
    """The layers of a preset that can stand at the input of a model."""
    if len(tensor.shape) != 4:
        return []
    dtype = tensor.dtype if keras.backend.is_float_dtype(tensor.dtype) else None
    made = IMAGE[preset]((0.0, 255.0), _own(None, dtype=dtype))
    return [layer for layer in made if isinstance(layer, GEOMETRIC)]


def check_image_preset(name: str, value: object) -> str:
    """One of the presets for images."""
    return arguments.choice(name, value, tuple(IMAGE))
