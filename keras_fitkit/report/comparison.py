"""Comparison: several models in one table and one picture."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from keras_fitkit.report import tables
from keras_fitkit.report.compression_results import (
    FEW_ROWS,
    few_rows,
    intervals,
    missing,
    resolution,
    timing,
)
from keras_fitkit.report.evaluation import main_measure
from keras_fitkit.report.figures import ADDED, LABELS, ModelFigures, cell
from keras_fitkit.report.forgotten import Forgotten
from keras_fitkit.report.latency import LatencyReport
from keras_fitkit.report.metric_values import PairedTest

COLUMNS = (
    "num_params",
    "num_nonzero",
    "bits_per_weight",
    "macs",
    "peak_memory",
    "keras_gzip_bytes",
    "litert_bytes",
    "litert_gzip_bytes",
    "packed_bytes",
    "keras_p90",
    "litert_p90",
)
SIZES = ("litert_gzip_bytes", "packed_bytes", "keras_gzip_bytes", "num_nonzero")
TIMES = ("litert_median", "keras_median")


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Several models side by side. Made by `kf.compare`.

    Attributes:
        models: a `ModelFigures` for each, in the order given; the first is the one that
            the others are tested against.
        latency: a `LatencyReport` of all, calls in turns, or None.
        rows: rows of `data`; 0 without.
        tests: a tuple of `PairedTest` for each model but the first, by name.
        forgotten: a `Forgotten` for each model but the first, by name.
        delegate: what runs LiteRT files, "" for its own kernels.
        backend: of Keras.
        reasons: why parts are missing.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> def net(units):
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(units)])
        >>> found = kf.compare({"big": net(32), "small": net(8)}, latency=False)
        >>> [one.macs for one in found.models] == [8 * 32, 8 * 8]
        True
    """

    models: tuple[ModelFigures, ...]
    latency: LatencyReport | None
    rows: int
    tests: dict[str, tuple[PairedTest, ...]]
    forgotten: dict[str, Forgotten]
    delegate: str = ""
    backend: str = ""
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def get(self, name: str) -> ModelFigures:
        """The figures of a model.

        Raises:
            KeyError: there is none of that name.
        """
        return {one.name: one for one in self.models}[name]

    @property
    def metric(self) -> str | None:
        """What the picture shows: accuracy, else a metric, else the loss."""
        found = main_measure(self.models[0].metrics)
        return None if found is None else found.name

    def pareto(self, cost: str, metric: str | None = None) -> list[str]:
        """The models that no other one beats in both a cost and a metric.

        Args:
            cost: the name of a figure, such as "litert_bytes".
            metric: its name. Defaults to that of the picture.

        Returns:
            Their names, the cheapest first; empty without data.
        """
        name = metric or self.metric
        points = []
        for one in self.models:
            value, found = getattr(one, cost), one.metric(name) if name else None
            if value is not None and found is not None:
                gain = found.value if found.better == "max" else -found.value
                points.append((one.name, value, gain))
        return pareto_front(points)

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = f"{len(self.models)} models"
        name = self.metric
        if name is None:
            return text
        best = [f"{one.name} {one.metric(name)}" for one in self.models]
        return f"{text}, {name}: {'; '.join(best)}"

    def render(self) -> str:
        """The report as text: a table, a column a model, and the tests in words."""
        return "\n".join([tables.console(self._heads(), self._rows()), *self._notes()])

    def to_markdown(self) -> str:
        """The report as a table and lines of Markdown."""
        table = tables.markdown(self._heads(), self._rows())
        return "\n".join([table, "", *(f"- {one}" for one in self._notes())])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "models": [one.to_dict() for one in self.models],
            "rows": self.rows,
            "tests": {
                name: [dataclasses.asdict(one) for one in found]
                for name, found in self.tests.items()
            },
            "forgotten": {k: one.to_dict() for k, one in self.forgotten.items()},
            "latency": self.latency.to_dict() if self.latency else None,
            "delegate": self.delegate,
            "backend": self.backend,
            "reasons": dict(self.reasons),
        }

    def plot(
        self, path: Any = None, *, size: str | None = None, metric: str | None = None
    ) -> Any:
        """A picture: the metric against size, and against latency where measured.

        Points carry their 95 % intervals; the line joins those that no other model
        beats in both.

        Args:
            path: the image file, by its suffix; None: none is written.
            size: the figure of the first panel, such as "litert_bytes". Defaults to the
                LiteRT file after gzip, or the first of packed file, `.keras` after gzip
                and weights that all models have.
            metric: its name. Defaults to a fraction of right rows, else the first
                metric, else the loss.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a path that cannot be written, a name that is not known, or a
                comparison without data.
        """
        from keras_fitkit.report import plots

        return plots.comparison(self, path, size, metric)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Comparison: {self.summary}>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(one)}</li>" for one in self._notes())
        table = tables.of_html(self._heads(), self._rows())
        return f"{table}<ul>{notes}</ul>"

    def _columns(self) -> list[str]:
        return [
            key
            for key in COLUMNS
            if any(getattr(one, key) is not None for one in self.models)
            and not (key in ADDED and self.latency is None)
        ]

    def _heads(self) -> list[str]:
        return ["", *(one.name for one in self.models)]

    def _rows(self) -> list[list[str]]:
        found = []
        for key in COLUMNS:
            timed = key in ADDED and self.latency is None
            if any(getattr(one, key) is not None for one in self.models) and not timed:
                found.append([LABELS[key], *(cell(one, key) for one in self.models)])
        for metric in self.models[0].metrics:
            values = [one.metric(metric.name) for one in self.models]
            texts = (
                [one.value_text, one.interval_text] if one else ["-", "-"]
                for one in values
            )
            both = list(zip(*texts, strict=True))
            found += [[metric.name, *both[0]], ["  95 % interval", *both[1]]]
        if self.forgotten:
            lost = (self.forgotten.get(one.name) for one in self.models)
            flipped = ("-" if one is None else str(one.flipped) for one in lost)
            found.append(["flipped samples", *flipped])
        return found

    def _notes(self) -> list[str]:
        found = []
        for name, tested in self.tests.items():
            shown = [one for one in tested if one.metric == self.metric]
            found += [f"{name}: {one.sentence}" for one in shown]
        if self.rows:
            text = intervals(self.models[0].metrics, self.rows)
            if self.tests:
                text += f"; tests are against {self.models[0].name}"
                text += (
                    "; flipped: rows that one of the two gets right, and not the other"
                )
            found.append(f"{text}.")
        if any(one.method == "McNemar" for each in self.tests.values() for one in each):
            told = resolution(self.rows)
            found.append(f"{told[0].upper()}{told[1:]}.")
        if few_rows(self.models[0].metrics, self.rows):
            found.append(FEW_ROWS)
        if self.latency is not None:
            found.append(timing(self.latency, self.backend, self.delegate))
        return [*found, *missing(self.models, self.reasons)]


def pareto_front(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """The names of (name, cost, gain) that none beats in both, the cheapest first."""
    front = []
    highest = float("-inf")
    for name, _, gain in sorted(points, key=lambda one: (one[1], -one[2])):
        if gain > highest:
            front.append(name)
            highest = gain
    return front
