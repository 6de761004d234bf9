"""Keras's own tests of EarlyStopping, run with ours in its place."""

from __future__ import annotations

import importlib
from typing import Any
from unittest import mock

import pytest

from keras_fitkit.monitoring.early_stopping import EarlyStopping

NAME = "keras.src.callbacks.early_stopping_test"


class _Unmarked:
    """Keras's marks are not registered here, and all of them would let the test run."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: args[0] if args and callable(args[0]) else _same


def _same(item: Any) -> Any:
    return item


def _upstream() -> Any:
    importlib.import_module("keras.src.testing")
    with mock.patch.object(pytest, "mark", _Unmarked()):
        return importlib.import_module(NAME)


try:
    upstream = _upstream()
except ImportError as error:
    problem = f"{NAME} is no longer in the keras wheel ({error}); copy its cases here."

    def test_keras_ships_its_tests() -> None:
        pytest.fail(problem)

else:

    class TestKerasEarlyStopping(upstream.EarlyStoppingTest):  # type: ignore[misc]
        @pytest.fixture(autouse=True)
        def _ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
            monkeypatch.setattr(upstream.callbacks, "EarlyStopping", EarlyStopping)

        def test_the_swap_works(self) -> None:
            assert upstream.callbacks.EarlyStopping is EarlyStopping
