"""The losses on logits: golden numbers, NumPy as the second opinion, gradients."""

import numpy as np
import pytest

from keras_fitkit import distillation as kd
from keras_fitkit.distillation import logits_maths as maths
from tests.distillation import oracles
from tests.distillation.models import gradient, numpy

RNG = np.random.default_rng(3)
T, S = 3 * RNG.normal(size=(2, 6, 5)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0])
LOSSES = {
    "logits": lambda: kd.LogitsDistillation(2.0),
    "standardized": lambda: kd.LogitsDistillation(2.0, standardize=True),
    "sigmoid": lambda: kd.LogitsDistillation(2.0, activation="sigmoid"),
    "decoupled": lambda: kd.DecoupledDistillation(temperature=2.0),
    "dist": lambda: kd.DIST(temperature=2.0),
}


def close(found, wanted, within=2e-5):
    np.testing.assert_allclose(numpy(found), wanted, rtol=within, atol=within)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_soft_targets_are_those_of_the_oracle(temperature):
    loss = kd.LogitsDistillation(temperature)
    found = loss(T, S)
    assert found.shape == (6,)
    close(found, oracles.soft_target_loss(T, S, temperature))
    close(
        gradient(lambda s: loss.compute_loss(T, s), S),
        oracles.soft_target_gradient(T, S, temperature),
    )


def test_a_student_that_is_surely_wrong_gets_its_whole_gradient():
    teacher, student = np.array([[0.0, 40, 0]]), np.array([[40.0, 0, 0]])
    loss = kd.LogitsDistillation(1.0)
    close(loss(teacher, student), [40.0])
    close(gradient(lambda s: loss.compute_loss(teacher, s), student), [[1, -1, 0]])


def test_a_class_that_both_models_mask_does_not_count():
    teacher, student = T.copy(), S.copy()
    teacher[:, 2] = student[:, 2] = -np.inf
    loss = kd.LogitsDistillation(2.0)
    kept = [0, 1, 3, 4]
    close(loss(teacher, student), oracles.soft_target_loss(T[:, kept], S[:, kept], 2.0))
    found = gradient(lambda s: loss.compute_loss(teacher, s), student)
    close(found[:, kept], oracles.soft_target_gradient(T[:, kept], S[:, kept], 2.0))
    close(found[:, 2], 0.0)
    labels = np.eye(5)[[0, 1, 3, 4, 0, 1]]
    decoupled = kd.DecoupledDistillation()
    close(
        decoupled(teacher, student, labels),
        numpy(decoupled(T[:, kept], S[:, kept], labels[:, kept])),
    )
    found = gradient(lambda s: decoupled.compute_loss(teacher, s, labels), student)
    assert np.isfinite(found).all()


def test_teachers_and_temperatures_get_no_gradient():
    def of_teacher(teacher):
        return maths.softmax_kl(teacher, S, 2.0) + 0.0 * teacher[:, 0]

    def of_temperature(temperature):
        return maths.softmax_kl(T, S, temperature) + 0.0 * temperature

    np.testing.assert_array_equal(gradient(of_teacher, T), 0.0)
    np.testing.assert_array_equal(gradient(of_temperature, np.full((6, 1), 2.0)), 0.0)


def test_a_constant_added_to_all_logits_changes_nothing():
    loss = kd.LogitsDistillation(3.0)
    close(loss(T + 7, S - 5), numpy(loss(T, S)))


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_zero_where_student_and_teacher_agree(name):
    loss = LOSSES[name]()
    labels = LABELS if loss.needs_labels else None
    found = gradient(lambda s: loss.compute_loss(T, s, labels), T)
    np.testing.assert_allclose(found, 0.0, atol=2e-6)
    assert abs(numpy(loss(T, T, labels) if loss.needs_labels else loss(T, T))).max() < (
        1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_points_from_the_student_to_the_teacher(name):
    loss = LOSSES[name]()
    labels = LABELS if loss.needs_labels else None
    step = 1e-2 * gradient(lambda s: loss.compute_loss(T, s, labels), S)
    before = numpy(loss.compute_loss(T, S, labels)).mean()
    assert numpy(loss.compute_loss(T, S - step, labels)).mean() < before


def test_sigmoid_heads_have_the_divergence_of_bernoullis():
    loss = kd.LogitsDistillation(2.0, activation="sigmoid")
    close(loss(T, S), oracles.bernoulli_loss(T.astype("d"), S, 2.0), 1e-4)
    one = kd.LogitsDistillation(2.0)  # one unit is a sigmoid without saying so
    close(one(T[:, :1], S[:, :1]), oracles.bernoulli_loss(T[:, :1], S[:, :1], 2.0))
    assert abs(gradient(lambda s: one.compute_loss(T[:, :1], s), S[:, :1])).min() > 1e-3


def test_standardized_logits_do_not_know_their_scale():
    loss = kd.LogitsDistillation(2.0, standardize=True)
    close(loss(5 * T + 1, S), numpy(loss(T, S)), 1e-4)

    def z(values):
        values = values - values.mean(-1, keepdims=True)
        return values / values.std(-1, keepdims=True)

    close(loss(T, S), oracles.soft_target_loss(z(T), z(S), 2.0), 1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
def test_decoupled_is_the_sum_of_its_two_parts(one_hot):
    tckd, nckd = oracles.decoupled_parts(T, S, LABELS, 4.0)
    labels = np.eye(5)[LABELS] if one_hot else LABELS[:, None]
    found = kd.DecoupledDistillation(1.5, 8.0, 4.0)(T, S, labels)
    close(found, 1.5 * tckd + 8.0 * nckd, 1e-4)


def test_decoupled_with_the_teacher_s_own_weight_is_soft_targets():
    tckd, nckd = oracles.decoupled_parts(T, S, LABELS, 2.0)
    other = 1 - oracles.softmax(T / 2.0)[np.arange(6), LABELS]
    whole = tckd + other * nckd
    np.testing.assert_allclose(whole, oracles.soft_target_loss(T, S, 2.0), rtol=1e-5)


def test_dist_is_correlation_of_rows_and_columns():
    rows, columns = oracles.dist_parts(T, S, 2.0)
    close(kd.DIST(2.0, 3.0, 2.0)(T, S), 2 * rows + 3 * columns, 1e-4)
    close(kd.DIST(1.0, 0.0, 2.0)(T, S), rows, 1e-4)


def test_tokens_have_values_of_their_own():
    teacher, student = T.reshape(2, 3, 5), S.reshape(2, 3, 5)
    found = kd.LogitsDistillation(2.0)(teacher, student)
    assert found.shape == (2, 3)
    close(found, oracles.soft_target_loss(teacher, student, 2.0))


@pytest.mark.parametrize("mix", ["softmax", "sigmoid"])
def test_several_teachers_are_averaged_as_probabilities(mix):
    weights = [0.75, 0.25]
    squash = getattr(oracles, mix)
    found = getattr(maths, f"mixed_{mix}")([T, S], weights)
    close(squash(numpy(found)), 0.75 * squash(T) + 0.25 * squash(S))


def test_probabilities_become_logits_again():
    back = numpy(maths.logits_of_softmax(oracles.softmax(T)))
    np.testing.assert_allclose(back, oracles.log_softmax(T), atol=1e-4)
    back = numpy(maths.logits_of_sigmoid(oracles.sigmoid(T)))
    np.testing.assert_allclose(back, T, atol=1e-3)


@pytest.mark.parametrize("wide", [(6, 1), (6, 4), (6, 5, 1)])
def test_shapes_that_would_be_broadcast_are_an_error(wide):
    with pytest.raises(ValueError, match=r"`student` must be a model whose shape"):
        kd.LogitsDistillation()(T, np.ones(wide, "float32"))


def test_half_precision_is_computed_in_single():
    found = kd.LogitsDistillation(2.0)(T.astype("float16"), S.astype("float16"))
    assert numpy(found).dtype == np.float32


def test_labels_are_asked_for():
    with pytest.raises(ValueError, match=r"`y` must be labels for"):
        kd.DecoupledDistillation()(T, S)
    with pytest.raises(ValueError, match=r"`y` must be integers or one-hot rows"):
        kd.DecoupledDistillation()(T, S, np.ones((6, 3)))
