"""Random states are as they were, whatever is drawn in between."""

import random
import sys

import keras
import numpy as np
import pytest

from keras_fitkit._core import random_state


class Owner:
    def __init__(self):
        self.numpy = np.random.default_rng(1)
        self.legacy = np.random.RandomState(1)
        self.python = random.Random(1)
        self.keras = keras.random.SeedGenerator(1)
        self.other = "no generator"
        torch = sys.modules.get("torch")
        self.torch = torch.Generator().manual_seed(1) if torch else None

    def draw(self):
        drawn = [
            self.numpy.random(),
            self.legacy.rand(),
            self.python.random(),
            float(
                keras.ops.convert_to_numpy(keras.random.uniform((), seed=self.keras))
            ),
        ]
        if self.torch is not None:
            drawn.append(sys.modules["torch"].rand((), generator=self.torch).item())
        return drawn


def draw_globally():
    drawn = [random.random(), np.random.rand()]
    drawn.append(float(keras.ops.convert_to_numpy(keras.random.uniform(()))))
    torch = sys.modules.get("torch")
    return [*drawn, torch.rand(()).item()] if torch else drawn


def test_global_generators_draw_the_same_again():
    draw_globally()  # Keras makes its global generator at the first draw.
    with random_state.preserved():
        first = draw_globally()
    assert draw_globally() == first


def test_generators_of_an_object_draw_the_same_again():
    owner = Owner()
    with random_state.preserved(None, owner):
        first = owner.draw()
    assert owner.draw() == first


def test_seed_generators_of_a_model_draw_the_same_again():
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5)])
    x = np.ones((1, 50))
    with random_state.preserved(model):
        first = keras.ops.convert_to_numpy(model(x, training=True))
    second = keras.ops.convert_to_numpy(model(x, training=True))
    np.testing.assert_array_equal(first, second)


def fail_after_drawing(owner):
    with random_state.preserved(None, owner):
        owner.draw()
        raise RuntimeError("on purpose")


def test_states_come_back_after_an_exception_too():
    owner = Owner()
    before = owner.numpy.bit_generator.state
    with pytest.raises(RuntimeError, match="on purpose"):
        fail_after_drawing(owner)
    assert owner.numpy.bit_generator.state == before


def test_outside_the_block_generators_go_on():
    assert draw_globally() != draw_globally()
