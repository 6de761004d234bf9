"""Files that are damaged, foreign or made to do harm: one error, soon and small."""

import hashlib
import random
import tracemalloc
import zlib

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings

import keras_fitkit as kf
from keras_fitkit.packing import container, dtypes, symbols, tensors, texts
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.errors import PackedFileError
from tests.packing import arrays

MOST = 1 << 20


def content():
    """A tensor coded in each way, small enough to try all that can happen to it."""
    dense = arrays.normal(12, 10)
    uneven = arrays.normal(40, 30) * (np.arange(40) < 8)[:, None]
    found = {
        "raw": dense[0, :3],
        "parts": arrays.normal(30, 10),
        "codebook": dense[0, :4][np.arange(80).reshape(8, 10) % 4],
        "codebooks": arrays.clustered(arrays.normal(40, 6), 4, 1),
        "sparse codebooks": arrays.pruned(
            arrays.clustered(arrays.normal(60, 6), 6, 1), 0.5
        ),
        "grid": arrays.on_grid(arrays.normal(16, 12), 4, axis=0),
        "sparse": arrays.pruned(arrays.normal(20, 20), 0.9),
        "uneven": uneven + np.float32(0),
        "sparse grid": arrays.on_grid(arrays.pruned(arrays.normal(20, 20), 0.8), 3),
        "same": np.ones((5, 2), "f4"),
        "integers": np.arange(6),
        "empty": np.zeros((2, 0), "f4"),
    }
    named = [
        container.NamedTensor(f"layers/{name}/vars/0", one, dtypes.of(one.dtype.name))
        for name, one in found.items()
    ]
    return container.Content("3.15", {"name": "net"}, named, {"words": b"a b c"})


CONTENT = content()
DATA, CODED = container.encode(CONTENT)


def sealed(body):
    """With a checksum that is right: what somebody who means harm would write."""
    return bytes(body) + hashlib.sha256(body).digest()[: container.DIGEST]


def assert_refused_or_true(data):
    """One error; or the values that were packed: nothing else is ever believed."""
    try:
        found = container.decode(data, MOST)
    except PackedFileError:
        return
    told = {one.name: one.array for one in CONTENT.tensors}
    for one in found.tensors:  # a name or the configuration may be another one
        if one.name in told:
            assert one.array.tobytes() == told[one.name].tobytes()


def test_every_way_of_coding_is_in_the_file():
    ways = {one.way for one in CODED}
    parts = {part for way in ways for part in way.split(", ")}
    assert parts >= {"raw", "float parts", "codebook", "grid", "zeros", "one value"}
    assert "codebooks" in parts
    assert container.decode(DATA, MOST).assets == CONTENT.assets
    assert_refused_or_true(DATA)


def test_a_file_cut_short_anywhere_is_refused():
    for size in range(len(DATA)):
        with pytest.raises(PackedFileError):
            container.decode(DATA[:size], MOST)


def test_a_file_with_any_bit_turned_is_refused():
    for place in range(len(DATA)):
        for bit in range(8):
            data = bytearray(DATA)
            data[place] ^= 1 << bit
            with pytest.raises(PackedFileError):
                container.decode(bytes(data), MOST)


def test_anything_behind_it_is_refused():
    for more in (b"\0", b"\0" * 8, DATA):
        with pytest.raises(PackedFileError):
            container.decode(DATA + more, MOST)


def test_a_sealed_file_cut_short_anywhere_is_refused():
    body = DATA[: -container.DIGEST]
    for size in range(len(container.MARK), len(body)):
        with pytest.raises(PackedFileError):
            container.decode(sealed(body[:size]), MOST)


def test_no_byte_of_a_sealed_file_can_be_changed_to_do_harm():
    body = DATA[: -container.DIGEST]
    draw = random.Random(5)
    for place in range(len(container.MARK), len(body)):
        data = bytearray(body)
        data[place] ^= draw.randrange(1, 256)
        assert_refused_or_true(sealed(data))


@settings(max_examples=300)
@given(st.data())
def test_no_damage_of_a_sealed_tensor_does_harm(data):
    one = data.draw(st.sampled_from(CODED), "tensor").content
    damaged = bytearray(one)
    for _ in range(data.draw(st.integers(1, 4), "how often")):
        start = data.draw(st.integers(0, len(damaged)), "from")
        end = data.draw(st.integers(start, min(len(damaged), start + 9)), "to")
        damaged[start:end] = data.draw(st.binary(max_size=9), "bytes")
    try:
        array, _ = tensors.decode(Reader(bytes(damaged)), MOST)
    except PackedFileError:
        return
    assert array.nbytes <= MOST


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused(noise):
    for data in (noise, container.MARK + noise, sealed(container.MARK + noise)):
        with pytest.raises(PackedFileError):
            container.decode(data, MOST)
    for way in range(3):
        with pytest.raises(PackedFileError):
            tensors.decode(Reader(bytes([0, 1, 9, 1, 2, 3, 4, 2, way]) + noise), MOST)


def tensor(shape, body, dtype=0):
    head = b"".join(number(one) for one in (dtype, len(shape), *shape))
    return head + bytes(4) + block(body)


@pytest.mark.parametrize(
    "shape",
    [(1 << 40,), (1 << 20, 1 << 20), (1 << 43,) * 32, (0, 1 << 43, 3), (1 << 19,)],
)
def test_a_shape_takes_no_memory_before_it_is_believed(shape):
    bodies = [bytes([tensors.DENSE, 3, 0, 0, 0, 0]), bytes([tensors.DENSE, 1])]
    tracemalloc.start()
    try:
        for body in bodies:
            with pytest.raises(PackedFileError, match="max_bytes"):
                tensors.decode(Reader(tensor(shape, body)), MOST)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_a_text_takes_no_more_memory_than_it_says():
    bomb = symbols.deflate(b"[" * (100 << 20))
    for size in (10, 1 << 20, texts.LONGEST, 100 << 20):
        data = bytes([texts.DEFLATE]) + number(size) + block(bomb)
        tracemalloc.start()
        try:
            with pytest.raises(PackedFileError):
                texts.decode(Reader(data))
            assert tracemalloc.get_traced_memory()[1] < 3 * texts.LONGEST
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b"{}",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"keras":1,"config":{},"tensors":[],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[3],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[["a",1e99]],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[["a",99999999999999]],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[["a",["0","0"]]],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[["a/../..",1]],"assets":[]}',
        b'{"keras":"3","config":{},"tensors":[],"assets":["../x"]}',
        b'{"keras":"3","config":{},"tensors":[],"assets":["/etc/x"]}',
        b'{"keras":"3","config":{},"tensors":[],"assets":["C:x"]}',
        b'{"keras":"3","config":{},"tensors":[],"assets":[null]}',
    ],
)
def test_a_description_that_makes_no_sense_is_refused(text):
    with pytest.raises(PackedFileError):
        container.decode(sealed(container.MARK + texts.encode(text)), MOST)


def test_all_weights_together_are_limited():
    whole = sum(one.array.nbytes for one in CONTENT.tensors) + len(b"a b c")
    container.decode(DATA, whole)
    with pytest.raises(PackedFileError, match="max_bytes"):
        container.decode(DATA, whole - 1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    for name, units in (("a", 3), ("b", 4)):
        layers = [keras.Input((4,)), keras.layers.Dense(units, name="dense")]
        kf.save_packed(keras.Sequential(layers), folder / f"{name}.kfz")
    return folder


def test_users_are_told_what_is_wrong_with_a_file(packed, tmp_path):
    data, path = (packed / "a.kfz").read_bytes(), tmp_path / "m.kfz"
    cases = {
        b"": "is no packed model: it does not begin as one",
        b"PK\3\4 a zip file": "is no packed model: it does not begin as one",
        b"\x93KFZ\x09" + data[5:]: "its version of the format is newer",
        data[:-1]: "is damaged: it is not as it was written",
        data[:50]: "is damaged: it is not as it was written",
        data[:60] + b"?" + data[61:]: "is damaged: it is not as it was written",
    }
    for damaged, text in cases.items():
        path.write_bytes(damaged)
        with pytest.raises(kf.PackedFileError, match=text) as caught:
            kf.load_packed(path)
        assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        kf.load_packed(tmp_path / "none.kfz")
    with pytest.raises(kf.PackedFileError, match=r"what `max_bytes` allows"):
        kf.load_packed(packed / "a.kfz", max_bytes=8)


def test_parts_of_two_files_do_not_make_one(packed, tmp_path):
    a, b = ((packed / f"{name}.kfz").read_bytes() for name in "ab")
    path = tmp_path / "m.kfz"
    apart = next(
        i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other
    )
    for place in range(apart + 1, min(len(a), len(b)), 7):
        path.write_bytes(a[:place] + b[place:])
        with pytest.raises(kf.PackedFileError):
            kf.load_packed(path)


def test_tensors_of_another_model_are_refused(packed, tmp_path):
    a, b = (
        container.decode((packed / f"{name}.kfz").read_bytes(), MOST) for name in "ab"
    )
    mixed = container.Content(a.keras, a.config, b.tensors, {})
    (tmp_path / "m.kfz").write_bytes(container.encode(mixed)[0])
    with pytest.raises(kf.PackedFileError, match="cannot be built"):
        kf.load_packed(tmp_path / "m.kfz")
    few = container.Content(a.keras, a.config, a.tensors[:1], {})
    (tmp_path / "m.kfz").write_bytes(container.encode(few)[0])
    with pytest.raises(kf.PackedFileError, match="cannot be built"):
        kf.load_packed(tmp_path / "m.kfz")


def test_a_failed_save_leaves_the_file_that_was_there(packed, monkeypatch, tmp_path):
    path = tmp_path / "m.kfz"
    path.write_bytes((packed / "a.kfz").read_bytes())
    model = kf.load_packed(path)
    monkeypatch.setattr(zlib, "crc32", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kf.save_packed(model, path)
    monkeypatch.undo()
    assert path.read_bytes() == (packed / "a.kfz").read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["m.kfz"]
