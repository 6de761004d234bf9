"""A fit that was interrupted ends as one that was not, to the bit."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.checkpoint.models import (
    Crash,
    Run,
    Stateless,
    X,
    Y,
    assert_same,
    build,
    interrupted,
    ours,
    train,
    variables,
)


def keras_own():
    return [
        keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.97),
    ]


@pytest.mark.parametrize("make", [ours, keras_own], ids=["ours", "keras"])
def test_the_same_as_without_interruption(tmp_path, make):
    whole = train(tmp_path / "whole", make, epochs=9)
    # 5 batches an epoch: in the first epoch, in the third, in the first of a resume.
    again = interrupted(tmp_path / "again", make, (3, 12, 2), epochs=9)
    assert_same(whole, again)


class Signed(keras.callbacks.Callback):
    """Somebody's own, with a state in the way of other frameworks."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, np.full(2, epoch)))

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = [(epoch, array) for epoch, array in state["seen"]]


def test_the_state_of_somebody_s_own_callback(tmp_path):
    callbacks = interrupted(tmp_path, lambda: [Signed()], (13,), epochs=4).callbacks
    assert [(epoch, array.tolist()) for epoch, array in callbacks[0].seen] == [
        (epoch, [epoch, epoch]) for epoch in range(4)
    ]


def test_a_csv_log_has_each_epoch_once(tmp_path):
    """Its rows of an epoch that runs again are cut off."""

    class After(Stateless):
        def on_epoch_end(self, epoch, logs=None):
            if After.armed and epoch == 2:  # the row is written, the file is not
                After.armed = False
                raise Crash

    def make(name):
        def callbacks():
            logs.append(keras.callbacks.CSVLogger(tmp_path / name, append=True))
            return [logs[-1], After()]

        return callbacks

    logs = []

    After.armed = False
    train(tmp_path / "whole", make("whole.csv"), epochs=5)
    After.armed = True
    again = interrupted(tmp_path / "again", make("again.csv"), (None, 2), epochs=5)
    for log in logs:
        log.csv_file.close()  # a process that dies does that too
    assert again.history.epoch == list(range(5))
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "whole.csv").read_text()


def generator():
    while True:
        yield X[:20], Y[:20]


@pytest.mark.parametrize(
    ("x", "more", "text"),
    [
        (X, {"y": Y}, "`fit` shuffles these arrays"),
        (generator, {"steps_per_epoch": 3}, "The data begins anew"),
    ],
    ids=["arrays", "generator"],
)
def test_other_data_is_resumed_with_an_honest_line(tmp_path, capsys, x, more, text):
    def run(epochs):
        data = x() if callable(x) else x
        callbacks = kf.resumable(tmp_path, [])
        return (
            build()
            .fit(data, epochs=epochs, verbose=0, callbacks=callbacks, **more)
            .epoch
        )

    assert run(2) == [0, 1]
    assert text not in capsys.readouterr().out
    assert run(3) == [0, 1, 2]
    assert text in capsys.readouterr().out


def test_arrays_that_are_not_shuffled_give_the_same(tmp_path):
    def run(name, epochs):
        model = build()
        callbacks = kf.resumable(tmp_path / name, [], verbose=0)
        history = model.fit(
            X, Y, shuffle=False, epochs=epochs, verbose=0, callbacks=callbacks
        )
        return Run(model, history, [], variables(model))

    whole, _ = run("whole", 4), run("again", 2)
    assert_same(whole, run("again", 4))


def test_the_global_random_states_go_on(tmp_path):
    import random

    class Draw(Stateless):
        def on_epoch_begin(self, epoch, logs=None):
            drawn.append(
                (
                    random.random(),
                    np.random.random(),
                    float(keras.ops.convert_to_numpy(keras.random.uniform(()))),
                )
            )

    drawn = []
    train(tmp_path / "whole", lambda: [Draw()], epochs=4)
    whole, drawn = drawn, []
    train(tmp_path / "again", lambda: [Draw()], epochs=2)
    train(tmp_path / "again", lambda: [Draw()], epochs=4)
    assert drawn == whole


@pytest.mark.tensorflow_only
def test_tf_data_is_resumed(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    whole = train(tmp_path / "whole", list, data=data, epochs=3)
    again = interrupted(tmp_path / "again", list, (12,), data=data, epochs=3)
    assert_same(whole, again)  # nothing in it is shuffled


def test_a_kill_in_the_first_epoch_begins_with_the_same_weights(tmp_path, capsys):
    with pytest.raises(Crash):
        train(tmp_path, list, crash=2)
    model = build()
    for variable in model.weights:
        variable.assign(variable * 0)
    train(tmp_path, list, model, epochs=1, verbose=1)
    assert "begins anew with the weights of the first" in capsys.readouterr().out
    found = variables(model)
    whole = train(tmp_path / "whole", list, epochs=1)
    for one, other in zip(whole.values, found, strict=True):
        np.testing.assert_array_equal(one, other)
