"""A distiller is saved, loaded and resumed; the teacher only where it is asked for."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import (
    LABEL_LOSS,
    data,
    mlp,
    number,
    numpy,
    same,
    weights,
)

X, Y = data(32)


SOFT = [kd.LogitsDistillation(2.0)]


def make(teacher=None, eager=True, losses=None, **arguments):
    teacher = teacher or mlp(64, seed=1, hidden="wide", name="teacher")
    given = {"student_loss_weight": 0.25}
    if losses is None:
        losses = [
            kd.LogitsDistillation(2.0),
            kd.FeatureDistillation("wide", "hidden"),
            kd.ContrastiveDistillation("wide", "hidden", dim=4, queue=40),
        ]
        given["distillation_loss_weights"] = [1, 0.5, 0.1]
    made = kf.Distiller(teacher, mlp(seed=2), losses, **{**given, **arguments})
    made.compile("adam", LABEL_LOSS, metrics=["accuracy"], run_eagerly=eager)
    return made


def fit(made, epochs=2, **arguments):
    data = kf.ReproducibleDataset(X, Y, batch_size=16, seed=3)
    given = {"shuffle": False, "verbose": 0, "epochs": epochs, **arguments}
    return made.fit(data, **given).history


def test_a_loaded_distiller_goes_on_bit_for_bit(tmp_path):
    made = make(eager=False)
    fit(made)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert again.teacher is None
    same(weights(again), weights(made))
    np.testing.assert_array_equal(
        again.predict(X, verbose=0), made.predict(X, verbose=0)
    )
    with pytest.raises(ValueError, match=r"Call `distiller.set_teacher"):
        fit(again)
    again.set_teacher(made.teacher)
    one, other = (fit(d, initial_epoch=2, epochs=4) for d in (made, again))
    assert one == other
    same(weights(again), weights(made))


def test_the_teacher_is_in_the_file_only_where_it_is_asked_for(tmp_path):
    sizes = []
    for name, save in (("without", False), ("with", True)):
        made = make(teacher=mlp(512, seed=1, hidden="wide"), save_teacher=save)
        fit(made, epochs=1)
        made.save(tmp_path / f"{name}.keras")
        made.save_weights(tmp_path / f"{name}.weights.h5")
        sizes += [(tmp_path / f"{name}.weights.h5").stat().st_size]
    assert sizes[0] + 4 * 512 * 5 < sizes[1]
    again = keras.models.load_model(tmp_path / "with.keras")
    same(weights(again.teacher), weights(made.teacher))
    assert fit(again, epochs=1) == fit(made, epochs=1)


def test_several_teachers_are_saved_with_their_weights(tmp_path):
    teachers = [(mlp(seed=1), 3.0), (mlp(16, seed=4), 1.0)]
    made = kf.Distiller(
        teachers, mlp(seed=2), kd.LogitsDistillation(), save_teacher=True
    )
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert [weight for _, weight in again.teacher] == [3.0, 1.0]
    for (one, _), (other, _) in zip(again.teacher, teachers, strict=True):
        same(weights(one), weights(other))
    for found, wanted in zip(
        again.teacher_outputs(X).logits, made.teacher_outputs(X).logits, strict=True
    ):
        np.testing.assert_allclose(numpy(found), numpy(wanted), rtol=1e-6)


def test_the_settings_come_back(tmp_path):
    made = make(from_logits={"teacher": True}, name="mine")
    fit(made, epochs=1)
    made.student_loss_weight.assign(0.75)
    made.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert again.name == "mine"
    assert number(again.student_loss_weight) == 0.75
    found, wanted = again.get_config(), made.get_config()
    for name in ("from_logits", "distillation_loss_weights", "save_teacher"):
        assert found[name] == wanted[name]
    assert [type(one) for one in again.distillation_losses] == [
        type(one) for one in made.distillation_losses
    ]
    assert again.distillation_losses[2].queue == 40


def test_under_a_checkpoint_it_goes_on_as_if_nothing_had_happened(tmp_path):
    def run(folder, epochs):
        made = make()
        schedule = kf.HyperparameterSchedule(
            "student_loss_weight", 1.0, 0.0, end_step=8, frequency=1
        )
        data = kf.ReproducibleDataset(X, Y, batch_size=16, seed=3)
        callbacks = kf.resumable(tmp_path / folder, [schedule], data=data, verbose=0)
        history = made.fit(
            data, shuffle=False, verbose=0, epochs=epochs, callbacks=callbacks
        )
        return made, history.history

    whole, history = run("whole", 4)
    run("parts", 2)
    resumed, again = run("parts", 4)
    same(weights(resumed), weights(whole))
    assert again == history
    assert number(resumed.student_loss_weight) == 0.0


def test_what_cannot_be_saved_with_its_teacher_is_refused():
    with pytest.raises(ValueError, match=r"`save_teacher` must be False unless"):
        make(teacher=[mlp(), lambda x: x[:, :3]], save_teacher=True, losses=SOFT)
    made = make(save_teacher=True, losses=SOFT)
    with pytest.raises(ValueError, match=r"`save_teacher` must be False unless"):
        made.set_teacher(lambda x: x[:, :3])
    with pytest.raises(
        ValueError, match=r"`save_teacher` must be False with `teacher_"
    ):
        make(save_teacher=True, teacher_inputs=lambda x: x)
