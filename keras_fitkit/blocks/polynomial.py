"""PolynomialFeatures: products of the inputs, in scikit-learn's order."""

from __future__ import annotations

import itertools
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks._configured import ConfiguredLayer
from keras_fitkit.blocks._plan import Shape, Tensor


@serializable
class PolynomialFeatures(ConfiguredLayer):
    """All products of up to `degree` inputs.

    Inputs (a, b) of degree 2 give (1, a, b, a^2, a b, b^2). Columns and values are
    those of `sklearn.preprocessing.PolynomialFeatures`. There are C(m + d, d) of them
    for m inputs and degree d. It has no weights; scale the inputs first.

    Args:
        degree: d, an integer >= 1. Defaults to 2.
        interaction_only: whether each input comes at most once in a product. Defaults
            to False.
        include_bias: whether the column of ones comes first. Defaults to True.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        (batch, ..., m).

    Output shape:
        (batch, ..., columns).

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> layer = kf.blocks.PolynomialFeatures(2)
        >>> found = layer(np.array([[2.0, 3.0]]))
        >>> keras.ops.convert_to_numpy(found).tolist()
        [[1.0, 2.0, 3.0, 4.0, 6.0, 9.0]]
    """

    def __init__(
        self,
        degree: int = 2,
        *,
        interaction_only: bool = False,
        include_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.degree = arguments.integer("degree", degree, low=1)
        self.interaction_only = arguments.flag("interaction_only", interaction_only)
        self.include_bias = arguments.flag("include_bias", include_bias)
        self.input_spec = keras.InputSpec(min_ndim=2)

    def build(self, input_shape: Shape) -> None:
        """Checks that the number of inputs is known."""
        if input_shape[-1] is None:
            raise ValueError(
                f"The input of layer '{self.name}' must have a known last axis. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """The products, degree by degree."""
        inputs = ops.cast(inputs, self.compute_dtype)  # products of integers overflow
        columns = [ops.ones_like(inputs[..., :1])] if self.include_bias else []
        for chosen in self._chosen(inputs.shape[-1]):
            # One gather a factor: column j is the product over k of input chosen[j][k].
            product = ops.take(inputs, [one[0] for one in chosen], axis=-1)
            for factor in range(1, len(chosen[0])):
                more = ops.take(inputs, [one[factor] for one in chosen], axis=-1)
                product = ops.multiply(product, more)
            columns.append(product)
        return ops.concatenate(columns, axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the input, with the columns at the end."""
        chosen = self._chosen(int(input_shape[-1] or 0))
        columns = sum(len(one) for one in chosen) + int(self.include_bias)
        return (*input_shape[:-1], columns)

    def _chosen(self, inputs: int) -> list[list[tuple[int, ...]]]:
        """For each degree the inputs of each product; degrees without one left out."""
        choose = (
            itertools.combinations
            if self.interaction_only
            else itertools.combinations_with_replacement
        )
        found = [
            list(choose(range(inputs), degree)) for degree in range(1, self.degree + 1)
        ]
        return [one for one in found if one]
