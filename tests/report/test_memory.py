"""Activations that are alive at once, by arithmetic."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.report import measuring
from keras_fitkit.report.memory import liveness
from tests.report import nets
from tests.tools import warns_once

FLOAT = 4  # bytes


def peak(model, example=None):
    return measuring.memory_of(model, example)


def test_a_chain_keeps_two_neighbours():
    sizes = {"x": 10, "a": 30, "b": 5}
    calls = [(["x"], ["a"]), (["a"], ["b"])]
    assert liveness(calls, sizes, ["x"], ["b"]) == max(10 + 30, 30 + 5)


def test_a_skip_connection_lives_until_the_sum():
    sizes = {"x": 10, "a": 30, "b": 10, "c": 10}
    calls = [(["x"], ["a"]), (["a"], ["b"]), (["x", "b"], ["c"])]
    assert liveness(calls, sizes, ["x"], ["c"]) == 10 + 30 + 10


def test_outputs_live_to_the_end_and_unused_tensors_one_call():
    sizes = {"x": 1, "early": 100, "unused": 7, "late": 2}
    calls = [(["x"], ["early", "unused"]), (["x"], ["late"])]
    assert liveness(calls, sizes, ["x"], ["early", "late"]) == 1 + 100 + 7
    assert liveness(calls, sizes, ["x"], ["late"]) == 1 + 100 + 7
    assert liveness([], sizes, ["x"], ["x"]) == 1


def test_dense_layers():
    model = keras.Sequential(
        [keras.Input((100,)), layers.Dense(50), layers.Dense(200), layers.Dense(10)]
    )
    assert peak(model) == FLOAT * max(100 + 50, 50 + 200, 200 + 10)


def test_a_residual_branch():
    image, wide = 8 * 8 * 4, 8 * 8 * 8
    # At "second": its input, its output, and the image that the sum still needs.
    assert peak(nets.residual()) == FLOAT * (image + wide + image)


def test_branches_that_meet_late():
    inputs = keras.Input((16,))
    one = layers.Dense(64, name="one")(inputs)
    two = layers.Dense(32, name="two")(inputs)
    joined = layers.Concatenate(name="joined")([one, two])
    model = keras.Model(inputs, layers.Dense(1, name="last")(joined))
    # At "joined": both branches and what it makes; the inputs are gone.
    assert peak(model) == FLOAT * (64 + 32 + (64 + 32))


def test_half_precision_takes_half():
    with_policy = keras.Sequential(
        [
            keras.Input((8,), dtype="float16"),
            layers.Dense(24, dtype="float16"),
            layers.Dense(4, dtype="float16"),
        ]
    )
    assert peak(with_policy) == 2 * (8 + 24)


def test_nested_models_are_looked_into():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(40), layers.Dense(8)])
    inputs = keras.Input((8,))
    model = keras.Model(inputs, inner(inputs) + inputs)
    assert peak(model) == FLOAT * (8 + 40 + 8)


def test_open_sizes_come_from_the_example():
    inputs = keras.Input((None, 3))
    outputs = layers.Conv1D(5, 3, padding="same")(inputs)
    model = keras.Model(inputs, layers.GlobalMaxPooling1D()(outputs))
    assert "pass example" in peak(model)
    assert peak(model, np.ones((2, 20, 3), "float32")) == FLOAT * (20 * 3 + 20 * 5)


def test_a_subclassed_model_says_why_not():
    model = nets.Subclassed()
    model(np.ones((1, 4), "float32"))
    assert peak(model) == "the calls of a subclassed model cannot be seen"


@pytest.mark.tensorflow_only
def test_the_arena_of_dense_layers_is_what_liveness_says():
    """LiteRT needs no scratch for them; it aligns tensors to 64 bytes."""
    model = keras.Sequential(
        [keras.Input((128,)), layers.Dense(64), layers.Dense(256), layers.Dense(16)]
    )
    figures = kf.compression_report(model, latency=False).model
    assert figures.peak_memory == FLOAT * (64 + 256)
    # Inputs and outputs of the file stay where they are: 128 is never overwritten by
    # what must not move.
    assert figures.peak_memory <= figures.arena <= FLOAT * (128 + 64 + 256 + 16)


def test_a_figure_that_is_missing_for_no_known_reason_is_told():
    def fails(error):
        def make():
            raise error

        return make

    assert measuring._tried(lambda: 3) == 3
    known = fails(ValueError("`model` must be\nanother"))
    assert measuring._tried(known) == "ValueError: `model` must be"
    with warns_once(UserWarning, "missing for no known reason: KeyError: 'lost'"):
        assert measuring._tried(fails(KeyError("lost"))) == "KeyError: 'lost'"
    with pytest.raises(KeyboardInterrupt):
        measuring._tried(fails(KeyboardInterrupt()))
