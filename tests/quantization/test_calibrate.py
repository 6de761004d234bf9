"""Fewer bits without training: what is fitted, what stays, what is refused."""

import warnings

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.quantization import (
    QuantizeConfig,
    QuantizeWrapper,
    calibrate,
    calibrator,
    inputs,
    kernel_matrices,
    quantize_model,
    rounding,
)
from keras_fitkit.quantization.calibrator import METHODS, Calibrator
from tests.quantization.models import FLAT, X, array, cnn, mlp

layers = keras.layers
FEW = QuantizeConfig(weight_bits=3, activation_bits=None)


def error(model, other, x):
    return float(np.mean((array(model(x)) - array(other(x))) ** 2))


def correlated(rows, size, rng=None):
    """Inputs that go together, and are not around zero: rounding can use both."""
    rng = np.random.default_rng(4) if rng is None else rng
    return (rng.normal(size=(rows, 4)) @ rng.normal(size=(4, size)) + 1).astype(
        "float32"
    )


# ---- the maths


def brute(quadratic, step, last):
    """The smallest error of all grids of one output."""
    values = np.arange(-last, last + 1)
    size = quadratic.gram.shape[1]
    codes = np.stack(np.meshgrid(*[values] * size), axis=-1).reshape(-1, size).T
    return quadratic.error((codes * step)[None]).min()


def test_the_search_never_makes_it_worse_and_often_finds_the_best():
    found, start, best = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(1, 50, 4)) @ rng.normal(size=(4, 4))
        rows = rng.normal(size=(1, 4, 1))
        moments = rounding.Moments()
        moments.add(x, x @ rows)
        quadratic = moments.quadratic(centred=False)
        step = np.full((1, 1, 1), 0.5)
        codes = rounding.nearest(rows, step, 3)
        free = np.ones(codes.shape, bool)
        searched = rounding.search(quadratic, codes, step, 3, free)
        assert np.array_equal(searched, np.round(searched))
        assert np.abs(searched).max() <= 3
        found.append(quadratic.error(searched * step).item())
        start.append(quadratic.error(codes * step).item())
        best.append(brute(quadratic, 0.5, 3))
    assert all(one <= other + 1e-12 for one, other in zip(found, start, strict=True))
    assert np.mean(found) < 0.6 * np.mean(start)
    assert np.mean(found) < 2 * np.mean(best)


def test_the_search_in_blocks_is_the_search(monkeypatch):
    rng = np.random.default_rng(0)
    x, rows = rng.normal(size=(2, 60, 11)), rng.normal(size=(2, 11, 3))
    moments = rounding.Moments()
    moments.add(x + x[:, :, :1], x @ rows)
    quadratic, step = moments.quadratic(True), np.full((2, 1, 3), 0.5)
    codes = rounding.nearest(rows, step, 3)
    free, found = np.ones(codes.shape, bool), []
    for size in (1, 4, 64):
        monkeypatch.setattr(rounding, "BLOCK", size)
        found.append(rounding.search(quadratic, codes, step, 3, free))
    assert (found[0] != codes).any()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("centred", [False, True])
def test_the_error_is_that_of_the_outputs(centred):
    rng = np.random.default_rng(4)
    x, rows = rng.normal(size=(2, 30, 5)) + 1, rng.normal(size=(2, 5, 3))
    wanted, other = x @ rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3))
    moments = rounding.Moments()
    moments.add(x[:, :10], wanted[:, :10])
    moments.add(x[:, 10:], wanted[:, 10:])
    for one in (rows, other):
        difference = x @ one - wanted
        np.testing.assert_allclose(moments.mean_error(one), -difference.mean(1))
        if centred:
            difference = difference - difference.mean(1, keepdims=True)
        expected = (difference**2).mean(1)
        found = moments.quadratic(centred).error(one)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("centred", [False, True])
def test_the_error_is_that_of_the_outputs_far_from_zero(centred):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 400, 12)) + 3e4).astype("float32")
    rows = rng.normal(size=(1, 12, 3))
    other = rows + rng.normal(size=rows.shape) * 0.1
    moments = rounding.Moments()
    for some in (slice(100), slice(100, 400)):
        moments.add(x[:, some], (x[:, some] @ rows).astype("float32"))
    difference = x @ (other - rows)
    if centred:
        difference = difference - difference.mean(1, keepdims=True)
    found = moments.quadratic(centred).error(other)
    np.testing.assert_allclose(found, (difference**2).mean(1), rtol=1e-2)
    # The smallest error is that of the rows themselves: nothing of it is noise.
    assert (moments.quadratic(centred).error(rows) < 0.01 * found).all()


def test_inputs_far_from_zero():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((12,)), layers.Dense(16, name="only")])
    x = correlated(400, 12, np.random.default_rng(0)) + np.float32(3e4)
    rounded = quantize_model(model, QuantizeConfig(weight_bits=2, activation_bits=None))
    wanted = array(model(x))
    errors = []
    for methods in (["steps", "bias_correction"], METHODS):
        made, report = calibrate(rounded, x, methods, verbose=0, return_report=True)
        errors.append(float(np.mean((array(made(x)) - wanted) ** 2)))
        relative = errors[-1] / float(wanted.var(0).mean())
        assert report.layers[0].error_after == pytest.approx(relative, rel=0.05)
    assert errors[1] < 0.5 * errors[0]


def test_what_is_held_stays():
    rng = np.random.default_rng(4)
    x, rows = correlated(100, 6, rng)[None].astype(float), rng.normal(size=(1, 6, 4))
    moments = rounding.Moments()
    moments.add(x, x @ rows)
    step = np.full((1, 1, 4), 0.8)
    codes = rounding.nearest(rows, step, 3)
    free = rng.random(codes.shape) < 0.5
    quadratic = moments.quadratic(centred=False)
    found = rounding.search(quadratic, codes, step, 3, free)
    np.testing.assert_array_equal(found[~free], codes[~free])
    assert (found != codes).any()


def test_the_best_step_and_the_refitted_one_are_minima():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(1, 200, 3))
    step = rounding.best_step(rows, 1, shared=False)
    for factor in (0.9, 1.1):
        for one, least in zip(
            moved(rows, step * factor, 1), moved(rows, step, 1), strict=True
        ):
            assert least <= one
    assert np.unique(rounding.best_step(rows, 1, shared=True)).size == 1
    moments = rounding.Moments()
    x = rng.normal(size=(1, 300, 200))
    moments.add(x, x @ rows)
    quadratic, codes = moments.quadratic(False), rounding.nearest(rows, step, 1)
    fitted = rounding.refitted(quadratic, codes, step, shared=False)
    least = quadratic.error(codes * fitted)
    for factor in (0.97, 1.0, 1.03):
        assert (least <= quadratic.error(codes * fitted * factor) + 1e-9).all()


def moved(rows, step, last):
    return ((rounding.nearest(rows, step, last) * step - rows) ** 2).sum((0, 1))


LAYERS = [
    (layers.Dense(5), (7,)),
    (layers.Dense(5), (3, 7)),
    (layers.EinsumDense("abc,cd->abd", (3, 5), bias_axes="d"), (3, 7)),
    (layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="cd"), (7,)),
    (layers.EinsumDense("...b,bc->...c", (3, 4), bias_axes="c"), (3, 7)),
    (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 3)),
    (layers.Conv2D(4, 3, strides=2, padding="same"), (6, 6, 3)),
    (layers.Conv2D(4, 2, groups=2, dilation_rate=2), (6, 6, 4)),
    (layers.Conv3D(2, 2), (3, 4, 4, 2)),
    (layers.DepthwiseConv1D(3, depth_multiplier=2), (9, 3)),
    (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (6, 6, 3)),
    (layers.Conv1DTranspose(4, 3, strides=2), (5, 3)),
    (layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (4, 4, 3)),
]


@pytest.mark.parametrize(
    ("given", "shape"), LAYERS, ids=[type(one).__name__ for one, _ in LAYERS]
)
def test_a_layer_is_its_matrices(given, shape):
    rng = np.random.default_rng(4)
    keras.utils.set_random_seed(3)
    layer = type(given).from_config(given.get_config())
    x = keras.ops.convert_to_tensor(rng.normal(size=(2, *shape)), "float32")
    if keras.backend.backend() == "tensorflow" and getattr(layer, "groups", 1) > 1:
        layer.build(x.shape)  # no grouped convolution on its CPU
        expected = grouped(layer, x)
    else:
        expected = array(layer(x))
    matrix = kernel_matrices.of_layer(layer)
    kernel = array(layer.kernel)
    rows = matrix.to_rows(kernel)
    np.testing.assert_array_equal(matrix.from_rows(rows), kernel)
    found = (matrix.patches(x) @ rows).swapaxes(0, 1).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert matrix.bias is layer.bias


def grouped(layer, x):
    kernels = np.split(array(layer.kernel), layer.groups, axis=-1)
    parts = np.split(array(x), layer.groups, axis=-1)
    how = {"dilation_rate": layer.dilation_rate}
    found = [
        array(keras.ops.conv(one, kernel, **how))
        for one, kernel in zip(parts, kernels, strict=True)
    ]
    return np.concatenate(found, axis=-1)


def test_what_has_no_matrix():
    class Mine(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    mine = Mine(3)
    mine.build((None, 4))
    each = layers.EinsumDense("abc,bcd->abd", (3, 4))  # a matrix for each place
    each.build((None, 3, 5))
    for layer in (mine, each, layers.LSTM(3), layers.SeparableConv2D(3, 3)):
        assert kernel_matrices.of_layer(layer) is None


# ---- models


def test_each_method_brings_the_outputs_nearer():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(24, "relu"), layers.Dense(6)]
    )
    x, new = correlated(1200, 12)[:, :12], slice(600, None)
    rounded = quantize_model(model, FEW)
    before = [array(one) for one in rounded.variables]
    errors = [error(model, rounded, x[new])]
    for methods in (
        ["steps"],
        ["steps", "bias_correction"],
        ["steps", "rounding", "bias_correction"],
    ):
        made = calibrate(rounded, x[:600], methods, verbose=0)
        errors.append(error(model, made, x[new]))
    assert errors[1] < errors[0]
    assert errors[2] < errors[1]
    assert errors[3] < 0.3 * errors[2]
    assert made is not rounded
    assert not made.compiled
    for old, now in zip(before, rounded.variables, strict=True):
        np.testing.assert_array_equal(old, array(now))


@pytest.fixture(scope="module")
def calibrated():
    rng = np.random.default_rng(4)
    model = cnn()
    for name in ("norm",):
        norm = model.get_layer(name)
        norm.moving_mean.assign(rng.normal(size=6) * 0.1)
        norm.gamma.assign(rng.normal(size=6))
    rounded = quantize_model(model, QuantizeConfig(weight_bits=4))
    made, report = calibrate(rounded, X, verbose=0, batch_size=20, return_report=True)
    return model, rounded, made, report


def test_a_net_with_norms_branches_and_ranges(calibrated):
    model, rounded, made, report = calibrated
    assert error(model, made, X) < 0.2 * error(model, rounded, X)
    assert [one.path for one in report.layers] == [
        f"quant_{name}" for name in ("conv", "depth", "side", "logits")
    ]
    for one in report.layers:
        assert one.error_after < one.error_before
        assert not one.reason
    assert report.rows == 48
    assert report.biases == 4  # three biases and a norm
    assert report.ranges == sum(len(one) for one in quantizers(made))
    assert "quant_depth" in str(report)
    assert report.to_dict()["layers"][0]["path"] == "quant_conv"


def quantizers(model):
    for layer in model.layers:
        found = getattr(layer, "quantizers", None)
        if found is None:
            found = [layer] if type(layer).__name__ == "FakeQuantize" else []
        yield [one for one in found if one.fixed is None]


def test_ranges_are_those_of_calls_in_training(calibrated):
    _, _, made, _ = calibrated
    for one in (one for found in quantizers(made) for one in found):
        assert one.calibrated
    first = next(one for one in made.layers if type(one).__name__ == "FakeQuantize")
    batches = [X[start::3] for start in range(3)]  # 20 rows at most in each of three
    expected = np.mean([[one.min(), one.max()] for one in batches], axis=0)
    np.testing.assert_allclose([array(first.low), array(first.high)], expected, 1e-5)


def test_the_weights_lie_on_their_grids(calibrated):
    _, _, made, _ = calibrated
    on_grid(made)


def on_grid(model):
    for wrapper in (one for one in model.layers if isinstance(one, QuantizeWrapper)):
        for index, kernel in enumerate(wrapper.kernels):
            value, scale = array(kernel.variable), array(wrapper.grids.scale(index))
            codes = value / scale
            np.testing.assert_allclose(codes, np.round(codes), atol=1e-4)
            last = 2 ** (wrapper.config.weight_bits - 1) - 1
            assert np.abs(codes).max() < last + 0.1
            rounded = array(wrapper._rounded(index, None))
            np.testing.assert_allclose(rounded, value, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_where_the_largest_weight_makes_the_step_it_stays(per_channel):
    model = mlp()
    config = QuantizeConfig(
        weight_bits=3,
        activation_bits=None,
        ranges="moving_average",
        per_channel=per_channel,
    )
    rounded = quantize_model(model, config)
    made = calibrate(rounded, FLAT, verbose=0)
    on_grid(made)
    for name in ("quant_hidden", "quant_logits"):
        scales = [array(one.get_layer(name).grids.scale(0)) for one in (rounded, made)]
        np.testing.assert_allclose(*scales, rtol=1e-6)
        assert scales[0].size > 1 or not per_channel
    assert error(model, made, FLAT) < 0.7 * error(model, rounded, FLAT)


def test_pruned_zeros_stay_zero_and_clusters_are_left_out():
    rng = np.random.default_rng(4)
    model = mlp()
    hidden, logits = model.get_layer("hidden"), model.get_layer("logits")
    pruned = array(hidden.kernel) * (rng.random((12, 16)) < 0.4)
    hidden.kernel.assign(pruned)
    logits.kernel.assign(np.sign(array(logits.kernel)) * 0.3)  # two values
    made, report = calibrate(
        quantize_model(model, FEW), FLAT, verbose=0, return_report=True
    )
    found = array(made.get_layer("quant_hidden").layer.kernel)
    assert not found[pruned == 0].any()
    assert report.layers[1].reason == (
        "rounded to the nearest: its weights are clustered"
    )
    codes = array(made.get_layer("quant_logits")._rounded(0, None))
    assert np.unique(codes[:, 0]).size <= 2


def test_nested_shared_and_several_inputs_of_other_layers():
    keras.utils.set_random_seed(3)
    inner = keras.Sequential(
        [keras.Input((12,)), layers.Dense(8, "relu", name="in"), layers.Dense(8)],
        name="inner",
    )
    one, other = keras.Input((12,), name="one"), keras.Input((12,), name="other")
    x = layers.Add(name="add")([inner(one), inner(other)])
    x = layers.Reshape((4, 2), name="steps")(x)
    x = layers.SimpleRNN(5, unroll=True, name="rnn")(x)
    x = layers.BatchNormalization(name="norm")(x)
    outputs = {"a": layers.Dense(3, name="a")(x), "b": layers.Dense(2, name="b")(x)}
    model = keras.Model({"one": one, "other": other}, outputs)
    x = {"one": correlated(80, 12), "other": correlated(80, 12)}
    rounded = quantize_model(model, QuantizeConfig(weight_bits=4, start_step=5))
    made, report = calibrate(rounded, x, verbose=0, return_report=True)
    rows = {one.path: one for one in report.layers}
    assert rows["inner/quant_in"].error_after < rows["inner/quant_in"].error_before
    assert rows["quant_rnn"].reason.endswith("SimpleRNN is not one matrix")
    assert rows["quant_rnn"].error_after is None
    wanted, found, before = (one(x) for one in (model, made, rounded))
    assert set(found) == {"a", "b"}
    assert not np.allclose(array(found["a"]), array(wanted["a"]))  # it rounds now
    assert np.allclose(array(before["a"]), array(wanted["a"]))  # start_step is to come
    assert np.mean((array(found["a"]) - array(wanted["a"])) ** 2) < 0.5 * np.var(
        array(wanted["a"])
    )


TWO = QuantizeConfig(weight_bits=2, activation_bits=None)


def with_statistics(model, x):
    """The norms have those of what reaches them, as after training."""
    for norm in model.layers:
        if isinstance(norm, layers.BatchNormalization):
            value = array(keras.Model(model.inputs[0], norm.input)(x))
            axes = tuple(i for i in range(value.ndim) if i != norm.axis % value.ndim)
            norm.moving_mean.assign(value.mean(axes))
            norm.moving_variance.assign(value.var(axes))
    return model


def relative(model, other, x):
    wanted, found = (array(one(x)).astype("float32") for one in (model, other))
    return np.mean((found - wanted) ** 2) / wanted.var()


def test_a_mean_before_an_activation_is_no_matter_of_the_norm_behind():
    keras.utils.set_random_seed(3)
    dense = layers.Dense(16, "relu", use_bias=False, name="dense")
    model = keras.Sequential([keras.Input((12,)), dense, layers.BatchNormalization()])
    x = (np.random.default_rng(0).normal(size=(400, 12)) + 1).astype("float32")
    with_statistics(model, x)
    rounded = quantize_model(model, TWO)
    plain, corrected = (
        calibrate(rounded, x, methods, verbose=0)
        for methods in (["steps", "rounding"], METHODS)
    )
    wrappers = [one.get_layer("quant_dense") for one in (plain, corrected)]
    codes = [array(one._rounded(0, None)) for one in wrappers]
    np.testing.assert_array_equal(*codes)  # the same objective
    assert relative(model, corrected, x) < relative(model, plain, x)


def test_a_norm_takes_up_the_mean_of_its_channels_only():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 5))
    x = layers.Dense(8, use_bias=False, name="dense")(inputs)
    model = keras.Model(inputs, layers.BatchNormalization(axis=1, name="norm")(x))
    x = (np.random.default_rng(0).normal(size=(100, 6, 5)) + 2).astype("float32")
    with_statistics(model, x)
    rounded = quantize_model(model, TWO)
    plain, corrected = (
        calibrate(rounded, x, methods, verbose=0)
        for methods in (["steps", "rounding"], METHODS)
    )
    assert relative(model, corrected, x) <= relative(model, plain, x)


def test_a_layer_with_one_call_before_a_norm_and_one_elsewhere():
    keras.utils.set_random_seed(3)
    one, other = keras.Input((12,)), keras.Input((12,))
    dense = layers.Dense(8, use_bias=False, name="dense")
    normed = layers.BatchNormalization(name="norm")(dense(one))
    model = keras.Model([one, other], [normed, dense(other)])
    rng = np.random.default_rng(0)
    x = [(rng.normal(size=(100, 12)) + 1).astype("float32") for _ in range(2)]
    rounded = quantize_model(model, TWO)
    plain, corrected = (
        calibrate(rounded, x, methods, verbose=0)
        for methods in (["steps", "rounding"], METHODS)
    )
    found = [array(one(x)[1]) for one in (plain, corrected)]
    np.testing.assert_array_equal(*found)


def placed(places):
    """A convolution, a norm, a depthwise one: channels first or last, one net.

    No width is a number of channels: Keras on TensorFlow would add the bias along it.
    """
    first = places == "channels_first"
    keras.utils.set_random_seed(3)
    how = {"padding": "same", "data_format": places}
    return keras.Sequential(
        [
            keras.Input((3, 8, 8) if first else (8, 8, 3)),
            layers.Conv2D(6, 3, use_bias=False, name="conv", **how),
            layers.BatchNormalization(axis=1 if first else -1),
            layers.DepthwiseConv2D(3, name="depth", **how),
            layers.Conv2D(10, 3, groups=2, strides=2, name="groups", **how),
        ]
    )


def test_channels_that_come_first_are_those_that_come_last():
    x = correlated(24 * 64, 3).reshape(24, 8, 8, 3)
    found = {}
    for places in ("channels_last", "channels_first"):
        first = places == "channels_first"
        given = np.moveaxis(x, -1, 1) if first else x
        model = placed(places)
        rounded = quantize_model(with_statistics(model, given), TWO)
        made = calibrate(rounded, given, verbose=0)
        plain, fitted = (relative(model, one, given) for one in (rounded, made))
        assert fitted < 0.5 * plain
        found[places] = array(made(given)), fitted
    last, first = found["channels_last"], found["channels_first"]
    assert first[1] == pytest.approx(last[1], rel=1e-2)
    difference = np.moveaxis(first[0], 1, -1) - last[0]
    assert np.mean(difference**2) < 1e-3 * last[0].var()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_nets_that_compute_in_halves_are_fitted_as_well(policy):
    x = correlated(400, 12)
    found = []
    for one in ("float32", policy):
        keras.utils.set_random_seed(3)
        how = {"dtype": one}
        parts = [layers.Dense(16, "relu", **how), layers.BatchNormalization(**how)]
        model = keras.Sequential([keras.Input((12,)), *parts, layers.Dense(5, **how)])
        rounded = quantize_model(model, FEW)
        made = calibrate(rounded, x, verbose=0)
        assert {str(variable.dtype) for variable in made.weights} <= {
            "float32",
            "int32",
        }
        errors = [relative(model, other, x) for other in (rounded, made)]
        assert errors[1] < 0.5 * errors[0]
        found.append(errors[1])
    assert found[1] == pytest.approx(found[0], rel=0.3)


def test_frozen_layers_are_rounded_too_and_stay_frozen():
    x = correlated(400, 12)
    found = []
    for frozen in (False, True):
        model = mlp()
        model.get_layer("hidden").trainable = not frozen
        made = calibrate(quantize_model(model, FEW), x, verbose=0)
        layer = made.get_layer("quant_hidden")
        assert layer.trainable is layer.layer.trainable is not frozen
        found.append([array(variable) for variable in layer.layer.weights])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_statistics_of_a_norm_follow_and_never_go_far():
    norm = layers.BatchNormalization(name="norm")
    norm.build((None, 4))
    norm.moving_variance.assign([1.0, 4.0, 1.0, 1.0])
    rng = np.random.default_rng(0)
    floats = rng.normal(size=(64, 4)) * [1, 2, 1, 1] + 5
    rounded = floats + rng.normal(size=(64, 4)) * 0.5 + 1
    rounded[:, 2] = 7.0  # all of it was rounded away
    rounded[:, 3] = 7.0 + floats[:, 3] * 0.01  # nearly all
    values = [[one[:30], one[30:]] for one in (rounded, floats)]
    values = [[one.astype("float32") for one in batches] for batches in values]
    wanted = array(norm(floats.astype("float32")))
    Calibrator(mlp(), METHODS, None)._correct_norm(norm, tuple(values))
    found = array(norm(rounded.astype("float32")))
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=1e-4)
    np.testing.assert_allclose(found.var(0)[:2], wanted.var(0)[:2], rtol=1e-3)
    variance = array(norm.moving_variance)
    np.testing.assert_allclose(variance[2:], [1.0, 0.25], atol=2e-3)


def test_saved_and_loaded_it_is_the_same(calibrated, tmp_path):
    _, _, made, _ = calibrated
    made.save(tmp_path / "made.keras")
    loaded = keras.models.load_model(tmp_path / "made.keras")
    np.testing.assert_allclose(array(loaded(X)), array(made(X)), atol=1e-5)


@pytest.mark.tensorflow_only
def test_the_file_has_the_integers_that_were_found(calibrated, tmp_path):
    from tests.quantization.models import integers

    _, _, made, _ = calibrated
    report = kf.export_litert(made, tmp_path / "m.tflite", check_data=X)
    assert report.agreement == 1.0
    assert max(one.max_steps for one in report.layers) <= 2.01
    in_file = [one.tolist() for one in integers(tmp_path / "m.tflite")]
    wrappers = [one for one in made.layers if isinstance(one, QuantizeWrapper)]
    for wrapper in (one for one in wrappers if one.kernels):
        scale = array(wrapper.grids.scale(0))
        codes = np.round(array(wrapper.kernels[0].variable) / scale)
        assert np.sort(np.abs(codes).ravel()).astype(int).tolist() in in_file


def test_without_ranges_activations_stay_floats_and_the_report_says_so(calibrated):
    _, _, _, report = calibrated
    assert report.floats == 0
    rounded = quantize_model(mlp(), QuantizeConfig(weight_bits=4))
    how = {"verbose": 0, "return_report": True}
    made, report = calibrate(rounded, FLAT, ["steps"], **how)
    assert report.floats == sum(len(one) for one in quantizers(made)) > 0
    assert f"{report.floats} activations left as floats (no range)" in str(report)


def warned(model, methods):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        calibrate(model, FLAT, methods, verbose=0)
    return [str(one.message) for one in found if "`calibrate`" in str(one.message)]


def test_what_a_training_found_is_not_lost_in_silence():
    rounded = quantize_model(mlp(), QuantizeConfig(weight_bits=4))
    assert not warned(rounded, METHODS)
    made = calibrate(rounded, FLAT, verbose=0)
    (text,) = warned(made, METHODS)
    assert "drops the ranges that `mlp` has" in text
    assert not warned(made, ["rounding"])  # they stay
    for wrapper in (one for one in made.layers if isinstance(one, QuantizeWrapper)):
        for weight in wrapper.trainable_variables:
            weight.assign_add(keras.ops.full(weight.shape, 0.01))  # a training
    (text,) = warned(made, METHODS)
    assert "drops the ranges and steps" in text


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 4096, 1000), ""),
        ((1, 4096, 1025), "4096 inputs and 1025 outputs are too many"),
        ((1, 5000, 2), "5000 inputs, more than 4096"),
        ((2, 4096, 1), "2 matrices of 4096 inputs are too many"),
        ((960, 49, 1), ""),
    ],
)
def test_what_is_too_large(shape, reason):
    assert calibrator._too_large(*shape) == reason


def test_layers_that_are_too_large_are_rounded_to_the_nearest(monkeypatch):
    monkeypatch.setattr(calibrator, "MOST_SEARCH", 12.0 * 12 * 6)
    rounded = quantize_model(mlp(), FEW)
    made, report = calibrate(rounded, FLAT, verbose=0, return_report=True)
    assert report.layers[0].reason == (
        "rounded to the nearest: 12 inputs and 16 outputs are too many"
    )
    assert report.layers[0].error_after is None
    before, after = (one.get_layer("quant_hidden").layer for one in (rounded, made))
    np.testing.assert_array_equal(array(before.kernel), array(after.kernel))
    assert "too many" in str(report)


# ---- bad input


def test_progress_is_shown(capsys):
    calibrate(quantize_model(mlp(), FEW), FLAT)
    assert "layer" in capsys.readouterr().out


NAN = FLAT.copy()
NAN[3, 2] = np.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": NAN}, "`x` must be finite. Received: 1 values"),
        ({"x": FLAT[:, :5]}, r"`x` must be arrays of the shapes \[\('rows', 12\)\]"),
        ({"x": FLAT[:0]}, "`x` must be arrays of the shapes"),
        ({"x": None}, "`x` must be arrays of inputs"),
        ({"methods": ["adaround"]}, "`methods` must be one of 'ranges', 'steps'"),
        ({"methods": "rounding"}, "`methods` must be a list of some of"),
        ({"methods": []}, "`methods` must be a list of some of"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"verbose": 2}, "`verbose` must be an integer"),
        ({"return_report": 1}, "`return_report` must be True or False"),
        ({"model": mlp}, "`model` must be a model that `kf.quantize_model` made"),
    ],
)
def test_bad_arguments(arguments, message):
    model = arguments.get("model", lambda: quantize_model(mlp(), FEW))()
    before = [array(one) for one in model.variables]
    given = {"x": FLAT, "verbose": 0, **arguments, "model": model}
    with pytest.raises((ValueError, TypeError), match=message):
        calibrate(**given)
    for old, now in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, array(now))


def test_inputs_are_checked_as_what_they_become():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    half = keras.ops.cast(np.array([[1.0, np.nan]], "float32"), "bfloat16")
    with pytest.raises(ValueError, match=r"`x` must be finite\. Received: 1 values"):
        inputs.checked("x", half, model)
    with pytest.raises(ValueError, match=r"Received: 1 values .* as float32"):
        inputs.checked("x", np.array([[1.0, 1e39]]), model)
    fine = inputs.checked("x", keras.ops.cast(np.ones((1, 2)), "bfloat16"), model)
    np.testing.assert_array_equal(fine[0], np.ones((1, 2), "float32"))
    words = keras.Input((2,), dtype="int32")
    model = keras.Model(words, layers.Embedding(4, 2)(words))
    (found,) = inputs.checked("x", np.array([[1.0, 3.0]]), model)
    assert found.dtype == "int32"
    with pytest.raises(ValueError, match="`x` must be whole numbers"):
        inputs.checked("x", np.array([[1.0, 2.5]]), model)


def test_weights_that_are_no_numbers():
    model = quantize_model(mlp(), FEW)
    model.get_layer("quant_hidden").layer.bias.assign(np.full(16, np.nan))
    with pytest.raises(ValueError, match=r"NaN or infinite: .*bias"):
        calibrate(model, FLAT)
