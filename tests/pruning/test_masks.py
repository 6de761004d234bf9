"""Exact counts of the weights that stay, against sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_fitkit.pruning import masks

scores = hnp.arrays(
    np.float32,
    st.integers(1, 80),
    elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, np.inf]),
)


def by_sorting(values, keep):
    """The oracle: a stable sort, largest first, lower index first."""
    order = np.argsort(-values.ravel(), kind="stable")[:keep]
    expected = np.zeros(values.size, bool)
    expected[order] = True
    return expected.reshape(values.shape)


@given(scores, st.data())
def test_the_largest_stay_and_of_equal_ones_the_first(values, data):
    keep = data.draw(st.integers(0, values.size))
    kept = masks.keep_largest(values, keep)
    np.testing.assert_array_equal(kept, by_sorting(values, keep))


def test_any_shape():
    values = np.arange(12.0).reshape(3, 2, 2)
    assert masks.keep_largest(values, 5).sum() == 5
    assert masks.keep_largest(values, 5).shape == (3, 2, 2)


LARGE = masks.SAMPLED_FROM + 12_345


def large(kind):
    rng = np.random.default_rng(3)
    if kind == "normal":
        return np.abs(rng.normal(size=LARGE)).astype(np.float32)
    if kind == "mostly zeros":
        return np.where(rng.random(LARGE) < 0.95, 0, rng.random(LARGE)).astype("f4")
    if kind == "few values":
        return rng.integers(0, 5, LARGE).astype(np.float32)
    # The sample walks in step with the columns and sees the large values only.
    values = rng.random(LARGE).astype(np.float32)
    values[:: LARGE // masks.SAMPLE | 1] += 100.0
    return values


@pytest.mark.parametrize("kind", ["normal", "mostly zeros", "few values", "misleading"])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.1, 0.5, 0.97])
def test_large_arrays_are_as_exact_as_small_ones(kind, share):
    values = large(kind)
    keep = int(LARGE * share)
    kept = masks.keep_largest(values, keep)
    assert kept.sum() == keep
    np.testing.assert_array_equal(kept, by_sorting(values, keep))


@pytest.mark.parametrize("index", [0, 1, LARGE // 3, LARGE - 1])
def test_kth_smallest_is_what_sorting_gives(index):
    values = large("normal")
    assert masks.kth_smallest(values, index) == np.sort(values)[index]


def test_kth_smallest_leaves_its_argument_alone():
    values = np.array([3.0, 1.0, 2.0])
    assert masks.kth_smallest(values, 0) == 1.0
    np.testing.assert_array_equal(values, [3.0, 1.0, 2.0])


def test_count_is_the_nearest_whole_number():
    assert masks.count_zeros(1000, 0.9) == 900
    assert masks.count_zeros(7, 0.5) == round(3.5)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_split_counts_add_up_and_fit(parts, sparsity):
    sizes = [size for size, _ in parts]
    shares = [size * share for size, share in parts]
    total = min(
        sum(sizes), max(sum(int(s) for s in shares), round(sum(sizes) * sparsity))
    )
    counts = masks.split_count(total, shares, sizes)
    assert sum(counts) == total
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))


def test_split_rounds_the_largest_remainders_up():
    # 1.5 + 2.7 + .8 = 5: two whole ones are missing after rounding down to 1, 2, 0.
    assert masks.split_count(5, [1.5, 2.7, 0.8], [9, 9, 9]) == [1, 3, 1]


@pytest.mark.parametrize("kind", ["normal", "mostly zeros", "few values", "misleading"])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.5, 0.97])
def test_parts_compete_as_one_row_would(kind, share):
    values = large(kind)
    rows = np.split(values, [7, 7, LARGE // 3, LARGE - 100])  # one of them is empty
    parts = [masks.Part(row.size, row.copy) for row in rows]
    keep = int(LARGE * share)
    together = np.concatenate(masks.keep_largest_of(parts, keep))
    np.testing.assert_array_equal(together, masks.keep_largest(values, keep))
