"""shrink: targets, scores, what is dead, and what it refuses."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.pruning.structural import importance
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from tests.pruning.structural.masking import difference, predict
from tests.pruning.structural.models import MODELS, built


def plain(filters=(16, 32), units=24, activation="relu"):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(filters[0], 3, activation=activation, name="first"),
            layers.Conv2D(filters[1], 3, name="second"),
            layers.BatchNormalization(name="norm"),
            layers.Activation(activation, name="relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(units, activation, name="hidden"),
            layers.Dense(4, name="head"),
        ]
    )


IMAGES = np.random.default_rng(0).normal(size=(32, 12, 12, 3)).astype("float32")
LABELS = np.random.default_rng(0).integers(0, 4, 32)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_sparsity_is_the_share_of_channels_that_goes(sparsity):
    small, report = kf.shrink(plain(), sparsity, return_report=True)
    gone = sum(row.before - row.after for row in report.layers)
    assert gone == pytest.approx(sparsity * (16 + 32 + 24), abs=1)
    assert small.output_shape == (None, 4)
    sizes = {row.path: row.after for row in report.layers}
    assert small.get_layer("first").filters == sizes["first"]
    assert small.get_layer("hidden").units == sizes["hidden"]


@pytest.mark.parametrize("target", [0.25, 0.4, 0.75])
@pytest.mark.parametrize("kind", ["macs", "params"])
def test_targets_are_met_within_two_percent(kind, target):
    model = plain((64, 96), 64)
    small = kf.shrink(model, **{f"target_{kind}": target})
    if kind == "params":
        share = small.count_params() / model.count_params()
    else:
        share = kf.count_macs(small).total / kf.count_macs(model).total
    assert share == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("allocation", ["isomorphic", "global", "uniform"])
@pytest.mark.parametrize("target", [0.9, 0.7, 0.5, 0.3])
def test_targets_are_met_where_unlike_layers_have_one_width(allocation, target):
    keras.utils.set_random_seed(3)
    sizes = zip((1, 3, 5, 2), ("a", "b", "c", "d"), strict=True)
    convs = [layers.Conv1D(32, size, name=name) for size, name in sizes]
    pool = layers.GlobalAveragePooling1D()
    model = keras.Sequential([keras.Input((16, 8)), *convs, pool, layers.Dense(3)])
    small = kf.shrink(model, target_macs=target, allocation=allocation)
    share = kf.count_macs(small).total / kf.count_macs(model).total
    assert share == pytest.approx(target, rel=0.02)
    assert kf.shrink(model, 0.02).count_params() < model.count_params()


def test_rounding_and_the_least():
    small = kf.shrink(plain(), 0.5, round_to=8)
    sizes = [small.get_layer(name).filters for name in ("first", "second")]
    assert all(size % 8 == 0 for size in (*sizes, small.get_layer("hidden").units))
    small = kf.shrink(plain(), 0.7, min_keep=6)
    assert min(small.get_layer("first").filters, small.get_layer("hidden").units) >= 6


def test_a_dict_takes_a_share_of_each_layer():
    _, report = kf.shrink(
        plain(), layers={"first": 0.5, "hid*": 0.25}, return_report=True
    )
    sizes = {row.path: row.after for row in report.layers}
    assert sizes == {"first": 8, "second": 32, "hidden": 18, "head": 4}
    assert "parameters" in report.summary


def test_layers_and_exclude_choose():
    sizes = {}
    for name, given in (
        ("layers", {"layers": ["first", "hidden"]}),
        ("exclude", {"exclude": "second"}),
    ):
        _, report = kf.shrink(plain(), 0.5, return_report=True, **given)
        sizes[name] = {row.path: row.after for row in report.layers}
    assert sizes["layers"] == sizes["exclude"]
    assert sizes["layers"]["second"] == 32
    assert sizes["layers"]["first"] + sizes["layers"]["hidden"] == 20


def blocks(scales=(1.0, 1.0)):
    """Two groups of one shape, "a" and "b", and two of other shapes."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8,))
    x = layers.Dense(20, "relu", name="stem")(inputs)
    for name in ("a", "b"):
        inner = layers.Dense(40, "relu", name=name)(x)
        x = layers.Add()([x, layers.Dense(20, name=f"{name}_out")(inner)])
    hidden = layers.Dense(30, "relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    for name, scale in zip(("a", "b"), scales, strict=True):
        spread = np.where(np.arange(40) < 20, 1.0, scale)
        made, used = model.get_layer(name), model.get_layer(f"{name}_out")
        made.kernel.assign(numpy_of(made, "kernel") * spread)
        used.kernel.assign(numpy_of(used, "kernel") * spread[:, None])
    return model


def units(model, *names):
    return [model.get_layer(name).units for name in names]


def test_other_shapes_lose_the_same_fraction():
    for scores in ("l2", "random", "fpgm"):
        small = kf.shrink(blocks(), 0.5, scores=scores)
        assert units(small, "stem", "hidden") == [10, 15]
        assert sum(units(small, "a", "b")) == 40


def test_groups_of_one_shape_compete():
    # Half of the units of "b" are weak: within the 80 units of the shape they go first.
    small = kf.shrink(blocks((1.0, 0.01)), 0.25)
    assert units(small, "a", "b") == pytest.approx([40, 20], abs=1)
    assert units(small, "stem", "hidden") == pytest.approx([15, 22], abs=1)


@pytest.mark.parametrize("allocation", ["isomorphic", "global", "uniform"])
def test_negative_scores_of_your_own(allocation):
    def score(context):
        count = len(context.made[f"{context.name}/kernel"])
        return np.linspace(-1 if context.name == "a" else 1, 2, count)

    model = blocks()
    small = kf.shrink(model, 10 / 130, allocation=allocation, scores=score)
    assert units(small, "a") == [
        pytest.approx(30, abs=10 if allocation == "uniform" else 1)
    ]


def test_uniform_and_global_allocation():
    model = blocks((1.0, 0.01))
    small = kf.shrink(model, 0.25, allocation="uniform")
    sizes = units(small, "stem", "a", "b", "hidden")
    assert sizes == pytest.approx([15, 30, 30, 22], abs=1)
    small = kf.shrink(model, 20 / 130, allocation="global")
    assert units(small, "stem", "a", "b", "hidden") == [20, 40, 20, 30]
    with pytest.raises(ValueError, match="`allocation` must be one of"):
        kf.shrink(model, 0.25, allocation="local")


def test_units_without_any_weight_go_before_all_others():
    model = blocks()
    hidden, head = model.get_layer("hidden"), model.layers[-1]
    dead = np.arange(30) < 24
    hidden.kernel.assign(np.where(dead, 0.0, numpy_of(hidden, "kernel")))
    head.kernel.assign(np.where(dead[:, None], 0.0, numpy_of(head, "kernel")))
    small = kf.shrink(model, 24 / 130)
    assert units(small, "stem", "a", "b", "hidden") == [20, 40, 40, 6]


def scored(score, **given):
    """The filters of the first layer that stay, by their place."""
    model = plain()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = keras.ops.convert_to_numpy(model.get_layer("first").kernel.value)
    small = kf.shrink(model, layers={"first": 0.5}, scores=score, **given)
    after = keras.ops.convert_to_numpy(small.get_layer("first").kernel.value)
    return [
        int(np.flatnonzero((before == after[..., [place]]).all((0, 1, 2)))[0])
        for place in range(after.shape[-1])
    ]


def numpy_of(layer, name):
    return keras.ops.convert_to_numpy(getattr(layer, name).value).astype("float64")


def test_l1_and_l2_are_sums_over_what_makes_and_what_uses():
    model = plain()
    made = numpy_of(model.get_layer("first"), "kernel")
    used = numpy_of(model.get_layer("second"), "kernel")
    for name, power in (("l1", 1), ("l2", 2)):
        expected = (np.abs(made) ** power).sum((0, 1, 2))
        expected = expected + (np.abs(used) ** power).sum((0, 1, 3))
        assert scored(name) == sorted(np.argsort(expected)[8:].tolist())


def test_a_function_of_your_own_gets_the_kernels():
    seen = []

    def score(context):
        seen.append(context)
        return context.made["first/kernel"][:, 0]

    first = numpy_of(plain().get_layer("first"), "kernel")[0, 0, 0]
    assert scored(score) == sorted(np.argsort(first)[8:].tolist())
    context = next(one for one in seen if one.name == "first")
    assert context.made["first/kernel"].shape == (16, 3 * 3 * 3)
    assert context.made["first/bias"].shape == (16, 1)
    assert context.used["second/kernel"].shape == (16, 3 * 3 * 32)
    with pytest.raises(ValueError, match="gives 16 finite numbers for first"):
        scored(lambda context: np.full(len(context.made["first/kernel"]), np.nan))


def test_scores_from_data():
    model = plain()
    hidden = keras.Model(model.inputs[0], model.get_layer("first").output)
    values = predict(hidden, IMAGES)[0].astype("float64").reshape(-1, 16)
    variance = scored("variance", data=IMAGES)
    assert variance == sorted(np.argsort(values.var(0))[8:].tolist())
    apoz = scored("apoz", data=(IMAGES, LABELS))
    assert apoz == sorted(np.argsort((values != 0).mean(0))[8:].tolist())


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
USER = {"first": "second", "second": "hidden"}  # "second" has a norm behind it


@pytest.mark.parametrize("name", ["first", "second"])
def test_taylor_is_the_slope_along_a_gate_on_the_channel(name, monkeypatch):
    monkeypatch.setattr(importance, "TAYLOR_BATCH", 12)  # 12, 12 and 8 rows
    model = plain(activation="tanh")  # no kinks between the two sides of a slope
    model.compile("sgd", LOSS)
    graph = ChannelGraph(model, False)
    group = next(one for one in graph.groups if one.name == name)
    found = importance.scores_of(graph, [group], "taylor", (IMAGES, LABELS), model)
    user = model.get_layer(USER[name])
    kernel, step = numpy_of(user, "kernel"), 2e-3

    def losses(unit, factor):
        gated = kernel.copy()
        gated[..., unit, :] *= factor
        user.kernel.assign(gated)
        logits = model(IMAGES, training=False)
        parts = [slice(0, 12), slice(12, 24), slice(24, 32)]
        values = [LOSS(LABELS[part], logits[part]) for part in parts]
        return np.array([float(keras.ops.convert_to_numpy(one)) for one in values])

    slopes = [
        (losses(unit, 1 + step) - losses(unit, 1 - step)) / (2 * step)
        for unit in range(kernel.shape[-2])
    ]
    shares = np.array([12, 12, 8]) / 32
    expected = np.sqrt((np.square(slopes) * shares).sum(1))
    assert found[0] == pytest.approx(expected, rel=0.03, abs=1e-4)
    small = kf.shrink(model, layers={name: 0.5}, scores="taylor", data=(IMAGES, LABELS))
    stays = sorted(np.argsort(found[0])[len(expected) // 2 :])
    expected = numpy_of(model.get_layer(name), "kernel")[..., stays]
    assert (
        numpy_of(small.get_layer(name), "kernel")[0, 0, 0] == expected[0, 0, 0]
    ).all()


def test_taylor_without_a_kernel_that_uses_the_channels():
    inputs = keras.Input((6,))
    factors = [layers.Dense(5, name=name)(inputs) for name in ("left", "right")]
    model = keras.Model(inputs, layers.Dot((1, 1))(factors))
    left, right = (model.get_layer(name).kernel for name in ("left", "right"))
    left.assign(np.ones((6, 5)))
    right.assign(np.ones((6, 5)) * [3, 1, 5, 2, 4])
    model.compile("sgd", "mse")
    data = (np.ones((4, 6), "float32"), np.zeros((4, 1), "float32"))
    small = kf.shrink(model, 0.4, scores="taylor", data=data)
    kept = keras.ops.convert_to_numpy(small.get_layer("right").kernel)
    assert kept[0].tolist() == [3, 5, 4]


def test_fpgm_keeps_what_is_far_from_the_others():
    kernel = numpy_of(plain().get_layer("first"), "kernel").reshape(-1, 16).T
    distances = np.linalg.norm(kernel[:, None] - kernel[None], axis=2).sum(1)
    assert scored("fpgm") == sorted(np.argsort(distances)[8:].tolist())


def test_batch_norm_scores_are_its_gammas():
    model = plain()
    gamma = np.linspace(1, 2, 32)[::-1].copy()
    model.get_layer("norm").gamma.assign(gamma)
    small = kf.shrink(model, layers={"second": 0.5}, scores="batch_norm")
    assert numpy_of(small.get_layer("norm"), "gamma").tolist() == pytest.approx(
        gamma[:16].tolist()
    )


def test_random_scores_are_the_same_each_time():
    assert scored("random") == scored("random")


def dead_net(padding="valid"):
    """Zero kernels, a zero gamma, unused channels, a residual branch of zeros."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    branch = layers.Conv2D(6, 3, padding="same", name="b")(x)
    branch = layers.ReLU(name="b_relu")(
        layers.BatchNormalization(name="b_norm")(branch)
    )
    branch = layers.Conv2D(8, 3, padding="same", name="c")(branch)
    x = layers.Add(name="sum")([x, branch])
    x = layers.Conv2D(7, 3, name="d")(x)
    x = layers.Activation("sigmoid")(layers.BatchNormalization(name="d_norm")(x))
    x = layers.Conv2D(5, 3, padding=padding, name="e")(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name != "moving_variance":
            variable.assign(rng.normal(size=variable.shape))
    zero(model, "c", "kernel", slice(None))
    zero(model, "c", "bias", slice(None))
    zero(model, "d", "kernel", [1, 4])
    zero(model, "d_norm", "gamma", [2])
    kernel = keras.ops.convert_to_numpy(model.get_layer("e").kernel.value).copy()
    kernel[:, :, 3] = 0  # nobody uses the channel 3 of d
    model.get_layer("e").kernel.assign(kernel)
    return model


def zero(model, layer, name, places):
    variable = getattr(model.get_layer(layer), name)
    value = keras.ops.convert_to_numpy(variable.value).copy()
    value[..., places] = 0
    variable.assign(value)


def test_dead_channels_go_and_nothing_changes():
    model = dead_net()
    x = np.random.default_rng(1).normal(size=(3, 10, 10, 3)).astype("float32")
    small, report = kf.shrink(model, return_report=True)
    assert difference(model, small, x) < 1e-5
    sizes = {row.path: row.after for row in report.layers}
    assert sizes["d"] == 7 - 4
    assert report.folded == ("e/bias",)
    assert {"b", "b_norm", "b_relu", "c", "sum"} <= set(report.dropped)
    left = [type(one).__name__ for one in small.layers[1:]]
    assert left == [
        *("Conv2D", "Conv2D", "BatchNormalization", "Activation"),
        *("Conv2D", "Flatten", "Dense"),
    ]


def test_constants_do_not_go_where_padding_would_show():
    model = dead_net(padding="same")
    x = np.random.default_rng(1).normal(size=(3, 10, 10, 3)).astype("float32")
    small, report = kf.shrink(model, return_report=True)
    assert difference(model, small, x) < 1e-5
    assert {row.path: row.after for row in report.layers}["d"] == 6  # only channel 3
    assert report.folded == ()


@pytest.mark.parametrize("name", MODELS)
def test_without_dead_channels_nothing_goes(name):
    model, x = built(name)
    small = kf.shrink(model)
    assert small.count_params() == model.count_params()
    assert difference(model, small, x) < 1e-6


def test_what_only_dead_channels_need_dies_with_them():
    model = plain()
    kernel = keras.ops.convert_to_numpy(model.get_layer("hidden").kernel.value).copy()
    kernel[5:20] = 0  # of the 32 channels of "second" 15 are not used
    model.get_layer("hidden").kernel.assign(kernel)
    small = kf.shrink(model)
    assert small.get_layer("second").filters == 17
    assert difference(model, small, IMAGES) < 1e-5


def test_the_model_given_is_not_touched():
    model = plain()
    model.compile("adam", "mse")
    config = json.dumps(model.get_config(), default=str)
    before = [keras.ops.convert_to_numpy(one.value) for one in model.weights]
    kf.shrink(model, 0.5)
    assert json.dumps(model.get_config(), default=str) == config
    for value, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(value, keras.ops.convert_to_numpy(variable.value))
    assert model.optimizer is not None


def test_the_result_trains_saves_and_loads(tmp_path):
    model = plain()
    model.get_layer("first").trainable = False
    small = kf.shrink(model, 0.5)
    assert not small.get_layer("first").trainable
    assert small.get_layer("second").trainable
    small.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    small.fit(IMAGES, LABELS, verbose=0)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert difference(small, loaded, IMAGES) < 1e-6


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", ["convolutions", "blocks"])
def test_the_result_runs_in_litert(name, tmp_path):
    model, x = built(name)
    small = kf.shrink(model, 0.5)
    kf.export_litert(small, tmp_path / "small.tflite", mode="float32")
    found = kf.run_litert(tmp_path / "small.tflite", x)
    np.testing.assert_allclose(found, predict(small, x)[0], rtol=1e-3, atol=1e-4)


def test_half_precision_keeps_its_policy():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, dtype="mixed_float16", name="hidden"),
            layers.Dense(2, dtype="float32"),
        ]
    )
    small = kf.shrink(model, 0.5)
    assert small.get_layer("hidden").dtype_policy.name == "mixed_float16"
    assert small.get_layer("hidden").units == 4


def test_one_neuron_goes_through_unharmed():
    model, x = built("one_neuron")
    assert difference(model, kf.shrink(model), x) == 0
    with pytest.raises(
        ValueError, match="`sparsity` must be None: no channel of these"
    ):
        kf.shrink(model, 0.5)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"target_macs": 0.001}, r"`target_macs` must be at least 0\.0"),
        ({"sparsity": 0.999}, r"`sparsity` must be at most 0\.95"),
        ({"layers": {"head": 0.5}}, "those of head may not: an output of the model"),
        ({"layers": {"hiden": 0.5}}, "Did you mean 'hidden'"),
        ({"sparsity": 0.5, "exclude": "sceond"}, "Did you mean 'second'"),
        ({"layers": "first"}, "`layers` must be given with `sparsity`"),
        ({"layers": {"first": 0.5}, "sparsity": 0.5}, "no dict where `sparsity`"),
    ],
)
def test_what_cannot_be(given, text):
    with pytest.raises(ValueError, match=text):
        kf.shrink(plain(), **given)


def test_subclassed_and_quantized_models_are_refused():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(2)

        def call(self, x):
            return self.hidden(x)

    net = Net()
    net(np.ones((1, 3)))
    with pytest.raises(ValueError, match="a functional or Sequential model"):
        kf.shrink(net, 0.5)
    quantized = kf.quantize_model(plain(), "int8")
    for refuses in (lambda model: kf.shrink(model, 0.5), kf.channel_groups):
        with pytest.raises(ValueError, match="a model without quantized layers"):
            refuses(quantized)
    inputs = keras.Input((3,))  # a graph that ends in it
    x = net(layers.Dense(3)(inputs))
    with pytest.raises(ValueError, match=rf"\({net.name}: Net has no rule\)"):
        kf.shrink(keras.Model(inputs, layers.Dense(2)(x)), 0.5)


def test_taylor_wants_a_loss():
    with pytest.raises(ValueError, match="`model` must be compiled with a loss"):
        kf.shrink(plain(), 0.5, scores="taylor", data=(IMAGES, LABELS))


def test_functions_of_your_own_are_copied_as_they_are():
    def relu(x):  # Keras has one of that name
        return keras.ops.maximum(x, -1.0)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="before")(inputs)
    x = layers.Dense(8, relu, name="own")(x)
    x = layers.Dense(8, lambda x: x * 2, name="unnamed")(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    x = 9 * np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    assert difference(model, kf.shrink(model, 0.0), x) < 1e-6
    assert kf.shrink(model, 0.5).get_layer("before").units == 4


def test_the_report_shows_itself():
    _, report = kf.shrink(plain(), 0.5, return_report=True)
    assert json.loads(json.dumps(report.to_dict()))["params_before"] > 0
    assert repr(report) == f"<ShrinkReport: {report.summary}>"
    assert "first" in str(report)
    assert "<table>" in report._repr_html_()
    assert report.kept == {"head": "an output of the model"}
    assert 0.4 < report.sparsity < 0.6
    assert report.macs_after < report.macs_before
