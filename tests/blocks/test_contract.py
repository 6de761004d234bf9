"""What holds for every block: the rows are in cases.py."""

import inspect

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.blocks.block import Block
from tests.blocks.cases import CASES, array, built, model_of, needs_channels_first, run

ROWS = CASES
if keras.backend.backend() == "jax":
    # It compiles every operation anew for every shape. Variants of a block differ in
    # the plain layers that they are made of: one of each block is enough.
    ROWS = {}
    for _name, _case in CASES.items():
        if not any(one.startswith(_name.partition("-")[0]) for one in ROWS):
            ROWS[_name] = _case

each = pytest.mark.parametrize("case", ROWS.values(), ids=ROWS.keys())
images = pytest.mark.parametrize(
    "case",
    [c for c in ROWS.values() if c.image],
    ids=[n for n in ROWS if "Dense" not in n],
)


def composites():
    values = [getattr(kf.blocks, name) for name in kf.blocks.__all__]
    return {v.__name__ for v in values if inspect.isclass(v) and issubclass(v, Block)}


def test_the_table_has_every_composite_block():
    assert {name.partition("-")[0] for name in CASES} == composites()


@each
def test_number_of_parameters_and_shape_of_the_output(case):
    layer = built(case)
    assert layer.count_params() == case.params
    assert layer(case.data()).shape == case.output_shape()


@each
def test_shapes_are_told_without_weights(case):
    layer = case.make()
    assert layer.compute_output_shape(case.input_shape()) == case.output_shape()
    assert not layer.built
    unknown = case.input_shape(None, known=False)
    assert layer.compute_output_shape(unknown) == case.output_shape(None, known=False)


@each
def test_a_model_of_unknown_size_runs(case):
    inputs = keras.Input(case.input_shape(None, known=False)[1:])
    layer = case.make()
    outputs = layer(inputs)
    assert outputs.shape == case.output_shape(None, known=False)
    found = keras.Model(inputs, outputs)(case.data())
    assert found.shape == case.output_shape()
    np.testing.assert_allclose(array(found), array(layer(case.data())), atol=1e-5)


@each
def test_layer_builder_and_expansion_are_the_same(case):
    layer, data = built(case), case.data()
    model, expected = model_of(case, layer), array(layer(data))
    assert model.count_params() == case.params
    assert len(model.layers) == len(layer.layers) + 1
    np.testing.assert_allclose(array(model(data)), expected, atol=1e-5)
    plain = layer.expand()
    np.testing.assert_allclose(array(plain(data)), expected, atol=1e-5)
    inner = [
        one for one in model.layers if not isinstance(one, keras.layers.InputLayer)
    ]
    assert {type(one) for one in inner} == {type(one) for one in plain.layers}
    assert not any(isinstance(one, Block) for one in [*inner, *plain.layers])


@each
def test_expansion_has_weights_of_its_own(case):
    layer = built(case, name="mine")
    before = [array(weight).copy() for weight in layer.weights]
    plain = layer.expand()
    assert all(one.name.startswith("mine_") for one in plain.layers)
    for one in plain.layers:
        one.set_weights([weight * 0 for weight in one.get_weights()])
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(array(weight), value)


@each
def test_save_and_load_without_custom_objects(case, tmp_path):
    inputs = keras.Input(case.input_shape()[1:])
    layer = built(case)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(again(case.data())), array(model(case.data())))


@each
def test_config_is_the_arguments_and_comes_back(case):
    layer = case.make(name="mine")
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    own = set(config) - {"name", "dtype", "trainable"}
    assert {
        a for a in inspect.signature(type(layer)).parameters if a != "kwargs"
    } <= own
    for name in own:  # all of it is taken by the constructor
        assert type(layer).from_config({**config, name: config[name]})


@images
def test_channels_first_is_the_same_transposed(case):
    needs_channels_first()
    last, first = (
        built(case, data_format="channels_last"),
        case.make(data_format="channels_first"),
    )
    first.build((None, case.channels, None, None))
    first.set_weights(last.get_weights())
    found = run(first, case.data().transpose(0, 3, 1, 2))
    expected = array(last(case.data())).transpose(0, 3, 1, 2)
    assert found.shape == first.compute_output_shape((2, case.channels, 9, 6))
    np.testing.assert_allclose(array(found), expected, atol=2e-5)


@each
def test_mixed_precision_reaches_the_inside(case):
    layer = case.make(dtype="mixed_bfloat16")
    found = layer(case.data())
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    for one in [*layer.layers, *layer.expand().layers]:
        assert one.compute_dtype == "bfloat16"


@each
def test_training_reaches_the_inside_and_freezing_too(case):
    layer = built(case)
    norms = [
        one for one in layer.layers if isinstance(one, keras.layers.BatchNormalization)
    ]
    before = [array(one.moving_mean).copy() for one in norms]
    layer(case.data(), training=False)
    for one, value in zip(norms, before, strict=True):
        np.testing.assert_array_equal(array(one.moving_mean), value)
    layer.trainable = False
    assert layer.trainable_weights == []
    layer(case.data(), training=True)
    for one, value in zip(norms, before, strict=True):
        np.testing.assert_array_equal(array(one.moving_mean), value)
    layer.trainable = True
    layer(case.data(), training=True)
    for one, value in zip(norms, before, strict=True):
        assert not np.array_equal(array(one.moving_mean), value)


@each
def test_frozen_from_the_start(case):
    layer = case.make(trainable=False)
    layer.build(case.input_shape(None))
    assert layer.trainable_weights == []
    assert all(not one.trainable for one in layer.layers)
    assert all(not one.trainable for one in layer.expand().layers)


@each
def test_names_inside_are_unique(case):
    names = [one.name for one in built(case).layers]
    assert len(set(names)) == len(names)


@each
def test_paths_begin_with_the_name_of_the_block(case):
    layer = built(case, name="mine")
    for weight in layer.weights:
        owner = weight.path.split("/")
        assert owner[0] == "mine"
        assert len(owner) == 3


def test_expand_needs_weights():
    layer = kf.blocks.ConvNormAct(4)
    with pytest.raises(ValueError, match=r"Layer 'conv_norm_act' must be built\."):
        layer.expand()


def test_unknown_channels_are_refused():
    with pytest.raises(ValueError, match=r"known number of channels\. Received"):
        kf.blocks.ConvNormAct(4, name="c").compute_output_shape((None, 4, 4, None))


def test_summary_shows_the_inside():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, kf.blocks.ConvNormAct(4, name="c")(inputs))
    lines: list[str] = []
    model.summary(expand_nested=True, print_fn=lines.append)
    assert "norm" in "\n".join(lines)


def test_a_model_of_blocks_trains():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    y = (x[..., 0].mean((1, 2)) > 0).astype("int64")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            # No 1x1 convolution with strides, as one in RepConv: where torch computes
            # with oneDNN in one thread, the gradient of Keras's own breaks the heap.
            kf.blocks.RepConv(8),
            kf.blocks.InvertedResidual(8, strides=2, expansion=2, drop_rate=0.1),
            kf.blocks.InvertedResidual(8, expansion=2, drop_rate=0.1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    losses = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
