"""LiteRT files: made, read again, compared."""

import inspect
import sys

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import (
    FellBackToFloat,
    QuantizeConfig,
    QuantizeWrapper,
    calibrate,
    export_litert,
    grids,
    litert_file,
    quantize_model,
    run_litert,
    tables,
)
from tests.quantization.models import FLAT, X, array, cnn, integers, mlp, trained
from tests.tools import warns_once

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
    assert sum(report.histogram) == 48 * 5
    assert "outputs, by steps off: 0:" in report.render()
    found = run_litert(tmp_path / "m.tflite", X)
    step = report.max_error * np.ptp(predicted(qat)) + 1e-6
    assert np.abs(found - predicted(qat)).max() <= step


def after_two(layer):
    """A layer that takes two tensors, on a tensor and what a Dense makes of it."""
    return lambda x: layer([x, layers.Dense(x.shape[-1], name=f"by_{layer.name}")(x)])


@keras.saving.register_keras_serializable("tests.quantization")
def own_activation(x):
    return x * keras.ops.tanh(x)


# What is called on one tensor of each shape; each gives an output of the model.
LAYERS = {
    (12,): {
        "dense": layers.Dense(8),
        "relu": layers.Dense(8, "relu"),
        "sigmoid": layers.Dense(8, "sigmoid"),
        "tanh": layers.Dense(8, "tanh"),
        "probabilities": layers.Dense(8, "softmax"),
        "gelu": layers.Dense(8, "gelu"),
        "silu": layers.Dense(8, "silu"),
        "hard_silu": layers.Dense(8, "hard_silu"),
        "leaky": layers.LeakyReLU(0.2),
        "prelu": layers.PReLU(alpha_initializer="uniform"),
        "relu6": layers.ReLU(6.0),
        "softmax": layers.Softmax(),
        "elu": layers.ELU(0.5),
        "clipped": layers.ReLU(max_value=1.5),
        "own": layers.Activation(own_activation),
        "norm": layers.BatchNormalization(),
        "reshape": layers.Reshape((3, 4)),
        "repeat": layers.RepeatVector(3),
        "add": after_two(layers.Add()),
        "subtract": after_two(layers.Subtract()),
        "multiply": after_two(layers.Multiply()),
        "maximum": after_two(layers.Maximum()),
        "minimum": after_two(layers.Minimum()),
        "concatenate": after_two(layers.Concatenate()),
        "mean": after_two(layers.Average()),
    },
    (8, 3): {
        "conv1d": layers.Conv1D(4, 3),
        "transposed1d": layers.Conv1DTranspose(4, 3, 2),
        "depthwise1d": layers.DepthwiseConv1D(3),
        "separable1d": layers.SeparableConv1D(5, 3),
        "einsum": layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d"),
        "dot": after_two(layers.Dot(axes=(2, 2))),
        "average1d": layers.AveragePooling1D(2),
        "mean1d": layers.GlobalAveragePooling1D(),
        "double1d": layers.UpSampling1D(2),
        "permute": layers.Permute((2, 1)),
        "each": layers.TimeDistributed(layers.Dense(4)),
    },
    (8, 8, 3): {
        "conv": layers.Conv2D(4, 3, padding="same"),
        "strides": layers.Conv2D(4, 3, strides=2),
        "dilated": layers.Conv2D(4, 3, dilation_rate=2),
        "groups": layers.Conv2D(6, 3, groups=3),
        "transposed": layers.Conv2DTranspose(4, 3),
        "biased": layers.Conv2DTranspose(4, 2, 2, bias_initializer="normal"),
        "depthwise": layers.DepthwiseConv2D(3),
        "separable": layers.SeparableConv2D(5, 3),
        "slopes": layers.PReLU(alpha_initializer="uniform", shared_axes=[1, 2]),
        "average": layers.AveragePooling2D(2),
        "maximum": layers.MaxPooling2D(2),
        "mean": layers.GlobalAveragePooling2D(),
        "largest": layers.GlobalMaxPooling2D(),
        "pad": layers.ZeroPadding2D(1),
        "crop": layers.Cropping2D(1),
        "double": layers.UpSampling2D(2),
        "bilinear": layers.UpSampling2D(2, interpolation="bilinear"),
    },
}


@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_each_layer_is_at_most_a_step_away(shape, tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input(shape)
    # Something to quantize where the layer has no kernel of its own.
    first = layers.Dense(shape[-1], name="first")(inputs)
    heads = {name: call(first) for name, call in LAYERS[shape].items()}
    qat = quantize_model(keras.Model(inputs, list(heads.values())), "int8")
    x = np.random.default_rng(6).normal(size=(32, *shape)).astype("float32")
    for _ in range(3):
        qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert report.float_ops == ()
    far = [one for one in report.layers if one.max_steps > 1.01]
    assert not far
    low, high = (array(end) for end in qat.get_layer("quant_first").after.ends())
    found = run_litert(tmp_path / "m.tflite", x)
    for name, want, got in zip(heads, qat(x), found, strict=True):
        step = max(np.ptp(array(want)), high - low) / 254
        assert np.abs(got - array(want)).max() <= 1.05 * step, name


ACTIVATIONS = sorted(
    name
    for name, one in vars(keras.activations).items()
    if inspect.isfunction(one)
    and name not in ("get", "serialize", "deserialize", "sparsemax", "threshold")
)


def test_every_activation_of_keras_is_at_most_a_step_away(tmp_path):
    """All but sparsemax, which mixes values, and threshold, which wants arguments."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((12,))
    heads = [
        layers.Activation(name, name=name)(layers.Dense(8)(inputs))
        for name in ACTIVATIONS
    ]
    qat, left = quantize_model(keras.Model(inputs, heads), return_report=True)
    assert len(ACTIVATIONS) > 25
    assert list(left) == []
    for _ in range(3):
        qat(2 * FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=2 * FLAT)
    assert report.float_ops == ()
    assert [one for one in report.layers if one.max_steps > 1.01] == []


def test_an_activation_that_mixes_values_is_refused_by_name(tmp_path):
    model = keras.Sequential([keras.Input((12,)), layers.Dense(4, "sparsemax")])
    qat, left = quantize_model(model, return_report=True)
    assert [one.reason for one in left] == [
        "LiteRT has no int8 kernel for its activation sparsemax, which mixes values"
    ]
    qat(FLAT, training=True)
    with pytest.raises(FellBackToFloat, match="operations in float"):
        export_litert(qat, tmp_path / "m.tflite")
    assert not tables.works_alone(keras.activations.softmax)
    assert not tables.works_alone(keras.activations.glu)
    assert tables.works_alone(keras.activations.mish)


def test_an_activation_without_a_grid_behind_it_is_refused(tmp_path):
    layer = QuantizeWrapper(layers.Dense(4, "elu", name="one"), quantize_output=False)
    model = keras.Sequential([keras.Input((12,)), layer])
    model(FLAT, training=True)
    with pytest.raises(ValueError, match=r"grids before and after.*one without"):
        export_litert(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [2, 3])
def test_tables_in_a_chain_and_averages(count, tmp_path):
    """Two functions after one another, ranges that are joined, several at a time."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((12,))
    parts = [layers.Dense(6, name)(inputs) for name in ("elu", "mish", "selu")[:count]]
    x = layers.Average(name="mean")(parts)
    x = layers.Concatenate()([layers.Activation("softplus")(x), parts[0]])
    model = keras.Model(inputs, layers.ELU()(layers.Dense(5, "softsign")(x)))
    qat = quantize_model(model, "int8")
    for _ in range(3):
        qat(FLAT, training=True)
    path = tmp_path / "m.tflite"
    report = export_litert(qat, path, batch_size=3, io_dtype="int8", check_data=FLAT)
    assert report.float_ops == ()
    (mean,) = [one for one in report.layers if one.name == "quant_mean"]
    assert mean.max_steps <= 1.01
    assert max(one.max_steps for one in report.layers) <= 2.01
    expected = predicted(model, FLAT)
    assert np.abs(predicted(qat, FLAT) - expected).max() < 0.1 * np.ptp(expected)


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
            scale = array(wrapper.grids.scale(index))
            n = 2 ** (config.weight_bits - 1) - 1
            codes = np.clip(np.round(weight / scale), -n, n)
            wanted = np.sort(np.abs(codes).ravel())
            assert any(
                one.size == wanted.size and np.array_equal(one, wanted) for one in kept
            )


@pytest.mark.filterwarnings("ignore:The weights of")  # not trained
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
    assert "in float: MEAN of norm" in report.render()  # not with integers
    assert max(one.max_steps for one in report.layers) <= 1.01
    norm = qat.get_layer("norm")
    assert norm.epsilon == 1e-3  # as it was
    assert "call" not in vars(norm)


def test_the_last_layer_is_named_too(tmp_path):
    """Its operation has the name of the output in the file."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    first = layers.Dense(6, name="first")(inputs)
    norm = layers.LayerNormalization(name="norm")(first)
    twice = layers.Lambda(lambda x: x * 2.0, output_shape=(6,), name="twice")(first)
    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    qat = quantize_model(keras.Model(inputs, norm), "int8")
    qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite")
    assert {one.layer for one in report.float_ops} == {"norm"}
    qat = quantize_model(keras.Model(inputs, [norm, twice]), "int8")
    qat(x, training=True)
    with pytest.raises(FellBackToFloat, match="MUL of twice"):
        export_litert(qat, tmp_path / "m.tflite")
    report = export_litert(qat, tmp_path / "m.tflite", allow_float=["twice"])
    assert {one.layer for one in report.float_ops} == {"norm", "twice"}


def test_what_was_excluded_may_be_float(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", padding="same", name="one")(inputs)
    x = layers.MaxPooling2D(2, name="largest")(x)
    x = layers.Conv2D(4, 3, name="two")(x)
    x = layers.Flatten()(layers.AveragePooling2D(2, name="pool")(x))
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    qat = quantize_model(model, exclude=["one", "two", "pool"])
    qat(X, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    found = {one.layer for one in report.float_ops}
    assert {"one", "two", "largest"} <= found <= {"one", "two", "largest", "pool"}


def test_layers_in_nested_models_are_compared(tmp_path):
    inner = mlp()
    inputs = keras.Input((12,))
    x = layers.Dense(12, "relu", name="first")(inputs)
    qat = quantize_model(keras.Model(inputs, inner(x)))
    qat(FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    names = [one.name for one in report.layers]
    assert names[-2:] == ["mlp/quant_hidden", "mlp/quant_logits"]
    assert max(one.max_steps for one in report.layers) <= 2.01


def test_a_model_of_mixed_precision_becomes_integers(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = cnn()
    finally:
        keras.config.set_dtype_policy("float32")
    qat = quantize_model(made)
    qat(X, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=X)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 2.01
    assert qat.get_layer("quant_conv").compute_dtype == "bfloat16"  # as it was


def test_what_the_converter_cannot_do_is_one_clear_error(tmp_path):
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, keras.ops.fft2((inputs, inputs))[0])
    with pytest.raises(ValueError, match=r"`model` must be one that .* converter"):
        export_litert(model, tmp_path / "m.tflite")
    free = keras.Sequential([keras.Input((None, 3)), layers.Dense(2)])
    with pytest.raises(ValueError, match="inputs have known sizes"):
        export_litert(free, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


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


def test_an_output_that_floats_are_made_of_stays_float_outside(tmp_path):
    inputs = keras.Input((12,))
    x = layers.Dense(4)(inputs)
    model = keras.Model(inputs, [x, layers.LayerNormalization()(x)])
    qat = quantize_model(model, "int8")
    qat(FLAT, training=True)
    with pytest.raises(ValueError, match="`io_dtype` must be 'float32' for a model"):
        export_litert(qat, tmp_path / "m.tflite", io_dtype="int8")
    assert list(tmp_path.iterdir()) == []
    export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)


def test_a_picture(tmp_path):
    qat = trained(quantize_model(mlp(), "int8"), FLAT)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    figure = report.plot(tmp_path / "layers.png")
    assert len(figure.axes) == 2
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
        (model, {"check_data": np.array([["a"] * 12])}, "`check_data` must be numbers"),
    ]
    for given, arguments, text in cases:
        with pytest.raises((TypeError, ValueError), match=text):
            export_litert(given, path, **arguments)
    with pytest.raises(ValueError, match="a path in a folder that exists"):
        export_litert(model, tmp_path / "no" / "m.tflite")
    with pytest.raises(ValueError, match="a file, not a folder"):
        export_litert(model, tmp_path)
    for name in ("a\0b", 300 * "a"):
        with pytest.raises(ValueError, match="`path` must be a path that can be writt"):
            export_litert(model, tmp_path / name)
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


def test_a_layer_that_is_dead_has_a_grid_that_litert_runs(tmp_path):
    model = mlp()
    model.layers[0].bias.assign(np.full(16, -99.0))
    qat = quantize_model(model)
    qat(FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    assert report.float_ops == ()
    assert max(one.max_steps for one in report.layers) <= 1.01


def test_what_litert_cannot_run_is_one_clear_error(tmp_path, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("failed to create XNNPACK runtime")

    module = sys.modules[export_litert.__module__]  # the name is the function's
    monkeypatch.setattr(module, "LiteRTModel", broken)
    with pytest.raises(ValueError, match=r"`model` must .* LiteRT runs.*XNNPACK"):
        export_litert(mlp(), tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_attention_of_every_kind_may_be_float(tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 8))
    x = layers.GroupQueryAttention(4, 4, 2, name="grouped")(inputs, inputs)
    x = layers.Attention(name="plain")([x, x])
    qat, left = quantize_model(
        keras.Model(inputs, layers.Dense(3, name="last")(x)), return_report=True
    )
    assert [one.name for one in left] == ["plain"]
    assert len(qat.get_layer("quant_grouped").kernels) == 4
    x = np.random.default_rng(0).normal(size=(16, 4, 8)).astype("float32")
    qat(x, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=x)
    assert {one.layer for one in report.float_ops} == {"quant_grouped", "plain"}


def test_a_training_that_ends_before_start_step_is_told(tmp_path):
    qat = quantize_model(mlp(), QuantizeConfig(start_step=2))
    for _ in range(2):
        qat(FLAT, training=True)
    with warns_once(UserWarning, "fewer steps than its `start_step`"):
        export_litert(qat, tmp_path / "m.tflite")
    qat(FLAT, training=True)
    report = export_litert(qat, tmp_path / "m.tflite", check_data=FLAT)
    assert max(one.max_steps for one in report.layers) <= 1.01


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
    for content in (b"", b"no model at all"):
        (tmp_path / "bad.tflite").write_bytes(content)
        with pytest.raises(ValueError, match=r"`path` must be a LiteRT file.*damaged"):
            run_litert(tmp_path / "bad.tflite", FLAT)


def test_without_litert_it_says_what_to_install(monkeypatch, tmp_path):
    path = tmp_path / "there.tflite"
    path.write_bytes(b"of somebody else")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(litert_file.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'keras-fitkit\[litert\]'"):
        litert_file.interpreter_module()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    for call in (
        lambda: export_litert(mlp(), tmp_path / "m.tflite"),
        lambda: run_litert(path, FLAT),
    ):
        with pytest.raises(ImportError, match=r"pip install 'keras-fitkit\[litert\]'"):
            call()
    assert list(tmp_path.iterdir()) == [path]


def test_few_bits_that_nothing_has_fitted_are_warned_of(tmp_path):
    path = tmp_path / "m.tflite"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = np.arange(len(FLAT)) % 5

    def warned(model):
        with warns_once(UserWarning, "2 layers .'hidden', .* nothing has fitted"):
            export_litert(model, path)

    def quiet(model):
        export_litert(model, path)

    model = quantize_model(mlp(), "int4-weights")
    warned(model)
    quiet(calibrate(model, FLAT, verbose=0))
    quiet(calibrate(model, FLAT, ["steps"], verbose=0))
    warned(calibrate(model, FLAT, ["bias_correction"], verbose=0))
    other = keras.models.clone_model(model)
    for layer in other.layers:  # weights that the steps do not belong to
        if isinstance(layer, QuantizeWrapper):
            layer.layer.kernel.assign(4.0 * layer.layer.kernel)
    warned(other)
    quiet(quantize_model(mlp(), "int8-weights"))
    half = calibrate(model, FLAT, verbose=0)
    half.layers[-1].grids.begin()  # a layer whose step is best as it begins
    quiet(half)
    late = QuantizeConfig(weight_bits=4, activation_bits=None, start_step=100)
    for trained_, check in ((model, quiet), (quantize_model(mlp(), late), warned)):
        trained_.compile("sgd", loss)
        trained_.fit(FLAT, labels, verbose=0)
        check(trained_)
    empty = mlp()
    for layer in empty.layers:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    quiet(quantize_model(empty, "int4-weights"))
