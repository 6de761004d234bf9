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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("transform", [kf.expand, kf.fuse])
def test_blocks_that_are_called_with_training(transform, training):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = kf.blocks.RepConv(4, name="rep")(inputs, training=training)
    x = kf.blocks.ConvNormAct(5)(x)
    model = keras.Model(inputs, x)
    plain = transform(model)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype("float32")
    # training=True takes the statistics of the batch, in plain layers as well
    found, expected = (
        keras.ops.convert_to_numpy(one(x, training=False)) for one in (plain, model)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    fused = transform is kf.fuse and not training
    assert len(plain.get_layer("rep_conv").get_weights()) == 2 if fused else True


class Opening(keras.layers.Layer):
    """Expands to something that knows nothing of training."""

    def call(self, x, training=None):
        return x

    def expand(self):
        return lambda x: x


def test_an_expansion_that_takes_no_training_is_named():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Opening(name="own")(inputs, training=False))
    with pytest.raises(ValueError, match="calls 'own' without `training`"):
        kf.expand(model)


def test_new_names_keep_clear_of_those_that_are_there():
    inputs = keras.Input((8, 8, 3))
    x = kf.blocks.ConvNormAct(4, name="stem")(inputs)
    x = keras.layers.Conv2D(4, 1, name="stem_conv")(x)
    x = kf.blocks.RepConv(4, name="rep")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="rep_conv")(x))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    for transform in (kf.expand, kf.fuse):
        made = transform(model)
        names = [layer.name for layer in made.layers]
        assert len(set(names)) == len(names)
        assert {"stem_conv", "stem_conv_1"} <= set(names)
        np.testing.assert_allclose(
            *(keras.ops.convert_to_numpy(one(x)) for one in (made, model)),
            rtol=1e-4,
            atol=1e-5,
        )


BROADCAST = {
    "two convolutions": lambda x: [
        keras.layers.Conv2D(8, 3, padding="same")(x),
        keras.layers.Conv2D(1, 1)(x),
    ],
    "a norm": lambda x: [
        keras.layers.Conv2D(8, 3, padding="same")(x),
        keras.layers.BatchNormalization()(x),
    ],
}


@pytest.mark.parametrize("kind", BROADCAST)
def test_sums_that_are_broadcast_stay(kind):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Add()(BROADCAST[kind](inputs)))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    found, expected = (
        keras.ops.convert_to_numpy(one(x)) for one in (kf.fuse(model), model)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_subclass_of_a_norm_stays():
    class Twice(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((8, 8, 3))
    x = Twice(name="twice")(keras.layers.Conv2D(4, 3)(inputs))
    made, report = kf.fuse(keras.Model(inputs, x), return_report=True)
    assert "twice" in [layer.name for layer in made.layers]
    assert report.kept[0].text == "a Twice, which may compute otherwise"


def test_blocks_inside_wrappers_are_reported():
    inputs = keras.Input((2, 8, 8, 4))
    x = keras.layers.TimeDistributed(kf.blocks.RepConv(4, name="rep"), name="t")(inputs)
    slow = keras.layers.Conv2D(4, 3, groups=2, name="slow")
    x = keras.layers.TimeDistributed(slow, name="u")(x)
    model = keras.Model(inputs, x)
    for transform, path in ((kf.fuse, "t/rep"), (kf.expand, "t/rep")):
        _, report = transform(model, return_report=True)
        assert [one.name for one in report.kept] == [path]
    _, report = kf.replace_grouped_conv(model, return_report=True)
    assert [one.name for one in report.kept] == ["u/slow"]


class Named(keras.layers.Layer):
    """Its parts have the names of methods."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.expand = keras.layers.Dense(6)
        self.fuse = keras.layers.Dense(4)

    def build(self, shape):
        self.expand.build(shape)
        self.fuse.build((*shape[:-1], 6))

    def call(self, x):
        return self.fuse(self.expand(x))


@pytest.mark.parametrize("transform", [kf.expand, kf.fuse])
def test_sublayers_called_expand_are_no_offer(transform):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Named(name="own")(inputs))
    assert isinstance(transform(model).get_layer("own"), Named)


class _Doubled(kf.blocks.ConvNormAct):
    """A block that computes something else than its plan."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


def test_a_block_whose_call_is_overridden_stays():
    """What it inherits does not know of the change (second review, point 11)."""
    model = keras.Sequential([keras.Input((8, 8, 3)), _Doubled(4, name="mine")])
    data = images(2, 8, 8, 3)
    expected = outputs(model, data)
    assert type(kf.expand(model).layers[-1]) is _Doubled
    close(outputs(kf.fuse(model), data), expected, 1e-6)


def test_sums_with_lora_stay():
    """Its kernel is not one variable (second review, point 8)."""
    inputs = keras.Input((8, 8, 4))
    first = layers.Conv2D(4, 3, padding="same", name="first")
    x = layers.Add(name="add")([first(inputs), layers.Conv2D(4, 1)(inputs)])
    model = keras.Model(inputs, x)
    first.enable_lora(2)
    data = images(2, 8, 8, 4)
    expected = outputs(model, data)
    fused = kf.fuse(model)
    assert "add" in [one.name for one in fused.layers]
    close(outputs(fused, data), expected, 1e-6)


def test_inputs_keep_their_names():
    """Unnamed ones too: they are keys of dicts of data."""
    inputs = [keras.Input((4,)), keras.Input((4,), name="side")]
    model = keras.Model(inputs, layers.Add()(inputs))
    names = [one.name for one in model.layers[:2]]
    assert [one.name for one in kf.fuse(model).layers[:2]] == names
