import inspect

import keras
import numpy as np
import pytest

from keras_fitkit._core import _private, metric_names


@pytest.fixture(scope="module")
def fitted():
    """A model with two outputs, custom functions and wrapped metrics; its log names."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)

    def oddness(y_true, y_pred):
        return keras.ops.mean(y_pred)

    class Skill(keras.metrics.Mean):
        _direction = "up"

        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_pred)

    model.compile(
        "sgd",
        {"a": "mse", "b": "mse"},
        metrics={"a": ["mae", oddness], "b": ["accuracy", Skill(name="skill")]},
    )
    x, y = np.ones((4, 3)), np.ones((4, 1))
    history = model.fit(
        x, {"a": y, "b": y}, validation_data=(x, {"a": y, "b": y}), verbose=0
    )
    return model, set(history.history)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "min"),
        ("val_loss", "min"),
        ("val_a_loss", "min"),
        ("a_mae", "min"),
        ("val_b_accuracy", "max"),
        ("val_b_skill", "max"),
        ("val_a_oddness", None),
    ],
)
def test_direction_of_each_log_of_a_fit(fitted, name, expected):
    model, logged = fitted
    assert name in logged
    assert metric_names.direction(name, model) == expected


def test_names_written_by_the_monitor_are_understood(fitted):
    model, _ = fitted
    assert metric_names.direction("train_b_skill", model) == "max"
    assert metric_names.direction("gap_b_skill", model) == "min"
    assert metric_names.direction("gap_accuracy") == "min"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", "max"),
        ("val_top_k_categorical_accuracy", "max"),
        ("head_f1_score", "max"),
        ("mean_io_u", "max"),
        ("root_mean_squared_error", "min"),
        ("val_kl_divergence", "min"),
        ("AUC", "max"),
        ("learning_rate", None),
        ("my_metric", None),
        # Both kinds of word: a guess would be a coin toss.
        ("accuracy_gap", None),
        # A Brier score falls, a skill score rises; Keras has dice as a loss.
        ("brier_score", None),
        ("val_dice", None),
        ("r2_score", "max"),
    ],
)
def test_direction_from_the_name_alone(name, expected):
    assert metric_names.direction(name) == expected


def test_given_mode_is_believed(fitted):
    model, _ = fitted
    assert metric_names.direction("val_b_accuracy", model, "min") == "min"
    assert metric_names.require_direction("my_metric", None, "max") == "max"


class Reported(keras.metrics.Mean):
    """A metric that knows its direction."""

    def __init__(self, name, direction):
        super().__init__(name=name)
        self._direction = direction


class Measured:
    """A model that has metric objects and nothing else."""

    def __init__(self, **metrics):
        self.metrics = [Reported(name, way) for name, way in metrics.items()]


def test_metric_objects_are_asked_before_the_name():
    odd = Measured(accuracy="down", odd_loss="up", loss=None)
    assert metric_names.direction("val_accuracy", odd) == "min"
    assert metric_names.direction("odd_loss", odd) == "max"
    assert metric_names.direction("val_a_loss", odd) == "min"


def test_the_metric_of_the_longest_name_is_the_one_meant():
    model = Measured(skill="up", lost_skill="down")
    assert metric_names.direction("val_a_lost_skill", model) == "min"
    assert metric_names.direction("a_skill", model) == "max"
    silent = Measured(skill="up", lost_skill=None)
    assert metric_names.direction("lost_skill", silent) is None


def test_metrics_of_one_name_that_disagree_say_nothing():
    model = Measured()
    model.metrics = [Reported("accuracy", "up"), Reported("accuracy", "down")]
    assert metric_names.direction("a_accuracy", model) is None


def test_name_alone_never_contradicts_a_keras_metric():
    arguments = {
        "num_classes": 2,
        "target_class_ids": [0],
        "specificity": 0.5,
        "sensitivity": 0.5,
        "recall": 0.5,
        "precision": 0.5,
    }
    checked = 0
    for _, kind in inspect.getmembers(keras.metrics, inspect.isclass):
        needed = inspect.signature(kind).parameters
        if "fn" in needed:
            continue
        metric = kind(**{k: v for k, v in arguments.items() if k in needed})
        known = _private.metric_direction(metric)
        assert metric_names.direction(metric.name) in {known, None}, metric.name
        checked += known is not None
    assert checked > 30


def test_unknown_direction_is_an_error_that_says_what_to_pass():
    with pytest.raises(
        ValueError,
        match=r"Whether `val_oddness` is better .*monitor='val_oddness', mode='auto'\. "
        r"Pass mode='max'",
    ):
        metric_names.require_direction("val_oddness")


def test_training_name():
    assert metric_names.training_name("val_loss") == "loss"
    assert metric_names.training_name("interval_loss") == "interval_loss"


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        np.float64(0.1),
        np.array(0.1),
        np.array([0.1]),
        np.array([[0.1]]),
    ],
)
def test_scalar_keeps_every_bit(value):
    assert metric_names.scalar("f1", value) == 0.1
    assert type(metric_names.scalar("f1", value)) is float


def test_scalar_of_a_tensor():
    assert metric_names.scalar("f1", keras.ops.convert_to_tensor([0.5])) == 0.5


def test_scalar_of_a_real_f1_score():
    metric = keras.metrics.F1Score(threshold=0.5)
    metric.update_state(np.array([[1.0], [0.0]]), np.array([[0.9], [0.9]]))
    # precision 1/2, recall 1: 2 * (1/2 * 1) / (1/2 + 1) = 2/3
    value = metric_names.scalar("f1_score", metric.result())
    assert value == pytest.approx(2 / 3, rel=1e-6)


def test_array_of_several_is_an_error():
    with pytest.raises(
        ValueError,
        match=r"`f1` must be one number an epoch to be monitored\. Received: an array "
        r"of shape \(3,\)\. .*average='macro'",
    ):
        metric_names.scalar("f1", np.zeros(3))


def test_read():
    assert metric_names.read({"loss": np.float32(0.5)}, "loss") == 0.5
    assert metric_names.read({"loss": 0.5}, "val_loss") is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gap_loss", np.nan, True),
        ("train_accuracy", np.nan, True),
        ("gap_loss", np.inf, False),
        ("gap_loss", 0.1, False),
        ("loss", np.nan, False),
        ("val_gap_loss", np.nan, False),
    ],
)
def test_not_measured(name, value, expected):
    assert metric_names.not_measured(name, value) is expected


def test_missing_metric_lists_what_there_is_and_suggests():
    logs = {"val_loss": 1.0, "loss": 1.0, "val_accuracy": 0.5}
    error = metric_names.missing("val_acuracy", logs)
    assert isinstance(error, ValueError)
    text = str(error)
    assert "'loss', 'val_accuracy', 'val_loss'" in text
    assert "Received: monitor='val_acuracy'. Did you mean 'val_accuracy'" in text
    assert "Compile the model" in str(metric_names.missing("zzz", logs))
    assert "in `logs`: none." in str(metric_names.missing("loss", {}))


def test_is_finite():
    values = [1.0, 0.0, None, float("nan"), float("inf"), float("-inf")]
    assert [metric_names.is_finite(value) for value in values] == [True] * 2 + [
        False
    ] * 4
