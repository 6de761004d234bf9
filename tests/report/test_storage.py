"""Zeros, distinct values, bits; multiplications and energy that follow from them."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.report import EnergyModel, WeightStorage, measuring
from keras_fitkit.report.storage import storage_of

PICO = 1e-12


def by_path(model):
    return {one.path: one for one in storage_of(model)}


def test_zeros_codebooks_and_floats():
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(8, name="few"), layers.Dense(4, name="free")]
    )
    few = np.tile([0.0, 0.5, -1.0, 2.0], 32).reshape(16, 8)
    free = np.arange(1, 33, dtype="float32").reshape(8, 4)
    model.set_weights([few, np.zeros(8), free, np.arange(4.0)])
    found = by_path(model)
    assert found["few/kernel"].num_nonzero == 16 * 8 - 32
    assert (found["few/kernel"].distinct, found["few/kernel"].bits) == (4, 2)
    assert (found["free/kernel"].distinct, found["free/kernel"].bits) == (32, 32)
    assert (found["few/bias"].num_nonzero, found["few/bias"].bits) == (0, 1)
    assert found["free/bias"].num_nonzero == 3
    assert sum(one.size for one in found.values()) == model.count_params()


def test_integers_of_a_grid_count_not_the_floats():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(4, name="dense")])
    kernel = np.linspace(-1, 1, 256, dtype="float32").reshape(64, 4)
    kernel[:8] = 0.01  # less than half a step of the largest of 7 steps
    model.layers[0].set_weights([kernel, np.ones(4)])
    qat = kf.quantize_model(model, kf.QuantizeConfig(weight_bits=4, ranges="auto"))
    (row,) = [one for path, one in by_path(qat).items() if path.endswith("/kernel")]
    assert row.bits == 4
    assert row.distinct <= 2 * 7 + 1
    assert row.num_nonzero < 256 - 8 * 4 + 1
    assert row.arithmetic == "int8"


def test_half_precision():
    dense = layers.Dense(64, dtype="float16", name="dense")
    model = keras.Sequential([keras.Input((64,)), dense])
    row = by_path(model)["dense/kernel"]
    assert (row.bits, row.arithmetic) == (16, "float16")


def weight(path, shape, nonzero, bits=32, arithmetic="float32"):
    return WeightStorage(path, shape, nonzero, nonzero, bits, arithmetic)


def test_effective_macs_are_those_with_a_weight_that_is_not_zero():
    storage = [
        weight("a/kernel", (10, 4), 10),
        weight("a/bias", (4,), 0),
        weight("lstm/lstm_cell/kernel", (4, 8), 32),
        weight("lstm/lstm_cell/recurrent_kernel", (2, 8), 0),
    ]
    macs = {"a": 400, "lstm": 960, "products": 50}
    assert measuring.nonzero_macs(macs, storage) == (
        400 * 10 / 40 + 960 * 32 / (32 + 16) + 50
    )


def test_kernels_belong_to_the_longest_path():
    storage = [weight("block/inner/kernel", (2, 2), 2), weight("block/own", (2, 2), 4)]
    found = measuring.owners_of({"block": 1, "block/inner": 1}, storage)
    assert [one.path for one in found["block/inner"]] == ["block/inner/kernel"]
    assert [one.path for one in found["block"]] == ["block/own"]
    assert measuring.owners_of({"bl": 1}, storage) == {}


def test_energy_by_arithmetic():
    storage = [
        weight("a/kernel", (10, 4), 40),
        weight("b/kernel", (4, 8), 32, bits=8, arithmetic="int8"),
        weight("c/kernel", (8, 2), 16, bits=16, arithmetic="float16"),
    ]
    found = measuring.energy_of({"a": 400, "b": 320, "c": 16}, storage, EnergyModel())
    multiplied = 400 * (3.7 + 0.9) + 320 * (0.2 + 0.1) + 16 * (1.1 + 0.4)
    read = (40 * 32 + 32 * 8 + 16 * 16) / 32 * 640
    assert found == pytest.approx((multiplied + read) * PICO)


def test_constants_of_ones_own():
    energy = EnergyModel(dram_read=0.0, float32_multiply=1.0, float32_add=0.0)
    assert energy.of_macs(7, "float32") == pytest.approx(7 * PICO)
    assert energy.of_weights(1e9) == 0.0
