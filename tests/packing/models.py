"""Models of the kinds that are packed."""

import json
import pathlib

import keras
import numpy as np

import keras_fitkit as kf

layers = keras.layers


@keras.saving.register_keras_serializable("packing_tests")
class Subclassed(keras.Model):
    """Built by its first call; its layers are attributes and in a list."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = [layers.Dense(units), layers.Dense(units)]
        self.head = layers.Dense(2)

    def call(self, inputs):
        x = inputs
        for layer in self.hidden:
            x = keras.ops.relu(layer(x))
        return self.head(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Unregistered(layers.Layer):
    """Known only through `custom_objects`; keeps its state in its own way."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, inputs):
        return inputs * self.scale

    def save_own_variables(self, store):
        store["the scale"] = keras.ops.convert_to_numpy(self.scale.value)

    def load_own_variables(self, store):
        self.scale.assign(store["the scale"])


def sequential():
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5, seed=3),
            layers.Dense(3),
        ]
    )


def nested_and_shared():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="in_it")])
    shared = layers.Dense(6, activation="relu")
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    joined = layers.Concatenate()([shared(a), inner(shared(b))])
    outputs = {"one": layers.Dense(1)(joined), "two": layers.Dense(2)(joined)}
    return keras.Model({"a": a, "b": b}, outputs)


def images():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def subclassed():
    model = Subclassed()
    model(np.ones((1, 12), "f4"))
    return model


def text():
    return keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(9, 4), layers.LSTM(3)]
    )


def other_floats():
    policies = ["bfloat16", "mixed_bfloat16", "float16"]
    if keras.backend.backend() != "jax":  # it has no float64 unless told to
        policies.append("float64")
    made = [layers.Dense(4, dtype=one) for one in policies]
    return keras.Sequential([keras.Input((12,)), *made])


def quantized():
    return kf.quantize_model(images(), "int8")


def stripped():
    return kf.strip_quantization(quantized())


def block():
    inputs = keras.Input((8, 8, 4))
    x = kf.blocks.GhostModule(8)(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))


def golden():
    """The model of net.kfz, which no release may fail to read. Made by

        python -c "from tests.packing import models; models.write_golden()"

    It has a tensor in each of the ways: pruned, clustered, on grids, floats.
    """
    rng = np.random.default_rng(5)
    model = keras.Sequential(
        [
            keras.Input((24,)),
            layers.Dense(40, "relu"),
            layers.Dense(32, "relu"),
            layers.Dense(30),
            layers.BatchNormalization(),
            layers.Dense(5),
        ]
    )
    full = rng.gamma(0.5, 0.3, (24, 1)) * rng.gamma(1.5, 1, 40)
    book = np.array([-0.75, -0.25, 0.125, 0.5], "f4")
    sparse = np.where(rng.random((24, 40)) < full, rng.choice(book, (24, 40)), 0)
    grid = rng.normal(size=(40, 32)).astype("f4")
    scale = np.abs(grid).max(axis=0, keepdims=True) / np.float32(127)
    model.layers[0].set_weights([sparse, np.zeros(40)])
    model.layers[1].set_weights([np.round(grid / scale) * scale + 0, np.zeros(32)])
    model.layers[2].set_weights([rng.normal(size=(32, 30)), rng.normal(size=30)])
    books = rng.normal(size=(3, 5))  # a codebook for each channel
    picked = books[rng.integers(0, 3, (30, 5)), np.arange(5)]
    model.layers[4].set_weights([picked, np.zeros(5)])
    return model


def write_golden():
    folder = pathlib.Path(__file__).parent
    model = golden()
    kf.save_packed(model, folder / "net.kfz")
    x = np.linspace(-1, 1, 2 * 24).reshape(2, 24).astype("f4")
    told = {
        "sums": [float(one.astype("f8").sum()) for one in model.get_weights()],
        "outputs": keras.ops.convert_to_numpy(model(x)).tolist(),
    }
    (folder / "net.json").write_text(json.dumps(told, indent=1))


KINDS = {
    one.__name__: one
    for one in (
        sequential,
        nested_and_shared,
        images,
        subclassed,
        text,
        other_floats,
        quantized,
        stripped,
        block,
    )
}


def data(model):
    rng = np.random.default_rng(0)

    def of(shape, dtype):
        kind = "int32" if "int" in str(dtype) else "float32"
        return rng.integers(0, 5, (3, *shape[1:])).astype(kind)

    if not getattr(model, "inputs", None):
        return of((None, 12), "float32")
    found = [of(one.shape, one.dtype) for one in model.inputs]
    if len(found) == 1:
        return found[0]
    return {one.name: x for one, x in zip(model.inputs, found, strict=True)}
