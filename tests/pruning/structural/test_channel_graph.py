"""What is tied to what: a model without channels computes as one with them masked."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_fitkit as kf
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from tests.pruning.structural.masking import difference, half_of, masked, without
from tests.pruning.structural.models import MODELS, built


def exact(model, x, seed=0, share=0.5):
    graph = ChannelGraph(model)
    dropped = half_of(graph, np.random.default_rng(seed), share)
    small = without(graph, dropped)
    assert difference(masked(graph, dropped), small, x) < 1e-5
    return graph, small


@pytest.mark.parametrize("name", MODELS)
def test_channels_that_go_are_as_if_masked(name):
    model, x = built(name)
    _, small = exact(model, x)
    if name != "one_neuron":
        assert small.count_params() < model.count_params()


@pytest.mark.parametrize("name", ["convolutions", "recurrent", "groups"])
def test_all_but_one_channel_can_go(name):
    model, x = built(name)
    exact(model, x, share=1.0)


def on_vectors():
    """What can be done with one or two tensors of shape (features,)."""
    shared = layers.Dense(4)
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "tanh"), layers.Dense(4)]
    )
    return {
        "dense": lambda x, y, n: layers.Dense(n, "sigmoid")(x),
        "shared": lambda x, y, n: shared(layers.Dense(3)(x)),
        "nested": lambda x, y, n: inner(layers.Dense(4)(x)),
        **on_both(),
    }


def on_images():
    """The same of shape (height, width, channels)."""
    same = {"padding": "same"}
    return {
        "conv": lambda x, y, n: layers.Conv2D(n, 3, **same)(x),
        "depthwise": lambda x, y, n: layers.DepthwiseConv2D(
            3, depth_multiplier=2, **same
        )(x),
        "pool": lambda x, y, n: layers.MaxPooling2D(2, 1, "same")(x),
        **on_both(),
    }


def on_both():
    return {
        "add": lambda x, y, n: layers.Add()([x, y]),
        "concatenate": lambda x, y, n: layers.Concatenate()([x, y]),
        "norm": lambda x, y, n: layers.BatchNormalization()(x),
        "relu": lambda x, y, n: layers.ReLU()(x),
    }


def grown(data, image):
    """A random graph: each step takes tensors that are there already."""
    inputs = keras.Input((4, 4, 3) if image else (5,))
    kinds = on_images() if image else on_vectors()
    tensors = [inputs]
    for _ in range(data.draw(st.integers(3, 7))):
        x = tensors[data.draw(st.integers(0, len(tensors) - 1))]
        same = [one for one in tensors if one.shape == x.shape]
        other = same[data.draw(st.integers(0, len(same) - 1))]
        make = kinds[data.draw(st.sampled_from(list(kinds)))]
        tensors.append(make(x, other, data.draw(st.integers(1, 5))))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(tensors[-1])))


@settings(max_examples=12, deadline=None)
@given(st.data(), st.booleans())
def test_random_graphs(data, image):
    keras.utils.set_random_seed(0)
    model = grown(data, image)
    x = np.random.default_rng(0).normal(size=(2, *model.inputs[0].shape[1:]))
    exact(model, x.astype("float32"), seed=1)


def test_groups_of_a_residual_net():
    inputs = keras.Input((8, 8, 3))
    x = first = layers.Conv2D(6, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(6, 3, padding="same", name="c")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([first, x]))
    found = kf.channel_groups(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    sums, inner = found.groups
    assert (sums.channels, sums.made_by, sums.used_by) == (6, ("a", "c"), ("b", "head"))
    assert (inner.channels, inner.made_by, inner.used_by) == (4, ("b",), ("c",))
    assert inner.passes == ("norm",)
    assert found.layers == ("a", "b", "norm", "c", "head")
    (head,) = found.frozen
    assert (head.path, head.channels, head.reason) == (
        "head",
        2,
        "an output of the model",
    )
    assert found.frozen_share == 0
    assert found.channels == 10


class Own(layers.Layer):
    def call(self, x):
        return x * 2


def own_function(name):
    def centred(x):
        return x - keras.ops.mean(x, axis=-1, keepdims=True)

    centred.__name__ = name
    return centred


STOPS = {
    "own": (lambda: Own(name="stop"), "stop: Own has no rule"),
    "lambda": (lambda: layers.Lambda(lambda x: x, name="stop"), "Lambda has no rule"),
    "softmax": (lambda: layers.Softmax(name="stop"), "normalizes over the channels"),
    "activation": (
        lambda: layers.Activation("softmax", name="stop"),
        "the activation softmax may look at all channels",
    ),
    "norm": (lambda: layers.LayerNormalization(name="stop"), "`allow_inexact=True`"),
    "group norm": (
        lambda: layers.GroupNormalization(2, name="stop"),
        "`allow_inexact=True`",
    ),
    "unit": (lambda: layers.UnitNormalization(name="stop"), "has no rule"),
    "own relu": (
        lambda: layers.Activation(own_function("relu"), name="stop"),
        "the activation relu may look at all channels",
    ),
    "lora": (lambda: "lora", "has weights that no rule knows"),
}


@pytest.mark.parametrize("kind", STOPS)
def test_what_has_no_rule_keeps_its_channels(kind):
    make, reason = STOPS[kind]
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, name="hidden")(inputs)
    stop = make()
    if stop == "lora":
        stop = layers.Dense(3, name="stop")
        x = stop(hidden)
        stop.enable_lora(1)
    else:
        x = stop(hidden)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    found = kf.channel_groups(model)
    frozen = {one.path: one for one in found.frozen}
    assert frozen["hidden"].channels == 6
    assert reason in frozen["hidden"].reason
    assert kf.shrink(model, layers="*", sparsity=0.0).count_params() > 0


def positions(x):
    """Channels that stand where others have time or space."""
    return layers.Permute((2, 1))(layers.Dense(6, name="hidden")(x))


STOPS_AT_POSITIONS = {
    "recurrent": (lambda x: layers.LSTM(3, name="stop")(positions(x)), "are steps"),
    "both ways": (
        lambda x: layers.Bidirectional(layers.GRU(3), name="stop")(positions(x)),
        "are steps",
    ),
    "group norm": (
        lambda x: layers.GroupNormalization(-1, name="stop")(positions(x)),
        "its statistics are over these positions",
    ),
    "einsum": (
        lambda x: layers.EinsumDense("abc,bd->ad", 3, name="stop")(
            layers.Dense(6, name="hidden")(x)
        ),
        "is taken over the channels",
    ),
    "a sum in einsum": (
        lambda x: ops.einsum("abc->ab", layers.Dense(6, name="hidden")(x)),
        "is taken over the channels",
    ),
    "constants": (
        lambda x: ops.matmul(layers.Dense(6, name="hidden")(x), np.ones((6, 3))),
        "by an array of constants",
    ),
    "normalized": (
        lambda x: layers.Dot(-1, normalize=True)(
            [layers.Dense(6, name="hidden")(x)] * 2
        ),
        "normalizes over the channels",
    ),
    "scores": (
        lambda x: layers.Attention(score_mode="concat")(
            [layers.Dense(6, name="hidden")(x)] * 2
        ),
        "its scores have no rule",
    ),
    "mixed": (
        lambda x: layers.Reshape((6, 5))(layers.Dense(6, name="hidden")(x)),
        "splits or mixes",
    ),
}


@pytest.mark.parametrize("kind", STOPS_AT_POSITIONS)
def test_what_would_change_keeps_its_channels(kind):
    make, reason = STOPS_AT_POSITIONS[kind]
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(make(inputs))))
    frozen = {one.path: one for one in kf.channel_groups(model).frozen}
    assert frozen["hidden"].channels == 6
    assert reason in frozen["hidden"].reason


def test_a_recurrent_layer_that_keeps_its_states_stays_whole():
    inputs = keras.Input(batch_shape=(3, 5, 4))
    x = layers.LSTM(6, stateful=True, name="stop")(layers.Dense(5)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, name="on")(x)))
    small, report = kf.shrink(model, 0.5, return_report=True)
    assert small.get_layer("stop").units == 6
    assert small.get_layer("on").units == 4
    assert report.macs_after is None
    with pytest.raises(ValueError, match="`target_macs` must be None for inputs"):
        kf.shrink(model, target_macs=0.5)
    with pytest.raises(ValueError, match="a model without stateful layers"):
        kf.count_macs(model)


def attending():
    """One group of q and k, which only a product uses, and one of v."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    q, k, v = (layers.Dense(8, name=name)(inputs) for name in "qkv")
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))))
    return keras.Model(inputs, layers.Dense(2)(ops.matmul(scores, v)))


def test_what_a_product_sums_over_is_dead_where_a_factor_is_zero():
    model = attending()
    kernel = keras.ops.convert_to_numpy(model.get_layer("q").kernel)
    kernel[:, [1, 4]] = 0
    model.get_layer("q").kernel.assign(kernel)
    small = kf.shrink(model)
    assert [small.get_layer(name).units for name in "qkv"] == [6, 6, 8]
    x = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
    assert difference(model, small, x) < 1e-6


def test_costs_of_products_and_what_they_cannot_do():
    model = attending()
    _, report = kf.shrink(model, target_macs=0.7, return_report=True)
    assert report.macs_after / report.macs_before == pytest.approx(0.7, rel=0.05)
    bigger = kf.widen(model, 2)  # a copy of a term would count twice
    assert [bigger.get_layer(name).units for name in "qkv"] == [8, 8, 16]
    scored = kf.shrink(model, 0.5, scores="variance", data=np.ones((4, 6, 8)))
    assert scored.get_layer("q").units == scored.get_layer("k").units


def test_heads_are_in_no_tensor_and_do_not_all_go_first():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    x = layers.MultiHeadAttention(8, 2, name="heads")(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, name="on")(x)))
    x = np.random.default_rng(0).normal(size=(16, 6, 8)).astype("float32")
    small = kf.shrink(model, 0.3, scores="variance", data=x)
    assert small.get_layer("heads").num_heads > 1


def test_subclasses_of_layers_have_no_rule():
    class Twice(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, name="a"), Twice(3), layers.Dense(2)]
    )
    assert not kf.channel_groups(model).groups


def test_layer_norms_open_when_asked():
    inputs = keras.Input((4,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    found = kf.channel_groups(model, allow_inexact=True)
    assert found.groups[0].channels == 6
    assert found.inexact == ("norm",)
    small, report = kf.shrink(model, 0.5, allow_inexact=True, return_report=True)
    assert small.get_layer("norm").gamma.shape == (3,)
    assert report.inexact == ("norm",)


def test_the_report_shows_itself():
    model, _ = built("siamese")
    found = kf.channel_groups(model)
    assert "may shrink" in repr(found)
    assert str(found).count("\n") == len(found.groups) + len(found.frozen)
    assert found.to_dict()["groups"][0]["channels"] == 8
    assert "<b>" in found._repr_html_()


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    model, _ = built("convolutions")
    kf.channel_groups(model).plot(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").stat().st_size > 1000


@pytest.mark.parametrize("axis", ["channels_first"])
def test_channels_first(axis):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow on a CPU has no convolutions of that form")
    inputs = keras.Input((3, 8, 8))
    own = {"data_format": axis, "padding": "same"}
    x = layers.Conv2D(6, 3, **own)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.DepthwiseConv2D(3, **own)(layers.PReLU(shared_axes=[2, 3])(x))
    x = layers.SeparableConv2D(5, 3, **own)(layers.MaxPooling2D(data_format=axis)(x))
    x = layers.Flatten(data_format=axis)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    exact(model, np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32"))


def with_head(make, shape):
    inputs = keras.Input(shape)
    found = make(inputs)
    outputs = found if isinstance(found, list) else [found]
    return keras.Model(inputs, [layers.Dense(2)(one) for one in outputs])


def picked(key):
    return lambda x: layers.Dense(8, name="hidden")(x)[key]


ODD = {
    "a step": (picked((slice(None), slice(None), slice(None, None, 2))), (6, 5)),
    "backwards": (picked((slice(None), slice(None), slice(None, None, -1))), (6, 5)),
    "one channel": (picked((slice(None), slice(None), 2)), (6, 5)),
    "the last ones": (picked((Ellipsis, slice(-4, None))), (6, 5)),
    "a wrapped norm": (
        lambda x: layers.TimeDistributed(layers.BatchNormalization())(
            layers.TimeDistributed(layers.Dense(6))(x)
        ),
        (4, 5),
    ),
    "the scores of attention": (
        lambda x: list(
            layers.MultiHeadAttention(4, 3)(x, x, return_attention_scores=True)
        ),
        (6, 5),
    ),
    "a softmax inside": (
        lambda x: layers.Dense(6)(layers.Dense(8, activation="softmax")(x)),
        (6, 5),
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_calls(kind):
    if kind == "backwards" and keras.backend.backend() == "torch":
        pytest.skip("torch has no slices with a negative step")
    keras.utils.set_random_seed(0)
    model = with_head(*ODD[kind])
    x = np.random.default_rng(0).normal(size=(3, *model.inputs[0].shape[1:]))
    exact(model, x.astype("float32"))
