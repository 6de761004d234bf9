"""The file: whole or not there, whole or refused, no pickle."""

import errno

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_fitkit._core import files
from keras_fitkit.checkpoint import archive

ARRAYS = hnp.arrays(
    st.sampled_from(["f4", "f8", "i8", "u1", "?", "f2"]), hnp.array_shapes(min_dims=0)
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
CONTENT = st.dictionaries(
    st.text().filter(lambda key: key != "__array__"),
    st.recursive(
        PLAIN | ARRAYS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text().filter(lambda key: key != "__array__"), inner, max_size=3
            )
        ),
        max_leaves=6,
    ),
    max_size=4,
)


def assert_equal(one, other):
    assert type(one) is type(other) or isinstance(one, np.ndarray)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_equal(first, second)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other or one != one


@given(content=CONTENT)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path, content):
    archive.write(tmp_path / "a.npz", content)
    assert_equal(content, archive.read(tmp_path / "a.npz"))


def sample():
    rng = np.random.default_rng(0)
    return {
        "epoch": 3,
        "logs": {"loss": [0.5, float("inf")], "name": "ä"},
        "weights": [rng.normal(size=(7, 5)).astype("f4"), np.arange(3)],
        "variable": keras.Variable(np.ones((4, 2), "float32"), name="v"),
        "half": keras.Variable(np.ones((4, 2), "float32"), dtype="bfloat16"),
        "scalar": np.float32(2.5),
    }


def test_variables_and_numpy_scalars(tmp_path):
    archive.write(tmp_path / "a.npz", sample())
    found = archive.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["variable"], np.ones((4, 2)))
    assert found["half"].astype("float32").sum() == 8
    assert found["scalar"] == 2.5
    assert isinstance(found["scalar"], float)


def test_numpy_opens_it_without_pickle(tmp_path):
    archive.write(tmp_path / "a.npz", sample())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        shapes = [file[name].shape for name in file.files if name != archive.META]
    assert (7, 5) in shapes


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    archive.write(path, sample())
    whole = path.read_bytes()
    for part in range(50):
        path.write_bytes(whole[: len(whole) * part // 50])
        with pytest.raises(archive.DamagedFile):
            archive.read(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "a.npz"
    archive.write(path, sample())
    whole, expected = path.read_bytes(), archive.read(path)
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(0, len(whole), 400):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(broken)
        try:
            found = archive.read(path)
        except archive.DamagedFile:
            refused += 1
        else:  # a date, or another field that nobody reads
            assert_equal(expected, found)
    assert refused > 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, object()]}, "/a/1 is a object"),
        ({"a": {"b": np.array([None])}}, "/a/b is an array of objects"),
        ({"a": {1: 2}}, "/a has keys that are not texts"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, value, text):
    with pytest.raises(archive.Unstorable, match=text):
        archive.write(tmp_path / "a.npz", value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    archive.write(path, {"epoch": 1})

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("_sync", "_sync_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(files, place, full)
            with pytest.raises(OSError, match="No space left"):
                archive.write(path, {"epoch": 2})
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]
    assert archive.read(path)["epoch"] in (1, 2)


def test_a_missing_file_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        archive.read(tmp_path / "a.npz")
