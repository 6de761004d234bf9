"""What stands in a LiteRT file: every kernel on the grid it was trained on."""

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import (
    QuantizeConfig,
    export_litert,
    quantize_model,
    run_litert,
)
from tests.quantization.models import (
    FLAT,
    X,
    array,
    float_constants,
    integers,
    trained,
)

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.eager]
layers = keras.layers


def predicted(model, x=X):
    return array(model(x, training=False))


@pytest.mark.parametrize("activation_bits", [8, None])
def test_every_copy_of_a_shared_kernel_is_on_its_grid(activation_bits, tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(6, 3, padding="same", use_bias=False, name="shared")
    first = layers.BatchNormalization()(conv(inputs))
    x = layers.Conv2D(3, 1, name="between")(layers.ReLU()(first))
    second = layers.BatchNormalization()(conv(x))  # folded: another copy
    x = layers.GlobalAveragePooling2D()(layers.Add()([first, second]))
    model = keras.Model(inputs, layers.Dense(5)(x))
    config = QuantizeConfig(weight_bits=4, activation_bits=activation_bits)
    qat = trained(quantize_model(model, config))
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    kernels = [one for one in integers(tmp_path / "m.tflite") if one.size == 6 * 27]
    assert len(kernels) >= 1
    assert all(one.max() <= 7 for one in kernels)
    floats = float_constants(tmp_path / "m.tflite")
    assert not any(one.size == 6 * 27 for one in floats)
    assert report.float_ops == () or activation_bits is None
    steps = report.max_error * np.ptp(predicted(qat))
    assert np.abs(run_litert(tmp_path / "m.tflite", X) - predicted(qat)).max() <= (
        steps + 1e-5
    )


@pytest.mark.filterwarnings("ignore:The weights of")  # not trained
@pytest.mark.parametrize("bits", [4, 8])
def test_a_shared_layer_with_a_bias_is_right_in_both_calls(bits, tmp_path):
    keras.utils.set_random_seed(4)
    one, other = keras.Input((12,), name="one"), keras.Input((12,), name="other")
    encoder = layers.Dense(16, "relu", bias_initializer="normal")
    head = layers.Dense(8, bias_initializer="normal")
    both = [head(encoder(one)), head(encoder(other))]  # the file has one bias for both
    joined = layers.Concatenate(name="joined")(both)
    qat = quantize_model(
        keras.Model([one, other], joined), QuantizeConfig(weight_bits=bits)
    )
    for variable in qat.trainable_variables:
        if variable.name == "bias":
            variable.assign(30.0 * variable)
    x = [FLAT, FLAT[::-1].copy()]
    for _ in range(3):
        qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 2.01


@pytest.mark.filterwarnings("ignore:The weights of")  # not trained
@pytest.mark.parametrize("config", ["int8", "int8-weights", "int4-weights"])
@pytest.mark.parametrize("kind", ["loop", "unrolled", "attention"])
def test_kernels_inside_a_layer_are_integers_in_the_file(kind, config, tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((5, 12))
    if kind == "attention":
        x = layers.MultiHeadAttention(2, 10, name="inside")(inputs, inputs)
    else:
        x = layers.LSTM(10, unroll=kind == "unrolled", name="inside")(inputs)
    model = keras.Model(inputs, x)
    qat = quantize_model(model, config)
    x = np.random.default_rng(0).normal(size=(16, 5, 12)).astype("float32")
    for _ in range(3):
        qat(x, training=True)
    path = tmp_path / "m.tflite"
    report = export_litert(qat, path, check_data=x)
    assert report.max_error <= 0.02
    kernels = [
        array(kernel.variable) for kernel in qat.get_layer("quant_inside").kernels
    ]
    assert len(kernels) == (4 if kind == "attention" else 2)
    sizes = [one.size for one in integers(path)]
    for kernel in kernels:
        assert kernel.size in sizes
    assert not {one.size for one in float_constants(path)} & {k.size for k in kernels}


@pytest.mark.parametrize("kind", ["Add", "Multiply"])
@pytest.mark.parametrize("count", [3, 4])
def test_more_than_two_are_added_and_multiplied_pair_by_pair(kind, count, tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((12,))
    parts = [layers.Dense(6)(inputs) for _ in range(count)]
    model = keras.Model(inputs, getattr(layers, kind)(name="merged")(parts))
    qat = quantize_model(model, "int8")
    for _ in range(3):
        qat(FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 1.01
    wrapper = qat.get_layer("quant_merged")
    assert wrapper.middle.calibrated
    low, high = (float(array(end)) for end in wrapper.middle.ends())
    assert low < 0 < high
    qat.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(predicted(again, FLAT), predicted(qat, FLAT))


def test_resized_images_keep_to_a_trained_range(tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    x = layers.Resizing(12, 12, name="resized")(layers.Conv2D(3, 1)(inputs))
    qat, left = quantize_model(
        keras.Model(inputs, layers.Conv2D(4, 3)(x)), "int8", return_report=True
    )
    assert list(left) == []
    for _ in range(3):
        qat(X, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 2.01


def test_layers_whose_weights_alone_were_asked_for_may_be_float(tmp_path):
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(8, name="one"), layers.Dense(3, name="out")]
    )
    qat = quantize_model(model, "int8", overrides={"out": "int8-weights"})
    qat(FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite")
    assert {one.layer for one in report.float_ops} == {"quant_out"}
    qat = quantize_model(model, "int8", overrides={"out": "int16x8"})
    qat(FLAT, training=True)
    with pytest.raises(ValueError, match=r"8 bits for mode='int8'.*16 bits"):
        export_litert(qat, tmp_path / "m.tflite")


def test_operations_that_stay_float_are_listed():
    inputs = keras.Input((12,))
    outputs = layers.Dense(3)(-layers.Dense(4)(inputs))
    _, left = quantize_model(keras.Model(inputs, outputs), "int8", return_report=True)
    assert [one.reason for one in left] == ["no rule for the operation Negative"]


def test_a_dict_goes_by_the_names_of_the_inputs(tmp_path):
    b, a = keras.Input((12,), name="b"), keras.Input((12,), name="a-x")
    model = keras.Model([b, a], layers.Dense(3)(layers.Subtract()([b, a])))
    path = tmp_path / "m.tflite"
    # Fewer rows than a call takes: the last one is repeated.
    few = [FLAT[:3], FLAT[3:6]]
    export_litert(model, path, mode="int8", calibration_data=few, batch_size=8)
    export_litert(model, path)
    given = {"a-x": FLAT, "b": FLAT[::-1].copy()}
    wanted = predicted(model, [given["b"], given["a-x"]])
    np.testing.assert_allclose(run_litert(path, given), wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"keys \['b', 'a_x'\].*'c'"):
        run_litert(path, {"a-x": FLAT, "c": FLAT})


def test_a_path_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    model = keras.Sequential([keras.Input((12,)), layers.Dense(3)])
    with pytest.raises(PermissionError, match=r"`path` must be.*m.tflite.*denied"):
        export_litert(model, tmp_path / "m.tflite")
