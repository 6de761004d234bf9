"""Features without a second forward pass; layers at any depth, models of any kind."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from keras_fitkit.distillation import matching, taps
from tests.distillation.models import LABEL_LOSS, Count, data, mlp, numpy, weights

X, Y = data()


def make(losses, teacher=None, student=None, **compile_args):
    made = kf.Distiller(
        teacher or mlp(16, seed=1, hidden="wide"), student or mlp(seed=2), losses
    )
    made.compile("sgd", LABEL_LOSS, **{"run_eagerly": True, **compile_args})
    return made


def fit(made, **arguments):
    return made.fit(X, Y, batch_size=8, verbose=0, **arguments).history


class Block(keras.layers.Layer):
    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.inner = keras.layers.Dense(units, "relu", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class Net(keras.Model):
    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.block = Block(units, name="block")
        self.top = keras.layers.Dense(3, name="top")

    def call(self, x):
        return self.top(self.block(x))


def nested(units, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    body = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units, "relu", name="deep")], name="body"
    )
    return keras.Model(inputs, keras.layers.Dense(3)(body(inputs)))


def subclassed(units, seed):
    keras.utils.set_random_seed(seed)
    model = Net(units)
    model(X)
    return model


def test_one_forward_of_each_model_in_a_step():
    teacher, student = mlp(16, seed=1, hidden="wide"), mlp(seed=2, norm=True)
    losses = [
        kd.LogitsDistillation(2.0),
        kd.FeatureDistillation("wide", "hidden"),
        kd.SimilarityPreserving("wide", "norm"),
    ]
    made = make(losses, teacher, student)
    made.train_on_batch(X[:8], Y[:8])
    counts = [Count(model.layers[0]) for model in (teacher, student)]
    made.train_on_batch(X[8:], Y[8:])
    assert [one.calls for one in counts] == [1, 1]


def test_the_moving_statistics_are_those_of_one_update():
    student, plain = mlp(seed=2, norm=True), mlp(seed=2, norm=True)
    made = make(kd.FeatureDistillation("wide", "norm"), student=student)
    made.train_on_batch(X, Y)
    plain.compile("sgd", LABEL_LOSS, run_eagerly=True)
    plain.train_on_batch(X, Y)
    found, wanted = (weights(one.get_layer("norm"))[2:] for one in (student, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_evaluate_leaves_the_moving_statistics_alone():
    student = mlp(seed=2, norm=True)
    made = make(kd.FeatureDistillation("wide", "norm"), student=student)
    before = weights(student)
    made.evaluate(X, Y, verbose=0)
    made.predict(X, verbose=0)
    np.testing.assert_array_equal(before[2], weights(student)[2])
    np.testing.assert_array_equal(before[3], weights(student)[3])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (nested, "body/deep"),
        (nested, "body"),
        (subclassed, "block"),
        (subclassed, "block/inner"),
    ],
)
def test_layers_at_any_depth_of_models_of_any_kind(kind, path):
    teacher, student = kind(16, 1), kind(8, 2)
    loss = kd.FeatureDistillation(path, path)
    made = kf.Distiller(teacher, student, loss)
    made.compile("sgd", LABEL_LOSS)
    assert tuple(loss.projector.kernel.shape) == (8, 16)
    before = weights(loss.projector)
    history = fit(made)
    assert np.isfinite(history["distillation_loss"]).all()
    assert (weights(loss.projector)[0] != before[0]).any(), "the projector trains"
    features = made.teacher_outputs(X).features[path]
    assert tuple(features.shape) == (16, 16)
    layer = taps.find_layer("layer", teacher, path)
    assert "call" not in vars(layer), "what was put on it is gone"


def test_outputs_of_a_subclassed_model_have_their_names():
    class Two(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.body = keras.layers.Dense(units, name="body")
            self.heads = {n: keras.layers.Dense(3, name=n) for n in ("b", "a")}

        def call(self, x):
            hidden = self.body(x)
            return {name: head(hidden) for name, head in self.heads.items()}

    teacher, student = Two(16), Two(8)
    for model in (teacher, student):
        model(X)
    losses = [kd.LogitsDistillation(output="a"), kd.FeatureDistillation("body", "body")]
    made = kf.Distiller(teacher, student, losses, from_logits=True)
    made.compile("sgd", {"a": LABEL_LOSS, "b": LABEL_LOSS}, run_eagerly=True)
    found = made.fit(X, {"a": Y, "b": Y}, batch_size=16, verbose=0).history
    t, s = (one(X)["a"] for one in (teacher, student))
    assert made._run.terms[0].pairs == ((0, 0),)
    assert np.isfinite(found["logits_distillation_loss"]).all()
    assert tuple(t.shape) == tuple(s.shape)


def test_a_projector_leaves_with_the_distiller(tmp_path):
    made = make(kd.FeatureDistillation("wide", "hidden"))
    assert len(made.trainable_variables) == 4 + 2
    fit(made)
    made.student.save(tmp_path / "student.keras")
    alone = keras.models.load_model(tmp_path / "student.keras")
    assert alone.count_params() == mlp().count_params()
    np.testing.assert_allclose(
        alone.predict(X, verbose=0), made.predict(X, verbose=0), rtol=1e-5
    )


def test_every_loss_on_features_in_one_fit():
    losses = [
        kd.FeatureDistillation("wide", "hidden", "cosine_similarity"),
        kd.SimilarityPreserving("wide", "hidden"),
        kd.RelationalDistillation("wide", "hidden"),
        kd.ContrastiveDistillation("wide", "hidden", dim=4, queue=12),
        kd.FeatureDistillation(),
    ]
    made = make(losses, run_eagerly=False)
    history = fit(made, epochs=2)
    assert np.isfinite([v for values in history.values() for v in values]).all()
    assert set(history) == {
        "loss", "student_loss", "distillation_loss", "feature_distillation_loss",
        "similarity_preserving_loss", "relational_distillation_loss",
        "contrastive_distillation_loss", "feature_distillation_2_loss",
    }  # fmt: skip
    queue = next(v for v in made.variables if v.name == "present")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(queue), np.ones(12))


def test_attention_of_convolutions():
    def net(filters, seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(filters, 3, padding="same", name="maps"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )

    made = make(
        [kd.AttentionTransfer("maps", "maps"), kd.FeatureDistillation("maps", "maps")],
        net(6, 1),
        net(4, 2),
    )
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
    history = made.fit(x, Y[:8], verbose=0).history
    assert np.isfinite(history["distillation_loss"]).all()


@pytest.mark.parametrize(
    ("path", "hint"),
    [("hiden", "Did you mean 'hidden'"), ("deep", "Did you mean 'body/deep'")],
)
def test_a_layer_that_is_not_there_is_named(path, hint):
    student = nested(8, 2) if path == "deep" else mlp(seed=2)
    with pytest.raises(ValueError, match=rf"`student_layer_name` must be .*{hint}"):
        make(kd.FeatureDistillation("wide", path), student=student)


def test_a_layer_that_is_called_twice_is_refused():
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    student = keras.Model(inputs, keras.layers.Dense(3)(shared(shared(inputs))))
    with pytest.raises(ValueError, match=r"`layer` must be a layer that the model cal"):
        make(kd.FeatureDistillation("wide", "shared"), student=student)


def test_a_part_of_a_recurrent_layer_is_refused():
    student = keras.Sequential(
        [
            keras.Input((4, 1)),
            keras.layers.LSTM(4, name="lstm"),
            keras.layers.Dense(3),
        ]
    )
    path = next(p for p in taps.named_layers(student) if p.startswith("lstm/"))
    with pytest.raises(ValueError, match=r"A cell runs once .*: take 'lstm'"):
        make(kd.FeatureDistillation("wide", path), student=student)


def test_layers_of_several_teachers():
    one, other = mlp(16, seed=1, hidden="wide"), mlp(12, seed=3)
    made = kf.Distiller(
        [one, other],
        mlp(seed=2),
        [
            kd.FeatureDistillation("0/wide", "hidden"),
            kd.FeatureDistillation("1/hidden", "hidden"),
        ],
    )
    made.compile("sgd", LABEL_LOSS, run_eagerly=True)
    assert np.isfinite(fit(made)["distillation_loss"]).all()
    features = made.teacher_outputs(X).features
    assert [tuple(f.shape) for f in features.values()] == [(16, 16), (16, 12)]
    wanted = keras.ops.relu(other.layers[0](X))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(features["1/hidden"]),
        keras.ops.convert_to_numpy(wanted),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (keras.layers.Conv2D(2, 1, data_format="channels_first"), (1, 5, 4, 3), 5),
        (keras.layers.Conv1D(2, 1, data_format="channels_first"), (1, 5, 4), 5),
        (keras.layers.Conv2D(2, 1, data_format="channels_last"), (1, 5, 4, 3), 3),
        (keras.layers.BatchNormalization(axis=1), (1, 5, 4, 3), 5),
        (keras.layers.BatchNormalization(), (1, 5, 4, 3), 3),
        (keras.layers.ReLU(), (1, 5, 4, 3), 3),
        (keras.layers.Dense(2), (1, 5, 4), 4),
    ],
)
def test_features_have_their_channels_last(layer, shape, wanted):
    found = matching.channels_last(layer, keras.ops.zeros(shape))
    assert tuple(found.shape)[-1] == wanted
    assert sorted(found.shape) == sorted(shape)


def test_an_activation_goes_by_the_setting_of_keras():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        found = matching.channels_last(
            keras.layers.ReLU(), keras.ops.zeros((1, 5, 4, 3))
        )
    finally:
        keras.config.set_image_data_format(before)
    assert tuple(found.shape) == (1, 4, 3, 5)


def test_several_notes_of_one_layer_at_a_time():
    model = mlp(name="net")
    layer = model.layers[0]
    with taps.noted([(layer, taps.CALL)]) as outer:
        with taps.noted([(layer, taps.CALL)]) as inner:
            model(X)
        assert "call" in vars(layer)
        model(X)
    assert "call" not in vars(layer)
    assert tuple(inner.result(layer).shape) == (16, 8)
    assert tuple(outer.result(layer).shape) == (16, 8)


def test_a_layer_that_gives_several_tensors_is_refused():
    inputs = keras.Input((5, 4))
    first, *_ = keras.layers.LSTM(6, return_state=True, name="lstm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(first))
    with pytest.raises(ValueError, match=r"`teacher_layer_name` must be .*one tensor"):
        kf.Distiller(
            model,
            keras.models.clone_model(model),
            kd.SimilarityPreserving("lstm", "lstm"),
        )


def test_a_model_of_one_batch_size():
    inputs = keras.Input(batch_shape=(8, 5, 4))
    stateful = keras.backend.backend() != "torch"  # there Keras itself raises in `fit`
    hidden = keras.layers.GRU(6, stateful=stateful, name="gru")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    made = kf.Distiller(
        model,
        keras.models.clone_model(model),
        [kd.FeatureDistillation("gru", "gru"), kd.LogitsDistillation()],
        student_loss_weight=0.0,
    )
    made.compile("sgd", run_eagerly=True)
    x = np.ones((16, 5, 4), "float32")
    made.fit(x, batch_size=8, verbose=0, shuffle=False)


def test_the_wrapper_of_a_layer_is_suggested():
    student = kf.quantize_model(mlp(seed=2), "int8")
    with pytest.raises(ValueError, match=r"Did you mean 'quant_hidden'\?"):
        kf.Distiller(mlp(seed=1), student, kd.FeatureDistillation("hidden", "hidden"))


def test_inputs_by_name():
    def net():
        inputs = {name: keras.Input((4,), name=name) for name in ("left", "right")}
        both = keras.layers.Concatenate()([inputs["right"], inputs["left"]])
        hidden = keras.layers.Dense(6, name="hidden")(both)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    kf.Distiller(net(), net(), kd.FeatureDistillation("hidden", "hidden"))


def test_a_layer_that_keras_has_quantized():
    teacher = mlp(16, seed=1, hidden="wide")
    teacher.get_layer("wide").quantize("int8")
    wanted = keras.Model(teacher.inputs[0], teacher.get_layer("wide").output)
    x, _ = data()
    network = taps.noted([(teacher.get_layer("wide"), taps.CALL)])
    with network as notes:
        teacher(x)
    found = notes.result(teacher.get_layer("wide"))
    np.testing.assert_array_equal(numpy(found), numpy(wanted(x)))
    assert "quantized_call" not in vars(teacher.get_layer("wide"))
    loss = kd.FeatureDistillation("wide", "hidden")
    made = kf.Distiller(teacher, mlp(seed=2), loss, student_loss_weight=0.0)
    made.compile("sgd", run_eagerly=True)
