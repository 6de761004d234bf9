"""Writes the text that packed descriptions are compared with (a part of the format).

Run once for each version of the format; a file that exists must never change:

    python tools/make_words.py > keras_fitkit/packing/words_2.txt
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import keras

from keras_fitkit.packing.keras_archive import _renumbered

layers = keras.layers


def _models() -> list[Any]:
    """Rare things first: deflate reaches the end of the text with fewer bits."""
    rnn = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(1000, 64),
            layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
            layers.GRU(64),
            layers.LayerNormalization(),
        ]
    )
    rnn.compile("rmsprop", "binary_crossentropy", metrics=["mae"])
    image = keras.Input((224, 224, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.ZeroPadding2D()(x)
    x = layers.Conv2D(
        32, 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    x = layers.BatchNormalization()(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    y = layers.SeparableConv2D(32, 3, padding="same", depthwise_regularizer="l2")(y)
    x = layers.Activation("swish")(layers.Add()([x, y]))
    x = layers.Concatenate()([x, layers.AveragePooling2D(2, 1, "same")(x)])
    gate = layers.Reshape((1, 1, 64))(layers.GlobalMaxPooling2D()(x))
    scale = layers.Multiply()([x, gate])
    x = layers.SpatialDropout2D(0.1)(scale)
    x = layers.GlobalAveragePooling2D()(x)
    net = keras.Model(image, layers.Dense(1000, activation="softmax")(x))
    net.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    plain = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile("adam", loss, metrics=["accuracy", "sparse_categorical_accuracy"])
    ready = keras.Sequential([keras.Input((784,)), layers.Dense(10)])
    ready.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return [rnn, net, plain, ready]


def main() -> None:
    """Prints the configurations, what is written twice left out."""
    seen: set[str] = set()
    for model in _models():
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
        text = json.dumps(_renumbered(config, {}), separators=(",", ":"))
        for part in re.split(r'(?=\{"module":)', text):
            if part not in seen:
                seen.add(part)
                sys.stdout.write(part)


if __name__ == "__main__":
    main()
