"""CompressionReport: what a model costs and knows, beside what it was made from."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

from keras_fitkit.report import statistics, tables
from keras_fitkit.report.comparing import NOT_ASKED
from keras_fitkit.report.figures import ADDED, ROWS, ModelFigures, cell
from keras_fitkit.report.forgotten import Forgotten
from keras_fitkit.report.latency import LatencyReport
from keras_fitkit.report.metric_values import PairedTest


@dataclasses.dataclass(frozen=True, repr=False)
class CompressionReport:
    """What a compressed model costs and how good it is, beside its baseline.

    Attributes:
        model: a `ModelFigures`: its own figures.
        baseline: those of the baseline, or None.
        latency: a `LatencyReport` of both, calls in turns; None where it was not
            measured.
        rows: rows of `data`; 0 without.
        tests: a `PairedTest` for each metric; empty without baseline or data.
        forgotten: a `Forgotten`; None without baseline, data or classes.
        delegate: what runs LiteRT files, "" for its own kernels.
        backend: of Keras.
        reasons: why parts are None: "latency", "metrics", "tests", "forgotten".

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> big = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
        >>> report = kf.compression_report(model, big, latency=False)
        >>> report.ratio("num_params") == (8 * 16 + 16) / (8 * 4 + 4)
        True
        >>> report.model.keras_median, report.reasons["latency"]
        (None, 'latency=False')
    """

    model: ModelFigures
    baseline: ModelFigures | None
    latency: LatencyReport | None
    rows: int
    tests: tuple[PairedTest, ...]
    forgotten: Forgotten | None
    delegate: str = ""
    backend: str = ""
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def ratio(self, key: str) -> float | None:
        """Baseline over model: 4.0 says that the model takes a quarter.

        Args:
            key: the name of a figure, such as "litert_bytes". For medians of latency
                the median over rounds of the ratio of CPU time.
        """
        if self.baseline is None:
            return None
        if key in ("keras_median", "litert_median") and self.latency is not None:
            runtime = "Keras" if key.startswith("keras") else "LiteRT"
            found = self.latency.ratio(runtime, against=self.baseline.name)
            return 1 / found if found else None
        mine, other = getattr(self.model, key), getattr(self.baseline, key)
        return other / mine if mine and other else None

    @property
    def summary(self) -> str:
        """The report in one line."""
        parts = []
        for key, label in (
            ("num_nonzero", "weights"),
            ("macs", "MACs"),
            ("litert_bytes", "LiteRT bytes"),
            ("litert_gzip_bytes", "after gzip"),
            ("packed_bytes", "packed bytes"),
        ):
            ratio = self.ratio(key)
            if ratio is not None:
                parts.append(f"{ratio:.3g}x fewer {label}" if ratio > 1.005 else "")
        text = ", ".join(part for part in parts if part)
        if not text:
            count, size = (cell(self.model, k) for k in ("num_params", "keras_bytes"))
            text = f"{self.model.name}: {count} parameters, {size} as .keras"
        tested = [one for one in self.tests if one.method == "McNemar"] or self.tests
        return f"{text}; {tested[0].sentence}" if tested else text

    @property
    def uncertainty(self) -> str:
        """What the number of rows allows to say, in words; "" without data."""
        if not self.rows:
            return ""
        found = [intervals(self.model.metrics, self.rows) + "."]
        if any(one.method == "Wilson" for one in self.model.metrics):
            row = statistics.points(100 / self.rows)
            found.append(f"One row is {row} points; {resolution(self.rows)} here.")
        if few_rows(self.model.metrics, self.rows):
            found.append(FEW_ROWS)
        return " ".join(found)

    def render(self) -> str:
        """The report as text: a table, the tests in words, what is missing and why."""
        lines = [tables.console(self._heads(), self._rows())]
        lines += [one.sentence for one in self.tests]
        if self.forgotten is not None:
            lines.append(self.forgotten.summary)
        return "\n".join([*lines, *self._notes()])

    def to_markdown(self) -> str:
        """The report as a table and lines of Markdown."""
        lines = [tables.markdown(self._heads(), self._rows()), ""]
        said = [*(one.sentence for one in self.tests), *self._notes()]
        if self.forgotten is not None:
            said.insert(len(self.tests), self.forgotten.summary)
        return "\n".join([*lines, *(f"- {one}" for one in said)])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        keys = [row.key for row in ROWS if self.ratio(row.key) is not None]
        return {
            "model": self.model.to_dict(),
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "ratios": {key: self.ratio(key) for key in keys},
            "rows": self.rows,
            "tests": [dataclasses.asdict(one) for one in self.tests],
            "forgotten": self.forgotten.to_dict() if self.forgotten else None,
            "latency": self.latency.to_dict() if self.latency else None,
            "delegate": self.delegate,
            "backend": self.backend,
            "reasons": dict(self.reasons),
        }

    def plot(self, path: Any = None) -> Any:
        """A picture: what is left of the baseline, and the metrics with intervals.

        Without a baseline it shows the bytes of each weight.

        Args:
            path: the image file, by its suffix; None: none is written.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a path that cannot be written.
        """
        from keras_fitkit.report import plots

        return plots.compression(self, path)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<CompressionReport: {self.summary}>"

    def _repr_html_(self) -> str:
        said = [*(one.sentence for one in self.tests), *self._notes()]
        notes = "".join(f"<li>{html.escape(one)}</li>" for one in said)
        table = tables.of_html(self._heads(), self._rows())
        return f"<b>{html.escape(self.summary)}</b>{table}<ul>{notes}</ul>"

    def _heads(self) -> list[str]:
        if self.baseline is None:
            return ["", self.model.name]
        return ["", self.baseline.name, self.model.name, "baseline / model"]

    def _rows(self) -> list[list[str]]:
        both = [self.model] if self.baseline is None else [self.baseline, self.model]
        found = []
        for row in ROWS:
            if row.key in ADDED and self.latency is None:
                continue
            cells = [cell(one, row.key) for one in both]
            if self.baseline is not None:
                ratio = self.ratio(row.key)
                cells.append("" if ratio is None else f"{ratio:.2f}")
            found.append([row.label, *cells])
        for metric in self.model.metrics:
            cells = [str(one.metric(metric.name) or "-") for one in both]
            found.append([metric.name, *cells, *[""] * (len(both) - 1)])
        return found

    def _notes(self) -> list[str]:
        found = [self.uncertainty] if self.uncertainty else []
        if self.latency is not None:
            found.append(timing(self.latency, self.backend, self.delegate))
        return [*found, *missing([self.baseline, self.model], self.reasons)]


FEW_ROWS = "With so few rows a bootstrap is too sure of itself."
_FEW = 30


def intervals(metrics: Any, rows: int) -> str:
    """What the intervals are of, in words."""
    over = f"{rows:,} row{'s' if rows > 1 else ''}"
    if any(one.low is not None for one in metrics):
        return f"Intervals are 95 %, over {over}"
    return f"Metrics are over {over}, without intervals"


def resolution(rows: int) -> str:
    """What so many rows cannot show at all, in words."""
    flips = statistics.fewest_flips()
    if rows < flips:
        return "no difference at all can be told from noise"
    share = statistics.points(100 * flips / rows)
    return (
        f"a difference of fewer than {flips} rows ({share} points) can never be told "
        "from noise"
    )


def few_rows(metrics: Any, rows: int) -> bool:
    """Whether there are intervals by bootstrap of too few rows."""
    return rows < _FEW and any(one.method == "bootstrap" for one in metrics)


def timing(latency: LatencyReport, backend: str, delegate: str) -> str:
    """How latency was measured, in words."""
    text = (
        f"Latency: {latency.runs} calls of one row each, in turns, on "
        f"{latency.machine}; Keras: compiled predict_on_batch on {backend}, its own "
        "threads"
    )
    if any(row.runtime == "LiteRT" and row.seconds for row in latency.rows):
        text += f"; LiteRT: 1 thread, {delegate or 'built-in kernels'}"
    text += "; ratios are of CPU time."
    if latency.unsteady:
        text += f" Disturbed by other work: {', '.join(latency.unsteady)}."
    return text


def missing(models: Any, reasons: dict[str, str]) -> list[str]:
    """What could not be had and why: a line for each reason."""
    labels: dict[tuple[str, str], list[str]] = {}
    for figures in models:
        if figures is None:
            continue
        for row in ROWS:
            why = figures.reason(row.key)
            told = row.key in ADDED and "latency" in reasons
            if getattr(figures, row.key) is None and why and not told:
                labels.setdefault((figures.name, why), []).append(row.label)
    found = [
        f"{name}: no {', '.join(keys)}: {why}" for (name, why), keys in labels.items()
    ]
    asked = {key: why for key, why in reasons.items() if why not in NOT_ASKED}
    return [*found, *(f"no {key}: {why}" for key, why in asked.items())]
