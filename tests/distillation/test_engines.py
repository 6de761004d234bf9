"""The same losses however Keras runs the step."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import LABEL_LOSS, data, mlp, weights
from tests.replicas import run_on_two_cpus

X, Y = data()


def fit(student=None, teacher=None, optimizer="sgd", **compile_args):
    losses = [kd.LogitsDistillation(2.0), kd.FeatureDistillation("wide", "hidden")]
    teacher = teacher or mlp(16, seed=1, hidden="wide", head="softmax")
    student = student or mlp(seed=2)
    keras.utils.set_random_seed(7)
    made = kf.Distiller(teacher, student, losses)
    made.compile(optimizer, LABEL_LOSS, metrics=["accuracy"], **compile_args)
    history = made.fit(
        X, Y, batch_size=4, epochs=2, verbose=0, shuffle=False, validation_data=(X, Y)
    )
    return made, history.history


def close(one, other, within=1e-4):
    (made, history), (again, wanted) = one, other
    assert set(history) == set(wanted)
    for name in history:
        np.testing.assert_allclose(history[name], wanted[name], within, err_msg=name)
    for a, b in zip(weights(made.student), weights(again.student), strict=True):
        np.testing.assert_allclose(a, b, rtol=within, atol=within)


def test_eager_and_traced_are_the_same():
    close(fit(run_eagerly=True), fit(run_eagerly=False))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_with_a_policy_the_student_has_the_inputs_it_has_alone(policy):
    x = X * 100 + 1000.3  # half precision would round these
    layers = [
        keras.Input((4,)),
        keras.layers.Rescaling(0.1, -100.0, dtype="float32"),
        keras.layers.Dense(8, "relu", name="hidden", dtype=policy),
        keras.layers.Dense(3, name="logits", dtype="float32"),
    ]
    keras.utils.set_random_seed(2)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        student = keras.Sequential(layers)
    finally:
        keras.config.set_dtype_policy(before)
    assert student.dtype_policy.name == policy
    losses = [kd.LogitsDistillation(2.0), kd.FeatureDistillation("wide", "hidden")]
    made = kf.Distiller(mlp(16, seed=1, hidden="wide"), student, losses)
    made.compile(keras.optimizers.SGD(0.0), LABEL_LOSS, run_eagerly=True)
    wanted = student.predict(x, verbose=0)
    np.testing.assert_array_equal(made.predict(x, verbose=0), wanted)
    history = made.fit(x, Y, batch_size=16, verbose=0).history
    loss = made.evaluate(x, Y, batch_size=16, verbose=0)
    np.testing.assert_allclose(history["student_loss"][0], loss, rtol=1e-5)


@pytest.mark.tensorflow_only  # the default on JAX; torch compiles through inductor
def test_compiled_by_xla():
    close(fit(jit_compile=True), fit(run_eagerly=True))


@pytest.mark.tensorflow_only  # torch has no steps_per_execution in Keras
def test_several_steps_an_execution():
    close(fit(steps_per_execution=2), fit(run_eagerly=True))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.utils.set_random_seed(2)
    student = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(3),
        ]
    )
    mixed = keras.models.clone_model(
        student,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": policy}
        ),
    )
    mixed.dtype_policy = keras.dtype_policies.get(policy)
    mixed.set_weights(student.get_weights())
    made, history = fit(mixed, optimizer=keras.optimizers.SGD(0.01))
    _, wanted = fit(student, optimizer=keras.optimizers.SGD(0.01))
    scaled = isinstance(made.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    for name in ("loss", "distillation_loss"):
        np.testing.assert_allclose(history[name], wanted[name], rtol=0.03)


SCRIPT = """
import numpy as np

import keras
import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import LABEL_LOSS, data, mlp, weights

x, y = data(32)

def run(scope):
    # The teacher is made outside of the scope, as one that was loaded.
    teacher = mlp(16, seed=1, hidden="wide", head="softmax")
    with scope:
        penalty = keras.regularizers.L2(0.1)
        student = mlp(seed=2, head="softmax", kernel_regularizer=penalty)
        keras.utils.set_random_seed(7)
        losses = [
            kd.LogitsDistillation(2.0),
            kd.FeatureDistillation("wide", "hidden"),
        ]
        made = kf.Distiller(teacher, student, losses)
        made.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        schedule = kf.HyperparameterSchedule("temperature", 2.0, 1.0, frequency=1)
        history = made.fit(
            x, y, batch_size=8, epochs=2, verbose=0, shuffle=False,
            validation_data=(x, y), callbacks=[schedule],
        )
    return history.history, weights(student), weights(teacher)

import contextlib
plain = run(contextlib.nullcontext())
several = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope())
for name in plain[0]:
    np.testing.assert_allclose(several[0][name], plain[0][name], 1e-4, err_msg=name)
for a, b in zip(plain[1] + plain[2], several[1] + several[2], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
print("same")
"""


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_on_two_replicas_it_is_the_same_training():
    assert "same" in run_on_two_cpus(SCRIPT)
