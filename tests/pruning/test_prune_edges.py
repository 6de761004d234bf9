"""Fits at the edge of what PruneSchedule is made for, each of which once went wrong."""

import itertools
import re

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit._core import targets
from keras_fitkit.pruning import gradients
from keras_fitkit.pruning.attachment import links_of
from tests.pruning.models import FLAT, Y, array, fit, mlp


def real_sparsity(model):
    kernels = [array(layer.kernel) for layer in model.layers]
    return sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels)


@pytest.mark.parametrize("scores", ["random", "taylor", "lamp", "own"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "lamp", "erk"])
def test_the_weights_themselves_have_the_zeros_that_are_logged(scores, allocation):
    model = mlp()
    given = (lambda weight, context: np.abs(weight)) if scores == "own" else scores
    data = (FLAT, Y) if scores == "taylor" else None
    prune = kf.PruneSchedule(0.6, scores=given, allocation=allocation, data=data)
    history = fit(model, prune).history
    assert real_sparsity(model) == pytest.approx(0.6, abs=1 / 110)
    assert history["sparsity"][-1] == real_sparsity(model)


def test_a_dict_leads_to_the_total_of_its_shares_and_early_stopping_waits_for_it():
    prune = kf.PruneSchedule(0.5, allocation={"first": 0.9})
    stopper = kf.EarlyStopping("loss", patience=50, restore_best_weights=True)
    model = mlp(keras.optimizers.Adam(0.01))
    history = fit(model, prune, stopper, epochs=16).history
    total = (80 * 0.9 + 30 * 0.5) / 110
    assert history["sparsity_target"][0] == pytest.approx(total)
    assert history["sparsity"][-1] == pytest.approx(total, abs=1 / 110)
    assert history["sparsity"][stopper.best_epoch] == history["sparsity"][-1]


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("regrow", [None, "rigl"])
def test_a_callable_and_rigl_where_the_length_is_not_known(regrow):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((FLAT, Y)).batch(16)
    data = data.filter(lambda x, y: True)  # may leave any number
    masks = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            masks.append(prune.masks_["first/kernel"].copy())

    def ramp(step):
        return min(0.5, 0.5 * step / 12)

    given = ramp if regrow is None else kf.ConstantSparsity(0.5, frequency=2)
    rows = (FLAT, Y) if regrow else None
    prune = kf.PruneSchedule(given, regrow=regrow, data=rows)
    history = mlp().fit(data, epochs=6, verbose=0, callbacks=[prune, Keep()]).history
    assert history["sparsity_target"] == [0.5] * 6
    assert history["sparsity"][-1] == 0.5
    if regrow:
        assert any((a != b).any() for a, b in itertools.pairwise(masks))


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_hold_needs_no_length():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((FLAT, Y)).batch(16)
    model = mlp()
    fit(model, kf.PruneSchedule(0.5))
    data = data.filter(lambda x, y: True)  # may leave any number
    model.fit(data, epochs=2, verbose=0, callbacks=[kf.PruneSchedule.hold()])
    assert real_sparsity(model) == 0.5


def test_biases_and_norms_are_never_pruned_though_their_layer_is_named():
    inputs = keras.Input((4, 8))
    x = keras.layers.GRU(3, return_sequences=True, name="gru")(inputs)
    x = keras.layers.MultiHeadAttention(2, 3, name="mha")(x, x)
    x = keras.layers.LayerNormalization(axis=(1, 2), name="ln")(x)
    model = keras.Model(inputs, x)
    found, skipped = targets.find(model, layers=["gru", "mha"])
    assert {target.path.rpartition("/")[2] for target in found} == {
        "kernel", "recurrent_kernel",
    }  # fmt: skip
    assert "gru/gru_cell/bias" in {one.path for one in skipped}
    with pytest.raises(ValueError, match="biases and norms are never pruned"):
        targets.find(model, layers="ln")


def test_hold_keeps_the_zeros_of_layers_that_had_to_be_named():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Embedding(9, 6, name="embedding"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="dense"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    rows = np.random.default_rng(0).integers(0, 9, (96, 4))
    prune = kf.PruneSchedule(0.5, layers="embedding")
    model.fit(rows, Y, epochs=2, verbose=0, callbacks=[prune])
    zero = array(model.get_layer("embedding").embeddings) == 0
    model.get_layer("dense").kernel.assign(np.zeros((24, 3)))  # a head to be trained
    held = kf.PruneSchedule.hold()
    model.fit(rows, Y, epochs=2, verbose=0, callbacks=[held])
    np.testing.assert_array_equal(
        array(model.get_layer("embedding").embeddings) == 0, zero
    )
    assert list(held.masks_) == ["embedding/embeddings"]
    assert array(model.get_layer("dense").kernel).all()


@pytest.mark.tensorflow_only
def test_nothing_changes_after_the_last_execution_of_several_steps():
    model = mlp(steps_per_execution=8)
    history = fit(model, kf.PruneSchedule(0.6), epochs=1).history  # 6 steps
    assert history["sparsity"][-1] == real_sparsity(model) == 0.6
    model, seen = mlp(steps_per_execution=4), []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([array(v) for v in self.model.trainable_variables])

    schedule = kf.IterativeSparsity(0.5, 1, rewind_step=0, steps_per_round=6)
    fit(model, kf.PruneSchedule(schedule), Record(), epochs=2)
    for variable, value in zip(model.trainable_variables, seen[-1], strict=True):
        np.testing.assert_array_equal(array(variable), value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sparsity": 0.9, "pattern": "column"},
        {"sparsity": 0.999},
        {"sparsity": 0.97, "allocation": "erk"},
    ],
    ids=str,
)
def test_no_weight_loses_all_its_connections(arguments):
    model = mlp()
    fit(model, kf.PruneSchedule(**arguments))
    assert all(array(layer.kernel).any() for layer in model.layers)


class Break(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError("the user's own")


def masks_left(model):
    linked = [v for v in model.trainable_variables if links_of(v)]
    return linked + [v for v in model.optimizer.variables if v.name.endswith("mask")]


def test_masks_of_a_fit_that_raised_go_with_the_next_one_whatever_it_prunes():
    model = mlp()
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(model, kf.PruneSchedule(kf.OneShotSparsity(0.5)), Break())
    assert masks_left(model)
    fit(model, kf.PruneSchedule(0.5, layers="first"), epochs=1)
    assert not masks_left(model)


def test_release_takes_masks_off_without_another_fit():
    model, prune = mlp(), kf.PruneSchedule(kf.OneShotSparsity(0.5))
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(model, prune, Break())
    prune.release()
    prune.release()
    assert not masks_left(model)
    assert real_sparsity(model) == 0.5
    fit(model, epochs=1)
    assert real_sparsity(model) < 0.1


def test_a_gradient_that_is_not_finite_names_the_data():
    rows = FLAT.copy()
    rows[3, 2] = np.nan
    schedule = kf.ConstantSparsity(0.5, frequency=2)
    prune = kf.PruneSchedule(schedule, regrow="rigl", data=(rows, Y))
    with pytest.raises(
        ValueError, match=r"`data` must give a finite loss.*first/kernel"
    ):
        fit(mlp(), prune)


def test_float16_gradients_that_overflow_are_scaled_down():
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Dense(16, dtype="mixed_float16"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((8,)), *stack])
    model.compile("sgd", "mse")
    data = (100 * FLAT, np.full((96, 1), 900.0), None)
    (found,) = gradients.loss_gradients(model, [model.layers[0].kernel], data)
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 64  # times 1024 it would not fit


def test_a_callable_that_leaves_the_pattern_is_refused():
    prune = kf.PruneSchedule(lambda step: 0.8, pattern="2:4", layers="first")
    with pytest.raises(ValueError, match=r"0\.5 at the end, which the pattern fixes"):
        fit(mlp(), prune)


def test_a_weight_that_two_layers_share_answers_to_both_names():
    class Tied(keras.layers.Layer):
        def __init__(self, dense, **arguments):
            super().__init__(**arguments)
            self.kernel = dense.kernel

        def call(self, x):
            return x @ keras.ops.transpose(self.kernel)

    first = keras.layers.Dense(6, name="first")
    inputs = keras.Input((8,))
    hidden = first(inputs)
    model = keras.Model(
        inputs, keras.layers.Dense(2, name="x")(Tied(first, name="tied")(hidden))
    )
    assert [t.path for t in targets.find(model)[0]] == ["first/kernel", "x/kernel"]
    assert [t.path for t in targets.find(model, exclude="tied")[0]] == ["x/kernel"]
    found, _ = targets.find(model, layers="tied")
    assert [t.variable is first.kernel for t in found] == [True]


def test_a_quantized_layer_can_be_excluded():
    model = mlp()
    model.get_layer("first").quantize("int8")
    assert [t.path for t in targets.find(model, exclude="first")[0]] == ["last/kernel"]


def test_scores_of_whole_numbers_are_numbers():
    prune = kf.PruneSchedule(0.5, scores=lambda w, c: (w > 0).astype(int))
    model = mlp()
    fit(model, prune)
    assert real_sparsity(model) == 0.5


def test_a_state_that_is_refused_changes_nothing():
    first, second = kf.PruneSchedule(0.5), kf.PruneSchedule(0.5, layers="first")
    fit(mlp(), first, epochs=1)
    second.set_model(mlp())
    second.set_params({"epochs": 1, "steps": 6})
    second.on_train_begin()
    with pytest.raises(ValueError, match="a fit that prunes weights of shapes"):
        second.set_state(first.get_state())
    assert second.step_ == 0
    second.release()


def test_dict_shares_rise_along_with_a_fraction_above_0():
    with pytest.raises(ValueError, match="a fraction above 0 with a dict of shares"):
        kf.PruneSchedule(0.0, allocation={"first": 0.9})


def refused_before_the_first_step(model, data):
    before = model.get_weights()
    with pytest.raises(ValueError, match="`data` must be rows for which"):
        fit(model, kf.PruneSchedule(0.5, scores="taylor", data=data))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_data_of_another_shape_is_an_error_before_the_first_step():
    refused_before_the_first_step(mlp(), (FLAT[:, :3], Y))


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="Keras on JAX takes no loss for a loss of 0",
)
def test_a_model_without_a_loss_is_an_error_before_the_first_step():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile("sgd")
    refused_before_the_first_step(model, (FLAT, Y))


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on torch runs single steps"
)
def test_rewinding_into_an_execution_of_several_steps_is_an_error():
    model = mlp(steps_per_execution=4)  # 6 steps an epoch: 4 and 2
    schedule = kf.IterativeSparsity(0.5, 1, rewind_step=2)
    with pytest.raises(ValueError, match="`rewind_step` must be the end of an exec"):
        fit(model, kf.PruneSchedule(schedule))
    for step in (4, 6, 0):
        schedule = kf.IterativeSparsity(0.5, 1, rewind_step=step)
        fit(mlp(steps_per_execution=4), kf.PruneSchedule(schedule))


@pytest.mark.parametrize(
    ("schedule", "reached"),
    [
        (kf.PolynomialSparsity(0.8, 0, 100, frequency=5), r"0\.\d{4}"),
        (kf.OneShotSparsity(0.8, step=100), r"0\.0000"),
    ],
    ids=["polynomial", "one shot"],
)
def test_a_schedule_longer_than_the_fit_is_said_at_its_start(schedule, reached, capsys):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            printed.append(capsys.readouterr().out)
            raise KeyboardInterrupt

    printed = []
    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), kf.PruneSchedule(schedule), Stop())
    text = rf"ends before its schedule does, at sparsity {reached} instead of 0\.8000"
    assert re.search(text, printed[0])


def test_a_schedule_that_fits_is_not_talked_about(capsys):
    fit(mlp(), kf.PruneSchedule(kf.PolynomialSparsity(0.8, 0, 6, frequency=4)))
    assert "ends before" not in capsys.readouterr().out
