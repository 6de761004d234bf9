"""Losses of keras.distillation are taken, and the broken default is mended."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation import oracles
from tests.distillation.models import LABEL_LOSS, data, mlp
from tests.tools import warns_once

X, Y = data()
theirs = keras.distillation


def run(loss, teacher=None, student=None):
    teacher, student = teacher or mlp(16, seed=1, hidden="wide"), student or mlp(seed=2)
    made = kf.Distiller(teacher, student, loss)
    made.compile(keras.optimizers.SGD(0.0), LABEL_LOSS, run_eagerly=True)
    found = made.fit(X, Y, batch_size=16, verbose=0).history["distillation_loss"]
    outputs = [one.predict(X, verbose=0) for one in (teacher, student)]
    return made, found[0], oracles.soft_target_loss(*outputs, 3.0).mean()


def test_the_default_is_computed_as_it_was_meant_and_says_so():
    with warns_once(UserWarning, r"kl_divergence of raw logits in Keras 3.12"):
        made, found, wanted = run(theirs.LogitsDistillation())
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert isinstance(made.distillation_losses[0], kd.LogitsDistillation)


def test_the_one_that_works_is_the_same_here():
    made, found, wanted = run(
        theirs.LogitsDistillation(loss=keras.losses.KLDivergence())
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert isinstance(made.distillation_losses[0], kd.LogitsDistillation)


def test_cross_entropy_with_soft_targets_is_their_divergence():
    with warns_once(UserWarning, r"categorical_crossentropy of raw logits"):
        _, found, wanted = run(
            theirs.LogitsDistillation(loss="categorical_crossentropy")
        )
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_loss_of_one_s_own_stays_as_it_is():
    class Own(theirs.LogitsDistillation):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return keras.ops.mean(student_outputs) * 0 + 7.0

    made, found, _ = run(Own())
    assert found == 7.0
    assert isinstance(made.distillation_losses[0].loss, Own)


def test_features_with_their_names():
    made, _, _ = run(
        theirs.FeatureDistillation(
            loss="mse", teacher_layer_name="wide", student_layer_name="hidden"
        )
    )
    assert isinstance(made.distillation_losses[0], kd.FeatureDistillation)
    with pytest.raises(ValueError, match=r"`teacher_layer_name` must be given where"):
        run(theirs.FeatureDistillation(student_layer_name="hidden"))


def test_a_loss_of_the_user_s_own_is_asked(tmp_path):
    @keras.saving.register_keras_serializable(package="test_from_keras")
    class Mine(theirs.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            difference = keras.ops.abs(teacher_outputs - student_outputs)
            return keras.ops.mean(difference)

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    made, found, _ = run(Mine())
    t, s = (one.predict(X, verbose=0) for one in (made.teacher, made.student))
    np.testing.assert_allclose(found, abs(t - s).mean(), rtol=1e-4)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert isinstance(again.distillation_losses[0].loss, Mine)


def test_what_is_no_loss_is_refused():
    with pytest.raises(TypeError, match=r"`distillation_losses` must be a Distillatio"):
        run("kl_divergence")
