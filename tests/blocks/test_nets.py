"""The reference nets: published numbers of parameters, and keras.applications."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.blocks.cases import array, randomized

nets = kf.blocks.nets


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


# published: MLPerf Tiny (all parameters), torchvision (trainable ones)
@pytest.mark.parametrize(
    ("build", "total", "learnt"),
    [
        (nets.ds_cnn, 24_908, None),
        (nets.resnet8, 78_666, None),
        (nets.mobilenet_v2, 3_538_984, 3_504_872),
        (nets.shufflenet_v2, None, 2_278_604),
        (lambda: nets.shufflenet_v2(alpha=0.5), None, 1_366_792),
        (lambda: nets.shufflenet_v2(alpha=1.5), None, 3_503_624),
        (lambda: nets.shufflenet_v2(alpha=2.0), None, 7_393_996),
    ],
)
def test_published_number_of_parameters(build, total, learnt):
    model = build()
    if total is not None:
        assert model.count_params() == total
    if learnt is not None:
        assert trainable(model) == learnt


def test_repvgg_a0_has_the_published_millions_before_and_after():
    model = nets.repvgg_a0()
    assert round(trainable(model) / 1e6, 2) == 9.11
    blocks = [one for one in model.layers if isinstance(one, kf.blocks.RepConv)]
    assert len(blocks) == 1 + 2 + 4 + 14 + 1
    head = 1280 * 1000 + 1000
    fused = head + sum(
        9 * one.layers[1].kernel.shape[2] * one.filters + one.filters
        if one.strides > 1
        else 9 * one.layers[0].kernel.shape[2] * one.filters + one.filters
        for one in blocks
    )
    assert round(fused / 1e6, 2) == 8.31


def test_nets_are_plain_layers_all_through():
    plain = {"keras", "keras_fitkit"}
    for build in (nets.ds_cnn, nets.resnet8, nets.mobilenet_v2):
        kinds = {type(one).__module__.partition(".")[0] for one in build().layers}
        assert kinds <= plain
        assert not any(hasattr(one, "expand") for one in build().layers)


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 32), (1.0, 33)])
def test_mobilenet_v2_predicts_as_that_of_keras(alpha, size):
    theirs = keras.applications.MobileNetV2(
        (size, size, 3), alpha=alpha, weights=None, classes=7
    )
    ours = nets.mobilenet_v2((None, None, 3), 7, alpha=alpha)
    randomized(theirs)
    ours.set_weights(theirs.get_weights())
    data = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    pair = [keras.Model(one.input, [one.output]) for one in (ours, theirs)]
    found, expected = (np.asarray(given_out(one, data)) for one in pair)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def compare(net, first, names, blocks):
    """Every block of an application and ours behind each other, on the same weights.

    Args:
        net: the application.
        first: the layer with which its first block begins.
        names: of the layers with which its blocks end.
        blocks: ours, functions of a tensor.
    """
    ends = [net.get_layer(one).output for one in names]
    theirs = randomized(keras.Model(net.get_layer(first).input, ends))
    x = inputs = keras.Input(theirs.input_shape[1:])
    ends = []
    for block in blocks:
        x = block(x)
        ends.append(x)
    assert len(ends) == len(names)
    ours = keras.Model(inputs, ends)
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    shape = (2, *theirs.input_shape[1:])
    data = np.random.default_rng(0).normal(size=shape).astype("float32")
    triples = zip(names, given_out(ours, data), given_out(theirs, data), strict=True)
    for name, found, expected in triples:
        error = np.abs(found - expected).max()
        assert error <= 1e-5 * max(1.0, np.abs(expected).max()), name


def given_out(model, data):
    """The quick way: JAX compiles each operation that is not in one function."""
    if keras.backend.backend() == "jax":
        return model.predict(data, verbose=0)
    return [array(one) for one in model(data, training=False)]


def named(builder, **arguments):
    return lambda x: builder(x, **arguments)


def v3(late, squeezed, *rows, **own):
    """Rows of expansion, filters, kernel, strides; from `late` on hard-swish."""
    blocks = []
    for number, (expansion, filters, kernel, strides) in enumerate(rows):
        given = {"expansion": expansion, "filters": filters, "strides": strides}
        if own.get("variant") != "minimalistic":
            given["kernel_size"] = kernel
            given["se_ratio"] = 0.25 if number in squeezed else 0.0
            given["activation"] = "relu" if number < late else None
        given = {"variant": "v3", "norm_momentum": 0.999, **given, **own}
        blocks.append(named(kf.blocks.inverted_residual, **given))
    return blocks


# tables 1 and 2 of MobileNetV3
SMALL = [(1, 16, 3, 2), (72 / 16, 24, 3, 2), (88 / 24, 24, 3, 1), (4, 40, 5, 2)]
SMALL += [(6, 40, 5, 1)] * 2 + [(3, 48, 5, 1)] * 2 + [(6, 96, 5, 2)]
SMALL += [(6, 96, 5, 1)] * 2
LARGE = [(1, 16, 3, 1), (4, 24, 3, 2), (3, 24, 3, 1), (3, 40, 5, 2)]
LARGE += [(3, 40, 5, 1)] * 2 + [(6, 80, 3, 2), (2.5, 80, 3, 1)]
LARGE += [(2.3, 80, 3, 1)] * 2 + [(6, 112, 3, 1)] * 2
LARGE += [(6, 160, 5, 2)] + [(6, 160, 5, 1)] * 2


@pytest.mark.parametrize(
    ("size", "blocks", "minimalistic"),
    [
        ("Small", v3(3, {0, *range(3, 11)}, *SMALL), False),
        ("Large", v3(6, {3, 4, 5, *range(10, 15)}, *LARGE), False),
        ("Small", v3(0, (), *SMALL, variant="minimalistic"), True),
    ],
    ids=["small", "large", "minimalistic"],
)
def test_every_block_of_mobilenet_v3(size, blocks, minimalistic):
    application = getattr(keras.applications, f"MobileNetV3{size}")
    net = application((32, 32, 3), weights=None, classes=2, minimalistic=minimalistic)
    known = {one.name for one in net.layers}
    names = ["expanded_conv"]
    names += [f"expanded_conv_{number}" for number in range(1, len(blocks))]
    ends = [
        f"{one}_add" if f"{one}_add" in known else f"{one}_project_bn" for one in names
    ]
    # The first block has no expansion, and its first layer depends on the strides.
    first = "expanded_conv_depthwise"
    first = f"{first}_pad" if f"{first}_pad" in known else first
    compare(net, first, ends, blocks)


def stages(*rows):
    """Blocks from rows of builder, repeats, strides and arguments; and their names."""
    blocks, names = [], []
    for stage, (builder, repeats, strides, own) in enumerate(rows, start=1):
        for repeat in range(repeats):
            given = {"strides": strides if repeat == 0 else 1, **own}
            blocks.append(named(builder, **given))
            names.append(f"block{stage}{'abcdefgh'[repeat]}")
    return blocks, names


def mb(filters, **own):
    return {"filters": filters, "variant": "efficientnet", "se_ratio": 0.25, **own}


INVERTED, FUSED = kf.blocks.inverted_residual, kf.blocks.fused_mb_conv
B0 = stages(  # table 1 of EfficientNet
    (INVERTED, 1, 1, mb(16, expansion=1)),
    (INVERTED, 2, 2, mb(24, drop_rate=0.1)),
    (INVERTED, 2, 2, mb(40, kernel_size=5)),
    (INVERTED, 3, 2, mb(80)),
    (INVERTED, 3, 1, mb(112, kernel_size=5)),
    (INVERTED, 4, 2, mb(192, kernel_size=5)),
    (INVERTED, 1, 1, mb(320)),
)
V2_B0 = stages(
    (FUSED, 1, 1, {"filters": 16, "expansion": 1}),
    (FUSED, 2, 2, {"filters": 32, "drop_rate": 0.1}),
    (FUSED, 2, 2, {"filters": 48}),
    (INVERTED, 3, 2, mb(96, expansion=4)),
    (INVERTED, 5, 1, mb(112)),
    (INVERTED, 8, 2, mb(192)),
)


@pytest.mark.parametrize(
    ("application", "first", "stages"),
    [
        ("EfficientNetB0", "block1a_dwconv", B0),
        ("EfficientNetV2B0", "block1a_project_conv", V2_B0),
    ],
)
def test_every_block_of_efficientnet(application, first, stages):
    blocks, names = stages
    net = getattr(keras.applications, application)(
        weights=None, input_shape=(32, 32, 3), classes=2
    )
    known = {one.name for one in net.layers}
    ends = []
    for name in names:
        kinds = ("add", "project_activation", "project_bn")
        ends.append(next(f"{name}_{k}" for k in kinds if f"{name}_{k}" in known))
    compare(net, first, ends, blocks)


def test_nets_take_other_shapes_and_classes():
    model = nets.ds_cnn((None, None, 2), classes=3, classifier_activation=None)
    assert model(np.zeros((1, 20, 6, 2), "float32")).shape == (1, 3)
    last = model.layers[-1]
    assert last.activation is keras.activations.linear


def test_head_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = nets.resnet8()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block_1_add").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
