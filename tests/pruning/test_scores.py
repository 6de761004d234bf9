"""Scores and gradients, against numbers worked out by hand."""

import keras
import numpy as np
import pytest

from keras_fitkit.pruning import gradients, regrowth, scores

RNG = np.random.default_rng(6)
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)
GRADIENT = RNG.normal(size=(4, 3)).astype(np.float32)
CONTEXT = scores.ScoreContext("dense/kernel", GRADIENT, 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("magnitude", np.abs(WEIGHT)),
        ("taylor", (WEIGHT * GRADIENT) ** 2),
        ("snip", np.abs(WEIGHT * GRADIENT)),
    ],
)
def test_formulas(name, expected):
    np.testing.assert_allclose(scores.resolve(name)(WEIGHT, CONTEXT), expected)


def test_lamp_keeps_the_order_of_magnitudes():
    found = scores.resolve("lamp")(WEIGHT, CONTEXT)
    assert (np.argsort(found.ravel()) == np.argsort(np.abs(WEIGHT).ravel())).all()
    assert found.max() == 1.0


def test_random_is_the_same_each_time_and_another_for_each_weight():
    score = scores.resolve("random")
    other = scores.ScoreContext("last/kernel", None, 1)
    np.testing.assert_array_equal(score(WEIGHT, CONTEXT), score(-WEIGHT, CONTEXT))
    assert (score(WEIGHT, CONTEXT) != score(WEIGHT, other)).all()


@pytest.mark.parametrize("name", scores.NEED_GRADIENTS)
def test_a_gradient_that_is_missing_is_asked_for(name):
    with pytest.raises(ValueError, match="`data` must be given"):
        scores.resolve(name)(WEIGHT, scores.ScoreContext("a", None, 1))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (np.ones(3), r"the weight's shape \(4, 3\).*dense/kernel"),
        (np.where(WEIGHT > 1, np.nan, 1.0), "no NaN.*dense/kernel"),
    ],
)
def test_what_a_score_function_gives_is_checked(found, text):
    with pytest.raises(ValueError, match=text):
        scores.checked(found, WEIGHT, "dense/kernel")


X = RNG.normal(size=(600, 5)).astype(np.float32)
Y = RNG.normal(size=(600, 2)).astype(np.float32)


def linear(**arguments):
    layer = keras.layers.Dense(2, use_bias=False, name="dense", **arguments)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("sgd", "mse")
    return model


def test_gradient_of_a_linear_model_by_hand():
    model = linear(kernel_regularizer=keras.regularizers.L2(0.3))
    kernel = model.layers[0].kernel
    value = keras.ops.convert_to_numpy(kernel)
    # Mean over rows and outputs of (x w - y)^2; the penalty is not part of it. More
    # rows than one batch, and the last batch is smaller.
    expected = 2 * X.T @ (X @ value - Y) / Y.size
    (found,) = gradients.loss_gradients(model, [kernel], (X, Y, None))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_sample_weights_count():
    model = linear()
    kernel = model.layers[0].kernel
    weight = RNG.random(len(X)).astype(np.float32)
    value = keras.ops.convert_to_numpy(kernel)
    error = (X[:200] @ value - Y[:200]) * weight[:200, None]
    expected = 2 * X[:200].T @ error / (200 * 2)
    data = (X[:200], Y[:200], weight[:200])
    (found,) = gradients.loss_gradients(model, [kernel], data)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_gradients_leave_no_trace():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X[:32], Y[:32], verbose=0)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    kernel = model.get_layer("dense").kernel
    first = gradients.loss_gradients(model, [kernel], (X, Y, None))[0]
    again = gradients.loss_gradients(model, [kernel], (X, Y, None))[0]
    np.testing.assert_array_equal(first, again)  # no dropout
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_half_precision_does_not_lose_small_gradients():
    keras.utils.set_random_seed(0)
    full, half = linear(), linear(dtype="mixed_float16")
    half.set_weights(full.get_weights())
    tiny = 1e-3 * X[:256]
    data = (tiny, Y[:256] * 1e-3, None)
    (expected,), (found,) = (
        gradients.loss_gradients(model, [model.layers[0].kernel], data)
        for model in (full, half)
    )
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-9)


def test_rigl_exchanges_the_smallest_for_the_most_promising():
    weight = np.array([5.0, 1.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    mask = weight != 0
    gradient = np.array([9.0, 9.0, 9.0, 9.0, 0.1, 7.0, 0.2, 3.0])
    # Half of 4 go: 1 and 3. Of the six places free then, 9 at the place of the first
    # dropped one and 9 at that of the second promise most.
    found = regrowth.rigl(mask, weight, gradient, 0.5)
    np.testing.assert_array_equal(found, mask)
    gradient[[1, 3]] = 0.0
    found = regrowth.rigl(mask, weight, gradient, 0.5)
    np.testing.assert_array_equal(np.flatnonzero(found), [0, 2, 5, 7])


def test_the_fraction_exchanged_falls_along_half_a_cosine():
    assert regrowth.fraction(0, 100) == pytest.approx(0.3)
    assert regrowth.fraction(50, 100) == pytest.approx(0.15)
    assert regrowth.fraction(100, 100) == regrowth.fraction(150, 100) == 0.0
