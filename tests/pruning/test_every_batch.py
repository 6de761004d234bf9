"""Pruned weights are zero after every batch, whatever trains them."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.pruning.models import Watch, X, Y, array, conv_net, fit

CASES = {
    "sgd": {
        "optimizer": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    },
    "adam": {"optimizer": lambda: keras.optimizers.Adam(1e-2)},
    "adamw": {"optimizer": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1)},
    "muon": {"optimizer": lambda: keras.optimizers.Muon(1e-2)},
    "lion": {"optimizer": lambda: keras.optimizers.Lion(1e-3)},
    "accumulation": {
        "optimizer": lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=3)
    },
    "average": {"optimizer": lambda: keras.optimizers.Adam(1e-2, use_ema=True)},
    "average overwrites": {
        "optimizer": lambda: keras.optimizers.Adam(
            1e-2, use_ema=True, ema_overwrite_frequency=5
        )
    },
    "float16": {
        "optimizer": lambda: keras.optimizers.Adam(1e-2),
        "policy": "mixed_float16",
    },
    "loss scaling": {
        "optimizer": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(1e-2), initial_scale=2.0**14
        ),
        "policy": "mixed_float16",
    },
    "bfloat16": {
        "optimizer": lambda: keras.optimizers.Adam(1e-2),
        "policy": "mixed_bfloat16",
    },
    "all bfloat16": {
        "optimizer": lambda: keras.optimizers.SGD(0.01),
        "policy": "bfloat16",
    },
    "eagerly": {"optimizer": lambda: "adam", "run_eagerly": True},
}
COMPILED = {
    "jit": {"jit_compile": True},
    "several steps": {"steps_per_execution": 4},
    "several steps, jit": {"steps_per_execution": 4, "jit_compile": True},
}


def check(model, epochs=3):
    before = [id(variable) for variable in model.trainable_variables]
    prune, watch = kf.PruneSchedule(0.8), Watch()
    history = fit(model, prune, watch, epochs=epochs).history
    assert watch.violations == 0
    assert watch.sparsity == sorted(watch.sparsity)
    assert kf.sparsity_of(model).sparsity == pytest.approx(0.8, abs=0.005)
    assert history["sparsity"][-1] == pytest.approx(0.8, abs=0.005)
    # As it was: the user's own constraint, no mask among the optimizer's variables.
    assert [id(variable) for variable in model.trainable_variables] == before
    dense = model.get_layer("dense")
    assert dense.kernel.constraint is dense.kernel_constraint
    assert model.get_layer("conv").kernel.constraint is None
    assert not [v for v in model.optimizer.variables if v.name.endswith("mask")]
    for path, mask in prune.masks_.items():
        layer, _, name = path.partition("/")
        weight = array(getattr(model.get_layer(layer), name)).astype("float32")
        assert not weight[~mask].any()
        assert not np.signbit(weight[~mask]).any()  # no -0.0


@pytest.mark.parametrize("case", CASES)
def test_zero_after_every_batch(case):
    arguments = dict(CASES[case])
    epochs = 1 if "run_eagerly" in arguments else 3
    check(conv_net(arguments.pop("optimizer")(), **arguments), epochs)


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras on torch runs single steps, and its jit needs a C++ compiler",
)
@pytest.mark.parametrize("case", COMPILED)
def test_zero_after_every_compiled_batch(case):
    check(conv_net(**COMPILED[case]))


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averages_that_are_swapped_in_are_sparse_too(swap_on_epoch):
    """On JAX a second fit with averages fails in plain Keras, so one fit it is."""
    model = conv_net(keras.optimizers.Adam(1e-2, use_ema=True))
    seen = []

    class Validated(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            seen.append(kf.sparsity_of(self.model).sparsity)

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    fit(model, kf.PruneSchedule(0.8), Validated(), swap, validation_data=(X, Y))
    assert seen[-1] == pytest.approx(0.8, abs=0.005)
    assert kf.sparsity_of(model).sparsity == pytest.approx(0.8, abs=0.005)


def test_a_model_that_was_trained_before():
    """On TensorFlow the step compiled by then knows nothing of the masks."""
    model = conv_net()
    fit(model, epochs=1)
    check(model)


def test_fit_again_and_after_a_fit_that_raised():
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise RuntimeError("the user's own")

    model = conv_net("adam")
    check(model)
    prune = kf.PruneSchedule(0.8)
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(model, prune, Break())
    check(model)  # another callback takes off what that one left
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(model, prune, Break())
    fit(model, prune)
    assert not [v for v in model.optimizer.variables if v.name.endswith("mask")]


def test_afterwards_the_weights_are_free_again():
    model = conv_net(keras.optimizers.Adam(1e-2))
    fit(model, kf.PruneSchedule(0.8), epochs=2)
    fit(model, epochs=1)
    assert kf.sparsity_of(model).sparsity < 0.05
