"""What PruneSchedule does to a fit, and what it refuses."""

import itertools

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.pruning.attachment import links_of
from tests.pruning.models import FLAT, Watch, X, Y, array, conv_net, fit, mlp
from tests.tools import warns_once

# Keras's own, for a data set of unknown length, in every first epoch.
RUNS_OUT = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")


def test_a_fraction_is_reached_at_three_quarters_of_the_fit():
    watch = Watch()
    fit(mlp(), kf.PruneSchedule(0.5), watch, epochs=4)  # 24 steps
    expected = [1 - (1 - min(1, step / 18)) ** 3 for step in range(1, 25)]
    # 110 weights in two layers, each rounded.
    np.testing.assert_allclose(watch.sparsity, 0.5 * np.array(expected), atol=1 / 110)
    assert watch.sparsity[17] == watch.sparsity[-1] == 0.5
    assert watch.sparsity[12] < 0.5


def test_a_fit_that_starts_later_ramps_over_what_is_left():
    watch = Watch()
    fit(mlp(), kf.PruneSchedule(0.5), watch, epochs=4, initial_epoch=2)  # 12 steps
    assert watch.sparsity[8] == 0.5
    assert watch.sparsity[5] < 0.5


def test_logs_say_where_it_is_and_where_it_goes():
    history = fit(mlp(), kf.PruneSchedule(0.5), epochs=4).history
    assert history["sparsity_target"] == [0.5] * 4
    assert history["sparsity"] == sorted(history["sparsity"])
    assert history["sparsity"][2:] == [0.5, 0.5]


def test_counts_that_do_not_come_out_whole_reach_their_own_target():
    prune = kf.PruneSchedule(0.77)
    history = fit(mlp(), prune, epochs=4).history
    # 80 and 30 weights: 61.6 and 23.1 zeros are asked for.
    assert history["sparsity"][-1] == (62 + 23) / 110
    assert history["sparsity_target"][0] == 0.77
    assert prune.sparsity_ >= prune.sparsity_target_
    for path, mask in prune.masks_.items():
        assert mask.shape in ((8, 10), (10, 3)), path


def test_a_schedule_of_its_own_steps():
    schedule = kf.PolynomialSparsity(0.8, 5, 15, initial_sparsity=0.2, frequency=4)
    watch = Watch()
    fit(mlp(), kf.PruneSchedule(schedule), watch, epochs=4)
    for step, sparsity in enumerate(watch.sparsity, start=1):
        last = max([s for s in (5, 9, 13, 15) if s <= step], default=0)
        assert sparsity == pytest.approx(schedule(last) if last else 0, abs=1 / 80)
    assert watch.sparsity[-1] == 0.8


def test_a_callable_and_a_tfmot_schedule():
    for given in (lambda step: 0.4, PruningSchedule()):
        model = mlp()
        fit(model, kf.PruneSchedule(given), epochs=4)
        assert kf.sparsity_of(model).sparsity == pytest.approx(0.4, abs=0.01)


class PruningSchedule:
    """What tfmot's schedules look like."""

    begin_step, end_step, frequency, final_sparsity = 2, 19, 5, 0.4

    def __call__(self, step):
        due = self.begin_step <= step <= self.end_step and (step - 2) % 5 == 0
        return due, np.float32(0.4)


@pytest.mark.parametrize(
    "allocation", ["uniform", "global", "erk", "lamp", {"last": 0.2}]
)
def test_every_allocation_in_a_fit(allocation):
    model, watch = conv_net(), Watch()
    fit(model, kf.PruneSchedule(0.75, allocation=allocation), watch)
    assert watch.violations == 0
    report = kf.sparsity_of(model)
    total = sum(row.size for row in report.weights if row.prunable)
    if isinstance(allocation, str):
        assert report.sparsity == pytest.approx(0.75, abs=3 / total)
    else:
        rows = {row.path: row.sparsity for row in report.weights}
        assert rows["last/kernel"] == pytest.approx(0.2, abs=0.5 / 21)


@pytest.mark.parametrize("scores", ["taylor", "snip", "lamp", "random"])
def test_every_score_in_a_fit(scores):
    model, watch = mlp(), Watch()
    data = (FLAT, Y) if scores in ("taylor", "snip") else None
    fit(model, kf.PruneSchedule(0.6, scores=scores, data=data), watch)
    assert watch.violations == 0
    assert kf.sparsity_of(model).sparsity == 0.6


def test_a_score_of_ones_own_sees_weight_path_gradient_and_step():
    seen = []

    def score(weight, context):
        seen.append((context.path, context.step, context.gradient.shape))
        return -np.abs(weight)  # the largest go

    model = mlp()
    first = np.abs(array(model.layers[0].kernel))
    schedule = kf.OneShotSparsity(0.5, step=1)
    prune = kf.PruneSchedule(schedule, scores=score, data=(FLAT, Y))
    fit(model, prune, epochs=1)
    assert seen == [("first/kernel", 1, (8, 10)), ("last/kernel", 1, (10, 3))]
    mask = prune.masks_["first/kernel"]
    assert first[mask].max() <= first[~mask].min()


@pytest.mark.parametrize(
    ("pattern", "sparsity"),
    [
        ("2:4", 0.5),
        ("4:8", 0.5),
        (("block", (4, 2)), 0.5),
        ("row", 0.5),
        ("column", 0.4),
    ],
)
def test_every_pattern_in_a_fit(pattern, sparsity):
    model, watch = mlp(), Watch()
    prune = kf.PruneSchedule(sparsity, pattern=pattern, layers="first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.pruning.models.find", lambda m: find_first(m))
        fit(model, prune, watch)
    assert watch.violations == 0
    (mask,) = prune.masks_.values()
    assert mask.shape == (8, 10)
    assert (~mask).mean() == pytest.approx(sparsity, abs=0.05)
    if pattern == "2:4":
        assert (mask.reshape(2, 4, 10).sum(1) == 2).all()


def find_first(model):
    from keras_fitkit._core.targets import find

    return find(model, layers="first")


def test_rigl_exchanges_connections_and_keeps_their_number():
    schedule = kf.ConstantSparsity(0.7, begin_step=1, end_step=20, frequency=3)
    data = (FLAT, Y)
    model, watch, masks = mlp(), Watch(), []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks.append(prune.masks_["first/kernel"].copy())

    prune = kf.PruneSchedule(schedule, regrow="rigl", data=data)
    fit(model, prune, watch, Keep(), epochs=4)
    assert watch.violations == 0
    assert {int(mask.sum()) for mask in masks} == {80 - 56}
    grown = [(later & ~earlier).sum() for earlier, later in itertools.pairwise(masks)]
    assert sum(grown) > 0
    # 0.15 (1 + cos(pi 4 / 20)) of 24 connections at the most after the first update.
    assert max(grown) <= 0.15 * (1 + np.cos(np.pi * 4 / 20)) * 24
    assert sum(grown[20:]) == 0
    assert any((~mask & masks[-1]).any() for mask in masks)


def test_steps_that_keras_does_not_know_ramp_by_epoch(capsys):
    def rows():
        while True:
            yield FLAT[:16], Y[:16]

    model, watch = mlp(), Watch()
    prune = kf.PruneSchedule(0.5)
    prune_by_generator(model, rows(), prune, watch)
    per_epoch = [watch.sparsity[4 * epoch] for epoch in range(4)]
    np.testing.assert_allclose(
        per_epoch, [0.5 * (1 - (1 - e / 3) ** 3) for e in (1, 2, 3, 3)], atol=1 / 80
    )
    assert capsys.readouterr().out.count("rises by epoch") == 1


@pytest.mark.tensorflow_only
@RUNS_OUT
def test_a_dataset_of_unknown_length(capsys):
    import tensorflow as tf

    def rows():
        for start in range(0, 96, 16):
            yield FLAT[start : start + 16], Y[start : start + 16]

    signature = (
        tf.TensorSpec((None, 8), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    data = tf.data.Dataset.from_generator(rows, output_signature=signature)
    model, watch = mlp(), Watch()
    model.fit(data, epochs=4, verbose=0, callbacks=[kf.PruneSchedule(0.5), watch])
    assert watch.violations == 0
    assert len(watch.sparsity) == 4 * 6
    assert watch.sparsity[0] > 0  # one update at the beginning of each epoch
    assert len(set(watch.sparsity[:6])) == 1
    assert watch.sparsity[-1] == 0.5
    assert capsys.readouterr().out.count("rises by epoch") == 1


@pytest.mark.tensorflow_only
@RUNS_OUT
def test_a_schedule_of_steps_needs_no_length():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((FLAT, Y)).batch(16)
    unknown = data.filter(lambda x, y: True)
    schedule = kf.PolynomialSparsity(0.5, 2, 9, power=1, frequency=3)
    model, watch = mlp(), Watch()
    model.fit(
        unknown, epochs=2, verbose=0, callbacks=[kf.PruneSchedule(schedule), watch]
    )
    assert watch.violations == 0
    assert watch.sparsity[7] < watch.sparsity[8] == watch.sparsity[-1] == 0.5


def prune_by_generator(model, rows, prune, watch):
    """Four batches an epoch, the number of which the callbacks are not told."""

    class Hide(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for callback in (prune, watch):
                callback.set_params({**self.params, "steps": None})

    model.fit(
        rows, steps_per_epoch=4, epochs=4, verbose=0, callbacks=[Hide(), prune, watch]
    )


def test_too_short_a_fit_says_what_it_reached():
    schedule = kf.PolynomialSparsity(0.8, 0, 1000, frequency=1)
    with warns_once(
        UserWarning, r"ended at sparsity 0\.0\d+, below its target of 0\.8000"
    ):
        fit(mlp(), kf.PruneSchedule(schedule), epochs=1)


def test_what_is_pruned_is_said_in_one_line(capsys):
    fit(conv_net(), kf.PruneSchedule(0.5, exclude="last", verbose=1), epochs=1)
    first, last = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("PruneSchedule: prunes 4 weights (")
    assert "conv/kernel, separable/depthwise_kernel" in first
    assert "last/kernel (excluded)" in first
    assert "of the pruned weights are zero" in last


def test_no_word_by_default(capsys):
    fit(mlp(), kf.PruneSchedule(0.5), epochs=1)
    assert capsys.readouterr().out == ""


def test_nan_in_a_weight_is_an_error_that_names_it():
    model = mlp()
    kernel = array(model.layers[0].kernel)
    kernel[2, 3] = np.nan
    model.layers[0].kernel.assign(kernel)
    with pytest.raises(ValueError, match=r"`first/kernel` must be free of NaN.*1 of"):
        fit(model, kf.PruneSchedule(0.5), epochs=1)


def test_two_on_one_weight_are_refused_and_two_on_two_are_not():
    model = mlp()
    with pytest.raises(
        ValueError, match=r"one PruneSchedule for each weight.*first/kernel"
    ):
        fit(model, kf.PruneSchedule(0.5), kf.PruneSchedule(0.8), epochs=1)
    first = kf.PruneSchedule(0.5, layers="first")
    last = kf.PruneSchedule(0.8, layers="last")
    fit(model, first, last, epochs=1)
    rows = {row.path: row.sparsity for row in kf.sparsity_of(model).weights}
    assert (rows["first/kernel"], rows["last/kernel"]) == (0.5, 0.8)


def test_before_anything_is_trained_a_pattern_that_does_not_divide_is_refused():
    model = mlp()
    before = array(model.layers[0].kernel)
    with pytest.raises(ValueError, match="10 input channels of last/kernel"):
        fit(model, kf.PruneSchedule(0.5, pattern="2:4"))
    np.testing.assert_array_equal(array(model.layers[0].kernel), before)
    assert not links_of(model.layers[0].kernel)


def test_a_name_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        fit(mlp(), kf.PruneSchedule(0.5, layers="frst"))


def test_an_unbuilt_model_has_no_sparsity():
    with pytest.raises(ValueError, match="a built model"):
        kf.sparsity_of(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.tensorflow_only  # the other backends build the model before fit begins
def test_a_model_that_is_not_built_is_refused_before_it_is_trained():
    model = keras.Sequential([keras.layers.Dense(10), keras.layers.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"a built model.*Give it an `Input`"):
        model.fit(FLAT, Y, verbose=0, callbacks=[kf.PruneSchedule(0.5)])


def test_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model, watch = Own(), Watch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model(FLAT[:1])
    model.fit(FLAT, Y, epochs=3, verbose=0, callbacks=[kf.PruneSchedule(0.5), watch])
    assert watch.violations == 0
    assert kf.sparsity_of(model).sparsity == 0.5


def test_rows_of_data_with_gradients_must_be_arrays():
    with pytest.raises(TypeError, match="`data` must be None"):
        kf.PruneSchedule(0.5, scores="snip", data=[X, Y])
