"""The arms of blocks.py: layers whose passes take turns, in one process.

Each arm is a function that runs so many passes and tells the CPU seconds. Files of
LiteRT run on one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from _child import serve

import keras_fitkit as kf
from keras_fitkit.blocks import grouped

b = kf.blocks
# height and width, channels, groups
GROUPED = {"g4 56x56x64": (56, 64, 4), "g8 14x14x256": (14, 256, 8)}
BATCH = 8


def blocks(channels: int) -> dict[str, Callable[[], Any]]:
    """Each block as a layer that keeps the channels; the first is the reference."""
    c, rank = channels, channels // 4
    same: dict[str, Any] = {"expansion": 2}
    uib = b.UniversalInvertedBottleneck
    rich = {"kernel_size": 5, "se_ratio": 0.25, "variant": "v3"}
    return {
        "conv 3x3": lambda: b.ConvNormAct(c, 3),
        "conv 1x1": lambda: b.ConvNormAct(c, 1),
        "separable": lambda: b.SeparableBlock(c),
        "inverted t2": lambda: b.InvertedResidual(c, **same),
        "inverted t2 minimalistic": lambda: b.InvertedResidual(
            c, variant="minimalistic", **same
        ),
        "inverted t2 SE hard-swish": lambda: b.InvertedResidual(
            c, se_ratio=0.25, variant="v3", **same
        ),
        "inverted t2 k5 SE hard-swish": lambda: b.InvertedResidual(c, **same, **rich),
        "UIB ExtraDW t2": lambda: uib(c, start_kernel_size=3, **same),
        "UIB ConvNext-like t2": lambda: uib(
            c, start_kernel_size=3, kernel_size=None, **same
        ),
        "UIB FFN t2": lambda: uib(c, kernel_size=None, **same),
        "FusedMBConv t2": lambda: b.FusedMBConv(c, **same),
        "ShuffleUnit": lambda: b.ShuffleUnit(c),
        "Fire 1/4": lambda: b.Fire(c, squeeze_ratio=0.25),
        "GhostModule": lambda: b.GhostModule(c),
        "GhostBottleneck t2": lambda: b.GhostBottleneck(c, **same),
        "RepConv": lambda: b.RepConv(c),
        "RepConv fused": lambda: b.RepConv(c),
        "MobileOne k4": lambda: b.MobileOne(c),
        "MobileOne k4 fused": lambda: b.MobileOne(c),
        "SqueezeExcite": lambda: b.SqueezeExcite(0.25),
        "EfficientChannelAttention": lambda: b.EfficientChannelAttention(),
        "SharedStack of conv 3x3, 2 times": lambda: b.SharedStack(
            b.ConvNormAct(c, 3), repeats=2
        ),
        "depthwise 3x3": lambda: keras.layers.DepthwiseConv2D(3, padding="same"),
        "depthwise 7x7": lambda: keras.layers.DepthwiseConv2D(7, padding="same"),
        "grouped 3x3 g4": lambda: b.ConvNormAct(c, 3, groups=4),
        "low rank channel": lambda: b.LowRankConv2D(c, 3, rank),
        "grouped 3x3 g16": lambda: b.ConvNormAct(c, 3, groups=16),
        "low rank spatial": lambda: b.LowRankConv2D(c, 3, rank, scheme="spatial"),
    }


class Arms:
    """The commands: `start` an arm, run so many passes of it; `sizes` of a block."""

    def __init__(self) -> None:
        self.arms: dict[str, Callable[[], Any]] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._models: dict[tuple[str, int, int], Any] = {}

    def sizes(self, block: str, height: int, channels: int) -> dict[str, int]:
        """Parameters and MACs."""
        model = self._model(block, height, channels)
        return {"params": model.count_params(), "macs": kf.count_macs(model).total}

    def has_raw_gradients(self) -> bool:
        """Whether the raw op can be trained in groups here."""
        return bool(grouped.raw_op_has_gradients(False))

    def start(self, arm: str, warm: int) -> None:
        """Makes an arm, named by words with "|" between, and runs `warm` passes."""
        kind, *rest = arm.split("|")
        if kind == "grouped":
            self.arms[arm] = _grouped(*rest)
        else:
            block, height, channels = rest[0], int(rest[1]), int(rest[2])
            model = self._model(block, height, channels)
            self.arms[arm] = getattr(self, f"_{kind}")(model)
        self.steps(arm, warm)

    def steps(self, arm: str, count: int) -> float:
        """CPU seconds of so many passes."""
        run = self.arms[arm]
        begin = time.process_time()
        for _ in range(count):
            run()
        return time.process_time() - begin

    def _model(self, block: str, height: int, channels: int) -> Any:
        key = (block, height, channels)
        if key not in self._models:
            inputs = keras.Input((height, height, channels))
            model = keras.Model(inputs, blocks(channels)[block]()(inputs))
            if block.endswith("fused"):
                model = kf.fuse(model)
            self._models[key] = model
        return self._models[key]

    def _forward(self, model: Any) -> Callable[[], Any]:
        x = tf.random.normal((BATCH, *model.input_shape[1:]))
        run = tf.function(lambda: model(x, training=False))
        return lambda: run().numpy()

    def _train(self, model: Any) -> Callable[[], Any]:
        x = tf.random.normal((BATCH, *model.input_shape[1:]))
        return _gradients(lambda: model(x, training=True), model.trainable_weights, x)

    def _float32(self, model: Any) -> Callable[[], Any]:
        return self._litert(model, "float32")

    def _int8(self, model: Any) -> Callable[[], Any]:
        return self._litert(model, "int8")

    def _litert(self, model: Any, mode: str) -> Callable[[], Any]:
        from ai_edge_litert.interpreter import Interpreter

        from keras_fitkit.quantization import export_litert

        path = Path(self._folder.name) / f"{len(self.arms)}.tflite"
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8, *model.input_shape[1:])).astype("float32")
        data = x if mode == "int8" else None
        export_litert(model, path, mode=mode, calibration_data=data, strict=False)
        one = Interpreter(str(path), num_threads=1)
        one.allocate_tensors()
        one.set_tensor(one.get_input_details()[0]["index"], x[:1])
        return lambda: one.invoke()


def _grouped(shape: str, form: str) -> Callable[[], Any]:
    """Forward and backward of one grouped 3x3 convolution."""
    height, channels, groups = GROUPED[shape]
    x = tf.random.normal((BATCH, height, height, channels))
    if form == "raw":
        kernel = tf.Variable(tf.random.normal((3, 3, channels // groups, channels)))
        return _gradients(lambda: tf.nn.conv2d(x, kernel, 1, "SAME"), [kernel], x)
    if form == "split":
        kernels = [
            tf.Variable(
                tf.random.normal((3, 3, channels // groups, channels // groups))
            )
            for _ in range(groups)
        ]

        def apply() -> Any:
            parts = zip(tf.split(x, groups, -1), kernels, strict=True)
            return tf.concat(
                [tf.nn.conv2d(part, one, 1, "SAME") for part, one in parts], -1
            )

        return _gradients(apply, kernels, x)
    kind = b.GroupedConv2D if form == "kf" else keras.layers.Conv2D
    layer = kind(channels, 3, groups=groups, padding="same", use_bias=False)
    layer.build(x.shape)
    return _gradients(lambda: layer(x), layer.trainable_weights, x)


def _gradients(
    apply: Callable[[], Any], weights: list[Any], x: Any
) -> Callable[[], Any]:
    """Forward and backward, to the weights and the inputs."""
    variables = [one if isinstance(one, tf.Variable) else one.value for one in weights]

    @tf.function
    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(apply() ** 2)
        return tape.gradient(loss, [x, *variables])

    return lambda: run()[0].numpy()


def main() -> None:
    """Serves."""
    arms = Arms()
    serve(
        {
            "sizes": arms.sizes,
            "has_raw_gradients": arms.has_raw_gradients,
            "start": arms.start,
            "steps": arms.steps,
        }
    )


if __name__ == "__main__":
    main()
