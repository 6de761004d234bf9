"""What is not a chain of convolutions: other layers, and nets compressed before."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.quantization import (
    ClusterWeights,
    QuantizeConfig,
    QuantizeWrapper,
    export_litert,
    quantize_model,
    register,
    strip_quantization,
)
from tests.quantization.models import FLAT, Y, array, mlp
from tests.quantization.test_export import integers
from tests.replicas import run_on_two_cpus

layers = keras.layers
RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(32, 8, 8, 4)).astype("float32")
WORDS = RNG.normal(size=(32, 10, 16)).astype("float32")


def net(inputs, x):
    x = layers.GlobalAveragePooling2D(name="mean")(x) if len(x.shape) == 4 else x
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    for variable in model.variables:  # as after a training
        if variable.name in ("moving_mean", "beta"):
            variable.assign(RNG.normal(size=variable.shape) * 0.3)
        elif variable.name == "gamma":
            variable.assign(RNG.normal(size=variable.shape))
        elif variable.name == "moving_variance":
            variable.assign(RNG.uniform(0.5, 2, size=variable.shape))
    return model


def preactivated():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same", name="first")(inputs)
    y = layers.BatchNormalization(name="pre")(x)
    y = layers.ReLU(name="relu")(y)
    y = layers.Conv2D(6, 3, padding="same", name="second")(y)
    x = layers.BatchNormalization(name="last")(layers.Add(name="add")([x, y]))
    return net(inputs, x), IMAGES


def norms_of_features():
    inputs = keras.Input((16,))
    x = layers.BatchNormalization(name="begin")(inputs)
    x = layers.Dense(8, "relu", name="wide")(x)
    return net(inputs, layers.BatchNormalization(name="after")(x)), WORDS[:, 0]


def separable():
    inputs = keras.Input((8, 8, 4))
    x = layers.SeparableConv2D(6, 3, strides=2, activation="relu", name="two")(inputs)
    return net(inputs, layers.SeparableConv2D(5, 2, use_bias=False)(x)), IMAGES


def separable_words():
    inputs = keras.Input((10, 16))
    x = layers.SeparableConv1D(6, 3, padding="same", activation="silu")(inputs)
    return net(inputs, layers.GlobalMaxPooling1D()(x)), WORDS


def embedded():
    inputs = keras.Input((10,), dtype="int32")
    x = layers.Embedding(20, 8, name="table")(inputs)
    x = layers.Conv1D(8, 3, activation="relu")(x)
    return net(inputs, layers.GlobalMaxPooling1D()(x)), RNG.integers(0, 20, (32, 10))


WHOLE = [preactivated, norms_of_features, separable, separable_words, embedded]


def attention():
    inputs = keras.Input((10, 16))
    x = layers.MultiHeadAttention(2, 8, name="inside")(inputs, inputs)
    x = layers.LayerNormalization(name="norm")(layers.Add(name="add")([inputs, x]))
    return net(inputs, layers.GlobalAveragePooling1D(name="pool")(x)), WORDS


def volumes():
    inputs = keras.Input((8, 8, 4, 1))
    x = layers.Conv3D(4, 3, activation="relu", name="inside")(inputs)
    return net(inputs, layers.Flatten()(x)), IMAGES[..., None]


def recurrent():
    inputs = keras.Input((3, 16))
    return net(inputs, layers.GRU(4, unroll=True, name="inside")(inputs)), WORDS[:, :3]


PARTLY = [attention, volumes, recurrent]


@pytest.mark.parametrize("make", [*WHOLE, *PARTLY], ids=lambda make: make.__name__)
def test_a_fine_grid_computes_what_the_model_does(make):
    model, x = make()
    x = keras.ops.convert_to_tensor(x)
    qat = quantize_model(model, QuantizeConfig(weight_bits=14, activation_bits=14))
    # A norm in training has the statistics of the batch: so has the plain model.
    before = model.get_weights()
    expected = array(model(x, training=True))
    model.set_weights(before)
    np.testing.assert_allclose(array(qat(x, training=True)), expected, atol=5e-3)
    stripped = strip_quantization(quantize_model(model, "int8"))
    limit = 0.05 * np.ptp(array(model(x)))
    assert np.abs(array(stripped(x)) - array(model(x))).max() < limit


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("make", WHOLE, ids=lambda make: make.__name__)
def test_the_file_is_of_integers_alone(make, tmp_path):
    model, x = make()
    qat = quantize_model(model, "int8")
    for _ in range(3):
        qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert report.float_ops == ()
    assert all(one.max_steps <= 2.01 for one in report.layers), report


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("make", PARTLY, ids=lambda make: make.__name__)
def test_what_has_no_kernel_of_integers_is_listed(make, tmp_path):
    model, x = make()
    qat = quantize_model(model, "int8")
    for _ in range(3):
        qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert {one.layer for one in report.float_ops} <= {"quant_inside", "norm"}
    assert "quant_inside" in {one.layer for one in report.float_ops}
    assert report.agreement >= 0.9


def test_a_norm_over_another_axis_stays_float():
    inputs = keras.Input((8, 8, 4))
    model = net(inputs, layers.BatchNormalization(axis=1, name="odd")(inputs))
    _, floats = quantize_model(model, return_report=True)
    assert [one.name for one in floats] == ["odd"]
    assert "no convolution or Dense before it" in floats[0].reason


@keras.saving.register_keras_serializable("tests.quantization")
class Gain(layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(shape=(1, shape[-1]), name="gain")

    def call(self, x):
        return x * self.gain


def test_a_layer_of_ones_own_is_registered():
    layer = Gain()
    with pytest.raises(ValueError, match=r"kf.quantization.register"):
        QuantizeWrapper(layer)
    register(Gain, kernels=["gain"])
    inputs = keras.Input((12,))
    model = keras.Model(inputs, Gain(name="own")(layers.Dense(12)(inputs)))
    gain = RNG.normal(size=(1, 12)).astype("float32")
    model.get_layer("own").gain.assign(gain)
    qat = quantize_model(model, QuantizeConfig(weight_bits=3, per_channel=False))
    kernel = array(strip_quantization(qat).get_layer("own").gain)
    assert 2 <= np.unique(kernel).size <= 7


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("per_channel", [True, False])
def test_zeros_and_clusters_reach_the_file(per_channel, tmp_path):
    model = mlp()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    how = {"epochs": 3, "batch_size": 16, "verbose": 0}
    both = [kf.PruneSchedule(0.5), ClusterWeights(6)]
    model.fit(FLAT, Y, callbacks=both, **how)
    zeros = [int((array(one.kernel) == 0).sum()) for one in model.layers[:2]]
    qat = quantize_model(model, QuantizeConfig(per_channel=per_channel))
    qat.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    held = [kf.PruneSchedule.hold(), ClusterWeights.hold()]
    qat.fit(FLAT, Y, callbacks=held, **how)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    assert report.float_ops == ()
    found = integers(tmp_path / "m.tflite", sort=False)
    for layer, count in zip(model.layers[:2], zeros, strict=True):
        shape = layer.kernel.shape[::-1]  # (outputs, inputs)
        (codes,) = [one.reshape(shape) for one in found if one.size == np.prod(shape)]
        assert (codes == 0).sum() >= count
        for row in codes if per_channel else [codes]:
            assert np.unique(row).size <= 6
    for name in ("quant_hidden", "quant_logits"):
        (info,) = qat.get_layer(name).compression_info.values()
        assert info["codebook"].size <= 6


@pytest.mark.eager
@pytest.mark.parametrize("preset", ["int8", "int4"])
def test_resumed_in_mid_training_it_ends_as_one_run(preset, tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = kf.ReproducibleDataset(FLAT, Y, batch_size=16, seed=3)

    class Kill(keras.callbacks.Callback):
        def get_state(self):
            return {}

        def set_state(self, state):
            pass

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2 and self.kills:
                raise KeyboardInterrupt

    def run(folder, kills=False):
        kill = Kill()
        kill.kills = kills
        qat = quantize_model(mlp(), preset)
        qat.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
        cluster = ClusterWeights(9)
        callbacks = kf.resumable(folder, [cluster, kill], verbose=0)
        qat.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
        return qat

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kills=True)
    again = run(tmp_path / "killed")
    for one, other in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


SCRIPT = """
import numpy as np

import keras
from keras_fitkit.quantization import QuantizeConfig, quantize_model
from tests.quantization.models import FLAT, Y, cnn, mlp, X

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for make, x, config in (
    (mlp, FLAT, QuantizeConfig(weight_bits=4, activation_bits=4)), (cnn, X, "int8")
):
    with strategy.scope():
        qat = quantize_model(make(), config)
        qat.compile(keras.optimizers.SGD(0.05), "mse")
        y = np.eye(5, dtype="float32")[Y]
        qat.fit(x, y, batch_size=16, epochs=2, verbose=0)
    for variable in qat.variables:
        values = getattr(variable.value, "values", None)
        # Keras's own statistics of norms are each replica's until they are read.
        if values is not None and "moving_" not in variable.name:
            np.testing.assert_array_equal(*(one.numpy() for one in values))
    assert any("low" in variable.name for variable in qat.variables)
    low = [v for v in qat.variables if v.name == "low"][0]
    # The mean over both halves of the batches, not the extreme of one.
    assert float(keras.ops.convert_to_numpy(low)) < -1.0
print("equal")
"""


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_replicas_stay_equal():
    assert "equal" in run_on_two_cpus(SCRIPT)
