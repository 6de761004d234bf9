"""Which weights are pruned, at any depth, and why others are not."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fitkit._core import targets


def paths(model, **choice):
    found, _ = targets.find(model, **choice)
    return [target.path for target in found]


def build(*stack, shape):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(2, name="l"), (3,), ["l/kernel"]),
        (layers.EinsumDense("ab,bc->ac", 2, name="l"), (3,), ["l/kernel"]),
        (layers.Conv1D(2, 3, name="l"), (8, 3), ["l/kernel"]),
        (layers.Conv2D(2, 3, name="l"), (8, 8, 3), ["l/kernel"]),
        (layers.Conv3D(2, 3, name="l"), (8, 8, 8, 3), ["l/kernel"]),
        (layers.Conv1DTranspose(2, 3, name="l"), (8, 3), ["l/kernel"]),
        (layers.Conv2DTranspose(2, 3, name="l"), (8, 8, 3), ["l/kernel"]),
        (
            layers.SeparableConv2D(2, 3, name="l"),
            (8, 8, 3),
            ["l/depthwise_kernel", "l/pointwise_kernel"],
        ),
        (
            layers.LSTM(2, name="l"),
            (4, 3),
            ["l/lstm_cell/kernel", "l/lstm_cell/recurrent_kernel"],
        ),
        (
            layers.GRU(2, name="l"),
            (4, 3),
            ["l/gru_cell/kernel", "l/gru_cell/recurrent_kernel"],
        ),
        (
            layers.TimeDistributed(layers.Dense(2, name="d"), name="l"),
            (4, 3),
            ["l/d/kernel"],
        ),
    ],
)
def test_kernels_are_found(layer, shape, expected):
    assert paths(build(layer, shape=shape)) == expected


def test_conv_lstm_and_both_directions():
    model = build(layers.ConvLSTM1D(2, 3, name="l"), shape=(4, 8, 3))
    assert [path.rpartition("/")[2] for path in paths(model)] == [
        "kernel",
        "recurrent_kernel",
    ]
    both = build(layers.Bidirectional(layers.GRU(2)), shape=(4, 3))
    assert len(paths(both)) == 4


def test_attention_is_pruned_by_its_four_projections():
    inputs = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(2, 4, name="mha")
    model = keras.Model(inputs, attention(inputs, inputs))
    assert paths(model) == [
        f"mha/{part}/kernel" for part in ("query", "key", "value", "attention_output")
    ]


def test_nested_and_subclassed_models():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = build(layers.Dense(3, name="a"), shape=(4,))
            self.last = layers.Dense(2, name="b")

        def call(self, x):
            return self.last(self.inner(x))

    model = Own()
    model(np.ones((1, 4)))
    assert [path.split("/", 1)[-1] for path in paths(model)] == ["a/kernel", "kernel"]


def test_norms_biases_depthwise_and_embedding_are_left_with_a_reason():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Embedding(9, 8, name="embedding"),
            layers.Reshape((4, 8, 1)),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(2, name="dense"),
        ]
    )
    found, skipped = targets.find(model)
    assert [target.path for target in found] == ["dense/kernel"]
    assert {one.path: one.reason for one in skipped} == {
        "embedding/embeddings": "Embedding is pruned only when named in `layers`",
        "depthwise/kernel": "DepthwiseConv2D is pruned only when named in `layers`",
    }
    named = paths(model, layers=["embedding", "depthwise*"])
    assert named == ["embedding/embeddings", "depthwise/kernel"]


def dense_pair():
    return build(
        layers.Dense(3, name="first"), layers.Dense(2, name="last"), shape=(4,)
    )


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"layers": "first"}, ["first/kernel"]),
        ({"layers": "*/kernel"}, ["first/kernel", "last/kernel"]),
        ({"layers": ["f*", "last/kernel"]}, ["first/kernel", "last/kernel"]),
        ({"exclude": "first"}, ["last/kernel"]),
        ({"layers": "*", "exclude": ["last"]}, ["first/kernel"]),
    ],
)
def test_patterns_choose(choice, expected):
    assert paths(dense_pair(), **choice) == expected


def test_a_layer_chooses_itself_and_what_is_in_it():
    inner = dense_pair()
    model = build(inner, layers.Dense(2, name="outer"), shape=(4,))
    assert len(paths(model, layers=inner)) == 2
    assert paths(model, exclude=[inner]) == ["outer/kernel"]


def test_a_frozen_layer_is_left_unless_it_is_named():
    model = dense_pair()
    model.get_layer("first").trainable = False
    found, skipped = targets.find(model)
    assert [target.path for target in found] == ["last/kernel"]
    assert "not trainable" in skipped[0].reason
    assert paths(model, layers="*") == ["first/kernel", "last/kernel"]


def test_a_weight_used_twice_is_pruned_once():
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert paths(model) == ["shared/kernel"]


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"layers": "frist"}, "`layers` must be patterns.*Did you mean 'first'"),
        ({"layers": "zzz"}, "Weights there are: first/kernel"),
        ({"exclude": "lst"}, "`exclude` must be patterns.*Did you mean 'last'"),
        ({"exclude": "*"}, "`model` must have something to be pruned.*first/kernel"),
        ({"layers": layers.Dense(2, name="other")}, "layers of the model.*other"),
    ],
)
def test_a_choice_that_cannot_be_is_named(choice, text):
    with pytest.raises(ValueError, match=text):
        targets.find(dense_pair(), **choice)


def test_a_model_without_kernels_says_what_it_has():
    model = build(layers.Embedding(5, 2, name="e"), layers.Flatten(), shape=(3,))
    with pytest.raises(
        ValueError, match=r"something to be pruned.*e/embeddings: Embedding"
    ):
        targets.find(model)


@pytest.mark.tensorflow_only
def test_an_int8_kernel_is_refused():
    model = dense_pair()
    model.get_layer("first").quantize("int8")
    with pytest.raises(ValueError, match=r"kernel of floats.*dtype int8.*comes first"):
        targets.find(model)


@pytest.mark.parametrize(
    ("layer", "shape", "inputs", "outputs"),
    [
        (layers.Dense(2), (3,), (0,), (1,)),
        (layers.Conv2D(2, 3), (8, 8, 4), (2,), (3,)),
        (layers.Conv2DTranspose(2, 3), (8, 8, 4), (3,), (2,)),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), (0,), (1, 2)),
    ],
)
def test_axes_are_told_apart(layer, shape, inputs, outputs):
    (target,), _ = targets.find(build(layer, shape=shape))
    assert (target.inputs, target.outputs) == (inputs, outputs)


def test_matrices_and_back():
    model = build(layers.Conv2DTranspose(5, 3), shape=(8, 8, 4))
    (target,), _ = targets.find(model)
    array = np.arange(target.size).reshape(target.shape)
    cube = target.matrices(array)
    assert cube.shape == (9, 4, 5)  # places, inputs, outputs
    assert cube[0, 2, 3] == array[0, 0, 3, 2]
    np.testing.assert_array_equal(target.from_matrices(cube), array)
