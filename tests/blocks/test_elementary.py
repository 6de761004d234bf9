"""ChannelShuffle, ChannelSlice, StochasticDepth, PolynomialFeatures, attention."""

import keras
import numpy as np
import pytest
from sklearn import preprocessing

import keras_fitkit as kf
from keras_fitkit.blocks._widths import make_divisible
from tests.blocks.cases import array

b = kf.blocks


def images(channels=6):
    return np.random.default_rng(0).normal(size=(2, 3, 4, channels)).astype("float32")


def saved(layer, shape, folder):
    model = keras.Sequential([keras.Input(shape), layer])
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras").layers[0]


# --- channels


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channel_shuffle_transposes_groups(groups):
    data = images()
    expected = data.reshape(2, 3, 4, groups, 6 // groups).swapaxes(3, 4)
    found = b.ChannelShuffle(groups)(data)
    np.testing.assert_array_equal(array(found), expected.reshape(data.shape))
    first = b.ChannelShuffle(groups, data_format="channels_first")
    turned = array(first(data.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(turned.transpose(0, 2, 3, 1), array(found))


def test_shuffle_and_its_opposite():
    data = images()
    shuffled = b.ChannelShuffle(2)(data)
    np.testing.assert_array_equal(array(b.ChannelShuffle(3)(shuffled)), data)


@pytest.mark.parametrize(
    "layer", [lambda: b.ChannelShuffle(2), lambda: b.ChannelSlice(1, 4)]
)
def test_channel_layers_of_unknown_size_save_and_load(layer, tmp_path):
    given = layer()
    again = saved(given, (None, None, 6), tmp_path)
    assert again.get_config() == given.get_config()
    np.testing.assert_array_equal(array(again(images())), array(given(images())))


def test_channel_slice_in_both_formats():
    data = images()
    found = b.ChannelSlice(1, 4)(data)
    np.testing.assert_array_equal(array(found), data[..., 1:4])
    first = b.ChannelSlice(1, 4, data_format="channels_first")
    turned = data.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(array(first(turned)), turned[:, 1:4])
    assert first.compute_output_shape((None, 6, None, None)) == (None, 3, None, None)


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"Layer 's': `groups` must be a divisor of the 6"
    ):
        b.ChannelShuffle(4, name="s")(images())
    with pytest.raises(ValueError, match=r"Layer 'c': `stop` must be at most the 6"):
        b.ChannelSlice(4, 8, name="c")(images())


# --- stochastic depth


def test_stochastic_depth_drops_whole_examples_and_keeps_the_mean():
    data = np.ones((4000, 2, 3), "float32")
    found = array(b.StochasticDepth(0.25, seed=1)(data, training=True))
    kept = found[:, 0, 0]
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_array_equal(found, kept[:, None, None] * data)
    # 4000 draws: the standard error of the mean is sqrt(.25 / .75 / 4000) = .009
    assert kept.mean() == pytest.approx(1.0, abs=4 * 0.009)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.5, None), (0.0, True)])
def test_stochastic_depth_passes_on(rate, training):
    layer = b.StochasticDepth(rate, seed=1)
    np.testing.assert_array_equal(array(layer(images(), training=training)), images())


def test_stochastic_depth_of_one_seed_is_the_same(tmp_path):
    given = b.StochasticDepth(0.5, seed=3)
    again = saved(given, (3, 4, 6), tmp_path)
    one, other = (array(x(images(), training=True)) for x in (given, again))
    np.testing.assert_array_equal(one, other)
    assert again.get_config() == given.get_config()


# --- polynomial features

POLYNOMIALS = [
    {"degree": degree, "interaction_only": only, "include_bias": bias}
    for degree in (1, 2, 4)
    for only in (False, True)
    for bias in (False, True)
]


@pytest.mark.parametrize("settings", POLYNOMIALS, ids=str)
def test_polynomial_features_are_those_of_scikit_learn(settings):
    data = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    theirs = preprocessing.PolynomialFeatures(**settings).fit_transform(
        data.astype("float64")
    )
    layer = b.PolynomialFeatures(**settings)
    np.testing.assert_allclose(array(layer(data)), theirs, rtol=2e-6)
    assert layer.compute_output_shape((None, 3)) == (None, theirs.shape[1])
    assert layer(keras.Input((7, 3))).shape == (None, 7, theirs.shape[1])


def test_polynomial_features_in_a_model(tmp_path):
    again = saved(b.PolynomialFeatures(3, include_bias=False), (3,), tmp_path)
    assert again.get_config()["degree"] == 3
    assert again(keras.Input((3,))).shape == (None, 19)  # C(3 + 3, 3) - 1


# --- attention


def test_squeeze_excite_by_hand():
    layer, data = b.SqueezeExcite(filters=2), images()
    layer.build(data.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    first, first_bias, second, second_bias = layer.get_weights()
    squeezed = np.maximum(data.mean((1, 2)) @ first[0, 0] + first_bias, 0)
    gate = 1 / (1 + np.exp(-(squeezed @ second[0, 0] + second_bias)))
    expected = data * gate[:, None, None]
    np.testing.assert_allclose(array(layer(data)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "settings", "squeezed"),
    [(64, {"ratio": 1 / 16}, 4), (3, {}, 1), (72, {"divisor": 8}, 24)],
)
def test_squeezed_width(channels, settings, squeezed):
    layer = b.SqueezeExcite(**settings)
    layer.build((None, 4, 4, channels))
    assert layer.layers[1].filters == squeezed


def test_efficient_channel_attention_by_hand():
    layer, data = b.EfficientChannelAttention(), images()
    layer.build(data.shape)
    kernel = np.array([0.5, -1.0, 2.0])
    layer.set_weights([kernel.reshape(3, 1, 1)])
    means = np.pad(data.mean((1, 2)), ((0, 0), (1, 1)))
    mixed = sum(kernel[k] * means[:, k : k + 6] for k in range(3))
    gate = 1 / (1 + np.exp(-mixed))
    expected = data * gate[:, None, None]
    np.testing.assert_allclose(array(layer(data)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "rounded"), [(32 * 0.35, 16), (24 * 0.35, 8), (16, 16), (90, 88), (1, 8)]
)
def test_make_divisible_keeps_nine_tenths(value, rounded):
    assert make_divisible(value) == rounded
    assert rounded >= 0.9 * value


def test_products_of_integers_do_not_overflow():
    inputs = keras.Input((2,), dtype="uint8")
    model = keras.Model(inputs, kf.blocks.PolynomialFeatures(2)(inputs))
    found = keras.ops.convert_to_numpy(model(np.array([[200, 3]], "uint8")))
    assert found.tolist() == [[1, 200, 3, 200 * 200, 200 * 3, 3 * 3]]
