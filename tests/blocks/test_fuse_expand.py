"""fuse, expand and replace_grouped_conv: what becomes of which layer."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.blocks.block import Block
from tests.blocks.cases import CASES, built, randomized
from tests.blocks.models import close, images, nested, outputs

b, layers = kf.blocks, keras.layers


def model_of(*parts, shape=(9, 8, 4)):
    model = keras.Sequential([keras.Input(shape), *parts]) if parts else None
    return randomized(model)


def kinds(model):
    return [type(one).__name__ for one in model.layers[1:]]


# Each block's own `expand` is in the contract tests; here those with a graph of their
# own kind: branches, parts that are called again, slices, gates.
KINDS = (
    "InvertedResidual-v3",
    "ShuffleUnit-strides",
    "GhostModule",
    "RepConv-strides",
    "MobileOne",
    "SharedStack-batch",
    "LowRankConv2D-spatial",
)
each = pytest.mark.parametrize("case", [CASES[name] for name in KINDS], ids=KINDS)


@each
def test_a_block_is_expanded(case):
    inputs = keras.Input(case.input_shape()[1:])
    model = keras.Model(inputs, built(case)(inputs))
    plain = kf.expand(model)
    close(outputs(plain, case.data()), outputs(model, case.data()))
    assert not any(isinstance(one, Block) for one in plain.layers)
    assert plain.count_params() == model.count_params()


@each
def test_a_block_is_fused(case):
    inputs = keras.Input(case.input_shape()[1:])
    model = keras.Model(inputs, built(case)(inputs))
    deploy = kf.fuse(model)
    close(outputs(deploy, case.data()), outputs(model, case.data()))
    shared = type(model.layers[1]) is b.SharedStack  # a kernel, and norms for each step
    assert ("BatchNormalization" in kinds(deploy)) == shared


FOLDED = {
    "dense": lambda: (layers.Dense(6),),
    "no bias": lambda: (layers.Dense(6, use_bias=False),),
    "conv1d": lambda: (layers.Reshape((72, 4)), layers.Conv1D(6, 3)),
    "conv2d": lambda: (layers.Conv2D(6, 3, strides=2),),
    "conv3d": lambda: (layers.Reshape((9, 4, 2, 4)), layers.Conv3D(6, 2)),
    "transposed": lambda: (layers.Conv2DTranspose(6, 3),),
    "depthwise": lambda: (layers.DepthwiseConv2D(3, depth_multiplier=2),),
    "depthwise1d": lambda: (layers.Reshape((72, 4)), layers.DepthwiseConv1D(3)),
    "separable": lambda: (layers.SeparableConv2D(6, 3),),
    "grouped": lambda: (b.GroupedConv2D(6, 3, groups=2),),
}


@pytest.mark.parametrize("make", FOLDED.values(), ids=FOLDED.keys())
@pytest.mark.parametrize("center", [True, False])
def test_a_normalization_is_folded(make, center):
    norm = layers.BatchNormalization(center=center, scale=center)
    model = model_of(*make(), norm, layers.ReLU())
    deploy, report = kf.fuse(model, return_report=True)
    close(outputs(deploy, images()), outputs(model, images()))
    assert "BatchNormalization" not in kinds(deploy)
    assert len(report.changed) == 1


def test_what_cannot_be_folded_is_named_with_the_reason():
    inputs = keras.Input((9, 8, 4))
    conv = layers.Conv2D(4, 1, name="conv")
    x = conv(inputs)
    one = layers.BatchNormalization(name="one")(x)
    two = layers.BatchNormalization(name="two")(x)
    active = layers.Conv2D(4, 1, activation="relu", name="active")(one)
    three = layers.BatchNormalization(name="three")(active)
    four = layers.BatchNormalization(name="four")(layers.Add()([two, three]))
    five = layers.BatchNormalization(axis=1, name="five")(layers.Conv2D(4, 1)(four))
    six = layers.BatchNormalization(name="six")
    seven = six(layers.Conv2D(4, 1)(five), training=True)
    shared = layers.BatchNormalization(name="shared")
    ends = [shared(layers.Conv2D(4, 1)(seven)), shared(layers.Conv2D(4, 1)(seven))]
    model = randomized(keras.Model(inputs, ends))
    deploy, report = kf.fuse(model, return_report=True)
    reasons = {row.name: row.text for row in report.kept}
    assert reasons == {
        "one": "what 'conv' gives is used elsewhere too",
        "two": "what 'conv' gives is used elsewhere too",
        "three": "'active' has an activation",
        "four": "comes after no convolution or Dense layer",
        "five": "its axis is not that of the channels",
        "six": "is called with training=True",
        "shared": "is shared, after different layers",
    }
    assert report.changed == ()
    assert deploy.count_params() == model.count_params()


def test_a_shared_pair_is_folded_once():
    conv, norm = layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization()
    left, right = keras.Input((9, 8, 4)), keras.Input((9, 8, 4))
    ends = [norm(conv(left)), norm(conv(right))]
    model = randomized(keras.Model([left, right], ends))
    deploy = kf.fuse(model)
    data = [images(seed=1), images(seed=2)]
    close(outputs(deploy, data), outputs(model, data))
    assert kinds(deploy).count("Conv2D") == 1


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("channels", [4, 6])
@pytest.mark.parametrize("name", ["rep_conv", "mobile_one"])
def test_branches_of_plain_layers_become_one(name, channels, strides):
    inputs = keras.Input((9, 8, 4))
    own = {"branches": 2} if name == "mobile_one" else {}
    x = getattr(b, name)(inputs, channels, strides=strides, name="x", **own)
    model = randomized(keras.Model(inputs, x))
    deploy, report = kf.fuse(model, return_report=True)
    close(outputs(deploy, images()), outputs(model, images()))
    convs = [one for one in kinds(deploy) if "Conv" in one]
    assert len(convs) == (1 if name == "rep_conv" else 2)
    assert "Add" not in kinds(deploy)
    assert report.kept == ()


def test_a_residual_addition_stays():
    inputs = keras.Input((9, 8, 4))
    x = b.conv_norm_act(inputs, 4, activation=None)
    other = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    model = randomized(keras.Model(inputs, layers.Add()([inputs, x, other])))
    deploy = kf.fuse(model)
    close(outputs(deploy, images()), outputs(model, images()))
    assert "Add" in kinds(deploy)


def test_convolutions_off_centre_stay():
    """With strides "same" begins at another pixel than a 1x1 convolution."""
    inputs = keras.Input((9, 8, 4))
    sides = [
        layers.Conv2D(4, size, strides=2, padding="same")(inputs) for size in (1, 3)
    ]
    model = randomized(keras.Model(inputs, layers.Add()(sides)))
    deploy = kf.fuse(model)
    assert "Add" in kinds(deploy)
    close(outputs(deploy, images()), outputs(model, images()))


def test_a_whole_net_is_fused():
    model = randomized(b.nets.ds_cnn())
    deploy, report = kf.fuse(model, return_report=True)
    data = images(1, 49, 10, 1)
    close(outputs(deploy, data), outputs(model, data))
    assert len(report.changed) == 9
    assert "BatchNormalization" not in kinds(deploy)


def test_expand_reports_what_is_out_of_reach():
    block = b.LowRankDense(4, 2, name="hidden")
    model = model_of(layers.TimeDistributed(block, name="each"), shape=(5, 4))
    same, report = kf.expand(model, return_report=True)
    assert [str(row) for row in report.layers] == [
        "each/hidden: inside a layer that cannot be expanded"
    ]
    assert kinds(same) == ["TimeDistributed"]


def test_any_layer_that_offers_expand_is_expanded():
    class Twice(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

        def expand(self):
            block = b.ConvNormAct(4, name=f"{self.name}_block")
            return lambda inputs: block(inputs)

    model = model_of(Twice(name="twice"))
    plain, report = kf.expand(model, return_report=True)
    assert kinds(plain) == ["Conv2D", "BatchNormalization", "ReLU"]
    assert [row.name for row in report.changed] == ["twice", "twice_block"]


def test_grouped_convolutions_are_replaced():
    class Own(layers.Conv2D):
        pass

    model = model_of(
        layers.Conv2D(4, 3, groups=2, name="grouped"),
        layers.Conv2D(4, 1, name="plain"),
        b.GroupedConv2D(4, 1, groups=2, name="ours"),
        Own(4, 1, groups=2, name="own"),
    )
    fast, report = kf.replace_grouped_conv(model, return_report=True)
    assert kinds(fast) == ["GroupedConv2D", "Conv2D", "GroupedConv2D", "Own"]
    assert [str(row) for row in report.layers] == [
        "grouped: GroupedConv2D of 2 groups",
        "own: a Own, which may compute otherwise",
    ]
    close(outputs(fast, images()), outputs(model, images()))


def test_nested_paths_are_in_the_report():
    _, report = kf.fuse(nested(), return_report=True)
    names = {row.name: row.text for row in report.changed}
    assert names["inner/inner_block"] == "expanded"
    assert names["inner/inner_norm"] == "folded into 'inner_conv'"
    assert names["shared"] == "fused"
    assert np.all([row.changed for row in report.layers])
