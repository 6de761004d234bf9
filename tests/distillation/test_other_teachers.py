"""Several teachers, and another one in the place of the first."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import LABEL_LOSS, data, mlp

X, Y = data()


def taught(teacher, loss=None, student=None, **arguments):
    """The loss of a distiller that stays as it is."""
    losses = loss or kd.LogitsDistillation(2.0)
    made = kf.Distiller(
        teacher, student or mlp(seed=2), losses, student_loss_weight=0.0, **arguments
    )
    return made, said(made)


def said(made, rows=X):
    made.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    fit = made.fit(rows, batch_size=16, verbose=0, shuffle=False)
    return fit.history["distillation_loss"][0]


def sigmoids():
    return kd.LogitsDistillation(2.0, activation="sigmoid")


def test_the_same_teacher_twice_is_that_teacher():
    teacher = mlp(16, seed=1)
    for loss in (kd.LogitsDistillation, sigmoids):
        _, one = taught(teacher, loss())
        _, two = taught([teacher, teacher], loss())
        np.testing.assert_allclose(two, one, rtol=1e-5)
    # Linear heads are averaged as the student's head has them.
    student = mlp(seed=2, head="sigmoid")
    _, one = taught(teacher, student=student)
    _, two = taught([(teacher, 3.0), teacher], student=student)
    np.testing.assert_allclose(two, one, rtol=1e-5)


def test_one_output_of_several_teachers_is_read_in_one_way():
    teachers = [mlp(16, seed=1), mlp(16, seed=3)]
    losses = [kd.LogitsDistillation(2.0), sigmoids()]
    kf.Distiller(teachers[0], mlp(seed=2), losses)
    with pytest.raises(ValueError, match=r"`teacher` must be one model where losses"):
        kf.Distiller(teachers, mlp(seed=2), losses)


def test_several_teachers_have_the_same_classes():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    with pytest.raises(ValueError, match=r"`teacher` must be .*same classes.* has 3"):
        kf.Distiller([mlp(), other], mlp(seed=2), kd.LogitsDistillation())
    inputs = keras.Input((4,))
    two = keras.Model(inputs, [keras.layers.Dense(3)(inputs) for _ in range(2)])
    with pytest.raises(ValueError, match=r"`teacher` must be .*same outputs"):
        kf.Distiller([mlp(), two], mlp(seed=2), kd.LogitsDistillation())


def test_a_cache_is_read_as_it_was_stored(tmp_path):
    teacher = mlp(16, seed=1)
    for name, one, options in (
        ("largest", teacher, {"top_k": 2}),
        ("several", [teacher, mlp(seed=5)], {}),
    ):
        cache = kf.cache_teacher(one, X, tmp_path / name, verbose=0, **options)
        kf.Distiller(cache, mlp(seed=2), kd.LogitsDistillation())
        with pytest.raises(ValueError, match=r"`teacher` must be a cache without"):
            kf.Distiller(cache, mlp(seed=2), sigmoids())
    whole = kf.cache_teacher(teacher, X, tmp_path / "all", dtype="float32", verbose=0)
    made = kf.Distiller(whole, mlp(seed=2), sigmoids(), student_loss_weight=0.0)
    found = said(made, whole.dataset(X, batch_size=16, seed=0))
    np.testing.assert_allclose(found, taught(teacher, sigmoids())[1], rtol=1e-5)


def test_outputs_are_paired_by_their_names():
    def net(names):
        inputs = keras.Input((4,))
        outputs = [keras.layers.Dense(3, name=name)(inputs) for name in names]
        return keras.Model(inputs, outputs)

    teacher, student = net("ab"), net("ba")
    for name in "ab":
        student.get_layer(name).set_weights(teacher.get_layer(name).get_weights())
    _, found = taught(teacher, student=student)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_another_teacher_has_a_head_of_the_same_kind():
    made, _ = taught(mlp(16, seed=1), student=mlp(seed=2, head="softmax"))
    made.set_teacher(mlp(16, seed=3, head="softmax"))
    with pytest.raises(ValueError, match=r"`teacher` must be .*head is not a sigmoid"):
        made.set_teacher(mlp(16, seed=3, head="sigmoid"))


def test_what_makes_the_teachers_inputs_stays(tmp_path):
    teacher, student = mlp(16, seed=1), mlp(seed=2)
    made, first = taught(teacher, student=student, teacher_inputs=lambda x: -x)
    made.set_teacher(teacher)
    np.testing.assert_allclose(said(made), first, rtol=1e-6)
    made.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    with pytest.raises(ValueError, match=r"`teacher_inputs` must be given"):
        again.set_teacher(teacher)
    again.save(tmp_path / "again.keras")  # it is still known that there was one
    again = keras.models.load_model(tmp_path / "again.keras")
    with pytest.raises(ValueError, match=r"`teacher_inputs` must be given"):
        again.set_teacher(teacher)
    again.set_teacher(teacher, lambda x: -x)
    np.testing.assert_allclose(said(again), first, rtol=1e-6)
    made.set_teacher(teacher, None)
    assert abs(said(made) - first) > 1e-3


class Interpreted(keras.layers.Layer):
    """A layer that no compiler takes."""

    def __init__(self):
        super().__init__()
        self.supports_jit = False

    def call(self, inputs):
        return inputs


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="eager by default")
def test_a_teacher_that_xla_cannot_compile_is_not_compiled():
    layers = [keras.Input((4,)), Interpreted(), keras.layers.Dense(3)]
    nested = keras.Sequential([keras.Input((4,)), keras.Sequential(layers)])
    made = kf.Distiller(nested, mlp(seed=2), kd.LogitsDistillation())
    made.compile("sgd", LABEL_LOSS)
    assert not made.jit_compile
    made = kf.Distiller(mlp(seed=1), mlp(seed=2), kd.LogitsDistillation())
    made.compile("sgd", LABEL_LOSS, jit_compile=True)
    assert made.jit_compile
    with pytest.warns(UserWarning, match="XLA cannot compile this teacher"):
        made.set_teacher(nested)
    assert not made.jit_compile


def test_another_teacher_is_paired_by_its_names():
    def net(names, seed=0):
        inputs = keras.Input((4,))
        keras.utils.set_random_seed(seed)
        made = {name: keras.layers.Dense(3, name=name) for name in "ab"}
        return keras.Model(inputs, [made[name](inputs) for name in names])

    teacher, turned, student = net("ab"), net("ba"), net("ab", 2)
    for name in "ab":
        turned.get_layer(name).set_weights(teacher.get_layer(name).get_weights())
    made, first = taught(teacher, student=student)
    made.set_teacher(turned)
    np.testing.assert_allclose(said(made), first, rtol=1e-5)


def test_what_makes_the_teachers_inputs_outlives_a_cache(tmp_path):
    teacher = mlp(16, seed=1)
    cache, other = (
        kf.cache_teacher(teacher, rows, tmp_path / name, verbose=0)
        for name, rows in (("a", X), ("b", X[::-1].copy()))
    )
    made, first = taught(teacher, teacher_inputs=lambda x: -x)
    made.set_teacher(cache)
    said(made, cache.dataset(X, batch_size=16, seed=0))
    said(made, other.dataset(X[::-1].copy(), batch_size=16, seed=0))
    made.set_teacher(teacher)
    np.testing.assert_allclose(said(made), first, rtol=1e-6)
