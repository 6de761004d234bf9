"""The states of other callbacks, and the callbacks that cannot be resumed."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.checkpoint import peers
from tests.checkpoint.models import X, Y, build


def fitted(callback, epochs=3):
    build().fit(
        X, Y, validation_split=0.3, epochs=epochs, verbose=0, callbacks=[callback]
    )
    return callback


KNOWN = {
    "EarlyStopping": lambda path: keras.callbacks.EarlyStopping(
        patience=9, restore_best_weights=True
    ),
    "ReduceLROnPlateau": lambda path: keras.callbacks.ReduceLROnPlateau(patience=1),
    "ModelCheckpoint": lambda path: keras.callbacks.ModelCheckpoint(
        path / "m.weights.h5", save_weights_only=True, save_best_only=True
    ),
    "TerminateOnNaN": lambda path: keras.callbacks.TerminateOnNaN(),
    "LearningRateScheduler": lambda path: keras.callbacks.LearningRateScheduler(
        lambda epoch: 0.01
    ),
}
REMEMBERED = {
    "EarlyStopping": {"wait", "stopped_epoch", "best", "best_epoch", "best_weights"},
    "ReduceLROnPlateau": {"wait", "best", "cooldown_counter"},
    "ModelCheckpoint": {"best", "_batches_seen_since_last_saving", "_last_batch_seen"},
    "TerminateOnNaN": set(),
    "LearningRateScheduler": set(),
}

# At the first epoch end of each process (`min_delta` gets the sign of the mode), by
# Keras at the start of a fit, or by the user.
SET_ANEW = (
    *("params", "_model", "monitor_op", "min_delta", "_current_epoch", "schedule"),
)


@pytest.mark.parametrize("name", KNOWN)
def test_what_keras_s_callbacks_remember_is_known(name, tmp_path):
    """Whatever else changes in a fit is said here, so that an upgrade shows."""
    fresh, used = KNOWN[name](tmp_path), fitted(KNOWN[name](tmp_path))
    state = peers.peer(used).get()
    assert set(state) == REMEMBERED[name]
    fresh.set_model(build())
    fresh.on_train_begin()
    changed = {
        attribute
        for attribute, value in vars(used).items()
        if attribute not in SET_ANEW
        and not np.array_equal(value, vars(fresh).get(attribute))
    }
    assert changed <= set(state)
    peers.peer(fresh).put(state)
    for attribute in state:
        np.testing.assert_equal(getattr(fresh, attribute), getattr(used, attribute))


class Counts(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0


class Bare(keras.callbacks.Callback):
    pass


class Subclass(keras.callbacks.EarlyStopping):
    pass


class OfOurs(kf.EarlyStopping):
    """Its own attributes would be forgotten: it inherits what ours remembers."""


class Complete(kf.EarlyStopping):
    def get_state(self):
        return super().get_state()


def test_a_subclass_of_ours_that_says_what_it_remembers_is_taken(tmp_path):
    kf.resumable(tmp_path, [Complete()])


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        (Counts(), "Nothing is known of what Counts must remember"),
        (Bare(), "Nothing is known of what Bare must remember"),
        (OfOurs(), "Nothing is known of what OfOurs must remember"),
        (Subclass(), "Nothing is known of what Subclass must remember"),
        (keras.callbacks.LambdaCallback(), r"Give its class `get_state\(\)`"),
        (keras.callbacks.BackupAndRestore("x"), "Both would resume the fit"),
        (keras.callbacks.CSVLogger("log.csv"), "a CSVLogger with append=True"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_resumed_is_refused_by_name(callback, text, tmp_path):
    with pytest.raises(ValueError, match=f"`callbacks` must be.*{text}"):
        kf.resumable(tmp_path, [callback])


def test_a_state_that_cannot_be_stored_is_refused_before_the_first_step(tmp_path):
    class Odd(Counts):
        def get_state(self):
            return {"model": self.model}

        def set_state(self, state):
            pass

    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"plain values and arrays.*\[Odd\].*model"):
        model.fit(X, Y, verbose=0, callbacks=kf.resumable(tmp_path, [Odd()]))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_log_that_lost_rows_is_said(tmp_path):
    path = tmp_path / "log.csv"
    log = keras.callbacks.CSVLogger(path, append=True)
    path.write_text("epoch,loss\n0,1\n1,2\n")
    peer = peers.peer(log)
    state = peer.get()
    path.write_text("epoch,loss\n")
    with pytest.warns(UserWarning, match="rows of earlier epochs are missing"):
        peer.put(state)


def test_lists_in_lists_and_no_callbacks(tmp_path):
    one, two = kf.EarlyStopping(), keras.callbacks.TerminateOnNaN()
    found = kf.resumable(tmp_path, [one, [two]])
    assert found[:2] == [one, two]
    assert kf.resumable(tmp_path, None)[0].callbacks == []
