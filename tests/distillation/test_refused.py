"""What is wrong is said before the first step."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from tests.distillation.models import LABEL_LOSS, data, mlp, same, weights

X, Y = data()
SOFT = kd.LogitsDistillation


def classes(count, head=None):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(count, head)])


def test_other_classes():
    with pytest.raises(
        ValueError, match=r"`student` must be a model with the 5 classes"
    ):
        kf.Distiller(classes(5), classes(3), SOFT())


def test_an_unbuilt_model():
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"`teacher` must be a built model"):
        kf.Distiller(unbuilt, classes(3), SOFT())
    with pytest.raises(ValueError, match=r"`student` must be a built model"):
        kf.Distiller(classes(3), unbuilt, SOFT())


def test_the_teacher_is_the_student():
    model = classes(3)
    with pytest.raises(
        ValueError, match=r"`teacher` must be another model than the st"
    ):
        kf.Distiller(model, model, SOFT())
    shared = keras.Sequential([keras.Input((4,)), model.layers[0]])
    with pytest.raises(ValueError, match=r"Shared: "):
        kf.Distiller(model, shared, SOFT())


def test_shared_weights_that_nobody_trains_are_fine():
    body = keras.layers.Dense(4, name="body")
    body.trainable = False
    nets = [
        keras.Sequential([keras.Input((4,)), body, keras.layers.Dense(3)])
        for _ in range(2)
    ]
    made = kf.Distiller(*nets, SOFT())
    made.compile("sgd", LABEL_LOSS, run_eagerly=True)
    made.fit(X, Y, verbose=0)


def test_nan_from_the_teacher():
    broken = classes(3)
    kernel, bias = broken.get_weights()
    broken.set_weights([kernel * np.nan, bias])
    with pytest.raises(ValueError, match=r"`teacher` must be a model whose weights ar"):
        kf.Distiller(broken, classes(3), SOFT())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("generator", r"`x` must be inputs and labels for which"),
        ("arrays", r"`x` must be inputs that are numbers, or"),
    ],
)
def test_inputs_that_are_no_numbers_are_not_laid_to_the_teacher(kind, text):
    made = kf.Distiller(classes(3), classes(3), SOFT())
    made.compile("sgd", LABEL_LOSS, run_eagerly=True)
    x, y = np.full_like(X, np.nan), Y
    batches = ((a, b) for a, b in [(x[:8], y[:8])] * 2)
    with pytest.raises(ValueError, match=text):
        made.fit(*((batches,) if kind == "generator" else (x, y)), verbose=0)


def test_a_teacher_that_wants_whole_batches_is_asked_for_whole_batches():
    def teacher(x):
        if x.shape[0] != 8 or keras.backend.standardize_dtype(x.dtype) != "float32":
            raise ValueError("Eight rows of float32.")
        return x[:, :3]

    made = kf.Distiller(teacher, classes(3), SOFT(), from_logits=True)
    made.compile("sgd", LABEL_LOSS, run_eagerly=True)
    made.fit(X.astype("float64"), Y, batch_size=8, verbose=0)


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def generator():
    while True:
        yield X[:8], Y[:8]


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "generator"])
def test_nan_from_the_teacher_whatever_the_data_are(kind):
    student = classes(3)
    before = weights(student)
    made = kf.Distiller(
        lambda x: keras.ops.log(x[:, :3] * 0 - 1), student, SOFT(), from_logits=True
    )
    made.compile("sgd", LABEL_LOSS, run_eagerly=True)
    data = {"arrays": (X, Y), "PyDataset": (Rows(),), "generator": (generator(),)}
    with pytest.raises(ValueError, match=r"`teacher` must be a model whose outputs ar"):
        made.fit(*data[kind], steps_per_epoch=2, verbose=0)
    if kind != "generator":  # whose batches cannot be looked at before
        same(weights(student), before)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step at a time there"
)
def test_nan_from_the_teacher_in_several_steps_at_once():
    """By the second step the student has it of the teacher: inputs are not blamed."""
    made = kf.Distiller(
        lambda x: keras.ops.log(x[:, :3] * 0 - 1), classes(3), SOFT(), from_logits=True
    )
    made.compile("sgd", LABEL_LOSS, run_eagerly=True, steps_per_execution=2)
    with pytest.raises(ValueError, match=r"`teacher` must be a model whose outputs ar"):
        made.fit(generator(), steps_per_epoch=2, verbose=0)


def test_the_heads_do_not_go_together():
    with pytest.raises(
        ValueError, match=r"`activation` must be 'softmax' or 'sigmoid'"
    ):
        kf.Distiller(classes(3, "softmax"), classes(3, "sigmoid"), SOFT())
    for loss in (kd.DecoupledDistillation(), kd.DIST()):
        with pytest.raises(
            ValueError, match=r"`teacher` must be a model with a softma"
        ):
            kf.Distiller(classes(3, "sigmoid"), classes(3), loss)


def test_a_layer_of_several_teachers_says_whose_it_is():
    teachers = [mlp(seed=1), mlp(seed=3)]
    for path in ("hidden", "2/hidden", "0/"):
        with pytest.raises(
            ValueError, match=r"`teacher_layer_name` must be a path that begins with"
        ):
            kf.Distiller(teachers, mlp(), kd.FeatureDistillation(path, "hidden"))
    with pytest.raises(ValueError, match=r"`teacher_layer_name` must be given where"):
        kf.Distiller(teachers, mlp(), kd.FeatureDistillation())


def test_the_teacher_is_not_set_like_an_attribute():
    made = kf.Distiller(classes(3), classes(3), SOFT())
    count = len(made.layers)
    with pytest.raises(AttributeError, match=r"set_teacher"):
        made.teacher = classes(3)
    assert len(made.layers) == count


@pytest.mark.parametrize("given", [{"activation": "softmax"}, {"standardize": True}])
def test_a_softmax_of_one_unit_teaches_nothing(given):
    nets = [
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]) for _ in range(2)
    ]
    with pytest.raises(ValueError, match=f"`{next(iter(given))}` must be its default"):
        kf.Distiller(*nets, kd.LogitsDistillation(**given))


class Penalized(SOFT):
    def __init__(self, layer=None):
        super().__init__()
        self.layer = layer

    def prepare(self, teacher, student):
        if self.layer is not None:
            self.layer.build((None, 3))
        else:
            self.add_weight(name="w", shape=(3,), regularizer="l2")


def test_a_loss_has_no_penalties_that_the_student_would_seem_to_have():
    dense = keras.layers.Dense(3, kernel_regularizer="l2", name="mine")
    for layer in (dense, keras.Sequential([keras.layers.ReLU(), dense])):
        with pytest.raises(
            ValueError, match=r"`distillation_losses` must be without.*'mine' has `kern"
        ):
            kf.Distiller(classes(3), classes(3), Penalized(layer))
    with pytest.raises(
        ValueError, match=r"must be without regularizers; '.*w' has one"
    ):
        kf.Distiller(classes(3), classes(3), Penalized())
