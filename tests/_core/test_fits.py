"""What is seen of the fit that is running, and that looking leaves nothing behind."""

from __future__ import annotations

import sys
import weakref

import keras
import numpy as np
import pytest

from keras_fitkit._core import fits
from tests._core.test_private import X, Y, array, make_model


class Look(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = {}

    def on_train_begin(self, logs=None):
        self.found["train_begin"] = fits.running_fit(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.found["epoch_end"] = fits.running_fit(self.model)


def look(*data, **arguments):
    model, callback = make_model(), Look()
    other = keras.callbacks.TerminateOnNaN()
    model.fit(*data, verbose=0, callbacks=[callback, other], **arguments)
    assert fits.running_fit(model) is None
    assert set(callback.found) == {"train_begin", "epoch_end"}
    for found in callback.found.values():
        kinds = [type(item) for item in found.callbacks]
        assert kinds == [Look, keras.callbacks.TerminateOnNaN, keras.callbacks.History]
        assert found.callbacks[0] is callback
    return callback.found["epoch_end"]


def test_running_fit_on_arrays():
    weight = np.ones(8)
    found = look(X, Y, sample_weight=weight, batch_size=4)
    assert found.x is X
    assert found.y is Y
    assert found.sample_weight is weight
    assert found.batch_size == 4
    assert found.validation_weighted is None


def test_running_fit_sees_the_data_after_the_validation_split():
    found = look(X, Y, validation_split=0.25, shuffle=False)
    np.testing.assert_array_equal(array(found.x), X[:6])
    np.testing.assert_array_equal(array(found.y), Y[:6])
    assert found.batch_size is None
    assert found.validation_weighted is False


@pytest.mark.parametrize(
    ("validation", "weighted"), [((X, Y), False), ((X, Y, np.ones(8)), True)]
)
def test_running_fit_sees_weighted_validation(validation, weighted):
    assert look(X, Y, validation_data=validation).validation_weighted is weighted


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[index * 4 : index * 4 + 4], Y[index * 4 : index * 4 + 4]


def test_running_fit_on_a_dataset():
    data = Batches()
    found = look(data, validation_data=Batches())
    assert found.x is data
    assert found.y is None
    assert found.validation_weighted is None


def test_running_fit_is_that_of_the_asked_model():
    inner, outer, seen = make_model(), make_model(), []

    class Nested(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            inner.fit(X[:4], Y[:4], verbose=0, callbacks=[Inner()])

    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for model in (inner, outer, make_model()):
                found = fits.running_fit(model)
                seen.append(None if found is None else len(found.x))

    outer.fit(X, Y, verbose=0, callbacks=[Nested()])
    assert seen == [4, 8, None]


def loop(body, name="keras.made_up"):
    """A function `fit` of a module of this name."""
    text = "def fit(x, callbacks, looks):\n"
    text += "".join(f"    {line}\n" for line in body)
    scope = {"__name__": name, "Thing": Thing, "weakref": weakref}
    exec(compile(text, name, "exec"), scope)
    return scope["fit"]


class Thing:
    pass


LOOKS = (
    lambda x: fits.running_epoch(x),
    lambda x: fits.running_callbacks(),
    lambda x: fits.running_fit(None),
)


@pytest.mark.parametrize("looks", LOOKS)
def test_looking_keeps_nothing_alive(looks):
    fit = loop(
        [
            "held = Thing()",
            "seen = weakref.ref(held)",
            "looks(x)",
            "assert held is seen()",
            "del held",
            "return seen()",
        ]
    )
    assert fit(X, None, looks) is None


@pytest.mark.parametrize("looks", LOOKS)
def test_a_function_of_the_user_keeps_its_dict(looks):
    body = ["found = locals()", "looks(x)", "return found"]
    found = loop(body, "mine")(X, 2, looks)
    assert found["x"] is X
    assert found["callbacks"] == 2


@pytest.mark.parametrize("looks", LOOKS)
def test_a_fit_that_has_deleted_its_arguments(looks):
    loop(["given = x", "del x, callbacks", "looks(given)"])(X, 2, looks)


@pytest.mark.parametrize("looks", LOOKS)
def test_a_debugger_that_looks_leaves_the_variables(looks):
    fit = loop(["held = 'held'", "looks(x)", "return held, x, callbacks"])
    found = []

    def trace(frame, event, argument):
        if frame.f_code.co_name == "fit":
            found.append(looks(X))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert fit(X, 2, looks)[::2] == ("held", 2)
    finally:
        sys.settrace(before)
    assert len(found) > 3


class Epochs(Batches):
    """What the data are told by the fit."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self):
        self.seen.append(fits.running_epoch(self))


def test_running_epoch_is_that_of_the_fit_on_these_data():
    data, model = Epochs(), make_model()
    model.fit(data, epochs=5, initial_epoch=3, shuffle=False, verbose=0)
    epochs = [one.epoch for one in data.seen if one.began]
    assert epochs == [3, 4]
    assert not data.seen[-1].shuffle
    data.seen = []
    model.evaluate(data, verbose=0)
    assert set(data.seen) == {None}
    assert fits.running_epoch(data) is None
