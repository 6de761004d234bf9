"""What reaches every block through `**kwargs`; the rest is in tests/contract."""

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
