"""The product of two matrices in the equation of an EinsumDense layer."""

from __future__ import annotations

import dataclasses
import math
import string
from typing import Any

import numpy as np
from keras import layers

from keras_fitkit.blocks import _factor_layers
from keras_fitkit.blocks._plan import Wiring
from keras_fitkit.blocks._svd import Matrix


@dataclasses.dataclass(frozen=True)
class EinsumForm:
    """An equation whose kernel axes are either contracted or in the output.

    Attributes:
        inputs, kernel, outputs: the letters of the three operands.
        sizes: of the kernel's axes, by letter.
    """

    inputs: str
    kernel: str
    outputs: str
    sizes: dict[str, int]

    @classmethod
    def of(cls, layer: Any) -> EinsumForm | None:
        """The form of a built layer, or None."""
        left, _, outputs = layer.equation.replace(" ", "").partition("->")
        inputs, kernel = left.split(",")
        sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
        form = cls(inputs, kernel, outputs, sizes)
        mixed = set(kernel) & set(inputs) & set(outputs)
        fits = set(form.contracted) <= set(inputs) and form.contracted and form.kept
        return form if fits and not mixed else None

    @property
    def contracted(self) -> str:
        """The letters that are summed over, in the kernel's order."""
        return "".join(one for one in self.kernel if one not in self.outputs)

    @property
    def kept(self) -> str:
        """The letters that index the outputs, in the kernel's order."""
        return "".join(one for one in self.kernel if one in self.outputs)

    def matrix(self, kernel: Matrix) -> Matrix:
        """The kernel as (contracted, kept)."""
        order = [self.kernel.index(one) for one in self.contracted + self.kept]
        rows = math.prod(self.sizes[one] for one in self.contracted)
        return np.transpose(kernel, order).reshape(rows, -1)

    def rows(self, array: Any) -> Matrix:
        """An input as rows of what is contracted."""
        letters = self.inputs.replace("...", "")
        ahead = array.ndim - len(letters)
        at = self.inputs.index("...") if "..." in self.inputs else 0
        place = {
            one: number if number < at else number + ahead
            for number, one in enumerate(letters)
        }
        last = [place[one] for one in self.contracted]
        first = [axis for axis in range(array.ndim) if axis not in last]
        count = math.prod(array.shape[axis] for axis in last)
        return np.transpose(array, first + last).reshape(-1, count)

    def make(self, layer: Any, down: Matrix, up: Matrix) -> Wiring:
        """Two layers of this kind, the second one with bias and activation."""
        rank = down.shape[1]
        letter = next(
            one
            for one in string.ascii_lowercase
            if one not in self.inputs + self.kernel + self.outputs
        )
        between = self.inputs
        for one in self.contracted:
            between = between.replace(one, "")
        between += letter
        first = layers.EinsumDense(
            f"{self.inputs},{self.contracted}{letter}->{between}",
            output_shape=self._shape(layer, between, letter, rank),
            **_factor_layers.own_of(layer),
        )
        equation = f"{between},{letter}{self.kept}->{self.outputs}"
        return _factor_layers.pair(layer, first, {"equation": equation}, down, up)

    def _shape(self, layer: Any, between: str, letter: str, rank: int) -> Any:
        """The sizes of `between` without the examples', as the layer has them."""
        given = layer.get_config()["output_shape"]
        shape = (given,) if isinstance(given, int) else tuple(given)
        known = dict(zip(reversed(self.outputs), reversed(shape), strict=False))
        letters = between.replace("...", "")
        if "..." not in between:
            letters = letters[1:]
        return tuple(rank if one == letter else known.get(one) for one in letters)
