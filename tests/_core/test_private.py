"""One test a private name: each fails when Keras moves it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_fitkit._core import _private

X = np.arange(24, dtype="float32").reshape(8, 3)
Y = np.arange(8, dtype="float32").reshape(8, 1)


def array(variable):
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def make_model(optimizer="sgd"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    model.compile(optimizer, "mse")
    return model


# --- sublayers, own_variables


def test_sublayers_of_a_composite_layer():
    layer = keras.layers.Bidirectional(keras.layers.LSTM(2, name="lstm"))
    layer.build((None, 4, 3))
    names = [child.name for child in _private.sublayers(layer)]
    assert names == ["forward_lstm", "backward_lstm"]
    cells = [type(c) for c in _private.sublayers(layer.forward_layer)]
    assert cells == [keras.layers.LSTMCell]


def test_sublayers_of_a_model_are_its_layers_in_order():
    model = make_model()
    assert _private.sublayers(model)[-1:] == model.layers
    assert _private.sublayers(model.layers[0]) == []
    _private.sublayers(model).clear()
    assert model.layers, "the list is a copy"


def test_own_variables_are_those_of_no_child():
    norm = keras.layers.BatchNormalization()
    norm.build((None, 3))
    assert _private.own_variables(norm) == norm.weights
    assert _private.own_variables(make_model()) == []
    wrapped = keras.layers.SpectralNormalization(keras.layers.Dense(2))
    wrapped.build((None, 3))
    assert _private.own_variables(wrapped) == [wrapped.vector_u]


# --- metric_direction


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (keras.metrics.MeanSquaredError(), "min"),
        (keras.metrics.BinaryAccuracy(), "max"),
        (keras.metrics.AUC(), "max"),
        (keras.metrics.Mean(), None),
        (object(), None),
    ],
)
def test_metric_direction(metric, expected):
    assert _private.metric_direction(metric) == expected


# --- validation_weights


class Seen(keras.callbacks.Callback):
    """The kernel during Keras's validation, inside our block, and around it."""

    def __init__(self, others):
        super().__init__()
        self.others, self.validated, self.measured = others, [], []
        self.before, self.after = [], []

    def kernel(self):
        return array(self.model.get_layer("dense").kernel)

    def on_test_batch_end(self, batch, logs=None):
        self.validated.append(self.kernel())

    def on_epoch_end(self, epoch, logs=None):
        self.before.append(self.kernel())
        with _private.validation_weights(tuple(self.others)):
            self.measured.append(self.kernel())
        self.after.append(self.kernel())


def with_averages(wrap=lambda optimizer: optimizer):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    model = make_model(wrap(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)))
    model.get_layer("dense").kernel.assign(rng.normal(size=(3, 1)))
    return model, x, x[:, :1]


@pytest.mark.parametrize("swap_first", [False, True])
@pytest.mark.parametrize(
    "wrap", [lambda inner: inner, keras.optimizers.LossScaleOptimizer]
)
def test_validation_weights_are_those_that_fit_validated_with(swap_first, wrap):
    model, x, y = with_averages(wrap)
    swap = keras.callbacks.SwapEMAWeights()
    seen = Seen([swap])
    model.fit(
        x,
        y,
        validation_data=(x, y),
        validation_batch_size=32,
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[swap, seen] if swap_first else [seen, swap],
    )
    # TensorFlow swaps by adding and subtracting: off by rounding.
    np.testing.assert_allclose(seen.measured, seen.validated, rtol=1e-6, atol=1e-7)
    assert not np.allclose(seen.measured, seen.before, atol=1e-3)
    np.testing.assert_array_equal(seen.before, seen.after)


def test_validation_weights_of_a_swap_that_lasts_over_the_epoch():
    model, x, y = with_averages()
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    seen = Seen([swap])
    model.fit(
        x,
        y,
        validation_data=(x, y),
        validation_batch_size=32,
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[swap, seen],
    )
    # The averages are in the model already, and stay there.
    np.testing.assert_array_equal(seen.measured, seen.before)
    np.testing.assert_array_equal(seen.before, seen.after)
    np.testing.assert_allclose(seen.measured, seen.validated, rtol=1e-6, atol=1e-7)


def test_measuring_leaves_the_training_bit_for_bit_the_same():
    def train(measure):
        model, x, y = with_averages()
        swap = keras.callbacks.SwapEMAWeights()
        extra = [Seen([swap])] if measure else []
        model.fit(
            x,
            y,
            validation_data=(x, y),
            batch_size=4,
            epochs=3,
            verbose=0,
            callbacks=[swap, *extra],
        )
        averages = model.optimizer.variables
        return [array(variable) for variable in (*model.weights, *averages)]

    for plain, measured in zip(train(False), train(True), strict=True):
        np.testing.assert_array_equal(plain, measured)


def test_validation_weights_come_back_when_the_block_raises():
    model = make_model(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.5))
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    model.fit(X, Y, verbose=0)
    kernel = array(model.get_layer("dense").kernel)

    def measure():
        with _private.validation_weights((swap, keras.callbacks.History())):
            assert swap._ema_weights_in_model
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        measure()
    np.testing.assert_array_equal(array(model.get_layer("dense").kernel), kernel)


# --- global_seeds


def test_global_seeds_is_what_unseeded_random_ops_advance():
    keras.utils.set_random_seed(3)
    keras.random.normal((1,))
    (state,) = _private.global_seeds()
    before = array(state)
    first = array(keras.random.normal((4,)))
    assert not np.array_equal(array(state), before)
    state.assign(before)
    np.testing.assert_array_equal(array(keras.random.normal((4,))), first)


def test_replaced_is_what_a_layer_computes_with():
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    kernel = layer.kernel
    x = np.ones((1, 3), "float32")
    with _private.replaced(layer, kernel, keras.ops.ones((3, 2))):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), [[3.0, 3.0]])
    assert layer.kernel is kernel
    assert layer.weights == [kernel]


def test_graph_nodes_are_the_calls_of_a_model():
    inputs = keras.Input((3,))
    shared = keras.layers.Dense(3, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)) + 1.0)
    nodes = _private.graph_nodes(model)
    assert [node.operation for node in nodes[:2]] == [shared, shared]
    assert nodes[0].inputs == (inputs,)
    args, kwargs = nodes[1].arguments({id(nodes[0].outputs[0]): "value"})
    assert (args, kwargs) == (("value",), {})
    sequential = keras.Sequential([keras.Input((3,)), shared])
    assert [node.operation for node in _private.graph_nodes(sequential)] == [shared]


def test_compiled_metrics_are_objects_and_the_model_stays_as_it_is():
    own = keras.metrics.MeanAbsoluteError(name="own")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert _private.compiled_metrics(model, np.zeros(2), np.zeros((2, 2))) == []
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", own])
    found = _private.compiled_metrics(model, np.zeros(2, int), np.zeros((2, 2)))
    assert [one.name for one in found] == ["accuracy", "own"]
    assert isinstance(found[0], keras.metrics.SparseCategoricalAccuracy)
    (container,) = [one for one in model.metrics if hasattr(one, "metrics")]
    assert container.metrics == []  # as before the first step


def test_row_function_is_what_a_metric_takes_the_mean_of():
    targets, outputs = np.array([[0.0], [3.0]]), np.array([[1.0], [1.0]])
    metric = keras.metrics.BinaryAccuracy(threshold=2.0)
    found = _private.row_function(metric)(np.array([[0.0], [1.0]]), outputs)
    values = np.ravel(keras.ops.convert_to_numpy(found))
    np.testing.assert_array_equal(values, [1.0, 0.0])
    found = _private.row_function(keras.metrics.MeanAbsoluteError())(targets, outputs)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), [1.0, 2.0])

    class Own(keras.metrics.MeanAbsoluteError):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, 2 * y_pred, sample_weight)

    assert _private.row_function(Own()) is None
    assert _private.row_function(keras.metrics.AUC()) is None


# --- mask_of, set_mask


def test_a_mask_is_kept_with_its_tensor():
    rows = keras.ops.convert_to_tensor([[1, 2, 0]])
    assert _private.mask_of(rows) is None
    embedded = keras.layers.Embedding(3, 2, mask_zero=True)(rows)
    assert array(_private.mask_of(embedded)).tolist() == [[True, True, False]]
    _private.set_mask(embedded, keras.ops.convert_to_tensor([[True, False, False]]))
    pooled = keras.layers.GlobalAveragePooling1D()(embedded)
    np.testing.assert_allclose(array(pooled), array(embedded)[:, 0])
