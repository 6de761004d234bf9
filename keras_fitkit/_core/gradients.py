"""Forward passes that nobody will differentiate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def no_gradient() -> Iterator[None]:
    """On torch: without it every activation of a forward pass would be kept."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield
