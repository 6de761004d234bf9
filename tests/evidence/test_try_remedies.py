"""try_remedies: what is tried, how it is compared, and how it goes on."""

import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.evidence import judging, remedies
from keras_fitkit.evidence.trial_files import TrialRun
from tests.evidence.models import EAGER, hidden, line, linear

X, Y = line(24)
QUICK = {"minutes": 60, "epochs": 5, "seeds": 2, "batch_size": 18, "verbose": 0}


def frozen(model):
    """Learns nothing."""
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    made.compile(keras.optimizers.SGD(0.0), "mse", **EAGER)
    return made


def same(model):
    """The same model, not compiled: it is compiled as the baseline is."""
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def broken(model):
    """Diverges at once."""
    made = same(model)
    made.compile(keras.optimizers.SGD(1e30), "mse", **EAGER)
    return made


def test_remedies_of_ones_own_are_paired_with_the_baseline(capsys):
    report = kf.try_remedies(
        linear,
        (X, Y),
        remedies={"frozen": frozen, "same": same, "broken": broken},
        test_data=line(8, seed=1),
        **{**QUICK, "verbose": 1},
    )
    by_name = {one.name: one for one in report.trials}
    assert by_name["same"].changes == pytest.approx((0.0, 0.0), abs=1e-6)
    assert by_name["frozen"].change.mean > 0
    for seed, loss in enumerate(by_name["frozen"].losses):
        keras.utils.set_random_seed(seed)
        weights = linear().get_weights()
        order = kf.evidence.folds.order(24, None, np.random.default_rng(seed))
        held = order[:6]
        wrong = X[held] @ weights[0][:, 0] - Y[held]
        assert loss == pytest.approx((wrong**2).mean(), rel=1e-4)
    assert [one.name for one in report.ranked] == ["same", "frozen", "broken"]
    assert report.winner is None
    assert report.verdict.startswith("nothing helped beyond chance, of 3")
    assert capsys.readouterr().out.count("seed 1: validation") == 4
    _check_report(report)


def _check_report(report):
    text = report.render()
    assert "chance alone makes one or more of them look helpful in 7 %" in text
    assert "runs ended without a finite loss (broken)" in text
    assert json.loads(json.dumps(report.to_dict()))["winner"] is None
    assert "<table>" in report._repr_html_()
    labels = [one.get_text() for one in report.plot().axes[0].get_yticklabels()]
    assert labels == ["broken", "frozen", "same"]


def test_a_winner_is_confirmed_on_rows_that_chose_nothing():
    report = kf.try_remedies(
        lambda: linear(rate=0.02),
        (X, Y),
        remedies=["higher-rate"],
        test_data=line(12, seed=1),
        **QUICK,
    )
    assert report.ranked[0].change.mean < 0
    if report.winner is None:  # two seeds: the interval is 12.7 errors wide
        assert report.confirmation is None
        assert report.code == ""
    assert report.trials[0].code == "model.optimizer.learning_rate = 0.06"
    assert all(len(one.test_changes) == 2 for one in report.trials)
    assert "rows that choose nothing" not in report.render()


def test_a_trial_that_was_killed_goes_on_and_ends_the_same(tmp_path):
    plan = {"remedies": {"same": same}, **QUICK}
    whole = kf.try_remedies(linear, (X, Y), **plan)
    calls = []

    def dies(model):
        calls.append(model)
        if len(calls) == 3:  # the first is the check before the training
            raise KeyboardInterrupt
        return same(model)

    dying = {**plan, "remedies": {"same": dies}}
    with pytest.raises(KeyboardInterrupt):
        kf.try_remedies(linear, (X, Y), path=tmp_path / "trial", **dying)
    kept = sorted(path.name for path in (tmp_path / "trial").iterdir())
    assert kept == [
        "plan.json",
        "run-baseline-0.json",
        "run-baseline-1.json",
        "run-same-0.json",
    ]
    stamps = {name: (tmp_path / "trial" / name).read_text() for name in kept[1:]}
    again = kf.try_remedies(linear, (X, Y), path=tmp_path / "trial", **plan)
    for name, text in stamps.items():
        assert (tmp_path / "trial" / name).read_text() == text
    for one, other in zip(again.trials, whole.trials, strict=True):
        assert one.losses == pytest.approx(other.losses)
    with pytest.raises(ValueError, match="it differs in batch_size"):
        kf.try_remedies(
            linear, (X, Y), path=tmp_path / "trial", **{**plan, "batch_size": 9}
        )
    (tmp_path / "trial" / "run-same-1.json").write_text("{")
    with pytest.raises(ValueError, match="Delete that file"):
        kf.try_remedies(linear, (X, Y), path=tmp_path / "trial", **plan)


def test_what_the_verdict_asks_for_is_tried_and_what_cannot_be_had_is_told(monkeypatch):
    monkeypatch.setitem(remedies.BY_STATE, "unknown", _ASKED)
    for state in list(remedies.BY_STATE):
        monkeypatch.setitem(remedies.BY_STATE, state, _ASKED)
    report = kf.try_remedies(hidden, (X, Y), **QUICK)
    reasons = {one.name: one.reason for one in report.trials}
    assert list(reasons) == ["early-stopping", "wider", "no-regularization"]
    assert "regularization to take away" in reasons["no-regularization"]
    assert len(report.ranked) == 2
    assert "no-regularization: not tried" in report.render()


_ASKED = ("early-stopping", "augmentation", "wider", "no-regularization")


def test_every_remedy_of_the_catalogue_makes_a_compiled_model():
    def build():
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, activation="relu", name="conv"),
                layers.Flatten(),
                layers.Dropout(0.2),
                layers.Dense(2, name="head"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **EAGER)
        return model

    row = np.zeros((1, 8, 8, 1), "float32")
    made = {name: one.make(build, row) for name, one in remedies.CATALOGUE.items()}
    assert all(model.compiled for model in made.values())
    assert all(model.loss.from_logits for model in made.values())
    rates = {name: float(one.optimizer.learning_rate) for name, one in made.items()}
    assert rates.pop("lower-rate") == pytest.approx(0.01 / 3)
    assert rates.pop("higher-rate") == pytest.approx(0.03)
    assert list(rates.values()) == pytest.approx([0.01] * len(rates))
    assert made["clipped-gradients"].optimizer.clipnorm == 1.0
    assert made["wider"].get_layer("conv").filters == 8
    assert made["smaller"].get_layer("conv").filters == 2
    assert made["l2"].losses
    assert not any("dropout" in one.name for one in made["no-regularization"].layers)


def test_early_stopping_is_judged_where_the_other_seeds_stop():
    """Seed 0 is best at epoch 2, seed 1 at epoch 3: each is read at the other's."""
    curves = ((5.0, 1.0, 2.0, 4.0), (5.0, 3.0, 1.5, 4.5))
    runs = [
        TrialRun("baseline", seed, one, one, "overfitting", "", 0.0, one)
        for seed, one in enumerate(curves)
    ]

    class Bare:
        overlap = 0.0

    found = judging._early(remedies.CATALOGUE["early-stopping"], Bare(), runs, 9.0)
    assert found.losses == (2.0, 3.0)
    assert found.changes == found.test_changes == (2.0 - 4.0, 3.0 - 4.5)
    assert found.best_losses == (1.0, 1.5)


def test_no_run_is_begun_when_the_time_is_over():
    report = kf.try_remedies(
        linear, (X, Y), remedies={"same": same}, **{**QUICK, "minutes": 1e-6}
    )
    assert report.trials[0].verdict == "not tried"
    assert report.trials[0].reason == "no time left for 2 of 2 seeds"
    assert len(report.baseline) == 2


def test_too_few_minutes_are_refused_with_the_number_it_takes():
    with pytest.raises(ValueError, match=r"epochs each need .* minutes"):
        kf.try_remedies(linear, (X, Y), minutes=1e-6, seeds=2, verbose=0)


def test_an_underfitting_model_is_told_to_take_less_regularization(monkeypatch):
    """Dropout 0.7 and a penalty of 1: the verdict asks for less, the trial finds it."""
    asked = remedies.BY_STATE["underfitting"][:2]
    assert asked == ("wider", "no-regularization")
    monkeypatch.setitem(remedies.BY_STATE, "underfitting", asked)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")

    def build():
        penalty = keras.regularizers.L2(1.0)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(16, "relu", kernel_regularizer=penalty, name="one"),
                keras.layers.Dropout(0.7),
                keras.layers.Dense(1, "sigmoid", kernel_regularizer=penalty),
            ]
        )
        model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", **EAGER)
        return model

    report = kf.try_remedies(
        build, (x, y), minutes=60, epochs=6, seeds=2, batch_size=48, verbose=0
    )
    assert report.state == "underfitting"
    assert report.ranked[0].name == "no-regularization"
    assert report.ranked[0].code.startswith('model = kf.regularize(model, "none")')


def no_model(model):
    return 3


def fails(model):
    raise RuntimeError("out of luck")


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"bad": no_model}, TypeError, "take a model and return one"),
        ({"bad": fails}, ValueError, "'bad' failed on the model: out of luck"),
        (["augmentation"], ValueError, "'augmentation' failed on the model"),
        (["dropuot"], ValueError, "Did you mean 'dropout'"),
        ("dropout", ValueError, "Pass a list: ['dropout']"),
        ({"baseline": same}, ValueError, "none called 'baseline'"),
        (3, TypeError, "'auto', a list of names"),
    ],
)
def test_remedies_that_cannot_be_are_refused_before_training(given, error, text):
    with pytest.raises(error) as caught:
        kf.try_remedies(linear, (X, Y), remedies=given, **QUICK)
    assert text in str(caught.value)
    assert str(caught.value).startswith("`remedies` must be")
