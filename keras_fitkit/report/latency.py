"""What `measure_latency` measured."""

from __future__ import annotations

import dataclasses
import html
import statistics
from collections.abc import Sequence
from typing import Any

UNSTEADY = 0.2  # a spread above it says that other work disturbed the measurement


@dataclasses.dataclass(frozen=True)
class Latency:
    """The calls of one model in one runtime.

    Attributes:
        model: "model" or "against".
        runtime: "Keras" (a compiled call of `predict_on_batch`) or "LiteRT".
        seconds: of each call, in the order of the runs; empty where there are none.
        cpu_seconds: of the process in each call, all threads together.
        threads: how many were asked for; None where that is the backend's business.
        reason: why there are none; "" where there are.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import Latency
        >>> one = Latency("model", "LiteRT", (0.001, 0.002, 0.004), (0.001,) * 3, 1)
        >>> one.median, one.p90
        (0.002, 0.004)
    """

    model: str
    runtime: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    threads: int | None
    reason: str = ""

    @property
    def median(self) -> float | None:
        """Seconds of a call; None where there are none."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def cpu_median(self) -> float | None:
        """CPU seconds of a call: steadier than the others on a busy machine."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    @property
    def p90(self) -> float | None:
        """Nine of ten calls take at most so many seconds."""
        return _quantile(self.seconds, 0.9) if self.seconds else None

    @property
    def spread(self) -> float | None:
        """The distance of the quartiles over the median."""
        if not self.seconds:
            return None
        low, high = _quantile(self.seconds, 0.25), _quantile(self.seconds, 0.75)
        return (high - low) / statistics.median(self.seconds)

    def __str__(self) -> str:
        if not self.seconds:
            return f"{self.runtime:<7} {self.model:<8} not measured: {self.reason}"
        return (
            f"{self.runtime:<7} {self.model:<8} median {_text(self.median)}, "
            f"p90 {_text(self.p90)}, CPU {_text(self.cpu_median)}, "
            f"spread {self.spread:.0%}"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class LatencyReport:
    """How long a model takes, beside another one.

    Attributes:
        rows: a `Latency` for each model and runtime.
        batch: rows of each call.
        machine: the processor, and how many cores there are.
        runs: calls that were measured of each.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import Latency, LatencyReport
        >>> rows = (
        ...     Latency("model", "Keras", (0.002,) * 9, (0.002,) * 9, None),
        ...     Latency("against", "Keras", (0.004,) * 9, (0.004,) * 9, None),
        ... )
        >>> LatencyReport(rows, 1, "x86_64", 9).ratio("Keras")
        0.5
    """

    rows: tuple[Latency, ...]
    batch: int
    machine: str
    runs: int

    def get(self, model: str, runtime: str) -> Latency | None:
        """The row of a model ("model" or "against") and a runtime."""
        for row in self.rows:
            if (row.model, row.runtime) == (model, runtime):
                return row
        return None

    def ratio(
        self, runtime: str, model: str = "model", against: str = "against"
    ) -> float | None:
        """Median over the rounds of CPU time of the model over that of `against`."""
        found = self._ratios(runtime, model, against)
        return statistics.median(found) if found else None

    def interval(self, runtime: str) -> tuple[float, float] | None:
        """About 95 % for `ratio`, from the order of the rounds' ratios."""
        found = sorted(self._ratios(runtime))
        if len(found) < 6:
            return None
        off = int(0.98 * len(found) ** 0.5)
        middle = len(found) // 2
        low, high = max(0, middle - off), min(len(found) - 1, middle + off)
        return found[low], found[high]

    @property
    def unsteady(self) -> tuple[str, ...]:
        """What was disturbed: spreads above 20 %."""
        return tuple(
            f"{row.runtime} {row.model}"
            for row in self.rows
            if row.spread is not None and row.spread > UNSTEADY
        )

    @property
    def summary(self) -> str:
        """The report in one line."""
        parts = []
        for runtime in dict.fromkeys(row.runtime for row in self.rows):
            row = self.get("model", runtime)
            if row is None or row.median is None:
                continue
            ratio, interval = self.ratio(runtime), self.interval(runtime)
            text = f"{runtime} {_text(row.median)}"
            if ratio is not None:
                text += f" ({ratio:.2f}x"
                text += f", {interval[0]:.2f}-{interval[1]:.2f})" if interval else ")"
            parts.append(text)
        return f"batch {self.batch}: {', '.join(parts) or 'nothing measured'}"

    def render(self) -> str:
        """The report as text."""
        lines = [self.summary, *(f"  {row}" for row in self.rows)]
        lines.append(f"  {self.runs} interleaved calls each, on {self.machine}")
        if self.unsteady:
            lines.append(f"  disturbed: {', '.join(self.unsteady)}; take the CPU times")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<LatencyReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(str(row))}</td></tr>" for row in self.rows
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"

    def _ratios(
        self, runtime: str, model: str = "model", against: str = "against"
    ) -> list[float]:
        one, other = self.get(model, runtime), self.get(against, runtime)
        if one is None or other is None:
            return []
        pairs = zip(one.cpu_seconds, other.cpu_seconds, strict=False)
        return [a / b for a, b in pairs if b > 0]


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def _text(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.3g} us"
