"""The best matrix of a rank, plain or weighted by what the inputs are."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

Matrix: TypeAlias = "np.ndarray[Any, Any]"


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """A matrix as `left * sizes @ right`, the largest terms first.

    Attributes:
        left, right: (m, k) and (k, n).
        sizes: the k singular values, those of the weighted matrix if it was weighted.
    """

    left: Matrix
    sizes: Matrix
    right: Matrix

    def factors(self, rank: int) -> tuple[Matrix, Matrix]:
        """Two matrices (m, rank) and (rank, n) whose scales are alike."""
        roots = np.sqrt(self.sizes[:rank])
        return self.left[:, :rank] * roots, roots[:, None] * self.right[:rank]

    def variance(self, rank: int) -> float:
        """The fraction of the sum of squares that a rank keeps; 1 of a zero matrix."""
        squares = np.square(self.sizes)
        total = squares.sum()
        return float(squares[:rank].sum() / total) if total else 1.0

    def rank_for(self, variance: float) -> int:
        """The smallest rank that keeps so much, at least 1."""
        squares = np.square(self.sizes)
        kept = np.cumsum(squares)
        # The last sum and the total may differ by a rounding.
        enough = kept >= variance * kept[-1] * (1 - 1e-12)
        return int(np.argmax(enough)) + 1

    @property
    def full(self) -> int:
        """The full rank of the matrix's shape."""
        return len(self.sizes)


def decompose(matrix: Matrix, moments: Matrix | None = None) -> Decomposition:
    """The singular value decomposition of a kernel (m, n).

    With `moments`, the (m, m) means of x x' over inputs x, what is lost is measured in
    the outputs: the sum of squares of x' (W - W_r) is the least of all W_r of rank r.
    """
    kernel = np.asarray(matrix, "float64")
    if moments is None:
        left, sizes, right = np.linalg.svd(kernel, full_matrices=False)
        return Decomposition(left, sizes, right)
    values, vectors = np.linalg.eigh(moments)
    # Inputs that never occur would divide by zero, and cost nothing.
    floor = max(values.max(), 0.0) * 1e-7 or 1.0
    roots = np.sqrt(np.maximum(values, floor))
    weight = (vectors * roots) @ vectors.T
    left, sizes, right = np.linalg.svd(weight @ kernel, full_matrices=False)
    return Decomposition((vectors / roots) @ vectors.T @ left, sizes, right)
