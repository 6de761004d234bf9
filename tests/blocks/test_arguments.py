"""What reaches every block through `**kwargs`; the rest is in tests/contract."""

import warnings

import keras
import pytest

import keras_fitkit as kf

BAD = [
    ("use_bias", 1, TypeError, "`use_bias` must be True or False"),
    ("norm_momentum", 1.0, ValueError, r"`norm_momentum` must be a number in \[0, 1\)"),
    ("norm_epsilon", 0, ValueError, "`norm_epsilon` must be a number > 0"),
    ("kernel_initializer", "x", ValueError, "`kernel_initializer` must be a name in"),
    ("kernel_regularizer", "x", ValueError, "`kernel_regularizer` must be None, a"),
    ("data_format", "x", ValueError, "`data_format` must be one of 'channels_last'"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD)
@pytest.mark.parametrize("kind", ["ConvNormAct", "RepConv", "InvertedResidual"])
def test_an_argument_of_all_blocks_is_named(kind, name, value, error, text):
    with pytest.raises(error, match=text):
        getattr(kf.blocks, kind)(8, **{name: value})


def test_an_unknown_argument_is_named_by_keras():
    with pytest.raises(ValueError, match="paddding"):
        kf.blocks.ConvNormAct(8, paddding="same")


@pytest.mark.parametrize("kind", ["ChannelShuffle", "GroupedDense", "StochasticDepth"])
def test_keyword_arguments_are_those_of_a_layer(kind):
    value = getattr(kf.blocks, kind)
    first = {"StochasticDepth": (0.5,), "GroupedDense": (4, 2)}.get(kind, (2,))
    layer = value(*first, name="mine", dtype="float16", trainable=False)
    assert (layer.name, layer.compute_dtype, layer.trainable) == (
        "mine",
        "float16",
        False,
    )
    assert isinstance(layer, keras.layers.Layer)


def caught(make):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        make()
    return [one for one in found if "depthwise kernels above" in str(one.message)]


def test_a_trap_is_told_once():
    own = kf.blocks
    both = {"start_kernel_size": 7, "kernel_size": 7}
    assert len(caught(lambda: own.UniversalInvertedBottleneck(4, **both))) == 1
    made = []

    def make():
        made.append(own.InvertedResidual(4, kernel_size=7))

    assert len(caught(make)) == 1
    inputs, config = keras.Input((8, 8, 4)), made[0].get_config()
    # It was said when the block was made.
    assert not caught(lambda: own.SharedStack(made[0], 3)(inputs))
    assert not caught(lambda: own.InvertedResidual.from_config(config))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"strides": 0}, "`strides` must be an integer >= 1, or two of them"),
        ({"padding": "smae"}, "Did you mean 'same'"),
        ({"activation": "rleu"}, "Did you mean 'relu'"),
        ({"groups": 3}, "`groups` must be a divisor of filters=8"),
    ],
)
def test_arguments_of_grouped_convolutions(given, text):
    with pytest.raises(ValueError, match=text):
        kf.blocks.GroupedConv2D(8, 3, **{"groups": 2, **given})


def test_groups_must_divide_the_inputs():
    layer = kf.blocks.GroupedConv2D(8, 3, groups=4, name="conv")
    with pytest.raises(ValueError, match="divisor of the 6 input channels of 'conv'"):
        layer(keras.Input((8, 8, 6)))


def test_the_form_for_int8_has_no_hard_swish():
    own = {"variant": "minimalistic", "activation": "hard_swish"}
    with pytest.raises(ValueError, match="ReLU or the like with variant='minimalis"):
        kf.blocks.InvertedResidual(8, **own)


def test_a_minimalistic_block_has_cheap_activations():
    with pytest.raises(ValueError, match="`activation` must be ReLU or the like with"):
        kf.blocks.InvertedResidual(8, variant="minimalistic", activation="swish")


def test_a_shared_block_takes_one_input():
    block = keras.layers.MultiHeadAttention(2, 4)
    with pytest.raises(ValueError, match=r"`block` must be a layer of one input\."):
        kf.blocks.SharedStack(block, 2)


def test_a_shared_block_without_weights_is_never_too_late():
    """Dropout has a seed state and nothing that would be lost."""
    stack = kf.blocks.SharedStack(keras.layers.Dropout(0.5), 2)
    assert stack(keras.ops.ones((2, 3)), training=False).shape == (2, 3)
