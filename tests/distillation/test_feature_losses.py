"""The losses on features: NumPy as the second opinion, gradients, projectors."""

import keras
import numpy as np
import pytest

from keras_fitkit import distillation as kd
from keras_fitkit.distillation import OutputSpec, matching
from keras_fitkit.distillation import feature_maths as maths
from tests.distillation import oracles
from tests.distillation.models import gradient, numpy

RNG = np.random.default_rng(5)
T, S = RNG.normal(size=(2, 5, 4)).astype("float32")
TM, SM = RNG.normal(size=(2, 5, 3, 3, 4)).astype("float32")


def close(found, wanted, within=1e-4):
    np.testing.assert_allclose(numpy(found), wanted, rtol=within, atol=within)


def spec(*shape, role="student"):
    return OutputSpec(f"the {role}'s layer 'a'", (None, *shape))


ZERO_AT_TEACHER = {
    "mse": (kd.FeatureDistillation, T),
    "cosine": (lambda: kd.FeatureDistillation(loss="cosine_similarity"), T),
    "attention": (lambda: kd.AttentionTransfer("a", "b"), TM),
    "similarity": (kd.SimilarityPreserving, T),
    "distances": (lambda: kd.RelationalDistillation(angle_weight=0), T),
    "angles": (lambda: kd.RelationalDistillation(distance_weight=0), T),
}


@pytest.mark.parametrize("name", ZERO_AT_TEACHER)
def test_loss_and_gradient_are_zero_where_student_and_teacher_agree(name):
    make, teacher = ZERO_AT_TEACHER[name]
    loss = make()
    assert abs(numpy(loss(teacher, teacher))).max() < 1e-5
    found = gradient(lambda s: loss.compute_loss(teacher, s), teacher)
    np.testing.assert_allclose(found, 0.0, atol=1e-5)


@pytest.mark.parametrize("name", ZERO_AT_TEACHER)
def test_a_step_along_the_gradient_makes_the_loss_smaller(name):
    make, teacher = ZERO_AT_TEACHER[name]
    loss, student = make(), S if teacher is T else SM
    found = gradient(lambda s: loss.compute_loss(teacher, s), student)
    assert np.isfinite(found).all()
    before = numpy(loss(teacher, student)).mean()
    assert numpy(loss(teacher, student - 1e-2 * found)).mean() < before


def test_differences_are_means_over_the_channels():
    close(kd.FeatureDistillation()(T, S), ((T - S) ** 2).mean(-1))
    close(kd.FeatureDistillation(loss="mae")(T, S), abs(T - S).mean(-1))
    cosine = (T * S).sum(-1) / np.linalg.norm(T, axis=1) / np.linalg.norm(S, axis=1)
    close(kd.FeatureDistillation(loss="cosine_similarity")(T, S), 1 - cosine)
    assert kd.FeatureDistillation()(TM, SM).shape == (5, 3, 3)


def test_relations_are_those_of_the_oracles():
    close(kd.AttentionTransfer("a", "b")(TM, SM), oracles.attention_loss(TM, SM))
    found = numpy(kd.SimilarityPreserving()(T, SM)).mean()
    close(found, oracles.similarity_loss(T, SM))
    found = numpy(maths.distances(T, S[:, :2])).mean()
    close(found, oracles.distance_loss(T, S[:, :2]))
    found = numpy(maths.angles(T, S[:, :2])).mean()
    close(found, oracles.angle_loss(T, S[:, :2]))
    both = numpy(kd.RelationalDistillation(angle_weight=2.0)(T, S)).mean()
    close(both, oracles.distance_loss(T, S) + 2 * oracles.angle_loss(T, S))


def test_angles_are_those_of_points_far_from_the_origin_and_near_one_another():
    rng = np.random.default_rng(6)
    teacher, student = rng.normal(size=(2, 12, 30)).astype("float32")
    teacher[1] = teacher[0] + 0.02 * teacher[2]
    wanted = oracles.angle_loss(teacher, student)
    close(numpy(maths.angles(teacher, student)).mean(), wanted)
    moved = [one + np.float32(50) for one in (teacher, student)]
    wanted = oracles.angle_loss(*moved)
    close(numpy(maths.angles(*moved)).mean(), wanted, within=1e-3)
    far = [one + np.float32(1000) for one in (teacher, student)]
    wanted = oracles.distance_loss(*(one.astype("float64") for one in far))
    close(numpy(maths.distances(*far)).mean(), wanted, within=1e-3)


@pytest.mark.parametrize("rows", [1, 2])
def test_relations_bear_a_batch_of_one_row_and_equal_rows(rows):
    teacher = np.ones((rows, 4), "float32")
    for loss in (kd.RelationalDistillation(), kd.SimilarityPreserving()):
        found = gradient(lambda s, loss=loss: loss.compute_loss(teacher, s), teacher)
        assert np.isfinite(found).all()


def test_contrast_is_the_cross_entropy_of_finding_the_sample():
    t, s = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (T, S))
    tensor = keras.ops.convert_to_tensor
    alone = maths.contrast(tensor(t), tensor(s), 0.1)
    close(alone, oracles.info_nce(t, s, 0.1))
    more = np.concatenate([t, -t])
    scores = s @ more.T / 0.1
    wanted = -oracles.log_softmax(scores)[np.arange(5), np.arange(5)]
    given = [tensor(one) for one in (t, s)]
    present = np.ones(5, "float32")
    close(maths.contrast(*given, 0.1, tensor(-t), tensor(present)), wanted)
    close(maths.contrast(*given, 0.1, tensor(-t), tensor(0 * present)), numpy(alone))


def test_the_queue_holds_the_newest_rows():
    loss = kd.ContrastiveDistillation(dim=3, queue=4)
    loss.prepare(spec(4, role="teacher"), spec(2))
    first = numpy(loss.compute_loss(T[:3], S[:3, :2]))
    without = kd.ContrastiveDistillation(dim=3)
    without.prepare(spec(4, role="teacher"), spec(2))
    pairs = zip(without.trainable_weights, loss.trainable_weights, strict=True)
    for one, other in pairs:
        one.assign(other)
    close(first, numpy(without.compute_loss(T[:3], S[:3, :2])))  # it was empty
    assert (numpy(loss.compute_loss(T[:3], S[:3, :2])) > first).all()
    loss.compute_loss(T[3:], S[3:, :2])
    close(loss._rows, np.concatenate([T[3:], T[:2]]))
    close(loss._present, np.ones(4))


def test_contrast_wants_to_be_prepared():
    with pytest.raises(ValueError, match=r"A Distiller does that"):
        kd.ContrastiveDistillation()(T, S)


@pytest.mark.parametrize(
    ("teacher", "student", "layer", "given"),
    [
        ((6,), (4,), keras.layers.Dense, (4,)),
        ((7, 6), (7, 4), keras.layers.Dense, (7, 4)),
        ((8, 8, 6), (8, 8, 4), keras.layers.Conv2D, (8, 8, 4)),
        ((4, 4, 6), (8, 8, 4), keras.layers.Conv2D, (4, 4, 4)),
        ((8, 8, 6), (3, 3, 4), keras.layers.Conv2D, (3, 3, 4)),
        ((6,), (8, 8, 4), keras.layers.Dense, (4,)),
    ],
)
def test_the_automatic_projector_fits_the_student_to_the_teacher(
    teacher, student, layer, given
):
    loss = kd.FeatureDistillation("a", "b")
    loss.prepare(spec(*teacher, role="teacher"), spec(*student))
    assert isinstance(loss.projector, layer)
    assert loss.projector.built
    assert tuple(loss.projector.kernel.shape)[-2:] == (4, 6)
    t, s = np.ones((2, *teacher), "float32"), np.ones((2, *student), "float32")
    assert np.isfinite(numpy(loss.compute_loss(t, s))).all()
    assert matching.aligned_shapes(spec(*teacher), spec(*student))[1][1:] == given


def test_pooling_takes_the_mean():
    large = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    small = np.zeros((1, 2, 2, 1), "float32")
    found, _ = matching.aligned(large, small)
    wanted = large.reshape(1, 2, 2, 2, 2, 1).mean((2, 4))
    close(found, wanted)


def test_equal_widths_have_no_projector():
    loss = kd.FeatureDistillation("a", "b")
    loss.prepare(spec(4, role="teacher"), spec(4))
    assert loss.projector is None


def test_without_a_projector_another_width_is_an_error():
    loss = kd.FeatureDistillation("a", "b", projector=None)
    with pytest.raises(ValueError, match=r"whose shape agrees with that of the teach"):
        loss.prepare(spec(32, role="teacher"), spec(1))
    with pytest.raises(ValueError, match=r"`student` must be a model whose shape"):
        kd.FeatureDistillation(projector=None)(T, S[:, :1])


def test_a_projector_of_one_s_own():
    loss = kd.FeatureDistillation("a", "b", projector=keras.layers.Dense(4, "relu"))
    loss.prepare(spec(4, role="teacher"), spec(2))
    assert numpy(loss.compute_loss(T, S[:, :2])).shape == (5,)
    wrong = kd.FeatureDistillation("a", "b", projector=keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"whose shape agrees"):
        wrong.prepare(spec(4, role="teacher"), spec(2))


def test_a_projector_has_no_penalties_that_the_student_would_seem_to_have():
    dense = keras.layers.Dense(4, kernel_regularizer="l2", name="mine")
    for projector in (dense, keras.Sequential([keras.Input((2,)), dense])):
        with pytest.raises(ValueError, match=r"'mine' has `kernel_regularizer`"):
            kd.FeatureDistillation("a", "b", projector=projector)


def test_one_layer_name_alone_is_an_error():
    with pytest.raises(ValueError, match=r"`teacher_layer_name` must be given where"):
        kd.FeatureDistillation(student_layer_name="a")


def test_attention_needs_positions():
    with pytest.raises(ValueError, match=r"whose features have positions"):
        kd.AttentionTransfer("a", "b").prepare(spec(4), spec(4))


@pytest.mark.parametrize(
    "loss",
    [
        kd.LogitsDistillation(5.0, standardize=True, output="a", name="soft"),
        kd.DecoupledDistillation(2.0, 3.0, 5.0),
        kd.DIST(2.0, 3.0, 5.0),
        kd.FeatureDistillation("a", "b", "mae"),
        kd.FeatureDistillation("a", "b", projector=keras.layers.Dense(3)),
        kd.AttentionTransfer("a", "b"),
        kd.SimilarityPreserving("a", "b"),
        kd.RelationalDistillation("a", "b", angle_weight=3.0),
        kd.ContrastiveDistillation("a", "b", dim=5, queue=7),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_config_makes_the_same_loss_again(loss):
    text = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(text)
    assert type(again) is type(loss)
    found, wanted = again.get_config(), loss.get_config()
    assert found == wanted or "projector" in found
