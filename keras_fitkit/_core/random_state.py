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


def global_state() -> dict[str, Any]:
    """Every global random state as plain values and arrays, for `set_global_state`.

    Python's, NumPy's legacy generator, Keras's global seed generator where there is
    one, torch's where torch is loaded (all its CUDA devices too).
    """
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": {
            "version": version,
            "numbers": np.array(numbers, np.uint32),
            "gauss": gauss,
        },
        "numpy": {
            "kind": str(kind),
            "keys": np.array(keys),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "keras": [arrays.copied(seed) for seed in _private.global_seeds()],
    }
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            state["cuda"] = [
                each.cpu().numpy() for each in torch.cuda.get_rng_state_all()
            ]
    return state


def set_global_state(state: dict[str, Any]) -> None:
    """Puts back what `global_state` gave."""
    if state["keras"]:
        if not _private.global_seeds():
            keras.random.uniform(())  # makes the generator
        for variable, value in zip(
            _private.global_seeds(), state["keras"], strict=True
        ):
            variable.assign(value)
    python, legacy = state["python"], state["numpy"]
    numbers = tuple(int(number) for number in python["numbers"])
    random.setstate((python["version"], numbers, python["gauss"]))
    np.random.set_state(  # noqa: NPY002
        (
            legacy["kind"],
            legacy["keys"],
            legacy["position"],
            legacy["has_gauss"],
            legacy["cached"],
        )
    )
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
        if "cuda" in state and torch.cuda.is_available():
            for device, one in zip(
                range(torch.cuda.device_count()), state["cuda"], strict=False
            ):
                torch.cuda.set_rng_state(torch.from_numpy(np.array(one)), device)


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
