"""The rows of `cases.py` for the room `evidence`."""

import keras
import numpy as np


def build():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


X, Y = np.ones((40, 3)), np.arange(40.0) + 0.5
NAN = np.full((40, 3), np.nan)


def table(bad, flags):
    """`BAD_ARGUMENTS` of this room."""
    both = {"build_fn": build, "x": X, "y": Y, "epochs": 1}
    tried = {"build_fn": build, "data": (X, Y), "minutes": 1}
    asked = {"model": build(), "members": (X, Y), "non_members": (X, Y)}

    def but(name, values, **given):
        """The other arguments, right."""
        return {key: value for key, value in {**values, **given}.items() if key != name}

    def common(name, *cases):
        return [case for made in cases for case in made(name)]

    def ints(text, *values, given=both):
        return lambda name: bad(*values, text=text, **but(name, given))

    def kind(text, *values, given=both):
        return lambda name: bad(*values, text=text, error=TypeError, **but(name, given))

    open_unit = ints("a number in (0, 1)", 0, 1, 2)
    shared = {
        "build_fn": common(
            "build_fn",
            kind("a callable () -> a new, compiled model", 3, lambda units: None),
            ints("gave the same model", (lambda one: lambda: one)(build())),
        ),
        "x": common("x", kind("arrays", 3, None), ints("finite numbers", NAN)),
        "y": common("y", kind("arrays", None), ints("of the length of `x`", Y[:3])),
        "stratify": common(
            "stratify", ints("'auto', True or False", "yes"), ints("no classes", True)
        ),
        "epochs": common("epochs", ints("an integer >= 1", 0)),
        "batch_size": common("batch_size", ints("an integer >= 1", 0)),
        "verbose": common("verbose", ints("an integer in [0, 1]", 2)),
    }
    pair = kind("a pair (x, y) of arrays", 3)
    return {
        "cross_validate": {
            **shared,
            "folds": common(
                "folds", ints("an integer >= 2", 1), ints("at most 40", 41)
            ),
            "groups": common("groups", ints("one value for each", np.ones(3))),
            "seed": common("seed", ints("an integer >= 0", -1)),
            "callbacks": common("callbacks", kind("a callable () -> list", [])),
        },
        "learning_curve": {
            **shared,
            "fractions": common(
                "fractions",
                ints("two or more increasing", (1.0,), (1.0, 0.5)),
                ints("a number in (0, 1]", (0.5, 2.0)),
                kind("two or more increasing", "half"),
            ),
            "seeds": common("seeds", ints("different integers", (1, 1), ())),
            "validation_data": common("validation_data", pair),
            "validation_split": common("validation_split", open_unit),
            "at": common("at", ints("one of 'best', 'last'", "first")),
            "capacity": common("capacity", ints("a number > 1", 1.0)),
            "least": common("least", open_unit),
        },
        "try_remedies": {
            "build_fn": [
                *bad(3, text="a callable", error=TypeError, **but("build_fn", tried))
            ],
            "data": [
                *bad(X, text="a pair (x, y)", error=TypeError, **but("data", tried)),
                *bad((NAN, Y), text="finite numbers", **but("data", tried)),
            ],
            "minutes": bad(0, text="a number > 0", **but("minutes", tried)),
            "remedies": [
                *bad("dropout", text="Pass a list: ['dropout']", **tried),
                *bad(["dropuot"], text="Did you mean 'dropout'", **tried),
                *bad(3, text="'auto', a list of names", error=TypeError, **tried),
            ],
            "seeds": bad(1, text="an integer >= 2", **tried),
            "validation_data": bad(3, text="a pair", error=TypeError, **tried),
            "validation_split": bad(0, 1, text="a number in (0, 1)", **tried),
            "test_data": bad(3, text="a pair", error=TypeError, **tried),
            "epochs": bad(4, text="an integer >= 5", **tried),
            "batch_size": bad(0, text="an integer >= 1", **tried),
            "path": bad(__file__, text="a folder, not a file", **tried),
            "verbose": bad(2, text="an integer in [0, 1]", **tried),
        },
        "membership_auc": {
            "model": [
                *bad(3, text="a keras.Model", error=TypeError, **but("model", asked)),
                *bad(
                    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
                    text="compiled",
                    **but("model", asked),
                ),
            ],
            "members": bad(3, text="a pair", error=TypeError, **but("members", asked)),
            "non_members": bad(
                (X[:1], Y[:1]), text="2 rows or more", **but("non_members", asked)
            ),
            "limit": bad(1, text="an integer >= 2", **asked),
        },
    }
