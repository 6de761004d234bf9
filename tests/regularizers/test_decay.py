"""Weight decay on kernels alone."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf

layers = keras.layers


def test_only_kernels_decay():
    """With a learning rate and no gradients, decay is all that moves a weight."""
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            layers.Conv1D(4, 2, name="conv"),
            layers.LayerNormalization(name="norm"),
            layers.RMSNormalization(name="rms"),
            layers.LSTM(3, name="lstm"),
            layers.BatchNormalization(name="batch"),
            layers.Dense(2, name="dense"),
        ]
    )
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    assert kf.exclude_norms_and_biases(optimizer) is optimizer
    variables = model.trainable_variables
    optimizer.build(variables)
    zeros = [keras.ops.zeros(one.shape) for one in variables]
    optimizer.apply(zeros, variables)
    decayed = {
        one.path
        for one in variables
        if float(np.max(keras.ops.convert_to_numpy(one.value))) < 1
    }
    kernels = {one.path for one in variables if "kernel" in one.name}
    assert decayed == kernels
    # 1 - learning rate * decay
    value = float(
        keras.ops.convert_to_numpy(model.get_layer("dense").kernel.value)[0, 0]
    )
    np.testing.assert_allclose(value, 1 - 0.1 * 0.5, rtol=1e-6)


def test_an_optimizer_that_ran_is_refused():
    optimizer = keras.optimizers.AdamW()
    optimizer.build([keras.Variable(np.ones(2))])
    with pytest.raises(ValueError, match="Call this before `fit`"):
        kf.exclude_norms_and_biases(optimizer)


def test_a_loss_scale_around_it():
    inner = keras.optimizers.AdamW(weight_decay=0.1)
    outer = keras.optimizers.LossScaleOptimizer(inner)
    assert kf.exclude_norms_and_biases(outer) is outer
