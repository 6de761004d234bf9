"""factorize: ranks, costs and what is kept, against NumPy's own SVD."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_fitkit as kf
from keras_fitkit.blocks import _factor_schemes as forms
from tests.blocks.cases import randomized
from tests.blocks.models import close, images, nested, nested_data, outputs

layers = keras.layers


def model_of(*parts, shape=(9, 8, 4)):
    return randomized(keras.Sequential([keras.Input(shape), *parts]))


def low_rank(shape, rank, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    found = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    return found.reshape(shape) / rows**0.5


def rows_of(report):
    return {row.name: row for row in report.layers}


def test_a_dense_layer_by_hand():
    model = model_of(layers.Dense(24, "relu", name="a"), shape=(32,))
    kernel, bias = model.get_weights()
    small, report = kf.factorize(model, rank=5, return_report=True)
    left, sizes, right = np.linalg.svd(kernel)
    data = images(3, 32)
    expected = np.maximum(data @ (left[:, :5] * sizes[:5]) @ right[:5] + bias, 0)
    close(outputs(small, data), expected)
    assert [one.name for one in small.layers[1:]] == ["a_down", "a_up"]
    row = rows_of(report)["a"]
    assert (row.scheme, row.rank, row.full_rank) == ("dense", 5, 24)
    assert (row.params_before, row.params_after) == (32 * 24 + 24, 5 * (32 + 24) + 24)
    assert (row.macs_before, row.macs_after) == (32 * 24, 5 * (32 + 24))
    kept = np.square(sizes[:5]).sum() / np.square(sizes).sum()
    assert row.variance == pytest.approx(kept, abs=1e-6)
    assert report.params_after == small.count_params() == row.params_after


EINSUMS = {
    "projection": ("abc,cd->abd", (5, 16), (5, 12), "d"),
    "heads": ("abc,cde->abde", (5, 16), (5, 3, 8), "de"),
    "heads back": ("abcd,cde->abe", (5, 3, 8), (5, 16), "e"),
    "ellipsis": ("...x,xy->...y", (5, 16), 12, "y"),
    "unknown length": ("abc,cd->abd", (None, 16), (None, 12), None),
}


@pytest.mark.parametrize("case", EINSUMS.values(), ids=EINSUMS.keys())
def test_einsum_layers(case, tmp_path):
    equation, shape, output, bias = case
    layer = layers.EinsumDense(equation, output, activation="relu", bias_axes=bias)
    inputs = keras.Input(shape)
    model = randomized(keras.Model(inputs, layer(inputs)))
    data = images(2, *(4 if one is None else one for one in shape))
    _, report = kf.factorize(model, explained_variance=1.0, return_report=True)
    assert report.changed == ()
    kernel = low_rank(layer.kernel.shape, 1)
    flat = kernel.reshape(-1, kernel.shape[-1])
    if equation.startswith("abc,cde"):
        kernel = low_rank((16, 24), 2).reshape(16, 3, 8)
    elif len(flat) < kernel.size:
        kernel = low_rank(flat.shape, 2).reshape(kernel.shape)
    model.set_weights([kernel, *model.get_weights()[1:]])
    small, report = kf.factorize(model, explained_variance=0.9999, return_report=True)
    assert [row.rank for row in report.layers] == [2]
    close(outputs(small, data), outputs(model, data), 1e-4)
    small.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    close(outputs(again, data), outputs(small, data), 0)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, (2, 1)])
@pytest.mark.parametrize("size", [1, 3, (3, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_convolution_of_low_rank_is_found(size, strides, padding, weighted):
    layer = layers.Conv2D(16, size, strides=strides, padding=padding, name="c")
    model = model_of(layer, shape=(9, 8, 12))
    kernel = low_rank(layer.kernel.shape, 3)
    model.set_weights([kernel, model.get_weights()[1]])
    data = images(4, 9, 8, 12)
    small, report = kf.factorize(
        model,
        explained_variance=0.99999,
        data=data if weighted else None,
        return_report=True,
    )
    row = rows_of(report)["c"]
    assert (row.scheme, row.rank) == ("channel", 3)
    close(outputs(small, data), outputs(model, data), 1e-4)
    pixels = int(np.prod(model.output_shape[1:3]))
    assert row.macs_before == pixels * kernel.size
    assert row.macs_after == pixels * 3 * (kernel[..., 0].size + 16)
    assert report.macs_after == row.macs_after


def test_a_separable_kernel_is_found_in_space():
    """Column times row, other channels for each: rank 2 in space, 6 in the channels."""
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(3, 12, 2)), rng.normal(size=(2, 3, 16))
    kernel = np.einsum("hir,rwo->hwio", down, up)
    model = model_of(layers.Conv2D(16, 3, strides=2, name="c"), shape=(9, 8, 12))
    model.set_weights([kernel, model.get_weights()[1]])
    small, report = kf.factorize(model, explained_variance=0.99999, return_report=True)
    row = rows_of(report)["c"]
    assert (row.scheme, row.rank) == ("spatial", 2)
    # 9 x 8 pixels: 4 rows and 8 columns between the two, 4 x 3 after them
    assert row.macs_after == 2 * (3 * 12 * 4 * 8 + 3 * 16 * 4 * 3)
    data = images(2, 9, 8, 12)
    close(outputs(small, data), outputs(model, data), 1e-4)


def test_only_what_saves_is_factorized():
    model = model_of(
        layers.Conv2D(8, 3, groups=2, name="grouped"),
        layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
        layers.Flatten(),
        layers.Dense(4, name="small"),
    )
    same, report = kf.factorize(model, rank=4, return_report=True)
    assert {row.name: row.reason for row in report.layers} == {
        "grouped": "2 groups: what is left of each is small",
        "small": "rank 4 does not save MACs",
    }
    close(outputs(same, images()), outputs(model, images()), 0)


def test_data_keeps_what_the_inputs_use():
    """Inputs with two directions alone: rank 2 is enough whatever the kernel is."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(64, 2)) @ rng.normal(size=(2, 32))).astype("float32")
    model = model_of(layers.Dense(24, name="a"), shape=(32,))
    plain = kf.factorize(model, rank=2)
    weighted, report = kf.factorize(model, rank=2, data=data, return_report=True)
    expected = outputs(model, data)
    errors = [
        np.square(outputs(one, data) - expected).sum() for one in (plain, weighted)
    ]
    assert errors[1] < 1e-3 * errors[0]
    assert rows_of(report)["a"].variance > 0.9999


def test_data_reaches_nested_models_and_shared_layers():
    model, data = nested(), nested_data()
    small, report = kf.factorize(model, rank=1, data=data, return_report=True)
    names = {row.name for row in report.layers}
    assert names == {"inner/inner_conv", "frozen", "head"}
    assert {row.name for row in report.changed} == {"frozen", "head"}
    assert not small.get_layer("frozen_down").trainable
    assert small(keras.tree.map_structure(keras.ops.convert_to_tensor, data))[
        "head"
    ].shape == (2, 3)


def test_data_of_a_model_with_a_dict_of_inputs():
    model, data = nested(), nested_data()
    kf.factorize(model, rank=1, data={**data, "more": data["left"]})
    wrong = {"left": data["left"], "rihgt": data["right"]}
    with pytest.raises(ValueError, match="Its inputs are left, right"):
        kf.factorize(model, rank=1, data=wrong)


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9])
def test_target_macs_is_reached(target):
    model = model_of(
        layers.Conv2D(24, 3, padding="same", name="c"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(64, name="d"),
        layers.Dense(64, name="e"),
    )
    _, report = kf.factorize(model, target_macs=target, return_report=True)
    assert report.macs_after <= target * report.macs_before
    assert report.macs_after > 0.8 * target * report.macs_before
    assert report.macs_before == 72 * 9 * 4 * 24 + 24 * 64 + 64 * 64


def test_composite_layers_count():
    model = model_of(kf.blocks.SeparableBlock(8), layers.Dense(8, name="d"))
    _, report = kf.factorize(model, rank=1, return_report=True)
    assert report.macs_before == 72 * (9 * 4 + 4 * 8 + 8 * 8)
    assert report.macs_after == 72 * (9 * 4 + 4 * 8 + 8 + 8)


def test_bad_targets():
    model = model_of(layers.Dense(8), shape=(8,))
    with pytest.raises(ValueError, match=r"`target_macs` must be at least 0\.250"):
        kf.factorize(model, target_macs=0.01)
    unknown = model_of(layers.Conv2D(8, 3), shape=(None, None, 4))
    with pytest.raises(ValueError, match="MACs are not known"):
        kf.factorize(unknown, target_macs=0.5)
    _, report = kf.factorize(unknown, rank=1, return_report=True)
    assert (report.macs_before, report.layers[0].macs_after) == (None, None)
    assert report.layers[0].rank == 1
    with pytest.raises(ValueError, match=r"one of the three.*rank=None"):
        kf.factorize(model)
    with pytest.raises(ValueError, match="a model with a Dense, EinsumDense or Conv2D"):
        kf.factorize(model_of(layers.ReLU(), shape=(8,)), rank=1)


def test_layers_and_exclude():
    model = model_of(
        layers.Dense(16, name="a"), layers.Dense(16, name="b"), shape=(16,)
    )
    for own in ({"layers": "a"}, {"exclude": "b"}, {"layers": [model.get_layer("a")]}):
        _, report = kf.factorize(model, rank=2, return_report=True, **own)
        assert [row.name for row in report.layers] == ["a"]
    with pytest.raises(ValueError, match="`layers` must be patterns that match"):
        kf.factorize(model, rank=2, layers="c")


@given(seed=st.integers(0, 20), shape=st.sampled_from([(12, 20), (20, 12)]))
def test_error_falls_with_the_rank(seed, shape):
    rng = np.random.default_rng(seed)
    kernel, data = rng.normal(size=shape), rng.normal(size=(30, shape[0]))
    data *= rng.uniform(0, 2, shape[0])
    from keras_fitkit.blocks._svd import decompose

    for moments in (None, data.T @ data / len(data)):
        parts = decompose(kernel, moments)
        errors, kept = [], []
        for rank in range(1, 13):
            down, up = parts.factors(rank)
            lost = kernel - down @ up
            errors.append(np.square(lost if moments is None else data @ lost).sum())
            kept.append(parts.variance(rank))
            assert parts.rank_for(kept[-1]) <= rank
        assert errors == sorted(errors, reverse=True)
        assert kept == sorted(kept)
        total = np.square(kernel if moments is None else data @ kernel).sum()
        np.testing.assert_allclose(1 - np.array(errors) / total, kept, atol=1e-5)


def test_a_rank_above_all_is_refused():
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(24)])
    with pytest.raises(ValueError, match="`rank` must be at most 24"):
        kf.factorize(model, rank=25)


def test_what_leaves_nothing_is_named():
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(24, name="one")])
    with pytest.raises(ValueError, match="`exclude` must be a choice that leaves some"):
        kf.factorize(model, rank=2, exclude=["*"])
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, kf.blocks.ConvNormAct(4)(inputs))
    with pytest.raises(ValueError, match=r"opened by `kf\.expand\(model\)`"):
        kf.factorize(model, rank=2)


def test_data_by_name_goes_to_its_input():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    z, a = keras.Input((16,), name="z"), keras.Input((16,), name="a")
    both = [keras.layers.Dense(16, name=f"on_{one.name}")(one) for one in (z, a)]
    model = keras.Model([z, a], keras.layers.Concatenate()(both))
    thin = rng.normal(size=(64, 3)).astype("float32")
    xz = thin @ rng.normal(size=(3, 16)).astype("float32")
    xa = thin @ rng.normal(size=(3, 16)).astype("float32")
    expected = keras.ops.convert_to_numpy(model([xz, xa]))
    for data in ([xz, xa], {"z": xz, "a": xa}):
        small = kf.factorize(model, rank=3, data=data)
        found = keras.ops.convert_to_numpy(small([xz, xa]))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    for wrong in ({"z": xz, "b": xa}, [xz], [xz, xa[:, :5]]):
        with pytest.raises(ValueError, match="`data` must be arrays of the shapes"):
            kf.factorize(model, rank=3, data=wrong)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_convolutions_of_every_kind_are_the_same_at_full_rank(scheme, strides):
    """Strides or dilation, both data formats are Keras's: full rank computes the same.

    `make` is called without the question of what it saves.
    """
    for dilation in (1,) if strides == 2 else (1, (2, 3)):
        for padding in ("same", "valid"):
            conv = layers.Conv2D(
                5,
                (3, 2),
                strides=strides,
                dilation_rate=dilation,
                padding=padding,
                activation="relu",
            )
            data = images(2, 11, 10, 4)
            expected = outputs(conv, data)
            found = {one.name: one for one in forms.schemes(conv, [])}[scheme]
            part = forms.decompose(found, None)
            made = found.make(*part.factors(found.full))
            close(outputs(made, data), expected, 1e-5)


def test_what_is_not_about_the_kernel_stays():
    """Activation layers with weights, regularizers and constraints of bias and output.

    (second review of issue 8, points 5 and 10)
    """
    rng = np.random.default_rng(0)
    for layer, shape in (
        (layers.Dense, (24,)),
        (layers.EinsumDense, (24,)),
        (layers.Conv2D, (8, 8, 12)),
    ):
        given = {
            "activation": layers.PReLU(alpha_initializer="ones"),
            "bias_regularizer": "l2",
            "activity_regularizer": "l1",
            "bias_constraint": "non_neg",
            "kernel_regularizer": "l2",
            "kernel_constraint": "non_neg",
        }
        sizes = {
            layers.Dense: (32,),
            layers.EinsumDense: ("bi,io->bo", 32, "o"),
            layers.Conv2D: (32, 3),
        }[layer]
        if layer is layers.EinsumDense:
            sizes, given = sizes[:2], {**given, "bias_axes": "o"}
        model = model_of(layer(*sizes, **given, name="a"), shape=shape)
        data = rng.normal(size=(3, *shape)).astype("float32")
        outputs(model, data)
        model.layers[-1].activation.set_weights(
            [
                0.3 * np.ones_like(one)
                for one in model.layers[-1].activation.get_weights()
            ]
        )
        small = kf.factorize(model, rank=4)
        down, up = small.layers[-2:]
        assert (down.name, up.name) == ("a_down", "a_up")
        assert up.bias_constraint is not None
        assert up.bias_regularizer is not None
        assert up.activity_regularizer is not None
        for one in (down, up):
            assert one.kernel_regularizer is None
            assert one.kernel_constraint is None
        np.testing.assert_allclose(up.activation.get_weights()[0], 0.3, rtol=1e-6)


def test_values_that_are_not_finite_are_refused():
    model = model_of(layers.Dense(24, name="a"), shape=(32,))
    data = np.ones((4, 32), "float32")
    data[2, 5] = np.nan
    with pytest.raises(ValueError, match="`data` must be inputs for which what 'a' ta"):
        kf.factorize(model, rank=2, data=data)
    kernel, bias = model.get_weights()
    kernel[0, 0] = np.inf
    model.set_weights([kernel, bias])
    with pytest.raises(ValueError, match="`model` must be a model with finite we"):
        kf.factorize(model, rank=2)


@settings(max_examples=8)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    strides=st.integers(1, 2),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_more_rank_never_keeps_less(size, channels, strides, weighted, seed):
    """Whatever scheme each rank takes; a layer that stays keeps everything."""
    rng = np.random.default_rng(seed)
    inputs, filters = channels
    conv = layers.Conv2D(filters, size, strides=strides, padding="same", name="c")
    model = model_of(conv, shape=(6, 6, inputs))
    shape = (*size, inputs, filters)
    decay = np.exp(-rng.uniform(0, 2) * np.arange(filters))
    model.set_weights([rng.normal(size=shape) * decay, np.zeros(filters)])
    data = rng.normal(size=(4, 6, 6, inputs)) if weighted else None
    kept = []
    full = [min(np.prod(shape[:3]), filters), min(size[0] * inputs, size[1] * filters)]
    for rank in range(1, max(full) + 1):
        report = kf.factorize(model, rank=rank, data=data, return_report=True)[1]
        kept.append(rows_of(report)["c"].variance)
    assert np.all(np.diff(kept) >= -1e-9), kept
