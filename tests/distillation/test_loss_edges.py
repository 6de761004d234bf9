"""The losses at their edges: soft labels, equal logits, a batch of one sample."""

import numpy as np
import pytest

from keras_fitkit import distillation as kd
from tests.distillation import oracles
from tests.distillation.models import gradient, numpy

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


def test_standardized_equal_logits_have_a_gradient_of_ordinary_size():
    """A head that begins with zeros: the deviation is 0, and counts as 0.01."""
    loss = kd.LogitsDistillation(1.0, standardize=True)
    zeros = np.zeros_like(S)
    found = gradient(lambda s: loss.compute_loss(T, s), zeros)
    assert np.isfinite(found).all()
    slope = 1 / 5 - oracles.softmax((T - T.mean(1, keepdims=True)) / T.std(1)[:, None])
    close(found, slope / 0.01, 1e-3)  # those slopes add up to 0
    tiny = gradient(lambda s: loss.compute_loss(T, s), 1e-6 * S)
    assert abs(tiny).max() < 1 / 0.01


def test_standardized_small_logits_are_those_of_the_oracle():
    """Cosines without a scale have deviations of some hundredths."""

    def z(values):
        values = values.astype("float64")
        values = values - values.mean(-1, keepdims=True)
        return values / values.std(-1, keepdims=True)

    loss = kd.LogitsDistillation(2.0, standardize=True)
    small = 0.02 * T
    assert (small.std(1) > 0.01).all()
    close(loss(small, S), oracles.soft_target_loss(z(small), z(S), 2.0), 1e-4)


def test_dist_of_one_sample_is_that_of_its_classes():
    close(kd.DIST()(T[:1], T[:1]), [0.0])
    rows, _ = oracles.dist_parts(T, S, 1.0)
    close(kd.DIST(2.0, 3.0)(T[:1], S[:1]), 2 * rows[:1], 1e-4)
    found = gradient(lambda s: kd.DIST().compute_loss(T[:1], s), S[:1])
    wanted = gradient(lambda s: kd.DIST(gamma=0.0).compute_loss(T[:1], s), S[:1])
    close(found, wanted)
