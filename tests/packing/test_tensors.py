"""Every tensor comes back bit for bit, and takes what its entropy says."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays_of

from keras_fitkit.packing import crossed, entropy, positions, symbols
from keras_fitkit.packing.byte_reader import Reader
from tests.packing.arrays import (
    FLOATS,
    assert_same_bits,
    clustered,
    entropy_bytes,
    normal,
    on_grid,
    packed,
    pruned,
)

SPECIAL = np.array(
    [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC0BEEF, 1],
    np.uint32,
).view(np.float32)  # 0, -0, inf, -inf, NaN, NaNs that carry something, the smallest


def cases():
    dense, small = normal(60, 50), normal(3, 3, 4, 8, seed=1)
    signs = np.sign(dense)
    yield "dense", dense
    yield "special", np.tile(SPECIAL, 40)
    yield "special among zeros", np.concatenate([np.zeros(900, "f4"), SPECIAL])
    yield "negative zeros", np.where(dense > 0, np.float32(0), np.float32(-0.0))
    yield "pruned", pruned(dense, 0.9)
    yield "one weight", np.eye(1, 999, dtype="f4")
    yield "one zero", 1 - np.eye(1, 999, dtype="f4")
    yield "signs", signs
    yield "clusters", dense[0][np.digitize(dense, [-1, 0, 1])]
    yield "clusters and zeros", np.where(dense > 1, dense[0][0], 0 * abs(dense))
    for axis in (0, 1, 2, 3):
        yield f"clusters by axis {axis}", clustered(normal(9, 8, 7, 6), 5, axis)
    yield "clusters by channel, pruned", pruned(clustered(dense, 9, 1), 0.7)
    yield "clusters of float16", clustered(dense.astype("f2"), 4, 1)
    yield "clusters and an empty channel", clustered(dense, 6, 1) * (np.arange(50) > 3)
    for bits in (2, 3, 4, 8):
        yield f"int{bits}", on_grid(dense, bits)
        yield f"int{bits} by the last axis", on_grid(small, bits, axis=(0, 1, 2))
        yield f"int{bits} by the one before", on_grid(small, bits, axis=(0, 1, 3))
    yield "int8, pruned", on_grid(pruned(dense, 0.8), 8, axis=0)
    yield "a step that is learned", np.round(dense / 0.07) * np.float32(0.07)
    yield "int8 of float64", on_grid(dense.astype("float64"), 8)
    for name, kind in FLOATS.items():
        yield name, dense.astype(kind)
        yield f"special {name}", np.tile(SPECIAL, 9).astype(kind)
    for kind in "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64".split():
        yield kind, (dense * 20).astype(kind)
        yield f"extremes of {kind}", np.tile(np.array([0, -1]).astype(kind), 50)
    yield "seed", np.array([4294967295, 7], np.uint32)
    yield "scalar", np.float32(0.25).reshape(())
    yield "scalar zero", np.zeros((), "int64")
    yield "empty", np.zeros((4, 0, 3), "f4")
    yield "zeros", np.zeros((30, 30), "f4")
    yield "not in C order", dense.T
    yield "a column", np.where(normal(500, 1) > 1, normal(500, 1), np.float32(0))


with np.errstate(invalid="ignore", over="ignore"):
    CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
def test_it_comes_back_bit_for_bit(name):
    assert_same_bits(CASES[name], packed(CASES[name]))


@given(
    arrays_of.arrays(
        st.sampled_from([np.dtype(one) for one in "u1 u2 u4 u8 bool".split()]),
        arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
        elements=None,
        fill=st.nothing(),
    ),
    st.booleans(),
    st.integers(0, 7),
)
def test_any_bits_come_back(array, as_float, zeroed):
    kinds = {2: "float16", 4: "float32", 8: "float64"}
    if as_float and array.dtype.itemsize in kinds:
        array = array.view(kinds[array.dtype.itemsize])
    flat = array.reshape(-1)
    flat[: flat.size * zeroed // 8] = 0
    assert_same_bits(array, packed(array))


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(0, 999), st.sampled_from([None, 0, 1]))
def test_any_grid_is_found_and_comes_back(bits, seed, axis):
    array = on_grid(normal(40, 16, seed=seed), bits, axis)
    coded = packed(array)
    assert_same_bits(array, coded)
    if bits == 8:  # 254 values in 640: neither a codebook nor exponents are as short
        assert "grid" in coded.way


def test_a_grid_that_cannot_be_seen_is_told():
    # Fives and sevens: neither end gives the scale away.
    scale = np.float32(0.013)
    integers = np.random.default_rng(0).choice([-70, -50, 55, 91, 99], (80, 64))
    integers = integers + np.random.default_rng(1).integers(0, 9, integers.shape) * 2
    array = integers.astype("f4") * (scale * (1 + np.arange(64, dtype="f4")))
    told = packed(array, scales=scale * (1 + np.arange(64, dtype="f4"))[None])
    assert told.way == "grid"
    assert len(told.content) < len(packed(array).content)
    assert_same_bits(array, told)
    assert_same_bits(array, packed(array, scales=np.float32(0.5)))  # a lie


def test_pruned_floats_cost_their_positions_and_themselves():
    array = pruned(normal(400, 300), 0.9)
    rest = array[array != 0]
    bits = rest.view("u4")
    bound = (
        entropy_bytes(array != 0)
        + entropy_bytes(bits >> 23)  # sign and exponent
        + entropy_bytes(bits >> 16 & 127)  # the upper seven bits of the mantissa
        + 2 * rest.size  # the lower sixteen are noise
    )
    coded = packed(array)
    assert coded.way == "zeros, float parts"
    assert 8 * rest.size > 2 * bound  # coding is worth something
    assert bound * 0.999 < len(coded.content) < bound * 1.005 + 100


@pytest.mark.parametrize("kinds", [2, 16, 200])
def test_a_codebook_costs_its_values_and_the_entropy_of_the_indices(kinds):
    rng = np.random.default_rng(kinds)
    chances = rng.dirichlet(np.ones(kinds))
    book = rng.normal(size=kinds).astype("f4")
    indices = rng.choice(kinds, (300, 200), p=chances)
    size = len(packed(book[indices]).content)
    # 4 bytes a value, a byte each for its probability, 30 for lengths and checksum
    assert size <= 1.03 * entropy_bytes(indices) + (4 + 1) * kinds + 30


@pytest.mark.parametrize("axis", [0, 1])
def test_codebooks_of_channels_cost_their_values_and_ranks(axis):
    array = clustered(normal(300, 200), 16, axis)
    channels = array.shape[axis]
    rows = np.moveaxis(array, axis, 0)
    ranks = [np.unique(row, return_inverse=True)[1] for row in rows]  # by value
    coded = packed(array)
    assert coded.way == "codebooks"
    assert coded.bits / 8 == pytest.approx(entropy_bytes(np.concatenate(ranks)))
    # 4 bytes a value; 40 for lengths, the histogram and the checksum
    assert len(coded.content) <= 1.03 * coded.bits / 8 + 4 * 16 * channels + 40
    # 4 bits an index: as one codebook each would take 11 and more
    assert len(coded.content) < 60_000 * 4 / 8 + 4 * 16 * channels + 40
    assert_same_bits(array, coded)


def test_zeros_among_codebooks_of_channels_cost_their_positions():
    array = pruned(clustered(normal(400, 100), 16, 1), 0.8)
    coded = packed(array)
    assert coded.way == "zeros, codebooks"
    assert coded.bits / 8 > entropy_bytes(array != 0)
    books = sum(np.unique(column[column != 0]).size for column in array.T)
    # 101 bytes at most for the sizes of the codebooks
    assert len(coded.content) <= 1.03 * coded.bits / 8 + 4 * books + 101 + 60
    assert_same_bits(array, coded)


def test_one_codebook_is_kept_where_all_channels_share_it():
    book = normal(16)
    array = book[np.random.default_rng(0).integers(0, 16, (100, 80))]
    assert packed(array).way == "codebook"


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_grid_costs_its_scales_and_the_entropy_of_the_integers(bits):
    array = normal(300, 200)
    n = 2 ** (bits - 1) - 1
    scales = np.abs(array).max(axis=0, keepdims=True) / np.float32(n)
    integers = np.round(array / scales)
    coded = packed(on_grid(array, bits, axis=0))
    assert "grid" in coded.way
    # 4 bytes a scale, a byte for the probability of each integer
    assert len(coded.content) <= 1.03 * entropy_bytes(integers) + 4 * 200 + 2 * n + 40


def test_uneven_pruning_costs_less_than_the_entropy_of_its_mask():
    rng = np.random.default_rng(0)
    density = 0.08 * rng.gamma(0.5, 1, (400, 1)) * rng.gamma(1.5, 1, 200)
    mask = rng.random((400, 200)) < density
    coded, bits = positions.encode(mask.reshape(-1), 200)
    assert bits / 8 == pytest.approx(entropy_bytes(mask))
    assert coded[0] == positions.CROSSED
    assert len(coded) < 0.85 * entropy_bytes(mask)
    reader = Reader(coded)
    assert (positions.decode(reader, mask.size, 200) == mask.reshape(-1)).all()
    reader.finished()


@pytest.mark.parametrize("turned", [False, True])
def test_rows_and_columns_can_change_places(turned):
    rng = np.random.default_rng(1)
    mask = rng.random((300, 40)) < np.where(np.arange(300) < 40, 0.9, 0.01)[:, None]
    mask = mask.T if turned else mask
    reader = Reader(crossed.encode(mask, mask.size))
    assert (crossed.decode(reader, *mask.shape) == mask).all()


def test_even_pruning_is_not_tried_by_rows():
    mask = np.random.default_rng(0).random((200, 200)) < 0.1
    assert crossed.encode(mask, round(entropy_bytes(mask)) + 8) is None


@given(st.lists(st.integers(0, 99), min_size=1, max_size=300), st.integers(0, 9))
def test_integers_come_back(given_symbols, more):
    kinds = max(given_symbols) + 1 + more
    coded, bits = symbols.encode(np.array(given_symbols), kinds)
    assert bits / 8 == pytest.approx(entropy_bytes(given_symbols))
    reader = Reader(coded)
    assert list(symbols.decode(reader, len(given_symbols), kinds)) == given_symbols
    reader.finished()


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=50))
def test_a_histogram_in_eighths_of_a_bit_costs_little(counts):
    counts = np.array(counts, np.float64)
    if not counts.any():
        return
    told = entropy.weights_of(entropy.levels_of(counts))
    assert ((told > 0) == (counts > 0)).all()
    p, q = counts / counts.sum(), told / told.sum()
    some = p > 2.0**-30  # the rest are all told as if they occurred that often
    cost = float(np.sum(p[some] * np.log2(p[some] / q[some])))
    assert cost < 0.001 + 50 * 2.0**-28


def test_weights_are_written_down_for_all_machines():
    levels = np.array([0, 1, 8, 9, 17, 255], np.uint8)
    # 2^(k/8) in 16 bits, for k = level - 1: 2^15 is k = 0, and 254 = 31 * 8 + 6
    found = [0, 2**15, 60097, 2 * 2**15, 4 * 2**15, 55109 * 2**31]
    assert entropy.weights_of(levels).tolist() == found
