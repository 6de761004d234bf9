"""LiteRT files: made, read again, compared."""

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import (
    FellBackToFloat,
    QuantizeConfig,
    export_litert,
    grids,
    litert_file,
    quantize_model,
    run_litert,
)
from tests.quantization.models import FLAT, X, array, cnn, mlp, trained

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.eager]
layers = keras.layers


def predicted(model, x=X):
    return array(model(x, training=False))


def test_a_trained_model_becomes_integers_as_a_whole(tmp_path):
    qat = trained(quantize_model(cnn(), "int8"))
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    names = [op for op, _ in report.ops]
    assert names[0] == "QUANTIZE"
    assert names[-1] == "DEQUANTIZE"
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONCATENATION"} <= set(names)
    assert report.mode == "int8"
    assert report.float_ops == ()
    assert report.size_bytes == (tmp_path / "m.tflite").stat().st_size
    assert {one.name for one in report.layers} >= {"quant_relu", "quant_joined"}
    assert max(one.max_steps for one in report.layers) <= 2.01
    assert report.agreement >= 0.9
    found = run_litert(tmp_path / "m.tflite", X)
    step = report.max_error * np.ptp(predicted(qat)) + 1e-6
    assert np.abs(found - predicted(qat)).max() <= step


LAYERS = {
    "dense": (lambda: layers.Dense(8), (12,)),
    "relu": (lambda: layers.Dense(8, "relu"), (12,)),
    "sigmoid": (lambda: layers.Dense(8, "sigmoid"), (12,)),
    "tanh": (lambda: layers.Dense(8, "tanh"), (12,)),
    "softmax": (lambda: layers.Dense(8, "softmax"), (12,)),
    "gelu": (lambda: layers.Dense(8, "gelu"), (12,)),
    "silu": (lambda: layers.Dense(8, "silu"), (12,)),
    "hard silu": (lambda: layers.Dense(8, "hard_silu"), (12,)),
    "leaky": (lambda: layers.LeakyReLU(0.2), (12,)),
    "conv": (lambda: layers.Conv2D(4, 3, padding="same"), (8, 8, 3)),
    "strides": (lambda: layers.Conv2D(4, 3, strides=2), (8, 8, 3)),
    "conv1d": (lambda: layers.Conv1D(4, 3), (8, 3)),
    "transposed with bias": (lambda: layers.Conv2DTranspose(4, 2, 2), (4, 4, 3)),
    "transposed": (lambda: layers.Conv2DTranspose(4, 3), (6, 6, 3)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (8, 8, 3)),
    "average": (lambda: layers.AveragePooling2D(2), (8, 8, 3)),
    "maximum": (lambda: layers.MaxPooling2D(2), (8, 8, 3)),
    "mean": (lambda: layers.GlobalAveragePooling2D(), (8, 8, 3)),
    "pad": (lambda: layers.ZeroPadding2D(1), (8, 8, 3)),
    "reshape": (lambda: layers.Reshape((3, 4)), (12,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_at_most_a_step_away(name, tmp_path):
    make, shape = LAYERS[name]
    keras.utils.set_random_seed(4)
    inputs = keras.Input(shape)
    # Something to quantize where the layer has no kernel of its own.
    first = layers.Dense(shape[-1], name="first")(inputs)
    model = keras.Model(inputs, make()(first))
    qat = quantize_model(model, "int8")
    x = np.random.default_rng(6).normal(size=(32, *shape)).astype("float32")
    for _ in range(3):
        qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert report.float_ops == ()
    assert all(one.max_steps <= 1.01 for one in report.layers), report


@pytest.mark.parametrize(
    "config",
    [
        QuantizeConfig(weight_bits=4),
        QuantizeConfig(weight_bits=2),
        QuantizeConfig(weight_bits=3, ranges="moving_average"),
        QuantizeConfig(weight_bits=8, ranges="learned"),
        QuantizeConfig(weight_bits=4, per_channel=False),
    ],
    ids=["4", "2", "3", "learned 8", "one scale"],
)
def test_trained_grids_are_kept_to_the_integer(config, tmp_path):
    qat = trained(quantize_model(cnn(), config))
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    assert report.float_ops == ()
    # They add up: biases of a coarse grid are coarse.
    assert max(one.max_steps for one in report.layers) <= 5.01
    kept = integers(tmp_path / "m.tflite")
    for wrapper in qat.layers:
        for index, kernel in enumerate(getattr(wrapper, "kernels", ())):
            weight = array(kernel.variable)
            scale = array(wrapper.weight_scale(index))
            n = 2 ** (config.weight_bits - 1) - 1
            codes = np.clip(np.round(weight / scale), -n, n)
            wanted = np.sort(np.abs(codes).ravel())
            assert any(
                one.size == wanted.size and np.array_equal(one, wanted) for one in kept
            )


@pytest.mark.parametrize("layer", ["transposed", "embedding"])
def test_a_grid_of_few_bits_on_other_layers_is_kept_or_refused(layer, tmp_path):
    keras.utils.set_random_seed(2)
    config = QuantizeConfig(weight_bits=4)
    path = tmp_path / "m.tflite"
    if layer == "embedding":
        inputs = keras.Input((5,), dtype="int32")
        x = layers.Embedding(30, 6, name="table")(inputs)
        model = keras.Model(inputs, layers.Dense(3)(x))
        given = np.random.default_rng(1).integers(0, 30, (16, 5))
        qat = quantize_model(model, config)
        qat(given, training=True)
        with pytest.raises(ValueError, match=r"on the grid.*table"):
            export_litert(qat, path)
        return
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(6, 2, 2, bias_initializer="normal", name="up")(inputs)
    qat = quantize_model(keras.Model(inputs, x), config)
    for variable in qat.trainable_variables:
        if variable.name == "bias":
            variable.assign(variable + 0.5)
    given = np.random.default_rng(1).normal(size=(16, 4, 4, 3)).astype("float32")
    for _ in range(3):
        qat(given, training=True)
    report = export_litert(qat, path, check_data=given)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 2.01


def integers(path, *, sort=True):
    """The integers of every constant in a file: their sizes, sorted, or as they are."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    found = []
    for tensor in model.subgraphs[0].tensors:
        raw = model.buffers[tensor.buffer].data
        if raw is None or tensor.type not in (9, 17):  # INT8, INT4
            continue
        data = np.frombuffer(bytes(bytearray(raw)), np.int8)
        if tensor.type == 17:
            halves = np.stack([data << 4 >> 4, data >> 4], axis=1).ravel()
            data = halves[: int(np.prod(tensor.shape))]
        data = data.astype(int)
        found.append(np.sort(np.abs(data)) if sort else data)
    return found


@pytest.mark.parametrize("preset", ["int8-weights", "int4-weights", "int2-weights"])
def test_weights_alone(preset, tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(256, "relu"), layers.Dense(5)]
    )
    qat = trained(quantize_model(model, preset), FLAT)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    assert report.mode == "float32"
    assert report.max_error < 1e-5
    float_file = tmp_path / "float.tflite"
    export_litert(model, float_file)
    plain, small = float_file.stat().st_size, report.size_bytes
    bits = {"8": 8, "4": 4, "2": 4}[preset[3]]  # LiteRT has no 2 bits
    saved = (12 * 256 + 256 * 5) * (4 - bits / 8)
    scales = 261 * (4 + 8)  # a scale and a zero point of 8 bytes for each channel
    assert plain - small > saved - scales - 2000  # a DEQUANTIZE for each weight


def test_after_training_with_calibration(tmp_path):
    model = trained(cnn())
    for mode in ("int8", "int16x8"):
        report = export_litert(
            model, tmp_path / "m.tflite", mode=mode, calibration_data=X, check_data=X
        )
        assert report.float_ops == ()
        assert report.agreement > 0.9
        assert min(one.sqnr for one in report.layers) > 15
    for mode in ("float32", "float16", "dynamic"):
        report = export_litert(model, tmp_path / "m.tflite", mode=mode, check_data=X)
        assert report.max_error < 0.05


def test_the_checker_finds_a_missing_quantizer(tmp_path, monkeypatch):
    qat = quantize_model(cnn(), "int8")
    qat(X, training=True)
    monkeypatch.setattr(qat.get_layer("quant_relu"), "after", None)
    path = tmp_path / "m.tflite"
    with pytest.raises(FellBackToFloat, match=r"operations in float: .*allow_float"):
        export_litert(qat, path)
    assert not path.exists()
    report = export_litert(qat, path, strict=False)
    assert report.float_ops
    report = export_litert(qat, path, allow_float=["*"])
    assert {one.reason for one in report.float_ops} == {"in `allow_float`"}


def test_what_can_only_be_float_is_allowed_and_listed(tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 6))
    x = layers.LayerNormalization(name="norm")(layers.Dense(6, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    qat = quantize_model(model, "int8")
    x = np.random.default_rng(0).normal(size=(16, 4, 6)).astype("float32")
    qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert {one.layer for one in report.float_ops} == {"norm"}
    assert "in float" in report.render()


def test_several_inputs_by_name_batches_and_int8_outside(tmp_path):
    one, other = keras.Input((12,), name="b"), keras.Input((3,), name="a")
    joined = layers.Concatenate()([layers.Dense(4)(one), layers.Dense(4)(other)])
    model = keras.Model({"b": one, "a": other}, [layers.Dense(2)(joined), joined])
    qat = quantize_model(model, "int8")
    given = {"b": FLAT, "a": FLAT[:, :3]}
    qat(given, training=True)
    path = tmp_path / "m.tflite"
    report = export_litert(qat, path, batch_size=5, io_dtype="int8", check_data=given)
    assert report.agreement is None
    assert report.ops[0][0] != "QUANTIZE"
    found, expected = run_litert(path, given), qat(given)
    for got, want in zip(found, expected, strict=True):
        assert got.shape == want.shape
        assert np.abs(got - array(want)).max() <= 2.01 * np.ptp(array(want)) / 200


def test_a_picture(tmp_path):
    qat = trained(quantize_model(mlp(), "int8"), FLAT)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    report.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 1000
    assert report.to_dict()["mode"] == "int8"
    assert "quant_hidden" in report._repr_html_()
    report = export_litert(qat, tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="`check_data` must have been given"):
        report.plot()


def test_bad_input_leaves_no_file(tmp_path):
    model, path = mlp(), tmp_path / "m.tflite"
    qat = quantize_model(model, "int8")
    broken = FLAT.copy()
    broken[0, 0] = np.nan
    cases = [
        (qat, {}, r"`model` must have been trained.*3 of 3"),
        (model, {"mode": "int8"}, "`calibration_data` must be samples"),
        (model, {"mode": "int4"}, "`mode` must be one of"),
        (model, {"mode": "int8", "calibration_data": X}, r"of the shapes.*12"),
        (model, {"mode": "int8", "calibration_data": broken}, "must be finite"),
        (model, {"check_data": FLAT[:0]}, "`check_data` must be arrays"),
        (model, {"io_dtype": "int8"}, "`io_dtype` must be 'float32'"),
        (model, {"batch_size": 0}, "`batch_size` must be"),
    ]
    for given, arguments, text in cases:
        with pytest.raises(ValueError, match=text):
            export_litert(given, path, **arguments)
    with pytest.raises(ValueError, match="a path in a folder that exists"):
        export_litert(model, tmp_path / "no" / "m.tflite")
    with pytest.raises(ValueError, match="`calibration_data` must be None for mode="):
        export_litert(model, path, mode="dynamic", calibration_data=FLAT)
    few = quantize_model(model, "int4-weights")
    with pytest.raises(ValueError, match=r"`mode` must be.*4-bit grid.*hidden"):
        export_litert(few, path, mode="dynamic")
    narrow = quantize_model(model, "int4")
    narrow(FLAT, training=True)
    with pytest.raises(ValueError, match="activations of 8 or 16 bits"):
        export_litert(narrow, path, mode="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_grid_that_is_not_in_the_file_is_refused(tmp_path):
    qat = trained(quantize_model(mlp(), QuantizeConfig(weight_bits=4)), FLAT)
    export_litert(qat, tmp_path / "m.tflite")
    content = (tmp_path / "m.tflite").read_bytes()
    rows = np.random.default_rng(0).integers(-7, 8, (16, 12))
    with pytest.raises(grids.GridLost, match="hidden"):
        grids.keep(content, [grids.TrainedGrid("hidden", rows, 4)])


def test_running_a_file_checks_its_inputs(tmp_path):
    export_litert(mlp(), tmp_path / "m.tflite")
    with pytest.raises(ValueError, match=r"`x` must be arrays of the shapes.*12"):
        run_litert(tmp_path / "m.tflite", X)
    with pytest.raises(ValueError, match="a file that exists"):
        run_litert(tmp_path / "other.tflite", FLAT)
    with pytest.raises(ValueError, match="`threads` must be"):
        run_litert(tmp_path / "m.tflite", FLAT, threads=0)


def test_without_litert_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(litert_file.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'keras-fitkit\[litert\]'"):
        litert_file.interpreter_module()
