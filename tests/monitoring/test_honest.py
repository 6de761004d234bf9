"""Honest values against numpy; the constant predictor against its closed form."""

import keras
import numpy as np
import pytest

from keras_fitkit._core.train_sample import TrainSample, take
from keras_fitkit.monitoring import honest
from keras_fitkit.monitoring.constant_predictor import constant_predictor

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20)


def compiled(loss, outputs=1, metrics=None, activation=None, regularizer=None):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(4, kernel_regularizer=regularizer),
            keras.layers.Dense(outputs, activation),
        ]
    )
    model.compile("sgd", loss, metrics=metrics)
    return model


def test_penalty_is_the_sum_of_the_regularizers():
    model = compiled("mse", regularizer=keras.regularizers.L2(0.1))
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert honest.penalty(model) == pytest.approx(0.1 * (kernel**2).sum())


def test_penalty_of_a_model_without_regularizers_is_0():
    assert honest.penalty(compiled("mse")) == 0.0


def test_measure_equals_the_loss_computed_in_numpy():
    model = compiled("mse", metrics=["mae"])
    sample = take((X, Y), 7, described="d")
    got = honest.measure(model, sample, 3)
    wrong = keras.ops.convert_to_numpy(model(sample.x))[:, 0] - sample.y
    assert got["loss"] == pytest.approx((wrong**2).mean(), rel=1e-5)
    assert got["mae"] == pytest.approx(np.abs(wrong).mean(), rel=1e-5)


def test_constant_predictor_of_a_regression_is_the_mean_or_the_median():
    y = np.array([0.0, 0.0, 0.0, 8.0])
    sample = take((X[:4], y), None, described="d")
    squared = constant_predictor(compiled("mse"), sample, "loss", "min")
    assert squared == (pytest.approx(np.var(y)), "")
    absolute = constant_predictor(compiled("mae"), sample, "loss", "min")
    assert absolute == (pytest.approx(np.abs(y - np.median(y)).mean()), "")


def test_constant_predictor_does_not_contain_the_penalty():
    sample = take((X, Y), None, described="d")
    model = compiled("mse", regularizer=keras.regularizers.L2(0.1))
    found, _ = constant_predictor(model, sample, "loss", "min")
    assert found == pytest.approx(np.var(Y), rel=1e-5)


LABELS = np.array([0, 0, 0, 1, 2, 2, 0, 0])
SHARES = np.bincount(LABELS) / len(LABELS)
ENTROPY = -(SHARES * np.log(SHARES)).sum()


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_constant_predictor_of_a_classification_is_the_entropy(sparse, from_logits):
    if sparse:
        loss, y = keras.losses.SparseCategoricalCrossentropy(from_logits), LABELS
    else:
        loss = keras.losses.CategoricalCrossentropy(from_logits)
        y = np.eye(3, dtype="float32")[LABELS]
    model = compiled(loss, 3, activation=None if from_logits else "softmax")
    sample = take((X[:8], y), None, described="d")
    found, _ = constant_predictor(model, sample, "loss", "min")
    assert found == pytest.approx(ENTROPY, rel=1e-4)


@pytest.mark.parametrize("from_logits", [False, True])
def test_constant_predictor_of_a_binary_classification(from_logits):
    y = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    model = compiled(keras.losses.BinaryCrossentropy(from_logits))
    sample = take((X[:8], y), None, described="d")
    found, _ = constant_predictor(model, sample, "loss", "min")
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert found == pytest.approx(expected, rel=1e-4)


def test_constant_predictor_of_a_score_is_the_most_frequent_class():
    model = compiled("sparse_categorical_crossentropy", 3, ["accuracy"], "softmax")
    model.fit(X[:8], LABELS, verbose=0)
    sample = take((X[:8], LABELS), None, described="d")
    found, _ = constant_predictor(model, sample, "accuracy", "max")
    assert found == pytest.approx(SHARES.max())


def test_constant_predictor_of_two_outputs():
    inputs = keras.Input((2,))
    outputs = {
        "a": keras.layers.Dense(1, name="a")(inputs),
        "b": keras.layers.Dense(3, "softmax", name="b")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "sparse_categorical_crossentropy"})
    targets = {"a": Y[:8, None].astype("float32"), "b": LABELS[:, None]}
    sample = take((X[:8], targets), None, described="d")
    found, _ = constant_predictor(model, sample, "loss", "min")
    assert found == pytest.approx(np.var(Y[:8]) + ENTROPY, rel=1e-4)


def test_without_targets_there_is_no_constant_predictor():
    sample = TrainSample(X, None, None, 20, "d")
    found = constant_predictor(compiled("mse"), sample, "loss", "min")
    assert found == (None, "the data has no targets")


def test_a_loss_that_refuses_constants_is_told_and_ends_nothing():
    class Picky(keras.Model):
        def call(self, inputs):
            return inputs[:, :1]

        def compute_loss(self, *args, **kwargs):
            raise RuntimeError("no constants, please")

    model = Picky()
    model.compile("sgd", "mse")
    sample = take((X, Y), None, described="d")
    value, why = constant_predictor(model, sample, "loss", "min")
    assert value is None
    assert "RuntimeError: no constants, please" in why


def test_the_loss_of_one_output_has_no_constant_predictor():
    inputs = keras.Input((2,))
    outputs = {
        "a": keras.layers.Dense(1, name="a")(inputs),
        "c": keras.layers.Dense(1, name="c")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "c": "mse"}, metrics={"a": ["mae"]})
    targets = {name: Y[:8, None].astype("float32") for name in "ac"}
    model.fit(X[:8], targets, verbose=0)
    sample = take((X[:8], targets), None, described="d")
    value, why = constant_predictor(model, sample, "c_loss", "min")
    assert value is None
    assert "compute_metrics does not update 'c_loss'" in why
    known, _ = constant_predictor(model, sample, "a_mae", "min")
    assert known == pytest.approx(np.abs(Y[:8] - 3.5).mean())


def test_a_metric_of_a_custom_test_step_has_no_constant_predictor():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.own = keras.metrics.Mean(name="own_error")

        def call(self, inputs):
            return self.dense(inputs)

        def test_step(self, data):
            logs = super().test_step(data)
            self.own.update_state(1.0)
            return {**logs, "own_error": self.own.result()}

    model = Own()
    model.compile("sgd", "mse")
    sample = take((X, Y[:, None].astype("float32")), None, described="d")
    value, why = constant_predictor(model, sample, "own_error", "min")
    assert value is None
    assert "compute_metrics does not update 'own_error'" in why


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_labels_of_any_dtype_are_classes(dtype, column):
    model = compiled("sparse_categorical_crossentropy", 3, None, "softmax")
    labels = np.minimum(LABELS, 1) if dtype == "bool" else LABELS
    shares = np.bincount(labels) / len(labels)
    y = labels.astype(dtype).reshape((-1, 1) if column else (-1,))
    sample = take((X[:8], y), None, described="d")
    found, why = constant_predictor(model, sample, "loss", "min")
    assert found == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-4), why


def test_targets_of_another_shape_than_the_output_give_a_reason():
    sample = take((X[:8], LABELS + 0.5), None, described="d")
    value, why = constant_predictor(compiled("mse", 3), sample, "loss", "min")
    assert value is None
    assert "targets of shape (8,) for an output of shape (8, 3)" in why


def test_a_constant_that_makes_no_error_is_no_measure():
    sample = take((X, np.full(20, 3.0)), None, described="d")
    value, why = constant_predictor(compiled("mse"), sample, "loss", "min")
    assert value is None
    assert "a constant prediction reaches 0" in why
