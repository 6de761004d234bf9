"""ClusterWeights: few values after every batch, trained by their members."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import keras_fitkit as kf
from keras_fitkit._core import constraints
from keras_fitkit.quantization import (
    ClusterWeights,
    codebooks,
    quantize_model,
    strip_quantization,
)
from tests.quantization.models import FLAT, X, Y, array, cnn, mlp

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
floats = st.floats(-3, 3, width=32, allow_subnormal=False)
values = hnp.arrays(np.float32, st.integers(1, 60), elements=floats)


@given(values, st.integers(1, 8), st.sampled_from(codebooks.INITS))
def test_k_means_settles_where_each_centroid_is_the_mean_of_what_is_nearest(x, k, init):
    centres = codebooks.fit(x, k, init, np.random.default_rng(0))
    assert 1 <= centres.size <= k
    assert (np.diff(centres) > 0).all()
    groups = codebooks.nearest(x, centres)
    distances = np.abs(x[:, None].astype("float64") - centres)
    found = np.take_along_axis(distances, groups[:, None], 1)[:, 0]
    np.testing.assert_allclose(found, distances.min(1), atol=1e-12)
    if np.unique(x).size <= k:
        np.testing.assert_array_equal(centres, np.unique(x))


def test_k_means_finds_what_scikit_learn_finds():
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(c, 0.2, 200) for c in (-3, -1, 0, 2)])
    mine = codebooks.fit(x, 4, "linear", rng)
    other = cluster.KMeans(4, n_init=10, random_state=0).fit(x[:, None])
    np.testing.assert_allclose(mine, np.sort(other.cluster_centers_[:, 0]), atol=1e-3)


def fit(model, *callbacks, x=X, optimizer=None, epochs=2, **how):
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), LOSS, **how)
    return model.fit(
        x, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


def kernels(model):
    return {
        v.path: array(v)
        for v in model.trainable_variables
        if v.name in ("kernel", "depthwise_kernel")
    }


class EachBatch(keras.callbacks.Callback):
    """The number of values of each kernel after each batch."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_train_batch_end(self, batch, logs=None):
        found = kernels(self.model)
        self.counts.append({k: np.unique(v).size for k, v in found.items()})


OPTIMIZERS = {
    "momentum": None,
    "adam": lambda: keras.optimizers.Adam(0.01),
    "average": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05)
    ),
    "accumulation": lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_few_values_after_every_batch(name):
    make = OPTIMIZERS[name]
    model, seen = mlp(), EachBatch()
    before = kernels(model)
    fit(model, ClusterWeights(5), seen, x=FLAT, optimizer=make and make())
    assert len(seen.counts) == 6
    assert all(n <= 5 for counts in seen.counts for n in counts.values())
    after = kernels(model)
    for path, kernel in after.items():
        assert 4 <= np.unique(kernel).size <= 5
        # The values were trained: they are not those that k-means gave.
        first = codebooks.fit(
            before[path].ravel(), 5, "kmeans++", np.random.default_rng(0)
        )
        assert np.abs(np.unique(kernel)[:4] - first[:4]).max() > 1e-3


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras compiles no steps on torch"
)
@pytest.mark.parametrize("how", [{"jit_compile": True}, {"steps_per_execution": 2}])
def test_in_compiled_steps(how):
    model = mlp()
    fit(model, ClusterWeights(4), x=FLAT, **how)
    assert all(np.unique(one).size <= 4 for one in kernels(model).values())


def test_a_group_moves_by_the_mean_of_its_members_updates():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, use_bias=False, name="d")]
    )
    kernel = np.array([[1, 5], [1.2, 5.2], [0.8, 0], [1, 4.8]], "float32")
    model.layers[0].set_weights([kernel])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.eye(4, dtype="float32")
    y = np.zeros((4, 2), "float32")
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[ClusterWeights(3)])
    groups = np.array([[1, 2], [1, 2], [1, 0], [1, 2]])
    means = np.array([0, 1, 5])
    clustered = means[groups]
    gradient = 2 * clustered / 8  # d mean((x k)^2) / d k, for x = I
    updated = clustered - 0.1 * gradient
    expected = [0, updated[groups == 1].mean(), updated[groups == 2].mean()]
    np.testing.assert_allclose(
        array(model.layers[0].kernel), np.array(expected)[groups], atol=1e-6
    )


def test_large_groups_do_not_drift():
    from keras_fitkit.quantization.cluster_attachment import ClusterLink

    values = np.float32([0.0, 0.0123, -0.3])
    groups = np.random.default_rng(3).integers(0, 3, 600_000).astype("int32")
    variable = keras.Variable(values[groups])
    fixed = (groups, np.array([False, True, True]))
    variables = [keras.Variable(one, trainable=False) for one in fixed]
    link = ClusterLink(variable, *variables, None, None)
    found = keras.ops.convert_to_tensor(variable)
    for _ in range(5):
        found = link(found)
    np.testing.assert_array_equal(array(found), values[groups])


def test_each_channel_has_values_of_its_own():
    model = cnn()
    fit(model, ClusterWeights(3, per_channel=True, layers=["conv", "depth", "logits"]))
    for name in ("conv", "logits"):
        kernel = array(model.get_layer(name).kernel)
        columns = kernel.reshape(-1, kernel.shape[-1]).T
        assert all(np.unique(one).size <= 3 for one in columns)
        assert np.unique(kernel).size > 3
    depth = next(v for v in model.get_layer("depth").weights if "kernel" in v.name)
    columns = array(depth).reshape(9, 6).T  # a channel for each input
    assert all(np.unique(one).size <= 3 for one in columns)
    assert np.unique(columns).size > 3
    side = array(model.get_layer("side").kernel)
    assert np.unique(side).size == side.size


def test_zeros_stay_unless_told_otherwise():
    for keep in (True, False):
        model = mlp()
        kernel = array(model.layers[0].kernel)
        zeros = np.abs(kernel) < 0.2
        model.layers[0].kernel.assign(np.where(zeros, 0, kernel))
        fit(model, ClusterWeights(4, preserve_zeros=keep), x=FLAT)
        after = array(model.layers[0].kernel)
        assert (after[zeros] == 0).all() == keep
        assert np.unique(after).size <= 4


@pytest.mark.parametrize(("first", "keep"), [(True, True), (False, False)])
def test_with_pruning_zero_is_one_of_the_values(first, keep):
    model, seen = mlp(), EachBatch()
    prune = kf.PruneSchedule(0.5)
    cluster = ClusterWeights(4, init="linear", preserve_zeros=keep)
    order = [cluster, prune] if first else [prune, cluster]
    fit(model, *order, seen, x=FLAT, epochs=4)
    assert kf.sparsity_of(model).sparsity >= 0.5
    assert all(n <= 4 for counts in seen.counts for n in counts.values())
    for variable in model.trainable_variables:
        assert not constraints.links(variable)


def test_early_stopping_restores_the_optimizer_after_the_groups_are_gone():
    model = mlp()
    for layer in model.layers:
        layer.kernel.assign(np.where(array(layer.kernel) > 0, layer.kernel, 0))
    stopper = kf.EarlyStopping(
        "loss", restore_best_weights=True, restore_best_optimizer=True
    )
    fit(model, ClusterWeights(4), kf.PruneSchedule.hold(), stopper, x=FLAT)
    assert stopper.report().restored
    names = [variable.name for variable in model.optimizer.variables]
    assert not any(name.startswith("fitkit_") for name in names)


def test_hold_keeps_weights_that_are_clustered_only_when_named():
    model = cnn()
    fit(model, ClusterWeights(3, layers="depth"))
    depth = next(v for v in model.get_layer("depth").weights if "kernel" in v.name)
    fit(model, ClusterWeights.hold())
    assert np.unique(array(depth)).size <= 3


def test_hold_keeps_groups_and_zeros_through_quantization_aware_training():
    model = mlp()
    fit(model, ClusterWeights(6), kf.PruneSchedule(0.5), x=FLAT, epochs=4)
    before = kernels(model)
    qat = quantize_model(model, "int8")
    fit(qat, kf.PruneSchedule.hold(), ClusterWeights.hold(), x=FLAT)
    after = kernels(strip_quantization(qat))
    for old, new in zip(before.values(), after.values(), strict=True):
        np.testing.assert_array_equal(old == 0, new == 0)
        for column_old, column_new in zip(old.T, new.T, strict=True):
            assert np.unique(column_new).size <= np.unique(column_old).size
    trained = kernels(qat)
    assert any(
        np.abs(a - b).max() > 1e-4
        for a, b in zip(before.values(), trained.values(), strict=True)
    )


def test_state_goes_on_in_another_callback():
    model = mlp()
    callback = ClusterWeights(4)
    fit(model, callback, x=FLAT)
    other = ClusterWeights(4)

    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            other.set_state(callback.get_state())

    fit(model, other, Restore(), x=FLAT)
    for path, groups in callback.groups_.items():
        np.testing.assert_array_equal(groups, other.groups_[path])


def test_after_a_fit_that_raised_another_begins_afresh():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("stop")

    model = mlp()
    callback = ClusterWeights(4)
    with pytest.raises(RuntimeError, match="stop"):
        fit(model, callback, Stop(), x=FLAT)
    count = len(model.optimizer.variables)
    callback.release()
    assert len(model.optimizer.variables) == count - 4
    assert not any(constraints.links(v) for v in model.trainable_variables)


def test_what_cannot_be_clustered():
    with pytest.raises(ValueError, match="`num_clusters` must be"):
        ClusterWeights(1)
    with pytest.raises(ValueError, match="`init` must be one of"):
        ClusterWeights(4, init="best")
    with pytest.raises(ValueError, match="`callbacks` must hold one ClusterWeights"):
        fit(mlp(), ClusterWeights(4), ClusterWeights(8), x=FLAT)
    with pytest.raises(ValueError, match="`layers` must be patterns that match"):
        fit(mlp(), ClusterWeights(4, layers="nothing*"), x=FLAT)
    with pytest.raises(ValueError, match=r"hold\(\).*Cluster them first"):
        fit(mlp(), ClusterWeights.hold(), x=FLAT)
    model = mlp()
    model.layers[0].kernel.assign(np.full((12, 16), np.nan))
    with pytest.raises(ValueError, match="must be finite to be clustered"):
        fit(model, ClusterWeights(4), x=FLAT)
