"""HyperparameterSchedule: the course by its formula, the variable in a compiled fit."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit._core import arrays

X, Y = np.ones((12, 3), "float32"), np.zeros((12, 1), "float32")


class Scaled(keras.Model):
    """A model whose prediction is a variable, so that its loss shows the value."""

    def __init__(self):
        super().__init__()
        self.factor = self.add_weight(
            name="factor", shape=(), initializer="zeros", trainable=False
        )
        self.other = self.add_weight(name="other", shape=(1,), initializer="zeros")
        self.built = True

    def call(self, x):
        return keras.ops.zeros_like(x[:, :1]) + self.factor + self.other


def fit(schedule, epochs=2, **arguments):
    model = Scaled()
    model.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model  # noqa: B018 - the state, on JAX
            seen.append(round(float(arrays.to_numpy(model.factor)), 5))

    history = model.fit(
        X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=[schedule, Watch()]
    )
    return seen, history.history


def test_the_shapes_by_their_formulas():
    def course(shape):
        made = kf.HyperparameterSchedule(
            "temperature", 8.0, 2.0, begin_step=10, end_step=20, shape=shape
        )
        return [made.value(step) for step in (1, 10, 15, 20, 99)]

    np.testing.assert_allclose(course("linear"), [8, 8, 5, 2, 2])
    np.testing.assert_allclose(course("cosine"), [8, 8, 5, 2, 2])
    np.testing.assert_allclose(course("exponential"), [8, 8, 4, 2, 2])
    cosine = kf.HyperparameterSchedule("v", 0.0, 1.0, end_step=5, shape="cosine")
    np.testing.assert_allclose(cosine.value(2), (1 - np.cos(np.pi / 4)) / 2)


def test_it_is_set_within_a_compiled_fit():
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0, frequency=1)
    seen, history = fit(schedule)  # 6 steps: 1 at the first, 0 at the last
    assert seen == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    np.testing.assert_allclose(history["factor"], [0.6, 0.0], atol=1e-6)
    losses = [np.mean([v**2 for v in seen[:3]]), np.mean([v**2 for v in seen[3:]])]
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)


def test_the_end_comes_whatever_the_frequency():
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0, end_step=5, frequency=4)
    seen, _ = fit(schedule)
    assert seen == [1.0, 1.0, 1.0, 0.25, 0.0, 0.0]


def test_a_variable_of_one_s_own_and_a_second_fit():
    model = Scaled()
    model.compile("sgd", "mse", run_eagerly=True)
    schedule = kf.HyperparameterSchedule(model.factor, 1.0, 0.5, frequency=1)
    for _ in range(2):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[schedule])
        assert float(arrays.to_numpy(model.factor)) == 0.5
        assert schedule.step_ == 3


@pytest.mark.tensorflow_only
def test_several_steps_an_execution():
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0, frequency=1)
    seen, _ = fit(schedule, epochs=3, steps_per_execution=3)
    assert seen == [1.0, 0.625, 0.0]  # what step 4 has; the end is in the last


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("frequency", [3, 10])
def test_the_end_comes_whatever_the_execution(frequency):
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0, frequency=frequency)
    seen, _ = fit(schedule, epochs=4, steps_per_execution=2)  # of 2 and 1 steps
    assert (seen[0], seen[-1]) == (1.0, 0.0)
    assert seen == sorted(seen, reverse=True)


def test_two_of_one_name_are_both_in_the_logs():
    model = Scaled()
    model.twin = Scaled()
    model.twin.trainable = False
    schedules = [
        kf.HyperparameterSchedule(one.factor, 1.0, end)
        for one, end in ((model, 0.5), (model.twin, 0.25))
    ]
    model.compile("sgd", "mse", run_eagerly=True)
    history = model.fit(X, Y, batch_size=4, verbose=0, callbacks=schedules).history
    found = {name: values for name, values in history.items() if "factor" in name}
    assert found == {"factor": [0.5], model.twin.factor.path: [0.25]}


def test_the_learning_rate_of_a_wrapped_optimizer():
    model = Scaled()
    inner = keras.optimizers.SGD(1.0)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse", run_eagerly=True)
    schedule = kf.HyperparameterSchedule("learning_rate", 1.0, 0.25, end_step=2)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[schedule])
    assert float(arrays.to_numpy(inner.learning_rate)) == 0.25


def test_a_variable_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"`variable` must be .*Did you mean 'factor'"):
        fit(kf.HyperparameterSchedule("facto", 1.0, 0.0))


def test_a_name_of_two_variables_wants_a_path():
    model = Scaled()
    model.twin = Scaled()
    model.twin.trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0)
    with pytest.raises(ValueError, match=r"a path or a pattern.*The paths are"):
        model.fit(X, Y, verbose=0, callbacks=[schedule])
    path = model.twin.factor.path
    schedule = kf.HyperparameterSchedule(path, 1.0, 0.5, end_step=2, frequency=1)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[schedule])
    assert float(arrays.to_numpy(model.twin.factor)) == 0.5


def test_an_epoch_of_unknown_length_wants_its_end():
    model = Scaled()
    model.compile("sgd", "mse")
    schedule = kf.HyperparameterSchedule("factor", 1.0, 0.0)
    schedule.set_model(model)
    schedule.set_params({"epochs": 2, "steps": None})
    with pytest.raises(ValueError, match=r"`end_step` must be given where the length"):
        schedule.on_train_begin()
