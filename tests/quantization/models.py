"""What the tests of quantization share."""

import keras
import numpy as np

RNG = np.random.default_rng(11)
X = RNG.normal(size=(48, 8, 8, 3)).astype("float32")
Y = RNG.integers(0, 5, 48)
FLAT = RNG.normal(size=(48, 12)).astype("float32")


def array(value):
    return np.array(keras.ops.convert_to_numpy(value))


def mlp(activation="relu"):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, activation, name="hidden"),
            keras.layers.Dense(5, name="logits"),
        ],
        name="mlp",
    )


def cnn(dropout=0.2):
    """What int8 kernels are fused from, a branch, and a joint range."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.Concatenate(name="joined")([x, layers.Conv2D(2, 1, name="side")(x)])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Dropout(dropout, seed=1, name="drop")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, layers.Dense(5, name="logits")(x), name="cnn")


def trained(model, x=X, epochs=1, **arguments):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, **arguments)
    model.fit(x, Y, epochs=epochs, batch_size=16, shuffle=False, verbose=0)
    return model


def constants(path, types):
    """The tensors of these types in a file, with the bytes of each."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    for tensor in (one for graph in model.subgraphs for one in graph.tensors):
        raw = model.buffers[tensor.buffer].data
        if raw is not None and tensor.type in types:
            yield tensor, raw


def float_constants(path):
    """The floats of every constant in a file."""
    return [
        np.frombuffer(bytes(bytearray(raw)), np.float32)
        for _, raw in constants(path, {0})  # FLOAT32
    ]


def integers(path, *, sort=True):
    """The integers of every constant in a file: their sizes, sorted, or as they are."""
    found = []
    for tensor, raw in constants(path, {9, 17}):  # INT8, INT4
        data = np.frombuffer(bytes(bytearray(raw)), np.int8)
        if tensor.type == 17:
            halves = np.stack([data << 4 >> 4, data >> 4], axis=1).ravel()
            data = halves[: int(np.prod(tensor.shape))]
        data = data.astype(int)
        found.append(np.sort(np.abs(data)) if sort else data)
    return found
