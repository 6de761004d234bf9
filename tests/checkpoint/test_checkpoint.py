"""A fit that was interrupted ends as one that was not, to the bit."""

import errno
import shutil

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.checkpoint import archive, folder
from tests.checkpoint.models import (
    Crash,
    Stateless,
    X,
    Y,
    assert_same,
    build,
    dataset,
    train,
    variables,
)
from tests.tools import warns_once

NOT_TORCH = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on torch runs single steps"
)


def ours():
    return [
        kf.OverfitMonitor(verbose=0),
        kf.EarlyStopping(patience=3, restore_best_weights=True),
        kf.PruneSchedule(0.6),
    ]


def keras_own():
    return [
        keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.97),
    ]


def interrupted(tmp_path, make, crashes, **arguments):
    """The result of runs that crash in these batches and of one that does not."""
    model = arguments.pop("model", build)
    for crash in crashes:
        with pytest.raises(Crash):
            train(tmp_path, make, model(), crash=crash, **arguments)
    return train(tmp_path, make, model(), **arguments)


@pytest.mark.parametrize("make", [ours, keras_own], ids=["ours", "keras"])
def test_the_same_as_without_interruption(tmp_path, make):
    whole = train(tmp_path / "whole", make, epochs=9)
    # 5 batches an epoch: in the first epoch, in the third, in the first of a resume.
    again = interrupted(tmp_path / "again", make, (3, 12, 2), epochs=9)
    assert_same(whole, again)


OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.Adam(gradient_accumulation_steps=3),
    "average": lambda: keras.optimizers.Adam(use_ema=True),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(), initial_scale=2.0**14, dynamic_growth_steps=3
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer(tmp_path, name):
    def model():
        policy = "mixed_float16" if name == "loss scale" else None
        return build(OPTIMIZERS[name](), policy)

    whole = train(tmp_path / "whole", list, model(), epochs=3)
    again = interrupted(tmp_path / "again", list, (8,), model=model, epochs=3)
    assert_same(whole, again)


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_that_are_swapped_in(tmp_path, swap_on_epoch):
    def make():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)]

    def model():
        return build(keras.optimizers.Adam(0.01, use_ema=True))

    whole = train(tmp_path / "whole", make, model(), epochs=4)
    again = interrupted(tmp_path / "again", make, (13,), model=model, epochs=4)
    assert_same(whole, again)


COMPILED = {
    "eagerly": {"run_eagerly": True},
    "several steps": {"steps_per_execution": 2},
}


@NOT_TORCH
@pytest.mark.parametrize("name", COMPILED)
def test_however_it_is_compiled(tmp_path, name):
    def model():
        return build(**COMPILED[name])

    whole = train(tmp_path / "whole", ours, model(), epochs=3)
    again = interrupted(tmp_path / "again", ours, (4,), model=model, epochs=3)
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
    *_, callbacks = interrupted(tmp_path, lambda: [Signed()], (13,), epochs=4)
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
    assert again[1].epoch == list(range(5))
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_a_fit_that_was_stopped_is_not_trained_on(tmp_path, capsys):
    def make():
        return [kf.EarlyStopping("loss", patience=0, min_delta=1e9)]

    first = train(tmp_path, make, epochs=9)
    assert len(first[1].epoch) == 2
    again = train(tmp_path, make, epochs=9, verbose=1)
    assert_same(first, again)
    assert "was stopped after 2 epochs; nothing is trained" in capsys.readouterr().out
    assert folder.saved(tmp_path)[0].name == "epoch-000002.npz"


def test_a_fit_that_has_ended_is_not_trained_on_and_more_epochs_are(tmp_path):
    whole = train(tmp_path / "whole", list, epochs=5)
    first = train(tmp_path / "again", list, epochs=3)
    assert_same(first, train(tmp_path / "again", list, epochs=3))
    assert_same(whole, train(tmp_path / "again", list, epochs=5))


def test_nothing_stays_on_the_model(tmp_path):
    model = interrupted(tmp_path, list, (8,), epochs=4)[0]
    assert len(model.fit(X, Y, epochs=2, verbose=0).epoch) == 2
    model = build()
    train(tmp_path, list, model, epochs=4)  # finished: trains nothing
    assert len(model.fit(X, Y, epochs=2, verbose=0).epoch) == 2
    model = build()
    with pytest.raises(Crash):
        train(tmp_path, list, model, epochs=6, crash=2)  # a resume that fails too
    assert len(model.fit(X, Y, epochs=3, verbose=0).epoch) == 3


def test_files_every_so_many_epochs_and_at_the_end(tmp_path):
    def names():
        return [path.name for path in folder.saved(tmp_path)]

    train(tmp_path, list, epochs=5, every=2, keep=9)
    assert names() == [f"epoch-{n:06d}.npz" for n in (5, 4, 2, 0)]
    train(tmp_path, list, epochs=7, every=2, keep=1)
    assert names() == ["epoch-000007.npz"]


def damage(path):
    path.write_bytes(path.read_bytes()[:-300])


def test_a_damaged_file_gives_way_to_the_one_before(tmp_path):
    whole = train(tmp_path / "whole", ours, epochs=5)
    with pytest.raises(Crash):
        train(tmp_path / "again", ours, epochs=5, crash=17)
    damage(folder.saved(tmp_path / "again")[0])
    with warns_once(UserWarning, "goes back to epoch-000002.npz.*is damaged"):
        again = train(tmp_path / "again", ours, epochs=5)
    assert_same(whole, again)


def test_when_all_are_damaged_it_is_an_error(tmp_path):
    train(tmp_path, list, epochs=2)
    for path in folder.saved(tmp_path):
        damage(path)
    with pytest.raises(ValueError, match=r"at least one whole file.*Delete its files"):
        train(tmp_path, list, epochs=3)


def test_what_a_killed_writer_left_is_swept(tmp_path):
    train(tmp_path, list, epochs=1)
    (tmp_path / ".epoch-000002.npz.77.tmp").write_bytes(b"half")
    train(tmp_path, list, epochs=2)
    assert not list(tmp_path.glob(".epoch*"))


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", ours, epochs=4)
    real = archive.write

    def full(path, content):
        if "000003" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(archive, "write", full)
        with pytest.raises(OSError, match=r"after epoch 3.*No space left.*make room"):
            train(tmp_path / "again", ours, epochs=4)
    assert_same(whole, train(tmp_path / "again", ours, epochs=4))


def wider():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def wetter():
    model = build()
    model.get_layer("drop").rate = 0.5
    return model


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"model": lambda: build("sgd")},
            r"optimizer's class was 'Adam', is 'SGD'; optimizer had",
        ),
        (
            {"model": lambda: build(keras.optimizers.Adam(beta_1=0.8))},
            r"optimizer's beta_1 was 0.9, is 0.8",
        ),
        ({"model": wider}, r"layer 0 \(Dense\)'s units was 12, is 2"),
        (
            {"make": lambda: [kf.EarlyStopping()]},
            r"are \[keras_fitkit.EarlyStopping, tests.CrashAt\]",
        ),
        (
            {"model": lambda: build(policy="mixed_float16")},
            r"\(Dense\)'s dtype was 'float32', is 'mixed_float16'",
        ),
        ({"model": wetter}, r"\(Dropout\)'s rate was 0.3, is 0.5"),
        (
            {"data": kf.ReproducibleDataset(X, Y, batch_size=20, seed=8)},
            "data's seed was 7, is 8",
        ),
    ],
    ids=["optimizer", "setting", "model", "callbacks", "policy", "layer", "data"],
)
def test_another_run_is_refused_and_says_what_changed(tmp_path, changed, text):
    train(tmp_path, list, epochs=1)
    arguments = {"make": list, "epochs": 2, **changed}
    model = arguments.pop("model", build)()
    before = variables(model)
    with pytest.raises(ValueError, match=f"a folder of the same run.*{text}"):
        train(tmp_path, model=model, **arguments)
    for one, other in zip(before, variables(model), strict=False):
        np.testing.assert_array_equal(one, other)


def fit(*callbacks, model=None, **arguments):
    return (model or build()).fit(
        X, Y, epochs=2, verbose=0, callbacks=list(callbacks), **arguments
    )


def test_it_must_be_last_and_know_the_others(tmp_path):
    stop = kf.EarlyStopping("loss")
    for callbacks in (
        [kf.Checkpoint(tmp_path, [stop]), stop],
        [stop, kf.Checkpoint(tmp_path)],
        [kf.Checkpoint(tmp_path, [stop])],
        [*kf.resumable(tmp_path, [stop]), kf.EarlyStopping("loss")],
    ):
        with pytest.raises(
            ValueError, match=r"`callbacks` of `fit` must be.*resumable"
        ):
            fit(*callbacks)
    assert fit(*kf.resumable(tmp_path, [[stop], keras.callbacks.History()])).epoch == [
        0,
        1,
    ]


def test_a_model_that_is_not_built_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    checkpoint = kf.Checkpoint(tmp_path)
    checkpoint.set_model(model)
    checkpoint.set_params({"epochs": 1})
    with pytest.raises(ValueError, match="`model` must be"):
        checkpoint.on_train_begin()


def test_a_fit_within_a_fit_may_not_use_its_folder(tmp_path):
    class Nested(Stateless):
        def on_epoch_begin(self, epoch, logs=None):
            fit(kf.Checkpoint(tmp_path))

    with pytest.raises(ValueError, match=r"in use by another fit of this process"):
        fit(*kf.resumable(tmp_path, [Nested()]))
    fit(*kf.resumable(tmp_path / "other", []))


def test_a_second_optimizer_of_a_model_is_saved_too(tmp_path):
    model = build("sgd")
    model.extra = [keras.optimizers.Adam(0.01)]
    with pytest.raises(ValueError, match=r"whose optimizers are built.*extra"):
        fit(kf.Checkpoint(tmp_path), model=model)
    model.extra[0].build(model.trainable_variables)
    fit(kf.Checkpoint(tmp_path), model=model)
    content = archive.read(folder.saved(tmp_path)[0])
    assert set(content["variables"]) == {"model", "optimizer", "optimizer extra"}


def test_an_edited_learning_rate_is_said_and_the_reached_one_stays(
    tmp_path,
):
    def model(rate):
        return build(keras.optimizers.SGD(rate))

    def make():
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)]

    train(tmp_path, make, model(0.1), epochs=2)
    again = train(tmp_path, make, model(0.1), epochs=3)[0]
    assert float(keras.ops.convert_to_numpy(again.optimizer.learning_rate)) == (
        pytest.approx(0.0125)
    )
    with pytest.raises(ValueError, match=r"learning_rate was 0.1\d*, is 0.2"):
        train(tmp_path, make, model(0.2), epochs=4)


def test_the_folder_is_that_of_the_start_of_the_fit(tmp_path, monkeypatch):
    class Leave(Stateless):
        def on_epoch_end(self, epoch, logs=None):
            monkeypatch.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    train("run", lambda: [Leave()], epochs=3)
    assert len(folder.saved(tmp_path / "run")) == 2
    assert not (tmp_path / "elsewhere" / "run").exists()


def test_a_kill_in_the_first_epoch_begins_with_the_same_weights(tmp_path, capsys):
    with pytest.raises(Crash):
        train(tmp_path, list, crash=2)
    model = build()
    for variable in model.weights:
        variable.assign(variable * 0)
    train(tmp_path, list, model, epochs=1, verbose=1)
    assert "begins anew with the weights of the first" in capsys.readouterr().out
    whole = train(tmp_path / "whole", list, epochs=1)
    for one, other in zip(whole[0].get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_data_that_is_not_what_fit_trains_on_is_refused(tmp_path):
    callbacks = kf.resumable(tmp_path, [], data=dataset())
    with pytest.raises(ValueError, match="the data set that is given to `fit`"):
        fit(*callbacks)


def generator():
    while True:
        yield X[:20], Y[:20]


@pytest.mark.parametrize(
    ("x", "more", "text"),
    [
        (X, {"y": Y}, "If `fit` shuffles these arrays"),
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
        return model, history, []

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


def test_it_says_where_it_goes_on_and_when_it_saves(tmp_path, capsys):
    train(tmp_path, list, epochs=1, verbose=1)
    assert "Checkpoint" not in capsys.readouterr().out
    train(tmp_path, list, epochs=2, verbose=2)
    printed = capsys.readouterr().out
    assert "Checkpoint: goes on after epoch 1" in printed
    assert "Checkpoint: saved after epoch 2." in printed
    train(tmp_path, list, epochs=3, verbose=0)
    assert "Checkpoint" not in capsys.readouterr().out


def test_hooks_without_logs(tmp_path):
    model = build()
    checkpoint = kf.Checkpoint(tmp_path)
    checkpoint.set_model(model)
    checkpoint.set_params({"epochs": 1, "steps": 1})
    checkpoint.on_train_begin()
    checkpoint.on_epoch_begin(0)
    checkpoint.on_epoch_end(0)
    checkpoint.on_train_end()
    assert len(folder.saved(tmp_path)) == 2


def test_a_folder_of_a_later_format_is_refused(tmp_path):
    train(tmp_path, list, epochs=1)
    path = folder.saved(tmp_path)[0]
    archive.write(path, {**archive.read(path), "version": 99})
    with pytest.raises(ValueError, match=r"version 1\. Received: .*99"):
        train(tmp_path, list, epochs=2)


def test_it_can_be_moved(tmp_path):
    train(tmp_path / "a", list, epochs=1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert train(tmp_path / "b", list, epochs=2)[1].epoch == [0, 1]


@pytest.mark.tensorflow_only
def test_tf_data_is_resumed(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    whole = train(tmp_path / "whole", list, data=data, epochs=3)
    again = interrupted(tmp_path / "again", list, (12,), data=data, epochs=3)
    assert_same(whole, again)  # nothing in it is shuffled
