"""A loss object that several distillers are given, as in a loop over seeds."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import data, mlp, number, numpy, same, weights

X, Y = data()
LABELS = np.eye(3, dtype="float32")[Y]
MAKE = {
    "contrast": lambda: kd.ContrastiveDistillation("wide", "hidden", dim=4, queue=8),
    "hint": lambda: kd.FeatureDistillation("wide", "hidden"),
    "layer": lambda: kd.FeatureDistillation(
        "wide", "hidden", projector=keras.layers.Dense(16)
    ),
    "layers": lambda: kd.FeatureDistillation(
        "wide",
        "hidden",
        projector=keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(16)]),
    ),
}


def distiller(loss, units=8, teacher=16, seed=2, **heads):
    student = mlp(units, seed=seed, **heads)
    made = kf.Distiller(mlp(teacher, seed=1, hidden="wide", **heads), student, loss)
    made.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return made


def fit(made, epochs=2):
    given = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    return made.fit(X, LABELS, **given).history["loss"]


@pytest.mark.parametrize("name", MAKE)
def test_each_distiller_begins_anew(name):
    loss, histories = MAKE[name](), []
    for _ in range(2):
        made = distiller(loss)
        histories.append(fit(made))
        assert len(made.trainable_variables) == 4 + len(
            made.distillation_losses[0].trainable_variables
        )
    if name in ("contrast", "hint"):  # else the first layer was made before the seed
        assert histories[0] == histories[1]
    assert made.distillation_losses[0] is not loss


@pytest.mark.parametrize("name", MAKE)
def test_the_second_may_be_wider_and_the_first_goes_on(name):
    loss = MAKE[name]()
    first = distiller(loss)
    fit(first)
    assert first.distillation_losses[0] is loss
    before = weights(loss)
    second = distiller(loss, units=12)
    fit(second)
    same(weights(loss), before)
    assert np.isfinite(fit(first)).all()


def test_a_pair_of_equal_widths_after_one_of_others_and_before():
    loss = kd.FeatureDistillation("wide", "hidden")
    first = distiller(loss, 8, 16)
    second = distiller(loss, 8, 8)
    third = distiller(loss, 8, 16)
    assert second.distillation_losses[0].projector is None
    for one in (first, second, third):
        assert np.isfinite(fit(one)).all()
    plain = kd.FeatureDistillation("wide", "hidden")
    distiller(plain, 8, 8), distiller(plain, 8, 16)
    assert plain.projector is None


def test_heads_of_another_kind():
    soft = kd.LogitsDistillation()
    for head in ("sigmoid", "softmax", "sigmoid"):
        made = distiller(soft, head=head)
        found = fit(made)
        assert found == fit(distiller(kd.LogitsDistillation(), head=head))


def test_a_schedule_reaches_the_temperature_of_each():
    soft = kd.ContrastiveDistillation("wide", "hidden", dim=4, queue=8)
    for end in (0.25, 0.5):
        made = distiller(soft)
        schedule = kf.HyperparameterSchedule(
            soft.temperature, 1.0, end, end_step=2, frequency=1
        )
        made.fit(X, LABELS, batch_size=8, verbose=0, callbacks=[schedule])
        assert number(made.distillation_losses[0].temperature) == end
    count = len(made.distillation_losses[0].weights)
    assert (
        count == len(soft.weights) == 5
    )  # two projectors, temperature, queue, present


def test_one_of_the_second_distiller_is_saved_and_loaded(tmp_path):
    loss = MAKE["contrast"]()
    distiller(loss)
    made = distiller(loss)
    fit(made)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    same(weights(again), weights(made))
    again.set_teacher(made.teacher)
    assert fit(again, 1) == fit(made, 1)


class Scaled(kd.DistillationLoss):
    """Without a `get_config`: nobody can make another one of it."""

    def __init__(self, scale, layer=None):
        super().__init__()
        self.scale, self.layer = scale, layer

    def prepare(self, teacher, student):
        if self.layer is not None and not self.layer.built:
            self.layer.build(student.shape)

    def compute_loss(self, teacher_outputs, student_outputs, labels=None):
        if self.layer is not None:
            student_outputs = self.layer(student_outputs)
        difference = ops.square(teacher_outputs - student_outputs)
        return self.scale * ops.mean(difference, axis=-1)


class Shared(Scaled):
    def get_config(self):
        return {"scale": self.scale, "layer": self.layer}


def test_losses_of_one_s_own():
    plain = Scaled(2.0)
    for _ in range(2):
        made = distiller(plain)
        assert made.distillation_losses[0] is plain
    for kind, text in ((Scaled, "losses that no other"), (Shared, "without the weigh")):
        loss = kind(2.0, keras.layers.Dense(3))
        distiller(loss)
        with pytest.raises(ValueError, match=rf"{text}.*Make a new {kind.__name__} fo"):
            distiller(loss)


def test_a_projector_that_was_built_is_for_one_distiller():
    layer = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
    loss = kd.FeatureDistillation("wide", "hidden", projector=layer)
    before = weights(layer)
    made = distiller(loss)
    assert made.distillation_losses[0].projector is layer
    same(weights(layer), before)
    with pytest.raises(ValueError, match=r"`projector` must be a layer that is not bu"):
        distiller(loss)


def test_what_a_first_distiller_refused_can_be_given_again():
    loss = kd.FeatureDistillation("wide", "hidden", projector=None)
    with pytest.raises(ValueError, match=r"whose shape agrees"):
        distiller(loss, 8, 16)
    assert distiller(loss, 8, 8).distillation_losses[0] is loss
    assert numpy(loss(X, X)).max() == 0


@keras.saving.register_keras_serializable("tests_reused")
class Numbers(kd.DistillationLoss):
    """A number that is shared, and one after it that is not."""

    def __init__(self, *, name=None):
        super().__init__(name=name)
        self.temperature = self.scalar("temperature", 2.0)
        self.seen = self.add_weight(
            name="seen", shape=(), initializer="zeros", trainable=False
        )

    def compute_loss(self, teacher_outputs, student_outputs, labels=None):
        return keras.ops.mean(keras.ops.square(teacher_outputs - student_outputs), -1)

    def get_config(self):
        return super().get_config()


def test_the_weights_of_a_remade_loss_keep_their_order(tmp_path):
    loss = Numbers()
    for _ in range(2):
        made = kf.Distiller(mlp(seed=1), mlp(seed=2), loss, student_loss_weight=0.0)
    again = made.distillation_losses[0]
    assert again is not loss
    assert again.temperature is loss.temperature
    again.seen.assign(4.0)
    made.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    found = loaded.distillation_losses[0]
    assert (number(found.temperature), number(found.seen)) == (2.0, 4.0)


def test_a_wrapped_projector_is_made_for_another_width():
    def net(units):
        inputs = keras.Input((5, 4))
        hidden = keras.layers.Dense(units, name="hidden")(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    projector = keras.layers.TimeDistributed(keras.layers.Dense(8))
    loss = kd.FeatureDistillation("hidden", "hidden", projector=projector)
    for units in (4, 6):
        made = kf.Distiller(net(8), net(units), loss, student_loss_weight=0.0)
        kernel = made.distillation_losses[0].projector.layer.kernel
        assert kernel.shape == (units, 8)
