"""What Checkpoint refuses, and what it says of it."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.checkpoint import archive, folder
from tests.checkpoint.models import (
    Stateless,
    X,
    Y,
    build,
    dataset,
    fit,
    train,
    variables,
)


def wider():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def wetter():
    model = build(fresh=True)
    model.get_layer("drop").rate = 0.5
    return model


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"model": lambda: build("adam")},
            r"optimizer's class was 'SGD', is 'Adam'; optimizer had",
        ),
        (
            {"model": lambda: build(keras.optimizers.SGD(0.05, momentum=0.8))},
            r"optimizer's momentum was 0.9, is 0.8",
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
        (
            {"data": kf.ReproducibleDataset(X + 1, Y, batch_size=20, seed=7)},
            "data's checksum of some rows was",
        ),
    ],
    ids=[
        "optimizer",
        "setting",
        "model",
        "callbacks",
        "policy",
        "layer",
        "data",
        "rows",
    ],
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
    model = build("sgd", fresh=True)
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


def test_data_that_is_not_what_fit_trains_on_is_refused(tmp_path):
    callbacks = kf.resumable(tmp_path, [], data=dataset())
    with pytest.raises(ValueError, match="the data set that is given to `fit`"):
        fit(*callbacks)


def test_a_folder_of_a_later_format_is_refused(tmp_path):
    train(tmp_path, list, epochs=1)
    path = folder.saved(tmp_path)[0]
    archive.write(path, {**archive.read(path), "version": 99})
    with pytest.raises(ValueError, match=r"version 1\. Received: .*99"):
        train(tmp_path, list, epochs=2)
