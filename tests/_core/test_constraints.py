"""The chain of constraints: its order, and that it works inside compiled steps."""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from keras_fitkit._core import constraints
from keras_fitkit._core.constraints import ChainedConstraint, Stage, push, remove
from tests.replicas import run_on_two_cpus


class Note:
    """A link that writes down when it was called and changes nothing."""

    def __init__(self, stage, name, calls):
        self.stage, self.name, self.calls = stage, name, calls

    def __call__(self, value):
        self.calls.append(self.name)
        return value


class Mask:
    """Zeros by a variable of the optimizer, as pruning does."""

    stage = Stage.MASK

    def __init__(self, model, variable, mask):
        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self.mask = optimizer.add_variable(
            shape=mask.shape, initializer="zeros", dtype="bool", name="mask"
        )
        self.mask.assign(mask)
        variable.assign(np.where(mask, array(variable), 0))

    def __call__(self, value):
        mask = ops.convert_to_tensor(self.mask)
        return ops.where(mask, value, ops.zeros_like(value))


class Steps:
    """Clusters: every weight a multiple of 1/8."""

    stage = Stage.CLUSTER

    def __call__(self, value):
        return ops.round(value * 8) / 8


def array(variable):
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def make_variable(constraint=None):
    variable = keras.Variable(np.ones((2, 3), "float32"))
    variable.constraint = constraint
    return variable


def make_model(constraint=None, optimizer="sgd", **compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, kernel_constraint=constraint, name="dense"),
            keras.layers.Dense(2, name="head"),
        ]
    )
    model.compile(optimizer, "mse", **compile_arguments)
    return model


RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.normal(size=(32, 2)).astype("float32")
KEEP = RNG.random((6, 5)) < 0.4


def fit(model, callbacks=(), epochs=2):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


# --- the chain itself


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
def test_order_does_not_depend_on_who_came_first(order):
    calls = []

    class Own(keras.constraints.Constraint):
        def __call__(self, w):
            calls.append("own")
            return w

    variable = make_variable(Own())
    found = [
        Note(Stage.MASK, "mask", calls),
        Note(Stage.CLUSTER, "cluster", calls),
        Note(Stage.CLUSTER, "cluster 2", calls),
    ]
    for index in order:
        push(variable, found[index])
    variable.constraint(variable)
    clusters = [found[i].name for i in order if found[i].stage == Stage.CLUSTER]
    assert calls == ["own", *clusters, "mask"]


@pytest.mark.parametrize("own", [None, keras.constraints.MaxNorm(2.0), lambda w: w])
@pytest.mark.parametrize("last_first", [False, True])
def test_the_users_constraint_comes_back_as_it_was(own, last_first):
    variable = make_variable(own)
    cluster, mask = Note(Stage.CLUSTER, "c", []), Note(Stage.MASK, "m", [])
    push(variable, cluster)
    push(variable, mask)
    assert isinstance(variable.constraint, keras.constraints.Constraint)
    first, second = (mask, cluster) if last_first else (cluster, mask)
    remove(variable, first)
    assert constraints.links(variable) == (second,)
    remove(variable, second)
    assert variable.constraint is own
    assert constraints.links(variable) == ()


def test_pushing_and_removing_twice_is_once():
    variable = make_variable()
    link = Note(Stage.MASK, "m", [])
    push(variable, link)
    push(variable, link)
    assert constraints.links(variable) == (link,)
    remove(variable, link)
    remove(variable, link)
    assert variable.constraint is None


def test_links_are_told_apart_by_identity():
    class Equal(Note):
        def __eq__(self, other):
            return True

        __hash__ = None

    variable = make_variable()
    first, second = Equal(Stage.MASK, "1", []), Equal(Stage.MASK, "2", [])
    push(variable, first)
    push(variable, second)
    remove(variable, first)
    (left,) = constraints.links(variable)
    assert left is second


def test_removing_a_stranger_leaves_the_chain():
    variable = make_variable()
    link = Note(Stage.MASK, "m", [])
    push(variable, link)
    remove(variable, Note(Stage.MASK, "x", []))
    assert constraints.links(variable) == (link,)


@pytest.mark.parametrize("link", [3, len, lambda w: w])
def test_what_is_no_link(link):
    variable = make_variable()
    with pytest.raises(TypeError, match=r"`link` must be a callable with a `stage`"):
        push(variable, link)
    assert variable.constraint is None


def test_value_of_a_chain():
    variable = make_variable(keras.constraints.NonNeg())
    variable.assign(np.array([[-1.0, 0.3, 0.9], [0.6, -0.2, 2.0]], "float32"))

    class Zero(Mask):
        def __init__(self):
            self.mask = np.array([[True, True, False]] * 2)

    push(variable, Zero())
    push(variable, Steps())
    # not negative, then to the next 1/8, then the last column away
    expected = [[0.0, 2 / 8, 0.0], [5 / 8, 0.0, 0.0]]
    np.testing.assert_array_equal(array(variable.constraint(variable)), expected)


# --- inside fit


class Zeros(keras.callbacks.Callback):
    """Counts, after every batch, weights that should be zero and are not."""

    def __init__(self, name, keep):
        super().__init__()
        self.name, self.keep, self.bad, self.batches = name, keep, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        kernel = array(self.model.get_layer(self.name).kernel)
        self.bad += int(np.sum(kernel[~self.keep] != 0))
        self.batches += 1


def masked(model, name="dense"):
    kernel = model.get_layer(name).kernel
    link = Mask(model, kernel, KEEP)
    push(kernel, link)
    model.make_train_function(force=True)
    return kernel, link


VARIANTS = [{}, {"run_eagerly": True}]
if keras.backend.backend() != "torch":  # no compiler for steps there on every machine
    VARIANTS += [{"jit_compile": True}, {"steps_per_execution": 3}]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_masked_weights_are_zero_after_every_batch(arguments):
    model = make_model(keras.constraints.MaxNorm(1.0), **arguments)
    fit(model, epochs=1)  # the compiled step of this one knows no chain
    masked(model)
    zeros = Zeros("dense", KEEP)
    fit(model, [zeros])
    assert zeros.batches > 1
    assert zeros.bad == 0
    kernel = array(model.get_layer("dense").kernel)
    assert np.all(kernel[KEEP] != 0)
    assert np.linalg.norm(kernel, axis=0).max() <= 1 + 1e-6


@pytest.mark.tensorflow_only
def test_without_a_new_train_function_the_chain_is_not_seen():
    # The negative control for the docstring's advice.
    model = make_model()
    fit(model)
    kernel = model.get_layer("dense").kernel
    push(kernel, Mask(model, kernel, KEEP))
    zeros = Zeros("dense", KEEP)
    fit(model, [zeros])
    assert zeros.bad > 0


def test_mask_and_clusters_together():
    model = make_model(optimizer=keras.optimizers.SGD(0.5))
    kernel, _ = masked(model)
    push(kernel, Steps())
    model.make_train_function(force=True)
    fit(model)
    value = array(kernel)
    np.testing.assert_array_equal(value, np.round(value * 8) / 8)
    np.testing.assert_array_equal(value[~KEEP], 0)


def test_loss_scaling_sees_the_chain():
    model = make_model(
        optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    )
    masked(model)
    zeros = Zeros("dense", KEEP)
    fit(model, [zeros])
    assert zeros.bad == 0


def test_after_a_fit_that_raised_the_constraint_can_be_put_back():
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("power cut")

    own = keras.constraints.MaxNorm(1.0)
    model = make_model(own)
    kernel, link = masked(model)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(model, [Break()])
    remove(kernel, link)
    assert kernel.constraint is own
    model.make_train_function(force=True)
    fit(model)
    assert np.all(array(kernel) != 0)


REPLICAS = """
import numpy as np
import importlib.util, sys
spec = importlib.util.spec_from_file_location("chain", sys.argv[1])
chain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chain)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = chain.make_model(chain.keras.constraints.MaxNorm(1.0))
    chain.masked(model)
zeros = chain.Zeros("dense", chain.KEEP)
chain.fit(model, [zeros])
assert zeros.batches > 1 and zeros.bad == 0, (zeros.batches, zeros.bad)
first, second = model.get_layer("dense").kernel.value.values
np.testing.assert_array_equal(first.numpy(), second.numpy())
"""


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_two_replicas():
    run_on_two_cpus(REPLICAS, __file__)


# --- saving


def test_saved_model_knows_nothing_of_the_chain(tmp_path):
    own = keras.constraints.MaxNorm(1.0)
    model = make_model(own)
    kernel, _ = masked(model)
    push(model.get_layer("head").kernel, Steps())
    fit(model, epochs=1)
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        text = file.read("config.json").decode()
    assert "keras_fitkit" not in text
    assert "ChainedConstraint" not in text
    dense = json.loads(text)["config"]["layers"][1]["config"]
    assert dense["kernel_constraint"]["class_name"] == "MaxNorm"

    loaded = keras.models.load_model(path, compile=False)
    np.testing.assert_array_equal(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0)
    )
    restored = loaded.get_layer("dense").kernel.constraint
    assert isinstance(restored, keras.constraints.MaxNorm)
    assert loaded.get_layer("head").kernel.constraint is None
    assert isinstance(kernel.constraint, ChainedConstraint)


def test_clone_has_the_users_constraint_only():
    model = make_model(keras.constraints.MaxNorm(1.0))
    masked(model)
    clone = keras.models.clone_model(model)
    constraint = clone.get_layer("dense").kernel.constraint
    assert isinstance(constraint, keras.constraints.MaxNorm)
