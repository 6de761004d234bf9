"""Golden structures: what each block consists of, in the order of the papers."""

import keras
import pytest

import keras_fitkit as kf

b = kf.blocks


def lines(layer, channels=16):
    """One line a call: name, kind, what matters, and the values it takes."""
    plan = layer.plan(channels)
    found = []
    for number, call in enumerate(plan.calls, start=1):
        part = plan.parts[call.part]
        taken = " ".join(str(value) for value in call.inputs)
        text = f"{number}: {part.name} {detail(part)} <- {taken}"
        found.append(" ".join(text.split()))
    return found


def detail(part):
    given, kind = part.arguments, part.kind.__name__
    if kind in ("Conv2D", "DepthwiseConv2D", "GroupedConv2D"):
        strides = given.get("strides", 1)
        size = given["kernel_size"]
        return f"{kind} {given.get('filters', '')} k{size} s{strides}"
    return {"BatchNormalization": "BN"}.get(kind, kind)


def test_inverted_residual_v2():
    assert lines(b.InvertedResidual(16)) == [
        "1: expand_conv Conv2D 96 k1 s1 <- 0",
        "2: expand_norm BN <- 1",
        "3: expand_act ReLU <- 2",
        "4: depthwise_conv DepthwiseConv2D k3 s1 <- 3",
        "5: depthwise_norm BN <- 4",
        "6: depthwise_act ReLU <- 5",
        "7: project_conv Conv2D 16 k1 s1 <- 6",
        "8: project_norm BN <- 7",
        "9: add Add <- 0 8",
    ]


def test_inverted_residual_v3():
    assert lines(
        b.InvertedResidual(
            24, kernel_size=5, strides=2, expansion=3, se_ratio=0.25, variant="v3"
        )
    ) == [
        "1: expand_conv Conv2D 48 k1 s1 <- 0",
        "2: expand_norm BN <- 1",
        "3: expand_act Activation <- 2",
        "4: depthwise_conv DepthwiseConv2D k5 s2 <- 3",
        "5: depthwise_norm BN <- 4",
        "6: depthwise_act Activation <- 5",
        "7: se_pool GlobalAveragePooling2D <- 6",
        "8: se_reduce_conv Conv2D 16 k1 s1 <- 7",
        "9: se_reduce_act ReLU <- 8",
        "10: se_expand_conv Conv2D 48 k1 s1 <- 9",
        "11: se_gate Activation <- 10",
        "12: se_multiply Multiply <- 6 11",
        "13: project_conv Conv2D 24 k1 s1 <- 12",
        "14: project_norm BN <- 13",
    ]


def test_separable_block():
    assert lines(b.SeparableBlock(24, strides=2)) == [
        "1: depthwise_conv DepthwiseConv2D k3 s2 <- 0",
        "2: depthwise_norm BN <- 1",
        "3: depthwise_act ReLU <- 2",
        "4: pointwise_conv Conv2D 24 k1 s1 <- 3",
        "5: pointwise_norm BN <- 4",
        "6: pointwise_act ReLU <- 5",
    ]


def test_extra_depthwise_bottleneck_strides_in_the_middle():
    block = b.UniversalInvertedBottleneck(24, start_kernel_size=3, strides=2)
    assert lines(block) == [
        "1: start_conv DepthwiseConv2D k3 s1 <- 0",
        "2: start_norm BN <- 1",
        "3: expand_conv Conv2D 64 k1 s1 <- 2",
        "4: expand_norm BN <- 3",
        "5: expand_act ReLU <- 4",
        "6: depthwise_conv DepthwiseConv2D k3 s2 <- 5",
        "7: depthwise_norm BN <- 6",
        "8: depthwise_act ReLU <- 7",
        "9: project_conv Conv2D 24 k1 s1 <- 8",
        "10: project_norm BN <- 9",
    ]


def test_convnext_like_bottleneck_strides_at_the_start():
    block = b.UniversalInvertedBottleneck(
        16, start_kernel_size=5, kernel_size=None, strides=2
    )
    assert lines(block)[0] == "1: start_conv DepthwiseConv2D k5 s2 <- 0"
    assert "add Add" not in " ".join(lines(block))


def test_feed_forward_bottleneck_has_no_depthwise_convolution():
    block = b.UniversalInvertedBottleneck(16, kernel_size=None)
    text = " ".join(lines(block))
    assert "Depthwise" not in text
    assert text.endswith("add Add <- 0 5")


def test_fused_mbconv_of_expansion_one_is_a_single_convolution():
    assert lines(b.FusedMBConv(16, expansion=1, drop_rate=0.1)) == [
        "1: project_conv Conv2D 16 k3 s1 <- 0",
        "2: project_norm BN <- 1",
        "3: project_act Activation <- 2",
        "4: drop StochasticDepth <- 3",
        "5: add Add <- 0 4",
    ]


def test_shuffle_unit():
    assert lines(b.ShuffleUnit(16)) == [
        "1: kept ChannelSlice <- 0",
        "2: worked ChannelSlice <- 0",
        "3: first_conv Conv2D 8 k1 s1 <- 2",
        "4: first_norm BN <- 3",
        "5: first_act ReLU <- 4",
        "6: depthwise_conv DepthwiseConv2D k3 s1 <- 5",
        "7: depthwise_norm BN <- 6",
        "8: last_conv Conv2D 8 k1 s1 <- 7",
        "9: last_norm BN <- 8",
        "10: last_act ReLU <- 9",
        "11: join Concatenate <- 1 10",
        "12: shuffle ChannelShuffle <- 11",
    ]


def test_strided_shuffle_unit_has_two_branches_from_the_input():
    found = lines(b.ShuffleUnit(24, strides=2))
    assert found[0] == "1: short_depthwise_conv DepthwiseConv2D k3 s2 <- 0"
    assert found[5] == "6: first_conv Conv2D 12 k1 s1 <- 0"
    assert found[-2:] == [
        "14: join Concatenate <- 5 13",
        "15: shuffle ChannelShuffle <- 14",
    ]


def test_fire():
    assert lines(b.Fire(32)) == [
        "1: squeeze_conv Conv2D 4 k1 s1 <- 0",
        "2: squeeze_act ReLU <- 1",
        "3: expand1x1_conv Conv2D 16 k1 s1 <- 2",
        "4: expand1x1_act ReLU <- 3",
        "5: expand3x3_conv Conv2D 16 k3 s1 <- 2",
        "6: expand3x3_act ReLU <- 5",
        "7: join Concatenate <- 4 6",
    ]


def test_ghost_module_cuts_what_is_too_much():
    assert lines(b.GhostModule(15)) == [
        "1: primary_conv Conv2D 8 k1 s1 <- 0",
        "2: primary_norm BN <- 1",
        "3: primary_act ReLU <- 2",
        "4: cheap_conv DepthwiseConv2D k3 s1 <- 3",
        "5: cheap_norm BN <- 4",
        "6: cheap_act ReLU <- 5",
        "7: join Concatenate <- 3 6",
        "8: cut ChannelSlice <- 7",
    ]


def test_ghost_bottleneck_second_module_has_no_activation():
    text = "\n".join(lines(b.GhostBottleneck(16)))
    assert "ghost1_primary_act" in text
    assert "ghost2_primary_act" not in text
    assert text.endswith("add Add <- 0 12")


def test_rep_conv_identity_only_where_the_shape_stays():
    assert lines(b.RepConv(16)) == [
        "1: conv3x3_conv Conv2D 16 k3 s1 <- 0",
        "2: conv3x3_norm BN <- 1",
        "3: conv1x1_conv Conv2D 16 k1 s1 <- 0",
        "4: conv1x1_norm BN <- 3",
        "5: identity_norm BN <- 0",
        "6: add Add <- 2 4 5",
        "7: act ReLU <- 6",
    ]
    assert "identity_norm" not in " ".join(lines(b.RepConv(24)))
    assert "pad ZeroPadding2D" in lines(b.RepConv(16, strides=2))[0]


def test_mobile_one():
    assert lines(b.MobileOne(24, branches=1)) == [
        "1: depthwise0_conv DepthwiseConv2D k3 s1 <- 0",
        "2: depthwise0_norm BN <- 1",
        "3: depthwise1x1_conv DepthwiseConv2D k1 s1 <- 0",
        "4: depthwise1x1_norm BN <- 3",
        "5: depthwise_identity_norm BN <- 0",
        "6: depthwise_add Add <- 2 4 5",
        "7: depthwise_act ReLU <- 6",
        "8: pointwise0_conv Conv2D 24 k1 s1 <- 7",
        "9: pointwise0_norm BN <- 8",
        "10: pointwise_act ReLU <- 9",
    ]


def test_shared_stack_has_one_convolution_and_a_norm_for_each_step():
    assert lines(b.SharedStack(b.ConvNormAct(16), 2)) == [
        "1: conv Conv2D 16 k(3, 3) s(1, 1) <- 0",
        "2: norm_0 BN <- 1",
        "3: act ReLU <- 2",
        "4: conv Conv2D 16 k(3, 3) s(1, 1) <- 3",
        "5: norm_1 BN <- 4",
        "6: act ReLU <- 5",
    ]


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("relu", "ReLU"), ("relu6", "ReLU"), ("hard_swish", "Activation"), (None, None)],
)
def test_activation_is_the_layer_that_tools_know(activation, kind):
    layer = b.ConvNormAct(4, activation=activation)
    layer.build((None, 4, 4, 3))
    kinds = [type(one).__name__ for one in layer.layers[2:]]
    assert kinds == ([kind] if kind else [])
    if activation == "relu6":
        assert layer.layers[2].max_value == 6.0


def test_settings_reach_every_part():
    layer = b.InvertedResidual(
        8,
        norm_momentum=0.9,
        norm_epsilon=1e-5,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(1e-4),
        use_bias=True,
    )
    layer.build((None, 4, 4, 8))
    inner = {one.name: one for one in layer.layers}
    for name in ("expand", "depthwise", "project"):
        norm, conv = inner[f"{name}_norm"], inner[f"{name}_conv"]
        assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)
        depthwise = name == "depthwise"
        kind = conv.depthwise_initializer if depthwise else conv.kernel_initializer
        assert isinstance(kind, keras.initializers.HeNormal)
        weight = conv.depthwise_regularizer if depthwise else conv.kernel_regularizer
        assert float(weight.l2) == pytest.approx(1e-4)
        assert conv.use_bias
    assert len(layer.losses) == 3


def test_an_initializer_object_gives_each_kernel_its_own_values():
    given = keras.initializers.GlorotUniform()
    layer = b.MobileOne(8, branches=2, kernel_initializer=given)
    layer.build((None, 4, 4, 8))
    inner = {one.name: one for one in layer.layers}
    one, other = (inner[f"pointwise{n}_conv"].get_weights()[0] for n in (0, 1))
    assert (one != other).any()


def test_a_large_depthwise_kernel_warns_once():
    with pytest.warns(UserWarning, match=r"above 5 x 5 are slow in LiteRT") as caught:
        b.SeparableBlock(8, kernel_size=7)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"Layer 'g': `groups` must be a divisor of"):
        b.ConvNormAct(8, groups=4, name="g").build((None, 4, 4, 6))
    with pytest.raises(
        ValueError, match=r"Layer 's': `filters` must be the 6 channels"
    ):
        b.ShuffleUnit(8, name="s").build((None, 4, 4, 6))
