"""One metric of a model with its interval, and a test of it against another model."""

from __future__ import annotations

import dataclasses

from keras_fitkit.report import statistics


@dataclasses.dataclass(frozen=True)
class MetricValue:
    """One metric of one model.

    Attributes:
        name: as Keras calls it; "loss" is the compiled loss without penalties.
        value: over all rows.
        low, high: its 95 % interval; None where it could not be had.
        method: "Wilson" for a fraction of right rows, "bootstrap" for others.
        reason: why there is no interval; "" where there is one.
        better: "max" where higher is better, "min" where lower is.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import MetricValue
        >>> str(MetricValue("accuracy", 0.9, 0.82, 0.95, "Wilson"))
        '90.0 % (82.0 to 95.0 %)'
        >>> str(MetricValue("loss", 0.5, 0.4, 0.6, "bootstrap"))
        '0.5 (0.4 to 0.6)'
    """

    name: str
    value: float
    low: float | None
    high: float | None
    method: str
    reason: str = ""
    better: str = "min"

    @property
    def value_text(self) -> str:
        """The value as text, a fraction of right rows in percent."""
        if self.method == "Wilson":
            return f"{100 * self.value:.1f} %"
        return f"{self.value:.4g}"

    @property
    def interval_text(self) -> str:
        """The interval as text; "-" where there is none."""
        if self.low is None or self.high is None:
            return "-"
        if self.method == "Wilson":
            return f"{100 * self.low:.1f} to {100 * self.high:.1f}"
        return f"{self.low:.3g} to {self.high:.3g}"

    def __str__(self) -> str:
        if self.low is None:
            return self.value_text
        unit = " %" if self.method == "Wilson" else ""
        return f"{self.value_text} ({self.interval_text}{unit})"


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """One metric of a model against that of another one, on the same rows.

    Attributes:
        metric: its name.
        difference: model minus baseline.
        low, high: the 95 % interval of the difference, by resampling rows; None where
            there is none.
        p_value: two-sided, of no difference; None where a model gives no number.
        method: "McNemar" (exact, for right and wrong rows) or "bootstrap".
        lost, gained: rows that only the baseline gets right, and only the model; None
            for other metrics.
        rows: how many there are.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import PairedTest
        >>> one = PairedTest(
        ...     "accuracy", -4 / 360, -0.03, 0.005, 0.39, "McNemar", 9, 5, 360
        ... )
        >>> one.significant
        False
        >>> one.sentence
        'accuracy: -1.1 points; 9 rows lost, 5 gained; p = 0.39: noise can explain it'
    """

    metric: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    method: str
    lost: int | None
    gained: int | None
    rows: int

    @property
    def significant(self) -> bool:
        """Whether chance alone would give it in fewer than 5 % of such data."""
        return self.p_value is not None and self.p_value < statistics.ALPHA

    @property
    def sentence(self) -> str:
        """The test in words."""
        if self.p_value is None:
            return f"{self.metric}: no test, as it is no number of every row"
        if self.method == "McNemar":
            text = f"{self.metric}: {100 * self.difference:+.1f} points; "
            text += f"{self.lost} rows lost, {self.gained} gained"
        else:
            text = f"{self.metric}: {self.difference:+.4g}"
            if self.low is not None and self.high is not None:
                text += f" ({self.low:+.4g} to {self.high:+.4g})"
        if self.difference == 0 and not self.lost:
            return f"{text}: the same"
        verdict = "more than noise" if self.significant else "noise can explain it"
        return f"{text}; p = {self.p_value:.2g}: {verdict}"
