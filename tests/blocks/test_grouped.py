"""GroupedConv2D beside plain convolutions, GroupedDense beside a dense kernel."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.blocks import grouped
from tests.blocks.cases import array

GroupedConv2D = kf.blocks.GroupedConv2D

SETTINGS = {
    "plain": {},
    "strides": {"strides": 2, "padding": "same"},
    "uneven strides": {"strides": (2, 1)},
    "dilated": {"dilation_rate": 2},
    "uneven kernel": {"kernel_size": (1, 3), "padding": "same"},
    "no bias": {"use_bias": False, "activation": "relu"},
}


def images():
    return np.random.default_rng(0).normal(size=(2, 9, 8, 8)).astype("float32")


def by_hand(layer, data):
    """Every group as a plain convolution."""
    kernel, *bias = layer.get_weights()
    parts = zip(
        np.split(data, layer.groups, axis=-1),
        np.split(kernel, layer.groups, axis=-1),
        strict=True,
    )
    found = [
        keras.ops.conv(
            part,
            piece,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format="channels_last",
        )
        for part, piece in parts
    ]
    total = np.concatenate([array(one) for one in found], axis=-1)
    return array(layer.activation(total + bias[0] if bias else total))


def made(groups, first=False, **settings):
    size = settings.pop("kernel_size", 3)
    layer = GroupedConv2D(
        16,
        size,
        groups=groups,
        data_format="channels_first" if first else "channels_last",
        bias_initializer="random_normal",
        **settings,
    )
    layer.build((None, 8, None, None) if first else (None, None, None, 8))
    return layer


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_each_group_is_a_convolution(groups, settings):
    layer = made(groups, **settings)
    expected = by_hand(layer, images())
    np.testing.assert_allclose(array(layer(images())), expected, atol=2e-6)
    assert layer.compute_output_shape((2, 9, 8, 8)) == expected.shape


@pytest.mark.parametrize("groups", [4, 8])
def test_channels_first(groups):
    layer = made(groups, first=True, padding="same")
    found = array(layer(images().transpose(0, 3, 1, 2)))
    expected = by_hand(layer, images()).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("groups", [4, 8])
def test_gradients_are_those_of_the_plain_convolutions(groups):
    """One step of gradient descent moves the kernel as it moves the groups' kernels."""
    layer = made(groups, use_bias=False)
    before = layer.get_weights()[0]
    model = keras.Sequential([keras.Input((9, 8, 8)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    target = np.zeros(model(images()).shape, "float32")
    model.train_on_batch(images(), target)
    found = before - layer.get_weights()[0]

    kernels = np.split(before, groups, axis=-1)
    inputs = keras.Input((9, 8, 8))
    size = 8 // groups
    parts = [inputs[..., size * g : size * (g + 1)] for g in range(groups)]
    convs = [keras.layers.Conv2D(16 // groups, 3, use_bias=False) for _ in kernels]
    outputs = [conv(part) for conv, part in zip(convs, parts, strict=True)]
    split = keras.Model(inputs, keras.ops.concatenate(outputs, axis=-1))
    split.set_weights(kernels)
    split.compile(keras.optimizers.SGD(1.0), "mse")
    split.train_on_batch(images(), target)
    moved = np.concatenate(split.get_weights(), axis=-1)
    np.testing.assert_allclose(found, before - moved, atol=2e-6)


def test_weights_and_config_are_those_of_keras():
    ours, keras_layer = made(4), keras.layers.Conv2D(16, 3, groups=4)
    keras_layer.build((None, None, None, 8))
    assert [w.shape for w in ours.weights] == [w.shape for w in keras_layer.weights]
    assert set(ours.get_config()) == set(keras_layer.get_config())
    again = GroupedConv2D.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()


def test_save_and_load(tmp_path):
    model = keras.Sequential([keras.Input((9, 8, 8)), made(4)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(again(images())), array(model(images())))


def test_mixed_precision():
    layer = GroupedConv2D(16, 3, groups=4, dtype="mixed_bfloat16")
    found = layer(images())
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"


@pytest.mark.tensorflow_only
def test_tensorflow_gets_plain_operations(monkeypatch):
    import tensorflow as tf

    def operations(layer):
        step = tf.function(lambda x: layer(x), jit_compile=False)
        graph = step.get_concrete_function(tf.TensorSpec((2, 9, 8, 8))).graph
        return [one.type for one in graph.get_operations()]

    monkeypatch.setattr(grouped, "raw_op_has_gradients", lambda *_: True)
    assert operations(made(4)).count("Conv2D") == 1
    assert "Split" not in operations(made(4))
    monkeypatch.setattr(grouped, "raw_op_has_gradients", lambda *_: False)
    assert operations(made(4)).count("Conv2D") == 4
    assert "DepthwiseConv2dNative" in operations(made(8))
    for layer in (made(4), made(8)):  # no function of its own, compiled apart
        assert not any("Call" in one for one in operations(layer))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_raw_op_and_one_by_one_are_the_same(monkeypatch, settings):
    layer = made(4, **settings)
    found = []
    for raw in (True, False):
        monkeypatch.setattr(grouped, "raw_op_has_gradients", lambda *_, raw=raw: raw)
        found.append(array(layer(images())))
    np.testing.assert_allclose(*found, atol=2e-6)


@pytest.mark.tensorflow_only
def test_the_probe_tells_what_a_tape_can():
    """What it says holds for a tape."""
    import tensorflow as tf

    grouped.raw_op_has_gradients.cache_clear()
    inputs, kernel = tf.ones((1, 4, 4, 4)), tf.ones((3, 3, 2, 4))
    with tf.GradientTape() as tape:
        tape.watch((inputs, kernel))
        outputs = tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")
    try:
        tape.gradient(outputs, (inputs, kernel))
    except tf.errors.OpError:
        runs = False
    else:
        runs = True
    assert tf.function(grouped.raw_op_has_gradients)() == runs
    assert grouped.raw_op_has_gradients.cache_info().currsize == 1


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("groups", [4, 8])
def test_dilated_convolutions_have_gradients(groups):
    import tensorflow as tf

    ours = made(groups, dilation_rate=2)
    theirs = keras.layers.Conv2D(16, 3, groups=groups, dilation_rate=2)
    theirs.build((None, None, None, 8))
    theirs.set_weights(ours.get_weights())

    @tf.function
    def gradients(x):
        found = []
        for layer in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(layer(x) ** 2)
            found.append(tape.gradient(loss, [x, layer.kernel.value]))
        return found

    for one, other in zip(*gradients(tf.constant(images())), strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow_only
def test_channels_first_by_the_raw_op(monkeypatch):
    monkeypatch.setattr(grouped, "raw_op_has_gradients", lambda *_: True)
    layer = made(4, first=True, padding="same")
    found = array(layer(images().transpose(0, 3, 1, 2)))
    expected = by_hand(layer, images()).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("lead", [(3,), (3, 5)])
def test_grouped_dense_is_a_block_diagonal_kernel(activation, use_bias, lead):
    layer = kf.blocks.GroupedDense(6, 2, activation=activation, use_bias=use_bias)
    data = np.random.default_rng(1).normal(size=(*lead, 8)).astype("float32")
    found = array(layer(data))
    kernel = np.zeros((8, 6))
    kernel[:4, :3], kernel[4:, 3:] = layer.get_weights()[0]
    expected = data @ kernel
    if activation:
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert layer.count_params() == 8 * 6 // 2 + 6 * use_bias
    assert layer.compute_output_shape((None, None, 8)) == (None, None, 6)


def test_grouped_dense_draws_every_group_anew():
    first = keras.initializers.GlorotUniform(seed=3)
    layer = kf.blocks.GroupedDense(6, 2, kernel_initializer=first)
    layer.build((None, 8))
    one, other = layer.get_weights()[0]
    assert (one != other).all()
    limit = np.sqrt(6 / (8 // 2 + 6))  # Glorot, fans of the cut kernel
    assert np.abs([one, other]).max() <= limit


def test_grouped_dense_saves_and_loads(tmp_path):
    inputs = keras.Input((None, 8))
    regularizer = keras.regularizers.L2(0.1)
    layer = kf.blocks.GroupedDense(6, 2, kernel_regularizer=regularizer)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    data = np.ones((2, 3, 8), "float32")
    np.testing.assert_array_equal(array(again(data)), array(model(data)))
    assert len(again.losses) == 1


def test_groups_that_do_not_divide_the_inputs_are_named():
    with pytest.raises(
        ValueError, match=r"Layer 'd': `groups` must be a divisor of the 7"
    ):
        kf.blocks.GroupedDense(6, 2, name="d").build((None, 7))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("dtype", ["mixed_float16", "float64", "mixed_bfloat16"])
def test_it_trains_in_every_precision(dtype, dilation):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is switched on")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 8), dtype="float64" if dtype == "float64" else None)
    x = kf.blocks.GroupedConv2D(
        8, 3, groups=2, padding="same", dilation_rate=dilation, dtype=dtype
    )(inputs)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(x))
    model.compile("sgd", "mse")
    before = keras.ops.convert_to_numpy(model.layers[1].kernel.value).copy()
    rows = np.random.default_rng(0).normal(size=(4, 8, 8, 8))
    model.train_on_batch(rows, np.ones((4, 1)))
    after = keras.ops.convert_to_numpy(model.layers[1].kernel.value)
    assert np.isfinite(after).all()
    assert (before != after).any()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"data_format": "x"}, "`data_format` must be one of"),
        ({"kernel_initializer": "none"}, "`kernel_initializer` must be a name"),
        ({"padding": "full"}, "`padding` must be one of"),
        ({"activation": "reul"}, "Did you mean 'relu'"),
    ],
)
def test_arguments_of_the_convolution_are_checked(given, error):
    with pytest.raises(ValueError, match=error):
        kf.blocks.GroupedConv2D(8, 3, groups=2, **given)


def test_what_keras_takes_is_taken():
    given = {"padding": "SAME", "activation": keras.layers.LeakyReLU(0.3)}
    ours = kf.blocks.GroupedConv2D(8, 3, groups=2, **given)
    theirs = keras.layers.Conv2D(8, 3, groups=2, **given)
    assert ours.padding == theirs.padding == "same"
    assert ours(np.ones((1, 5, 5, 4), "float32")).shape == (1, 5, 5, 8)
