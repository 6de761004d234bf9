"""drop_layers: residual branches and identity-shaped layers."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from tests.pruning.structural.masking import difference, predict

X = np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype("float32")
Y = np.random.default_rng(0).integers(0, 4, 20)


def deep(scales=(1.0, 0.1, 0.5)):
    """Residual branches whose last kernels are scaled, and a plain layer."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(inputs)
    for number, scale in enumerate(scales):
        branch = layers.Conv2D(6, 3, padding="same", name=f"a{number}")(x)
        branch = layers.ReLU()(layers.BatchNormalization(name=f"n{number}")(branch))
        last = layers.Conv2D(6, 3, padding="same", name=f"b{number}")
        x = layers.Add(name=f"sum{number}")([x, last(branch)])
        last.kernel.assign(last.kernel * scale)
    x = layers.Dense(6, name="plain")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_branches_go_by_their_influence():
    small, report = kf.drop_layers(deep(), 1, data=X, return_report=True)
    assert report.dropped == ("sum1",)
    assert {one.path for one in report.parts} == {"sum0", "sum1", "sum2", "plain"}
    names = {one.name for one in small.layers}
    assert not names & {"a1", "n1", "b1", "sum1"}
    assert {"a0", "b2", "plain"} <= names
    assert small.count_params() == deep().count_params() - 2 * (54 * 6 + 6) - 4 * 6
    assert report.macs_after < report.macs_before


def test_what_is_left_computes_the_same():
    model = deep((1.0, 0.0, 0.5))
    for name in ("b1",):
        model.get_layer(name).bias.assign(np.zeros(6))
    small = kf.drop_layers(model, 1, data=(X, Y))
    assert difference(model, small, X) < 1e-6


def test_scores_by_loss_are_those_of_the_models_without():
    model = deep()
    _, report = kf.drop_layers(model, 2, scores="loss", data=(X, Y), return_report=True)
    scores = {one.path: one.score for one in report.parts}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    without = deep((1.0, 0.1, 0.0))
    without.get_layer("b2").bias.assign(np.zeros(6))
    expected = float(keras.ops.convert_to_numpy(loss(Y, predict(without, X)[0])))
    assert scores["sum2"] == pytest.approx(expected, rel=1e-4)
    assert report.dropped == tuple(sorted(scores, key=scores.get)[:2])


def test_without_data_the_smallest_kernels_go():
    _, report = kf.drop_layers(deep(), 1, return_report=True)
    kernels = {}
    model = deep()
    for number in range(3):
        values = [
            keras.ops.convert_to_numpy(model.get_layer(f"{one}{number}").kernel.value)
            for one in "ab"
        ]
        kernels[f"sum{number}"] = (np.stack(values) ** 2).mean()
    scores = {one.path: one.score for one in report.parts}
    for path, value in kernels.items():
        assert scores[path] == pytest.approx(value, rel=1e-5)


def test_only_whole_branches_can_go():
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="first")(inputs)
    branch = layers.Dense(6, name="branch")(x)
    side = layers.Dense(2, name="side")(branch)  # somebody else needs the branch
    total = layers.Add(name="sum")([x, branch])
    other = layers.Add(name="projected")([total, layers.Dense(6, name="p")(inputs)])
    model = keras.Model(inputs, [layers.Dense(2)(other), side])
    _, report = kf.drop_layers(model, 1, return_report=True)
    assert [one.path for one in report.parts] == ["branch"]


def test_composite_blocks_are_opened():
    inputs = keras.Input((8, 8, 3))
    x = kf.blocks.ConvNormAct(8, name="stem")(inputs)
    for number in range(2):
        x = kf.blocks.InvertedResidual(8, expansion=2, name=f"block{number}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    small, report = kf.drop_layers(model, 1, data=X, return_report=True)
    assert len(report.dropped) == 1
    assert small.count_params() < model.count_params()


def test_the_model_is_not_touched_and_the_result_trains():
    model = deep()
    before = predict(model, X)[0]
    small = kf.drop_layers(model, 2, data=X)
    np.testing.assert_array_equal(predict(model, X)[0], before)
    small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    small.fit(X, Y, verbose=0)


def test_the_report_shows_itself():
    _, report = kf.drop_layers(deep(), 1, data=X, return_report=True)
    assert json.loads(json.dumps(report.to_dict()))["parts"][0]["dropped"]
    assert repr(report) == f"<DropReport: {report.summary}>"
    assert "sum1: dropped, with" in str(report)
    assert "<table>" in report._repr_html_()
