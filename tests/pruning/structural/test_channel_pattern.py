"""PruneSchedule(pattern="channel"): what it zeroes can be taken out exactly."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from tests.pruning.structural.masking import difference

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(48, 8, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 4, 48)


def residual():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    x = first = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="b")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="sigmoid", name="d")(x)
    x = layers.Add()([first, layers.Conv2D(8, 1, name="c")(x)])
    x = layers.Dense(10, "tanh", name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


def pruned(sparsity=0.5, epochs=3, **given):
    model = residual()
    prune = kf.PruneSchedule(sparsity, pattern="channel", **given)
    history = model.fit(
        IMAGES, LABELS, batch_size=16, epochs=epochs, verbose=0, callbacks=[prune]
    )
    return model, prune, history.history


def sizes(model):
    _, report = kf.shrink(model, return_report=True)
    return {row.path: row.after for row in report.layers}


def test_channels_that_a_product_sums_over_are_left_alone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4))
    q, k, v = (layers.Dense(8, name=name)(inputs) for name in "qkv")
    x = layers.Flatten()(layers.Attention()([q, v, k]))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(16, 5, 4)), RNG.normal(size=(16, 2))
    prune = kf.PruneSchedule(0.5, pattern="channel")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[prune])
    small = kf.shrink(model)
    assert [small.get_layer(name).units for name in "qkv"] == [8, 8, 4]
    assert difference(model, small, x.astype("float32")) < 1e-5


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_what_is_zero_can_be_taken_out(allocation):
    model, prune, logs = pruned(allocation=allocation)
    small, report = kf.shrink(model, return_report=True)
    assert difference(model, small, IMAGES) < 1e-5
    gone = sum(row.before - row.after for row in report.layers) - (
        8 - sizes(model)["c"]
    )
    assert gone == round(0.5 * (8 + 12 + 10))  # a and c are the same channels
    assert logs["sparsity"][-1] == pytest.approx(0.5)
    assert logs["sparsity_target"][-1] == pytest.approx(0.5)
    assert prune.sparsity_ == pytest.approx(0.5)


def test_uniform_takes_the_same_share_of_each_group():
    model, _, _ = pruned()
    assert sizes(model) == {"a": 4, "c": 4, "b": 6, "hidden": 5, "head": 4}


def test_shares_of_a_dict():
    model, _, _ = pruned(0.25, allocation={"b": 0.75})
    assert sizes(model) == {"a": 6, "c": 6, "b": 3, "hidden": 7, "head": 4}


def test_layers_and_exclude_mean_the_makers():
    model, _, _ = pruned(exclude=["hidden", "b"])
    assert sizes(model) == {"a": 4, "c": 4, "b": 12, "hidden": 10, "head": 4}
    model, _, _ = pruned(layers=["b"])
    assert sizes(model) == {"a": 8, "c": 8, "b": 6, "hidden": 10, "head": 4}


def test_the_lowest_go_first_and_stay_away():
    model = residual()
    kernels = [
        keras.ops.convert_to_numpy(model.get_layer(name).kernel.value)
        for name in ("hidden", "head")
    ]
    flat = np.abs(kernels[0]).sum(0) + np.abs(kernels[1]).sum(1)
    prune = kf.PruneSchedule(kf.OneShotSparsity(0.5, step=1), pattern="channel")
    model.fit(IMAGES, LABELS, batch_size=16, verbose=0, callbacks=[prune])
    head = keras.ops.convert_to_numpy(model.get_layer("head").kernel.value)
    gone = np.flatnonzero((head == 0).all(1))
    assert gone.tolist() == sorted(np.argsort(flat)[:5].tolist())


def test_held_channels_stay_away():
    model, _, _ = pruned()
    before = sizes(model)
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[kf.PruneSchedule.hold()])
    assert sizes(model) == before


def test_scores_of_gradients():
    model, _, _ = pruned(scores="taylor", data=(IMAGES, LABELS), epochs=2)
    assert sizes(model)["hidden"] == 5


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"allocation": "erk"}, "'uniform', 'global' or a dict with pattern='channel'"),
        ({"regrow": "rigl", "data": (IMAGES, LABELS)}, "'unstructured' with `regrow`"),
        ({"compat": "tfmot"}, "'unstructured' or 'N:M' with `compat`"),
    ],
)
def test_what_does_not_go_with_channels(given, text):
    with pytest.raises(ValueError, match=text):
        kf.PruneSchedule(0.5, pattern="channel", **given)


def fit(model):
    model.compile("sgd", "mse")
    x = np.ones((4, *model.input_shape[1:]))
    y = np.ones((4, *model.output_shape[1:]))
    model.fit(x, y, verbose=0, callbacks=[kf.PruneSchedule(0.5, pattern="channel")])


def test_models_that_have_no_channels_to_give():
    with pytest.raises(ValueError, match="a model with channels that may go"):
        fit(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(kf.blocks.ConvNormAct(4)(inputs))
    with pytest.raises(ValueError, match="without composite layers"):
        fit(keras.Model(inputs, layers.Dense(2)(x)))


class Killed(keras.callbacks.Callback):
    """Ends the process, so to speak, after an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def test_a_killed_fit_goes_on(tmp_path):
    def run(folder, epoch):
        model = residual()
        callbacks = [kf.PruneSchedule(0.5, pattern="channel"), Killed(epoch)]
        data = kf.ReproducibleDataset(IMAGES, LABELS, batch_size=16, seed=0)
        wrapped = kf.resumable(tmp_path / folder, callbacks, data=data)
        model.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=wrapped)
        return [keras.ops.convert_to_numpy(one.value) for one in model.weights]

    whole = run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("killed", 2)
    for one, other in zip(whole, run("killed", None), strict=True):
        np.testing.assert_array_equal(one, other)
