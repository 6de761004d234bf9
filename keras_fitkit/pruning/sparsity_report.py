"""How sparse a model is: counted from its weights."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, layers
from keras_fitkit._core.targets import is_kernel


@dataclasses.dataclass(frozen=True)
class WeightSparsity:
    """The zeros of one weight.

    Attributes:
        path: path of its layer below the model and its own name, joined by "/".
        shape: its shape.
        zeros: number of weights that are exactly zero.
        prunable: whether `PruneSchedule` prunes it by default.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import WeightSparsity
        >>> row = WeightSparsity("dense/kernel", (4, 2), zeros=6, prunable=True)
        >>> row.size, row.sparsity
        (8, 0.75)
    """

    path: str
    shape: tuple[int, ...]
    zeros: int
    prunable: bool

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, 0.0 for an empty weight."""
        return self.zeros / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True, repr=False)
class SparsityReport:
    """The zeros of a model, made by `sparsity_of`.

    Zeros make a file smaller once it is compressed. They make neither the arrays in
    memory smaller nor dense layers faster.

    Attributes:
        weights: one `WeightSparsity` for each weight, in the order of the model.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> kernel = np.array([[0, 0], [0, 0], [0, 1], [1, 1]])
        >>> model.layers[0].set_weights([kernel, np.zeros(2)])
        >>> report = kf.sparsity_of(model)
        >>> report.sparsity, report.num_params, report.num_nonzero
        (0.625, 10, 3)
    """

    weights: tuple[WeightSparsity, ...]

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights that are pruned by default."""
        rows = [row for row in self.weights if row.prunable]
        size = sum(row.size for row in rows)
        return sum(row.zeros for row in rows) / size if size else 0.0

    @property
    def num_params(self) -> int:
        """All weights of the model, biases and norms included."""
        return sum(row.size for row in self.weights)

    @property
    def num_nonzero(self) -> int:
        """Those that are not zero."""
        return self.num_params - sum(row.zeros for row in self.weights)

    @property
    def total_sparsity(self) -> float:
        """Fraction of zeros among all weights."""
        return 1.0 - self.num_nonzero / self.num_params if self.num_params else 0.0

    @property
    def summary(self) -> str:
        """The report in one line."""
        return (
            f"{self.sparsity:.2%} of the prunable weights are zero; "
            f"{self.num_nonzero:,} of {self.num_params:,} parameters are not"
        )

    def render(self) -> str:
        """The report as text, a line a weight."""
        width = max([len(row.path) for row in self.weights], default=6)
        shapes = [" x ".join(map(str, row.shape)) for row in self.weights]
        wide = max([len(shape) for shape in shapes], default=5)
        lines = [self.summary]
        for row, shape in zip(self.weights, shapes, strict=True):
            mark = "" if row.prunable else "  (not pruned by default)"
            lines.append(
                f"  {row.path:<{width}}  {shape:>{wide}}  {row.sparsity:7.2%}{mark}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "sparsity": self.sparsity,
            "total_sparsity": self.total_sparsity,
            "num_params": self.num_params,
            "num_nonzero": self.num_nonzero,
            "weights": [
                {
                    "path": row.path,
                    "shape": list(row.shape),
                    "size": row.size,
                    "zeros": row.zeros,
                    "sparsity": row.sparsity,
                    "prunable": row.prunable,
                }
                for row in self.weights
            ],
        }

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<SparsityReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(row.path)}</td><td>{row.shape}</td>"
            f"<td>{row.sparsity:.2%}</td></tr>"
            for row in self.weights
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"


def sparsity_of(model: Any) -> SparsityReport:
    """Counts the zeros in the weights of a model.

    Args:
        model: a built Keras model, pruned or not.

    Returns:
        A `SparsityReport`: `sparsity`, `num_nonzero`, a row a weight, `render()`.

    Raises:
        TypeError: if it is no Keras 3 model.
        ValueError: if it is not built.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> dense = keras.layers.Dense(2, kernel_initializer="ones", name="last")
        >>> model = keras.Sequential([keras.Input((4,)), dense])
        >>> print(kf.sparsity_of(model))
        0.00% of the prunable weights are zero; 8 of 10 parameters are not
          last/kernel  4 x 2    0.00%
          last/bias        2  100.00%  (not pruned by default)
    """
    layers.check_keras_model("model", model, built=True)
    rows: list[WeightSparsity] = []
    seen: set[int] = set()
    for prefix, layer in layers.leaf_layers(model):
        for variable in _private.own_variables(layer):
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            path = f"{prefix}/{variable.name}" if prefix else variable.name
            value = np.asarray(keras.ops.convert_to_numpy(variable))
            zeros = int(value.size - np.count_nonzero(value))
            kernel = is_kernel(layer, variable)
            rows.append(WeightSparsity(path, tuple(variable.shape), zeros, kernel))
    return SparsityReport(tuple(rows))
