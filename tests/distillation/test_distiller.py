"""Distiller: every defect of keras.distillation that was measured is a test here."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation import oracles
from tests.distillation.models import (
    CLASSES,
    LABEL_LOSS,
    Count,
    data,
    differ,
    mlp,
    number,
    numpy,
    same,
    weights,
)

X, Y = data()
TRACED = {"run_eagerly": False}


def still(**more):
    """Compile arguments of a student that does not move."""
    return {"optimizer": keras.optimizers.SGD(0.0), **more}


def make(losses=None, student=None, teacher=None, compile_args=None, **arguments):
    """A compiled distiller. Eager, which spares the tests the tracing; see TRACED."""
    teacher = mlp(16, seed=1, name="teacher") if teacher is None else teacher
    student = mlp(8, seed=2, name="student") if student is None else student
    if losses is None:
        losses = kd.LogitsDistillation(2.0)
    made = kf.Distiller(teacher, student, losses, **arguments)
    eager = {"optimizer": "sgd", "loss": LABEL_LOSS, "run_eagerly": True}
    made.compile(**{**eager, **(compile_args or {})})
    return made


def fit(distiller, x=X, y=Y, **arguments):
    given = {"batch_size": 8, "verbose": 0, "shuffle": False, **arguments}
    return distiller.fit(x, y, **given).history


def own_losses(distiller, x=X, y=Y):
    """The label loss and the soft-target loss of the models as they are."""
    teacher = distiller.teacher.predict(x, verbose=0)
    student = distiller.student.predict(x, verbose=0)
    label = -oracles.log_softmax(student)[np.arange(len(y)), y]
    return label, oracles.soft_target_loss(teacher, student, 2.0)


# --- What is computed


def test_the_logs_are_the_losses_by_their_definition():
    made = make(student_loss_weight=0.25, compile_args=still(**TRACED))
    label, soft = own_losses(made)
    history = fit(made, x=X[:13], y=Y[:13])  # a ragged last batch
    for name, wanted in (
        ("student_loss", label[:13].mean()),
        ("distillation_loss", soft[:13].mean()),
        ("loss", 0.25 * label[:13].mean() + 0.75 * soft[:13].mean()),
    ):
        np.testing.assert_allclose(history[name], [wanted], rtol=1e-5, err_msg=name)
    assert set(history) == {"loss", "student_loss", "distillation_loss"}


def test_the_validation_is_the_student_s_own():
    made = make(compile_args={"metrics": ["accuracy"], **TRACED})
    history = fit(made, validation_data=(X, Y), epochs=2)
    assert set(history) == {
        "loss", "student_loss", "distillation_loss", "accuracy", "val_loss",
        "val_accuracy",
    }  # fmt: skip
    made.student.compile("sgd", LABEL_LOSS, metrics=["accuracy"])
    alone = made.student.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(history["val_loss"][-1], alone["loss"], rtol=1e-5)
    found = made.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        [found["loss"], found["accuracy"]], [alone["loss"], alone["accuracy"]], 1e-5
    )
    assert set(made.test_on_batch(X, Y, return_dict=True)) == {"loss", "accuracy"}


def test_a_student_loss_alone_trains_as_a_plain_fit():
    plain = mlp(8, seed=2)
    plain.compile("sgd", LABEL_LOSS)
    plain.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    made = make(student_loss_weight=1.0, compile_args=TRACED)
    fit(made, epochs=2)
    for one, other in zip(weights(made.student), weights(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_each_term_has_its_log_and_its_weight():
    losses = [kd.LogitsDistillation(2.0), kd.DIST(), kd.LogitsDistillation(1.0)]
    made = make(losses, distillation_loss_weights=[1.0, 0.5, 0.0])
    history = fit(made)
    names = ["logits_distillation_loss", "dist_loss", "logits_distillation_2_loss"]
    one, two, _ = (history[name][0] for name in names)
    wanted = one + 0.5 * two
    np.testing.assert_allclose(history["distillation_loss"], [wanted], rtol=1e-5)


def test_a_single_loss_keeps_its_weight():
    one = fit(make(compile_args=still()))["distillation_loss"][0]
    seven = fit(make(distillation_loss_weights=[7.0], compile_args=still()))
    np.testing.assert_allclose(seven["distillation_loss"], [7 * one], rtol=1e-5)


def test_sample_weights_count_in_every_term():
    made = make()
    before = weights(made.student)
    fit(made, sample_weight=np.zeros(len(X)))
    same(weights(made.student), before)
    half = make(compile_args=still())
    kept = np.arange(len(X)) < 4
    label, soft = own_losses(half)
    history = fit(half, sample_weight=kept.astype("float32"), batch_size=16)
    for name, values in (("student_loss", label), ("distillation_loss", soft)):
        wanted = values[kept].sum() / len(X)
        np.testing.assert_allclose(history[name], [wanted], rtol=1e-5)


def test_class_weights_count():
    made = make(compile_args=still())
    label, soft = own_losses(made)
    by_class = {0: 0.0, 1: 1.0, 2: 3.0}
    weight = np.array([by_class[one] for one in Y])
    history = fit(made, class_weight=by_class, batch_size=16)
    for name, values in (("student_loss", label), ("distillation_loss", soft)):
        np.testing.assert_allclose(history[name], [(values * weight).mean()], 1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_student_s_regularizers_work_at_full_strength(share):
    student = mlp(seed=2, kernel_regularizer=keras.regularizers.L2(1.0))
    fast = {"optimizer": keras.optimizers.SGD(0.1)}
    made = make(student=student, student_loss_weight=share, compile_args=fast)
    start = np.linalg.norm(weights(student)[0])
    fit(made, epochs=5)  # a weight w loses 0.1 * 2 * w in each of 10 steps
    assert np.linalg.norm(weights(student)[0]) < 2 * 0.8**10 * start
    penalty = number(keras.ops.sum(student.losses[0]))
    found = made.evaluate(X, Y, verbose=0)
    label, _ = own_losses(made)
    np.testing.assert_allclose(found, label.mean() + penalty, rtol=1e-4)


def test_padding_does_not_count():
    def net(seed, units):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                keras.layers.Embedding(10, units, mask_zero=True),
                keras.layers.Dense(4),
            ]
        )

    tokens = np.random.default_rng(0).integers(1, 10, size=(8, 6))
    labels = tokens % 4
    tokens[:, 3:] = 0
    teacher, student = net(1, 8), net(2, 4)
    made = make(student=student, teacher=teacher, compile_args=still())
    history = fit(made, x=tokens, y=labels)
    t, s = (one.predict(tokens, verbose=0)[:, :3] for one in (teacher, student))
    wanted = oracles.soft_target_loss(t, s, 2.0).mean()
    np.testing.assert_allclose(history["distillation_loss"], [wanted], rtol=1e-3)


def test_tokens_take_a_weight_for_each_sample():
    made = make(
        teacher=keras.Sequential([keras.Input((5, 2)), keras.layers.Dense(3)]),
        student=keras.Sequential([keras.Input((5, 2)), keras.layers.Dense(3)]),
        student_loss_weight=0.0,
        compile_args=still(loss=None),
    )
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    t, s = (one.predict(x, verbose=0) for one in (made.teacher, made.student))
    values = oracles.soft_target_loss(t, s, 2.0)
    weight = np.array([0.0, 1.0, 2.0, 4.0])
    data = [(x, np.zeros(4), weight)]

    class Once(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return data[0]

    history = made.fit(Once(), verbose=0, shuffle=False).history
    wanted = (values * weight[:, None]).mean()
    np.testing.assert_allclose(history["distillation_loss"], [wanted], rtol=1e-5)


# --- The teacher


def test_the_teacher_is_never_trained_or_changed():
    teacher = mlp(16, seed=1, norm=True, name="teacher")
    before = weights(teacher)
    made = make(teacher=teacher)
    made.trainable = False
    made.trainable = True
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), LABEL_LOSS)  # traced
    fit(made, epochs=2, validation_data=(X, Y))
    same(weights(teacher), before)
    assert teacher.trainable
    assert all(layer.trainable for layer in teacher.layers)
    assert "call" not in vars(teacher.layers[-1])
    tracked = {id(one) for one in (*made.variables, *made.optimizer.variables)}
    assert not tracked & {id(one) for one in teacher.variables}
    assert len(made.trainable_variables) == len(made.student.trainable_variables)


def test_evaluate_and_predict_do_not_ask_the_teacher():
    teacher = mlp(16, seed=1, name="teacher")
    made = make(teacher=teacher)
    count = Count(teacher.layers[0])
    made.evaluate(X, Y, verbose=0)
    made.predict(X, verbose=0)
    made.test_on_batch(X, Y)
    made.predict_on_batch(X)
    assert count.calls == 0
    np.testing.assert_array_equal(
        made.predict(X, verbose=0), made.student.predict(X, verbose=0)
    )


def test_a_taught_student_comes_near_its_teacher():
    fast = {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9), **TRACED}
    made = make(student_loss_weight=0.0, compile_args=fast)
    history = fit(made, epochs=25)["distillation_loss"]
    assert history[-1] < 0.3 * history[0]


def test_several_teachers_with_weights():
    one, other = mlp(seed=1), mlp(seed=5, head="softmax")
    made = make(teacher=[(one, 3.0), (other, 1.0)])
    p = oracles.softmax(one.predict(X, verbose=0))
    q = other.predict(X, verbose=0)
    found = oracles.softmax(numpy(made.teacher_outputs(X).logits[0]))
    np.testing.assert_allclose(found, 0.75 * p + 0.25 * q, rtol=1e-4)
    fit(made)


def test_a_teacher_that_is_a_function():
    kernel = np.random.default_rng(0).normal(size=(4, CLASSES)).astype("float32")
    before = fit(make(teacher=lambda x: keras.ops.matmul(x, kernel), from_logits=True))
    assert np.isfinite(before["distillation_loss"]).all()
    with pytest.raises(ValueError, match=r"`from_logits` must be True, False, .* for"):
        make(teacher=lambda x: keras.ops.matmul(x, kernel))


def test_the_teacher_may_have_inputs_of_its_own():
    keras.utils.set_random_seed(1)
    teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(CLASSES)])
    made = make(teacher=teacher, teacher_inputs=lambda x: x[:, :2])
    found = numpy(made.teacher_outputs(X).logits[0])
    np.testing.assert_allclose(found, teacher.predict(X[:, :2], verbose=0), rtol=1e-5)
    fit(made)


def test_another_teacher_is_really_asked():
    made = make(compile_args=still(**TRACED))
    first = fit(made)["distillation_loss"]
    other = mlp(16, seed=9)
    made.set_teacher(other)
    _, soft = own_losses(made)
    second = fit(made)["distillation_loss"]
    np.testing.assert_allclose(second, [soft.mean()], rtol=1e-5)
    assert first != second
    wide = keras.Sequential([keras.Input((4,)), keras.layers.Dense(CLASSES + 1)])
    with pytest.raises(ValueError, match=r"`teacher` must be a model with the outputs"):
        made.set_teacher(wide)


def test_new_weights_of_the_teacher_reach_a_fit_that_is_traced():
    made = make(compile_args=still(**TRACED))
    fit(made)
    made.teacher.set_weights(mlp(16, seed=9).get_weights())
    _, soft = own_losses(made)
    found = fit(made)["distillation_loss"]
    np.testing.assert_allclose(found, [soft.mean()], rtol=1e-5)


def test_the_teacher_survives_a_fit_that_raised():
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("the user's own")

    made = make(compile_args=TRACED)
    before = weights(made.teacher)
    with pytest.raises(RuntimeError, match=r"the user's own"):
        fit(made, callbacks=[Break()])
    same(weights(made.teacher), before)
    broken = make(teacher=made.teacher, compile_args={"loss": "no such loss", **TRACED})
    with pytest.raises(ValueError, match=r"no such loss"):
        fit(broken)
    same(weights(made.teacher), before)


# --- Labels that are missing


@pytest.mark.parametrize("loss", [None, LABEL_LOSS])
def test_without_labels(loss):
    made = make(
        student_loss_weight=0.0, compile_args={"loss": loss, "metrics": ["accuracy"]}
    )
    before = weights(made.student)
    history = fit(made, y=None)
    assert set(history) == {"loss", "student_loss", "distillation_loss"}
    np.testing.assert_allclose(history["loss"], history["distillation_loss"], rtol=1e-5)
    differ(weights(made.student), before)


def test_without_labels_but_with_labelled_validation():
    made = make(student_loss_weight=0.0, compile_args={"metrics": ["accuracy"]})
    history = fit(made, y=None, validation_data=(X, Y))
    assert {"val_loss", "val_accuracy"} <= set(history)
    label, _ = own_losses(made)
    np.testing.assert_allclose(history["val_loss"], [label.mean()], rtol=1e-5)


def test_labels_that_are_missing_are_asked_for_before_the_first_step():
    with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss_we"):
        fit(make(), y=None)
    with pytest.raises(ValueError, match=r"`loss` must be a loss for the labels"):
        fit(make(compile_args={"loss": None}))


def test_a_schedule_that_brings_in_the_labels_asks_for_them():
    made = make(student_loss_weight=0.0)
    for variable in ("student_loss_weight", made.student_loss_weight):
        schedule = kf.HyperparameterSchedule(variable, 0.0, 0.5)
        with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
            fit(made, y=None, callbacks=[schedule])
        with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
            made.fit(X, None, 8, 1, 0, [schedule])  # callbacks by place
    made.train_on_batch(X[:8])  # the schedule was of those fits alone
    fit(made, y=None, callbacks=[kf.HyperparameterSchedule("temperature", 2.0, 1.0)])


def test_a_share_that_came_to_the_variable_asks_for_labels():
    made = make(student_loss_weight=0.0)
    schedule = kf.HyperparameterSchedule("*/student_loss_weight", 0.0, 0.5)
    with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
        fit(made, y=None, callbacks=[schedule])
    made.student_loss_weight.assign(0.5)
    with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
        fit(made, y=None)
    with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
        made.train_on_batch(X[:8])
    made.student_loss_weight.assign(0.0)
    fit(made, y=None)


def test_a_share_that_rises_after_a_fit_without_labels_asks_for_them():
    made = make(student_loss_weight=0.0, compile_args=TRACED)
    made.train_on_batch(X[:8])
    made.student_loss_weight.assign(0.5)
    with pytest.raises(ValueError, match=r"`y` must be labels, while student_loss"):
        made.train_on_batch(X[:8])
    before = own_losses(made)[0].mean()
    made.optimizer.learning_rate = 0.0
    logs = made.train_on_batch(X, Y, return_dict=True)
    assert number(logs["student_loss"]) == pytest.approx(before, rel=1e-4)


def test_without_a_loss_the_validation_has_metrics_and_penalties():
    student = mlp(kernel_regularizer=keras.regularizers.L2(0.1))
    how = {"loss": None, "metrics": ["accuracy"]}
    made = make(student=student, student_loss_weight=0.0, compile_args=how)
    history = fit(made, y=None, validation_data=(X, Y))
    assert {"val_loss", "val_accuracy"} <= set(history)
    penalty = 0.1 * (weights(student)[0] ** 2).sum()
    np.testing.assert_allclose(history["val_loss"], [penalty], rtol=1e-4)


# --- Callbacks that compress


def test_what_is_pruned_is_the_student():
    made = make(
        teacher=mlp(16, seed=1, hidden="wide"),
        losses=kf.distillation.FeatureDistillation("wide", "hidden"),
        compile_args={"loss": LABEL_LOSS},
    )
    schedule = kf.PruneSchedule(kf.OneShotSparsity(0.5, 1), allocation="global")
    fit(made, callbacks=[schedule])
    kernels = [one for one in weights(made.student) if one.ndim == 2]
    zeros = sum((one == 0).sum() for one in kernels) / sum(one.size for one in kernels)
    assert zeros == pytest.approx(0.5, abs=0.02)
    projector = made.distillation_losses[0].projector
    assert (numpy(projector.kernel) != 0).all()


def test_what_is_clustered_is_the_student():
    made = make(
        teacher=mlp(16, seed=1, hidden="wide"),
        losses=kf.distillation.FeatureDistillation("wide", "hidden"),
        compile_args={"loss": LABEL_LOSS},
    )
    fit(made, callbacks=[kf.ClusterWeights(4)])
    assert len(np.unique(numpy(made.student.layers[0].kernel))) <= 4
    assert len(np.unique(numpy(made.distillation_losses[0].projector.kernel))) > 4


# --- Subclasses


def test_the_points_for_subclasses():
    class Mine(kf.Distiller):
        def teacher_outputs(self, x):
            found = super().teacher_outputs(x)
            logits = [2.0 * one for one in found.logits]
            return kd.ModelOutputs(found.outputs, logits, found.features)

        def compute_distillation_loss(
            self, teacher_outputs, student_outputs, y=None, sample_weight=None
        ):
            found = super().compute_distillation_loss(
                teacher_outputs, student_outputs, y, sample_weight
            )
            return 3.0 * found

    made = Mine(mlp(16, seed=1), mlp(seed=2), kd.LogitsDistillation(2.0))
    made.compile(keras.optimizers.SGD(0.0), LABEL_LOSS)
    t, s = (one.predict(X, verbose=0) for one in (made.teacher, made.student))
    found = fit(made)["distillation_loss"]
    wanted = 3 * oracles.soft_target_loss(2 * t, s, 2.0).mean()
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)


def test_a_loss_of_one_s_own():
    class Absolute(kd.DistillationLoss):
        needs_labels = True

        def compute_loss(self, teacher_outputs, student_outputs, labels=None):
            assert labels is not None
            difference = keras.ops.abs(teacher_outputs - student_outputs)
            return keras.ops.mean(difference, axis=-1)

    made = make(Absolute(), compile_args=still())
    t, s = (one.predict(X, verbose=0) for one in (made.teacher, made.student))
    found = fit(made)["distillation_loss"]
    np.testing.assert_allclose(found, [abs(t - s).mean()], rtol=1e-5)


def test_compute_loss_without_predictions_makes_them():
    made = make()
    found = number(made.compute_loss(X, Y))
    label, soft = own_losses(made)
    np.testing.assert_allclose(found, (label.mean() + soft.mean()) / 2, rtol=1e-5)
