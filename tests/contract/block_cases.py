"""The rows of `BAD_ARGUMENTS` for the blocks: a layer and its builder share one."""

import dataclasses

import keras
import numpy as np

import keras_fitkit as kf

POSITIVE = "an integer >= 1"


def rows(bad):
    """The tables of arguments, made of `bad`."""

    def count(*names):
        return {name: bad(0, -1, text=POSITIVE) for name in names}

    def pairs(*names):
        return {
            name: [
                *bad(0, (1, 0), text="an integer >= 1, or two of them"),
                *bad((1, 2, 3), text="an integer >= 1, or two of them"),
                *bad("3", text="or two of them", error=TypeError),
            ]
            for name in names
        }

    act = {
        "activation": [
            *bad("rellu", text="Did you mean 'relu"),
            *bad(3, text="a name in keras.activations", error=TypeError),
        ]
    }
    expansion = {"expansion": bad(0, -1, text="a number > 0")}
    ratio = {"se_ratio": bad(-0.1, 1.1, text="a number in [0, 1]")}
    drop = {"drop_rate": bad(1.0, -0.1, text="a number in [0, 1)")}
    bias = {"use_bias": bad(1, text="must be True or False", error=TypeError)}
    layout = {"data_format": bad("channel_last", text="Did you mean 'channels_last'")}
    kernels = {
        "kernel_initializer": [
            *bad("glorot", text="a name in keras.initializers"),
            *bad(None, text="a name in keras.initializers", error=TypeError),
        ],
        "kernel_regularizer": bad("l3", text="None, a name in keras.regularizers"),
    }
    half = bad(7, text="even")
    wide = {"filters": 8}
    thin = {"filters": 8, "kernel_size": 3}

    composite = {
        "ConvNormAct": (
            {
                **count("filters", "groups"),
                **pairs("kernel_size", "strides"),
                "dilation_rate": [
                    *bad(0, text=POSITIVE),
                    *bad(2, text="1 with strides=2", strides=2),
                ],
                **act,
            },
            wide,
        ),
        "EfficientChannelAttention": (
            {"kernel_size": [*bad(0, text=POSITIVE), *bad(4, text="odd")]},
            {},
        ),
        "Fire": (
            {
                "filters": half,
                "squeeze_ratio": bad(0, 1.1, text="a number in (0, 1]"),
                **act,
                **bias,
            },
            wide,
        ),
        "FusedMBConv": (
            {
                **count("filters", "kernel_size", "strides"),
                **expansion,
                **ratio,
                **act,
                **drop,
            },
            wide,
        ),
        "GhostBottleneck": (
            {
                **count("filters", "kernel_size", "strides"),
                **expansion,
                **ratio,
                **act,
            },
            wide,
        ),
        "GhostModule": (
            {
                **count("filters", "kernel_size", "strides", "cheap_kernel_size"),
                "ratio": bad(1, text="an integer >= 2"),
                **act,
            },
            wide,
        ),
        "InvertedResidual": (
            {
                **count("filters", "strides"),
                "kernel_size": [
                    *bad(0, text=POSITIVE),
                    *bad(5, text="3 with variant", variant="minimalistic"),
                ],
                **expansion,
                "se_ratio": [
                    *bad(1.1, text="a number in [0, 1]"),
                    *bad(0.25, text="0 with variant", variant="minimalistic"),
                ],
                **act,
                "variant": bad("v1", text="one of 'v2', 'v3', 'minimalistic'"),
                **drop,
            },
            wide,
        ),
        "LowRankConv2D": (
            {
                **count("filters"),
                **pairs("kernel_size", "strides"),
                "rank": bad(0, 9, text="an integer in [1, 8]"),
                "scheme": bad("spacial", text="Did you mean 'spatial'"),
                "padding": bad("smae", text="Did you mean 'same'"),
                **act,
                **bias,
            },
            {**thin, "rank": 2},
        ),
        "LowRankDense": (
            {
                **count("units"),
                "rank": bad(0, 9, text="an integer in [1, 8]"),
                **act,
                **bias,
                **kernels,
            },
            {"units": 8, "rank": 2},
        ),
        "MobileOne": (
            {
                **count("filters", "strides", "branches"),
                "kernel_size": bad(1, 4, text="an odd integer >= 3"),
                **act,
            },
            wide,
        ),
        "RepConv": ({**count("filters", "strides"), **act}, wide),
        "SeparableBlock": (
            {**count("filters", "kernel_size", "strides"), **act},
            wide,
        ),
        "SharedStack": (
            {
                "block": bad(3, text="a Keras layer", error=TypeError),
                "repeats": bad(0, text=POSITIVE),
                "normalization": bad("bacth", text="Did you mean 'batch'"),
            },
            {"block": keras.layers.Dense(4), "repeats": 2},
        ),
        "ShuffleUnit": (
            {"filters": half, **count("kernel_size", "strides"), **act},
            wide,
        ),
        "SqueezeExcite": (
            {
                "ratio": bad(0, 1.1, text="a number in (0, 1]"),
                **count("filters", "divisor"),
                **act,
                "gate": bad("sigmod", text="Did you mean"),
                **bias,
            },
            {},
        ),
        "UniversalInvertedBottleneck": (
            {
                **count("filters", "start_kernel_size", "kernel_size"),
                "strides": [
                    *bad(0, text=POSITIVE),
                    *bad(2, text="1 without a depthwise", kernel_size=None),
                ],
                **expansion,
                **act,
                **drop,
            },
            wide,
        ),
    }
    single = {
        "ChannelShuffle": ({**count("groups"), **layout}, {"groups": 2}),
        "ChannelSlice": (
            {
                "start": bad(-1, text="an integer >= 0"),
                "stop": bad(0, text=POSITIVE),
                **layout,
            },
            {"start": 0, "stop": 2},
        ),
        "GroupedConv2D": (
            {
                **count("filters"),
                **pairs("kernel_size"),
                "groups": [*bad(0, text=POSITIVE), *bad(3, text="a divisor of filt")],
            },
            thin,
        ),
        "GroupedDense": (
            {
                **count("units"),
                "groups": [*bad(0, text=POSITIVE), *bad(3, text="a divisor of units")],
                **act,
                **bias,
                **kernels,
            },
            {"units": 8, "groups": 2},
        ),
        "PolynomialFeatures": (
            {
                **count("degree"),
                "interaction_only": bad(1, text="True or False", error=TypeError),
                "include_bias": bad(1, text="True or False", error=TypeError),
            },
            {},
        ),
        "StochasticDepth": (
            {
                "rate": bad(1.0, -0.1, text="a number in [0, 1)"),
                "seed": bad(-1, text="an integer >= 0"),
            },
            {"rate": 0.5},
        ),
    }
    size = {
        "input_shape": bad(3, (8, 8), (0, 8, 3), text="three integers >= 1"),
        "classes": bad(0, text=POSITIVE),
        "classifier_activation": bad("softmx", text="Did you mean 'softmax'"),
    }
    small = {"input_shape": (32, 32, 3), "classes": 2}
    nets = {
        name: ({**size, **own}, small)
        for name, own in {
            "ds_cnn": {},
            "mobilenet_v2": {"alpha": bad(0, text="a number > 0")},
            "repvgg_a0": {},
            "resnet8": {},
            "shufflenet_v2": {"alpha": bad(0.7, text="one of (0.5, 1.0, 1.5, 2.0)")},
        }.items()
    }
    found = _transforms(bad)
    for name, (table, others) in {**composite, **single}.items():
        found[f"blocks.{name}"] = _with(table, others)
    for name, (table, others) in composite.items():
        channels = {"inputs": keras.Input((8, 8, 4))}
        inputs = bad(3, text="a KerasTensor", error=TypeError)
        found[f"blocks.{_builder(name)}"] = _with(
            {"inputs": inputs, **table}, {**others, **channels}
        )
    for name, (table, others) in nets.items():
        found[f"blocks.nets.{name}"] = _with(table, others)
    return found


def _transforms(bad):
    """The rows of the functions on models."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
    own = {
        "model": [
            *bad(3, text="a keras.Model", error=TypeError),
            *bad(keras.Sequential([keras.layers.Dense(2)]), text="a built model"),
        ],
        "return_report": bad(1, text="must be True or False", error=TypeError),
    }
    asked = {"model": model, "rank": 2}
    found = {
        name: _with(own, {"model": model})
        for name in ("fuse", "expand", "replace_grouped_conv")
    }
    select = [
        *bad(3, text="a pattern of a path", error=TypeError),
        *bad("nothing", text="patterns that match"),
    ]
    table = {
        **own,
        "rank": [
            *bad(0, text=POSITIVE),
            *bad(2, text="one of the three", explained_variance=0.5),
        ],
        "explained_variance": bad(0, 1.1, text="a number in (0, 1]", rank=None),
        "target_macs": [
            *bad(1.0, 0, text="a number in (0, 1)", rank=None),
            *bad(0.01, text="at least 0.25", rank=None),
        ],
        "data": [
            *bad(3, text="arrays with rows", error=TypeError),
            *bad(np.ones((0, 8)), text="not empty"),
        ],
        "layers": select,
        "exclude": select,
    }
    return {**found, "factorize": _with(table, asked)}


def _with(table, others):
    return {
        name: [
            dataclasses.replace(one, others={**others, **one.others}) for one in cases
        ]
        for name, cases in table.items()
    }


def _builder(name):
    kind = getattr(kf.blocks, name)
    for one in kf.blocks.__all__:
        value = getattr(kf.blocks, one)
        if one.islower() and one.replace("_", "") == kind.__name__.lower():
            return value.__name__
    raise LookupError(name)


KEYWORDS = {"kwargs": "tests/blocks/test_arguments.py has those of all blocks"}


def unranged(table):
    """`kwargs` of everything that takes them."""
    return {
        name: KEYWORDS
        for name in table
        if name.startswith("blocks.") and ".nets." not in name
    }
