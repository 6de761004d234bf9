"""One stack, Keras 3 or tf_keras, that trains for integers and runs the files.

Started by qat.py, one process a stack. All arms of a net and a seed start from the same
weights and train on with the same batches, epochs and learning rates.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _child import serve
from _models import MODELS
from _overhead_child import Arm
from _quality_child import BATCH, Trainer

# Bits of weights and activations.
OURS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int4 weights": {"weight_bits": 4, "activation_bits": None},
    "int2 weights": {"weight_bits": 2, "activation_bits": None},
    "4-4": {"weight_bits": 4, "activation_bits": 4},
    "3-3": {"weight_bits": 3, "activation_bits": 3},
}
# First and last layer, and what goes into them, as in the paper of LSQ.
ENDS_IN_INT8 = ("4-4", "3-3")
CALIBRATED = ENDS_IN_INT8  # before they are trained
NORM_ROWS = 5000  # for the statistics of the norms after the training
CALIBRATION_ROWS, LATENCY_ROWS = 500, 300
FOREVER_BATCHES = 20


class Quantizer(Trainer):
    """The commands: `load`, a `dense` start, `train` an arm; `start` and `steps`."""

    def __init__(self, stack: str) -> None:
        super().__init__(stack)
        self.arms: dict[str, Arm] = {}

    def train(
        self, net: str, arm: str, seed: int, epochs: int, dense: str
    ) -> dict[str, Any]:
        """Trains on from the dense start, and writes and runs the file.

        Returns:
            `errors` on the test digits and where they were counted ("file" or "keras");
            of a file `keras_errors`, `agreement` with Keras, `bytes`, `milliseconds` of
            CPU for a row.
        """
        begun, cpu = time.perf_counter(), time.process_time()
        self.keras.utils.set_random_seed(seed)
        model = MODELS[net](self.keras)
        with np.load(dense) as stored:
            model.set_weights([stored[name] for name in stored.files])
        made = self._made(model, arm)
        self._fit(made, [seed, 2], epochs, [])
        if arm in OURS:
            kf = importlib.import_module("keras_fitkit")
            kf.reestimate_batch_norm(made, self._images("x_train", made)[:NORM_ROWS])
        result = self._judged(made, arm)
        result["seconds"] = round(time.perf_counter() - begun, 1)
        result["cpu_seconds"] = round(time.process_time() - cpu, 1)
        self.keras.backend.clear_session()
        return result

    def start(self, arm: str, net: str, warm: int) -> None:
        """Begins a fit that waits for its turns, and runs `warm` steps of it."""
        tf = importlib.import_module("tensorflow")
        made = self._made(MODELS[net](self.keras), arm)
        loss = self.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile(self.keras.optimizers.Adam(1e-3), loss)
        rng = np.random.default_rng(0)
        rows = BATCH * FOREVER_BATCHES
        x = rng.normal(size=(rows, *made.input_shape[1:])).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((x, rng.integers(10, size=rows)))
        data = data.batch(BATCH, drop_remainder=True).cache().repeat()
        self.arms[arm] = Arm(self.keras, made, [], data)
        self.arms[arm].run(warm)

    def steps(self, arm: str, count: int) -> float:
        """CPU seconds of `count` more steps of an arm."""
        return self.arms[arm].run(count)

    def _made(self, model: Any, arm: str) -> Any:
        if arm == "tfmot int8":
            tfmot = importlib.import_module("tensorflow_model_optimization")
            return tfmot.quantization.keras.quantize_model(model)
        if arm in OURS:
            kf = importlib.import_module("keras_fitkit")
            ends: list[str] = []
            if arm in ENDS_IN_INT8:
                first = next(one.name for one in model.layers if one.weights)
                ends = [first, *(one.name for one in model.layers[-2:])]
            config = kf.QuantizeConfig(**OURS[arm])
            overrides = dict.fromkeys(ends, "int8")
            made = kf.quantize_model(model, config, overrides=overrides)
            if arm in CALIBRATED and self.arrays:
                samples = self._images("x_train", made)[:CALIBRATION_ROWS]
                made = kf.calibrate(made, samples, verbose=0)
            return made
        return model

    def _judged(self, model: Any, arm: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            if not self._written(model, arm, path):
                if arm == "keras quantize":
                    model.quantize("int8")
                errors = self._errors(model)
                return {"errors": errors, "where": "keras", "tested": self._tested()}
            kf = importlib.import_module("keras_fitkit")
            x = self._images("x_test", model)
            found = kf.run_litert(path, x).argmax(axis=1)
            in_keras = model.predict(x, batch_size=1000, verbose=0).argmax(axis=1)
            kf.run_litert(path, x[:LATENCY_ROWS])
            begun = time.process_time()
            kf.run_litert(path, x[:LATENCY_ROWS])
            spent = 1000 * (time.process_time() - begun) / LATENCY_ROWS
            wanted = self.arrays["y_test"]
            return {
                "errors": int(np.count_nonzero(found != wanted)),
                "keras_errors": int(np.count_nonzero(in_keras != wanted)),
                "where": "file",
                "tested": self._tested(),
                "agreement": float(np.mean(found == in_keras)),
                "bytes": path.stat().st_size,
                "milliseconds": spent,
            }

    def _written(self, model: Any, arm: str, path: Path) -> bool:
        """Whether the arm has a file: none for activations of fewer than 8 bits."""
        if arm in ("4-4", "3-3", "keras quantize"):
            return False
        if arm == "tfmot int8":
            tf = importlib.import_module("tensorflow")
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            path.write_bytes(converter.convert())
            return True
        kf = importlib.import_module("keras_fitkit")
        how: dict[str, Any] = {}
        if arm == "int8 after training":
            samples = self._images("x_train", model)[:CALIBRATION_ROWS]
            how = {"mode": "int8", "calibration_data": samples}
        kf.export_litert(model, path, **how)
        return True

    def _images(self, name: str, model: Any) -> Any:
        return self.arrays[name].reshape(-1, *model.input_shape[1:])

    def _tested(self) -> int:
        return len(self.arrays["y_test"])


def main() -> None:
    """Serves the commands of one stack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", choices=("keras", "tf_keras"))
    child = Quantizer(parser.parse_args().stack)
    names = ("load", "dense", "train", "start", "steps")
    serve({name: getattr(child, name) for name in names})


if __name__ == "__main__":
    main()
