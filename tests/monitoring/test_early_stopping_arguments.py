"""Every documented range of EarlyStopping has a case that raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_fitkit.monitoring.early_stopping import EarlyStopping

TWO = {"monitor": ["loss", "val_loss"]}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"monitor": 3}, TypeError, r"`monitor` must be the name of a metric or a list"),
    ({"monitor": ["loss", 3]}, TypeError, r"`monitor` must be the name of a metric"),
    ({"monitor": []}, ValueError, r"`monitor` must be .* list of different names"),
    ({"monitor": ""}, ValueError, r"`monitor` must be .*monitor=''"),
    ({"monitor": ["loss", "loss"]}, ValueError, r"a list of different names"),
    ({"min_delta": -0.1}, ValueError, r"`min_delta` must be a number >= 0\. Rec"),
    ({"min_delta": float("nan")}, ValueError, r"`min_delta` must be a number >= 0"),
    ({"min_delta": "0.1"}, TypeError, r"`min_delta` must be a number >= 0"),
    ({"min_delta": {"val_los": 0.1}}, ValueError, r"by monitored name: 'val_loss'"),
    ({**TWO, "min_delta": {"los": 0.1}}, ValueError, r"Did you mean 'loss'"),
    ({**TWO, "min_delta": {"loss": -1}}, ValueError, r"`min_delta` must be a number"),
    # row 21: Keras accepts a negative patience
    ({"patience": -1}, ValueError, r"`patience` must be an integer >= 0\. Rec"),
    ({"patience": 2.5}, TypeError, r"`patience` must be an integer >= 0"),
    ({"verbose": -1}, ValueError, r"`verbose` must be an integer >= 0"),
    ({"verbose": "auto"}, TypeError, r"`verbose` must be an integer >= 0"),
    # row 21: Keras only warns and takes "auto"
    ({"mode": "mni"}, ValueError, r"`mode` must be one of 'auto', 'min', 'max'.*'min'"),
    ({"mode": {"val_loss": "mni"}}, ValueError, r"`mode` must be one of 'auto'"),
    ({"mode": None}, TypeError, r"`mode` must be one of 'auto'"),
    ({"baseline": "0.5"}, TypeError, r"`baseline` must be a number\."),
    ({"baseline": float("inf")}, ValueError, r"`baseline` must be a number\."),
    ({"restore_best_weights": 1}, TypeError, r"`restore_best_weights` must be True or"),
    ({"start_from_epoch": -1}, ValueError, r"`start_from_epoch` must be an integer >="),
    ({"min_delta_mode": "rel"}, ValueError, r"one of 'absolute', 'relative'"),
    ({"smoothing": 1.0}, ValueError, r"`smoothing` must be a number in \[0, 1\)"),
    ({"smoothing": -0.1}, ValueError, r"`smoothing` must be a number in \[0, 1\)"),
    ({"check_finite": "yes"}, TypeError, r"`check_finite` must be True or False"),
    ({"stopping_threshold": "1"}, TypeError, r"`stopping_threshold` must be a number"),
    ({"divergence_threshold": float("nan")}, ValueError, r"`divergence_threshold` m"),
    ({"min_epochs": -1}, ValueError, r"`min_epochs` must be an integer >= 0"),
    ({"max_seconds": 0}, ValueError, r"`max_seconds` must be a number > 0"),
    ({"criterion": "patient"}, ValueError, r"'gl', 'pq', 'up'.*mean 'patience'"),
    ({"criterion": 5}, TypeError, r"'pq', 'up', or a callable \(train, valid"),
    ({"criterion": "gl", "patience": 5}, ValueError, r"`patience` must be 0 with a r"),
    ({"restore_best_optimizer": True}, ValueError, r"without restore_best_weights="),
    ({"restore_best_optimizer": 1}, TypeError, r"`restore_best_optimizer` must be T"),
    ({"best_weights_path": "best.h5"}, ValueError, r"ends in '\.weights\.h5'"),
    ({"best_weights_path": 3}, TypeError, r"`best_weights_path` must be a path"),
    ({"best_weights_path": "no/a.weights.h5"}, ValueError, r"Make the folder first"),
    ({"start_when": "always"}, ValueError, r"`start_when` must be one of 'auto'"),
    ({"start_when": 3}, TypeError, r"'auto', None, or a callable \(logs\) -> bool"),
    ({"combine": "some"}, ValueError, r"`combine` must be one of 'all', 'any'"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD, ids=str)
def test_bad_arguments(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        EarlyStopping(**arguments)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "a.weights.h5"
    folder.mkdir()
    with pytest.raises(ValueError, match="a file, not a folder"):
        EarlyStopping(best_weights_path=folder)


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": np.int64(3), "min_delta": np.float32(0.5)},
        {"verbose": True, "min_epochs": 3},
        {"monitor": ("loss", "val_loss"), "mode": {"loss": "min"}},
        {"criterion": lambda train, validation: False},
        {"criterion": "up", "smoothing": 0.999},
        {"restore_best_optimizer": True, "restore_best_weights": True},
        {"start_when": None, "max_seconds": 1},
    ],
    ids=lambda given: "-".join(given) or "none",
)
def test_good_arguments(arguments: dict[str, Any]) -> None:
    stopper = EarlyStopping(**arguments)
    for name, value in arguments.items():
        assert getattr(stopper, name) is value
