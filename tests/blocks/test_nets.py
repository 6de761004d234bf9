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
    np.testing.assert_allclose(array(ours(data)), array(theirs(data)), atol=1e-5)


def part_of(model, first, last):
    """The layers of a block of a Keras application as a model of their own."""
    start = model.get_layer(first).input
    return keras.Model(start, model.get_layer(last).output)


def compare(block, part):
    """One to one: the block of an application and ours, on the same weights."""
    ours = keras.Model(inputs := keras.Input(part.input_shape[1:]), block(inputs))
    randomized(part)
    ours.set_weights(part.get_weights())
    shape = (2, *part.input_shape[1:])
    data = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = array(part(data))
    error = np.abs(array(ours(data)) - expected).max()
    assert error <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.fixture(scope="module")
def mobilenet_v3():
    return keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=2)


@pytest.mark.parametrize(
    ("number", "last", "arguments"),
    [
        (1, "project_bn", {"filters": 24, "expansion": 72 / 16, "strides": 2}),
        (2, "add", {"filters": 24, "expansion": 88 / 24}),
        (3, "project_bn", {"filters": 40, "expansion": 4, "strides": 2}),
        (4, "add", {"filters": 40, "expansion": 6}),
        (8, "project_bn", {"filters": 96, "expansion": 6, "strides": 2}),
    ],
)
def test_blocks_of_mobilenet_v3(mobilenet_v3, number, last, arguments):
    late = {"se_ratio": 0.25, "kernel_size": 5} if number > 2 else {}
    early = {} if number > 2 else {"activation": "relu"}
    name = f"expanded_conv_{number}"
    part = part_of(mobilenet_v3, f"{name}_expand", f"{name}_{last}")
    settings = {**arguments, **late, **early, "variant": "v3"}
    compare(lambda x: kf.blocks.inverted_residual(x, **settings), part)


@pytest.mark.parametrize(
    ("number", "last", "arguments"),
    [
        (1, "project_bn", {"filters": 24, "expansion": 72 / 16, "strides": 2}),
        (4, "add", {"filters": 40, "expansion": 6}),
        (8, "project_bn", {"filters": 96, "expansion": 6, "strides": 2}),
    ],
)
def test_blocks_of_the_minimalistic_mobilenet_v3(number, last, arguments):
    net = keras.applications.MobileNetV3Small(
        (32, 32, 3), weights=None, classes=2, minimalistic=True
    )
    name = f"expanded_conv_{number}"
    part = part_of(net, f"{name}_expand", f"{name}_{last}")
    settings = {**arguments, "variant": "minimalistic"}
    compare(lambda x: kf.blocks.inverted_residual(x, **settings), part)


@pytest.fixture(scope="module")
def efficientnet():
    return keras.applications.EfficientNetB0(
        weights=None, input_shape=(32, 32, 3), classes=2
    )


@pytest.mark.parametrize(
    ("name", "first", "last", "arguments"),
    [
        ("block1a", "dwconv", "project_bn", {"filters": 16, "expansion": 1}),
        ("block2a", "expand_conv", "project_bn", {"filters": 24, "strides": 2}),
        ("block2b", "expand_conv", "add", {"filters": 24, "drop_rate": 0.1}),
        (
            "block3a",
            "expand_conv",
            "project_bn",
            {"filters": 40, "strides": 2, "kernel_size": 5},
        ),
    ],
)
def test_blocks_of_efficientnet_b0(efficientnet, name, first, last, arguments):
    part = part_of(efficientnet, f"{name}_{first}", f"{name}_{last}")
    settings = {"variant": "efficientnet", "se_ratio": 0.25, **arguments}
    compare(lambda x: kf.blocks.inverted_residual(x, **settings), part)


@pytest.fixture(scope="module")
def efficientnet_v2():
    return keras.applications.EfficientNetV2B0(
        weights=None, input_shape=(32, 32, 3), classes=2, include_preprocessing=False
    )


@pytest.mark.parametrize(
    ("name", "first", "last", "block", "arguments"),
    [
        (
            "block1a",
            "project_conv",
            "project_activation",
            kf.blocks.fused_mb_conv,
            {"filters": 16, "expansion": 1},
        ),
        (
            "block2a",
            "expand_conv",
            "project_bn",
            kf.blocks.fused_mb_conv,
            {"filters": 32, "strides": 2},
        ),
        ("block2b", "expand_conv", "add", kf.blocks.fused_mb_conv, {"filters": 32}),
        (
            "block4b",
            "expand_conv",
            "add",
            kf.blocks.inverted_residual,
            {
                "filters": 96,
                "variant": "efficientnet",
                "se_ratio": 0.25,
                "expansion": 4,
            },
        ),
    ],
)
def test_blocks_of_efficientnet_v2_b0(
    efficientnet_v2, name, first, last, block, arguments
):
    part = part_of(efficientnet_v2, f"{name}_{first}", f"{name}_{last}")
    compare(lambda x: block(x, **arguments), part)


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
