"""Prechelt's three criteria: GL, PQ and UP ("Early Stopping - But When?", 1998).

Each is a rule as in `rules`: `(train, validation) -> bool` on the values so far.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit.monitoring.curve_maths import Array


def generalization_loss(validation: Array) -> float:
    """Prechelt's GL in percent at the last epoch: how far above the minimum so far.

    GL(t) = 100 (E(t) / E_opt(t) - 1), written as 100 (E - E_opt) / |E_opt| so that it
    keeps its sign for negative values; infinite when E_opt is 0 and E is not.
    """
    best = float(np.min(validation))
    above = float(validation[-1]) - best
    if above == 0.0:
        return 0.0
    return float("inf") if best == 0.0 else 100.0 * above / abs(best)


def training_progress(train: Array, strip: int) -> float:
    """Prechelt's P_k in per mille: how much training still moved in the last strip."""
    last = train[-strip:]
    best = float(np.min(last))
    above = float(np.mean(last)) - best
    if above == 0.0:
        return 0.0
    return float("inf") if best == 0.0 else 1000.0 * above / abs(best)


@dataclasses.dataclass(frozen=True)
class GeneralizationLoss:
    """Prechelt's GL: flags once validation is `threshold` percent above its minimum.

    Args:
        threshold: percent, > 0. Defaults to 5.0.

    Raises:
        ValueError, TypeError: `threshold` outside its range.

    Example:
        >>> import numpy as np
        >>> rule = GeneralizationLoss(5.0)
        >>> falling = np.array([3.0, 2.0, 1.0])
        >>> (
        ...     rule(falling, np.array([2.0, 1.0, 1.04])),
        ...     rule(falling, np.array([2.0, 1.0, 1.06])),
        ... )
        (False, True)

    Reference: Prechelt, "Early Stopping - But When?", 1998.
    """

    threshold: float = 5.0

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, low=0, include_low=False)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether GL exceeds the threshold at the last epoch."""
        return len(validation) > 0 and generalization_loss(validation) > self.threshold


@dataclasses.dataclass(frozen=True)
class ProgressQuotient:
    """Prechelt's PQ: GL over training progress, looked at when a strip ends.

    Flags when GL(t) / P_k(t) > `threshold` at the end of a strip of k epochs: a rise of
    validation counts for less while training still makes quick progress.

    Args:
        threshold: percent per per-mille, > 0. Defaults to 0.75.
        strip: epochs in a strip, >= 1. Defaults to 5.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.

    Example:
        >>> import numpy as np
        >>> rule = ProgressQuotient(0.75, strip=2)
        >>> rule(np.array([1.0, 0.5, 0.50, 0.49]), np.array([1.0, 0.8, 0.9, 1.0]))
        True

    Reference: Prechelt, "Early Stopping - But When?", 1998.
    """

    threshold: float = 0.75
    strip: int = 5

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, low=0, include_low=False)
        arguments.integer("strip", self.strip, low=1)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether a strip ends here with a quotient above the threshold."""
        if len(validation) == 0 or len(validation) % self.strip:
            return False
        loss = generalization_loss(validation)
        progress = training_progress(train, self.strip)
        return loss > 0.0 and (progress == 0.0 or loss / progress > self.threshold)


@dataclasses.dataclass(frozen=True)
class SuccessiveStrips:
    """Prechelt's UP: validation rose from strip end to strip end, `successive` times.

    Args:
        successive: strips in a row, >= 1. Defaults to 4.
        strip: epochs in a strip, >= 1. Defaults to 5.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.

    Example:
        >>> import numpy as np
        >>> rule = SuccessiveStrips(2, strip=1)
        >>> train = np.zeros(4)
        >>> (
        ...     rule(train, np.array([2.0, 1.0, 1.1, 1.2])),
        ...     rule(train, np.array([2, 1, 1.1, 1.0])),
        ... )
        (True, False)

    Reference: Prechelt, "Early Stopping - But When?", 1998.
    """

    successive: int = 4
    strip: int = 5

    def __post_init__(self) -> None:
        arguments.integer("successive", self.successive, low=1)
        arguments.integer("strip", self.strip, low=1)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether the last `successive` strips each ended worse than the one before."""
        count = len(validation)
        if count % self.strip or count < self.strip * (self.successive + 1):
            return False
        ends = validation[self.strip - 1 :: self.strip][-(self.successive + 1) :]
        return bool(np.all(np.diff(ends) > 0))
