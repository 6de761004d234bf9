"""Preset: what to do against overfitting, as data with a name and a source."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.regularizers.adjustable import check_rate
from keras_fitkit.regularizers.augmenting import IMAGE, TABULAR

# Of the model itself: `regularize` can do them.
IN_MODEL = (
    "l1",
    "l2",
    "orthogonal",
    "dropout",
    "spatial_dropout",
    "stochastic_depth",
    "noise",
    "max_norm",
)
RATES = ("dropout", "spatial_dropout", "stochastic_depth")


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named set of regularizers, with what it needed to be said in Keras's terms.

    Attributes:
        name: of the preset.
        l1: factor of the sum of absolute values of each kernel, >= 0.
        l2: factor of the sum of squares of each kernel, without 1/2, >= 0.
        orthogonal: factor of `keras.regularizers.OrthogonalRegularizer` on the kernels
            of Dense layers, by columns, >= 0.
        dropout: rate after hidden layers that are no convolutions, in [0, 1).
        spatial_dropout: rate of whole channels after convolutions, in [0, 1).
        stochastic_depth: rate of the last residual branch, in [0, 1); it grows on a
            line from the first.
        noise: standard deviation of what is added to the inputs, in their units, >= 0.
        max_norm: the largest norm of the weights into one unit, > 0.
        weight_decay: decoupled, for `keras.optimizers.AdamW` and the like, >= 0.
        label_smoothing: for the loss, in [0, 1).
        augment: for `kf.augmentation`.
        data: the augmentation of the source in words, where `kf.augmentation` has no
            preset of these numbers.
        source: where the numbers were read, or that they are this package's.
        conversion: what the source says, and how that became these numbers.

    Raises:
        TypeError, ValueError: a field outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> preset = kf.regularizers.Preset("mine", l2=1e-4, dropout=0.3)
        >>> preset.settings
        {'l2': 0.0001, 'dropout': 0.3}
    """

    name: str
    l1: float | None = None
    l2: float | None = None
    orthogonal: float | None = None
    dropout: float | None = None
    spatial_dropout: float | None = None
    stochastic_depth: float | None = None
    noise: float | None = None
    max_norm: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    augment: str | None = None
    data: str = ""
    source: str = ""
    conversion: str = ""

    def __post_init__(self) -> None:
        for name, value in self._given().items():
            if name == "augment":
                arguments.choice(name, value, (*IMAGE, *TABULAR))
            elif name in (*RATES, "label_smoothing"):
                check_rate(name, value)
            else:
                arguments.number(name, value, low=0, include_low=name != "max_norm")
        # No regularizer is made here: Keras's L1 and L2 make tensors, and the presets
        # of an import must not start the backend.
        _refuse_two(self.l1, self.l2, self.orthogonal)

    def _given(self) -> dict[str, Any]:
        fields = (*IN_MODEL, "weight_decay", "label_smoothing", "augment")
        found = {name: getattr(self, name) for name in fields}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets, by field."""
        return self._given()

    @property
    def regularizer(self) -> Any:
        """The penalty on one kernel, a `keras.regularizers` object; None for none."""
        return penalty(self.l1, self.l2, self.orthogonal)

    @property
    def by_hand(self) -> tuple[str, ...]:
        """What is not in the model, and the code that does it."""
        found = []
        if self.weight_decay is not None:
            found.append(
                "weight decay: optimizer = keras.optimizers.AdamW(learning_rate, "
                f"weight_decay={self.weight_decay:g}); "
                "kf.exclude_norms_and_biases(optimizer)"
            )
        if self.label_smoothing is not None:
            found.append(
                "label smoothing: keras.losses.CategoricalCrossentropy("
                f"label_smoothing={self.label_smoothing:g}), with one-hot labels"
            )
        if self.augment is not None:
            found.append(
                f"more data: dataset.map(kf.augmentation({self.augment!r})) after "
                "batching"
            )
        if self.data:
            found.append(f"more data, in the source: {self.data}")
        return tuple(found)


def penalty(l1: float | None, l2: float | None, orthogonal: float | None) -> Any:
    """The Keras regularizer of these factors; None for none.

    Raises:
        ValueError: an orthogonal factor beside another one.
    """
    _refuse_two(l1, l2, orthogonal)
    if orthogonal is not None:
        return keras.regularizers.OrthogonalRegularizer(orthogonal, mode="columns")
    if l1 is not None and l2 is not None:
        return keras.regularizers.L1L2(l1, l2)
    if l1 is not None:
        return keras.regularizers.L1(l1)
    return None if l2 is None else keras.regularizers.L2(l2)


def _refuse_two(l1: float | None, l2: float | None, orthogonal: float | None) -> None:
    if orthogonal is not None and (l1 is not None or l2 is not None):
        raise ValueError(
            "`orthogonal` must be None beside `l1` or `l2`: a kernel has one "
            f"regularizer. Received: orthogonal={orthogonal}, l1={l1}, l2={l2}."
        )
