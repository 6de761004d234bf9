"""What is the same sample is no negative of it."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from keras_fitkit.distillation import OutputSpec
from keras_fitkit.distillation import feature_maths as maths
from tests.distillation import oracles
from tests.distillation.models import LABEL_LOSS, data, mlp, numpy

RNG = np.random.default_rng(7)
T, S = RNG.normal(size=(2, 6, 4)).astype("float32")


def close(found, wanted, within=1e-5):
    np.testing.assert_allclose(numpy(found), wanted, rtol=within, atol=within)


def prepared(queue=0, temperature=0.1):
    keras.utils.set_random_seed(1)
    loss = kd.ContrastiveDistillation(dim=3, queue=queue, temperature=temperature)
    spec = OutputSpec("the layer 'a'", (None, 4))
    loss.prepare(spec, spec)
    return loss


def tensors(*values):
    return [keras.ops.convert_to_tensor(one) for one in values]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_vectors_are_alike_up_to_rounding_at_any_scale(size):
    rows = RNG.normal(size=(5, 512)).astype("float32")
    near = rows * (1 + 1e-6 * RNG.normal(size=rows.shape)).astype("float32")
    far = rows * (1 + 1e-2 * RNG.normal(size=rows.shape)).astype("float32")
    given, same, other = tensors(size * rows, size * near, size * far)
    np.testing.assert_array_equal(numpy(maths.alike(given, same)), np.eye(5))
    np.testing.assert_array_equal(numpy(maths.alike(given, other)), 0.0)


def test_copies_in_the_queue_do_not_count():
    """The same batch twice: each sample has the five others once more, not itself."""
    loss = prepared(queue=64)
    keys = maths.unit(loss.teacher_projector(tensors(T)[0]))
    asked = maths.unit(loss.student_projector(tensors(S)[0]))
    keys, asked = numpy(keys), numpy(asked)
    close(loss.compute_loss(T, S), oracles.info_nce(keys, asked, 0.1), 1e-4)
    scores = np.concatenate([asked @ keys.T, asked @ keys.T], axis=1) / 0.1
    scores[np.arange(6), 6 + np.arange(6)] = -np.inf
    wanted = -oracles.log_softmax(scores)[np.arange(6), np.arange(6)]
    close(loss.compute_loss(T, S), wanted, 1e-4)
    assert numpy(loss._present).sum() == 12


@pytest.mark.parametrize("queue", [0, 4])
def test_copies_in_the_batch_do_not_count(queue):
    """Three samples, twice each: what the three alone would give, with the others
    counted twice."""
    loss, half = prepared(queue), T[:3]
    twice = np.concatenate([half, half])
    keys = numpy(maths.unit(loss.teacher_projector(tensors(twice)[0])))
    asked = numpy(maths.unit(loss.student_projector(tensors(S)[0])))
    scores = asked @ keys.T / 0.1
    scores[np.arange(6), (np.arange(6) + 3) % 6] = -np.inf
    wanted = -oracles.log_softmax(scores)[np.arange(6), np.arange(6)]
    close(loss.compute_loss(twice, S), wanted, 1e-4)


def test_a_queue_longer_than_an_epoch_does_not_stop_a_student_from_agreeing():
    """Of 16 samples each is in the queue of 64 four times: with its copies among the
    negatives the loss cannot fall below log(1 + 4)."""
    x, y = data()
    teacher = mlp(16, seed=1)
    student = mlp(16, seed=1)
    loss = kd.ContrastiveDistillation(dim=16, queue=64, temperature=0.02)
    made = kf.Distiller(teacher, student, loss, student_loss_weight=0.1)
    made.compile(keras.optimizers.Adam(0.03), LABEL_LOSS)
    given = {"batch_size": 8, "epochs": 40, "verbose": 0, "shuffle": False}
    history = made.fit(x, y, **given).history
    assert history["distillation_loss"][-1] < np.log(5)


def test_rows_that_differ_in_few_entries_are_no_copies():
    def alike(rows):
        rows = keras.ops.convert_to_tensor(rows)
        return numpy(maths.alike(rows, rows))

    eye = np.eye(32, dtype="float32")
    np.testing.assert_array_equal(alike(eye), eye)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (64, 24)).astype("float32")
    same = (rows[:, None] == rows[None]).all(-1)
    np.testing.assert_array_equal(alike(rows), same)
