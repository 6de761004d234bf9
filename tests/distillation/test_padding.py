"""Padding and sample weights, where values have other positions than these."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import distillation as kd
from keras_fitkit._core import _private
from keras_fitkit.distillation import masks, matching, means
from tests.distillation.models import numpy

RNG = np.random.default_rng(11)
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def padded_to(features, steps):
    """With other numbers behind, which a mask leaves out."""
    rows, have, width = features.shape
    rest = 9 * np.random.default_rng(1).normal(size=(rows, steps - have, width))
    return np.concatenate([features, rest.astype("float32")], axis=1)


def tensor(values, counts=None):
    """A tensor with a mask; a number: that many positions of each sample count."""
    found = keras.ops.convert_to_tensor(np.asarray(values, "float32"))
    if counts is not None:
        if np.ndim(counts) == 0:
            counts = np.tile(np.arange(found.shape[1]) < counts, (found.shape[0], 1))
        _private.set_mask(found, keras.ops.convert_to_tensor(np.asarray(counts)))
    return found


def close(found, wanted, within=1e-5):
    np.testing.assert_allclose(numpy(found), wanted, rtol=within, atol=within)


def once(teacher, student, losses, x, y=None, **given):
    """The logs of an epoch of one batch in which nothing is learnt."""
    share = 0.5 if y is not None else 0.0
    made = kf.Distiller(teacher, student, losses, student_loss_weight=share)
    made.compile(keras.optimizers.SGD(0.0), None if y is None else LABEL_LOSS)
    found = made.fit(x, y, batch_size=len(x), shuffle=False, verbose=0, **given)
    return {name: values[0] for name, values in found.history.items()}


def features_of(model, name, x):
    made = keras.Model(model.inputs, model.get_layer(name).output)
    return made.predict(x, verbose=0)


# --- Masks and weights at another resolution


@pytest.mark.parametrize(
    ("given", "sizes", "wanted"),
    [
        ([[1, 1, 0, 0]], (4,), [[1, 1, 0, 0]]),
        ([[1, 0, 0, 0]], (2,), [[1, 0]]),
        ([[1, 0, 0, 0], [0, 0, 0, 0]], (1,), [[1], [0]]),
        ([[1, 0, 0, 0], [0, 0, 0, 0]], (), [1, 0]),
        ([[1, 0, 0, 0], [0, 0, 0, 0]], (3,), [[1], [0]]),  # 3 does not divide 4
        ([[1, 0]], (2, 5), [[[1], [0]]]),
        ([[[1, 1, 0, 0], [0, 0, 0, 0]]], (1, 2), [[[1, 0]]]),
        ([[[1], [0]]], (2, 5), [[[1], [0]]]),
    ],
)
def test_a_position_counts_if_one_that_it_covers_does(given, sizes, wanted):
    found = numpy(masks.fitted(keras.ops.cast(np.array(given), "bool"), sizes))
    np.testing.assert_array_equal(found, np.array(wanted, bool))


@pytest.mark.parametrize(
    ("weight", "values", "fitted"),
    [
        ((4,), (4,), lambda w: w),
        ((4,), (4, 3), lambda w: w[:, None]),
        ((4, 1), (4, 3), lambda w: w),
        ((4, 3), (4, 3), lambda w: w),
        ((4, 3, 1), (4, 3), lambda w: w[..., 0]),
        ((4, 3), (4, 3, 2), lambda w: w[..., None]),
        ((4, 6), (4,), lambda w: w.mean(1)),
        ((4, 6), (4, 1), lambda w: w.mean(1)[:, None]),
        ((4, 6), (4, 3), lambda w: w.mean(1)[:, None]),
        ((4, 6, 6), (4, 3, 3), lambda w: w.mean((1, 2))[:, None, None]),
        ((4, 6, 6), (4,), lambda w: w.mean((1, 2))),
    ],
)
def test_a_weight_of_other_positions_is_its_mean_in_each_sample(weight, values, fitted):
    w, v = RNG.uniform(size=weight), RNG.normal(size=values)
    found = means.mean(tensor(v), (), tensor(w))
    close(found, (v * fitted(w)).mean())


def test_a_weight_of_padding_is_no_part_of_a_sample_s_mean():
    w, v = RNG.uniform(size=(3, 6)).astype("float32"), RNG.normal(size=3)
    like = tensor(RNG.normal(size=(3, 6, 2)), 4)
    close(means.mean(tensor(v), (like,), tensor(w)), (v * w[:, :4].mean(1)).mean())


def test_a_value_counts_where_it_counts_in_both():
    v = RNG.normal(size=(2, 4))
    both = tensor(np.zeros((2, 4, 3)), 3), tensor(np.zeros((2, 8, 5)), 4)
    close(means.mean(tensor(v), both, None), v[:, :2].mean())


def tokens(pool, seed, masked=True):
    """Eight steps, and a layer "tap" of fewer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8,), dtype="int32")
    x = keras.layers.Embedding(9, 6, mask_zero=masked, name="embedded")(inputs)
    x = keras.layers.Dense(6, name="tap" if pool is None else None)(x)
    if pool is not None:
        x = pool(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def ids():
    found = np.random.default_rng(3).integers(1, 9, size=(6, 8))
    found[:3, 2:] = 0
    return found


def test_every_sample_counts_alike_where_its_steps_are_pooled_to_one():
    x = ids()
    pool = keras.layers.GlobalAveragePooling1D(keepdims=True, name="tap")
    teacher, student = tokens(pool, 1), tokens(None, 2)
    losses = [kd.FeatureDistillation("tap", "tap"), kd.LogitsDistillation()]
    found = once(teacher, student, losses, x)["feature_distillation_loss"]
    t, s = features_of(teacher, "tap", x)[:, 0], features_of(student, "tap", x)
    counts = (x > 0)[..., None]
    s = (s * counts).sum(1) / counts.sum(1)
    close(found, ((t - s) ** 2).mean(), 1e-4)


def test_a_masked_student_beside_a_teacher_with_strides():
    x = ids()
    pool = keras.layers.AveragePooling1D(2, name="tap")
    teacher, student = tokens(pool, 1, masked=False), tokens(None, 2)
    losses = [kd.FeatureDistillation("tap", "tap"), kd.LogitsDistillation()]
    found = once(teacher, student, losses, x)["feature_distillation_loss"]
    t, s = features_of(teacher, "tap", x), features_of(student, "tap", x)
    values = ((t - s.reshape(6, 4, 2, 6).mean(2)) ** 2).mean(-1)
    close(found, values[(x > 0)[:, ::2]].mean(), 1e-4)  # padding begins at an even step


def strided(rank, seed):
    keras.utils.set_random_seed(seed)
    conv = (keras.layers.Conv1D, keras.layers.Conv2D)[rank - 1]
    up = (keras.layers.UpSampling1D, keras.layers.UpSampling2D)[rank - 1]
    inputs = keras.Input((*[8] * rank, 2))
    x = conv(4, 3, strides=2, padding="same", name="tap")(inputs)
    return keras.Model(inputs, conv(3, 1)(up(2)(x)))


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_of_steps_and_of_pixels_beside_features_with_strides(rank):
    rng = np.random.default_rng(4)
    shape = (4, *[8] * rank)
    x = rng.normal(size=(*shape, 2)).astype("float32")
    y, w = rng.integers(3, size=shape), rng.uniform(size=shape).astype("float32")
    teacher, student = strided(rank, 1), strided(rank, 2)
    losses = [kd.FeatureDistillation("tap", "tap"), kd.LogitsDistillation()]
    found = once(teacher, student, losses, x, y, sample_weight=w)
    t, s = features_of(teacher, "tap", x), features_of(student, "tap", x)
    each = ((t - s) ** 2).reshape(4, -1).mean(1) * w.reshape(4, -1).mean(1)
    close(found["feature_distillation_loss"], each.mean(), 1e-4)


# --- Padding within a loss


LOSSES = {
    "attention": kd.AttentionTransfer,
    "similarity": kd.SimilarityPreserving,
    "relations": kd.RelationalDistillation,
    "contrast": lambda t, s: kd.ContrastiveDistillation(t, s, dim=4),
    "feature": kd.FeatureDistillation,
}


def prepared(name, teacher, student):
    keras.utils.set_random_seed(7)
    loss = LOSSES[name]("a", "b")
    shapes = [(None, *one.shape[1:]) for one in (teacher, student)]
    loss.prepare(*(kd.OutputSpec("a layer", shape) for shape in shapes))
    return loss


def value(loss, teacher, student):
    found = loss.compute_loss(teacher, student)
    return numpy(means.mean(found, (teacher, student), None))


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_no_loss(name):
    t, s = RNG.normal(size=(6, 5, 4)), RNG.normal(size=(6, 5, 3))
    loss = prepared(name, t, s)
    wanted = value(loss, tensor(t), tensor(s))
    found = value(loss, tensor(padded_to(t, 8), 5), tensor(padded_to(s, 8), 5))
    close(found, wanted, 1e-4)


@pytest.mark.parametrize("name", ["similarity", "relations", "contrast"])
def test_each_model_has_its_own_padding(name):
    t, s = RNG.normal(size=(6, 5, 4)), RNG.normal(size=(6, 3, 4))
    loss = prepared(name, t, s)
    wanted = value(loss, tensor(t), tensor(s))
    found = value(loss, tensor(padded_to(t, 9), 5), tensor(padded_to(s, 7), 3))
    close(found, wanted, 1e-4)


@pytest.mark.parametrize("name", ["attention", "feature"])
def test_the_mask_of_one_model_is_enough(name):
    t, s = RNG.normal(size=(2, 6, 5, 4))
    loss = prepared(name, t, s)
    wanted = value(loss, tensor(t), tensor(s))
    long = padded_to(t, 8), padded_to(s, 8)
    close(value(loss, tensor(long[0], 5), tensor(long[1])), wanted, 1e-4)
    close(value(loss, tensor(long[0]), tensor(long[1], 5)), wanted, 1e-4)


def test_a_vector_is_compared_with_the_mean_without_padding():
    t, s = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 8, 4)).astype("float32")
    counts = np.arange(8) < np.array([8, 1, 2, 3, 4, 0])[:, None]
    found = value(kd.FeatureDistillation(), tensor(t), tensor(s, counts))
    rows = [((t[i] - s[i, counts[i]].mean(0)) ** 2).mean() for i in range(5)]
    close(found, np.mean(rows))  # a sample of padding alone does not count


def test_windows_that_are_padding_in_part_have_the_mean_of_the_rest():
    large = RNG.normal(size=(1, 4, 4, 1)).astype("float32")
    mask = np.ones((1, 4, 4), bool)
    mask[:, :, 3], mask[:, :2, 2] = False, False
    small = tensor(np.zeros((1, 2, 2, 1)))
    given = tensor(large, mask)
    found, _ = matching.aligned(given, small, (masks.mask_of(given), None))
    blocks = (large[..., 0] * mask).reshape(2, 2, 2, 2).sum((1, 3))
    close(found[0, ..., 0], blocks / np.array([[4, 1], [4, 2]]))


def test_a_projector_of_one_s_own_is_given_the_mask():
    t, s = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 5, 4)).astype("float32")
    pool = keras.layers.GlobalAveragePooling1D()
    loss = kd.FeatureDistillation("a", "b", projector=pool)
    close(
        value(loss, tensor(t), tensor(padded_to(s, 8), 5)),
        ((t - s.mean(1)) ** 2).mean(),
    )


def test_a_loss_of_one_s_own_is_told_the_mask():
    class Longest(kd.DistillationLoss):
        reads = "features"

        def compute_loss(self, teacher_outputs, student_outputs, labels=None):
            masks = [self.mask_of(one) for one in (teacher_outputs, student_outputs)]
            steps = [keras.ops.sum(keras.ops.cast(m, "float32"), 1) for m in masks]
            return steps[0] - steps[1]

    t, s = tensor(np.zeros((2, 8, 3)), 7), tensor(np.zeros((2, 8, 3)), 5)
    close(Longest().compute_loss(t, s), [2, 2])
    assert Longest.mask_of(tensor(np.zeros((2, 8, 3)))) is None


def sequences(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 6, mask_zero=True)(inputs)
    x = keras.layers.Dense(6, name="steps")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_a_fit_is_told_the_masks_of_teacher_and_student():
    x = np.random.default_rng(3).integers(1, 9, size=(8, 5))
    logs = []
    for rows in (x, np.pad(x, ((0, 0), (0, 4)))):
        losses = [make("steps", "steps") for make in LOSSES.values()]
        losses += [kd.FeatureDistillation("pooled", "steps", name="vector")]
        losses += [kd.LogitsDistillation()]
        teacher, student = sequences(1), sequences(2)
        keras.utils.set_random_seed(3)  # of the projectors
        logs.append(once(teacher, student, losses, rows))
    assert len(logs[0]) == len(losses) + 3
    for name, wanted in logs[0].items():
        np.testing.assert_allclose(logs[1][name], wanted, rtol=1e-4, err_msg=name)


def test_masks_of_several_axes():
    mask = np.zeros((2, 4, 3), bool)
    mask[0, 3, 2] = True
    np.testing.assert_array_equal(numpy(masks.fitted(mask, ())), [True, False])
    found = numpy(masks.fitted(mask, (2, 3)))
    np.testing.assert_array_equal(np.argwhere(found), [[0, 1, 2]])
    assert numpy(masks.fitted(mask, (3, 2))).shape == (2, 1, 1)
