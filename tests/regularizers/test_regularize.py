"""regularize: what goes into a model, where, and that nothing else changes."""

import functools

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.tools import warns_once

layers = keras.layers


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            value = rng.uniform(0.2, 1.0, variable.shape)
            variable.assign(value / max(1, np.prod(variable.shape[:-1]) ** 0.5))
    return model


def small(*more):
    return randomized(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, "relu", name="one"),
                *more,
                layers.Dense(4, name="two"),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(name="relu"),
                layers.Dense(2, "softmax", name="head"),
            ]
        )
    )


def convolutions():
    return randomized(
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                layers.Rescaling(1 / 255, name="scale"),
                layers.Conv2D(4, 3, name="plain", use_bias=False),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(name="relu"),
                layers.Conv2D(4, 3, activation="relu", name="own"),
                layers.BatchNormalization(name="late"),
                layers.MaxPooling2D(name="pool"),
                layers.Flatten(name="flat"),
                layers.Dense(2, name="head"),
            ]
        )
    )


def rows(model, count=3):
    rng = np.random.default_rng(1)
    found = [
        rng.uniform(0, 1, (count, *one.shape[1:])).astype("float32")
        for one in model.inputs
    ]
    return found[0] if len(found) == 1 else found


def outputs(model, data):
    found = model(data, training=False)
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(found)]


def same(one, other, data=None):
    data = rows(one) if data is None else data
    for first, second in zip(outputs(one, data), outputs(other, data), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


def names(model):
    kind = layers.InputLayer
    return [layer.name for layer in model.layers if not isinstance(layer, kind)]


def total(model):
    return sum(float(keras.ops.convert_to_numpy(one)) for one in model.losses)


def squares(model, *paths, power=2):
    return sum(
        (np.abs(keras.ops.convert_to_numpy(one.value)) ** power).sum()
        for one in model.variables
        if one.path in paths
    )


def test_dropout_is_after_hidden_activations():
    model = small()
    new = kf.regularize(model, dropout=0.3)
    assert names(new)[-7:] == [
        "one",
        "one_dropout",
        "two",
        "norm",
        "relu",
        "relu_dropout",
        "head",
    ]
    same(model, new)
    drop = new.get_layer("one_dropout")
    assert drop.current == pytest.approx(0.3)
    assert drop.parts == "elements"


def test_convolutions_lose_channels_and_nothing_is_between_them_and_their_norms():
    model = convolutions()
    new = kf.regularize(model, dropout=0.3)
    found = names(new)
    assert found[found.index("plain") + 1] == "norm"
    assert found[found.index("own") + 1] == "late"
    assert found[found.index("relu") + 1] == "relu_dropout"
    assert found[found.index("late") + 1] == "late_dropout"
    assert new.get_layer("relu_dropout").parts == "channels"
    same(model, new)


def test_channels_first_channels():
    layer = kf.regularizers.AdjustableDropout(
        0.5, parts="channels", data_format="channels_first", seed=0
    )
    found = keras.ops.convert_to_numpy(
        layer(np.ones((8, 6, 3, 3), "float32"), training=True)
    )
    assert set(np.unique(found)) == {0.0, 2.0}
    np.testing.assert_array_equal(found, found[:, :, :1, :1] * np.ones((1, 1, 3, 3)))


def test_a_dropout_that_is_there_gets_the_rate():
    model = small(layers.Dropout(0.1, name="drop"))
    new, report = kf.regularize(model, dropout=0.4, return_report=True)
    assert names(new).count("drop") == 1
    assert "one_dropout" not in names(new)
    assert new.get_layer("drop").current == pytest.approx(0.4)
    assert "drop: rate 0.1 -> 0.4" in str(report)
    same(model, new)


def test_a_dropout_goes_with_the_layer_before_it():
    model = small(layers.Dropout(0.1, name="drop"))
    new = kf.regularize(model, dropout=0.4, layers="one")
    assert new.get_layer("drop").current == pytest.approx(0.4)
    assert "relu_dropout" not in names(new)
    new = kf.regularize(model, dropout=0.4, exclude="one")
    assert new.get_layer("drop").rate == 0.1
    assert "drop" in names(kf.regularize(new, "none", exclude="one"))
    bare = kf.regularize(new, "none", layers="one")
    assert "drop" not in names(bare)
    assert "relu_dropout" in names(bare)


def test_rates_stay_variables_where_it_is_called_again():
    new = kf.regularize(small(), dropout=0.0, noise=0.1)
    new.get_layer("one_dropout").strength.assign(0.25)  # as a schedule does
    again = kf.regularize(new, l2=1e-3)
    assert names(again) == names(new)
    assert again.get_layer("one_dropout").current == pytest.approx(0.25)
    assert again.get_layer("input_noise").current == pytest.approx(0.1)
    other, report = kf.regularize(again, dropout=0.5, return_report=True)
    assert other.get_layer("one_dropout").current == pytest.approx(0.5)
    assert "one_dropout: rate 0.25 -> 0.5" in str(report)


def test_precision_stays_that_of_the_layers():
    inputs = keras.Input((4,), dtype="float16")
    x = layers.Dense(4, name="one", dtype="float16")(inputs)
    x = keras.ops.relu(x)
    model = keras.Model(inputs, layers.Dense(2, name="head", dtype="float16")(x))
    new = kf.regularize(model, dropout=0.2, noise=0.1)
    added = [one for one in new.layers if hasattr(one, "strength")]
    assert [one.compute_dtype for one in added] == ["float16", "float16"]
    assert {one.strength.dtype for one in added} == {"float32"}


def test_a_number_is_no_gate():
    inputs = keras.Input((4,))
    x = layers.Dense(4, "relu", name="one")(inputs) * 2.0
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    assert "one_dropout" in names(kf.regularize(model, dropout=0.2))


def test_a_frozen_base_gets_no_dropout_and_the_head_does():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Conv2D(4, 3, activation="relu", name="last"),
        ],
        name="base",
    )
    inner.trainable = False
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(inner(inputs, training=False))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    for excluded in (None, inner, "base"):
        new, report = kf.regularize(
            model, dropout=0.3, exclude=excluded, return_report=True
        )
        assert names(new) == ["base", "pool", "pool_dropout", "head"]
        assert names(new.get_layer("base")) == ["conv", "last"]
        same(model, new)
        assert ("no dropout among frozen layers, 2 places" in str(report)) == (
            excluded is None
        )
    there = keras.Model(
        inputs, layers.Dense(2, name="head")(layers.Dropout(0.1, name="drop")(x))
    )
    new = kf.regularize(there, dropout=0.3, exclude="base")
    assert new.get_layer("drop").current == pytest.approx(0.3)


def test_an_excluded_dropout_stays_and_is_not_doubled():
    model = small(layers.Dropout(0.1, name="drop"))
    new = kf.regularize(model, dropout=0.4, exclude="drop")
    assert new.get_layer("drop").rate == 0.1
    assert "one_dropout" not in names(new)


@pytest.mark.parametrize(
    ("given", "power"), [({"l1": 1e-3}, 1), ({"l2": 1e-3}, 2), ("l1-medium", 1)]
)
def test_penalties_are_sums_over_kernels(given, power):
    model = small()
    asked = {"preset": given} if isinstance(given, str) else given
    new = kf.regularize(model, **asked)
    factor = 1e-5 if isinstance(given, str) else 1e-3
    paths = ("one/kernel", "two/kernel", "head/kernel")
    expected = factor * squares(new, *paths, power=power)
    assert total(new) == pytest.approx(expected, rel=1e-5)
    assert model.losses == []
    same(model, new)


@pytest.mark.parametrize(
    "name",
    [
        one.name
        for one in kf.regularizers.list_presets().presets
        if one.regularizer is not None
    ],
)
def test_the_penalty_of_each_preset_is_that_of_numpy(name):
    preset = next(
        one for one in kf.regularizers.list_presets().presets if one.name == name
    )
    new, _ = kf.regularize(shared(), name, return_report=True)
    expected = 0.0
    for layer in ("one", "two", "head"):
        kernel = keras.ops.convert_to_numpy(new.get_layer(layer).kernel.value)
        expected += (preset.l1 or 0) * np.abs(kernel).sum()
        expected += (preset.l2 or 0) * np.square(kernel).sum()
        if preset.orthogonal:
            unit = kernel / np.linalg.norm(kernel, axis=0)
            products = unit.T @ unit
            off = np.abs(products - np.diag(np.diag(products))).sum()
            count = kernel.shape[1] * (kernel.shape[1] - 1) / 2
            expected += preset.orthogonal * 0.5 * off / count
    assert total(new) == pytest.approx(expected, rel=1e-4)


def test_penalties_reach_compiled_functions_and_files(tmp_path):
    new = kf.regularize(small(), l2=0.1, dropout=0.2)
    new.compile("sgd", "mse")
    data, labels = rows(new), np.zeros((3, 2), "float32")
    plain = np.square(outputs(new, data)[0]).mean()
    expected = plain + total(new)
    found = new.evaluate(data, labels, verbose=0)
    assert found == pytest.approx(expected, rel=1e-4)
    new.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert total(loaded) == pytest.approx(total(new), rel=1e-6)
    assert loaded.get_layer("one_dropout").current == pytest.approx(0.2)
    same(new, loaded)


@functools.cache
def shared():
    """A model for tests that leave it as it is, which `regularize` does."""
    return small()


@pytest.mark.parametrize(
    "name", ["resnet", "vgg", "dropout-light", "gaussian-noise", "max-norm"]
)
def test_presets_train(name):
    """A step of each kind of thing that they put into a model, on every backend."""
    new, _ = kf.regularize(shared(), name, return_report=True)
    new.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    found = new.train_on_batch(rows(new), np.ones((3, 2), "float32"))
    assert np.isfinite(np.asarray(found)).all(), name


RECIPES = {
    "resnet": {"l2": 1e-4 / 2},
    "vgg": {"l2": 5e-4 / 2, "dropout": 0.5},
    "vit-augreg": {"weight_decay": 1e-4 / 1e-3},
    "deit": {"stochastic_depth": 0.1, "weight_decay": 0.05, "label_smoothing": 0.1},
    "convnext": {
        "stochastic_depth": 0.1,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
    },
    "bert-finetune": {"dropout": 0.1, "weight_decay": 0.01},
    "mlp-tabular": {"dropout": 0.15, "weight_decay": 0.02, "label_smoothing": 0.1},
    "max-norm": {"max_norm": 4.0},
    "label-smoothing": {"label_smoothing": 0.1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_converted_numbers_of_their_papers(name):
    preset = next(
        one for one in kf.regularizers.list_presets().presets if one.name == name
    )
    assert preset.settings == pytest.approx(RECIPES[name])
    assert "arXiv:" in preset.source or "JMLR" in preset.source
    assert preset.conversion
    told = " ".join(preset.by_hand)
    assert ("AdamW" in told) == ("weight_decay" in preset.settings)
    assert ("label_smoothing=0.1" in told) == ("label_smoothing" in preset.settings)


def test_a_decay_of_sgd_is_half_of_l2():
    """One step of torch's rule, w - lr * (grad + wd * w), with a gradient of zero."""
    new, _ = kf.regularize(small(), "resnet", return_report=True)
    before = keras.ops.convert_to_numpy(new.get_layer("head").kernel.value).copy()
    zeros = keras.losses.MeanSquaredError()
    new.compile(
        keras.optimizers.SGD(1.0),
        lambda y, p: 0.0 * zeros(y, p),
        run_eagerly=True,
    )
    new.train_on_batch(rows(new), np.ones((3, 2), "float32"))
    after = keras.ops.convert_to_numpy(new.get_layer("head").kernel.value)
    np.testing.assert_allclose(after, before * (1 - 1e-4), rtol=1e-6)


def test_max_norm_holds_the_columns():
    new = kf.regularize(convolutions(), max_norm=0.05)
    new.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    new.train_on_batch(rows(new), np.ones((3, 2), "float32"))
    for name in ("plain", "own", "head"):
        kernel = keras.ops.convert_to_numpy(new.get_layer(name).kernel.value)
        norms = np.sqrt(np.square(kernel).reshape(-1, kernel.shape[-1]).sum(0))
        assert norms.max() <= 0.05 * (1 + 1e-4)


def test_noise_comes_after_the_scaling():
    new = kf.regularize(convolutions(), noise=0.1)
    assert names(new)[:2] == ["scale", "input_noise"]
    same(convolutions(), new)


def test_noise_is_not_for_tokens():
    inputs = keras.Input((5,))
    x = layers.Embedding(9, 4)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ValueError, match=r"a place for what is asked for.*no noise on"):
        kf.regularize(model, noise=0.1)


def test_augmentation_at_the_input():
    model = convolutions()
    new, report = kf.regularize(model, augment="image-strong", return_report=True)
    kinds = [type(layer).__name__ for layer in new.layers[1:3]]
    assert kinds == ["RandomFlip", "RandomTranslation"]
    same(model, new)
    assert "augmented by RandomFlip, RandomTranslation" in str(report)


def test_none_takes_everything_out():
    kernel = {"kernel_regularizer": "l2", "bias_regularizer": "l1"}
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.GaussianNoise(0.1),
            layers.LSTM(4, dropout=0.2, return_sequences=True, name="lstm"),
            layers.SpatialDropout1D(0.2),
            layers.Bidirectional(layers.GRU(3, recurrent_dropout=0.1, **kernel)),
            layers.Dropout(0.5),
            layers.ActivityRegularization(0.1),
            layers.Dense(
                2, kernel_constraint=keras.constraints.MaxNorm(3), name="head", **kernel
            ),
        ]
    )
    new, report = kf.regularize(model, "none", return_report=True)
    assert [type(layer).__name__ for layer in new.layers[1:]] == [
        "LSTM",
        "Bidirectional",
        "Dense",
    ]
    assert new.losses == []
    assert new.get_layer("head").kernel_constraint is None
    assert new.get_layer("lstm").dropout == 0
    assert new.layers[2].forward_layer.recurrent_dropout == 0
    same(model, new)
    assert "lstm: dropout 0.2 -> 0" in str(report)
    with pytest.raises(ValueError, match="with regularization to take away"):
        kf.regularize(new, "none")


def test_regularize_undoes_itself():
    model = convolutions()
    new = kf.regularize(kf.regularize(model, l2=0.1, dropout=0.3, noise=0.1), "none")
    assert names(new) == names(model)
    assert new.losses == []
    same(model, new)


def test_residual_branches_get_deeper_rates():
    inputs = keras.Input((8,))
    x = layers.Dense(8, "relu", name="first")(inputs)
    for number in range(3):
        y = layers.Dense(8, "relu", name=f"in{number}")(x)
        y = layers.Dense(8, name=f"out{number}")(y)
        x = layers.Add(name=f"add{number}")([x, y])
    shortcut = layers.Dense(4, name="projection")(x)
    y = layers.Dense(4, name="out3")(layers.Dense(6, "relu", name="in3")(x))
    x = layers.Add(name="add3")([shortcut, y])
    model = randomized(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    new = kf.regularize(model, "stochastic-depth")
    rates = [new.get_layer(f"out{n}_dropout").current for n in range(4)]
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    assert new.get_layer("out3_dropout").parts == "examples"
    same(model, new)


def test_stochastic_depth_that_is_there_gets_the_line_and_no_dropout_rate():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    ends = (
        layers.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="keras"),
        kf.blocks.StochasticDepth(0.2, name="block"),
        layers.Dropout(0.2, name="plain"),
    )
    for number, end in enumerate(ends):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv{number}")(x)
        x = layers.Add(name=f"add{number}")([x, end(y)])
    # a shortcut without weights
    y = layers.Conv2D(4, 3, 2, padding="same", name="conv3")(x)
    x = layers.Add(name="add3")([layers.MaxPooling2D(1, 2, name="pool")(x), y])
    model = keras.Model(inputs, layers.Flatten(name="flat")(x))
    new = kf.regularize(model, "stochastic-depth")
    found = ("keras", "block", "plain_dropout", "conv3_dropout")
    # the block of this package is expanded into a Keras layer
    rates = [getattr(one, "current", one.rate) for one in map(new.get_layer, found)]
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    assert {getattr(new.get_layer(one), "parts", "examples") for one in found} == {
        "examples"
    }
    dropped = kf.regularize(model, dropout=0.4)
    assert dropped.get_layer("keras").rate == pytest.approx(0.2)
    assert dropped.get_layer("block").rate == pytest.approx(0.2)
    same(model, new)


def test_gates_and_heads_stay_whole():
    inputs = keras.Input((8, 8, 4))
    x = kf.blocks.inverted_residual(inputs, 4, se_ratio=0.5, name="b")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(3, name="logits")(x)
    model = randomized(keras.Model(inputs, layers.Activation("tanh", name="end")(x)))
    new = kf.regularize(model, dropout=0.2)
    added = [name for name in names(new) if name.endswith("_dropout")]
    assert added == ["b_expand_act_dropout", "b_depthwise_act_dropout", "pool_dropout"]
    same(model, new)


def test_blocks_are_opened_and_can_be_chosen_or_excluded():
    inputs = keras.Input((8, 8, 4))
    x = kf.blocks.ConvNormAct(4, name="stem")(inputs)
    x = kf.blocks.ConvNormAct(4, name="rest")(x)
    model = randomized(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    new = kf.regularize(model, l2=0.1, layers="stem")
    penalized = squares(new, "stem_conv/kernel")
    assert total(new) == pytest.approx(0.1 * penalized, rel=1e-5)
    kept = kf.regularize(model, l2=0.1, exclude=[model.get_layer("stem"), "head"])
    assert type(kept.get_layer("stem")) is kf.blocks.ConvNormAct
    assert total(kept) == pytest.approx(0.1 * squares(kept, "rest_conv/kernel"), 1e-5)
    same(model, new)
    same(model, kept)


@pytest.mark.parametrize(
    "selection",
    [
        "h*",
        layers.Conv2D,
        lambda layer: layer.name in ("plain", "own"),
        ["own", layers.Conv2D],
    ],
)
def test_layers_by_pattern_class_and_function(selection):
    model = convolutions()
    new = kf.regularize(model, l2=0.1, layers=selection)
    paths = ["head/kernel"] if selection == "h*" else ["plain/kernel", "own/kernel"]
    assert total(new) == pytest.approx(0.1 * squares(new, *paths), rel=1e-5)


def test_selections_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="such that it means a layer of the model"):
        kf.regularize(small(), l2=0.1, exclude=layers.LSTM)


def test_nested_shared_and_several_ends():
    inner = randomized(
        keras.Sequential(
            [keras.Input((6,)), layers.Dense(6, "relu", name="inside")], name="inner"
        )
    )
    shared = layers.Dense(6, "relu", name="shared")
    one, two = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    x = layers.Concatenate()([shared(inner(one)), shared(two)])
    model = keras.Model(
        {"a": one, "b": two},
        {"p": layers.Dense(2, name="p")(x), "q": layers.Dense(1, name="q")(x)},
    )
    randomized(model)
    new = kf.regularize(model, l2=0.1, dropout=0.2)
    data = dict(zip("ab", rows(model), strict=True))
    same(model, new, data)
    assert "inside_dropout" in names(new.get_layer("inner"))
    assert {"shared_dropout", "shared_dropout_1"} <= set(names(new))
    # the shared kernel counts once
    paths = ("inside/kernel", "shared/kernel", "p/kernel", "q/kernel")
    assert total(new) == pytest.approx(0.1 * squares(new, *paths), rel=1e-4)


def test_sequences():
    inputs = keras.Input((5,))
    x = layers.Embedding(9, 8, name="tokens")(inputs)
    x = layers.LSTM(8, return_sequences=True, dropout=0.1, name="lstm")(x)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm")(layers.Add()([x, y]))
    x = layers.TimeDistributed(layers.Dense(8, "relu"), name="each")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = randomized(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    new, report = kf.regularize(model, l1=1e-3, dropout=0.2, return_report=True)
    added = [name for name in names(new) if name.endswith("_dropout")]
    assert added == [
        "lstm_dropout",
        "attention_dropout",
        "each_dropout",
        "pool_dropout",
    ]
    assert new.get_layer("lstm").dropout == 0.2
    assert [row.name for row in report.kept] == ["tokens"]
    same(model, new, np.ones((2, 5)))


class Mine(keras.Model):
    """A subclassed model; `kind` is what makes it harder to open."""

    def __init__(self, kind=""):
        super().__init__(name="mine")
        self.kind = kind
        self.first = layers.Dense(6, "relu", name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop = layers.Dropout(0.1, name="drop")
        self.head = layers.Dense(2, name="head")

    def call(self, inputs, training=None):
        x = self.norm(self.first(inputs)) + 1.0
        if self.kind != "no dropout":
            x = self.drop(x, training=training)
        if self.kind == "branch" and training:
            x = x * 2.0
        if self.kind == "values" and keras.ops.convert_to_numpy(x)[0, 0] > 0:
            x = -x
        if self.kind == "losses":
            self.add_loss(keras.ops.mean(x))
        return self.head(x)


class OwnStep(Mine):
    def train_step(self, *args):
        return super().train_step(*args)


def called(model):
    model(np.ones((1, 3), "float32"))
    return randomized(model)


def test_a_subclassed_model_becomes_a_functional_one():
    model = called(Mine())
    new = kf.regularize(model, l2=0.1, dropout=0.4, exclude="head")
    data = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    same(model, new, data)
    assert new.get_layer("drop").current == pytest.approx(0.4)
    assert total(new) == pytest.approx(
        0.1 * (keras.ops.convert_to_numpy(model.first.kernel.value) ** 2).sum(), 1e-5
    )
    assert model.losses == []
    new.compile("sgd", "mse", run_eagerly=True)
    assert np.isfinite(np.asarray(new.train_on_batch(data, np.ones((5, 2)))))
    bare = kf.regularize(model, "none")
    assert "drop" not in names(bare)
    same(model, bare, data)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("branch", "does something else in training"),
        ("values", "takes no symbolic tensors"),
        ("losses", "takes no symbolic tensors .*add_loss"),
        ("step", "has a `train_step` of its own"),
    ],
)
def test_a_subclassed_model_that_hides_its_calls_is_refused(kind, text):
    model = called(OwnStep() if kind == "step" else Mine(kind))
    with pytest.raises(ValueError, match=rf"{text}.*\(first, head\)"):
        kf.regularize(model, l2=0.1)


def test_label_smoothing_of_class_numbers_is_refused():
    model = small()
    for loss in (
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
    ):
        model.compile("sgd", loss)
        for preset in ("label-smoothing", "deit"):
            with pytest.raises(ValueError, match=r"takes no `label_smoothing`.*0\.1"):
                kf.regularize(model, preset)
    model.compile("sgd", "categorical_crossentropy")
    with warns_once(UserWarning, match="label_smoothing=0.1"):
        same(model, kf.regularize(model, "label-smoothing"))


def test_a_quantized_model_is_refused():
    model = kf.quantize_model(small(), "int8")
    with pytest.raises(ValueError, match="Regularize first, then quantize"):
        kf.regularize(model, l2=0.1)


def test_what_a_model_cannot_hold_is_told():
    preset = kf.regularizers.Preset("mine", dropout=0.1, weight_decay=0.05)
    with warns_once(UserWarning, match="Not in the model.*AdamW.*weight_decay=0.05"):
        kf.regularize(small(), preset)


def test_frozen_layers_say_so():
    model = small()
    model.get_layer("one").trainable = False
    new, report = kf.regularize(model, l2=0.1, return_report=True)
    assert "it is frozen" in next(str(r) for r in report.layers if r.name == "one")
    assert not new.get_layer("one").trainable


def test_penalties_that_are_replaced_are_named():
    model = small(layers.Dense(3, kernel_regularizer="l1", name="old"))
    _, report = kf.regularize(model, l2=0.1, return_report=True)
    assert "old: L2(l2=0.1) on kernel (in place of L1(l1=0.01))" in str(report)


def test_the_other_transforms_take_the_result():
    model = convolutions()
    new = kf.regularize(model, l2=0.1, dropout=0.3, noise=0.1)
    small_one = kf.shrink(new, layers={"plain": 0.5})
    assert small_one.get_layer("plain").filters == 2
    opened = kf.expand(new)
    assert type(opened.get_layer("relu_dropout")) is layers.Dropout
    assert type(opened.get_layer("input_noise")) is layers.GaussianNoise
    same(model, opened)
    same(model, kf.fuse(new))
    assert kf.quantize_model(new, "int8").built


def test_one_unit_has_no_orthogonality():
    """Keras's penalty is a mean over pairs of columns: of one column it is NaN."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(x))
    new, report = kf.regularize(model, "orthogonal", return_report=True)
    assert len(new.losses) == 1
    assert np.isfinite(keras.ops.convert_to_numpy(new.losses[0]))
    assert "head: one unit is orthogonal to nothing" in map(str, report.kept)
    with pytest.raises(ValueError, match="one unit is orthogonal to nothing"):
        kf.regularize(keras.Sequential([inputs, keras.layers.Dense(1)]), "orthogonal")
