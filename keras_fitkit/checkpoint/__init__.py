"""Crash-safe resume of a whole fit, and data that can be read again in its order."""

from keras_fitkit._core.reproducible_dataset import (
    ReproducibleDataset as ReproducibleDataset,
)
from keras_fitkit.checkpoint.checkpoint import Checkpoint as Checkpoint
from keras_fitkit.checkpoint.checkpoint import resumable as resumable

__all__ = ["Checkpoint", "ReproducibleDataset", "resumable"]
