"""Weights of new layers drawn by NumPy: see `_drawn_by_numpy` in conftest.py."""

from typing import Any

import keras
import numpy as np


class NumpyDraws:
    """Stands for the module that Keras's random initializers draw from.

    Args:
        module: that module; seeds are made and drawn as there.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def _rng(self, seed: Any) -> np.random.Generator:
        state = [seed] if isinstance(seed, int) else self._module.draw_seed(seed)
        return np.random.default_rng(np.asarray(state))

    def normal(
        self,
        shape: Any,
        mean: float = 0.0,
        stddev: float = 1.0,
        *,
        seed: Any,
        **how: Any,
    ) -> Any:
        """Around `mean`."""
        values = self._rng(seed).normal(mean, stddev, shape)
        return keras.ops.convert_to_tensor(values, **how)

    def truncated_normal(
        self,
        shape: Any,
        mean: float = 0.0,
        stddev: float = 1.0,
        *,
        seed: Any,
        **how: Any,
    ) -> Any:
        """At most two standard deviations away."""
        rng = self._rng(seed)
        values = rng.normal(size=shape)
        while (far := abs(values) > 2.0).any():
            values[far] = rng.normal(size=int(far.sum()))
        return keras.ops.convert_to_tensor(mean + stddev * values, **how)

    def uniform(
        self,
        shape: Any,
        minval: float = 0.0,
        maxval: float = 1.0,
        *,
        seed: Any,
        **how: Any,
    ) -> Any:
        """Between two ends."""
        values = self._rng(seed).uniform(minval, maxval, shape)
        return keras.ops.convert_to_tensor(values, **how)
