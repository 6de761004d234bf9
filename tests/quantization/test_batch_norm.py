"""Statistics of norms that are measured anew."""

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import quantize_model, reestimate_batch_norm
from tests.quantization.models import FLAT, RNG, X, Y, array, cnn, trained

layers = keras.layers


def normed(**how):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dropout(0.5),
            layers.Dense(6, name="dense"),
            layers.BatchNormalization(name="norm", **how),
            layers.Dense(3, name="last"),
        ]
    )


def by_hand(model, x):
    dense = model.get_layer("dense")
    return array(dense(x)).astype("float64")


def moving(model, name="norm"):
    norm = model.get_layer(name)
    return array(norm.moving_mean), array(norm.moving_variance)


@pytest.mark.parametrize("momentum", [0.99, 0.5])
def test_mean_and_variance_are_those_of_all_rows_without_dropout(momentum):
    model = normed(momentum=momentum)
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.full(6, np.nan))  # whatever they were
    before = [array(one) for one in model.trainable_variables]
    assert reestimate_batch_norm(model, FLAT, batch_size=16) == 1
    values = by_hand(model, FLAT)
    np.testing.assert_allclose(moving(model)[0], values.mean(0), atol=1e-5)
    np.testing.assert_allclose(moving(model)[1], values.var(0), rtol=1e-4)
    assert norm.momentum == momentum
    assert "call" not in vars(norm)
    for old, new in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, array(new))


def dataset(x):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[16 * index : 16 * (index + 1)], np.zeros(16)

    return Batches()


@pytest.mark.parametrize(
    "given",
    [
        lambda x: [x[:16], x[16:32], x[32:]].__iter__(),
        dataset,
        lambda x: ((x[i : i + 16], None, None) for i in (0, 16, 32)),
    ],
    ids=["iterator", "PyDataset", "generator of tuples"],
)
def test_batches_of_every_kind(given):
    model = normed()
    reestimate_batch_norm(model, given(FLAT))
    np.testing.assert_allclose(
        moving(model)[0], by_hand(model, FLAT).mean(0), atol=1e-5
    )


def test_rows_are_taken_evenly():
    model, x = normed(), np.repeat(FLAT, 4, axis=0)  # sorted, as classes may be
    reestimate_batch_norm(model, x, batch_size=16, max_batches=3)
    np.testing.assert_allclose(
        moving(model)[0], by_hand(model, FLAT).mean(0), atol=0.05
    )


def test_a_shared_norm_covers_all_its_calls_and_a_frozen_one_stays():
    one, other = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    norm = layers.BatchNormalization(name="norm")
    still = layers.BatchNormalization(name="still", trainable=False)
    model = keras.Model({"a": one, "b": other}, still(norm(one) + norm(other)))
    x = RNG.normal(size=(2, 32, 4)).astype("float32")
    x[1] += 3
    assert reestimate_batch_norm(model, {"a": x[0], "b": x[1]}, batch_size=8) == 1
    both = x.reshape(-1, 4)
    np.testing.assert_allclose(moving(model)[0], both.mean(0), atol=1e-5)
    np.testing.assert_allclose(moving(model)[1], both.var(0), rtol=1e-4)
    np.testing.assert_array_equal(moving(model, "still"), [np.zeros(4), np.ones(4)])


def test_each_norm_is_measured_with_those_before_it_as_they_will_be():
    keras.utils.set_random_seed(3)
    names = ("first", "second")
    parts = [keras.Input((12,))]
    for name in names:
        parts += [layers.Dense(6, "relu"), layers.BatchNormalization(name=name)]
    model = keras.Sequential([*parts, layers.Dense(2)])
    assert reestimate_batch_norm(model, FLAT, batch_size=6) == 2
    for name in names:  # what reaches it in inference
        inputs = model.get_layer(name).input
        values = array(keras.Model(model.inputs[0], inputs)(FLAT))
        mean, variance = moving(model, name)
        np.testing.assert_allclose(mean, values.mean(0), atol=1e-5)
        np.testing.assert_allclose(variance, values.var(0), rtol=1e-4)


def test_a_quantized_net_keeps_its_ranges_and_forgets_other_weights():
    qat = trained(quantize_model(cnn(), "int4"), epochs=2)
    norm = qat.get_layer("norm")
    other = [one for one in qat.variables if "moving" not in one.path]
    before = [array(one) for one in other]
    reestimate_batch_norm(qat, X, batch_size=16)
    for old, new in zip(before, other, strict=True):
        np.testing.assert_array_equal(old, array(new))
    settled = qat.evaluate(X, Y, verbose=0)
    norm.moving_mean.assign(array(norm.moving_mean) + 2)
    assert qat.evaluate(X, Y, verbose=0) != pytest.approx(settled, rel=1e-3)
    reestimate_batch_norm(qat, X, batch_size=16)
    assert qat.evaluate(X, Y, verbose=0) == pytest.approx(settled, rel=1e-4)


def test_an_error_changes_nothing(capsys):
    model = normed()
    reestimate_batch_norm(model, FLAT, verbose=1)
    assert "batch" in capsys.readouterr().out
    before = moving(model)
    bad = FLAT.copy()
    bad[-1] = np.inf
    with pytest.raises(ValueError, match="`x` must be batches of finite values"):
        reestimate_batch_norm(model, bad)
    np.testing.assert_array_equal(moving(model), before)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the layers say
        reestimate_batch_norm(model, [FLAT[:8], FLAT[8:16, :3]].__iter__())
    np.testing.assert_array_equal(moving(model), before)
    assert model.get_layer("norm").momentum == 0.99
