"""Labels and weights of models with several outputs: by name, by place, or none."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation import oracles
from tests.distillation.models import data, mlp, numpy

X, Y = data()
ODD = Y % 2
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# The names are not in the order of the outputs.
NAMES = ("zz", "aa")


def net(seed, units=8, kind=list):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(units, "relu")(inputs)
    heads = {name: keras.layers.Dense(3, name=name)(hidden) for name in NAMES}
    return keras.Model(inputs, heads if kind is dict else list(heads.values()))


def fitted(losses, y, sample_weight=None, kind=list, loss=None):
    made = kf.Distiller(net(1, 16, kind), net(2, kind=kind), losses)
    loss = loss or dict.fromkeys(NAMES, LOSS)
    made.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    history = made.fit(
        X, y, batch_size=16, sample_weight=sample_weight, shuffle=False, verbose=0
    )
    return made, {name: values[0] for name, values in history.history.items()}


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("output", NAMES)
def test_labels_by_name_reach_the_output_of_that_name(kind, output):
    y = {"zz": Y, "aa": ODD}
    _, found = fitted(kd.DecoupledDistillation(output=output), y, kind=kind)
    _, wrong = fitted(
        kd.DecoupledDistillation(output=output), {"zz": ODD, "aa": Y}, kind=kind
    )
    teacher, student = (one.predict(X, verbose=0) for one in (net(1, 16), net(2)))
    place = NAMES.index(output)
    labels = np.eye(3)[y[output]]
    loss = kd.DecoupledDistillation()
    wanted = numpy(loss(teacher[place], student[place], labels)).mean()
    assert found["distillation_loss"] == pytest.approx(wanted, rel=1e-4)
    assert wrong["distillation_loss"] != pytest.approx(wanted, rel=1e-3)


def test_labels_by_place_are_the_same():
    loss = kd.DecoupledDistillation
    _, by_name = fitted(loss(output="zz"), {"zz": Y, "aa": ODD})
    _, by_place = fitted(loss(output="zz"), [Y, ODD], loss=[LOSS, LOSS])
    assert by_name == pytest.approx(by_place, rel=1e-5)


def test_labels_for_some_outputs_only():
    loss = kd.DecoupledDistillation
    given = {"loss": {"zz": LOSS}, "kind": dict}
    both = kd.LogitsDistillation(2.0)  # gives the other head a gradient
    _, found = fitted([loss(output="zz"), both], {"zz": Y}, **given)
    assert np.isfinite(found["distillation_loss"])
    with pytest.raises(ValueError, match=r"`y` must be labels for the output 'aa'"):
        fitted(loss(output="aa"), {"zz": Y}, **given)


@pytest.mark.parametrize("kind", [list, dict])
def test_the_weights_of_one_output_are_its_own(kind):
    weight = np.arange(16, dtype="float32") / 8
    losses = [kd.LogitsDistillation(2.0, output=name, name=name) for name in NAMES]
    y, weights = {"zz": Y, "aa": ODD}, {"zz": weight, "aa": None}
    loss = None
    if kind is list:  # whose weights Keras takes by place alone
        y, weights, loss = list(y.values()), list(weights.values()), [LOSS, LOSS]
    _, found = fitted(losses, y, weights, kind, loss)
    teacher, student = (one.predict(X, verbose=0) for one in (net(1, 16), net(2)))
    soft = [
        oracles.soft_target_loss(t, s, 2.0)
        for t, s in zip(teacher, student, strict=True)
    ]
    assert found["zz_loss"] == pytest.approx((weight * soft[0]).mean(), rel=1e-4)
    assert found["aa_loss"] == pytest.approx(soft[1].mean(), rel=1e-4)


def test_a_feature_has_the_mean_of_the_weights():
    loss = kd.FeatureDistillation("zz", "zz")
    weight = np.arange(16, dtype="float32") / 8
    made, found = fitted(loss, [Y, ODD], [weight, None], loss=[LOSS, LOSS])
    t, s = (one.predict(X, verbose=0)[0] for one in (made.teacher, made.student))
    wanted = ((weight + 1) / 2 * ((t - s) ** 2).mean(-1)).mean()
    assert found["distillation_loss"] == pytest.approx(wanted, rel=1e-4)


def test_a_head_that_no_loss_reads_may_end_as_it_likes():
    def three(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        kinds = {"kind": "softmax", "box": None, "embedding": "relu"}
        return keras.Model(
            inputs,
            [keras.layers.Dense(3, kinds[one], name=one)(inputs) for one in kinds],
        )

    soft = kd.LogitsDistillation(2.0, output="kind")
    made = kf.Distiller(three(1), three(2), soft)
    found = made.compute_distillation_loss(
        made.teacher_outputs(X), made._run.network(X, training=True), None
    )
    models = (made.teacher, made.student)
    t, s = (np.log(one.predict(X, verbose=0)[0]) for one in models)
    wanted = oracles.soft_target_loss(t, s, 2.0).mean()
    assert float(numpy(found)) == pytest.approx(wanted, rel=1e-3)
    with pytest.raises(ValueError, match=r"`from_logits` must be .* whose output 2"):
        kf.Distiller(three(1), three(2), kd.LogitsDistillation(2.0))


def test_labels_of_nested_outputs():
    def nested(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        a, b, c = (keras.layers.Dense(3)(inputs) for _ in range(3))
        return keras.Model(inputs, {"both": [a, b], "one": c})

    made = kf.Distiller(nested(1), nested(2), kd.DecoupledDistillation())
    student = made._run.network(X, training=True)
    y = {"both": [Y, ODD], "one": ODD}
    found = made.compute_distillation_loss(made.teacher_outputs(X), student, y)
    loss, wanted = kd.DecoupledDistillation(), 0.0
    outputs = [keras.tree.flatten(one(X)) for one in (made.teacher, made.student)]
    for t, s, labels in zip(*outputs, [Y, ODD, ODD], strict=True):
        wanted += numpy(loss(t, s, labels)).mean()
    assert float(numpy(found)) == pytest.approx(wanted, rel=1e-4)


def test_fewer_labels_than_outputs_are_refused():
    made = kf.Distiller(net(1, 16), net(2), kd.DecoupledDistillation(output="aa"))
    student = made._run.network(X, training=True)
    with pytest.raises(ValueError, match=r"`y` must be labels for all 2 outputs, or"):
        made.compute_distillation_loss(made.teacher_outputs(X), student, [Y])


def test_teachers_with_a_head_that_nobody_reads():
    def two(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        parts = keras.layers.Reshape((3, 2))(keras.layers.Dense(6)(inputs))
        other = keras.layers.Softmax(axis=1, name="other")(parts)
        return keras.Model(inputs, [keras.layers.Dense(3, name="kind")(inputs), other])

    soft = kd.LogitsDistillation(2.0, output="kind")
    made = kf.Distiller([two(1), two(3)], two(2), soft)
    assert made.teacher_outputs(X).logits[1] is None
    student = made._run.network(X, training=True)
    found = made.compute_distillation_loss(made.teacher_outputs(X), student)
    assert np.isfinite(float(numpy(found)))


def test_masks_with_weights_of_the_positions():
    def net(units, seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                keras.layers.Embedding(10, units, mask_zero=True),
                keras.layers.Dense(3, name="logits"),
            ]
        )

    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 10, (8, 6))
    labels, shares = rng.integers(0, 3, (8, 6)), rng.random((8, 6)).astype("float32")
    kept = shares.copy()
    teacher, student = net(8, 1), net(4, 2)
    for one in (teacher, student):  # logits far from one another
        one.layers[0].set_weights([50 * one.layers[0].get_weights()[0]])
    made = kf.Distiller(teacher, student, kd.LogitsDistillation(2.0))
    made.compile(keras.optimizers.SGD(0.0), LOSS, run_eagerly=True)
    fit = made.fit(tokens, labels, sample_weight=shares, verbose=0, batch_size=8)
    np.testing.assert_array_equal(shares, kept)
    outputs = [one.predict(tokens, verbose=0) for one in (teacher, student)]
    flat = [one.reshape(48, 3) for one in outputs]
    values = oracles.soft_target_loss(*flat, 2.0).reshape(8, 6)
    wanted = (values * shares)[tokens > 0].mean()
    np.testing.assert_allclose(fit.history["distillation_loss"], wanted, rtol=1e-4)


def test_what_is_exported_is_the_student(tmp_path):
    made = kf.Distiller(mlp(seed=1), mlp(seed=2), kd.LogitsDistillation())
    given = []
    made.student.export = lambda *args, **kwargs: given.append((args, kwargs))
    made.export(tmp_path, format="onnx")
    assert given == [((tmp_path,), {"format": "onnx"})]
