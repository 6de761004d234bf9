"""PruneSchedule beside other callbacks, after saving, and over several fits."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.pruning.models import FLAT, Watch, X, Y, array, conv_net, fit, mlp
from tests.tools import warns_once


def worsening(model):
    """Labels that mean nothing: validation is best at the start, in the ramp."""
    rng = np.random.default_rng(0)
    return {"validation_data": (rng.normal(size=(64, 8)), rng.integers(0, 3, 64))}


@pytest.mark.parametrize("order", ["pruning first", "stopping first"])
def test_early_stopping_restores_weights_of_the_final_sparsity(order):
    model = mlp(keras.optimizers.Adam(0.05))
    prune = kf.PruneSchedule(0.6)
    stopper = kf.EarlyStopping(patience=2, restore_best_weights=True)
    callbacks = [prune, stopper] if order == "pruning first" else [stopper, prune]
    history = fit(model, *callbacks, epochs=16, **worsening(model)).history
    final = [epoch for epoch, s in enumerate(history["sparsity"]) if s >= 0.6]
    # The ramp ends with 75 % of 16 epochs, for these few weights a little earlier; the
    # best loss came long before.
    assert final[0] >= 8
    assert int(np.argmin(history["val_loss"])) < final[0]
    assert stopper.best_epoch >= final[0]
    assert kf.sparsity_of(model).sparsity == 0.6
    best = model.evaluate(*worsening(model)["validation_data"], verbose=0)[0]
    assert best == pytest.approx(history["val_loss"][stopper.best_epoch], rel=1e-4)


def test_restored_weights_of_an_earlier_mask_keep_their_own_zeros():
    """RigL exchanges connections after the target is reached."""
    model = mlp(keras.optimizers.Adam(0.05))
    schedule = kf.ConstantSparsity(0.5, begin_step=1, frequency=2)
    prune = kf.PruneSchedule(schedule, regrow="rigl", data=(FLAT, Y))
    stopper = kf.EarlyStopping(patience=20, restore_best_weights=True)
    history = fit(model, stopper, prune, epochs=8, **worsening(model)).history
    assert kf.sparsity_of(model).sparsity == 0.5
    loss = model.evaluate(*worsening(model)["validation_data"], verbose=0)[0]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-4)


def test_the_monitor_judges_no_ramp():
    monitor = kf.OverfitMonitor(verbose=0)
    pruned = kf.PruneSchedule(0.6)
    history = fit(mlp(), pruned, monitor, epochs=8, validation_split=0.25).history
    ramp = sum(sparsity < 0.6 for sparsity in history["sparsity"])
    assert monitor.start_ == ramp >= 3


def test_checkpoints_in_mid_training_are_sparse(tmp_path):
    model = mlp()
    save = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    fit(model, kf.PruneSchedule(0.6), save, epochs=4)
    # Not compiled: the optimizer, which holds the masks then, is not read.
    other = keras.Sequential([keras.Input((8,)), *mlp().layers])
    other.load_weights(tmp_path / "3.weights.h5")
    assert kf.sparsity_of(other).sparsity == 0.6


LOAD = """
import sys
import numpy as np, keras
model = keras.models.load_model(sys.argv[1] + "/m.keras")
data = np.load(sys.argv[1] + "/data.npz")
found = model.predict(data["x"], verbose=0)
np.testing.assert_allclose(found, data["y"], rtol=1e-5, atol=1e-6)
model.fit(data["x"], np.zeros(len(data["x"])), verbose=0)
assert "keras_fitkit" not in sys.modules
zeros = np.mean(keras.ops.convert_to_numpy(model.get_layer("conv").kernel) == 0)
print("loaded")
"""


@pytest.mark.slow
def test_a_saved_model_loads_where_this_package_is_not_imported(tmp_path):
    model = conv_net()
    fit(model, kf.PruneSchedule(0.8))
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", x=X, y=model.predict(X, verbose=0))
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LOAD, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip().endswith("loaded"), done.stderr[-2000:]


def test_hold_keeps_todays_zeros_and_makes_no_others():
    model = mlp(keras.optimizers.Adam(0.01))
    fit(model, kf.PruneSchedule(0.6, layers="first"))
    zero = array(model.layers[0].kernel) == 0
    watch_first = kf.PruneSchedule.hold()
    history = fit(model, watch_first, epochs=2).history
    np.testing.assert_array_equal(array(model.layers[0].kernel) == 0, zero)
    assert history["sparsity"] == history["sparsity_target"] == [zero.mean()] * 2
    assert list(watch_first.masks_) == ["first/kernel"]


def test_hold_has_nothing_to_hold_in_a_dense_model():
    with warns_once(UserWarning, "has found no zeros"):
        fit(mlp(), kf.PruneSchedule.hold(), epochs=1)


def test_rewinding_goes_back_to_the_weights_of_that_step():
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append([array(v) for v in self.model.trainable_variables])

    schedule = kf.IterativeSparsity(0.75, rounds=2, rewind_step=2)  # of 18 steps
    fit(mlp(), kf.PruneSchedule(schedule), Record(), epochs=3)
    after_two = seen[2]
    for step, share in ((6, 0.5), (12, 0.75)):  # before steps 7 and 13
        kernel, bias, *_ = seen[step]
        zero = kernel == 0
        assert zero.mean() == share
        np.testing.assert_array_equal(kernel, np.where(zero, 0, after_two[0]))
        np.testing.assert_array_equal(bias, after_two[1])
    assert not np.array_equal(seen[11][1], after_two[1])


@pytest.mark.parametrize("wanted", [False, True])
def test_the_optimizer_is_rewound_when_asked_for(wanted):
    counts = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            counts.append(int(array(self.model.optimizer.iterations)))

    schedule = kf.IterativeSparsity(0.5, 1, rewind_step=1, rewind_optimizer=wanted)
    fit(mlp(), kf.PruneSchedule(schedule), Record(), epochs=2)  # 12 steps, rounds of 6
    assert counts[5:8] == ([5, 1, 2] if wanted else [5, 6, 7])


def rewinding():
    return kf.IterativeSparsity(0.75, rounds=2, rewind_step=2, steps_per_round=6)


@pytest.mark.parametrize("make", [lambda: 0.6, rewinding], ids=["ramp", "rewinding"])
def test_state_goes_on_where_it_was(make):
    """Six epochs at once, or three, then a new callback with the state of the first."""
    whole, watch = mlp("sgd"), Watch()
    straight = kf.PruneSchedule(make())
    fit(whole, straight, watch, epochs=6, shuffle=False)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(first.get_state())
            weights.append(self.model.get_weights())
            if epoch == 2:
                raise KeyboardInterrupt

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            second.set_state(states[-1])
            self.model.set_weights(weights[-1])

    states, weights = [], []
    first, second = kf.PruneSchedule(make()), kf.PruneSchedule(make())
    with pytest.raises(KeyboardInterrupt):
        fit(mlp("sgd"), first, Stop(), epochs=6, shuffle=False)
    again, watch_again = mlp("sgd"), Watch()
    fit(again, second, Resume(), watch_again, epochs=6, initial_epoch=3, shuffle=False)
    assert watch_again.violations == 0
    assert watch_again.sparsity == watch.sparsity[18:]
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("model", "sparsity", "text"),
    [
        (conv_net, 0.5, "a fit that prunes weights of shapes"),
        (mlp, 0.9, "must have the schedule it began with"),
    ],
    ids=["model", "sparsity"],
)
def test_state_of_another_fit_is_refused_and_changes_nothing(model, sparsity, text):
    first, second = kf.PruneSchedule(0.5), kf.PruneSchedule(sparsity)
    fit(mlp(), first, epochs=1)
    second.set_model(model())
    second.set_params({"epochs": 1, "steps": 6})
    second.on_train_begin()
    before = second.get_state()
    with pytest.raises(ValueError, match=text):
        second.set_state(first.get_state())
    np.testing.assert_equal(second.get_state(), before)


def test_a_report_counts_zeros():
    model = mlp()
    fit(model, kf.PruneSchedule(0.5))
    report = kf.sparsity_of(model)
    rows = report.to_dict()["weights"]
    assert [row["path"] for row in rows] == [
        "first/kernel", "first/bias", "last/kernel", "last/bias",
    ]  # fmt: skip
    assert rows[0]["zeros"] == 40
    assert report.num_params == 80 + 10 + 30 + 3
    assert report.num_nonzero == 40 + 15 + sum(
        np.count_nonzero(array(layer.bias)) for layer in model.layers
    )
    assert "50.00% of the prunable weights are zero" in report.render()
    assert "<table>" in report._repr_html_()
