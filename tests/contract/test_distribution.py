"""Every callback under MirroredStrategy over two logical CPUs, in a child process.

Logical devices must be set before TensorFlow starts: too late in the tests' process.
"""

import pytest

from tests.replicas import run_on_two_cpus

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.slow]

SCRIPT = """
import numpy as np

import keras
import keras_fitkit as kf
from tests.contract.cases import CALLBACKS

rng = np.random.default_rng(7)
x, xv = rng.normal(size=(2, 32, 3)).astype("float32")
y, yv = x.sum(1, keepdims=True), xv.sum(1, keepdims=True)

def run(callbacks):
    keras.utils.set_random_seed(3)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, kernel_regularizer="l2"),
             keras.layers.Dense(1)]
        )
        model.compile("adam", "mse", metrics=["mae"])
        history = model.fit(x, y, validation_data=(xv, yv), batch_size=8, epochs=3,
                            verbose=0, callbacks=callbacks)
    return model, history.history

plain = run([])[1]
made = {name: make() for name, make in CALLBACKS.items()}
changes = ("Prune", "Cluster")
changing = {name: made.pop(name) for name in list(made) if name.startswith(changes)}
# Two monitors of one name in one fit are an error.
alone = {name: made.pop(name) for name in list(made) if name.endswith("running-mean")}
for callback in alone.values():
    for key, values in run([callback])[1].items():
        np.testing.assert_array_equal(values, plain.get(key, values), err_msg=key)
callbacks = made
model, history = run(list(callbacks.values()))
for key, values in plain.items():
    np.testing.assert_array_equal(history[key], values, err_msg=key)
def same_on_both(model):
    replicas = [model.layers[0].kernel.value.values[i].numpy() for i in (0, 1)]
    np.testing.assert_array_equal(*replicas)

same_on_both(model)
for name, callback in changing.items():
    pruned, history = run([callback])
    same_on_both(pruned)
    if name.startswith("Cluster"):
        kernel = pruned.layers[0].kernel.value.values[0].numpy()
        assert len(np.unique(kernel)) <= callback.num_clusters
        continue
    assert kf.sparsity_of(pruned).sparsity == history["sparsity_target"][-1] == 0.5
report = callbacks["OverfitMonitor"].report()
wrong = model.predict(x, verbose=0) - y
honest = report.curves.train[-1]
np.testing.assert_allclose(honest, (wrong**2).mean(), rtol=1e-4)
np.testing.assert_allclose(report.curves.constant, np.var(y), rtol=1e-4)
print("ran", *callbacks, *alone, *changing)
"""


def test_every_callback_runs_on_two_replicas():
    assert "ran OverfitMonitor" in run_on_two_cpus(SCRIPT)
