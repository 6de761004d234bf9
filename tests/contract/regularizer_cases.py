"""The rows of `cases.py` for the room `regularizers`."""

import keras


def hidden():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, "relu", name="hidden"),
            keras.layers.Dense(1, name="head"),
        ]
    )


def table(bad, flags):
    """`BAD_ARGUMENTS` of this room."""
    model = {"model": hidden()}
    rate = {"rate": 0.5}
    factor = bad(-1e-3, text="a number >= 0")
    below_one = [*bad(-0.1, 1.0, text="a number in [0, 1)"), *bad(30, text="pass 0.3")]
    select = [
        *bad(3, text="a class of layers", error=TypeError, l2=0.1, **model),
        *bad("hiden", text="Did you mean 'hidden'", l2=0.1, **model),
    ]

    def with_(cases, **more):
        return [
            type(one)(one.value, one.text, one.error, {**one.others, **more})
            for one in cases
        ]

    seed = bad(-1, text="an integer >= 0")
    return {
        "regularize": {
            "model": [
                *bad(3, text="a keras.Model", error=TypeError, l2=0.1),
                *bad(keras.Sequential(), text="a built model", l2=0.1),
            ],
            "preset": [
                *bad("dropuot-medium", text="Did you mean 'dropout-medium'", **model),
                *bad(None, text="given, or one of l1, l2", **model),
                *bad("none", text="alone: it takes", l2=0.1, **model),
            ],
            "l1": with_(factor, **model),
            "l2": [
                *with_(factor, **model),
                *bad(0.1, text="which sets it to", preset="l2-light", **model),
            ],
            "dropout": with_(below_one, **model),
            "noise": with_(factor, **model),
            "max_norm": bad(0.0, text="a number > 0", **model),
            "augment": bad("images", text="one of 'digits'", **model),
            "layers": select,
            "exclude": select,
            "return_report": with_(flags("x")["x"], l2=0.1, **model),
        },
        "check": {
            "model": bad(3, text="a keras.Model", error=TypeError, data=None),
        },
        "augmentation": {
            "preset": bad("image-ligth", text="Did you mean 'image-light'"),
            "value_range": [
                *bad((1, 0), text="the second one larger", preset="digits"),
                *bad(3, text="two numbers", error=TypeError, preset="digits"),
            ],
            "seed": with_(seed, preset="digits"),
        },
        "exclude_norms_and_biases": {
            "optimizer": [
                *bad("adamw", text="a Keras optimizer", error=TypeError),
                *bad(keras.optimizers.Adam(), text="one with weight decay"),
            ]
        },
        "regularizers.get": {
            "name": [
                *bad("l2-ligth", text="Did you mean 'l2-light'"),
                *bad("dropout-light", text="it is no penalty on weights"),
            ]
        },
        "regularizers.AdjustableDropout": {
            "rate": below_one,
            "parts": bad("rows", text="one of 'elements'", **rate),
            "data_format": bad("NHWC", text="one of 'channels_last'", **rate),
            "seed": with_(seed, **rate),
        },
        "regularizers.AdjustableNoise": {
            "stddev": factor,
            "seed": with_(seed, stddev=0.1),
        },
        "regularizers.Preset": {
            **{
                name: with_(factor, name="mine")
                for name in ("l1", "l2", "orthogonal", "noise", "weight_decay")
            },
            **{
                name: with_(below_one, name="mine")
                for name in (
                    "dropout",
                    "spatial_dropout",
                    "stochastic_depth",
                    "label_smoothing",
                )
            },
            "max_norm": bad(0, text="a number > 0", name="mine"),
            "augment": bad("images", text="one of 'digits'", name="mine"),
        },
    }


UNRANGED = {
    "check": {
        "data": "what cannot be read is listed in the report",
        "validation_data": "what cannot be read is listed in the report",
    },
    "regularizers.AdjustableDropout": {"kwargs": "Keras checks them"},
    "regularizers.AdjustableNoise": {"kwargs": "Keras checks them"},
    "regularizers.Preset": {
        "name": "any text",
        "source": "any text",
        "conversion": "any text",
        "data": "any text",
    },
}
