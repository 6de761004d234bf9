"""How large a packed model is, tensor by tensor."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

_HEADINGS = ("tensor", "shape", "type", "bytes", "packed", "entropy", "way")


@dataclasses.dataclass(frozen=True)
class TensorSize:
    """What one tensor takes.

    Attributes:
        name: its path in Keras's file of weights.
        shape: its sizes.
        dtype: its type, "float32" for one.
        bytes: as plain values.
        packed_bytes: its coded values, with their codebook, histogram and scales.
        entropy_bytes: the empirical entropy of the coded symbols, each on its own: a
            coder that knew their histograms would need so much. Codebooks and scales
            are not in it. One that also knows rows and columns may need less.
        way: how it is coded, in words.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.packing import TensorSize
        >>> TensorSize("layers/dense/vars/1", (10,), "float32", 40, 41, 40.0, "raw").way
        'raw'
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    packed_bytes: int
    entropy_bytes: float
    way: str


@dataclasses.dataclass(frozen=True, repr=False)
class PackedSize:
    """The size of a packed model.

    Attributes:
        file_bytes: the whole file.
        tensors: a `TensorSize` for each tensor.
        notes: what would make the file smaller, in words.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layers = [keras.Input((64,)), keras.layers.Dense(10)]
        >>> size = kf.packed_size(keras.Sequential(layers))
        >>> size.unpacked_bytes == 4 * (64 * 10 + 10)
        True
        >>> size.file_bytes == size.weights_bytes + size.metadata_bytes
        True
    """

    file_bytes: int
    tensors: tuple[TensorSize, ...]
    notes: tuple[str, ...] = ()

    @property
    def weights_bytes(self) -> int:
        """The coded values of all tensors, with codebooks, histograms and scales."""
        return sum(one.packed_bytes for one in self.tensors)

    @property
    def metadata_bytes(self) -> int:
        """The rest: the description of the model, shapes, checksums."""
        return self.file_bytes - self.weights_bytes

    @property
    def unpacked_bytes(self) -> int:
        """All tensors as plain values."""
        return sum(one.bytes for one in self.tensors)

    @property
    def entropy_bytes(self) -> float:
        """The entropies of all tensors together."""
        return sum(one.entropy_bytes for one in self.tensors)

    @property
    def ratio(self) -> float:
        """Plain values per byte of the whole file."""
        return self.unpacked_bytes / self.file_bytes

    @property
    def summary(self) -> str:
        """The report in one line."""
        return (
            f"{self.file_bytes:,} bytes packed ({self.weights_bytes:,} of them weights)"
            f", {self.unpacked_bytes:,} as plain values: {self.ratio:.1f}x"
        )

    def render(self) -> str:
        """The report as text, a line a tensor."""
        rows = [_HEADINGS, *map(_cells, self.tensors)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        left = (0, 1, 2, 6)
        lines = [
            "  ".join(
                cell.ljust(width) if place in left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.summary, *lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "file_bytes": self.file_bytes,
            "weights_bytes": self.weights_bytes,
            "metadata_bytes": self.metadata_bytes,
            "unpacked_bytes": self.unpacked_bytes,
            "entropy_bytes": self.entropy_bytes,
            "ratio": self.ratio,
            "notes": list(self.notes),
            "tensors": [
                {**dataclasses.asdict(one), "shape": list(one.shape)}
                for one in self.tensors
            ],
        }

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<PackedSize: {self.summary}>"

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{one}</th>" for one in _HEADINGS)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(one))
            + "</tr>"
            for one in self.tensors
        )
        text = html.escape(self.summary)
        notes = "".join(f"<p>{html.escape(one)}</p>" for one in self.notes)
        return f"<b>{text}</b><table><tr>{heads}</tr>{rows}</table>{notes}"


def _cells(one: TensorSize) -> tuple[str, ...]:
    return (
        one.name,
        "x".join(map(str, one.shape)) or "scalar",
        one.dtype,
        f"{one.bytes:,}",
        f"{one.packed_bytes:,}",
        f"{one.entropy_bytes:,.0f}",
        one.way,
    )
