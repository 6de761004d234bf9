"""The order of the batches is a function of seed and epoch, whoever asks for them."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.checkpoint.models import X, Y, build, dataset


def rows(data, epoch):
    data.set_epoch(epoch)
    return np.concatenate([data[i][0] for i in range(data.num_batches)])


def ids(**arguments):
    return kf.ReproducibleDataset(
        np.arange(50), np.arange(50), batch_size=8, seed=3, **arguments
    )


def test_each_row_once_an_epoch_and_another_order_each():
    data = ids()
    first, second = rows(data, 0), rows(data, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist() != list(range(50))
    assert rows(data, 0).tolist() == first.tolist()
    assert len(data) == data.num_batches == 7
    assert len(data[6][0]) == 2


def test_another_seed_is_another_order_and_no_shuffle_none():
    other = kf.ReproducibleDataset(np.arange(50), batch_size=8, seed=4)
    assert rows(other, 0).tolist() != rows(ids(), 0).tolist()
    assert rows(ids(shuffle=False), 5).tolist() == list(range(50))


def test_rows_stay_together_in_dicts_weights_and_tensors():
    data = kf.ReproducibleDataset(
        {"a": np.arange(10), "b": [np.arange(10) * 2]},
        keras.ops.arange(10) * 3,
        sample_weight=np.arange(10) * 4.0,
        batch_size=4,
        seed=0,
    )
    x, y, weight = data[0]
    np.testing.assert_array_equal(x["a"] * 2, x["b"][0])
    np.testing.assert_array_equal(x["a"] * 3, y)
    np.testing.assert_array_equal(x["a"] * 4, weight)


def jitter(x, y, rng):
    return x + rng.normal(), y


def test_a_transform_depends_on_seed_epoch_and_row_alone():
    data, others = ids(transform=jitter), ids(transform=jitter)
    first = data[3][0]
    _ = others[0], others[1]
    np.testing.assert_array_equal(others[3][0], first)
    data.set_epoch(1)
    by_row = dict(
        zip(np.concatenate([data[i][1] for i in range(7)]), rows(data, 1), strict=True)
    )
    data.set_epoch(0)
    again = dict(
        zip(np.concatenate([data[i][1] for i in range(7)]), rows(data, 0), strict=True)
    )
    assert all(by_row[i] != again[i] for i in range(50))


def test_a_transform_of_inputs_alone():
    data = kf.ReproducibleDataset(
        np.ones((4, 2)), seed=0, transform=lambda x, rng: x * 2
    )
    np.testing.assert_array_equal(data[0][0], np.full((4, 2), 2.0))
    assert len(data[0]) == 1


class Seen(kf.ReproducibleDataset):
    """Keeps the first target of each epoch."""

    def __init__(self, *args, **kwargs):
        self.seen = {}
        super().__init__(*args, **kwargs)

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.seen.setdefault((self._order[0], index), batch[1].tolist())
        return batch


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("start", [0, 2])
def test_fit_sees_the_epochs_it_is_in(workers, start):
    """Also the first fit of a model, where Keras looks at a batch beforehand."""
    labels = np.arange(len(X)) % 2
    orders = []

    class Order(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            orders.append(data._order[0])

    data = Seen(X, labels, batch_size=20, seed=7, workers=workers)
    model = build()
    model.fit(
        data, shuffle=False, initial_epoch=start, epochs=start + 3, verbose=0,
        callbacks=[Order()],
    )  # fmt: skip
    for epoch in range(start, start + 3):
        reference = kf.ReproducibleDataset(X, labels, batch_size=20, seed=7)
        reference.set_epoch(epoch)
        for index in range(5):
            assert data.seen[epoch, index] == reference[index][1].tolist()


@pytest.mark.parametrize("workers", [1, 3])
def test_two_fits_are_one_whatever_the_workers(workers):
    data = dataset(workers=workers)
    whole = build("sgd")
    whole.fit(dataset(), shuffle=False, epochs=3, verbose=0)
    expected = whole.get_weights()
    parts = build("sgd")
    parts.fit(data, shuffle=False, epochs=1, verbose=0)
    if keras.backend.backend() != "torch":  # where evaluating draws random numbers
        parts.evaluate(data, verbose=0)
    parts.fit(data, shuffle=False, initial_epoch=1, epochs=3, verbose=0)
    for one, other in zip(expected, parts.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_made_ahead_are_those_asked_for():
    data, plain = (
        ids(workers=4, max_queue_size=2, transform=jitter),
        ids(transform=jitter),
    )
    for epoch, index in [(0, 0), (0, 1), (0, 5), (0, 5), (1, 6), (1, 0), (0, 3)]:
        data.set_epoch(epoch)
        plain.set_epoch(epoch)
        np.testing.assert_array_equal(data[index][0], plain[index][0])


def test_an_error_in_a_transform_reaches_the_caller():
    def broken(x, rng):
        raise RuntimeError("the user's own")

    data = kf.ReproducibleDataset(np.ones(4), seed=0, transform=broken, workers=2)
    with pytest.raises(RuntimeError, match="the user's own"):
        data[0]


@pytest.mark.parametrize(
    ("y", "transform", "text"),
    [
        (np.ones(4), lambda x, y, rng: x, r"\(x, y\), a tuple of two"),
        (None, lambda x, rng: np.ones(int(x)), "one structure and shape"),
        (None, lambda x: x, "cannot be called with 2 arguments"),
    ],
    ids=["returns x alone", "ragged", "takes no rng"],
)
def test_a_wrong_transform_is_named(y, transform, text):
    x = np.arange(4)
    with pytest.raises((TypeError, ValueError), match=f"`transform` must.*{text}"):
        kf.ReproducibleDataset(x, y, seed=0, transform=transform)[0]


def test_rows_of_text_have_a_checksum():
    one, other = (np.array(["a", "bc", last], object) for last in ("d", "e"))
    found = {
        kf.ReproducibleDataset(x, seed=0).description["checksum of some rows"]
        for x in (one, other, one.copy())
    }
    assert len(found) == 2


def test_evaluating_on_it_inside_a_fit_changes_nothing():
    class Evaluate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                orders.append(data._order[0])
                seeds = self.model.get_layer("drop").seed_generator.state
                before = np.array(keras.ops.convert_to_numpy(seeds))
                self.model.evaluate(data, verbose=0)
                seeds.assign(before)
                orders.append(data._order[0])

    orders = []
    data = dataset()
    build("sgd").fit(data, shuffle=False, epochs=3, verbose=0, callbacks=[Evaluate()])
    assert orders == [0, 0, 1, 1, 2, 2]


def test_keras_s_own_shuffle_is_noticed():
    with pytest.raises(ValueError, match=r"`shuffle` must be False.*shuffle=False"):
        build().fit(dataset(), epochs=1, verbose=0)


def test_parts_of_epochs_are_refused():
    with pytest.raises(ValueError, match="`steps_per_epoch` must be None"):
        build().fit(dataset(), shuffle=False, steps_per_epoch=2, epochs=1, verbose=0)


def test_there_is_no_batch_beyond_the_last():
    with pytest.raises(IndexError, match="batch 5 of 5"):
        dataset()[5]


def test_as_validation_data_it_is_no_training_data():
    data = dataset()
    model = build()
    model.fit(X, Y, validation_data=data, epochs=2, verbose=0)
    assert data._order[0] == 0
