"""Trains with tfmot what test_tfmot_parity.py describes. A script, because importing
tfmot turns a process to Keras 2: python tfmot_child.py given.npz found.npz

`build` and `train` serve both sides, each with its own Keras.
"""

import json
import os
import sys
import warnings

import numpy as np

BATCH = 16
OPTIMIZERS = {
    "momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    "adam": ("Adam", {"learning_rate": 0.01}),
    "fast": ("Adam", {"learning_rate": 0.2}),
}


def build(keras, net):
    layers = [getattr(keras.layers, kind)(**kwargs) for kind, kwargs in net["layers"]]
    return keras.Sequential([keras.Input(net["input"]), *layers])


def train(model, optimizer, data, case, callbacks=()):
    """The fit of a case; returns its history."""
    model.compile(optimizer, "mse", jit_compile=False, run_eagerly=False)
    x, y = data["x"], data["y"]
    held_out = (x[::2] + 1.0, y[::2]) if case["validates"] else None
    fit = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=case["epochs"],
        shuffle=False,
        validation_data=held_out,
        verbose=0,
        callbacks=list(callbacks),
    )
    return fit.history


class Recorder:
    """A callback, once Keras's own is added: the masks after every step."""

    def __init__(self, masks):
        super().__init__()
        self.masks = masks
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([np.array(mask, bool) for mask in self.masks()])


def numbered(prefix, arrays):
    return {f"{prefix}/{index}": array for index, array in enumerate(arrays)}


def gathered(arrays, prefix):
    """What `numbered` has made of a list."""
    found = []
    while f"{prefix}/{len(found)}" in arrays:
        found.append(arrays[f"{prefix}/{len(found)}"])
    return found


class Tfmot:
    """The other side: Keras 2 with tfmot."""

    def __init__(self):
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import tensorflow as tf
        import tensorflow_model_optimization as tfmot
        import tf_keras

        self.tf, self.keras, self.sparsity = tf, tf_keras, tfmot.sparsity.keras

    def optimizer(self, name):
        kind, kwargs = OPTIMIZERS[name]
        return getattr(self.keras.optimizers, kind)(**kwargs, jit_compile=False)

    def schedule(self, given):
        return getattr(self.sparsity, given["kind"])(**given["arguments"])

    def dense(self, case, net, data):
        """Plain training: the weights at the end."""
        model = build(self.keras, net)
        model.set_weights(gathered(data, "weights"))
        train(model, self.optimizer(case["optimizer"]), data, case)
        return numbered("dense", model.get_weights())

    def pruned(self, case, net, data):
        """Weights at the end, masks after every step, losses of the validation."""
        weights = gathered(data, "weights")
        model = build(self.keras, net)
        model.set_weights(weights)
        kwargs = {"pruning_schedule": self.schedule(case["schedule"])}
        if case["m_by_n"]:
            kwargs["sparsity_m_by_n"] = tuple(case["m_by_n"])
        model = self.sparsity.prune_low_magnitude(model, **kwargs)
        start = self.sparsity.strip_pruning(model).get_weights()
        assert all(map(np.array_equal, start, weights))
        variables = [mask for one in model.layers for _, mask, _ in one.pruning_vars]
        kind = type("MaskRecorder", (Recorder, self.keras.callbacks.Callback), {})
        recorder = kind(lambda: [mask.numpy() for mask in variables])
        history = train(
            model,
            self.optimizer(case["optimizer"]),
            data,
            case,
            [self.sparsity.UpdatePruningStep(), recorder],
        )
        found = self.sparsity.strip_pruning(model).get_weights()
        return {
            **numbered("weights", found),
            **numbered("masks", map(np.stack, zip(*recorder.seen, strict=True))),
            "val_loss": np.array(history.get("val_loss", [])),
        }

    def answers(self, given, steps):
        """What a schedule says when it is called, not compiled."""
        schedule = self.schedule(given)
        found = [schedule(self.tf.constant(step, self.tf.int64)) for step in steps]
        return {
            "due": np.array([due.numpy() for due, _ in found]),
            "sparsity": np.array([sparsity.numpy() for _, sparsity in found]),
        }

    def counts(self, given, size, steps):
        """How many of `size` different weights stay at each step, compiled."""
        layer = self.keras.layers.Dense(1, use_bias=False)
        schedule = self.schedule(given)
        layer = self.sparsity.prune_low_magnitude(layer, schedule)
        layer.build((None, size))
        layer.set_weights([np.arange(1, size + 1, dtype="float32")[:, None]])
        update = self.tf.function(layer.pruning_obj.conditional_mask_update)
        (_, mask, _) = layer.pruning_vars[0]
        found = []
        for step in steps:
            layer.pruning_step.assign(step)
            update()
            found.append(np.count_nonzero(mask.numpy()))
        return np.array(found)


def main(source, target):
    warnings.simplefilter("default")
    with np.load(source) as loaded:
        arrays = dict(loaded)
    settings = json.loads(str(arrays["settings"]))
    tfmot = Tfmot()
    found = {}
    for name, case in settings["cases"].items():
        net = settings["nets"][case["net"]]
        start = f"{case['net']}/"
        data = {
            key.removeprefix(start): array
            for key, array in arrays.items()
            if key.startswith(start)
        }
        kinds = [tfmot.pruned] if case["schedule"] else [tfmot.dense]
        for kind in kinds:
            result = kind(case, net, data)
            found.update({f"{name}/{key}": array for key, array in result.items()})
    for name, given in settings["schedules"].items():
        said = tfmot.answers(given, arrays["steps"])
        found.update({f"{name}/{key}": array for key, array in said.items()})
    for name, one in settings["counts"].items():
        found[name] = tfmot.counts(one["schedule"], one["size"], one["steps"])
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
