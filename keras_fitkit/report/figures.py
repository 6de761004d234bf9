"""ModelFigures: what one model costs, and the rows of every table of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_fitkit.report import tables
from keras_fitkit.report.latency import Latency
from keras_fitkit.report.metric_values import MetricValue
from keras_fitkit.report.sizes import bytes_text
from keras_fitkit.report.storage import WeightStorage


@dataclasses.dataclass(frozen=True, repr=False)
class ModelFigures:
    """What one model costs. A figure that could not be had is None, never 0.

    Attributes:
        name: of the model.
        storage: a `WeightStorage` for each weight.
        num_params: all weights.
        num_nonzero: those that are not zero.
        macs: multiplications with addition for one example.
        nonzero_macs: those with a weight that is not zero. No speed-up: dense kernels
            multiply zeros as well.
        peak_memory: bytes of activations alive at once, for one example, by liveness
            over the graph (see the guide for the rule).
        arena: bytes that LiteRT keeps for activations, for one example, with its
            built-in kernels; read from the addresses of its tensors.
        keras_bytes, keras_gzip_bytes: of the `.keras` file without optimizer.
        litert_bytes, litert_gzip_bytes: of the LiteRT file.
        litert_mode: its format; "file" for one that was given.
        packed_bytes: of the file that `kf.save_packed` writes.
        energy: joules of one example by an `EnergyModel`: for ranking only.
        keras_latency, litert_latency: a `Latency`; None without `latency=True`.
        metrics: a `MetricValue` for each compiled loss and metric.
        reasons: why figures are None, by their name.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> figures = kf.compression_report(model, latency=False).model
        >>> figures.macs == 4 * 2
        True
        >>> figures.peak_memory == 4 * (4 + 2)  # bytes of float32
        True
    """

    name: str
    storage: tuple[WeightStorage, ...] = ()
    num_params: int | None = None
    num_nonzero: int | None = None
    macs: int | None = None
    nonzero_macs: int | None = None
    peak_memory: int | None = None
    arena: int | None = None
    keras_bytes: int | None = None
    keras_gzip_bytes: int | None = None
    litert_bytes: int | None = None
    litert_gzip_bytes: int | None = None
    litert_mode: str = ""
    packed_bytes: int | None = None
    energy: float | None = None
    keras_latency: Latency | None = None
    litert_latency: Latency | None = None
    metrics: tuple[MetricValue, ...] = ()
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def bits_per_weight(self) -> float | None:
        """Mean over all weights of the bits of one."""
        count = sum(one.size for one in self.storage)
        return sum(one.total_bits for one in self.storage) / count if count else None

    @property
    def keras_median(self) -> float | None:
        """Seconds of a Keras call, the median."""
        return self.keras_latency.median if self.keras_latency else None

    @property
    def keras_p90(self) -> float | None:
        """Nine of ten Keras calls take at most so many seconds."""
        return self.keras_latency.p90 if self.keras_latency else None

    @property
    def litert_median(self) -> float | None:
        """Seconds of a LiteRT call, the median."""
        return self.litert_latency.median if self.litert_latency else None

    @property
    def litert_p90(self) -> float | None:
        """Nine of ten LiteRT calls take at most so many seconds."""
        return self.litert_latency.p90 if self.litert_latency else None

    def reason(self, key: str) -> str:
        """Why a figure is None; "" where nothing is said."""
        for name, latency in (
            ("keras_", self.keras_latency),
            ("litert_", self.litert_latency),
        ):
            if key in (f"{name}median", f"{name}p90") and latency is not None:
                return latency.reason
        return self.reasons.get(key, "")

    def metric(self, name: str) -> MetricValue | None:
        """The metric of a name."""
        return next((one for one in self.metrics if one.name == name), None)

    def render(self) -> str:
        """A line for each weight, as text: what it is made of."""
        return tables.console(WEIGHTS, [_weight(one) for one in self.storage])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values that `json.dumps` takes."""
        found = dataclasses.asdict(self)
        found["bits_per_weight"] = self.bits_per_weight
        for runtime in ("keras", "litert"):
            found.pop(f"{runtime}_latency")
            for what in ("median", "p90"):
                key = f"{runtime}_{what}"
                found[f"{key}_seconds"] = getattr(self, key)
                if self.reason(key):
                    found["reasons"] = {**found["reasons"], key: self.reason(key)}
        for row in found["storage"]:
            row["shape"] = list(row["shape"])
        return found

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        return tables.of_html(WEIGHTS, [_weight(one) for one in self.storage])

    def __repr__(self) -> str:
        return f"<ModelFigures of {self.name}>"


WEIGHTS = ("weight", "shape", "values", "not zero", "distinct", "bits", "bytes by them")


def _weight(one: WeightStorage) -> tuple[str, ...]:
    shape = "x".join(map(str, one.shape)) or "scalar"
    counts = (one.size, one.num_nonzero, one.distinct, one.bits)
    size = bytes_text(one.total_bits / 8)
    return (one.path, shape, *(f"{count:,}" for count in counts), size)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the tables: a figure, how it is called and written."""

    key: str
    label: str
    text: Callable[[Any], str]


def _count(value: int | float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value >= 1e-4 else f"{1e6 * value:.3g} us"


def _joules(value: float) -> str:
    return f"{1e6 * value:.3g} uJ"


ROWS = (
    Row("num_params", "parameters", _count),
    Row("num_nonzero", "not zero", _count),
    Row("bits_per_weight", "bits a weight", lambda value: f"{value:.1f}"),
    Row("macs", "MACs", _count),
    Row("nonzero_macs", "effective MACs (not a speed-up)", _count),
    Row("peak_memory", "activations at once", bytes_text),
    Row("arena", "LiteRT arena", bytes_text),
    Row("keras_bytes", ".keras", bytes_text),
    Row("keras_gzip_bytes", ".keras gzip", bytes_text),
    Row("litert_bytes", "LiteRT", bytes_text),
    Row("litert_gzip_bytes", "LiteRT gzip", bytes_text),
    Row("packed_bytes", "packed", bytes_text),
    Row("keras_median", "Keras median", _seconds),
    Row("keras_p90", "Keras p90", _seconds),
    Row("litert_median", "LiteRT median", _seconds),
    Row("litert_p90", "LiteRT p90", _seconds),
    Row("energy", "energy (model, ranking only)", _joules),
)
LABELS = {row.key: row.label for row in ROWS}
TEXTS = {row.key: row.text for row in ROWS}
ADDED = frozenset(("keras_median", "keras_p90", "litert_median", "litert_p90"))


def cell(figures: ModelFigures, key: str) -> str:
    """A figure as text; "-" where there is none."""
    value = getattr(figures, key)
    return "-" if value is None else TEXTS[key](value)
