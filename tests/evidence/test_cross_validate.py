"""cross_validate: scores by a second route, folds, and what it refuses."""

import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.evidence import cross_validating, folds
from tests.evidence.models import EAGER, hidden, line, linear


def descended(x, y, fold, epochs, rate=0.1):
    """Weights and bias after steps on all rows at once, in NumPy."""
    keras.utils.set_random_seed(fold)
    weights, bias = (one.astype(float) for one in linear().get_weights())
    for _ in range(epochs):
        wrong = x @ weights[:, 0] + bias - y
        weights -= rate * 2 * (x.T @ wrong)[:, None] / len(x)
        bias -= rate * 2 * wrong.mean()
    return weights[:, 0], bias


def test_scores_are_those_of_the_rows_that_were_held_out(capsys):
    x, y = line(30, noise=0.5)
    report = kf.cross_validate(
        lambda: linear(metrics=["mae"]), x, y, folds=3, epochs=5, batch_size=20
    )
    placed = folds.plain(30, 3, np.random.default_rng(0))
    for fold in report.folds:
        held = placed == fold.fold
        weights, bias = descended(x[~held], y[~held], fold.fold, 5)
        wrong = x @ weights + bias - y
        expected = (wrong[held] ** 2).mean(), np.abs(wrong[held]).mean()
        found = fold.scores["loss"], fold.scores["mae"]
        assert found == pytest.approx(expected, rel=1e-4)
        train = (wrong[~held] ** 2).mean()
        assert fold.train_scores["loss"] == pytest.approx(train, rel=1e-4)
        assert fold.gap == fold.scores["loss"] - fold.train_scores["loss"]
        assert (fold.train_rows, fold.validation_rows) == (20, 10)
    losses = [fold.scores["loss"] for fold in report.folds]
    found = report.scores["loss"]
    assert found.mean == pytest.approx(np.mean(losses))
    half = 4.302653 * np.std(losses, ddof=1) * np.sqrt(1 / 3 + 10 / 20)
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    assert sum(report.states.values()) == 3
    assert capsys.readouterr().out.count("of 3: loss") == 3
    _check_report(report)


def _check_report(report):
    text = report.render()
    assert "Nadeau and Bengio" in text
    assert "no guarantee of privacy" in text
    assert json.loads(json.dumps(report.to_dict()))["states"] == report.states
    assert "<table>" in report._repr_html_()
    assert report.verdict in repr(report)
    assert report.plot().axes[0].get_xlabel() == "fold"


def test_the_penalty_is_no_part_of_the_loss():
    x, y = line(20)

    def build():
        penalty = keras.regularizers.L2(10.0)
        head = keras.layers.Dense(1, kernel_regularizer=penalty)
        model = keras.Sequential([keras.Input((3,)), head])
        model.compile(keras.optimizers.SGD(0.0), "mse")  # stays as it was drawn
        return model

    report = kf.cross_validate(build, x, y, folds=2, epochs=1, verbose=0)
    keras.utils.set_random_seed(0)
    wrong = keras.ops.convert_to_numpy(build()(x))[:, 0] - y
    held = folds.plain(20, 2, np.random.default_rng(0)) == 0
    expected = (wrong[held] ** 2).mean()
    assert report.folds[0].scores["loss"] == pytest.approx(expected, rel=1e-4)


def test_dicts_several_inputs_and_one_hot_classes():
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(48, 2)), "b": rng.normal(size=(48, 3))}
    y = np.eye(2)[np.repeat([0, 1], [36, 12])]

    def build():
        inputs = {name: keras.Input((size,), name=name) for name, size in _SIZES}
        joined = keras.layers.Concatenate()(list(inputs.values()))
        outputs = keras.layers.Dense(2, "softmax")(joined)
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"], **EAGER)
        return model

    state = np.random.get_state()[1].copy()
    report = kf.cross_validate(build, x, y, folds=3, epochs=1, verbose=0)
    assert report.split == "stratified by class"
    assert set(report.scores) == {"loss", "accuracy"}
    assert all(fold.membership is not None for fold in report.folds)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


_SIZES = (("a", 2), ("b", 3))


def test_groups_are_never_on_both_sides_and_callbacks_are_fresh():
    x, y = line(24)
    groups = np.repeat(np.arange(6), 4)
    made = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            made.append(self)

    report = kf.cross_validate(
        linear,
        x,
        y,
        folds=3,
        groups=groups,
        epochs=2,
        callbacks=lambda: [Watch()],
        verbose=0,
    )
    assert report.split == "whole groups"
    assert len({id(one) for one in made}) == 3
    assert [fold.validation_rows for fold in report.folds] == [8, 8, 8]


X, Y = line(12)


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({"folds": 13}, ValueError, "`folds` must be at most 12"),
        ({"x": np.full((12, 3), np.nan)}, ValueError, "NaN or infinity in 12 of 12"),
        ({"y": Y[:5]}, ValueError, "`y` must be of the length of `x`"),
        ({"y": None}, TypeError, "`y` must be arrays"),
        ({"stratify": True}, ValueError, "Stratify by classes"),
        (
            {"stratify": True, "y": np.array([0] * 10 + [7] * 2), "folds": 3},
            ValueError,
            "2 rows of class 7 for folds=3",
        ),
        ({"groups": np.zeros(12)}, ValueError, "1 groups for folds=5"),
        ({"groups": np.zeros(3)}, ValueError, "one value for each of the 12 rows"),
        ({"callbacks": [kf.EarlyStopping()]}, TypeError, "lambda: [...]"),
        ({"callbacks": lambda: [1]}, TypeError, "It must return a list"),
    ],
)
def test_it_refuses_before_training(more, error, text):
    with pytest.raises(error) as caught:
        kf.cross_validate(**{"build_fn": linear, "x": X, "y": Y, "epochs": 1, **more})
    assert text in str(caught.value)
    assert "Received: " in str(caught.value)


def _uncompiled():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def _same_layer():
    layer = keras.layers.Dense(1, name="shared")

    def build():
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile("sgd", "mse", **EAGER)
        return model

    return build


def _same_optimizer():
    optimizer = keras.optimizers.SGD()

    def build():
        model = _uncompiled()
        model.compile(optimizer, "mse", **EAGER)
        return model

    return build


@pytest.mark.parametrize(
    ("build", "text"),
    [
        ((lambda model: lambda: model)(linear()), "gave the same model"),
        (_same_layer(), "models with the same layer 'shared'"),
        (_same_optimizer(), "models with the same optimizer"),
        (_uncompiled, "The model must be compiled"),
        (lambda: 3, "It must return a keras.Model"),
        (lambda units: linear(), "cannot be called with 0 arguments"),
    ],
)
def test_a_build_fn_that_is_no_such_function(build, text):
    with pytest.raises((TypeError, ValueError)) as caught:
        kf.cross_validate(build, X, Y, folds=2, epochs=1)
    assert text in str(caught.value)
    assert str(caught.value).startswith("`build_fn` must be a callable")


def test_shared_callbacks_from_a_function_are_seen():
    one = kf.EarlyStopping()
    with pytest.raises(ValueError, match="gave the same object twice"):
        kf.cross_validate(linear, X, Y, folds=2, epochs=1, callbacks=lambda: [one])


def test_a_model_that_knows_its_rows_by_heart_is_told():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20)).astype("float32")
    y = rng.normal(size=60).astype("float32")  # nothing to learn but the rows
    model = hidden(64, shape=(20,))
    model.optimizer.learning_rate = 0.1
    before = kf.membership_auc(model, (x[:30], y[:30]), (x[30:], y[30:]))
    model.fit(x[:30], y[:30], epochs=40, batch_size=30, verbose=0)
    after = kf.membership_auc(model, (x[:30], y[:30]), (x[30:], y[30:]))
    assert before.low < 0.5 < before.high
    assert after.remembers
    assert after.auc > 0.9
    assert "no guarantee of privacy" in str(after)


def test_losses_of_rows_are_those_of_numpy_by_both_routes():
    from keras_fitkit.evidence.membership import row_losses

    x, y = line(8)
    model = hidden()
    wrong = keras.ops.convert_to_numpy(model(x))[:, 0] - y
    np.testing.assert_allclose(row_losses(model, (x, y)), wrong**2, rtol=1e-4)

    def own(true, predicted):
        return keras.ops.mean(keras.ops.square(true - predicted[:, 0]))  # a number

    model.compile("sgd", own, **EAGER)
    np.testing.assert_allclose(row_losses(model, (x, y)), wrong**2, rtol=1e-4)


def test_a_fold_without_losses_of_rows_says_so(monkeypatch):
    def fails(model, part):
        raise RuntimeError("batches only")

    monkeypatch.setattr(cross_validating.membership, "row_losses", fails)
    with pytest.warns(UserWarning, match="No membership AUC.*batches only"):
        assert cross_validating._remembered(None, None, None) is None
