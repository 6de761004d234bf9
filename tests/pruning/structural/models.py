"""Small models of every kind that the channel graph has to see through."""

import keras
import numpy as np
from keras import layers, ops

import keras_fitkit as kf

MODELS = {}


def model(make):
    MODELS[make.__name__] = make
    return make


def built(name, seed=0):
    """A model with weights that are nowhere zero, and inputs for it."""
    keras.utils.set_random_seed(seed)
    made, rng = MODELS[name](), np.random.default_rng(seed)
    for variable in made.weights:
        if variable.name != "moving_variance":
            noise = rng.normal(size=variable.shape) * 0.3
            variable.assign(keras.ops.convert_to_numpy(variable.value) + noise)
    return made, inputs_for(made, rng)


def inputs_for(made, rng):
    def one(tensor):
        shape = (3, *(7 if size is None else size for size in tensor.shape[1:]))
        if "int" in tensor.dtype:
            return rng.integers(0, 20, size=shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    structure = made.inputs[0] if isinstance(made, keras.Sequential) else made.input
    return keras.tree.map_structure(one, structure)


@model
def convolutions():
    inputs = keras.Input((8, 8, 3))
    x = first = layers.Conv2D(8, 3, padding="same", activation="sigmoid")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    x = layers.Add()([x, first])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([x, layers.Conv2D(6, 1)(x)])
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)
    x = ops.relu(x) + 1.0
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(12)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@model
def siamese():
    a, b = keras.Input((6,)), keras.Input((6,))
    hidden, last = layers.Dense(8, "tanh"), layers.Dense(6)
    both = layers.Concatenate()([last(hidden(a)), last(hidden(b))])
    return keras.Model([a, b], layers.Dense(2)(both))


@model
def nested():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(10, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(6, 1),
        ]
    )
    inputs = keras.Input((8, 8, 3))
    x = inner(layers.Conv2D(6, 3, padding="same")(inputs))
    x = layers.ZeroPadding2D(1)(layers.Conv2D(6, 3, padding="same")(x))
    x = layers.GlobalMaxPooling2D()(inner(x))
    return keras.Model(inputs, layers.Dense(2)(x))


@model
def transformer():
    inputs = keras.Input((10,), dtype="int32")
    x = layers.Embedding(20, 16)(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 6)(x, x)])
    x = layers.LayerNormalization()(x)
    x = x + layers.Dense(16)(layers.Dense(4)(layers.Dense(32, "gelu")(x)))
    x = layers.GroupQueryAttention(4, 6, 2)(x, x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@model
def recurrent():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 12)(inputs)
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(x)
    x = layers.LSTM(8, return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Dense(5, "relu"))(layers.Conv1D(6, 2)(x))
    x = layers.Bidirectional(layers.SimpleRNN(4), merge_mode="sum")(x)
    x = layers.RepeatVector(4)(layers.Dense(6)(x))
    x, _, state = layers.LSTM(4, return_state=True)(x)
    return keras.Model(inputs, [layers.Dense(2)(x), layers.Dense(2)(state)])


@model
def groups():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(12, 1)(inputs)
    x = kf.blocks.GroupedConv2D(24, 3, groups=4, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = kf.blocks.GroupedConv2D(24, 3, groups=24)(x)
    x = layers.Conv2D(8, 1)(layers.GroupNormalization(-1)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))


@model
def einsum():
    inputs = keras.Input((5, 8))
    x = layers.EinsumDense("abc,cde->abde", (5, 2, 6), bias_axes="e")(inputs)
    x = layers.EinsumDense("abde,def->abf", (5, 7), bias_axes="f")(ops.relu(x))
    x = layers.EinsumDense("...x,xy->...y", 9, bias_axes="y")(layers.Dense(6)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@model
def operations():
    inputs = keras.Input((6, 8))
    x = layers.Dense(12)(inputs)
    first, second = ops.split(x, 2, axis=-1)
    y = ops.concatenate([first * second, ops.maximum(first, 0.5)], axis=-1)
    y = ops.squeeze(ops.expand_dims(ops.transpose(y, (0, 2, 1)), 1), 1)
    y = ops.transpose(layers.Dense(5)(y), (0, 2, 1))
    flat = ops.reshape(y, (-1, 5 * 12))
    z = layers.Dense(8)(inputs)[:, :, 2:7]
    mean = ops.mean(ops.where(z > 0, z, 0.0), axis=1)
    return keras.Model(inputs, [layers.Dense(2)(flat), layers.Dense(3)(mean)])


@model
def products():
    inputs = keras.Input((6, 8))

    def heads(x):  # whole heads go, as those of MultiHeadAttention
        return ops.transpose(ops.reshape(x, (-1, 6, 3, 2)), (0, 2, 1, 3))

    q, k, v = (heads(layers.Dense(6)(inputs)) for _ in range(3))
    scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) / 2.0)
    x = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
    x = layers.Dense(5)(ops.reshape(x, (-1, 6, 6)))
    q, k, v = (layers.Dense(4)(x) for _ in range(3))
    x = ops.einsum("bqk,...kd->...qd", ops.einsum("bqd,bkd->bqk", q, k), v)
    x = layers.Attention()([layers.Dense(7)(x), layers.Dense(7)(x)])
    y = layers.Dot(axes=-1)([layers.Dense(3)(x), layers.Dense(3)(x)])
    return keras.Model(inputs, [layers.Dense(2)(x), layers.Dense(2)(y)])


@model
def masks():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6, mask_zero=True)(inputs)
    x = layers.TimeDistributed(layers.Dense(5))(x)
    x = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True))(x)
    x = layers.Dropout(0.5)(layers.SimpleRNN(6, return_sequences=True)(x))
    x = layers.MultiHeadAttention(3, 2)(x, x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@model
def more_operations():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 3)(inputs)
    gate = layers.Dense(6, "sigmoid")(ops.mean(x, axis=(1, 2), keepdims=True))
    x = layers.Permute((2, 1, 3))(x * gate)
    x = ops.pad(ops.max_pool(x, 2, 1), [[0, 0], [1, 0], [0, 1], [0, 0]])
    x = ops.mean(ops.stack([x, layers.Conv2D(6, 1)(x)], axis=1), axis=1)
    x = layers.Dense(8)(layers.GlobalMaxPooling2D()(x))
    x = ops.max(layers.Reshape((4, 2))(x), axis=-1)  # maxout
    return keras.Model(inputs, layers.Dense(2)(x))


@model
def mixer():
    inputs = keras.Input((6, 8))
    x = layers.Dense(10)(inputs)
    mixed = layers.Permute((2, 1))(x)
    mixed = layers.Dense(6)(layers.Dense(14, "gelu")(mixed))
    x = layers.Concatenate()([x, layers.Permute((2, 1))(mixed)])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@model
def blocks():
    own = kf.blocks
    inputs = keras.Input((16, 16, 3))
    x = own.ConvNormAct(8)(inputs)
    x = own.InvertedResidual(8, expansion=3, se_ratio=0.25)(x)
    x = own.ShuffleUnit(16)(own.ShuffleUnit(16, strides=2)(x))
    x = own.GhostBottleneck(16, expansion=2)(x)
    x = own.Fire(16)(x)
    x = own.UniversalInvertedBottleneck(16, start_kernel_size=3, expansion=2)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))


@model
def dicts():
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    hidden = layers.Subtract()([layers.Dense(8)(a), layers.Dense(8)(b)])
    gate = layers.Dense(1)(hidden)
    outputs = {"u": layers.Dense(2)(layers.Dense(6)(hidden) * gate), "v": gate}
    return keras.Model({"a": a, "b": b}, outputs)


@model
def volumes():
    inputs = keras.Input((6, 6, 6, 2))
    x = layers.AveragePooling3D(2)(layers.Conv3D(6, 3, padding="same")(inputs))
    x = layers.Conv3DTranspose(4, 2)(layers.UpSampling3D(2)(x))
    x = layers.GlobalAveragePooling3D()(layers.Cropping3D(1)(x))
    return keras.Model(inputs, layers.Dense(2)(x))


@model
def one_neuron():
    return keras.Sequential([keras.Input((1,)), layers.Dense(1)])
