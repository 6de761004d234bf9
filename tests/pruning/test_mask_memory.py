"""The peak of memory of one mask update, beyond the masks: at most two kernels."""

import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers

from keras_fitkit._core import targets
from keras_fitkit.pruning import _prune_arguments
from keras_fitkit.pruning.mask_rule import Moment

# Two kernels of one size: what holds all scores at once shows as three kernels.
SIZE = 1000


class Held:
    """What a mask rule needs of an attachment, without an optimizer."""

    def __init__(self, target):
        self.target = target
        self.values = (
            np.random.default_rng(0).normal(size=target.shape).astype(np.float32)
        )
        self.mask = np.ones(target.shape, bool)

    def weight(self):
        return self.values


@pytest.fixture(scope="module")
def attached():
    model = keras.Sequential(
        [keras.Input((SIZE,)), layers.Dense(SIZE), layers.Dense(SIZE)]
    )
    found, _ = targets.find(model)
    return [Held(target) for target in found]


@pytest.mark.parametrize(
    ("allocation", "pattern", "limit"),
    [
        ("uniform", "unstructured", 2.0),
        ("erk", "unstructured", 2.0),
        ("global", "unstructured", 2.0),
        ("uniform", "row", 2.0),
        ("uniform", ("block", (4, 4)), 2.0),
        ("uniform", "2:4", 2.0),
        # Sorted scores of both kernels, and one more: the docs say so.
        ("lamp", "unstructured", 4.0),
    ],
)
def test_an_update_takes_little_beyond_the_masks(attached, allocation, pattern, limit):
    rule = _prune_arguments.rule(
        0.5, allocation, "magnitude", pattern, None, None, None
    )
    moment = Moment(1, 0.5, 0.5, 1)
    rule.masks(None, attached, moment)
    tracemalloc.start()
    found = rule.masks(None, attached, moment)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    masks = sum(mask.nbytes for mask in found)
    kernel = attached[0].values.nbytes
    assert (peak - masks) / kernel <= limit
