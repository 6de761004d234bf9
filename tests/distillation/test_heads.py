"""Logits are found from the head; where nothing shows it, it must be said."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from keras_fitkit import quantization
from tests.distillation import oracles
from tests.distillation.models import data, mlp, numpy

X, Y = data()
HEADS = {
    "linear": lambda x: keras.layers.Dense(3)(x),
    "softmax": lambda x: keras.layers.Dense(3, "softmax")(x),
    "activation": lambda x: keras.layers.Activation("softmax")(
        keras.layers.Dense(3)(x)
    ),
    "layer": lambda x: keras.layers.Softmax()(keras.layers.Dense(3)(x)),
    "op": lambda x: keras.ops.softmax(keras.layers.Dense(3)(x)),
    "through": lambda x: keras.layers.Reshape((3,))(
        keras.layers.Dense(3, "softmax")(x)
    ),
    "nested": lambda x: keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, "softmax")]
    )(x),
    "linear activation": lambda x: keras.layers.Activation("linear")(
        keras.layers.Dense(3, "softmax")(x)
    ),
}


def build(head, seed=1):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    return keras.Model(inputs, HEADS[head](inputs))


def outputs(model, **arguments):
    loss = kd.LogitsDistillation(2.0)
    made = kf.Distiller(model, mlp(seed=2), loss, student_loss_weight=0.0, **arguments)
    return numpy(made.teacher_outputs(X).logits[0])


@pytest.mark.parametrize("head", HEADS)
def test_the_logits_have_the_probabilities_of_the_model(head):
    model = build(head)
    said = model.predict(X, verbose=0)
    if head == "linear":
        said = oracles.softmax(said)
    found = outputs(model)
    np.testing.assert_allclose(oracles.softmax(found), said, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["softmax", "activation", "layer"])
def test_a_saturated_softmax_still_has_its_logits(head):
    model = build(head)
    dense = next(one for one in model.layers if isinstance(one, keras.layers.Dense))
    dense.set_weights([np.zeros((4, 3)), np.array([200.0, 0.0, -200.0])])
    found = outputs(model)
    np.testing.assert_allclose(found[0], [200.0, 0.0, -200.0], rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_student_with_a_softmax_learns_from_before_it(share):
    student, teacher = mlp(seed=2, head="softmax"), mlp(16, seed=1)
    made = kf.Distiller(
        teacher, student, kd.LogitsDistillation(2.0), student_loss_weight=share
    )
    made.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=True
    )
    before = student.layers[-1].activation
    history = made.fit(X, Y, batch_size=16, verbose=0).history
    logits = np.log(student.predict(X, verbose=0))
    wanted = oracles.soft_target_loss(teacher.predict(X, verbose=0), logits, 2.0)
    found = history["distillation_loss"]
    np.testing.assert_allclose(found, [wanted.mean()], rtol=1e-4)
    label = -logits[np.arange(16), Y].mean()
    np.testing.assert_allclose(history["student_loss"], [label], rtol=1e-4)
    assert student.layers[-1].activation is before


def test_sigmoid_heads_of_one_and_of_several_units():
    def net(units, seed, activation):
        keras.utils.set_random_seed(seed)
        dense = keras.layers.Dense(units, activation)
        return keras.Sequential([keras.Input((4,)), dense])

    for units in (1, 3):
        teacher, student = net(units, 1, "sigmoid"), net(units, 2, None)
        made = kf.Distiller(teacher, student, kd.LogitsDistillation(2.0))
        made.compile(
            keras.optimizers.SGD(0.0),
            keras.losses.BinaryCrossentropy(from_logits=True),
            run_eagerly=True,
        )
        y = (np.ones((16, units)) * (Y[:, None] > 0)).astype("float32")
        found = made.fit(X, y, batch_size=16, verbose=0).history["distillation_loss"]
        p = teacher.predict(X, verbose=0).astype("d")
        logits = np.log(p / (1 - p))
        s = student.predict(X, verbose=0).astype("d")
        wanted = oracles.bernoulli_loss(logits, s, 2.0).mean()
        np.testing.assert_allclose(found, [wanted], rtol=1e-4)


@pytest.mark.parametrize("head", [None, "softmax"])
def test_a_quantized_student_of_its_own_original(head):
    model = mlp(16, seed=1, head=head)
    student = quantization.quantize_model(model, "int8")
    made = kf.Distiller(model, student, kd.LogitsDistillation(2.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=head is None)
    made.compile("sgd", loss, run_eagerly=True)
    history = made.fit(X, Y, batch_size=8, verbose=0).history["distillation_loss"]
    assert 0 <= history[0] < 0.05, "int8 is near the original"


def test_spectral_normalization_ends_as_its_layer():
    keras.utils.set_random_seed(1)
    dense = keras.layers.SpectralNormalization(keras.layers.Dense(3, "softmax"))
    model = keras.Sequential([keras.Input((4,)), dense])
    found = oracles.softmax(outputs(model))
    np.testing.assert_allclose(found, model.predict(X, verbose=0), rtol=1e-4)


def unknown():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.ReLU()(keras.layers.Dense(3)(inputs)))


def test_a_head_that_shows_nothing_must_be_said():
    with pytest.raises(
        ValueError, match=r"`from_logits` must be True, False, .* for the"
    ):
        outputs(unknown())
    model = unknown()
    said = model.predict(X, verbose=0)
    np.testing.assert_allclose(outputs(model, from_logits=True), said, rtol=1e-5)
    given = {"teacher": True, "student": "auto"}
    np.testing.assert_allclose(outputs(model, from_logits=given), said, rtol=1e-5)


@pytest.mark.parametrize(("head", "said"), [("softmax", True), ("linear", False)])
def test_what_is_said_against_the_head_is_an_error(head, said):
    with pytest.raises(ValueError, match=r"`from_logits` must be .* which ends in"):
        outputs(build(head), from_logits={"teacher": said})


class Free(keras.Model):
    """A subclassed model, whose head shows nothing."""

    def __init__(self, units, activation):
        super().__init__()
        self.dense = keras.layers.Dense(units, activation)
        self.build((None, 4))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


def test_another_teacher_must_have_its_logits_too():
    made = kf.Distiller(mlp(seed=1), mlp(seed=2), kd.LogitsDistillation(2.0))
    before = made.teacher
    with pytest.raises(ValueError, match=r"`from_logits` must be True, False, .* for"):
        made.set_teacher(Free(3, "softmax"))
    assert made.teacher is before


@pytest.mark.parametrize("role", ["subclass", "function"])
@pytest.mark.parametrize("said", [False, "sigmoid"])
def test_one_unit_of_probability_is_a_sigmoid(role, said):
    keras.utils.set_random_seed(3)
    model = Free(1, "sigmoid")
    teacher = model if role == "subclass" else lambda x: model(x)
    keras.utils.set_random_seed(4)
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made = kf.Distiller(
        teacher, student, kd.LogitsDistillation(2.0), from_logits={"teacher": said}
    )
    found = numpy(made.teacher_outputs(X).logits[0])
    p = numpy(model(X))
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-3, atol=1e-5)


def test_several_sigmoids_of_a_model_without_a_graph_are_said_by_name():
    keras.utils.set_random_seed(3)
    model, loss = Free(3, "sigmoid"), {"activation": "sigmoid"}
    said = {"teacher": "sigmoid"}
    student = mlp(seed=2)
    made = kf.Distiller(
        model, student, kd.LogitsDistillation(2.0, **loss), from_logits=said
    )
    p = numpy(model(X))
    found = numpy(made.teacher_outputs(X).logits[0])
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"`from_logits` must be 'sigmoid' or 'softm"):
        kf.Distiller(
            model,
            student,
            kd.LogitsDistillation(2.0, **loss),
            from_logits={"teacher": False},
        )


def test_what_a_cache_was_told_of_its_teacher_is_remembered(tmp_path):
    keras.utils.set_random_seed(3)
    path = tmp_path / "teacher.cache"
    cache = kf.cache_teacher(Free(3, "sigmoid"), X, path, from_logits=False, verbose=0)
    loss = kd.LogitsDistillation(2.0, activation="sigmoid")
    with pytest.raises(ValueError, match=r"`from_logits` must be 'sigmoid' or 'softm"):
        kf.Distiller(cache, mlp(seed=2), loss)


def test_a_masked_softmax_has_the_logits_of_its_probabilities():
    inputs, mask = keras.Input((4,)), keras.Input((3,), dtype="bool")
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(3)(inputs)
    model = keras.Model([inputs, mask], keras.layers.Softmax()(hidden, mask))
    some = np.tile([True, True, False], (16, 1))
    allowed = keras.ops.convert_to_tensor(some)
    loss = kd.LogitsDistillation(2.0)
    made = kf.Distiller(
        model,
        mlp(seed=2),
        loss,
        student_loss_weight=0.0,
        teacher_inputs=lambda x: [
            keras.ops.convert_to_tensor(x),
            keras.ops.convert_to_tensor(allowed),
        ],
    )
    found = oracles.softmax(numpy(made.teacher_outputs(X).logits[0]))
    np.testing.assert_allclose(found, model.predict([X, some], verbose=0), atol=1e-5)


@pytest.mark.parametrize("kind", ["axis", "op", "reshape", "permute"])
def test_a_softmax_along_another_axis_is_refused(kind):
    def net():
        inputs = keras.Input((4,))
        x = keras.layers.Reshape((3, 2))(keras.layers.Dense(6)(inputs))
        if kind == "axis":
            x = keras.layers.Softmax(axis=1)(x)
        elif kind == "op":
            x = keras.ops.softmax(x, axis=1)
        elif kind == "reshape":
            x = keras.layers.Reshape((6,))(keras.layers.Softmax()(x))
        else:
            x = keras.layers.Permute((2, 1))(keras.layers.Softmax()(x))
        return keras.Model(inputs, x)

    for said in ("auto", False):
        with pytest.raises(ValueError, match=r"must be a model whose softmax is along"):
            kf.Distiller(net(), net(), kd.LogitsDistillation(2.0), from_logits=said)


def test_features_alone_need_no_head():
    made = kf.Distiller(
        unknown(), mlp(seed=2), kd.FeatureDistillation(), student_loss_weight=0.0
    )
    made.compile("sgd", run_eagerly=True)
    made.fit(X, verbose=0)


def test_several_outputs_with_lists_of_losses_and_weighted_metrics():
    def net(seed, units):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(units, "relu")(inputs)
        heads = [keras.layers.Dense(n, name=f"head_{n}")(hidden) for n in (3, 2)]
        return keras.Model(inputs, heads)

    labels = [Y, (Y > 0).astype(int)]
    weight = np.arange(16, dtype="float32") / 8
    given = {
        "loss": [keras.losses.SparseCategoricalCrossentropy(from_logits=True)] * 2,
        "loss_weights": [1.0, 0.5],
        "metrics": [["accuracy"], ["accuracy"]],
        "weighted_metrics": [["accuracy"], []],
        "run_eagerly": True,
    }
    teacher, student, plain = net(1, 16), net(2, 8), net(2, 8)
    made = kf.Distiller(teacher, student, kd.LogitsDistillation(2.0))
    for one in (made, plain):
        one.compile(keras.optimizers.SGD(0.0), **given)
    rows = {"batch_size": 16, "verbose": 0, "shuffle": False}
    rows |= {"sample_weight": [weight, weight], "validation_data": (X, labels)}
    found = made.fit(X, labels, **rows).history
    wanted = plain.fit(X, labels, **rows).history
    np.testing.assert_allclose(found["student_loss"], wanted["loss"], rtol=1e-4)
    for name in wanted:
        if name.startswith("val_") or "accuracy" in name:
            np.testing.assert_allclose(found[name], wanted[name], 1e-4, err_msg=name)
    outputs = [one.predict(X, verbose=0) for one in (teacher, student)]
    soft = sum(
        (weight * oracles.soft_target_loss(t, s, 2.0)).mean()
        for t, s in zip(*outputs, strict=True)
    )
    np.testing.assert_allclose(found["distillation_loss"], [soft], rtol=1e-4)


def test_several_outputs_by_name_and_together():
    def net(seed, units):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(units, "relu")(inputs)
        return keras.Model(
            inputs,
            {
                "kind": keras.layers.Dense(3, name="kind")(hidden),
                "age": keras.layers.Dense(2, "softmax", name="age")(hidden),
            },
        )

    labels = {"kind": Y, "age": (Y > 0).astype(int)}
    loss = {
        "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "age": "sparse_categorical_crossentropy",
    }
    teacher, student = net(1, 16), net(2, 8)
    made = kf.Distiller(
        teacher,
        student,
        [kd.LogitsDistillation(2.0), kd.LogitsDistillation(2.0, output="age")],
    )
    made.compile(
        keras.optimizers.SGD(0.0),
        loss,
        loss_weights={"kind": 1.0, "age": 0.5},
        metrics={"kind": ["accuracy"], "age": ["accuracy"]},
        run_eagerly=True,
    )
    history = made.fit(
        X, labels, batch_size=16, verbose=0, validation_data=(X, labels)
    ).history
    t, s = (one.predict(X, verbose=0) for one in (teacher, student))
    kind = oracles.soft_target_loss(t["kind"], s["kind"], 2.0).mean()
    age = oracles.soft_target_loss(np.log(t["age"]), np.log(s["age"]), 2.0).mean()
    first, second = "logits_distillation_loss", "logits_distillation_2_loss"
    np.testing.assert_allclose(history[first], [kind + age], rtol=1e-4)
    np.testing.assert_allclose(history[second], [age], rtol=1e-4)
    assert {"val_kind_accuracy", "val_age_accuracy", "val_loss"} <= set(history)
    np.testing.assert_allclose(history["val_loss"], history["student_loss"], rtol=1e-4)
    with pytest.raises(ValueError, match=r"`output` must be an output of the student"):
        kf.Distiller(teacher, student, kd.LogitsDistillation(output="agee"))
    with pytest.raises(ValueError, match=r"`student` must be a model with the 2 outp"):
        kf.Distiller(teacher, mlp(), kd.LogitsDistillation())
