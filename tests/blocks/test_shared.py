"""SharedStack: shared kernels, norms of their own."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.blocks.cases import array, randomized

b = kf.blocks


def test_the_block_is_applied_again_and_again():
    stack = b.SharedStack(keras.layers.Dense(3, "tanh", name="dense"), 4)
    data = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    stack.build(data.shape)
    randomized(stack)
    kernel, bias = stack.get_weights()
    expected = data
    for _ in range(4):
        expected = np.tanh(expected @ kernel + bias)
    np.testing.assert_allclose(array(stack(data)), expected, atol=1e-6)


def test_every_step_has_its_own_statistics():
    stack = b.SharedStack(b.ConvNormAct(4, activation=None), 3)
    data = np.random.default_rng(0).normal(1.0, 2.0, (8, 6, 6, 4)).astype("float32")
    stack(data, training=True)
    norms = [one for one in stack.layers if "norm" in one.name]
    assert [one.name for one in norms] == ["norm_0", "norm_1", "norm_2"]
    means = [array(one.moving_mean) for one in norms]
    assert all(np.abs(one).max() > 0 for one in means)
    assert not np.allclose(means[0], means[1])


def test_layer_normalizations_are_shared():
    stack = b.SharedStack(b.InvertedResidual(4), 3, normalization="layer")
    stack.build((None, 6, 6, 4))
    kinds = [type(one).__name__ for one in stack.layers]
    assert kinds.count("LayerNormalization") == 3  # expand, depthwise, project
    assert "BatchNormalization" not in kinds


def test_a_token_mixer_on_sequences(tmp_path):
    block = b.LowRankDense(6, 2, activation="relu")
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, b.SharedStack(block, 2)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    data = np.ones((2, 5, 6), "float32")
    np.testing.assert_array_equal(array(again(data)), array(model(data)))


def test_dtype_and_trainable_are_those_of_the_stack():
    block = keras.layers.Dense(3, dtype="float32")
    stack = b.SharedStack(block, 2, dtype="mixed_bfloat16", trainable=False)
    stack.build((None, 3))
    assert stack.layers[0].compute_dtype == "bfloat16"
    assert not stack.layers[0].trainable


def test_expansion_shares_as_the_stack_does():
    stack = b.SharedStack(b.ConvNormAct(4), 3, name="mine")
    stack.build((None, 6, 6, 4))
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, stack.expand()(inputs))
    assert model.count_params() == stack.count_params()
    assert len([one for one in model.layers if one.name == "mine_conv"]) == 1


def test_a_block_that_changes_the_shape_is_refused():
    stack = b.SharedStack(b.ConvNormAct(8), 2, name="s")
    with pytest.raises(ValueError, match=r"Layer 's': `block` must keep the shape"):
        stack(keras.Input((6, 6, 4)))
    with pytest.raises(ValueError, match=r"`block` must keep the shape"):
        b.shared_stack(keras.Input((6, 6, 4)), b.ConvNormAct(8), 2)


def test_a_hidden_batch_normalization_is_refused():
    block = keras.Sequential(
        [keras.layers.Dense(4), keras.layers.BatchNormalization(name="hidden")]
    )
    stack = b.SharedStack(block, 2, name="s")
    with pytest.raises(ValueError, match=r"no batch normalization inside.*'hidden'"):
        stack.build((None, 4))


class _Doubled(b.LowRankDense):
    """A block that computes something else than its plan."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


def test_a_block_whose_call_is_overridden_is_called():
    """The stack of its plain layers would not double."""
    stack = b.SharedStack(_Doubled(4, 2), 2)
    stack.build((None, 4))
    randomized(stack)
    down, up, bias = stack.get_weights()
    data = expected = np.ones((1, 4), "float32")
    for _ in range(2):
        expected = 2 * (expected @ down @ up + bias)
    np.testing.assert_allclose(array(stack(data)), expected, rtol=1e-5)


WRAPPERS = {
    "time": lambda: keras.layers.TimeDistributed(keras.layers.Dense(4)),
    "both": lambda: keras.layers.Bidirectional(
        keras.layers.GRU(2, return_sequences=True)
    ),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_is_stacked_saved_and_expanded(kind, tmp_path):
    keras.utils.set_random_seed(0)
    wrapped = WRAPPERS[kind]()
    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, kf.blocks.SharedStack(wrapped, 3)(inputs))
    x = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("float32")
    model.save(tmp_path / "stack.keras")
    expected = keras.ops.convert_to_numpy(model(x))
    for made in (keras.models.load_model(tmp_path / "stack.keras"), kf.expand(model)):
        found = keras.ops.convert_to_numpy(made(x))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
