"""The training sample: which rows, from which kind of data, without a trace."""

import random

import keras
import numpy as np
import pytest

from keras_fitkit._core.train_sample import CannotReread, take

X = np.arange(40.0).reshape(20, 2)
Y = np.arange(20)


class Pairs(keras.utils.PyDataset):
    """Batches of 3 rows; augments with generators of its own and NumPy's global one."""

    def __init__(self, weighted=False):
        super().__init__()
        self.rng = np.random.default_rng(5)
        self.old = np.random.RandomState(5)
        self.python = random.Random(5)
        self.weighted = weighted

    def __len__(self):
        return 7

    def __getitem__(self, index):
        self.rng.normal(), self.old.normal(), self.python.random(), np.random.rand()
        rows = slice(3 * index, 3 * index + 3)
        parts = (X[rows], Y[rows])
        return (*parts, np.ones(len(Y[rows]))) if self.weighted else parts


def rows_of(sample):
    """Each row of x must still stand beside its y."""
    np.testing.assert_array_equal(sample.x[:, 0] / 2, sample.y)
    return sorted(sample.y.tolist())


def test_arrays_are_sampled_without_repeats_and_always_alike():
    first, second = take((X, Y), 8, described="d"), take((X, Y), 8, described="d")
    assert len(set(rows_of(first))) == first.rows == 8
    np.testing.assert_array_equal(first.x, second.x)
    assert first.source == "d: 8 rows of the arrays, inference mode"


def test_fewer_rows_than_asked_for_are_all_taken():
    assert rows_of(take((X, Y), 500, described="d")) == list(range(20))
    assert rows_of(take((X, Y), None, described="d")) == list(range(20))


def test_sample_weights_travel_with_their_rows():
    sample = take((X, Y, Y * 10.0), 5, described="d")
    np.testing.assert_array_equal(sample.sample_weight, sample.y * 10.0)


def test_nested_inputs_and_tensors():
    data = ({"a": X, "b": [X, Y]}, {"out": keras.ops.convert_to_tensor(Y)})
    sample = take(data, 6, described="d")
    np.testing.assert_array_equal(sample.x["a"][:, 0] / 2, sample.x["b"][1])
    np.testing.assert_array_equal(sample.x["b"][1], sample.y["out"])


def test_pandas_is_read_by_position():
    pandas = pytest.importorskip("pandas")
    index = np.arange(20)[::-1]
    frame, series = pandas.DataFrame(X, index=index), pandas.Series(Y, index=index)
    rows_of(take((frame, series), 7, described="d"))


def test_py_dataset_gives_whole_batches_cut_to_the_sample():
    sample = take(Pairs(), 8, described="d")
    assert len(set(rows_of(sample))) == sample.rows == 8
    assert sample.source.startswith("d: 8 rows of batches of the PyDataset,")
    sample = take(Pairs(weighted=True), 4, described="d")
    assert sample.weighted
    assert sample.source.endswith(", with their sample weights, inference mode")
    assert rows_of(take(Pairs(), None, described="d")) == list(range(20))


def test_reading_leaves_every_generator_as_it_was():
    data = Pairs()

    def states():
        return (
            str(data.rng.bit_generator.state),
            str(data.old.get_state()),
            data.python.getstate(),
            random.getstate(),
            str(np.random.get_state()),
        )

    before = states()
    take(data, 8, described="d")
    assert states() == before


def test_tf_data_is_read_from_its_beginning():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    assert rows_of(take(data, 7, described="d")) == list(range(7))


def test_torch_loader_is_sampled_from_its_data_set_and_keeps_its_order():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(pairs, 4, shuffle=True, generator=generator)
    before, globally = generator.get_state(), torch.get_rng_state()
    sample = take(loader, 9, described="d")
    assert len(set(rows_of(sample))) == 9
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), globally)


def test_a_generator_cannot_be_read_again():
    with pytest.raises(CannotReread, match="a generator cannot be read a second time"):
        take((pair for pair in [(X, Y)]), 5, described="d")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ((X, Y[:-1]), r"`train_data` must be arrays of the same length.*\[19, 20\]"),
        ((X[:0], Y[:0]), "`train_data` must be data with rows"),
    ],
)
def test_faulty_arrays_are_named(data, text):
    with pytest.raises(ValueError, match=text):
        take(data, 5, described="d")


def test_plain_lists_are_no_arrays():
    with pytest.raises(TypeError, match=r"`train_data` must be arrays.*numpy\.array"):
        take((X.tolist(), Y.tolist()), 4, described="d")


def test_kinds_are_called_in_plain_english():
    with pytest.raises(CannotReread, match="an ndarray cannot be read a second time"):
        take(X, 5, described="d")
