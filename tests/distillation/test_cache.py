"""What a teacher said, from the disk: right, resumable, refused when it is stale."""

import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from keras_fitkit.distillation.cache import spread
from tests.distillation import oracles
from tests.distillation.models import LABEL_LOSS, Count, data, mlp, numpy, same, weights
from tests.tools import warns_once

X, Y = data(20)


def store(path, teacher=None, x=X, **arguments):
    teacher = teacher or mlp(16, seed=1, hidden="wide")
    given = {"verbose": 0, "batch_size": 4, "dtype": "float32", **arguments}
    return kf.cache_teacher(teacher, x, path, **given)


def distiller(teacher, losses=None, student=None, **compile_args):
    losses = losses or kd.LogitsDistillation(2.0)
    made = kf.Distiller(teacher, student or mlp(seed=2), losses)
    made.compile("sgd", LABEL_LOSS, **compile_args)
    return made


def test_a_fit_from_the_cache_is_the_fit_with_the_teacher(tmp_path):
    def losses():
        return [
            kd.LogitsDistillation(2.0),
            kd.FeatureDistillation("wide", "hidden", projector=keras.layers.Dense(
                16, kernel_initializer="ones"
            )),
        ]  # fmt: skip

    teacher = mlp(16, seed=1, hidden="wide")
    cache = store(tmp_path / "c", teacher, taps=["wide"])
    count = Count(teacher.layers[0])
    cached = distiller(cache, losses())
    rows = cache.dataset(X, Y, batch_size=8, seed=5)
    one = cached.fit(
        rows, shuffle=False, epochs=2, verbose=0, validation_data=(X, Y)
    ).history
    assert count.calls == 0
    asked = distiller(teacher, losses(), run_eagerly=True)
    plain = kf.ReproducibleDataset(X, Y, batch_size=8, seed=5)
    two = asked.fit(
        plain, shuffle=False, epochs=2, verbose=0, validation_data=(X, Y)
    ).history
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, err_msg=name)
    pairs = zip(weights(cached.student), weights(asked.student), strict=True)
    for left, right in pairs:
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    assert count.calls > 0


def test_layers_of_several_teachers_are_stored(tmp_path):
    teachers = [mlp(16, seed=1, hidden="wide"), mlp(seed=3)]
    cache = store(tmp_path / "c", teachers, taps=["0/wide", "1/hidden"])
    found = cache.rows(np.arange(20))
    shapes = {"logits_0": (20, 3), "features_0": (20, 16), "features_1": (20, 8)}
    assert {name: one.shape for name, one in found.items()} == shapes
    wanted = keras.ops.relu(teachers[1].layers[0](X))
    np.testing.assert_allclose(found["features_1"], numpy(wanted), rtol=1e-4, atol=1e-5)
    distiller(cache, kd.FeatureDistillation("1/hidden", "hidden"))


def test_batches_have_the_rows_of_their_samples(tmp_path):
    teacher = mlp(16, seed=1, head="softmax")
    cache = store(tmp_path / "c", teacher)
    rows = cache.dataset(X, Y, batch_size=7, seed=5, sample_weight=np.ones(20))
    x, y, weight = rows[1]
    assert (len(y), len(weight)) == (7, 7)
    said = oracles.softmax(x["keras_fitkit_teacher_outputs"]["logits_0"])
    np.testing.assert_allclose(said, teacher.predict(x["inputs"], verbose=0), rtol=1e-4)
    order = kf.ReproducibleDataset(X, Y, batch_size=7, seed=5)
    np.testing.assert_array_equal(x["inputs"], order[1][0])


def test_it_can_be_used_without_labels_and_without_the_teacher(tmp_path):
    store(tmp_path / "c")
    cache = kd.TeacherCache(tmp_path / "c")
    made = kf.Distiller(
        cache, mlp(seed=2), kd.LogitsDistillation(), student_loss_weight=0.0
    )
    made.compile("sgd", run_eagerly=True)
    rows = cache.dataset(X, batch_size=8, seed=0)
    history = made.fit(rows, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_half_precision_and_the_largest_classes(tmp_path):
    teacher = mlp(16, seed=1)
    logits = teacher.predict(X, verbose=0)
    whole = store(tmp_path / "half", teacher, dtype="float16")
    np.testing.assert_allclose(
        whole.rows(np.arange(20))["logits_0"], logits, rtol=2e-3, atol=1e-3
    )
    two = store(tmp_path / "two", teacher, top_k=2)
    found = oracles.softmax(two.rows(np.arange(20))["logits_0"])
    np.testing.assert_allclose(found, oracles.softmax(logits), rtol=1e-4)  # 2 of 3
    one = store(tmp_path / "one", teacher, top_k=1)
    found = oracles.softmax(one.rows(np.arange(20))["logits_0"])
    wanted = oracles.softmax(logits)
    np.testing.assert_allclose(found.max(-1), wanted.max(-1), rtol=1e-4)
    np.testing.assert_array_equal(found.argmax(-1), wanted.argmax(-1))


def test_the_largest_classes_of_a_function(tmp_path):
    teacher = mlp(16, seed=1)

    def ask(x):
        return teacher(x)

    options = {"from_logits": True, "verbose": 0}
    cache = kf.cache_teacher(ask, X, tmp_path / "two", top_k=2, **options)
    assert cache.rows(np.arange(4))["logits_0"].shape == (4, 3)
    with pytest.raises(ValueError, match=r"`top_k` must be .*at most the classes"):
        kf.cache_teacher(ask, X, tmp_path / "four", top_k=4, **options)


def test_the_rest_of_the_probability_is_shared_out_evenly():
    values, classes = np.log([[0.5, 0.3]]), np.array([[3, 1]])
    found = np.exp(spread(values.astype("float32"), classes, 4))
    np.testing.assert_allclose(found, [[0.1, 0.3, 0.1, 0.5]], rtol=1e-5)


def test_a_call_that_was_killed_goes_on(tmp_path):
    class Killed(Exception):
        pass

    teacher, calls, calls_left = mlp(16, seed=1), [], [4]

    def dying(x):
        calls.append(len(x))
        if len(calls) > calls_left[-1]:
            raise Killed
        return teacher(x, training=False)

    def eagerly(model, x):
        return {name: numpy(one) for name, one in model.call(x).items()}

    def eager(function):
        return kf.cache_teacher(
            function, X, tmp_path / "c", batch_size=4, verbose=0, dtype="float32",
            from_logits=True,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        asked = kd.cache_teacher.__globals__["_Asked"]
        patch.setattr(asked, "predict_on_batch", eagerly)
        with pytest.raises(Killed):
            eager(dying)
        with pytest.raises(ValueError, match=r"`path` must be a teacher cache that is"):
            kd.TeacherCache(tmp_path / "c")
        before = len(calls)

        calls_left.append(99)
        cache = eager(dying)
    assert calls[before:] == [8, 4, 4]  # some rows to compare, then what is missing
    np.testing.assert_allclose(
        cache.rows(np.arange(20))["logits_0"], teacher.predict(X, verbose=0), rtol=1e-4
    )


def test_a_finished_cache_is_not_made_again(tmp_path):
    teacher = mlp(16, seed=1)
    store(tmp_path / "c", teacher)
    before = (tmp_path / "c" / "cache.json").stat().st_mtime_ns
    store(tmp_path / "c", teacher)
    assert (tmp_path / "c" / "cache.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"teacher": mlp(16, seed=8)}, "Another teacher"),
        ({"x": X[:10]}, "Another data"),
        ({"x": X + 1}, "Another data"),
        ({"top_k": 2}, "Another top_k"),
        ({"dtype": "float16"}, "Another dtype"),
    ],
)
def test_a_stale_cache_is_an_error(tmp_path, change, text):
    store(tmp_path / "c", mlp(16, seed=1))
    with pytest.raises(ValueError, match=rf"`path` must be a new folder.*{text}"):
        store(tmp_path / "c", **{"teacher": mlp(16, seed=1), **change})


def test_a_function_that_says_something_else_is_another_teacher(tmp_path):
    factor = keras.Variable(1.0)

    def teacher(x):
        return factor * x[:, :3]

    store(tmp_path / "c", teacher, from_logits=True)
    factor.assign(2.0)
    with pytest.raises(ValueError, match=r"Another teacher's answers"):
        store(tmp_path / "c", teacher, from_logits=True)


def test_a_damaged_cache_is_an_error(tmp_path):
    path = tmp_path / "c" / "logits_0.npy"
    store(tmp_path / "c")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + b"x" + whole[-4:])
    with pytest.raises(
        ValueError, match=r"`path` must be a whole teacher cache.*damag"
    ):
        kd.TeacherCache(tmp_path / "c")
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"`path` must be a whole teacher cache"):
        kd.TeacherCache(tmp_path / "c")
    path.write_bytes(whole)
    kd.TeacherCache(tmp_path / "c")
    (tmp_path / "c" / "cache.json").write_text("{")
    with pytest.raises(ValueError, match=r"`path` must be a whole teacher cache"):
        kd.TeacherCache(tmp_path / "c")


def test_other_rows_are_refused(tmp_path):
    cache = store(tmp_path / "c")
    with pytest.raises(ValueError, match=r"`x` must be the data that was cached"):
        cache.dataset(X[::-1], Y, seed=0)
    made = distiller(cache, run_eagerly=True)
    with pytest.raises(ValueError, match=r"`x` must be `cache.dataset"):
        made.fit(X, Y, verbose=0)


def test_the_data_set_of_another_cache_is_refused(tmp_path):
    cache, other = (
        store(tmp_path / name, mlp(16, seed=seed), dtype=dtype)
        for name, seed, dtype in (("a", 1, "float32"), ("b", 3, "float16"))
    )
    made = distiller(cache)
    with pytest.raises(
        ValueError, match=r"`x` must be .*They differ in teacher, dtype"
    ):
        made.fit(other.dataset(X, Y, batch_size=4, seed=0), verbose=0)
    copy = store(tmp_path / "c", mlp(16, seed=1))
    made.fit(copy.dataset(X, Y, batch_size=4, seed=0), verbose=0, shuffle=False)


def test_layers_that_were_not_stored_are_refused(tmp_path):
    cache = store(tmp_path / "c", taps="wide")
    with pytest.raises(ValueError, match=r"one of the cached taps \['wide'\]"):
        distiller(cache, kd.FeatureDistillation("hidden", "hidden"))


def test_nan_and_numbers_too_large_are_refused(tmp_path):
    def large(x):
        return x[:, :3] * 1e6

    with pytest.raises(ValueError, match=r"`dtype` must be 'float32' for outputs"):
        store(tmp_path / "a", large, dtype="float16", from_logits=True)

    def broken(x):
        return keras.ops.log(x[:, :3] * 0 - 1)

    with pytest.raises(ValueError, match=r"`teacher` must be a model whose outputs"):
        store(tmp_path / "b", broken, from_logits=True)


def test_an_augmenting_student_is_warned_of(tmp_path):
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")

    def net(*first):
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                *first,
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )

    cache = store(tmp_path / "c", net(), x=images)
    layers = keras.layers.RandomFlip("horizontal"), keras.layers.MixUp()
    for student in (net(layers[0]), net(keras.Sequential([layers[0]])), net(layers[1])):
        with warns_once(UserWarning, r"The student augments its inputs"):
            kf.Distiller(cache, student, kd.LogitsDistillation())


def test_a_resumed_fit_from_the_cache(tmp_path):
    cache = store(tmp_path / "c")

    def run(folder, epochs):
        made = distiller(cache, run_eagerly=True)
        rows = cache.dataset(X, Y, batch_size=8, seed=5)
        callbacks = kf.resumable(tmp_path / folder, [], data=rows, verbose=0)
        made.fit(rows, shuffle=False, epochs=epochs, verbose=0, callbacks=callbacks)
        return weights(made)

    whole = run("whole", 3)
    run("parts", 1)
    same(run("parts", 3), whole)


def test_without_a_seed_a_fit_may_shuffle_as_it_likes(tmp_path):
    cache = store(tmp_path / "c")
    made = distiller(cache, run_eagerly=True)
    made.fit(cache.dataset(X, Y, batch_size=8), verbose=0)  # Keras's shuffle=True
    orders = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        orders.append(cache.dataset(X, Y, batch_size=20)[0][1])
    np.testing.assert_array_equal(*orders)
    with pytest.raises(ValueError, match=r"`shuffle` must be False"):
        made.fit(cache.dataset(X, Y, batch_size=8, seed=1), verbose=0)


def test_it_shows_how_far_it_is(tmp_path, capsys):
    store(tmp_path / "c", verbose=1)
    assert "20/20" in capsys.readouterr().out
    store(tmp_path / "c", verbose=1)
    assert capsys.readouterr().out == ""


def test_what_is_stored_is_described(tmp_path):
    store(tmp_path / "c", taps=["wide"])
    found = json.loads((tmp_path / "c" / "cache.json").read_text())
    assert found["rows"] == 20
    assert found["arrays"]["features_0"]["layer"] == "wide"
    assert found["about"]["taps"] == ["wide"]
