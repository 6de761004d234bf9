"""The losses at their edges: soft labels, equal logits, a batch of one sample."""

import numpy as np
import pytest

from keras_fitkit import distillation as kd
from tests.distillation.models import numpy

RNG = np.random.default_rng(11)
T, S = 3 * RNG.normal(size=(2, 6, 5)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0])


def close(found, wanted, within=1e-5):
    np.testing.assert_allclose(numpy(found), wanted, rtol=within, atol=within)


@pytest.mark.parametrize("kind", ["smoothed", "mixed", "whole numbers"])
def test_decoupled_takes_the_largest_of_a_soft_label(kind):
    hard = np.eye(5, dtype="float32")[LABELS]
    rows = {
        "smoothed": 0.9 * hard + 0.1 / 5,
        "mixed": 0.7 * hard + 0.3 * hard[::-1],
        "whole numbers": hard.astype("int64"),
    }
    loss = kd.DecoupledDistillation(temperature=2.0)
    close(loss(T, S, rows[kind]), numpy(loss(T, S, LABELS)))


def test_decoupled_takes_the_first_of_equal_ones_and_none_of_zeros():
    loss = kd.DecoupledDistillation(temperature=2.0)
    half = np.tile(np.array([0, 0.5, 0, 0.5, 0], "float32"), (6, 1))
    close(loss(T, S, half), numpy(loss(T, S, np.full(6, 1))))
    nothing = np.full(6, -1)  # integers that are no class have a row of zeros
    close(loss(T, S, np.zeros((6, 5), "float32")), numpy(loss(T, S, nothing)))
