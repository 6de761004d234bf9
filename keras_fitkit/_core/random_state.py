"""Random states, kept as they were around a piece of work."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arrays


@contextlib.contextmanager
def model_preserved(model: Any) -> Iterator[None]:
    """Puts the seed generators that a model draws from back as they were.

    For work in the middle of a fit: the global generators of Python and NumPy are left
    alone, because a data set may draw from them in a thread of its own right now. On
    torch the global one is the model's own, and Keras's `evaluate` draws from it.
    """
    torch = sys.modules.get("torch") if keras.backend.backend() == "torch" else None
    state = torch.get_rng_state() if torch is not None else None
    seeds = [(seed, arrays.to_numpy(seed)) for seed in _seeds(model)]
    try:
        yield
    finally:
        if torch is not None:
            torch.set_rng_state(state)
        for variable, value in seeds:
            variable.assign(value)


@contextlib.contextmanager
def preserved(model: Any = None, *owners: object) -> Iterator[None]:
    """Puts every random state back as it was when the block ends.

    Covers Python's and NumPy's global generators, torch's where torch is loaded,
    Keras's global seed generator, the seed generators of `model`'s layers, and
    generators that an object of `owners` (a data set) holds as attributes.

    Args:
        model: a Keras model, or None.
        *owners: objects whose generator attributes are kept as well.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch is not None else None
    seeds = [(seed, arrays.to_numpy(seed)) for seed in _seeds(model)]
    held = [pair for owner in owners for pair in _held(owner)]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(torch_state)
        for variable, value in seeds:
            variable.assign(value)
        for restore, state in held:
            restore(state)


def _seeds(model: Any) -> list[Any]:
    """Seed generator states: what `variables` has beyond `weights`, and Keras's own."""
    found = _private.global_seeds()
    if model is not None:
        weights = {id(variable) for variable in getattr(model, "weights", ())}
        variables = getattr(model, "variables", ())
        found += [variable for variable in variables if id(variable) not in weights]
    return found


def _held(owner: object) -> list[tuple[Any, Any]]:
    """(restore, state) for each random generator among the attributes of `owner`."""
    found: list[tuple[Any, Any]] = []
    for value in list(getattr(owner, "__dict__", {}).values()):
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            found.append((_Setter(bits, "state"), bits.state))
        elif isinstance(value, np.random.RandomState):
            found.append((value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            found.append((value.setstate, value.getstate()))
        elif isinstance(value, keras.random.SeedGenerator):
            state = arrays.to_numpy(value.state)
            found.append((value.state.assign, state))
        elif type(value).__module__.startswith("torch") and hasattr(value, "get_state"):
            found.append((value.set_state, value.get_state()))
    return found


class _Setter:
    """Sets one attribute: bit generators have a property where others have a method."""

    def __init__(self, target: Any, name: str) -> None:
        self.target, self.name = target, name

    def __call__(self, value: Any) -> None:
        setattr(self.target, self.name, value)
