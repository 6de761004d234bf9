"""What several test files share."""

import contextlib
import functools
import re
import warnings

import keras
import numpy as np

to_numpy = keras.ops.convert_to_numpy


@contextlib.contextmanager
def warns_once(category, match):
    """Expects exactly one warning of `category` whose text matches `match`.

    Unlike `pytest.warns` it does not issue the other warnings again: those that Keras
    raises on the way would fail the test, their module no longer being known.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    texts = [str(item.message) for item in caught if item.category is category]
    found = [text for text in texts if re.search(match, text)]
    assert len(found) == 1, f"{match!r} matches {len(found)} of {texts}"


def traced_once(make):
    """Lets the tests of a file share the models that `make` gives: one of each kind.

    Tracing the steps takes most of the time of a short fit. For models of one output.
    Weights, optimizer, random states and seeds are put back to what they were when the
    model was made, so two of a kind cannot be in use at the same time. `fresh=True`
    makes a new one: for a callback that changes the steps, or a fit that raises and
    leaves Keras's iterators behind.
    """
    kept = {}

    @functools.wraps(make)
    def build(*args, fresh=False, **named):
        key = args, tuple(sorted(named.items()))
        if fresh or any(not _plain(value) for value in (*args, *named.values())):
            model = make(*args, **named)
            keras.utils.set_random_seed(3)
            return model
        if key not in kept:
            model = make(*args, **named)
            _build_whole(model)
            variables = [*model.variables, *model.optimizer.variables]
            # on torch the arrays would be the variables' own memory
            kept[key] = model, [(v, np.array(to_numpy(v))) for v in variables]
        model, state = kept[key]
        for variable, value in state:
            variable.assign(value)
        if hasattr(model, "history"):
            del model.history
        keras.utils.set_random_seed(3)
        return model

    return build


def _build_whole(model):
    """What the first fit would build, drawing a batch for it: losses and metrics."""
    model.optimizer.build(model.trainable_variables)
    some = keras.ops.zeros((2, *model.outputs[0].shape[1:]))
    sparse = "sparse" in getattr(model.loss, "name", "")
    wanted = keras.ops.zeros(some.shape[:-1], "int32") if sparse else some
    model.compute_loss(x=None, y=wanted, y_pred=some)
    model.compute_metrics(None, wanted, some)
    model.reset_metrics()


def _plain(value):
    """Whether two that are equal make the same model; an optimizer is used up."""
    kinds = str, int, float, tuple, type(None)
    return isinstance(value, kinds)
