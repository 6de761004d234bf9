"""What the reports refuse, for the contract tests."""

import dataclasses

import keras
import numpy as np

from keras_fitkit.report import EnergyModel


def net(*sizes):
    return keras.Sequential([keras.Input(sizes), keras.layers.Dense(2)])


def table(bad, flags):
    """Rows for BAD_ARGUMENTS."""
    model, x, y = net(4), np.ones((3, 4)), np.zeros(3, int)
    one, two = {"model": model}, {"models": {"a": model, "b": net(4)}}
    shared = {
        "data": [
            *bad(x, (x, y, y), text="a pair (x, y) of arrays", error=TypeError),
            *bad((x, y[:2]), text="of the same length"),
            *bad((np.ones((3, 5)), y), text="inputs of the shapes"),
            *bad((x, y), text="come with a compiled model"),
        ],
        "latency": flags("latency")["latency"],
        "example": bad(np.ones((1, 5)), text="inputs of the shapes"),
        "energy": bad(3, text="a keras_fitkit.report.EnergyModel", error=TypeError),
    }
    kinds = [
        *bad(5, text="a keras.Model", error=TypeError),
        *bad(keras.Sequential([keras.layers.Dense(2)]), text="a built model"),
        *bad("no.tflite", text="a LiteRT file (.tflite) that is there"),
        *bad("model.keras", text="keras.saving.load_model"),
    ]
    return {
        "compression_report": {
            "model": kinds,
            "baseline": with_others(kinds, one),
            **{name: with_others(cases, one) for name, cases in shared.items()},
        },
        "compare": {
            "models": [
                *bad([model], text="a dict of two or more", error=TypeError),
                *bad({3: model}, text="models by name", error=TypeError),
                *bad({"a": model}, text="a dict of two or more"),
                *bad({"a": model, "b": 5}, text="a keras.Model", error=TypeError),
            ],
            **{name: with_others(cases, two) for name, cases in shared.items()},
        },
        "report.EnergyModel": {
            field.name: bad(-1, float("nan"), text="a number >= 0")
            for field in dataclasses.fields(EnergyModel)
        },
    }


def with_others(cases, others):
    return [dataclasses.replace(one, others={**others, **one.others}) for one in cases]
