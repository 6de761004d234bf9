"""Mixed precision: measured costs, exact choices."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_fitkit import blocks
from keras_fitkit.quantization import (
    QuantizeConfig,
    QuantizeWrapper,
    assign_bits,
    bit_sensitivity,
    knapsack,
    quantize_model,
    strip_quantization,
)
from tests.quantization.models import FLAT, X, Y, array, cnn, mlp

items = st.lists(
    st.lists(
        st.tuples(st.integers(1, 30), st.floats(-1, 3, width=16)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=5,
)


def split(made):
    sizes = [np.array([size for size, _ in one]) for one in made]
    losses = [np.array([loss for _, loss in one]) for one in made]
    return sizes, losses


def all_choices(made):
    for picked in itertools.product(*(range(len(one)) for one in made)):
        chosen = [one[index] for one, index in zip(made, picked, strict=True)]
        yield sum(s for s, _ in chosen), sum(v for _, v in chosen)


def value(made, picked):
    chosen = [one[index] for one, index in zip(made, picked, strict=True)]
    return sum(s for s, _ in chosen), sum(v for _, v in chosen)


@given(items, st.integers(0, 120))
def test_no_choice_within_the_size_has_less_loss(made, budget):
    picked = knapsack.smallest_loss(*split(made), budget)
    fits = [loss for size, loss in all_choices(made) if size <= budget]
    if not fits:
        assert picked is None
        return
    size, loss = value(made, picked)
    assert size <= budget
    assert loss == pytest.approx(min(fits), abs=1e-9)


@given(items, st.floats(-2, 8, width=16))
def test_no_choice_within_the_loss_is_smaller(made, most):
    picked = knapsack.smallest_size(*split(made), most)
    fits = [size for size, loss in all_choices(made) if loss <= most - 1e-9]
    if picked is None:
        assert not fits
        return
    size, loss = value(made, picked)
    assert loss <= most + 1e-9
    assert not fits or size <= min(fits)


def trained():
    model = mlp()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    model.fit(FLAT, Y, epochs=8, batch_size=16, verbose=0)
    return model


def test_each_layer_is_rounded_alone_and_put_back():
    model = trained()
    before = model.get_weights()
    found = bit_sensitivity(model, FLAT, Y, (8, 2), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [one.path for one in found.layers] == ["hidden", "logits"]
    assert [one.num_weights for one in found.layers] == [192, 80]
    assert found.layers[0].num_bytes(4) == 192 // 2 + 4 * 16
    # By hand: the kernel of one layer on 255 levels a channel.
    kernel = array(model.layers[0].kernel)
    scale = np.abs(kernel).max(0) / 127
    model.layers[0].kernel.assign(np.round(kernel / scale) * scale)
    by_hand = model.evaluate(FLAT, Y, batch_size=256, verbose=0) - found.loss
    assert found.layers[0].increases[8] == pytest.approx(by_hand, abs=1e-5)
    assert abs(found.layers[0].increases[8]) < found.layers[0].increases[2]
    assert "hidden" in found.render()
    assert found.to_dict()["layers"][1]["increases"].keys() == {"8", "2"}


def test_the_grids_are_of_the_kind_that_the_config_asks_for():
    model = trained()
    one = QuantizeConfig(per_channel=False, ranges="moving_average")
    found = bit_sensitivity(model, FLAT, Y, (3,), config=one, verbose=0)
    assert [row.num_scales for row in found.layers] == [1, 1]
    made = assign_bits(
        model, FLAT, Y, (3,), size_budget=0.9, config=one, exclude="logits", verbose=0
    )
    assert made.config == one
    # By hand: one scale for all, from the largest weight.
    kernel = array(model.layers[0].kernel)
    scale = np.abs(kernel).max() / 3
    model.layers[0].kernel.assign(np.round(kernel / scale) * scale)
    by_hand = model.evaluate(FLAT, Y, batch_size=256, verbose=0)
    assert found.loss + found.layers[0].increases[3] == pytest.approx(by_hand, abs=1e-5)
    assert made.loss == pytest.approx(by_hand, abs=1e-5)


def test_blocks_are_assigned_as_the_layers_they_stand_for():
    inputs = keras.Input((8, 8, 3))
    x = blocks.ConvNormAct(4, name="block")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    made = assign_bits(model, X, Y, (8, 4), size_budget=0.9, verbose=0)
    assert len(made.bits) == 2
    qat = quantize_model(model, made)
    widths = [
        one.config.weight_bits
        for one in qat.layers
        if isinstance(one, QuantizeWrapper) and one.kernels
    ]
    assert widths == list(made.bits.values())


def test_the_budget_is_kept_and_the_model_takes_the_widths():
    model = trained()
    found = bit_sensitivity(model, FLAT, Y, verbose=0)
    sizes = []
    for budget in (0.6, 0.35, 0.28):
        made = assign_bits(
            model, FLAT, Y, size_budget=budget, sensitivity=found, verbose=0
        )
        assert made.size <= budget
        assert made.loss > 0
        sizes.append(made.size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    qat = quantize_model(model, made)
    for name, bits in made.bits.items():
        assert qat.get_layer(f"quant_{name}").config.weight_bits == bits
        kernel = array(strip_quantization(qat).get_layer(name).kernel)
        assert all(np.unique(one).size < 2**bits for one in kernel.T)
    assert made.config == QuantizeConfig()
    assert f"{made.num_bytes:,} bytes" in str(made)


def test_the_loss_limit_is_kept():
    model = trained()
    found = bit_sensitivity(model, FLAT, Y, verbose=0)
    sizes = []
    for most in (10.0, 0.05, 0.001):
        made = assign_bits(
            model, FLAT, Y, max_loss_increase=most, sensitivity=found, verbose=0
        )
        assert made.expected_increase <= most
        sizes.append(made.num_bytes)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_nested_and_excluded_layers():
    inner = keras.Sequential(
        [keras.Input((12,)), keras.layers.Dense(12, "relu", name="a")], name="inner"
    )
    inputs = keras.Input((12,))
    outputs = keras.layers.Dense(5, name="b")(inner(inner(inputs)))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    found = bit_sensitivity(model, FLAT, Y, (8, 4), verbose=0)
    assert [one.path for one in found.layers] == ["inner/a", "b"]
    found = assign_bits(model, FLAT, Y, (8, 4), size_budget=0.7, exclude="b", verbose=0)
    assert list(found.bits) == ["inner/a"]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    model = trained()
    made = assign_bits(model, FLAT, Y, size_budget=0.5, verbose=0)
    made.plot(tmp_path / "chosen.png")
    made.sensitivity.plot(tmp_path / "bits.png")
    assert (tmp_path / "chosen.png").stat().st_size > 5000
    assert (tmp_path / "bits.png").stat().st_size > 5000


def test_progress_is_shown(capsys):
    bit_sensitivity(trained(), FLAT, Y, (8, 4))
    assert "4/4" in capsys.readouterr().out


def test_bad_input():
    model = trained()
    ask = {"verbose": 0}
    with pytest.raises(ValueError, match="One of `size_budget` and `max_loss_incr"):
        assign_bits(model, FLAT, Y, **ask)
    with pytest.raises(ValueError, match="One of `size_budget` and `max_loss_incr"):
        assign_bits(model, FLAT, Y, size_budget=0.5, max_loss_increase=1.0, **ask)
    with pytest.raises(ValueError, match=r"`size_budget` must be at least 0\.\d+ with"):
        assign_bits(model, FLAT, Y, size_budget=0.01, **ask)
    with pytest.raises(ValueError, match="`size_budget` must be"):
        assign_bits(model, FLAT, Y, size_budget=1.5, **ask)
    for bits in ((), "8", 8):
        with pytest.raises(TypeError, match="`bits` must be"):
            bit_sensitivity(model, FLAT, Y, bits, **ask)
    for bits in ((1,), (4, 4), (16,)):
        with pytest.raises(ValueError, match="`bits` must be"):
            bit_sensitivity(model, FLAT, Y, bits, **ask)
    with pytest.raises(ValueError, match="`model` must be compiled with a loss"):
        bit_sensitivity(mlp(), FLAT, Y, **ask)
    with pytest.raises(ValueError, match="must give a finite loss"):
        bit_sensitivity(model, FLAT * np.nan, Y, **ask)
    with pytest.raises(ValueError, match="`exclude` must be patterns that match"):
        bit_sensitivity(model, FLAT, Y, exclude="nothing", **ask)
    other = cnn()
    other.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = bit_sensitivity(model, FLAT, Y, **ask)
    with pytest.raises(ValueError, match="`sensitivity` must be that of a model"):
        assign_bits(other, X, Y, size_budget=0.5, sensitivity=found, **ask)
    with pytest.raises(TypeError, match="`sensitivity` must be"):
        assign_bits(other, X, Y, size_budget=0.5, sensitivity={}, **ask)
